//! A host whose services are closed to strangers: what stands goes on, and what the host asks for is answered. With a
//! real Asterisk, phones, sshd, SIP servers, and Debian's dnsmasq and chrony.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::thread;
use std::time::Duration;

use ringfence_tests::asterisk::{Asterisk, Options};
use ringfence_tests::baresip::{Baresip, Line, Transport};
use ringfence_tests::guesser::{self, Guesser};
use ringfence_tests::kamailio::{self, Kamailio};
use ringfence_tests::netns::{self, Lan, Netns};
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::servers::Servers;
use ringfence_tests::sshd::{Session, Sshd};
use ringfence_tests::world::{PBX, PBX6, SIP_PORT, cache, nothing_is_left, until};
use ringfence_tests::{scratch, screen};
use tempfile::TempDir;

const SOON: Duration = Duration::from_mins(1);

const fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, last))
}

const fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last))
}

/// Each in both families. The phones, the SIP servers and the name and time server are strangers too.
const PHONES: [IpAddr; 2] = [v4(20), v6(0x20)];
const TRUNKS: [IpAddr; 2] = [v4(30), v6(0x30)];
const SERVERS: [IpAddr; 2] = [v4(53), v6(0x53)];
const ADMINISTRATOR: [IpAddr; 2] = [v4(40), v6(0x40)];
const STRANGER: [IpAddr; 2] = [v4(66), v6(0x66)];
/// A stranger to whom the host has never sent anything: others may be waiting for an answer over UDP.
const NEWCOMER: [IpAddr; 2] = [v4(67), v6(0x67)];
const TRUSTED: [IpAddr; 2] = [v4(80), v6(0x80)];

/// A database, a daemon of Wazo, a broker and a web server, which send back what comes.
const SERVICES: [u16; 4] = [5432, 9486, 5672, 443];
/// Where the sessions over SSH lead.
const ECHO: u16 = 9000;

/// What the host itself uses is closed too: SIP, media, NTP, and the ports of its resolver.
const EXPOSURE: &str = "exposure:\n  \
    trusted: [ssh, sip, ntp, postgresql, 9486/tcp, https, 1024-65535/udp]\n  \
    closed: [rabbitmq]\n";

const NAME: &str = "trunk.example";
const ADDRESS: &str = "192.0.2.99";

struct Phone {
    phone: Baresip,
    place: Netns,
}

/// Processes are dropped before their namespaces.
struct World {
    phones: Vec<Phone>,
    sessions: Vec<Session>,
    servers: Servers,
    _trunks: Vec<Kamailio>,
    ringfence: Ringfence,
    _sshd: Sshd,
    asterisk: Asterisk,
    pbx: Netns,
    strangers: Netns,
    trusted: Netns,
    _others: Vec<Netns>,
    _lan: Lan,
    _directory: TempDir,
}

fn pbx(source: IpAddr) -> IpAddr {
    if source.is_ipv4() { PBX } else { PBX6 }
}

