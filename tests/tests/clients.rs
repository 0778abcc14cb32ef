//! Real phones: Debian's baresip behind NAT, behind Kamailio, over UDP, TCP, TLS and IPv6, in VLAN tags, and with
//! small packets. Each
//! keeps its call and its registration through everything that Ringfence does to others.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use fleet::{BanRecord, Key};
use geo::writer::{Said, Writer};
use ringfence_tests::asterisk::{Asterisk, Options};
use ringfence_tests::attack::{Attacker, Method, Plan};
use ringfence_tests::baresip::{Baresip, Line, Transport};
use ringfence_tests::guesser::{self, Guesser};
use ringfence_tests::kamailio::Kamailio;
use ringfence_tests::nats::{Agent, Nats};
use ringfence_tests::netns::{self, Lan, Netns};
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::tagger::Tagger;
use ringfence_tests::world::{SIP_PORT, cache, nothing_is_left, until};
use ringfence_tests::{scratch, screen};
use serde_json::Value;
use tempfile::TempDir;

const SOON: Duration = Duration::from_mins(1);

/// Addresses that are in use on the Internet, because others are never banned by feeds and other hosts.
const fn v4(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(185, 0, 0, last))
}

const fn v6(last: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2a01, 0x4f8, 1, 0, 0, 0, 0, last))
}

const PBX: IpAddr = v4(10);
const PBX6: IpAddr = v6(0x10);
const NATS: IpAddr = v4(5);
/// Kamailio, and the phone that uses it.
const PROXY: IpAddr = v4(40);
const PROXIED: IpAddr = v4(41);
/// The router and the network behind it.
const ROUTER: IpAddr = v4(30);
const GATEWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
const BEHIND: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));
const NEIGHBOUR: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 3));
/// Its frames get a tag on their way.
const TAGGED: IpAddr = v4(35);
/// Sources that never register.
const GUESSER: IpAddr = v4(66);
const STRANGER: IpAddr = v4(67);
const FLOODER: IpAddr = v4(68);
const STRANGER6: IpAddr = v6(0x67);

/// The smallest packets that IPv6 allows, as in tunnels.
const SMALL: u32 = 1280;

/// The version of the build that replaces the daemon; the first has `OLD`.
const OLD: &str = env!("CARGO_PKG_VERSION");
const NEW: &str = "9.9.9";

/// Who calls. Where it is for the PBX, is its second field.
const CLIENTS: [(&str, IpAddr, Transport); 7] = [
    ("UDP behind NAT", ROUTER, Transport::Udp),
    ("TCP", v4(31), Transport::Tcp),
    ("TLS", v4(32), Transport::Tls),
    ("UDP in fragments", v4(33), Transport::Udp),
    ("IPv6 alone", v6(0x34), Transport::Udp),
    ("behind Kamailio", PROXY, Transport::Udp),
    ("UDP in VLAN tags", TAGGED, Transport::Udp),
];

struct Client {
    name: &'static str,
    source: IpAddr,
    phone: Baresip,
    place: Netns,
}

/// Processes are dropped before their namespaces.
struct World {
    clients: Vec<Client>,
    _proxy: Kamailio,
    tagger: Tagger,
    agent: Agent,
    nats: Nats,
    ringfence: Ringfence,
    asterisk: Asterisk,
    pbx: Netns,
    strangers: Netns,
    neighbour: Netns,
    _router: Netns,
    _proxy_host: Netns,
    _tags: Netns,
    _lans: [Lan; 3],
    files: TempDir,
    /// What happened when, for the reader of a failure.
    table: String,
    started: Instant,
}

