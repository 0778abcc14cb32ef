//! Countries and networks with a real daemon: what a policy shuts out, and what a database that changes, breaks or
//! would shut out the gateway does.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use geo::writer::{Said, Writer};
use ipnet::Ipv6Net;
use ringfence_tests::bench::fleet::countries::{self, Cost};
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::scratch;
use ringfence_tests::world::{
    ATTACKERS, Echo, Hosts, OTHER_PORT, SIP_PORT, nothing_is_left, udp_reaches, until,
};
use serde_json::Value;
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(30);

/// Addresses of the attacker that are in use on the Internet, in a /24 each.
const CHINA: IpAddr = IpAddr::V4(Ipv4Addr::new(185, 0, 1, 66));
const GERMANY: IpAddr = IpAddr::V4(Ipv4Addr::new(185, 0, 2, 66));
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(185, 0, 3, 66));

struct World {
    hosts: Hosts,
    _echo: Echo,
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        let hosts = Hosts::new().unwrap();
        for address in [CHINA, GERMANY, NOWHERE] {
            let line = format!("addr add {address}/32 dev eth0");
            let mut ip = hosts.attacker.command("ip");
            assert!(ip.args(line.split(' ')).status().unwrap().success());
        }
        let world = Self {
            _echo: Echo::start(&hosts.pbx).unwrap(),
            hosts,
            directory: scratch::directory("geo").unwrap(),
        };
        world.ip("route add 185.0.0.0/16 dev eth0");
        world.publish("CN", "DE");
        world
    }

    fn ip(&self, line: &str) {
        let mut ip = self.hosts.pbx.command("ip");
        assert!(ip.args(line.split(' ')).status().unwrap().success(), "{line}");
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("country.mmdb")
    }

    /// Replaces the database as `geoipupdate` does.
    fn publish(&self, of_china: &str, of_germany: &str) {
        let mut writer = Writer::default();
        for (network, country) in [("185.0.1.0/24", of_china), ("185.0.2.0/24", of_germany)] {
            writer.add(network.parse().unwrap(), &Said::Country(country.to_owned()));
        }
        let new = self.file().with_extension("new");
        fs::write(&new, writer.bytes("Test-Country")).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    fn settings(&self, policy: &str) -> String {
        format!("geo: {{databases: [{}], {policy}}}\n", self.file().display())
    }

    fn start(&self, policy: &str) -> Ringfence {
        let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
        config.more = self.settings(policy);
        Ringfence::start(&self.hosts.pbx, &ringfence::built().unwrap(), &config).unwrap()
    }

    /// Whether SIP and another port are open to addresses in China, in Germany, and in no database.
    fn open(&self, port: u16) -> [bool; 3] {
        [CHINA, GERMANY, NOWHERE].map(|from| udp_reaches(&self.hosts.attacker, from, port).unwrap())
    }

    fn becomes(&self, ringfence: &Ringfence, open: [bool; 3]) {
        let is = until(SOON, || self.open(SIP_PORT) == open);
        assert!(is, "{:?}, not {open:?}\n{}", self.open(SIP_PORT), ringfence.log());
        assert_eq!(self.open(OTHER_PORT), [true; 3]);
    }

    /// Runs `ringfence reload` with another policy.
    fn reload(&self, ringfence: &Ringfence, policy: &str, force: bool) -> Result<String, String> {
        let more = ringfence.config_file().with_file_name("conf.d").join("more.yml");
        fs::write(more, self.settings(policy)).unwrap();
        let arguments: &[&str] = if force { &["reload", "--force"] } else { &["reload"] };
        let told = ringfence.client().run(arguments, false).unwrap();
        told.success("reload").map(|told| told.stdout).map_err(|why| why.to_string())
    }
}

fn status(ringfence: &Ringfence) -> Value {
    ringfence.client().ask(&["status"]).unwrap()
}

