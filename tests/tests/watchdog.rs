//! The filter while no daemon sends heartbeats: which functions it turns off, which remain, and how it
//! returns to normal.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ringfence_tests::child::{self, Finished, OnSignal};
use ringfence_tests::guesser;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::world::{
    ATTACKERS, Echo, Hosts, PBX, SIP_PORT, nothing_is_left, tcp_reaches, udp_reaches, until,
};

/// `watchdog.after`: its least.
const AFTER: Duration = Duration::from_secs(10);
/// How long something may take on a busy machine.
const SOON: Duration = Duration::from_mins(1);
/// REGISTERs of a flood, and what one source may send of them at once.
const FLOOD: usize = 120;
const BURST: u32 = 5;
/// INVITEs that all unknown sources may send at once.
const SHARED: usize = 200;

const LIMITS: &str = "watchdog: {after: 10s}
limits:
  greylist: false
  syn: {burst: 1000}
  shared: {invite: {rate: 1/s, burst: 200}}
  flood: {after: {rate: 1/s, burst: 3}, ban: 1h}
";

fn start(hosts: &Hosts) -> Ringfence {
    let config = Config {
        register_rate: 1,
        register_burst: BURST,
        more: LIMITS.to_owned(),
        ..Config::new(Path::new("/nonexistent/fail2ban"))
    };
    Ringfence::start(&hosts.pbx, &ringfence::built().unwrap(), &config).unwrap()
}

/// How many of so many requests from `source` arrive, by the answers of the [`Echo`].
fn arrive(hosts: &Hosts, source: IpAddr, method: &str, count: usize) -> usize {
    let socket = hosts.attacker.run_in(|| {
        let socket = UdpSocket::bind((source, 0))?;
        socket.connect((PBX, SIP_PORT))?;
        Ok(socket)
    });
    let socket = socket.unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut answers = 0;
    for _ in 0..count.div_ceil(20) {
        for _ in 0..20 {
            socket.send(format!("{method} sip:a SIP/2.0\r\n\r\n").as_bytes()).unwrap();
        }
        // In parts that no socket's buffer is too small for.
        let mut part = 0;
        while part < 20 && socket.recv(&mut [0; 64]).is_ok() {
            part += 1;
        }
        answers += part;
    }
    answers
}

/// Floods over a TCP connection, which the kernel sends again and again.
fn flood_over_tcp(hosts: &Hosts, source: IpAddr) -> std::net::TcpStream {
    let mut stream =
        guesser::dial(&hosts.attacker, source, SocketAddr::new(PBX, SIP_PORT)).unwrap();
    stream.set_nodelay(true).unwrap();
    for _ in 0..4 * BURST {
        stream.write_all(b"REGISTER sip:a SIP/2.0\r\n\r\n").unwrap();
    }
    stream
}

/// Runs a command with the daemon's configuration, and waits longer than it waits for the daemon.
fn run(ringfence: &Ringfence, arguments: &[&str]) -> Finished {
    let mut command = std::process::Command::new(ringfence::built().unwrap());
    command.arg("-c").arg(ringfence.config_file()).args(arguments);
    child::finish("ringfence", &mut command, SOON, OnSignal::Stop).unwrap()
}

fn is_narrow(hosts: &Hosts, source: IpAddr) -> bool {
    // A source gets its burst, and one a second.
    arrive(hosts, source, "REGISTER", FLOOD) < FLOOD / 2
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_filter_without_a_daemon_makes_no_bans_and_keeps_those_it_has() {
    let hosts = Hosts::new().unwrap();
    let _echo = Echo::start(&hosts.pbx).unwrap();
    let mut ringfence = start(&hosts);
    let [narrowed, flooder, banned, briefly, fresh, later, all] = ATTACKERS;
    let reaches = |source| udp_reaches(&hosts.attacker, source, SIP_PORT).unwrap();
    let connects = |source| tcp_reaches(&hosts.attacker, source, SIP_PORT);

    // Attended: a source is limited, and banned for a flood over TCP.
    assert!(is_narrow(&hosts, narrowed));
    let _flood = flood_over_tcp(&hosts, flooder);
    assert!(until(SOON, || !connects(flooder)));
    for (source, time) in [(banned, "1h"), (briefly, "30s")] {
        run(&ringfence, &["ban", &source.to_string(), "--for", time]).success("ban").unwrap();
        assert!(!reaches(source));
    }
    assert!(!reaches(banned));

    // It hangs: at first nothing changes.
    ringfence.signal(Signal::SIGSTOP).unwrap();
    let stopped = Instant::now();
    let still_narrow = is_narrow(&hosts, fresh);
    assert!(still_narrow || stopped.elapsed() >= AFTER.saturating_sub(Duration::from_secs(2)));

    // Then no source is limited any more, and none is banned anew.
    assert!(until(SOON, || !is_narrow(&hosts, fresh)));
    assert!(stopped.elapsed() >= AFTER.saturating_sub(Duration::from_secs(2)));
    assert!(until(SOON, || !is_narrow(&hosts, narrowed)));
    let _flood = flood_over_tcp(&hosts, fresh);
    assert!(until(SOON, || connects(fresh)));
    assert!(!connects(flooder) && !reaches(banned));
    assert!(until(SOON, || reaches(briefly)), "a ban ends by itself");
    // The limit that all sources share applies as before.
    let arrived = arrive(&hosts, all, "INVITE", 3 * SHARED);
    assert!((SHARED..2 * SHARED).contains(&arrived), "{arrived}");
    let check = run(&ringfence, &["status", "--check"]);
    assert_eq!(check.status.code(), Some(2), "{check:?}");
    assert!(check.stdout.contains("no heartbeat from the daemon since"), "{check:?}");
    assert!(check.stdout.contains("makes no bans of its own"), "{check:?}");

    // It goes on: the limits are back at once.
    ringfence.signal(Signal::SIGCONT).unwrap();
    assert!(until(SOON, || ringfence.log().contains("there was no heartbeat since")));
    assert!(is_narrow(&hosts, later));
    let _flood = flood_over_tcp(&hosts, later);
    assert!(until(SOON, || !connects(later)));
    assert!(!connects(flooder) && !reaches(banned));

    // No daemon at all is the same, until one starts.
    ringfence.kill().unwrap();
    assert!(until(SOON, || !is_narrow(&hosts, narrowed)));
    let why = run(&ringfence, &["why", &banned.to_string()]);
    assert!(why.stderr.contains("no heartbeat from the daemon since"), "{why:?}");
    assert!(!reaches(banned));
    ringfence.restart(&hosts.pbx).unwrap();
    assert!(is_narrow(&hosts, narrowed));
    assert!(!reaches(banned));
    assert_eq!(ringfence.log().matches("there was no heartbeat since").count(), 2);
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn the_watchdog_can_be_switched_off_while_the_daemon_runs() {
    let hosts = Hosts::new().unwrap();
    let _echo = Echo::start(&hosts.pbx).unwrap();
    let mut ringfence = start(&hosts);
    ringfence.configure(|config| config.more = LIMITS.replace("after: 10s", "after: 0")).unwrap();
    let reloaded = run(&ringfence, &["reload"]).success("reload").unwrap().stdout;
    assert!(reloaded.contains("watchdog.after: 10s -> 0s"), "{reloaded}");
    // It beats between two answers.
    run(&ringfence, &["status"]).success("status").unwrap();
    ringfence.kill().unwrap();
    let why = run(&ringfence, &["why", "192.0.2.1"]);
    assert!(why.stderr.contains("the filter continues without it"), "{why:?}");
    assert!(is_narrow(&hosts, ATTACKERS[0]));
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}
