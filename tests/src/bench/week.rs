//! A simulated week: good traffic and attacks, in compressed time, through the program's policy, the parsers, the
//! jails and the controller.
//!
//! Packets are decided by the code that decides in the kernel, over its tables in memory. Asterisk is a model that
//! answers and writes as version 22 does on a Wazo host. The network takes no time and loses a packet in a
//! thousand. Everything is over UDP and IPv4.

mod attacks;
mod exchange;
mod good;
mod host;
mod kernel;
mod registrar;
mod report;
mod scene;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::IpAddr;
use std::time::Instant;

use clap::ValueEnum;
use filter_user::clock::KernelTime;
use filter_user::config::Config;
use serde::{Deserialize, Serialize};

use self::attacks::Attack;
use self::exchange::Network;
use self::good::{Phone, Trunk};
use self::host::Host;
pub use self::report::Report;
use crate::chance::Chance;
use crate::interrupt;
use crate::screen::Screen;

/// What the daemon hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Hears {
    /// The NOTICE log.
    Log,
    /// The same, and the responses on the wire.
    Wire,
    /// The same, and AMI.
    All,
}

impl Hears {
    /// Its description.
    pub fn says(self) -> &'static str {
        match self {
            Self::Log => "the NOTICE log",
            Self::Wire => "the NOTICE log and the wire",
            Self::All => "the NOTICE log, the wire and AMI",
        }
    }
}

/// What to simulate.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The number of phones.
    pub phones: u32,
    /// The number of days.
    pub days: u32,
    /// What the daemon hears, one simulation for each.
    pub hears: Vec<Hears>,
    /// The settings of the daemon.
    pub config: Config,
}

impl Default for Settings {
    fn default() -> Self {
        let hears = vec![Hears::Log, Hears::Wire, Hears::All];
        Self { phones: 1000, days: 7, hears, config: Config::default() }
    }
}

/// A ban or a throttle.
#[derive(Clone, Debug)]
struct Decided {
    address: IpAddr,
    at: KernelTime,
    is_throttle: bool,
    reason: String,
    /// The source that reported the last failure.
    by: Option<String>,
}

/// Who sends.
enum Actor {
    Phone(Box<Phone>, Group),
    Trunk(Trunk),
    Attack(Box<Attack>),
    Reboot,
}

/// A kind of phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// Alone at its address.
    Alone,
    /// With others behind an address.
    Shared,
    /// The same, behind an address that is off at night and in whose name a forger sends.
    SharedForged,
    /// With another address each hour.
    Roaming,
    /// Registered only now and then, and attacked by forgers.
    Seldom,
    /// Alone, with an old password.
    OldPassword,
    /// Alone, with an old password that it tries every 30 seconds.
    OldPasswordOften,
    /// Behind an address with others, with an old password.
    OldPasswordShared,
    /// Behind an address with others that call one number after the other.
    CallCentre,
    /// The same, begun while the trunk refuses every call.
    NewCallCentre,
}

/// Simulates.
///
/// # Errors
///
/// If the run is interrupted.
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    let mut weeks = Vec::new();
    for hears in &settings.hears {
        let started = Instant::now();
        let (host, actors) = simulate(settings, *hears)?;
        let week = report::Week::new(*hears, &host, &actors, started.elapsed());
        screen.say(&format!(
            "  {}: {} packets in {:.0} s",
            hears.says(),
            week.packets,
            week.seconds
        ))?;
        weeks.push(week);
    }
    Ok(Report::new(settings, weeks))
}

/// Runs all actors to the end.
fn simulate(settings: &Settings, hears: Hears) -> anyhow::Result<(Host, Vec<Actor>)> {
    let (mut host, mut actors) = scene::build(settings, hears)?;
    let end = u64::from(settings.days) * scene::DAY;
    // The same each time.
    let mut chance = Chance::with_seed(1);
    let firsts = actors.iter().map(|(first, _)| *first).enumerate();
    let mut queue: BinaryHeap<Reverse<(u64, usize)>> =
        firsts.map(|(number, first)| Reverse((first, number))).collect();
    let mut turns = 0_u64;
    while let Some(Reverse((at, number))) = queue.pop() {
        if at >= end {
            break;
        }
        turns += 1;
        if turns.is_multiple_of(10_000) {
            interrupt::check()?;
        }
        let now = KernelTime(at);
        let mut network = Network { host: &mut host, chance: &mut chance, now };
        let next = match &mut actors[number].1 {
            Actor::Phone(phone, _) => phone.wake(&mut network),
            Actor::Trunk(trunk) => trunk.wake(&mut network),
            Actor::Attack(attack) => attack.wake(&mut network),
            Actor::Reboot => {
                host.reboot(now)?;
                u64::MAX
            }
        };
        queue.push(Reverse((next, number)));
    }
    Ok((host, actors.into_iter().map(|(_, actor)| actor).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two days of 40 phones, of which the second begins with a reboot.
    #[test]
    fn nobody_good_is_shut_out_and_every_attacker_is_seen() {
        let settings =
            Settings { phones: 40, days: 2, hears: vec![Hears::Wire], ..Settings::default() };
        let report = run(&settings, &mut Screen::new()).unwrap();
        assert!(report.targets_met(), "{}", report.text(crate::screen::Paint::PLAIN));
    }
}
