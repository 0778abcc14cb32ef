//! What must hold for any bytes whatever: the properties that libFuzzer tries to break
//! (`cargo xtask fuzz`), and that `tests/corpus.rs` asserts for each input that it has found. Those of the
//! daemon's parsers are in the crate `ringfence-tests`.
//!
//! Each module has one function `check`, which panics when a property does not hold.

use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

pub mod decide;
pub mod packet;
pub mod reference;
pub mod sip;

/// A target's properties for an input: panics when one does not hold.
pub type Check = fn(&[u8]);

/// The targets: the name of each, which is that of its corpus too, and its check.
pub const TARGETS: [(&str, Check); 3] =
    [("decide", decide::check), ("packet", packet::check), ("sip", sip::check)];

/// The fewest inputs that a target's corpus has.
const LEAST: usize = 50;

/// The corpus of a target: each input with its file.
///
/// # Panics
///
/// When it cannot be read, or has hardly any input.
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
