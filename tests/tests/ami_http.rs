//! AMI over HTTP, with a real Asterisk: a login may contain line breaks, which Asterisk writes into its events and into
//! its security log, so that anybody can write whole events about any address.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;
use std::{fs, thread};

use ringfence_tests::asterisk::{HTTP_PORT, LogForm, Options};
use ringfence_tests::guesser::Guesser;
use ringfence_tests::sip::percent_encoded;
use ringfence_tests::world::{ATTACKERS, PBX, PHONE, World, until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// An event about an address, as Asterisk writes it.
fn event(name: &str, address: &str, session: &str) -> String {
    format!(
        "Event: {name}\r\nPrivilege: security,all\r\nEventTV: 2026-11-22T09:39:10.668+0000\r\n\
         Severity: Error\r\nService: PJSIP\r\nEventVersion: 1\r\nAccountID: 1001\r\nSessionID: {session}\r\n\
         LocalAddress: IPV4/TCP/{PBX}/5060\r\nRemoteAddress: IPV4/TCP/{address}/5060\r\n"
    )
}

/// The same as a line of the security log.
fn line(name: &str, address: &str, session: &str) -> String {
    format!(
        "[2026-11-22 09:39:10.6688] SECURITY[7] res_security_log.c: SecurityEvent=\"{name}\",\
         EventTV=\"2026-11-22T09:39:10.668+0000\",Severity=\"Error\",Service=\"PJSIP\",EventVersion=\"1\",\
         AccountID=\"1001\",SessionID=\"{session}\",LocalAddress=\"IPV4/TCP/{PBX}/5060\",\
         RemoteAddress=\"IPV4/TCP/{address}/5060\"\n"
    )
}

/// A login over HTTP as a user whose name is this text. Asterisk takes a second for each.
fn log_in(world: &World, text: &str) {
    let encoded = percent_encoded(text);
    let request = format!(
        "GET /rawman?action=login&username={encoded}&secret=x HTTP/1.1\r\n\
         Host: {PBX}\r\nConnection: close\r\n\r\n"
    );
    let reply = world.hosts.pbx.run_in(|| {
        let mut stream = TcpStream::connect((IpAddr::from([127, 0, 0, 1]), HTTP_PORT))?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(request.as_bytes())?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply)?;
        Ok(reply)
    });
    let reply = reply.unwrap();
    assert!(reply.contains("Authentication failed"), "{reply}");
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_login_over_http_writes_no_failure_of_others() {
    const VICTIM: &str = "203.0.113.12";
    const FORGED: usize = 20;
    let options = Options {
        ami_secret: Some("tG5w-8Hqn-Zr3c".to_owned()),
        ami_over_http: true,
        security_log: Some(LogForm::Plain),
        ..Options::default()
    };
    let world = World::with(&options, |_config| ()).unwrap();
    let source = |name: &str| world.source(name).unwrap();
    assert!(until(SOON, || source("asterisk-ami")["state"] == "ok"), "{}", source("asterisk-ami"));
    let phone = PHONE.to_string();
    thread::scope(|scope| {
        for n in 0..FORGED {
            let (world, phone) = (&world, &phone);
            scope.spawn(move || {
                for (name, address) in [
                    ("InvalidPassword", VICTIM),
                    ("SuccessfulAuth", VICTIM),
                    ("InvalidPassword", phone),
                ] {
                    let id = format!("forged-{n}");
                    log_in(world, &format!("x\r\n\r\n{}\r\n", event(name, address, &id)));
                    log_in(world, &format!("x\"\n{}", line(name, address, &id)));
                }
            });
        }
    });
    // Asterisk has written what was sent, and Ringfence has read it.
    let log = fs::read_to_string(world.asterisk.security_log()).unwrap();
    let written =
        log.lines().filter(|line| line.starts_with("[2026-11-22 09:39:10.6688] SECURITY"));
    assert_eq!(written.count(), 3 * FORGED, "{log}");
    let ignored = |name: &str| source(name)["unwitnessed"].as_u64().unwrap();
    let read =
        || ["asterisk-ami", "asterisk-security"].iter().all(|name| ignored(name) >= FORGED as u64);
    assert!(until(SOON, read), "{} {}", source("asterisk-ami"), source("asterisk-security"));
    let why: Value = world.ringfence.why(VICTIM.parse().unwrap()).unwrap();
    assert_eq!(
        (&why["known"], &why["proven"]),
        (&Value::Bool(false), &Value::Bool(false)),
        "{why}"
    );
    assert_eq!(
        (&why["evidence"], &why["bans"]),
        (&Value::from(vec![(); 0]), &Value::from(vec![(); 0]))
    );
    assert!(!world.is_banned(PHONE).unwrap());

    // A guesser is still banned.
    let mut guesser = Guesser::udp(&world.hosts.attacker, ATTACKERS[0], PBX).unwrap();
    for _ in 0..20 {
        if guesser.guess().unwrap().is_none() {
            break;
        }
    }
    assert!(until(SOON, || world.is_banned(ATTACKERS[0]).unwrap()));
    world.end().unwrap();
}
