//! The jail `sshd` with a real sshd and a real client: it bans clients that fail, and no address in an
//! attacker's text.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ringfence_tests::asterisk::Asterisk;
use ringfence_tests::guesser::dial;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::sshd::{Sshd, log_in};
use ringfence_tests::world::{
    ATTACKERS, ATTACKERS6, Hosts, PBX, PBX6, cache, nothing_is_left, until,
};

/// How long a failure may take from the wire to the ban on a busy machine.
const SOON: Duration = Duration::from_secs(20);

const SSH: SocketAddr = SocketAddr::new(PBX, 22);

/// An address that makes no connection.
const VICTIM: &str = "203.0.113.9";

#[test]
#[ignore = "requires root: network namespaces, BPF, a real sshd"]
fn a_real_sshd_tells_of_its_attackers_alone() {
    let root = Asterisk::ensure_root(&cache().unwrap(), &mut |_progress| ()).unwrap();
    let hosts = Hosts::new().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let auth_log = logs.path().join("auth.log");
    let sshd = Sshd::start(&hosts.pbx, &root, &auth_log).unwrap();
    let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
    config.other_logs = Some(logs.path().to_owned());
    let binary = ringfence::built().unwrap();
    let ringfence = Ringfence::start(&hosts.pbx, &binary, &config).unwrap();
    assert!(until(SOON, || is_open(&hosts, ATTACKERS[6])), "sshd does not listen");
    let said = || fs::read_to_string(&auth_log).unwrap();
    // For IPv6, the network of the address.
    let banned = || -> Vec<IpAddr> {
        let bans = ringfence.bans().unwrap();
        let all = ATTACKERS.into_iter().chain(ATTACKERS6).chain([VICTIM.parse().unwrap()]);
        all.filter(|address| bans.iter().any(|ban| ban.covers(*address))).collect()
    };

    // User names that contain the text that the log writes after a name, each with a few wrong passwords.
    let forged = format!("root from {VICTIM} port 22 ssh2");
    let also = format!("x from {VICTIM} port 5022");
    let attempts = [
        (ATTACKERS[0], PBX, "admin"),
        (ATTACKERS[1], PBX, "root"),
        (ATTACKERS[2], PBX, forged.as_str()),
        (ATTACKERS[3], PBX, also.as_str()),
        (ATTACKERS6[0], PBX6, "guest"),
    ];
    for (source, target, user) in attempts {
        for _connection in 0..3 {
            // Once it is banned, the client waits in vain for an answer.
            if !banned().contains(&source) {
                log_in(&hosts.attacker, source, target, user).unwrap();
            }
        }
        let jailed = until(SOON, || banned().contains(&source));
        assert!(jailed, "{source} as {user:?} is not banned: {:?}\n{}", banned(), said());
    }
    let mut expected: Vec<IpAddr> = attempts.iter().map(|(source, ..)| *source).collect();
    expected.push(ATTACKERS6[1]);
    expected.sort();
    let mut all = banned();
    all.sort();
    assert_eq!(all, expected, "{}", said());
    let jail = |ban: &ringfence::Ban| ban.jail.as_deref() == Some("sshd");
    assert!(ringfence.bans().unwrap().iter().all(jail));

    // Clients that disconnect before the login, and clients that do not speak SSH.
    for number in 0..8 {
        let mut stream = dial(&hosts.attacker, ATTACKERS[4], SSH).unwrap();
        let text = if number % 2 == 0 { "SSH-2.0-none\r\n" } else { "GET / HTTP/1.0\r\n\r\n" };
        stream.write_all(text.as_bytes()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let _hung_up = stream.read(&mut [0; 64]);
    }
    let told = || said().contains(&ATTACKERS[4].to_string());
    assert!(until(SOON, told), "{}", said());
    assert!(!banned().contains(&ATTACKERS[4]), "{}", said());
    // The ban closes SSH only to this client.
    assert!(!is_open(&hosts, ATTACKERS[0]));
    assert!(is_open(&hosts, ATTACKERS[6]));
    assert!(!banned().contains(&VICTIM.parse().unwrap()), "{}", said());
    drop((ringfence, sshd, hosts));
    nothing_is_left().unwrap();
}

/// Whether sshd accepts a connection from `source`.
fn is_open(hosts: &Hosts, source: IpAddr) -> bool {
    dial(&hosts.attacker, source, SSH).is_ok()
}