impl World {
    fn new() -> Self {
        netns::sweep().unwrap();
        let started = Instant::now();
        let [mut lan, mut behind, mut aside] = [(); 3].map(|()| Lan::new().unwrap());
        let pbx = lan.host("pbx", &[PBX, PBX6]).unwrap();
        let strangers = lan.host("strangers", &[GUESSER, STRANGER, FLOODER, STRANGER6]).unwrap();
        let router = lan.host("router", &[ROUTER]).unwrap();
        behind.plug(&router, "inside", &[GATEWAY]).unwrap();
        router.masquerade("eth0").unwrap();
        let inside = |lan: &mut Lan, name: &str, address: IpAddr| {
            let host = lan.host(name, &[address]).unwrap();
            host.ip(&format!("route add default via {GATEWAY}")).unwrap();
            host
        };
        let neighbour = inside(&mut behind, "neighbour", NEIGHBOUR);

        let mut options = Options { tls: true, ..Options::default() };
        options.ami_secret = Some("tG5w-8Hqn-Zr3c".to_owned());
        let password = |place: usize| format!("Zk4-{place}-wQ8r-Ma5u");
        let account = |place: usize| (format!("200{place}"), password(place));
        options.endpoints.extend((0..CLIENTS.len()).map(account));
        let root = Asterisk::ensure_root(&cache().unwrap(), &mut |_progress| ()).unwrap();
        let asterisk = Asterisk::start(&pbx, &root, &options).unwrap();
        let places = vec![(lan.host("nats", &[NATS]).unwrap(), NATS)];
        let nats = Nats::start(places, &["pbx-1", "pbx-2"], &cache().unwrap()).unwrap();

        let files = scratch::directory("clients").unwrap();
        fs::write(files.path().join("list.txt"), "185.0.77.1\n").unwrap();
        let mut config = Config::new(&asterisk.notice_log());
        config.ami_secret = Some(asterisk.ami_secret());
        config.more = more(&nats, &files, "");
        let built = ringfence::built().unwrap();
        let ringfence = Ringfence::start(&pbx, &built, &config).unwrap();
        let agent = Agent::start(&pbx, &ringfence).unwrap();

        let proxy_host = lan.host("proxy", &[PROXY]).unwrap();
        let proxy = Kamailio::proxy(&proxy_host, &cache().unwrap(), PROXY, PBX).unwrap();
        let tags = lan.host("tags", &[]).unwrap();
        aside.plug(&tags, "inside", &[]).unwrap();
        let tagger = Tagger::start(&tags, "inside", "eth0").unwrap();
        let clients = CLIENTS.iter().enumerate().map(|(place, (name, source, transport))| {
            let (name, source, transport) = (*name, *source, *transport);
            let label = format!("phone{place}");
            let host = match source {
                ROUTER => inside(&mut behind, &label, BEHIND),
                PROXY => lan.host(&label, &[PROXIED]).unwrap(),
                TAGGED => aside.host(&label, &[TAGGED]).unwrap(),
                IpAddr::V4(_) | IpAddr::V6(_) => lan.host(&label, &[source]).unwrap(),
            };
            let is_small = name == "UDP in fragments" || source.is_ipv6();
            if is_small {
                host.ip(&format!("link set eth0 mtu {SMALL}")).unwrap();
            }
            let registrar = match source {
                PROXY => PROXY,
                IpAddr::V4(_) => PBX,
                IpAddr::V6(_) => PBX6,
            };
            let port = if transport == Transport::Tls { 5061 } else { SIP_PORT };
            let line = Line {
                // So that an INVITE does not fit into one packet; baresip reads 512 bytes of a line.
                display: if is_small { "Reception ".repeat(30) } else { name.to_owned() },
                name: account(place).0,
                password: password(place),
                registrar: SocketAddr::new(registrar, port),
                transport,
            };
            let phone = Baresip::start(&host, &root, &line).unwrap();
            Client { name, source, phone, place: host }
        });
        let clients = clients.collect();
        let (lans, table) = ([lan, behind, aside], String::new());
        Self {
            clients,
            _proxy: proxy,
            tagger,
            agent,
            nats,
            ringfence,
            asterisk,
            pbx,
            strangers,
            neighbour,
            _router: router,
            _proxy_host: proxy_host,
            _tags: tags,
            _lans: lans,
            files,
            table,
            started,
        }
    }

