//! libFuzzer over [`ringfence_tests::fuzz::http`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ringfence_tests::fuzz::http::check(data));
