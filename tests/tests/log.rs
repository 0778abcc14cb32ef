//! The daemon's log: a slow reader delays nothing, and attackers cannot fill it.

use std::net::IpAddr;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ringfence_tests::packet_builder::Frame;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::wire::{self, Wire};
use ringfence_tests::world::{Hosts, SIP_PORT, nothing_is_left};
use serde_json::Value;

/// Manual bans, each of which is one line: more lines than the pipe can buffer.
const BANS: u8 = 100;

/// Each test checks at its end that nothing is left, so they run one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn packets_from_sources_that_are_made_up_have_a_few_lines() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let hosts = Hosts::new().unwrap();
    let signatures = true;
    let config = Config { signatures, ..Config::new(Path::new("/nonexistent/fail2ban")) };
    let binary = ringfence::built().unwrap();
    let ringfence = Ringfence::start(&hosts.pbx, &binary, &config).unwrap();
    let wire = Wire::of(&hosts.attacker).unwrap();
    let target = wire::hardware_address(&hosts.pbx).unwrap();
    let options = "OPTIONS sip:100@192.0.2.10 SIP/2.0\r\nUser-Agent: friendly-scanner\r\n\r\n";
    let before = ringfence.log().len();
    let began = Instant::now();
    for n in 0..3000_u32 {
        let source = IpAddr::from((0x0b00_0000 | n).to_be_bytes());
        let frame = Frame::from(source).target_mac(target).udp(SIP_PORT).payload(options);
        wire.send(&frame.build()).unwrap();
        thread::sleep(Duration::from_millis(1));
    }
    thread::sleep(Duration::from_millis(500));
    let status = ringfence.status().unwrap();
    assert!(status.reasons["signature"].packets >= 500, "{:?}", status.reasons["signature"]);
    let log = ringfence.log();
    let lines = log.matches("is over a limit: signature").count();
    assert!((5..=2 * 10).contains(&lines), "{lines} lines in {:?}: {log}", began.elapsed());
    assert!(log.len() - before < 4096, "{log}");
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_reader_that_stands_still_stops_nothing() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let hosts = Hosts::new().unwrap();
    let unread_log = true;
    let config = Config { unread_log, ..Config::new(Path::new("/nonexistent/fail2ban")) };
    let binary = ringfence::built().unwrap();
    let mut ringfence = Ringfence::start(&hosts.pbx, &binary, &config).unwrap();
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
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}