    fn tell(&self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        self.ringfence.client().run(&words, false).unwrap().success(line).unwrap();
    }

    fn status(&self) -> Value {
        self.ringfence.client().ask(&["status"]).unwrap()
    }

    fn is_known(&self, address: IpAddr) -> bool {
        self.ringfence.why(address).unwrap()["known"] == true
    }

    /// Whether SIP is open to this source. It only connects: Asterisk counts what it asks as failures.
    fn is_open(&self, source: IpAddr) -> bool {
        let target = SocketAddr::new(if source.is_ipv4() { PBX } else { PBX6 }, SIP_PORT);
        guesser::dial(&self.strangers, source, target).is_ok()
    }

    fn becomes_open(&self, open: bool) {
        for source in [STRANGER, STRANGER6] {
            let is = until(SOON, || self.is_open(source) == open);
            assert!(is, "{source} is open: {}\n{}", !open, self.ringfence.why(source).unwrap());
        }
    }

    /// Waits until a condition holds for each phone.
    fn each(&mut self, event: &str, what: &str, holds: impl Fn(usize, &Client) -> bool) {
        let seconds = self.started.elapsed().as_secs_f64();
        writeln!(self.table, "{seconds:6.1} s  {event}: {what}").unwrap();
        for (place, client) in self.clients.iter().enumerate() {
            if until(SOON, || holds(place, client)) {
                continue;
            }
            panic!(
                "{}: not so: {event}: {what}\n{}\n{}\n{}\n{}",
                client.name,
                client.phone.last_words(),
                self.ringfence.why(client.source).unwrap(),
                self.asterisk.cli("pjsip show contacts").unwrap_or_default(),
                self.table,
            );
        }
    }

    fn dial(&mut self, event: &str) {
        for client in &mut self.clients {
            client.phone.dial("601").unwrap();
        }
        self.each(event, "calls", |_place, client| client.phone.hears());
    }

    fn hang_up(&mut self, event: &str) {
        for client in &mut self.clients {
            client.phone.hang_up().unwrap();
        }
        self.each(event, "hangs up", |_place, client| client.phone.closed().is_some());
    }

    /// Each phone registers again, keeps a call that it has, and can call again.
    fn all_live(&mut self, event: &str) {
        let registrations = |client: &Client| client.phone.registrations();
        let before: Vec<_> = self.clients.iter().map(registrations).collect();
        self.each(event, "registers again", |place, client| registrations(client) > before[place]);
        // Fifty packets of sound a second.
        let received = |client: &Client| client.place.traffic("eth0").unwrap().packets_received;
        let before: Vec<_> = self.clients.iter().map(received).collect();
        self.each(event, "hears on", |place, client| {
            client.phone.hears() && received(client) > before[place] + 40
        });
        self.hang_up(event);
        self.dial(event);
    }

    fn reload(&mut self, settings: &str) {
        let more = more(&self.nats, &self.files, settings);
        self.ringfence.configure(|config| config.more = more).unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            screen::complain(&format!("{}\n{}", self.agent.log(), self.ringfence.log()));
        }
    }
}

fn more(nats: &Nats, files: &TempDir, settings: &str) -> String {
    let list = files.path().join("list.txt");
    format!(
        "sip: {{udp: [5060], tcp: [5060, 5061]}}\n\
         feeds: {{list: {{url: {}, interval: 2s}}}}\n{}{settings}",
        list.display(),
        nats.settings("pbx-1", ""),
    )
}

