//! The daemon's log: whoever reads it, or does not, holds up nothing.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::world::{Hosts, nothing_is_left};
use serde_json::Value;

/// The least that a pipe holds.
const PIPE: i32 = 4096;

/// Bans by hand, each of which is a line: more than the pipe holds.
const BANS: u8 = 100;

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_reader_that_stands_still_stops_nothing() {
    let hosts = Hosts::new().unwrap();
    let config = Config::new(Path::new("/nonexistent/fail2ban"));
    let binary = ringfence::built().unwrap();
    let mut ringfence = Ringfence::start(&hosts.pbx, &binary, &config).unwrap();
    ringfence.kill().unwrap();
    let log = ringfence.log_file().to_owned();
    fs::remove_file(&log).unwrap();
    mkfifo(&log, Mode::S_IRWXU).unwrap();
    // Never read.
    let reader =
        fs::File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(&log).unwrap();
    fcntl(&reader, FcntlArg::F_SETPIPE_SZ(PIPE)).unwrap();
    ringfence.restart(&hosts.pbx).unwrap();
    for n in 1..=BANS {
        let address = format!("10.0.0.{n}");
        let said = ringfence.client().run(&["ban", &address], false).unwrap();
        said.success("ban").unwrap();
    }
    let status: Value = ringfence.client().ask(&["status"]).unwrap();
    assert_eq!(status["bans"]["active"], u64::from(BANS));
    assert_eq!(status["log"]["lost"], 0);
    let began = Instant::now();
    ringfence.stop().unwrap();
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    drop(reader);
    fs::remove_file(&log).unwrap();
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}
