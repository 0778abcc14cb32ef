//! Checks the properties of each target with the inputs that libFuzzer has found (`cargo xtask fuzz`). The
//! frames are in `tests/packets/tests/corpus.rs`.

use ringfence_tests::fuzz::{asterisk, corpus, http, list, mmdb};

#[test]
fn every_line_has_its_properties() {
    for (path, input) in corpus("asterisk") {
        // Shown only if the check panics.
        println!("{}", path.display());
        asterisk::check(&input);
    }
}

#[test]
fn every_request_has_its_properties() {
    for (path, input) in corpus("http") {
        println!("{}", path.display());
        http::check(&input);
    }
}

#[test]
fn every_list_has_its_properties() {
    for (path, input) in corpus("list") {
        // Shown only if the check panics.
        println!("{}", path.display());
        list::check(&input);
    }
}

#[test]
fn every_database_has_its_properties() {
    for (path, input) in corpus("mmdb") {
        // Shown only if the check panics.
        println!("{}", path.display());
        mmdb::check(&input);
    }
}