/// What happens: a name, what begins, and what ends it.
type Event = (&'static str, fn(&mut World), fn(&mut World));

const EVENTS: [Event; 10] = [
    ("nothing", |_| (), |_| ()),
    ("a flood", flood, |_| ()),
    ("a guesser beside them", guesses, |_| ()),
    ("a guesser behind the same router", guesses_behind_the_router, |_| ()),
    ("a guesser behind the same proxy", guesses_behind_the_proxy, |_| ()),
    ("a feed that lists them", is_listed, |world| world.tell("unban --jail feed:list")),
    ("another host that bans them", is_banned_elsewhere, |world| world.tell("fleet cut pbx-2")),
    ("their country is shut out", country_is_shut_out, country_is_let_in),
    ("maintenance", |world| world.tell("maintenance on --for 30m"), closed_to_all),
    ("an upgrade", stops, upgrades),
];

fn flood(world: &mut World) {
    let duration = Duration::from_secs(5);
    let plan = Plan { method: Method::Flood, source: FLOODER, target: PBX, rate: 1000, duration };
    let attacker = Attacker::start(&world.strangers, &plan).unwrap();
    let dropped = |world: &World| {
        let reasons = world.ringfence.status().unwrap().reasons;
        let limits = ["register-limit", "prefix-limit", "shared-limit"];
        limits.iter().filter_map(|name| reasons.get(*name)).map(|of| of.packets).sum::<u64>()
    };
    assert!(until(SOON, || dropped(world) > 500), "{:?}", world.status());
    world.all_live("a flood goes on");
    drop(attacker);
}

fn guesses(world: &mut World) {
    let duration = Duration::from_secs(30);
    let plan = Plan { method: Method::Guess, source: GUESSER, target: PBX, rate: 50, duration };
    let attacker = Attacker::start(&world.strangers, &plan).unwrap();
    let is_banned = || world.ringfence.bans().unwrap().iter().any(|ban| ban.covers(GUESSER));
    assert!(until(SOON, is_banned), "{}", world.ringfence.why(GUESSER).unwrap());
    drop(attacker);
}

fn guesses_behind_the_router(world: &mut World) {
    guesses_behind(world, ROUTER, Guesser::udp(&world.neighbour, NEIGHBOUR, PBX).unwrap());
}

fn guesses_behind_the_proxy(world: &mut World) {
    guesses_behind(world, PROXY, Guesser::udp(&world.strangers, STRANGER, PROXY).unwrap());
}

/// Somebody guesses from an address that a phone has, too: that is reported, and ends no phone.
fn guesses_behind(world: &World, address: IpAddr, mut guesser: Guesser) {
    let spared = || world.status()["peers"]["spared"].as_u64().unwrap();
    let before = spared();
    // Twice as many as the jail allows.
    for n in 0..30 {
        assert!(
            until(SOON, || guesser.guess().unwrap().is_some()),
            "guess {n}: {}",
            world.status()
        );
    }
    assert!(until(SOON, || spared() >= before + 30), "{}", world.status());
    let why = || world.ringfence.why(address).unwrap();
    assert!(until(SOON, || why()["prevented"]["is"] == "a known peer"), "{}", why());
}

fn is_listed(world: &mut World) {
    let mut list = String::from("185.0.0.0/24\n2a01:4f8:1::/64\n0.0.0.0/0\n::/0\n185.0.0.10\n");
    for client in &world.clients {
        writeln!(list, "{}", client.source).unwrap();
    }
    fs::write(world.files.path().join("list.txt"), list).unwrap();
    world.becomes_open(false);
}

fn is_banned_elsewhere(world: &mut World) {
    world.becomes_open(true);
    let sources = world.clients.iter().map(|client| client.source);
    let record = BanRecord { jail: "sshd".to_owned(), proven: true, seconds: 3600 };
    let records = sources.chain([STRANGER, STRANGER6]).map(|source| {
        (Key::Ban("pbx-2".parse().unwrap(), source.into()).to_string(), fleet::write(&record))
    });
    assert_eq!(world.nats.store(&world.strangers, "pbx-2", records.collect()).unwrap(), 0);
    world.becomes_open(false);
}

fn country_is_shut_out(world: &mut World) {
    world.becomes_open(true);
    let mut writer = Writer::default();
    for network in ["185.0.0.0/24", "2a01:4f8::/32"] {
        writer.add(network.parse().unwrap(), &Said::Country("KP".to_owned()));
    }
    let file = world.files.path().join("country.mmdb");
    fs::write(&file, writer.bytes("Test-Country")).unwrap();
    world.reload(&format!("geo: {{databases: [{}], ban: [KP]}}\n", file.display()));
    // It would shut out more than half of those who register.
    let refused = world.ringfence.client().run(&["reload"], false).unwrap();
    assert!(refused.success("reload").is_err());
    world.tell("reload --force");
    world.becomes_open(false);
}

fn country_is_let_in(world: &mut World) {
    world.reload("");
    world.tell("reload");
    world.becomes_open(true);
}

/// Nobody registers for a while, and then all do at once.
fn closed_to_all(world: &mut World) {
    world.becomes_open(false);
    world.tell("maintenance on --for 30m --closed-to-known");
    let closed = |world: &World| {
        let reasons = world.ringfence.status().unwrap().reasons;
        reasons.get("maintenance").map_or(0, |of| of.packets)
    };
    let before = closed(world);
    let phones = u64::try_from(CLIENTS.len()).unwrap();
    assert!(until(SOON, || closed(world) >= before + phones), "{:?}", world.status());
    world.tell("maintenance off");
    world.all_live("after maintenance");
}

fn stops(world: &mut World) {
    assert_eq!(world.status()["version"], OLD);
    world.ringfence.stop().unwrap();
}

/// The daemon of another build takes over what the kernel has: the same program under another version, so that nothing
/// that goes by the version may stop it.
fn upgrades(world: &mut World) {
    assert_eq!(OLD.len(), NEW.len(), "the new version takes the place of the old one in the file");
    let mut program = fs::read(ringfence::built().unwrap()).unwrap();
    let is_old = |at: &usize| program[*at..].starts_with(OLD.as_bytes());
    let places: Vec<usize> = (0..program.len()).filter(is_old).collect();
    for at in places {
        program[at..at + NEW.len()].copy_from_slice(NEW.as_bytes());
    }
    let new: PathBuf = world.files.path().join("ringfence");
    fs::write(&new, program).unwrap();
    fs::set_permissions(&new, Permissions::from_mode(0o755)).unwrap();
    world.ringfence.replace(&world.pbx, &new).unwrap();
    assert_eq!(world.status()["version"], NEW);
    world.all_live("after the upgrade");
    world.ringfence.kill().unwrap();
    world.ringfence.restart(&world.pbx).unwrap();
    world.all_live("after kill -9");
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk, Debian's packages nats-server and kamailio"]
fn real_phones_live_through_everything() {
    let mut world = World::new();
    world.each("the start", "registers", |_place, client| client.phone.registrations() > 0);
    for (name, source, _) in CLIENTS {
        assert!(until(SOON, || world.is_known(source)), "{name}: {}", world.status());
    }
    world.dial("the start");
    for (event, begin, end) in EVENTS {
        begin(&mut world);
        world.all_live(event);
        end(&mut world);
    }
    let refused: Vec<_> =
        world.clients.iter().map(|client| (client.name, client.phone.refused())).collect();
    assert!(refused.iter().all(|(_name, refused)| refused.is_empty()), "{refused:?}");
    let fragments = world.ringfence.status().unwrap().reasons["fragment"].packets;
    assert!(fragments > 0, "no INVITE was cut: {}", world.status());
    assert!(world.tagger.tagged() > 1000, "few frames had tags");
    for (name, source, _) in CLIENTS {
        assert!(!world.ringfence.bans().unwrap().iter().any(|ban| ban.covers(source)), "{name}");
    }
    drop(world);
    nothing_is_left().unwrap();
}
