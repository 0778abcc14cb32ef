//! What becomes of a jail's decision: how long the ban lasts, by those before it, and which networks are
//! banned with it, by their offenders.
//!
//! History and time in, terms of bans out. No clock, no map, and no chance but the one that is given.

mod history;
mod increment;
mod networks;

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

pub use self::history::{Bounds, History, Record};
pub use self::increment::term;
pub use self::networks::{Candidate, ProvenOffenders};
use crate::clock::KernelTime;
use crate::settings::{self, Increment};

/// Who was banned, and by which jail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offender {
    /// The address.
    pub address: IpAddr,
    /// The jail's number.
    pub jail: u8,
}

/// Whose earlier bans count no longer, by an administrator's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pardon {
    /// Those of the addresses in this network; `None`: of all.
    pub network: Option<IpNet>,
    /// Those by this jail; `None`: by all.
    pub jail: Option<u8>,
}

impl Pardon {
    /// Whether it is for the bans of this one.
    pub fn covers(&self, who: Offender) -> bool {
        self.network.is_none_or(|network| network.contains(&who.address))
            && self.jail.is_none_or(|jail| jail == who.jail)
    }
}

/// A ban that is to be.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Of whom, by which jail.
    pub who: Offender,
    /// Whether the source of the failures cannot have been forged.
    pub proven: bool,
    /// Whether it takes the place of one that is in force, for failures that have turned out to be
    /// proven since: it is the same offence.
    pub again: bool,
}

/// Decides by what was before.
#[derive(Debug)]
pub struct Escalation {
    history: History,
    networks: ProvenOffenders,
    /// A number as good as any other.
    chance: fn() -> u32,
}

impl Escalation {
    /// One that knows of nobody yet.
    pub fn new(bounds: Bounds, networks: settings::Escalation, chance: fn() -> u32) -> Self {
        let networks = ProvenOffenders::new(networks, networks::OFFENDERS_MAX);
        Self { history: History::new(bounds), networks, chance }
    }

    /// How long a ban is to last that would be of `bantime`, and the how many-th of this jail it is.
    pub fn term(
        &self,
        case: Case,
        bantime: Duration,
        increment: &Increment,
        now: KernelTime,
    ) -> (Duration, u32) {
        let Case { who, proven, again } = case;
        let total = |over_all| {
            let sum = self.history.total(who, over_all, now);
            // This one was counted when it came as an unproven one.
            (sum.bans.saturating_sub(again.into()), sum.proven)
        };
        let (bans, proven_bans) = total(increment.overalljails);
        let earlier = match (increment.unproven, proven) {
            (true, _) => bans,
            (false, true) => proven_bans,
            (false, false) => 0,
        };
        let (own, _) = total(false);
        (term(bantime, increment, earlier, (self.chance)()), own.saturating_add(1))
    }

    /// Notes that the ban has come, and lasts until then. Returns what is known of its offender now.
    pub fn note(&mut self, case: Case, now: KernelTime, until: KernelTime) -> Record {
        if case.proven {
            self.networks.hear(case.who.address, now.into());
        }
        self.history.note(case, now, until)
    }

    /// The networks that are to be banned after a ban of this address that is proven, the widest first.
    pub fn candidates(&mut self, address: IpAddr, now: KernelTime) -> Vec<Candidate> {
        self.networks.candidates(address, now)
    }

    /// Notes that a network cannot be banned.
    pub fn spare(&mut self, network: IpNet, now: KernelTime) {
        self.networks.spare(network, now);
    }

    /// The offenders of whom networks are banned.
    pub fn networks(&self) -> &ProvenOffenders {
        &self.networks
    }

    /// What there is of earlier bans.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Adds what was kept. Returns what is more now than was kept.
    pub fn load(
        &mut self,
        kept: Vec<(Offender, Record)>,
        now: KernelTime,
    ) -> Vec<(Offender, Record)> {
        for (who, record) in &kept {
            if let Some(at) = record.last_proven {
                self.networks.hear(who.address, at);
            }
        }
        self.history.load(kept, now)
    }

