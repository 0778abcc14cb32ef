//! A file of the state directory, replaced in one step: after a crash it has the old text or the new.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

/// Replaces the text of `file`, by way of a file beside it with the extension `new`.
///
/// # Errors
///
/// If either cannot be written. The error names `file`.
pub(crate) fn replace(file: &Path, text: &[u8]) -> io::Result<()> {
    let new = file.with_extension("new");
    let write = || {
        // Root may also write here. Do not follow a symbolic link, which the daemon's user could have made.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut to = OpenOptions::new().write(true).create_new(true).open(&new)?;
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
