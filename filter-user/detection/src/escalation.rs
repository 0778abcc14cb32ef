//! The terms of a jail's ban decision: how long the ban lasts after earlier bans, and which networks
//! are banned too, because of their offenders.
//!
//! Determines the terms of a ban from the history. It reads no clock and no map, and its only random
//! numbers are those passed in.
//!
//! Must never count unproven failures, unless configured to.

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

/// The address of an offender, and the jail that banned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offender {
    /// The address.
    pub address: IpAddr,
    /// The jail's number.
    pub jail: u8,
}

/// The earlier bans that an administrator has decided no longer count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pardon {
    /// Those of addresses in this network; `None`: of all addresses.
    pub network: Option<IpNet>,
    /// Those by this jail; `None`: by all jails.
    pub jail: Option<u8>,
}

impl Pardon {
    /// Whether it applies to the bans of this offender.
    pub fn covers(&self, who: Offender) -> bool {
        self.network.is_none_or(|network| network.contains(&who.address))
            && self.jail.is_none_or(|jail| jail == who.jail)
    }
}

/// A ban that is about to begin.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its offender: the address and the jail.
    pub who: Offender,
    /// Whether the source of the failures cannot have been forged.
    pub proven: bool,
    /// Whether it replaces a ban in force, for failures that have since turned out to be proven: it is
    /// the same offence.
    pub again: bool,
}

/// Decides on the basis of earlier bans.
#[derive(Debug)]
pub struct Escalation {
    history: History,
    networks: ProvenOffenders,
    /// Returns a random number.
    chance: fn() -> u32,
}

impl Escalation {
    /// An escalation without any history.
    pub fn new(bounds: Bounds, networks: settings::Escalation, chance: fn() -> u32) -> Self {
        let networks = ProvenOffenders::new(networks, networks::OFFENDERS_MAX);
        Self { history: History::new(bounds), networks, chance }
    }

    /// The duration of a ban whose jail has this `bantime`, and its ordinal among the bans by this
    /// jail.
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
            // It was counted when it began as an unproven one.
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

    /// Records that the ban has begun, and lasts until `until`. Returns the offender's record.
    pub fn note(&mut self, case: Case, now: KernelTime, until: KernelTime) -> Record {
        if case.proven {
            self.networks.observe(case.who.address, now.into());
        }
        self.history.note(case, now, until)
    }

    /// The networks to be banned after a proven ban of this address, the widest first.
    pub fn candidates(&mut self, address: IpAddr, now: KernelTime) -> Vec<Candidate> {
        self.networks.candidates(address, now)
    }

    /// Records that a network cannot be banned.
    pub fn spare(&mut self, network: IpNet, now: KernelTime) {
        self.networks.spare(network, now);
    }

    /// The offenders for whom networks are banned.
    pub fn networks(&self) -> &ProvenOffenders {
        &self.networks
    }

    /// The history of bans.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Adds records from the store. Returns those that now contain more than the store has.
    pub fn load(
        &mut self,
        kept: Vec<(Offender, Record)>,
        now: KernelTime,
    ) -> Vec<(Offender, Record)> {
        for (who, record) in &kept {
            if let Some(at) = record.last_proven {
                self.networks.observe(who.address, at);
            }
        }
        self.history.load(kept, now)
    }

    /// Forgets the earlier bans that a pardon applies to.
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

    /// The durations, in hours, of successive bans.
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
    fn unproven_bans_neither_grow_nor_count() {
        let mixed = [case(0, true), case(0, false), case(0, true), case(0, false), case(0, true)];
        assert_eq!(terms(&on(), &mixed), [1, 1, 2, 1, 4]);
        let increment = Increment { unproven: true, ..on() };
        assert_eq!(terms(&increment, &mixed), [1, 2, 4, 8, 16]);
    }

    #[test]
    fn jails_count_separately_unless_configured_otherwise() {
        let mixed = [case(0, true), case(1, true), case(0, true), case(1, true)];
        assert_eq!(terms(&on(), &mixed), [1, 1, 2, 2]);
        let increment = Increment { overalljails: true, ..on() };
        assert_eq!(terms(&increment, &mixed), [1, 2, 4, 8]);
    }

