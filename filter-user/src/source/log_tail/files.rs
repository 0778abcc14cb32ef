//! Files by their identity and not by their name: opened, and read with their progress.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::fcntl::OFlag;
use nix::sys::inotify::{Inotify, WatchDescriptor};
use tokio::time::Instant;

use super::Start;
use super::lines::LineSplitter;
use super::position::Prefix;

/// The most symbolic links on the way to a file: the kernel's limit.
const LINKS_MAX: usize = 40;

/// The identity of a file, independent of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) size: u64,
}

/// A file that is read, with its progress.
#[derive(Debug)]
pub(super) struct Followed {
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) watch: Option<WatchDescriptor>,
    pub(super) position: u64,
    pub(super) size: u64,
    /// When it was last written to, at the time of the measurement.
    pub(super) written: Option<SystemTime>,
    pub(super) lines: LineSplitter,
    pub(super) prefix: Prefix,
    pub(super) last_read: Instant,
    /// Its path when it was opened, if that was not the log's name.
    pub(super) path: Option<String>,
}

impl Followed {
    pub(super) fn new(opened: Opened, watch: Option<WatchDescriptor>, start: Start) -> Self {
        let Opened { file, id, size } = opened;
        let (position, lines) = match start {
            Start::Beginning => (0, LineSplitter::default()),
            Start::End if ends_in_mid_line(&file, size) => (size, LineSplitter::in_mid_line()),
            Start::End => (size, LineSplitter::default()),
        };
        let prefix = Prefix::of(&file, size);
        let last_read = Instant::now();
        Self {
            file,
            id,
            watch,
            position,
            size,
            written: None,
            lines,
            prefix,
            last_read,
            path: None,
        }
    }

    /// The offset after the last line that was delivered.
    pub(super) fn delivered(&self) -> u64 {
        self.position.saturating_sub(self.lines.held())
    }

    pub(super) fn read(&mut self, buffer: &mut [u8], budget: usize) -> io::Result<usize> {
        let left = usize::try_from(self.size - self.position).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left).min(budget);
        loop {
            match self.file.read_at(&mut buffer[..wanted], self.position) {
                Ok(read) => {
                    self.position += read as u64;
                    return Ok(read);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn unwatch(&self, inotify: &Inotify) {
        if let Some(watch) = self.watch {
            // The watch is already gone if the file is.
            inotify.rm_watch(watch).ok();
        }
    }
}

fn ends_in_mid_line(file: &File, size: u64) -> bool {
    let mut last = [b'\n'];
    size > 0 && file.read_at(&mut last, size - 1).is_ok() && last != [b'\n']
}

pub(super) fn open(path: &Path) -> io::Result<Opened> {
    // O_NONBLOCK: opening a named pipe must not block the daemon.
    let flags = OFlag::O_NONBLOCK.bits();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let id = FileId { device: metadata.dev(), inode: metadata.ino() };
    Ok(Opened { file, id, size: metadata.len() })
}

/// `path` and, if that is a symbolic link, its targets up to the first that is not a link.
pub(super) fn links(path: &Path) -> Vec<PathBuf> {
    let mut links = vec![path.to_owned()];
    while links.len() <= LINKS_MAX
        && let Some(last) = links.last()
        && let Ok(target) = last.read_link()
    {
        let next = parent(last).join(target);
        links.push(next);
    }
    links
}

/// The current path of an open file; `None` if it is deleted.
pub(super) fn path_of(file: &File) -> Option<PathBuf> {
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())).read_link().ok()?;
    path.exists().then_some(path)
}

pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if dir != Path::new("") => dir,
        _ => Path::new("."),
    }
}
