//! The events that wait for an action, in a file from an orderly stop to the next start.
//!
//! The first line says how many there are, so that a file which is cut off is known as such. Each further line is an
//! event.
//!
//! Must never read a file that is another user's or has more than can wait, or leave one to a second start.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::ActionEvent;
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};
use nix::unistd::geteuid;
use serde::{Deserialize, Serialize};

/// The most events that wait outside memory, and the most of their bytes.
pub(super) const EVENTS_MAX: u64 = 100_000;
pub(super) const BYTES_MAX: u64 = 128 << 20;

/// Another number is another format, which is not read.
const FORMAT: u32 = 1;

const ENDING: &str = "waiting";

/// The longest first line.
const HEAD_MAX: u64 = 200;

/// The rights that nobody else may have.
const OTHERS: u32 = 0o077;

/// What a file may have beyond the bounds of the backlog: that which was in memory.
const EVENTS_MORE: u64 = 10_000;

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: u32,
    events: u64,
    lost: u64,
}

/// The events of a backlog: those in a file without a name, and the lines after them.
#[derive(Debug)]
pub(super) struct Rest {
    pub(super) file: Option<Arc<File>>,
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) events: u64,
    pub(super) lines: Vec<u8>,
}

/// Events in a file that no longer has a name.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) file: File,
    pub(super) begin: u64,
    pub(super) end: u64,
    pub(super) events: u64,
    /// Events that the action does not know of.
    pub(super) lost: u64,
}

/// Where what waits for an action is kept. The name has only letters, digits and `-`.
pub(super) fn place(state: &Path, name: &str) -> PathBuf {
    state.join(format!("action-{name}.{ENDING}"))
}

/// Removes what waits for actions that no longer exist.
pub(super) fn sweep(state: &Path, actions: &[String]) {
    let Ok(entries) = fs::read_dir(state) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_kept = path.extension().is_some_and(|ending| ending == ENDING);
        if is_kept && !actions.iter().any(|name| place(state, name) == path) {
            // The next start tries again.
            drop(remove(&path));
        }
    }
}

/// Keeps events at `path`: the first ones, and then the rest. If there are none, nothing is kept.
pub(super) fn keep(path: &Path, first: &[ActionEvent], rest: &Rest, lost: u64) -> io::Result<()> {
    let events = first.len() as u64 + rest.events;
    if events == 0 && lost == 0 {
        return Ok(());
    }
    let new = path.with_extension("new");
    remove(&new)?;
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&new)?;
    let mut to = BufWriter::with_capacity(1 << 16, &file);
    line(&mut to, &Head { format: FORMAT, events, lost })?;
    for event in first {
        line(&mut to, event)?;
    }
    if let Some(file) = &rest.file {
        let (mut at, mut part) = (rest.begin, vec![0; 1 << 16]);
        while at < rest.end {
            let left = usize::try_from(rest.end - at).unwrap_or(usize::MAX).min(part.len());
            let part = part.get_mut(..left).unwrap_or_default();
            file.read_exact_at(part, at)?;
            to.write_all(part)?;
            at += left as u64;
        }
    }
    to.write_all(&rest.lines)?;
    to.flush()?;
    drop(to);
    file.sync_all()?;
    fs::rename(new, path)
}

fn line<T: Serialize>(to: &mut impl io::Write, value: &T) -> io::Result<()> {
    serde_json::to_writer(&mut *to, value)?;
    to.write_all(b"\n")
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The events that were kept at `path`, which is empty afterwards. `None` if there are none.
pub(super) fn take(path: &Path) -> io::Result<Option<Kept>> {
    let mut options = OpenOptions::new();
    // Neither a link nor a pipe.
    let opened = options.read(true).write(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other,
    };
    let removed = remove(path);
    let kept = file.and_then(read);
    let kept = kept.and_then(|kept| removed.map(|()| kept));
    kept.map(Some).map_err(|why| io::Error::other(format!("{}: {why}", path.display())))
}

fn read(file: File) -> io::Result<Kept> {
    let about = file.metadata()?;
    let is_own = about.is_file() && about.uid() == geteuid().as_raw() && about.mode() & OTHERS == 0;
    let wrong = |why| Err(io::Error::other(why));
    if !is_own {
        return wrong("it is another user's, or others may use it");
    }
    if about.len() > 2 * BYTES_MAX {
        return wrong("it is too long");
    }
    let mut reader = BufReader::with_capacity(1 << 16, &file);
    let mut head = Vec::new();
    let begin = reader.by_ref().take(HEAD_MAX).read_until(b'\n', &mut head)? as u64;
    let Ok(Head { format: FORMAT, events, lost }) = serde_json::from_slice(&head) else {
        return wrong("it has another format");
    };
    let (mut lines, mut end, mut is_complete) = (0_u64, begin, true);
    loop {
        let part = reader.fill_buf()?;
        let Some(last) = part.last() else { break };
        is_complete = *last == b'\n';
        lines += part.split(|byte| *byte == b'\n').count() as u64 - 1;
        let length = part.len();
        end += length as u64;
        reader.consume(length);
    }
    if lines != events || !is_complete || events > EVENTS_MAX + EVENTS_MORE {
        return wrong("it is incomplete");
    }
    drop(reader);
    Ok(Kept { file, begin, end, events, lost })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use tempfile::TempDir;

    use super::*;

    fn rest(lines: &str) -> Rest {
        let events = lines.lines().count() as u64;
        Rest { file: None, begin: 0, end: 0, events, lines: lines.into() }
    }

    #[test]
    fn what_is_kept_is_taken_once() {
        let directory = TempDir::new().unwrap();
        let path = place(directory.path(), "report");
        assert!(take(&path).unwrap().is_none());
        keep(&path, &[], &rest(""), 0).unwrap();
        assert!(!path.exists());
        keep(&path, &[], &rest("{}\n{}\n"), 3).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        let Kept { begin, end, events, lost, .. } = take(&path).unwrap().unwrap();
        assert_eq!((end - begin, events, lost), (6, 2, 3));
        assert!(take(&path).unwrap().is_none());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        for name in ["report", "gone"] {
            keep(&place(directory.path(), name), &[], &rest("{}\n"), 0).unwrap();
        }
        sweep(directory.path(), &["report".to_owned()]);
        assert!(path.exists() && !place(directory.path(), "gone").exists());
    }

    #[test]
    fn what_is_broken_or_not_its_own_is_not_taken() {
        let directory = TempDir::new().unwrap();
        let path = place(directory.path(), "report");
        let write = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        };
        let good = "{\"format\":1,\"events\":2,\"lost\":0}\n{}\n{}\n";
        write(good, 0o600);
        assert!(take(&path).unwrap().is_some());
        let long = format!("{}\n", "[".repeat(1000));
        for text in
            ["", "\n", "{}", &good[..10], &good[..good.len() - 1], &good.replace("1,", "2,"), &long]
        {
            write(text, 0o600);
            assert!(take(&path).is_err(), "{text}");
            assert!(!path.exists());
        }
        write(good, 0o640);
        assert!(take(&path).unwrap_err().to_string().contains("another user's"));
        let other = directory.path().join("other");
        fs::write(&other, good).unwrap();
        symlink(&other, &path).unwrap();
        assert!(take(&path).is_err());
        assert!(other.exists());
    }
}
