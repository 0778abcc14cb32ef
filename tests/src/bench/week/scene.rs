//! Who takes part in the simulation.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::attacks::{Attack, Method};
use super::good::{Habits, Kind, Phone, Trunk};
use super::host::Host;
use super::registrar::{NO_TRUNK, Registrar};
use super::{Actor, Group, Hears, Settings};

pub(super) const SECOND: u64 = 1_000_000_000;
pub(super) const HOUR: u64 = 3600 * SECOND;
pub(super) const DAY: u64 = 24 * HOUR;

/// The part of the shared phones behind each shared address, in percent, and when it is off each day.
const SHARED: [(u32, Option<(u64, u64)>); 5] =
    [(50, Some((2, 3))), (20, Some((0, 7))), (15, None), (10, None), (5, None)];

/// The place of the shared address in whose name a forger sends.
const FORGED: u8 = 1;

/// The phones of a call centre.
const AGENTS: u32 = 10;

/// For ever.
const ON: u64 = u64::MAX;

/// An address that is alone in its /24.
fn alone(number: u32) -> IpAddr {
    let [_, b, c, d] = number.wrapping_mul(7).to_be_bytes();
    IpAddr::from([130 + d % 30, c ^ d, b ^ d.wrapping_mul(31), 1 + d % 250])
}

fn shared(place: u8) -> IpAddr {
    IpAddr::from([81, place, 0, 1])
}

fn trunk(place: u8) -> IpAddr {
    IpAddr::from([77, place, 0, 1])
}

fn seldom(place: u8) -> IpAddr {
    IpAddr::from([78, place, 0, 1])
}

/// The host and all actors, each with the time at which it begins.
pub(super) fn build(
    settings: &Settings,
    hears: Hears,
) -> anyhow::Result<(Host, Vec<(u64, Actor)>)> {
    let kinds = [Kind::Registers, Kind::Qualified, Kind::Plain];
    let trunks: Vec<IpAddr> = (0..).zip(kinds).map(|(place, _)| trunk(place)).collect();
    let accounts = (0..settings.phones.max(1000) + 100).map(|number| (1000 + number).to_string());
    let registrar = Registrar::new(accounts, trunks.iter().copied());
    let host = Host::start(settings.config.clone(), hears, registrar, &trunks)?;
    let mut actors: Vec<(u64, Actor)> = Vec::new();
    for (phone, group) in phones(settings.phones) {
        actors.push((phone.first(), Actor::Phone(Box::new(phone), group)));
    }
    for (place, kind) in (0..).zip(kinds.into_iter().chain([Kind::Monitor])) {
        let trunk = Trunk::new(kind, SocketAddr::new(trunk(place), 5060));
        actors.push((SECOND, Actor::Trunk(trunk)));
    }
    for attack in attacks() {
        actors.push((attack.begins, Actor::Attack(Box::new(attack))));
    }
    actors.push((DAY + 12 * HOUR, Actor::Reboot));
    Ok((host, actors))
}

/// The phones: a tenth of them share addresses.
fn phones(count: u32) -> Vec<(Phone, Group)> {
    let mut phones = Vec::new();
    let mut add_at = |begins: u64, address: IpAddr, habits: Habits, group: Group| {
        let number = u32::try_from(phones.len()).unwrap_or(0);
        let port = 10_000 + u16::try_from(number % 50_000).unwrap_or(0);
        let name = (1001 + number).to_string();
        let first = begins + u64::from(number % 120) * SECOND;
        phones.push((Phone::new(name, SocketAddr::new(address, port), habits, first), group));
    };
    let tenth = count / 10;
    for (place, (percent, off)) in (0..).zip(SHARED) {
        for number in 0..(tenth * percent).div_ceil(100) {
            let habits = Habits { off, reuses_nonce: number % 3 == 0, ..Habits::default() };
            let group = if place == FORGED { Group::SharedForged } else { Group::Shared };
            add_at(SECOND, shared(place), habits, group);
        }
    }
    for (place, begins, group) in [
        (0, SECOND, Group::CallCentre),
        (1, NO_TRUNK.start * HOUR + 10 * 60 * SECOND, Group::NewCallCentre),
    ] {
        for number in 0..AGENTS {
            let habits = Habits { dials: Some(Duration::from_secs(30)), ..Habits::default() };
            let begins = begins + u64::from(number) * 3 * SECOND;
            add_at(begins, IpAddr::from([82, place, 0, 1]), habits, group);
        }
    }
    let mut add = |address, habits, group| add_at(SECOND, address, habits, group);
    let minutes = |minutes| Some(Duration::from_mins(minutes));
    let old = Habits { old_password: true, every: minutes(2), ..Habits::default() };
    let often = Habits { every: Some(Duration::from_secs(30)), ..old };
    add(shared(0), often, Group::OldPasswordShared);
    add(shared(2), old, Group::OldPasswordShared);
    add(alone(60_000), old, Group::OldPassword);
    add(alone(60_001), often, Group::OldPasswordOften);
    for place in 0..2 {
        let habits = Habits { every: minutes(360), ..Habits::default() };
        add(seldom(place), habits, Group::Seldom);
    }
    for number in 0..count - tenth {
        let habits = Habits {
            reuses_nonce: number % 3 == 0,
            pings: (number % 20 == 1).then_some(Duration::from_mins(1)),
            roams: number % 50 == 2,
            ..Habits::default()
        };
        let group = if habits.roams { Group::Roaming } else { Group::Alone };
        add(alone(number), habits, group);
    }
    phones
}

