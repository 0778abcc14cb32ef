//! Copies the file and its log into memory. On a disk that cannot be written, `SQLite` does not read the
//! log, and only the log contains the last bans of a process that was killed.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use super::aside::with;
use super::failure::Failure;

/// The largest file, including its log, that is copied, in bytes.
const COPY_MAX: u64 = 1 << 30;

/// The name of the directory of a copy.
const DIRECTORY: &str = "store-copy";

/// A copy, which is removed when it is dropped.
pub(super) struct Copy(PathBuf);

impl Copy {
    /// Copies the file at `path` and its log into a directory in `memory`.
    pub(super) fn make(path: &Path, memory: &Path) -> Result<Self, Failure> {
        Self::make_in(path, memory, DIRECTORY)
    }

    /// The same in a directory with this name, which no other process uses.
    pub(super) fn make_in(path: &Path, memory: &Path, name: &str) -> Result<Self, Failure> {
        let log = with(path, "-wal");
        let size = fs::metadata(path)?.len().saturating_add(fs::metadata(&log)?.len());
        let room = room(memory)?;
        if size > COPY_MAX.min(room / 2) {
            return Err(Failure::Retry(format!(
                "it needs a copy of {size} bytes in {}, which has only {room} bytes free",
                memory.display()
            )));
        }
        let directory = memory.join(name);
        // Left by a process that was killed.
        drop(fs::remove_dir_all(&directory));
        DirBuilder::new().mode(0o700).create(&directory)?;
        let copy = Self(directory);
        fs::copy(path, copy.path())?;
        fs::copy(log, with(&copy.path(), "-wal"))?;
        Ok(copy)
    }

    /// The copy of the file.
    pub(super) fn path(&self) -> PathBuf {
        self.0.join(super::FILE)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// How many bytes are free on a file system.
fn room(path: &Path) -> Result<u64, Failure> {
    let room = statvfs(path).map_err(std::io::Error::from)?;
    Ok(room.blocks_available().saturating_mul(room.fragment_size()))
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[test]
    fn a_copy_is_only_for_root_and_is_removed() {
        use std::os::unix::fs::PermissionsExt as _;
        let (disk, memory) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let path = disk.path().join(super::super::FILE);
        fs::write(&path, "file").unwrap();
        assert!(Copy::make(&path, memory.path()).is_err(), "without a log it is read where it is");
        fs::write(with(&path, "-wal"), "log").unwrap();
        fs::create_dir(memory.path().join(DIRECTORY)).unwrap();
        fs::write(memory.path().join(DIRECTORY).join("old"), "").unwrap();
        let copy = Copy::make(&path, memory.path()).unwrap();
        assert_eq!(fs::read(copy.path()).unwrap(), b"file");
        assert_eq!(fs::read(with(&copy.path(), "-wal")).unwrap(), b"log");
        let mode = fs::metadata(&copy.0).unwrap().permissions().mode();
        assert_eq!((mode & 0o777, fs::read_dir(&copy.0).unwrap().count()), (0o700, 2));
        drop(copy);
        assert_eq!(fs::read_dir(memory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_does_not_fit_is_not_copied() {
        let (disk, memory) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let path = disk.path().join(super::super::FILE);
        fs::File::create(&path).unwrap().set_len(COPY_MAX + 1).unwrap();
        fs::write(with(&path, "-wal"), "log").unwrap();
        assert!(Copy::make(&path, memory.path()).is_err());
        assert_eq!(fs::read_dir(memory.path()).unwrap().count(), 0);
    }
}
