//! A file of the state directory, replaced in one step: after a crash it has the old text or the new.

use std::fs::{self, File};
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
        let mut to = File::create(&new)?;
        to.write_all(text)?;
        to.sync_all()?;
        fs::rename(&new, file)
    };
    write()
        .map_err(|error| io::Error::new(error.kind(), format!("write {}: {error}", file.display())))
}