    #[test]
    fn a_ban_that_is_proven_later_counts_once() {
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

    /// What the store has is added to the bans that began before it was read.
    #[test]
    fn bans_that_are_loaded_count_with_those_noted_before() {
        let who = case(0, true).who;
        let of = |bans, hour| Record {
            bans,
            proven: bans,
            last: at(hour).into(),
            until: at(hour + 1).into(),
            last_proven: Some(at(hour).into()),
        };
        let mut escalation = escalation();
        assert!(escalation.history().is_empty());
        escalation.note(case(0, true), at(5), at(6));
        let other = Offender { jail: 1, ..who };
        let more = escalation.load(vec![(who, of(2, 1)), (other, of(1, 1))], at(5));
        assert_eq!(more, [(who, Record { bans: 3, proven: 3, ..of(3, 5) })]);
        assert_eq!(escalation.term(case(0, true), HOUR, &on(), at(7)), (8 * HOUR, 4));
        assert!(escalation.history().len() == 2 && !escalation.history().is_empty());
        assert!(escalation.history().has_proven(who.address));
    }

    #[test]
    fn offenders_that_are_loaded_count_for_their_network() {
        let networks = settings::Escalation { enabled: true, ..settings::Escalation::default() };
        let bounds = Bounds { capacity: 1000, remember: Duration::from_hours(240) };
        let mut escalation = Escalation::new(bounds, networks, || 0);
        let offenders = u8::try_from(escalation.networks().settings().ipv4.offenders).unwrap();
        let record = |last_proven| Record {
            bans: 1,
            proven: 1,
            last: at(0).into(),
            until: at(1).into(),
            last_proven,
        };
        let of = |last| Offender { address: IpAddr::from([203, 0, 113, last]), jail: 0 };
        let mut found = |last, proven: bool| {
            escalation.load(vec![(of(last), record(proven.then(|| at(0).into())))], at(0));
            escalation.candidates(of(last).address, at(0)).len()
        };
        assert!((1..offenders).all(|last| found(last, true) == 0));
        assert_eq!((found(100, false), found(101, true)), (0, 1));
    }

    #[test]
    fn old_bans_no_longer_count() {
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

    #[test]
    fn a_network_is_no_candidate_if_it_was_spared_or_its_offenders_pardoned() {
        let networks = settings::Escalation { enabled: true, ..settings::Escalation::default() };
        let bounds = Bounds { capacity: 1000, remember: Duration::from_hours(240) };
        let of = |last| Case {
            who: Offender { address: IpAddr::from([203, 0, 113, last]), jail: 0 },
            ..case(0, true)
        };
        let noted = || {
            let mut escalation = Escalation::new(bounds, networks.clone(), || 0);
            for last in 1..=4 {
                escalation.note(of(last), at(1), at(2));
            }
            escalation
        };
        let candidates = |escalation: &mut Escalation| {
            let found = escalation.candidates(of(1).who.address, at(1));
            found.into_iter().map(|candidate| candidate.network.to_string()).collect::<Vec<_>>()
        };
        let network = "203.0.113.0/24";
        assert_eq!(candidates(&mut noted()), [network]);
        assert_eq!(noted().networks().settings(), &networks);
        assert!(!noted().networks().is_empty());
        let mut escalation = noted();
        escalation.spare(network.parse().unwrap(), at(1));
        assert!(candidates(&mut escalation).is_empty());
        // Without the bans of a jail, none of them is an offender.
        for (jail, network) in [(Some(0), None), (None, Some(network.parse().unwrap()))] {
            let mut escalation = noted();
            escalation.pardon(Pardon { network, jail });
            assert!(candidates(&mut escalation).is_empty() && escalation.networks().is_empty());
        }
        let mut escalation = noted();
        escalation.pardon(Pardon { network: None, jail: Some(1) });
        assert_eq!(candidates(&mut escalation), [network]);
    }

    #[test]
    fn only_a_proven_ban_is_a_proven_ban() {
        let mut escalation = escalation();
        let who = case(0, true).who;
        let proven = |escalation: &Escalation| escalation.history().has_proven(who.address);
        assert!(!proven(&escalation));
        escalation.note(case(0, false), at(1), at(2));
        assert!(!proven(&escalation));
        escalation.note(case(3, true), at(1), at(2));
        assert!(proven(&escalation));
    }
}