/// Listens on TCP ports of both families, and sends back what comes.
fn serve(host: &Netns) {
    let ports = SERVICES.into_iter().chain([ECHO]);
    for at in ports.flat_map(|port| [PBX, PBX6].map(|address| SocketAddr::new(address, port))) {
        let listener = host.run_in(|| Ok(TcpListener::bind(at)?)).unwrap();
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

impl World {
    fn new() -> Self {
        netns::sweep().unwrap();
        let (cache, directory) = (cache().unwrap(), scratch::directory("closed").unwrap());
        let root = Asterisk::ensure_root(&cache, &mut |_progress| ()).unwrap();
        let mut lan = Lan::new().unwrap();
        let pbx_host = lan.host("pbx", &[PBX, PBX6]).unwrap();
        let strangers = lan.host("strangers", &[STRANGER, NEWCOMER].concat()).unwrap();
        let trusted = lan.host("trusted", &TRUSTED).unwrap();
        let administrator = lan.host("admin", &ADMINISTRATOR).unwrap();
        let server_host = lan.host("servers", &SERVERS).unwrap();
        let servers = Servers::start(&server_host, &cache, NAME, ADDRESS.parse().unwrap()).unwrap();
        let (mut trunks, mut others) = (Vec::new(), Vec::new());
        for (place, at) in TRUNKS.into_iter().enumerate() {
            let host = lan.host(&format!("trunk{place}"), &[at]).unwrap();
            trunks.push(Kamailio::registrar(&host, &cache, at, false).unwrap());
            others.push(host);
        }

        let account = |place: usize| (format!("200{place}"), format!("Zk4-{place}-wQ8r-Ma5u"));
        let mut options = Options::default();
        options.endpoints.extend((0..PHONES.len()).map(account));
        options.trunks = TRUNKS.map(|at| (at, kamailio::PASSWORD.to_owned())).to_vec();
        let asterisk = Asterisk::start(&pbx_host, &root, &options).unwrap();
        let sshd = Sshd::start(&pbx_host, &root, &directory.path().join("auth.log")).unwrap();
        serve(&pbx_host);
        let config = Config {
            trusted: TRUSTED.map(|address| address.to_string()).to_vec(),
            more: "sip: {udp: [5060], tcp: [5060]}\n".to_owned(),
            ..Config::new(&asterisk.notice_log())
        };
        let ringfence = Ringfence::start(&pbx_host, &ringfence::built().unwrap(), &config).unwrap();

        let key = sshd.make_key().unwrap();
        let session = |source| {
            let (target, service) = (pbx(source), SocketAddr::new(pbx(source), ECHO));
            Session::start(&administrator, source, target, &key, service).unwrap()
        };
        let sessions = ADMINISTRATOR.map(session).into();
        let phone = |(place, source): (usize, IpAddr)| {
            let host = lan.host(&format!("phone{place}"), &[source]).unwrap();
            let (name, password) = account(place);
            let registrar = SocketAddr::new(pbx(source), SIP_PORT);
            let line = Line {
                display: name.clone(),
                name,
                password,
                registrar,
                transport: Transport::Udp,
            };
            Phone { phone: Baresip::start(&host, &root, &line).unwrap(), place: host }
        };
        let phones = PHONES.into_iter().enumerate().map(phone).collect();
        others.extend([administrator, server_host]);
        Self {
            phones,
            sessions,
            servers,
            _trunks: trunks,
            ringfence,
            _sshd: sshd,
            asterisk,
            pbx: pbx_host,
            strangers,
            trusted,
            _others: others,
            _lan: lan,
            _directory: directory,
        }
    }

    /// Waits until something holds.
    fn wait(&self, when: &str, what: &str, holds: impl FnMut() -> bool) {
        let phones: Vec<_> = self.phones.iter().map(|one| one.phone.last_words()).collect();
        assert!(
            until(SOON, holds),
            "{when}: {what}\n{phones:#?}\n{}\n{}",
            self.asterisk.cli("pjsip show registrations").unwrap_or_default(),
            self.ringfence.client().ask::<serde_json::Value>(&["status"]).unwrap(),
        );
    }

    fn dial(&mut self, when: &str) {
        for one in &mut self.phones {
            one.phone.dial("601").unwrap();
        }
        for one in &self.phones {
            self.wait(when, "a phone calls", || one.phone.hears());
        }
    }

    fn hang_up(&mut self, when: &str) {
        for one in &mut self.phones {
            one.phone.hang_up().unwrap();
        }
        for one in &self.phones {
            self.wait(when, "a phone hangs up", || one.phone.closed().is_some());
        }
    }

    /// Calls with sound, registrations of phones and of the host, sessions, and what the host asks others.
    fn goes_on(&mut self, when: &str) {
        for one in &self.phones {
            let registered = one.phone.registrations();
            let received = || one.place.traffic("eth0").unwrap().packets_received;
            let before = received();
            // Fifty packets of sound a second.
            self.wait(when, "a call goes on", || one.phone.hears() && received() > before + 100);
            self.wait(when, "a phone registers", || one.phone.registrations() > registered);
        }
        self.hang_up(when);
        self.dial(when);
        for session in &mut self.sessions {
            assert!(session.echoes(when).unwrap(), "{when}: a session over SSH");
        }
        for place in 0..TRUNKS.len() {
            let tell =
                |what: &str| self.asterisk.cli(&format!("pjsip send {what} trunk{place}")).unwrap();
            let is = |status: &str| {
                let all = self.asterisk.cli("pjsip show registrations").unwrap();
                let name = format!("trunk{place}/");
                all.lines().any(|line| line.contains(&name) && line.contains(&format!(" {status}")))
            };
            tell("unregister");
            self.wait(when, "the host ends its registration", || is("Unregistered"));
            tell("register");
            self.wait(when, "the host registers", || is("Registered"));
        }
        for server in SERVERS {
            let told = self.servers.resolve(&self.pbx, server, NAME);
            assert!(told.unwrap().starts_with(ADDRESS), "{when}: {server}");
            self.servers.time(&self.pbx, server).unwrap();
        }
    }

    fn connects(&self, source: IpAddr, port: u16) -> bool {
        let host = if TRUSTED.contains(&source) { &self.trusted } else { &self.strangers };
        let Ok(mut stream) = guesser::dial(host, source, SocketAddr::new(pbx(source), port)) else {
            return false;
        };
        if SERVICES.contains(&port) {
            stream.set_read_timeout(Some(SOON)).unwrap();
            stream.write_all(b"x").unwrap();
            stream.read_exact(&mut [0]).unwrap();
        }
        true
    }

    /// Whether Asterisk answers a REGISTER over UDP.
    fn is_answered(&self, source: IpAddr) -> bool {
        let host = if TRUSTED.contains(&source) { &self.trusted } else { &self.strangers };
        Guesser::udp(host, source, pbx(source)).unwrap().guess().unwrap().is_some()
    }

    fn is_open_to_all(&self, when: &str) {
        for source in STRANGER.into_iter().chain(TRUSTED) {
            for port in SERVICES.into_iter().chain([22]) {
                assert!(self.connects(source, port), "{when}: {source} to {port}");
            }
            self.wait(when, "SIP is open", || self.is_answered(source));
        }
    }

    fn is_closed_to_strangers(&self, when: &str) {
        for (stranger, trusted) in STRANGER.into_iter().zip(TRUSTED) {
            for port in [5432, 9486, 443, 22, SIP_PORT] {
                assert!(!self.connects(stranger, port), "{when}: {stranger} to {port}");
                assert!(self.connects(trusted, port), "{when}: {trusted} to {port}");
            }
            assert!(!self.connects(stranger, 5672) && !self.connects(trusted, 5672), "{when}");
            self.wait(when, "SIP is open to trusted networks", || self.is_answered(trusted));
        }
        for source in NEWCOMER {
            assert!(!self.is_answered(source), "{when}: {source}");
        }
    }

    fn reload(&mut self, more: &str) -> anyhow::Result<String> {
        let more = format!("sip: {{udp: [5060], tcp: [5060]}}\n{more}");
        self.ringfence.configure(|config| config.more = more)?;
        let done = self.ringfence.client().run(&["reload"], false)?;
        Ok(done.success("reload")?.stdout)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            screen::complain(&format!("{}\n{}", self.servers.log(), self.ringfence.log()));
        }
    }
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk and sshd, Debian's packages kamailio, dnsmasq-base and chrony"]
fn everything_that_stands_goes_on() {
    let mut world = World::new();
    for one in &world.phones {
        world.wait("the start", "a phone registers", || one.phone.registrations() > 0);
    }
    world.dial("the start");
    world.goes_on("the start");
    world.is_open_to_all("the start");

    world.reload(&EXPOSURE.replace("closed:", "dry_run: true\n  closed:")).unwrap();
    world.is_open_to_all("a dry run");
    let said = world.reload(EXPOSURE).unwrap();
    assert!(said.contains("ringfence confirm"), "{said}");
    world.is_closed_to_strangers("closed");
    world.goes_on("closed");
    world.ringfence.client().run(&["confirm"], false).unwrap().success("confirm").unwrap();
    world.ringfence.kill().unwrap();
    world.goes_on("while no daemon runs");
    world.ringfence.restart(&world.pbx).unwrap();
    world.is_closed_to_strangers("a restart");
    world.goes_on("a restart");
    let dropped = world.ringfence.status().unwrap().reasons["closed-port"].packets;
    assert!(dropped > 0);
    let file = world.ringfence.config_file().to_str().unwrap();
    let panic = world.ringfence.client().run(&["-c", file, "panic"], false).unwrap();
    panic.success("panic").unwrap();
    world.is_open_to_all("panic");
    drop(world);
    nothing_is_left().unwrap();
}
