//! Services that are not open to everybody: who gets to them, and what goes on meanwhile.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;
use std::thread;
use std::time::Duration;

use ringfence_tests::child::{self, OnSignal};
use ringfence_tests::guesser;
use ringfence_tests::netns::Netns;
use ringfence_tests::packet_builder::{Frame, flag};
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::wire::{self, Wire};
use ringfence_tests::world::{ATTACKERS, ATTACKERS6, Hosts, PBX, PBX6, nothing_is_left, until};
use serde_json::Value;

/// How long something may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// How long it is waited for what must not come.
const SILENCE: Duration = Duration::from_millis(700);

/// A database, one of the daemons of Wazo, a broker, and one that stays open.
const TCP: [u16; 4] = [5432, 9486, 5672, 8000];

const EXPOSURE: &str =
    "exposure: {trusted: [postgresql, 9486/tcp, tftp, rtp, ntp], closed: [rabbitmq, 7000/udp]}\n";

fn start(hosts: &Hosts, more: &str) -> Ringfence {
    let config = Config {
        trusted: vec![ATTACKERS[0].to_string(), ATTACKERS6[0].to_string()],
        more: more.to_owned(),
        ..Config::new(Path::new("/nonexistent/fail2ban"))
    };
    Ringfence::start(&hosts.pbx, &ringfence::built().unwrap(), &config).unwrap()
}

fn pbx(source: IpAddr) -> IpAddr {
    if source.is_ipv4() { PBX } else { PBX6 }
}

/// Listens on TCP ports of both families, and sends back what comes.
fn serve(host: &Netns) {
    for (address, port) in [PBX, PBX6].into_iter().flat_map(|at| TCP.map(|port| (at, port))) {
        let listener = host.run_in(|| Ok(TcpListener::bind((address, port))?)).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let (mut from, mut to) = (stream.try_clone().unwrap(), stream);
                    std::io::copy(&mut from, &mut to)
                });
            }
        });
    }
}

fn socket(host: &Netns, address: IpAddr, port: u16) -> UdpSocket {
    let socket = host.run_in(|| Ok(UdpSocket::bind((address, port))?)).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket
}

/// Whether a datagram gets from one socket to the other.
fn arrives(from: &UdpSocket, to: &UdpSocket) -> bool {
    // What an earlier one has left.
    to.set_nonblocking(true).unwrap();
    while to.recv(&mut [0; 64]).is_ok() {}
    to.set_nonblocking(false).unwrap();
    from.send_to(b"anything", to.local_addr().unwrap()).unwrap();
    to.recv(&mut [0; 64]).is_ok()
}

fn connects(hosts: &Hosts, source: IpAddr, port: u16) -> bool {
    dial(hosts, source, port).is_some()
}

fn dial(hosts: &Hosts, source: IpAddr, port: u16) -> Option<TcpStream> {
    guesser::dial(&hosts.attacker, source, SocketAddr::new(pbx(source), port)).ok()
}

