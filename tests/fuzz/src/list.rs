//! libFuzzer over [`ringfence_tests::fuzz::list`].

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| ringfence_tests::fuzz::list::check(data));
