//! The lines that libFuzzer found (`cargo xtask fuzz`), each through the properties of its target. The
//! frames are in `tests/packets/tests/corpus.rs`.

use ringfence_tests::fuzz::{asterisk, corpus};

#[test]
fn every_line_has_its_properties() {
    for (path, input) in corpus("asterisk") {
        // Shown only when the check panics.
        println!("{}", path.display());
        asterisk::check(&input);
    }
}
