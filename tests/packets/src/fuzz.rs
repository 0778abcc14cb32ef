//! Properties that must hold for any bytes. libFuzzer tries to break them (`cargo xtask fuzz`), and
//! `tests/corpus.rs` checks them for each input that it has found. The properties of the daemon's parsers
//! are in the crate `ringfence-tests`.
//!
//! Each module has a function `check`, which panics if a property does not hold.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

pub mod decide;
pub mod packet;
pub mod reference;
pub mod sip;

/// Checks the properties of a target for an input; panics if one does not hold.
pub type Check = fn(&[u8]);

/// The targets: their names, which are also those of their corpora, and their checks.
pub const TARGETS: [(&str, Check); 3] =
    [("decide", decide::check), ("packet", packet::check), ("sip", sip::check)];

/// The fewest inputs that a corpus may have.
const LEAST: usize = 50;

/// The corpus of a target: each input with its file.
///
/// # Panics
///
/// If it cannot be read, or has hardly any inputs.
pub fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let read = |entry: io::Result<DirEntry>| {
        let path = entry?.path();
        fs::read(&path).map(|input| (path, input))
    };
    let inputs = fs::read_dir(&directory).and_then(|inputs| inputs.map(read).collect());
    let inputs: Vec<_> = inputs.unwrap_or_else(|why| panic!("{}: {why}", directory.display()));
    assert!(inputs.len() >= LEAST, "only {} inputs in {}", inputs.len(), directory.display());
    inputs
}