    /// Forgets.
    pub fn pardon(&mut self, pardon: Pardon) {
        self.history.pardon(pardon);
        let Self { history, networks, .. } = self;
        networks.retain(pardon.network, |address| history.has_proven(address));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn at(hours: u64) -> KernelTime {
        KernelTime(hours * 3_600_000_000_000)
    }

    fn case(jail: u8, proven: bool) -> Case {
        let who = Offender { address: IpAddr::from([203, 0, 113, 7]), jail };
        Case { who, proven, again: false }
    }

    fn escalation() -> Escalation {
        let bounds = Bounds { capacity: 10, remember: Duration::from_hours(240) };
        Escalation::new(bounds, settings::Escalation::default(), || 1 << 31)
    }

    fn on() -> Increment {
        Increment { enabled: true, ..Increment::OFF }
    }

    /// The terms, in hours, of bans that come one after the other.
    fn terms(increment: &Increment, cases: &[Case]) -> Vec<u64> {
        let mut escalation = escalation();
        let each = cases.iter().zip(1..).map(|(case, hour)| {
            let (time, _) = escalation.term(*case, HOUR, increment, at(hour));
            escalation.note(*case, at(hour), at(hour).after(time));
            time.as_secs() / 3600
        });
        each.collect()
    }

    #[test]
    fn each_proven_ban_is_twice_as_long() {
        assert_eq!(terms(&on(), &[case(0, true); 5]), [1, 2, 4, 8, 16]);
        assert_eq!(terms(&Increment::OFF, &[case(0, true); 3]), [1, 1, 1]);
    }

    #[test]
    fn what_can_be_forged_neither_grows_nor_counts() {
        let mixed = [case(0, true), case(0, false), case(0, true), case(0, false), case(0, true)];
        assert_eq!(terms(&on(), &mixed), [1, 1, 2, 1, 4]);
        let increment = Increment { unproven: true, ..on() };
        assert_eq!(terms(&increment, &mixed), [1, 2, 4, 8, 16]);
    }

    #[test]
    fn jails_count_by_themselves_unless_told_otherwise() {
        let mixed = [case(0, true), case(1, true), case(0, true), case(1, true)];
        assert_eq!(terms(&on(), &mixed), [1, 1, 2, 2]);
        let increment = Increment { overalljails: true, ..on() };
        assert_eq!(terms(&increment, &mixed), [1, 2, 4, 8]);
    }

    #[test]
    fn a_ban_that_is_proven_late_is_one_ban() {
        let late = Case { again: true, ..case(0, true) };
        for increment in [on(), Increment { unproven: true, ..on() }] {
            let cases = [case(0, false), late, case(0, false), late];
            let unproven = if increment.unproven { 2 } else { 1 };
            assert_eq!(terms(&increment, &cases), [1, 1, unproven, 2]);
        }
        let mut escalation = escalation();
        escalation.note(case(0, false), at(1), at(2));
        assert_eq!(escalation.term(late, HOUR, &on(), at(1)).1, 1);
        let record = escalation.note(late, at(1), at(2));
        assert_eq!((record.bans, record.proven), (1, 1));
        assert_eq!(escalation.term(case(0, true), HOUR, &on(), at(3)).1, 2);
    }

    #[test]
    fn what_is_long_ago_counts_no_longer() {
        let mut escalation = escalation();
        escalation.note(case(0, true), at(1), at(5));
        let term = |escalation: &Escalation, hour| {
            escalation.term(case(0, true), HOUR, &on(), at(hour)).0 / 3600
        };
        assert_eq!(term(&escalation, 244), Duration::from_secs(2));
        assert_eq!(term(&escalation, 245), Duration::from_secs(1));
        escalation.pardon(Pardon { network: None, jail: Some(1) });
        assert_eq!(term(&escalation, 6), Duration::from_secs(2));
        let network = Some("203.0.113.0/24".parse().unwrap());
        escalation.pardon(Pardon { network, jail: None });
        assert_eq!(term(&escalation, 6), Duration::from_secs(1));
    }
}
