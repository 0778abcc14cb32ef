//! Generated pages of the documents.

use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares a page with its expected contents, or writes it if `UPDATE_DOCS` is set. `test` is the test
/// that writes it.
pub(crate) fn hold(page: &str, test: &str, expected: &str) {
    let path = root().join(page);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, expected).expect("write the page");
        return;
    }
    let is = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        is == expected,
        "{page} is out of date: UPDATE_DOCS=1 cargo test -p filter-user --test {test}"
    );
}
