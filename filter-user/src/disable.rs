//! The emergency switch: a file next to the configuration, and the flag in the kernel. While the file exists,
//! the filter judges and counts packets but drops none.
//!
//! `ringfence panic` needs no daemon: it writes both itself, so it works beside a daemon that hangs. The
//! daemon looks for the file at its start and every few seconds.
//!
//! Must never need a daemon.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use api::By;
use jiff::Timestamp;
use nix::libc::O_NONBLOCK;
use serde::Serialize;

use crate::client;
use crate::config::DEFAULT_PATH;
use crate::datapath;
use crate::whole_file;

/// How `panic` begins the line in the file.
const BY: &str = "disabled by ";

/// The name of the file.
const NAME: &str = "disabled";

/// The file, in the directory of the configuration file `config` or of the usual one.
pub fn file(config: Option<&Path>) -> PathBuf {
    config.unwrap_or(Path::new(DEFAULT_PATH)).with_file_name(NAME)
}

/// Whether the file exists. A file that cannot be looked for does not.
pub fn is_set(file: &Path) -> bool {
    file.symlink_metadata().is_ok()
}

/// The most bytes of the file that are read.
const NOTE_MAX: u64 = 512;

/// The user who runs this command.
fn user() -> String {
    let By { sudo_user, from, .. } = client::by();
    let user = sudo_user.unwrap_or_else(|| "root".to_owned());
    let from = from.map(|from| format!(" from {from}")).unwrap_or_default();
    format!("{user}{from}")
}

/// The text of the file: the user, the time and the reason.
pub fn note(reason: Option<&str>) -> String {
    let user = user();
    let reason = reason.map(|reason| format!(": {}", reason.escape_debug())).unwrap_or_default();
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
    format!("{BY}{user}, {now}{reason}\n")
}

/// The name of a file of the state directory with the user of the last `panic --off`, until the daemon has recorded it.
const ENDED: &str = "panic-ended";

/// Leaves a note for the history: that this user ends the panic.
///
/// # Errors
///
/// If it cannot be written.
pub fn note_end(state: &Path) -> Result<()> {
    if state.is_dir() {
        whole_file::replace(&state.join(ENDED), format!("{}\n", user()).as_bytes())?;
    }
    Ok(())
}

/// Takes the user from the note of [`note_end`], if there is one.
pub fn take_end(state: &Path) -> Option<String> {
    let file = state.join(ENDED);
    let by = start(&file).lines().next().unwrap_or_default().trim().escape_debug().to_string();
    // It counts for one end only. In most cases there is none.
    drop(fs::remove_file(file));
    (!by.is_empty()).then_some(by)
}

/// Who has created the file, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The user that `panic` has written down, or the owner of the file.
    pub by: String,
    /// The reason, if one was given.
    pub reason: Option<String>,
}

/// The start of the file, as text.
fn start(file: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(opened) = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(file) {
        // What was read before an error is worth showing.
        drop(opened.take(NOTE_MAX).read_to_end(&mut text));
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Reads the file; `None` if it does not exist.
pub fn read(file: &Path) -> Option<Note> {
    if !is_set(file) {
        return None;
    }
    let text = start(file);
    let line = text.lines().next().unwrap_or_default();
    let note = line.strip_prefix(BY).and_then(|rest| rest.split_once(", "));
    let Some((by, rest)) = note else {
        let by = match fs::symlink_metadata(file).map(|file| file.uid()) {
            Ok(0) => "root".to_owned(),
            Ok(uid) => format!("uid {uid}"),
            Err(_gone) => "an unknown user".to_owned(),
        };
        return Some(Note { by, reason: None });
    };
    let reason = rest.split_once(": ").map(|(_, reason)| reason.to_owned());
    Some(Note { by: by.to_owned(), reason })
}

/// What `panic` did, and `panic --json` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_field_names, reason = "the key is documented")]
pub struct Disabled {
    /// Whether everything passes.
    pub disabled: bool,
    /// Whether there is a filter; if not, only the file was changed.
    pub has_filter: bool,
    /// The file that keeps it so.
    pub file: PathBuf,
}

/// Lets every packet pass, at once and until [`enable`]. Returns whether there is a filter. `text` is for
/// people who find the file.
///
/// # Errors
///
/// If either part failed; the other one is done nevertheless.
pub fn disable(file: &Path, bpffs: &Path, text: &str) -> Result<bool> {
    // The kernel first: packets cannot wait for a disk.
    let switched = datapath::disable(bpffs, true);
    let written = write(file, text).with_context(|| {
        format!("a restart enforces bans and limits again: write {}", file.display())
    });
    let has_filter =
        switched.context("bans and limits are still enforced; try `ringfence detach`")?;
    written.map(|()| has_filter)
}

/// Enforces bans and limits again. Returns whether there is a filter.
///
/// # Errors
///
/// If the file cannot be removed, or the kernel refuses.
pub fn enable(file: &Path, bpffs: &Path) -> Result<bool> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        done => done.with_context(|| format!("remove {}", file.display()))?,
    }
    datapath::disable(bpffs, false)
}

fn write(file: &Path, text: &str) -> Result<()> {
    if let Some(directory) = file.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(directory)?;
    }
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(file)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_beside_the_configuration() {
        assert_eq!(file(None), Path::new("/etc/ringfence/disabled"));
        assert_eq!(file(Some(Path::new("/tmp/a/b.yml"))), Path::new("/tmp/a/disabled"));
        assert_eq!(file(Some(Path::new("b.yml"))), Path::new("disabled"));
    }

    #[test]
    fn the_file_says_by_whom() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("disabled");
        assert_eq!(read(&file), None);
        let note = |text: &[u8]| {
            fs::write(&file, text).unwrap();
            let Note { by, reason } = read(&file).unwrap();
            (by, reason)
        };
        let owner = match nix::unistd::geteuid().as_raw() {
            0 => "root".to_owned(),
            uid => format!("uid {uid}"),
        };
        for text in [b"".as_slice(), b"\xff", b"disabled by \n", &[b'x'; 10_000]] {
            assert_eq!(note(text), (owner.clone(), None), "{text:?}");
        }
        let written = super::note(Some("nobody: can\ncall"));
        let (by, reason) = note(written.as_bytes());
        assert_eq!(reason.as_deref(), Some("nobody: can\\ncall"));
        assert!(written.starts_with(&format!("disabled by {by}")), "{written}");
        assert_eq!(note(super::note(None).as_bytes()).1, None);
    }

    #[test]
    fn who_ends_it_is_taken_once() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        assert_eq!(take_end(state), None);
        note_end(state).unwrap();
        assert_eq!(take_end(state), Some(user()));
        assert_eq!(take_end(state), None);
        fs::write(state.join(ENDED), "a\x1b[31m\nb").unwrap();
        assert_eq!(take_end(state).as_deref(), Some("a\\u{1b}[31m"));
        note_end(&state.join("none")).unwrap();
    }

    #[test]
    fn it_works_without_a_filter_and_twice() {
        let directory = tempfile::tempdir().unwrap();
        let (file, none) = (directory.path().join("new/disabled"), directory.path().join("bpf"));
        for _ in 0..2 {
            assert!(!disable(&file, &none, "why\n").unwrap());
            assert!(is_set(&file));
        }
        assert_eq!(fs::read_to_string(&file).unwrap(), "why\n");
        for _ in 0..2 {
            assert!(!enable(&file, &none).unwrap());
            assert!(!is_set(&file));
        }
    }
}
