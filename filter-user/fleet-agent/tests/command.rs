//! `ringfence-fleet` as a program: it makes keys that only their owner reads, and says what is wrong.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ringfence-fleet")).args(arguments).output().unwrap()
}

#[test]
fn a_key_is_made_once_and_for_its_owner_only() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    let made = run(&["key", file.to_str().unwrap()]);
    let public = String::from_utf8(made.stdout).unwrap();
    assert!(made.status.success() && public.starts_with('U'), "{public}");
    assert!(fs::read_to_string(&file).unwrap().starts_with("SU"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let again = run(&["key", file.to_str().unwrap()]);
    assert!(!again.status.success());
    assert!(String::from_utf8(again.stderr).unwrap().contains("File exists"));
}

#[test]
fn what_is_wrong_is_said_before_it_connects() {
    for (arguments, why) in [
        (vec!["allow", "nonsense", "--server", "tls://192.0.2.1"], "neither an address"),
        (vec!["allow", "192.0.2.1", "--for", "soon", "--server", "tls://192.0.2.1"], "soon"),
        (vec!["maintenance", "on", "--for", "0s", "--server", "tls://192.0.2.1"], "such as `30m`"),
        (vec!["maintenance", "on", "--server", "tls://192.0.2.1"], "--for"),
        (vec!["cut", "PBX", "--server", "tls://192.0.2.1"], "lower-case"),
        (vec!["init"], "--server"),
    ] {
        let done = run(&arguments);
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && said.contains(why), "{arguments:?}: {said}");
    }
}
