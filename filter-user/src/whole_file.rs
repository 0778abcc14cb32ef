//! A file of the state directory, replaced in one step: after a crash it has the old text or the new.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use nix::unistd::geteuid;

/// Replaces the text of `file`, by way of a file beside it with the extension `new`.
///
/// # Errors
///
/// If either cannot be written. The error names `file`.
pub(crate) fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    replaced(file, text, |_new| Ok(()))
}

/// The same, and only the owner of the directory can read it, also if root writes it.
///
/// # Errors
///
/// As there.
pub(crate) fn replace_for_owner(file: &Path, text: &[u8]) -> io::Result<()> {
    replaced(file, text, |new| {
        new.set_permissions(Permissions::from_mode(0o600))?;
        if !geteuid().is_root() {
            return Ok(());
        }
        let directory = fs::metadata(file.parent().unwrap_or(Path::new("/")))?;
        fchown(new, Some(directory.uid()), Some(directory.gid()))
    })
}

fn replaced(
    file: &Path,
    text: &[u8],
    prepare: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let new = file.with_extension("new");
    let write = || {
        // Root may also write here. Do not follow a symbolic link, which the daemon's user could have made.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut to = OpenOptions::new().write(true).create_new(true).open(&new)?;
        prepare(&to)?;
        to.write_all(text)?;
        to.sync_all()?;
        fs::rename(&new, file)
    };
    write()
        .map_err(|error| io::Error::new(error.kind(), format!("write {}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn only_the_owner_can_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("state");
        replace_for_owner(&file, b"text").unwrap();
        let (of_file, of_directory) =
            (fs::metadata(&file).unwrap(), fs::metadata(directory.path()).unwrap());
        assert_eq!((of_file.mode() & 0o777, of_file.uid()), (0o600, of_directory.uid()));
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (file, other) = (directory.path().join("state"), directory.path().join("other"));
        fs::write(&other, "untouched").unwrap();
        symlink(&other, file.with_extension("new")).unwrap();
        replace(&file, b"text").unwrap();
        symlink(&other, directory.path().join("link")).unwrap();
        replace(&directory.path().join("link"), b"text").unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"text");
        assert_eq!(fs::read(&other).unwrap(), b"untouched");
    }
}
