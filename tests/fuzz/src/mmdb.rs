//! libFuzzer over [`ringfence_tests::fuzz::mmdb`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ringfence_tests::fuzz::mmdb::check(data));
