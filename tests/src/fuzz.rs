//! What must hold for any bytes whatever: the properties that libFuzzer tries to break
//! (`cargo xtask fuzz`), and that `tests/corpus.rs` asserts for each input that it has found.
//!
//! Each module has one function `check`, which panics when a property does not hold.

pub mod asterisk;
pub mod decide;
pub mod packet;
pub mod reference;
pub mod sip;

/// A target's properties for an input: panics when one does not hold.
pub type Check = fn(&[u8]);

/// The targets: the name of each, which is that of its corpus too, and its check.
pub const TARGETS: [(&str, Check); 4] = [
    ("asterisk", asterisk::check),
    ("decide", decide::check),
    ("packet", packet::check),
    ("sip", sip::check),
];