/// From the beginning of one hour to that of another.
fn hours(begins: u64, ends: u64) -> (u64, u64) {
    (begins * HOUR, if ends == ON { ON } else { ends * HOUR })
}

/// Every attack.
fn attacks() -> Vec<Attack> {
    use Method::{
        Guess, Invented, Knock, Scan, ScanOfAccounts, ScanTwice, Spray, Sweep, TollFraud,
    };
    let mut place = 0;
    let mut attack = |name, method, sources: u8, gap, (begins, ends): (u64, u64)| {
        place += 1;
        let sources = (0..sources).map(|of| IpAddr::from([185, place, of, 9])).collect();
        Attack::new(name, method, sources, gap, hours(begins, ends))
    };
    let (millis, secs, mins) = (Duration::from_millis, Duration::from_secs, Duration::from_mins);
    let forged = |name, method, victim, gap, (begins, ends): (u64, u64)| {
        Attack::new(name, method, vec![victim], gap, hours(begins, ends)).forged()
    };
    vec![
        attack("guesses, 50 a second", Guess, 1, millis(20), (2, 3)).limited(3000).within(15),
        attack("guesses, one a second", Guess, 1, secs(1), (3, 4)).within(15),
        attack("guesses, one in 10 s", Guess, 1, secs(10), (4, 10)).within(15),
        attack("guesses on one account, one in 60 s", Guess, 1, secs(60), (5, ON)),
        attack("guesses on many accounts, one in 60 s", Spray, 1, secs(60), (5, ON)).within(20),
        attack("guesses on many accounts, one in 10 min", Spray, 1, mins(10), (5, ON)).within(20),
        attack("50 sources on many accounts, each one in 10 min", Spray, 50, secs(12), (6, ON))
            .within(20),
        attack("50 sources on one account, each one in 10 min", Guess, 50, secs(12), (6, ON)),
        attack("invented nonces, one a second", Invented, 1, secs(1), (7, 8)).within(15),
        attack("invented nonces, one in 60 s", Invented, 1, secs(60), (7, ON)),
        attack("a scan, one a second", Scan, 1, secs(1), (8, 9)).within(20),
        attack("a scan, one in 10 s", Scan, 1, secs(10), (8, ON)).within(20),
        attack("a scan, one in 60 s", Scan, 1, secs(60), (8, ON)).within(20),
        attack("a scan, one in 10 min", Scan, 1, mins(10), (8, ON)).within(20),
        attack("a scan, one in 10 s, each sent twice", ScanTwice, 1, secs(10), (9, ON)).within(20),
        attack("a scan of real accounts, one in 60 s", ScanOfAccounts, 1, secs(60), (9, ON))
            .within(20),
        attack("INVITEs of one account, one a second", Knock("INVITE"), 1, secs(1), (10, 11))
            .within(20),
        attack("OPTIONS of one account, one in 60 s", Knock("OPTIONS"), 1, secs(60), (10, ON)),
        attack("a sweep with OPTIONS, one a second", Sweep("OPTIONS"), 1, secs(1), (10, 11))
            .within(20),
        attack("a sweep with OPTIONS, one in 10 s", Sweep("OPTIONS"), 1, secs(10), (10, ON))
            .within(20),
        attack("a sweep with OPTIONS, one in 60 s", Sweep("OPTIONS"), 1, secs(60), (10, ON))
            .within(20),
        attack("a sweep with INVITEs, one a second", Sweep("INVITE"), 1, secs(1), (10, 11))
            .within(20),
        attack("a sweep with INVITEs, one in 10 s", Sweep("INVITE"), 1, secs(10), (10, ON))
            .within(20),
        attack("a sweep with INVITEs, one in 60 s", Sweep("INVITE"), 1, secs(60), (10, ON))
            .within(20),
        attack("calls with a stolen password, one a second", TollFraud, 1, secs(1), (11, 13))
            .within(45),
        attack("calls with a stolen password, one in 10 s", TollFraud, 1, secs(10), (11, 13))
            .within(45),
        attack("calls with a stolen password, one in 60 s", TollFraud, 1, secs(60), (11, ON)),
        forged("forged guesses of a phone, one a second", Invented, alone(1), secs(1), (12, 18)),
        forged(
            "forged guesses of a stranger, one a second",
            Invented,
            seldom(0),
            secs(1),
            (12, 30),
        ),
        forged("a forged scan of a stranger, one in 60 s", Scan, seldom(1), secs(60), (1, ON)),
        forged(
            "a forged scan of a shared address, one in 10 s",
            Scan,
            shared(FORGED),
            secs(10),
            (1, ON),
        ),
        forged("forged guesses of a trunk, one a second", Invented, trunk(2), secs(1), (12, 18)),
        forged("a forged scan of a trunk, one in 10 s", Scan, trunk(1), secs(10), (12, 30)),
    ]
}
