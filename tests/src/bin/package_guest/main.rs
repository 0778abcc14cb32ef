//! `ringfence-package-guest`: the checks that `cargo xtask test-package` runs inside a Debian system
//! after its boot.
//!
//! It uses the package as an administrator would, during an attack, and reports each finding as a
//! line on the serial port. `xtask/src/vm/findings.rs` reads these lines. Between two checks it
//! reboots the system and then continues.

#![expect(clippy::print_stdout, reason = "what it prints is its answer")]

mod asterisk;
mod checks;
mod reboot;
mod system;
mod traffic;

use std::env;
use std::path::Path;
use std::time::Instant;

use anyhow::{Result, bail};

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match &arguments[..] {
        [_] => {}
        [_, "asterisk", cache] => return asterisk::find(Path::new(cache)),
        [_, "traffic"] => return traffic::run(),
        [_, "cable"] => return traffic::lay_cable(),
        [_, "uplink"] => return traffic::bring_up(),
        _ => bail!("there is no such verb: {arguments:?}"),
    }
    let done = if reboot::is_over()? {
        checks::after_the_reboot();
        Ok(())
    } else {
        checks::from_the_start()
    };
    if let Err(error) = &done {
        say("failed", Instant::now(), "the start", Some(error));
    }
    if done.is_ok() && !reboot::is_over()? {
        return reboot::begin();
    }
    println!("vm: end");
    done
}

/// Reports the result of a check.
fn say(word: &str, start: Instant, name: &str, error: Option<&anyhow::Error>) {
    let seconds = start.elapsed().as_secs_f64();
    let why = error.map(|error| format!(": {error:#}")).unwrap_or_default();
    println!("vm: {word} {seconds:.1} {name}{}", why.replace(['\n', '\r'], " | "));
}
