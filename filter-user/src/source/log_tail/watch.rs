//! Watches for changes, by inotify: of a directory in which one name is followed, and of an open file.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::files::{FileId, Opened, open, parent};
use super::names::{Event, Names, Place};

/// A directory, and when an entry in it was created, renamed or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) id: FileId,
    pub(super) at: SystemTime,
}

impl Changed {
    pub(super) fn of(dir: &Path) -> Option<Self> {
        let metadata = dir.metadata().ok()?;
        let id = FileId { device: metadata.dev(), inode: metadata.ino() };
        Some(Self { id, at: metadata.modified().ok()? })
    }
}

/// A directory in which one name is followed.
#[derive(Debug)]
pub(super) struct Dir {
    pub(super) path: PathBuf,
    pub(super) watch: Option<WatchDescriptor>,
    pub(super) names: Names,
}

impl Dir {
    pub(super) fn watch(inotify: &Inotify, path: &Path) -> io::Result<Self> {
        let name = path.file_name().ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not a file", path.display()))
        })?;
        let dir = parent(path);
        let watch = Some(watch_dir(inotify, dir)?);
        Ok(Self { path: dir.to_owned(), watch, names: Names::new(name) })
    }

    pub(super) fn followed(&self) -> PathBuf {
        self.path.join(self.names.name())
    }

    /// The files that had the name, as far as they can be found.
    pub(super) fn open_left(&self) -> Vec<Option<Opened>> {
        let open_place = |place: &Place| match place {
            Place::Named(name) => open(&self.path.join(name)).ok(),
            Place::Moving(_) | Place::Gone => None,
        };
        self.names.left().iter().map(open_place).collect()
    }
}

pub(super) fn watch_dir(inotify: &Inotify, dir: &Path) -> io::Result<WatchDescriptor> {
    let mask = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_ONLYDIR;
    Ok(inotify.add_watch(dir, mask)?)
}

/// Watches exactly the open file, whatever its current name is.
pub(super) fn watch_file(inotify: &Inotify, file: &File) -> Option<WatchDescriptor> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    inotify.add_watch(path.as_str(), AddWatchFlags::IN_MODIFY).ok()
}

pub(super) fn name_event(event: &InotifyEvent) -> Option<Event<'_>> {
    let name: &OsStr = event.name.as_deref()?;
    let is = |flag| event.mask.contains(flag);
    if is(AddWatchFlags::IN_MOVED_FROM) {
        Some(Event::MovedFrom(name, event.cookie))
    } else if is(AddWatchFlags::IN_MOVED_TO) {
        Some(Event::MovedTo(name, event.cookie))
    } else if is(AddWatchFlags::IN_CREATE) {
        Some(Event::Created(name))
    } else if is(AddWatchFlags::IN_DELETE) {
        Some(Event::Deleted(name))
    } else {
        None
    }
}

/// Gives the inotify descriptor to tokio.
#[derive(Debug)]
pub(super) struct Watcher(pub(super) Inotify);

impl Watcher {
    pub(super) fn read(&self) -> io::Result<Vec<InotifyEvent>> {
        loop {
            match self.0.read_events() {
                Ok(events) => return Ok(events),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl AsRawFd for Watcher {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}
