//! After maintenance: the phones of a whole site come back at once, and all get in.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ringfence_tests::asterisk;
use ringfence_tests::child::{self, OnSignal};
use ringfence_tests::netns::Netns;
use ringfence_tests::phone::{Account, Phone};
use ringfence_tests::scratch;
use ringfence_tests::world::{PBX, PBX6, SIP_PORT, World, until};

/// The phones of each case.
const PHONES: u16 = 500;
/// How long all of them may take on a busy machine.
const SOON: Duration = Duration::from_mins(3);
/// A phone registers once.
const ONCE: Duration = Duration::from_hours(1);
/// The reasons for which a limit drops a packet.
const LIMITS: [&str; 5] =
    ["register-limit", "prefix-limit", "shared-limit", "greylist", "known-limit"];

/// The addresses of the phones: half of them IPv4, from two networks, and half of them IPv6, from one.
fn addresses() -> Vec<IpAddr> {
    let half = PHONES / 2;
    let v4 = (0..half).map(|n| {
        let [high, low] = (n / 125).to_be_bytes();
        assert_eq!(high, 0);
        let host = u8::try_from(n % 125).unwrap();
        IpAddr::from([10, 77, low, host + 1])
    });
    let v6 = (0..half).map(|n| IpAddr::from([0xfd77, 0, 0, 0, 0, 0, 0, n + 1]));
    v4.chain(v6).collect()
}

fn run_ip(host: &Netns, arguments: &[&str]) {
    let mut command = host.command("ip");
    command.args(arguments);
    let done = child::finish("ip", &mut command, SOON, OnSignal::Stop).unwrap();
    done.success("ip").unwrap();
}

/// Starts all phones, and waits until each has registered once. Each has an account of its own.
fn register_all(world: &World, accounts: &[(String, String)], meanwhile: impl FnOnce()) {
    let phones: Vec<Phone> = addresses()
        .into_iter()
        .zip(accounts)
        .map(|(local, (name, password))| {
            let registrar = SocketAddr::new(if local.is_ipv4() { PBX } else { PBX6 }, SIP_PORT);
            let (name, password) = (name.clone(), password.clone());
            let account = Account { name, password, local, registrar };
            Phone::start(&world.hosts.attacker, account, ONCE).unwrap()
        })
        .collect();
    meanwhile();
    let is_done = || phones.iter().all(|phone| phone.report().attempts > 0);
    assert!(until(SOON, is_done), "{:?}", world.ringfence.status().unwrap().reasons);
    let mut reports = Vec::new();
    for phone in phones {
        reports.push(phone.finish());
    }
    let failed: Vec<_> = reports.iter().filter(|report| report.failures > 0).collect();
    let reasons = world.ringfence.status().unwrap().reasons;
    assert!(failed.is_empty(), "{} failed: {:?}\n{reasons:?}", failed.len(), failed.first());
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn all_phones_get_in_after_maintenance() {
    let accounts: Vec<(String, String)> =
        (0..PHONES).map(|n| (format!("site{n}"), format!("secret-of-{n}"))).collect();
    let mut options = asterisk::Options::default();
    options.endpoints.extend(accounts.iter().cloned());
    let world = World::with(&options, |_defaults| ()).unwrap();
    let directory = scratch::directory("upgrade").unwrap();
    let batch = directory.path().join("addresses");
    let mut text = String::new();
    for address in addresses() {
        let (length, more) = if address.is_ipv4() { (32, "") } else { (128, " nodad") };
        writeln!(text, "addr add {address}/{length} dev eth0{more}").unwrap();
    }
    fs::write(&batch, text).unwrap();
    run_ip(&world.hosts.attacker, &["-batch", batch.to_str().unwrap()]);
    run_ip(&world.hosts.pbx, &["route", "add", "10.77.0.0/16", "dev", "eth0"]);
    run_ip(&world.hosts.pbx, &["-6", "route", "add", "fd77::/64", "dev", "eth0"]);

    let maintenance = |arguments: &[&str]| {
        let all = [&["maintenance"], arguments].concat();
        world.ringfence.client().run(&all, false).unwrap().success("maintenance").unwrap();
    };
    let limited = || -> u64 {
        let reasons = world.ringfence.status().unwrap().reasons;
        LIMITS.iter().filter_map(|name| reasons.get(*name)).map(|count| count.packets).sum()
    };
    // First they are new, then known.
    for is_known in [false, true] {
        maintenance(&["on", "--for", "30m", "--closed-to-known"]);
        register_all(&world, &accounts, || maintenance(&["off"]));
        assert_eq!(
            limited(),
            0,
            "known: {is_known}: {:?}",
            world.ringfence.status().unwrap().reasons
        );
    }
    drop(directory);
    world.end().unwrap();
}
