//! `ringfence capture` shows the packets that the filter drops, and why.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ringfence_tests::ringfence::{Config, Ringfence, built};
use ringfence_tests::scratch;
use ringfence_tests::world::{
    ATTACKERS, Hosts, PBX, SIP_PORT, nothing_is_left, udp_reaches, until,
};
use serde_json::Value;

/// The time limit for everything that takes a moment.
const SOON: Duration = Duration::from_secs(20);

/// A `ringfence capture` that writes to a file until it has enough packets.
struct Capture {
    child: Child,
}

impl Capture {
    fn begin(hosts: &Hosts, ringfence: &Ringfence, arguments: &[&str], out: &Path) -> Self {
        let mut command = hosts.pbx.command(built().unwrap());
        command.arg("-c").arg(ringfence.config_file()).arg("capture").args(arguments);
        command.stdout(File::create(out).unwrap()).stderr(Stdio::piped());
        Self { child: command.spawn().unwrap() }
    }

    fn end(mut self) -> String {
        let mut ended = || self.child.try_wait().unwrap().is_some();
        assert!(until(SOON, &mut ended), "it still captures");
        let output = self.child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}");
        text
    }
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn dropped_packets_are_shown_with_their_reason() {
    let hosts = Hosts::new().unwrap();
    let directory = scratch::directory("capture").unwrap();
    let config = Config::new(Path::new("/nonexistent/fail2ban"));
    let mut ringfence = Ringfence::start(&hosts.pbx, &built().unwrap(), &config).unwrap();
    let (banned, other) = (ATTACKERS[0], ATTACKERS[1]);
    let send = |from| udp_reaches(&hosts.attacker, from, SIP_PORT).unwrap();
    ringfence.client().ask::<Value>(&["ban", &banned.to_string()]).unwrap();

    let (file, lines) = (directory.path().join("file.pcapng"), directory.path().join("lines"));
    let capture = Capture::begin(&hosts, &ringfence, &["-w", "-", "--count", "3"], &file);
    let has_begun = || file.metadata().unwrap().len() > 0;
    assert!(until(SOON, has_begun));
    // Only one at a time; it says so, and does not disturb the first.
    let mut second = hosts.pbx.command(built().unwrap());
    let second = second.arg("-c").arg(ringfence.config_file()).arg("capture").output().unwrap();
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && text.contains("another `ringfence capture`"), "{text}");
    // What passes is not captured.
    send(other);
    assert!(!send(banned));
    assert_eq!(capture.end(), "ringfence: captured 3 of 3 packets\n");
    let shown = Command::new("tcpdump").args(["-nn", "-r"]).arg(&file).output().unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert_eq!(shown.lines().count(), 3, "{shown}");
    let arrow = format!("> {PBX}.{SIP_PORT}");
    assert!(shown.lines().all(|line| line.contains(&banned.to_string()) && line.contains(&arrow)));
    let bytes = fs::read(&file).unwrap();
    let comments = bytes.windows(15).filter(|text| text == b"dropped: banned");
    assert_eq!(comments.count(), 3);

    // Of one source, with what passes, without a daemon.
    ringfence.stop().unwrap();
    let arguments = [&other.to_string(), "--all", "--json", "--count", "1"];
    let capture = Capture::begin(&hosts, &ringfence, &arguments, &lines);
    let is_captured = || {
        send(banned);
        send(other);
        lines.metadata().unwrap().len() > 0
    };
    assert!(until(SOON, is_captured));
    capture.end();
    let packet: Value = serde_json::from_slice(&fs::read(&lines).unwrap()).unwrap();
    assert_eq!(
        (&packet["source"], &packet["verdict"]),
        (&other.to_string().into(), &"passed".into())
    );
    assert_eq!(packet["port"], SIP_PORT);

    ringfence.detach().unwrap();
    drop((ringfence, hosts, directory));
    nothing_is_left().unwrap();
}