fn state(ringfence: &Ringfence, expected: &str) {
    let is = until(SOON, || status(ringfence)["geo"]["state"] == expected);
    assert!(is, "{}\n{}", status(ringfence)["geo"], ringfence.log());
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_policy_follows_its_database() {
    let world = World::new();
    let mut ringfence = world.start("ban: [CN]");
    world.becomes(&ringfence, [false, true, true]);
    state(&ringfence, "ok");
    let why = ringfence.client().why(CHINA).unwrap();
    assert_eq!((&why["place"]["country"], &why["shut_out"]), (&"CN".into(), &true.into()));
    assert!(status(&ringfence)["reasons"]["geo"]["packets"].as_u64().unwrap() > 0);
    let client = ringfence.client();
    client.run(&["ban", &GERMANY.to_string()], false).unwrap().success("ban").unwrap();
    let bans: Value = client.ask(&["bans"]).unwrap();
    assert_eq!(bans["bans"][0]["country"], "DE", "{bans}");
    client.run(&["unban", &GERMANY.to_string()], false).unwrap().success("unban").unwrap();

    // A new file is used, and a broken one is not.
    world.publish("FR", "CN");
    world.becomes(&ringfence, [true, false, true]);
    let whole = fs::read(world.file()).unwrap();
    fs::write(world.file(), &whole[..whole.len() / 2]).unwrap();
    state(&ringfence, "failing");
    world.becomes(&ringfence, [true, false, true]);
    let check = client.run(&["status", "--check"], false).unwrap().stdout;
    assert!(check.contains("geo is failing: ") && check.contains("country.mmdb"), "{check}");
    world.publish("CN", "DE");
    world.becomes(&ringfence, [false, true, true]);

    // The table outlives a daemon that is killed.
    ringfence.kill().unwrap();
    assert_eq!(world.open(SIP_PORT), [false, true, true]);
    ringfence.restart(&world.hosts.pbx).unwrap();
    assert_eq!(world.open(SIP_PORT), [false, true, true]);
    state(&ringfence, "ok");

    world.reload(&ringfence, "admit: [DE]", false).unwrap();
    world.becomes(&ringfence, [false, true, false]);
    world.reload(&ringfence, "admit: [DE], dry_run: true", false).unwrap();
    world.becomes(&ringfence, [true; 3]);
    assert!(until(SOON, || {
        world.open(SIP_PORT);
        status(&ringfence)["would_drop"]["geo"].as_u64().unwrap_or(0) > 0
    }));
    let why = world.reload(&ringfence, "admit: [AS3320]", false).unwrap_err();
    assert!(why.contains("AS3320 is an AS number"), "{why}");
    world.reload(&ringfence, "dry_run: false", false).unwrap();
    world.becomes(&ringfence, [true; 3]);
    ringfence.stop().unwrap();
    drop((ringfence, world));
    nothing_is_left().unwrap();
}

/// `cargo xtask bench fleet` prints the figures of docs/geo.md.
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn a_whole_world_costs_little() {
    let Cost { without, with } = countries::cost().unwrap();
    assert!(with[2] < without[2], "a packet that is shut out costs more than one that is read");
    assert!(with[0] < without[0] * 2 + 100, "{without:?} {with:?}");
}

/// The old networks and the new ones do not fit into the kernel together.
#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_large_table_is_replaced_by_another() {
    const MANY: u128 = 180_000;
    let world = World::new();
    let publish = |first: u128, count: u128| {
        let mut writer = Writer::default();
        let germany = Said::Country("DE".to_owned());
        writer.add("185.0.2.0/24".parse().unwrap(), &germany);
        for n in 0..count {
            let network = Ipv6Net::new((first << 112 | n << 81).into(), 48).unwrap();
            writer.add(network.into(), &germany);
        }
        let new = world.file().with_extension("new");
        fs::write(&new, writer.bytes("Test-Country")).unwrap();
        fs::rename(new, world.file()).unwrap();
    };
    publish(0x2400, MANY);
    let mut ringfence = world.start("admit: [DE]");
    world.becomes(&ringfence, [false, true, false]);
    let becomes = |ringfence: &Ringfence, expected: &str, networks: u128| {
        let is = || {
            let geo = &status(ringfence)["geo"];
            geo["state"] == expected && geo["networks"] == u64::try_from(networks).unwrap()
        };
        let is = until(2 * SOON, is);
        assert!(is, "{}\n{}", status(ringfence)["geo"], ringfence.log());
    };
    becomes(&ringfence, "ok", MANY + 1);
    publish(0x2600, MANY + 5);
    becomes(&ringfence, "ok", MANY + 6);
    assert!(!ringfence.log().contains("is it full?"), "{}", ringfence.log());
    // One that is too large changes nothing.
    publish(0x2800, 270_000);
    becomes(&ringfence, "failing", MANY + 6);
    let problem = status(&ringfence)["geo"]["problem"].to_string();
    assert!(problem.contains("more than the 262144"), "{problem}");
    world.becomes(&ringfence, [false, true, false]);
    ringfence.stop().unwrap();
    drop((ringfence, world));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_gateway_is_not_shut_out_unless_forced() {
    let world = World::new();
    world.ip(&format!("route add default via {CHINA} dev eth0"));
    let mut ringfence = world.start("admit: [DE]");
    state(&ringfence, "refused");
    let said = "geo: NOT APPLIED: `geo` would shut out the default gateway 185.0.1.66 (CN)";
    assert!(ringfence.log().contains(said), "{}", ringfence.log());
    world.becomes(&ringfence, [true; 3]);

    // A reload with another policy is refused as a whole, and one that is forced is not.
    let why = world.reload(&ringfence, "ban: [CN]", false).unwrap_err();
    assert!(why.contains("nothing is changed") && why.contains("default gateway"), "{why}");
    world.becomes(&ringfence, [true; 3]);
    world.reload(&ringfence, "admit: [DE]", true).unwrap();
    // The gateway passes all the same, with its /24.
    world.becomes(&ringfence, [true, true, false]);
    state(&ringfence, "ok");
    let elsewhere = udp_reaches(&world.hosts.attacker, ATTACKERS[0], SIP_PORT).unwrap();
    assert!(elsewhere, "an address of a LAN");

    // It stays forced over a restart.
    ringfence.stop().unwrap();
    ringfence.restart(&world.hosts.pbx).unwrap();
    state(&ringfence, "ok");
    world.becomes(&ringfence, [true, true, false]);
    ringfence.stop().unwrap();
    drop((ringfence, world));
    nothing_is_left().unwrap();
}