fn answers(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

fn dropped(ringfence: &Ringfence) -> u64 {
    ringfence.status().unwrap().reasons["closed-port"].packets
}

fn reload(ringfence: &mut Ringfence, more: &str) {
    ringfence.configure(|config| more.clone_into(&mut config.more)).unwrap();
    ringfence.client().run(&["reload"], false).unwrap().success("reload").unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn closed_services_are_open_to_those_that_are_trusted() {
    let hosts = Hosts::new().unwrap();
    serve(&hosts.pbx);
    let mut ringfence = start(&hosts, "");
    let families = [[ATTACKERS[0], ATTACKERS[1]], [ATTACKERS6[0], ATTACKERS6[1]]];
    let mut standing = families.map(|[_, stranger]| dial(&hosts, stranger, 5432).unwrap());
    assert_eq!(dropped(&ringfence), 0);
    reload(&mut ringfence, EXPOSURE);

    for ([trusted, stranger], standing) in families.into_iter().zip(&mut standing) {
        assert!(answers(standing), "a connection that stands goes on");
        for port in [5432, 9486] {
            assert!(connects(&hosts, trusted, port) && !connects(&hosts, stranger, port), "{port}");
        }
        assert!(!connects(&hosts, trusted, 5672) && !connects(&hosts, stranger, 5672));
        assert!(connects(&hosts, stranger, 8000), "what is not named is open");
    }
    assert!(dropped(&ringfence) > 0);
    let closed_to = |source| ringfence.why(source).unwrap()["closed_services"].clone();
    for [trusted, stranger] in families {
        assert_eq!(closed_to(trusted), serde_json::json!(["rabbitmq", "7000/udp"]));
        let all = ["postgresql", "9486/tcp", "tftp", "rtp", "ntp", "rabbitmq", "7000/udp"];
        assert_eq!(closed_to(stranger), serde_json::json!(all));
    }

    // Only watched, and then open again.
    reload(&mut ringfence, &EXPOSURE.replace("closed: [", "dry_run: true, closed: ["));
    for [trusted, stranger] in families {
        assert!(connects(&hosts, stranger, 5432) && connects(&hosts, trusted, 5672));
    }
    let before = dropped(&ringfence);
    reload(&mut ringfence, "");
    for [trusted, stranger] in families {
        assert!(connects(&hosts, stranger, 5432) && connects(&hosts, trusted, 5672));
    }
    assert_eq!(dropped(&ringfence), before);
    drop((ringfence, standing, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn what_a_closed_host_asks_for_is_answered() {
    let hosts = Hosts::new().unwrap();
    let ringfence = start(&hosts, EXPOSURE);
    for ([trusted, stranger, other], here) in [
        ([ATTACKERS[0], ATTACKERS[1], ATTACKERS[2]], PBX),
        ([ATTACKERS6[0], ATTACKERS6[1], ATTACKERS6[0]], PBX6),
    ] {
        let [ntp, tftp, rtp, closed, high] =
            [123, 69, 10_000, 7000, 40_000].map(|port| socket(&hosts.pbx, here, port));
        let [friend, server, third] = [(trusted, 1), (stranger, 2), (other, 3)]
            .map(|(at, n)| socket(&hosts.attacker, at, 4000 + n));
        assert!(!arrives(&server, &tftp) && arrives(&friend, &tftp), "{here}");
        assert!(!arrives(&server, &closed) && !arrives(&friend, &closed), "{here}");
        assert!(arrives(&server, &high), "a resolver's answer to {here}");
        // NTP, the sound of a trunk, and what is closed to all: first the host, then the answer.
        for own in [&ntp, &rtp, &closed] {
            assert!(!arrives(&server, own), "{own:?}");
            assert!(arrives(own, &server));
            assert!(until(SOON, || arrives(&server, own)), "{own:?}");
        }
        if other != trusted {
            assert!(!arrives(&third, &ntp) && !arrives(&third, &rtp), "{here}");
        }
    }
    assert!(dropped(&ringfence) > 0);
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

/// What `exposure suggest` says about a port.
fn suggested(ringfence: &Ringfence, hosts: &Hosts, port: u16) -> Option<Value> {
    let mut command = hosts.pbx.command(ringfence::built().unwrap());
    command.arg("-c").arg(ringfence.config_file()).arg("--socket").arg(ringfence.client().socket());
    command.args(["exposure", "suggest", "--json"]);
    let done = child::finish("suggest", &mut command, SOON * 4, OnSignal::Stop).unwrap();
    let all: Value = serde_json::from_str(&done.success("suggest").unwrap().stdout).unwrap();
    let ports = all["ports"].as_array().unwrap();
    ports.iter().find(|one| one["port"] == port).cloned()
}

/// The networks that have used a port.
fn users(port: &Value) -> Vec<&str> {
    let all = port["networks"].as_array().unwrap().iter();
    let mut all: Vec<&str> = all.map(|one| one["network"].as_str().unwrap()).collect();
    all.sort_unstable();
    all
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn what_is_used_by_whom_is_recorded() {
    let hosts = Hosts::new().unwrap();
    serve(&hosts.pbx);
    let [tftp, ntp] = [69, 123].map(|port| socket(&hosts.pbx, PBX, port));
    let mut ringfence = start(&hosts, "");
    let is_recorded = |ringfence: &Ringfence, port| {
        suggested(ringfence, &hosts, port).is_some_and(|one| one["since"].is_string())
    };
    assert!(until(SOON * 4, || is_recorded(&ringfence, 5432)));
    for port in TCP {
        let one = suggested(&ringfence, &hosts, port).unwrap();
        assert!(users(&one).is_empty(), "{one:#}");
    }
    assert_eq!(suggested(&ringfence, &hosts, 5432).unwrap()["suggested"], "nobody");

    // Forged requests for connections; a host with such an address refuses what it did not ask for.
    let (wire, target) =
        (Wire::of(&hosts.attacker).unwrap(), wire::hardware_address(&hosts.pbx).unwrap());
    let forged = (0..3000_u32).map(|n| {
        let [_, _, high, low] = n.to_be_bytes();
        IpAddr::from([198, 18 + high, low, 7])
    });
    for source in forged.chain([ATTACKERS[3], ATTACKERS6[1]]) {
        let syn = Frame::from(source).target_mac(target).tcp(8000).tcp_flags(flag::SYN);
        wire.send(&syn.payload([]).build()).unwrap();
    }
    let is_counted = || ringfence.status().unwrap().reasons["other-port"].packets >= 3002;
    assert!(until(SOON, is_counted), "{:?}", ringfence.status().unwrap().reasons);
    let one = suggested(&ringfence, &hosts, 8000).unwrap();
    assert_eq!((&one["suggested"], users(&one).len()), (&"nobody".into(), 0), "{one:#}");
    assert_eq!(one["public"]["networks"], 0, "{one:#}");
    assert_eq!(one["public"]["last"], Value::Null, "{one:#}");

    // A database for a trusted network and a stranger, over both families, and a name of a phone.
    let strangers = [ATTACKERS[1], ATTACKERS6[1]];
    let uses = |source, port| answers(&mut dial(&hosts, source, port).unwrap());
    assert!(uses(ATTACKERS[0], 5432) && uses(ATTACKERS6[0], 5432));
    assert!(strangers.into_iter().all(|stranger| uses(stranger, 8000)));
    let [client, server] = [69, 123].map(|port| socket(&hosts.attacker, ATTACKERS[1], port));
    assert!(arrives(&client, &tftp));
    // The host asks for the time: the reply is no use of its own service.
    assert!(arrives(&ntp, &server) && arrives(&server, &ntp));
    let one = suggested(&ringfence, &hosts, 5432).unwrap();
    let mut expected = [ATTACKERS[0], ATTACKERS6[0]].map(network);
    expected.sort_unstable();
    assert_eq!(users(&one), expected, "{one:#}");
    let one = suggested(&ringfence, &hosts, 8000).unwrap();
    assert_eq!(one["public"]["networks"], 2, "{one:#}");
    assert_eq!(one["suggested"], "everybody", "{one:#}");
    assert_eq!(users(&suggested(&ringfence, &hosts, 69).unwrap()), [network(ATTACKERS[1])]);
    let one = suggested(&ringfence, &hosts, 123).unwrap();
    assert!(users(&one).is_empty() && one["since"].is_string(), "{one:#}");
    assert_eq!(dropped(&ringfence), 0);

    // A restart and a dry run forget nothing, and a closed port records no more.
    let since = suggested(&ringfence, &hosts, 8000).unwrap()["since"].clone();
    ringfence.restart(&hosts.pbx).unwrap();
    reload(&mut ringfence, "exposure: {dry_run: true, closed: [rabbitmq]}\n");
    assert!(until(SOON * 4, || {
        // A connection without data is a use too.
        assert!(connects(&hosts, ATTACKERS[1], 5672));
        !users(&suggested(&ringfence, &hosts, 5672).unwrap()).is_empty()
    }));
    let one = suggested(&ringfence, &hosts, 8000).unwrap();
    assert_eq!((&one["since"], users(&one).len()), (&since, 2), "{one:#}");
    reload(&mut ringfence, "exposure: {closed: [rabbitmq]}\n");
    assert!(!connects(&hosts, ATTACKERS6[1], 5672));
    let one = suggested(&ringfence, &hosts, 5672).unwrap();
    assert_eq!((&one["now"], users(&one)), (&"nobody".into(), vec![&*network(ATTACKERS[1])]));
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn what_a_reload_closes_awaits_a_confirmation() {
    let hosts = Hosts::new().unwrap();
    serve(&hosts.pbx);
    let mut ringfence = start(&hosts, "");
    let reload = |ringfence: &mut Ringfence, more: &str| {
        ringfence.configure(|config| more.clone_into(&mut config.more)).unwrap();
        let done = ringfence.client().run(&["reload"], false).unwrap();
        done.success("reload").unwrap().stdout
    };
    let confirm = |ringfence: &Ringfence| {
        ringfence.client().run(&["confirm"], false).unwrap().success("confirm").unwrap().stdout
    };
    // The test's own start is the first one on this host.
    let _first = confirm(&ringfence);
    assert!(
        !reload(&mut ringfence, "exposure: {dry_run: true, closed: [rabbitmq]}\n")
            .contains("confirm")
    );
    assert!(confirm(&ringfence).contains("nothing to confirm"));
    assert!(
        reload(&mut ringfence, "exposure: {closed: [rabbitmq]}\n").contains("ringfence confirm")
    );
    assert!(!connects(&hosts, ATTACKERS[1], 5672));
    assert!(confirm(&ringfence).starts_with("confirmed"));
    assert!(confirm(&ringfence).contains("nothing to confirm"));
    // What was confirmed needs no confirmation after a restart, and opening needs none.
    ringfence.restart(&hosts.pbx).unwrap();
    assert!(confirm(&ringfence).contains("nothing to confirm"));
    assert!(!reload(&mut ringfence, "").contains("confirm"));
    assert!(connects(&hosts, ATTACKERS[1], 5672));
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

/// The network of an address as it is recorded.
fn network(address: IpAddr) -> String {
    let length = if address.is_ipv4() { 24 } else { 48 };
    ipnet::IpNet::new(address, length).unwrap().trunc().to_string()
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn nobody_is_locked_out_by_the_configuration() {
    let hosts = Hosts::new().unwrap();
    let mut ringfence = start(&hosts, "");
    for more in ["exposure: {closed: [ssh]}\n", "exposure: {closed: [sip]}\n"] {
        ringfence.configure(|config| more.clone_into(&mut config.more)).unwrap();
        let reloaded = ringfence.client().run(&["reload"], false).unwrap();
        assert!(!reloaded.status.success(), "{reloaded:?}");
        assert!(reloaded.stderr.contains("exposure.closed"), "{reloaded:?}");
    }
    assert_eq!(dropped(&ringfence), 0);
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

/// Runs a command below a process named `sshd` that holds a connection of this source to this port, as in a
/// session over ssh. It has none of the variables that sshd sets, because `sudo` takes them away.
fn in_session(hosts: &Hosts, ringfence: &Ringfence, port: u16, words: &[&str]) -> Output {
    let listener = hosts.pbx.run_in(|| Ok(TcpListener::bind((PBX, port))?)).unwrap();
    let client = dial(hosts, ATTACKERS[1], port).unwrap();
    let (session, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), ATTACKERS[1]);
    let directory = tempfile::tempdir().unwrap();
    let sshd = directory.path().join("sshd");
    symlink("/bin/sh", &sshd).unwrap();
    let mut command = hosts.pbx.command(&sshd);
    // The shell must stay above the command.
    command.args(["-c", "\"$@\"; status=$?; exit $status", "sshd"]);
    command.arg(ringfence::built().unwrap()).arg("--socket").arg(ringfence.client().socket());
    command.args(words).env_remove("SSH_CONNECTION").stdin(OwnedFd::from(session));
    // The command itself waits for 10 s at most.
    let done = command.output().unwrap();
    drop(client);
    done
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn the_port_of_the_session_that_types_it_is_not_closed() {
    const OTHER_PORT: u16 = 2222;
    let hosts = Hosts::new().unwrap();
    let mut ringfence = start(&hosts, "");
    for (more, says) in [
        ("exposure: {closed: [2222/tcp]}\n", "closes port 2222, on which sshd listens"),
        ("exposure: {trusted: [2000-3000/tcp]}\n", "could not log in again on port 2222"),
    ] {
        ringfence.configure(|config| more.clone_into(&mut config.more)).unwrap();
        let refused = in_session(&hosts, &ringfence, OTHER_PORT, &["reload"]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
        let said = String::from_utf8(refused.stderr).unwrap();
        assert!(said.contains(says), "{said}");
        assert!(said.contains(&ATTACKERS[1].to_string()) || !says.contains("log in"), "{said}");
        // It is as open as before.
        assert!(in_session(&hosts, &ringfence, OTHER_PORT, &["status"]).status.success());
        // What only another port needs is no objection, and the administrator may insist.
        let other = in_session(&hosts, &ringfence, 1999, &["reload", "--dry-run"]);
        assert!(other.status.success(), "{other:?}");
        assert!(!String::from_utf8_lossy(&other.stdout).contains("on which sshd"), "{other:?}");
    }
    let forced = in_session(&hosts, &ringfence, OTHER_PORT, &["reload", "--force"]);
    assert!(forced.status.success(), "{forced:?}");
    assert!(!connects(&hosts, ATTACKERS[1], OTHER_PORT));
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}
