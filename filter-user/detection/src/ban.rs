//! A ban, and the ledger of those in force.
//!
//! Must never know how a map works.

mod ends;
pub mod foreign;
mod ledger;
pub mod networks;
mod roster;

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::clock::{KernelTime, Moment};
use crate::failure::Evidence;
use crate::settings::Scope;

pub use self::ends::Ends;
pub use self::ledger::last_to_end;
pub use self::ledger::{Ledger, Reconciled, Write};
pub use self::roster::Roster;
pub use crate::settings::{FEEDS_MAX, RESERVED};

/// The origin of a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// `ringfence ban`: a manual ban.
    Manual,
    /// A jail, by its number in the [`Roster`].
    Jail(u8),
    /// Escalation, because of the offenders in a network.
    Escalation,
    /// The kernel, because of a flood.
    Flood,
    /// A list that others have published, by its number in the [`Roster`].
    Feed(u8),
    /// Another host of the fleet.
    Fleet,
}

impl Origin {
    /// The number in the kernel's entry.
    pub fn number(self) -> u8 {
        match self {
            Self::Manual => 0,
            Self::Jail(place) => place.saturating_add(1).min(Self::ESCALATION - 1),
            Self::Feed(place) => Self::FEEDS + place.min(FEEDS_LAST),
            Self::Fleet => Self::FLEET,
            Self::Escalation => Self::ESCALATION,
            Self::Flood => Self::FLOOD,
        }
    }

    /// The inverse of [`number`](Self::number).
    pub fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Manual,
            Self::FLOOD => Self::Flood,
            Self::ESCALATION => Self::Escalation,
            Self::FLEET => Self::Fleet,
            number @ Self::FEEDS..=Self::LAST_FEED => Self::Feed(number - Self::FEEDS),
            number => Self::Jail(number - 1),
        }
    }

    /// A jail whose name is no longer known.
    pub const UNKNOWN: Self = Self::Jail(Self::ESCALATION - 2);

    const FLOOD: u8 = u8::MAX;
    const ESCALATION: u8 = Self::FLOOD - 1;
    const LAST_FEED: u8 = Self::ESCALATION - 2;
    const FEEDS: u8 = Self::LAST_FEED - FEEDS_LAST;
    const FLEET: u8 = Self::FEEDS - 1;
}

/// The last place of a feed.
#[expect(clippy::cast_possible_truncation, reason = "it is 15")]
const FEEDS_LAST: u8 = FEEDS_MAX as u8 - 1;

/// A ban: one decision about one address or network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// One address, as `/32` or `/128`, or a network.
    pub network: IpNet,
    /// The scope that it closes.
    pub scope: Scope,
    /// Its origin.
    pub origin: Origin,
    /// When it began.
    pub since: Moment,
    /// When it ends by itself; `None`: never.
    pub until: Option<KernelTime>,
}

impl Ban {
    /// Whether it is still in force.
    pub fn in_force(&self, now: KernelTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// The address, if it is a ban of a single one.
    pub fn address(&self) -> Option<IpAddr> {
        let is_address = self.network.prefix_len() == self.network.max_prefix_len();
        is_address.then(|| self.network.addr())
    }
}

/// A ban and its reason. There may be a million of them, so copies share their data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The ban.
    pub ban: Ban,
    /// The reason, in words.
    pub reason: Arc<str>,
    details: Option<Arc<Details>>,
}

/// Data that few bans have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Details {
    except: Vec<IpNet>,
    evidence: Vec<Evidence>,
}

impl Entry {
    /// A ban of the whole network, without evidence.
    pub fn new(ban: Ban, reason: impl Into<Arc<str>>) -> Self {
        Self { ban, reason: reason.into(), details: None }
    }

    /// Networks inside it to which it does not apply.
    pub fn except(&self) -> &[IpNet] {
        self.details.as_deref().map_or(&[], |details| &details.except)
    }

    /// The failures that led to it, in order, as far as they are remembered here.
    pub fn evidence(&self) -> &[Evidence] {
        self.details.as_deref().map_or(&[], |details| &details.evidence)
    }

    /// The same ban with these exceptions.
    #[must_use]
    pub fn with_except(self, except: Vec<IpNet>) -> Self {
        let evidence = self.evidence().to_vec();
        self.with(Details { except, evidence })
    }

    /// The same ban with this evidence.
    #[must_use]
    pub fn with_evidence(self, evidence: Vec<Evidence>) -> Self {
        let except = self.except().to_vec();
        self.with(Details { except, evidence })
    }

    fn with(mut self, details: Details) -> Self {
        self.details = (details != Details::default()).then(|| Arc::new(details));
        self
    }

    /// Its key: an origin has at most one ban of each scope of a network.
    pub fn key(&self) -> Key {
        (self.ban.network, self.ban.origin, self.ban.scope)
    }
}

/// The reason of a ban that only the kernel had.
pub const ADOPTED: &str = "in force before the daemon started";

/// A ban's key among the bans.
pub type Key = (IpNet, Origin, Scope);

/// Scopes that are closed together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// These scopes and this one.
    #[must_use]
    pub fn and(self, scope: Scope) -> Self {
        Self(self.0 | 1_u8.checked_shl(scope.bit().into()).unwrap_or(0))
    }

    /// Those of them that are not in `other`.
    #[must_use]
    pub fn beyond(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether this scope is among them.
    pub fn contains(self, scope: Scope) -> bool {
        self.and(scope) == self
    }

    /// Each of the scopes.
    pub fn iter(self) -> impl Iterator<Item = Scope> {
        (0..8).filter_map(Scope::from_bit).filter(move |scope| self.contains(*scope))
    }

    /// The kernel's mask: bit [`Scope::bit`] for each.
    pub fn mask(self) -> u8 {
        self.0
    }

    /// The inverse of [`mask`](Self::mask); bits that stand for no scope are left out.
    pub fn from_mask(mask: u8) -> Self {
        Self(mask).iter().fold(Self::default(), Self::and)
    }
}

/// The kernel's entry of one address, which combines all its bans.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressEntry {
    /// The address.
    pub address: IpAddr,
    /// The scopes that are closed to it.
    pub scopes: Scopes,
    /// The origin of the ban that ends last.
    pub origin: Origin,
    /// When the first of these bans began.
    pub since: KernelTime,
    /// When the last of these bans ends; `None`: never.
    pub until: Option<KernelTime>,
}

/// The kernel's entry of a network. The kernel's lookup finds the longest prefix around an address, and
/// considers no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkEntry {
    /// The network, which for an exception can be a single address.
    pub network: IpNet,
    /// The scopes that it closes, and until when; none at all for an exception.
    pub ends: Ends,
    /// The origin of the last ban of exactly this network to end.
    pub origin: Origin,
    /// When the first of these bans began.
    pub since: KernelTime,
}

/// The kernel's entries when the daemon starts.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// The entries of addresses.
    pub addresses: Vec<AddressEntry>,
    /// The entries of networks.
    pub networks: Vec<NetworkEntry>,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn origins_have_numbers() {
        for origin in
            [Origin::Manual, Origin::Jail(0), Origin::Jail(7), Origin::Escalation, Origin::Flood]
                .into_iter()
                .chain([Origin::Jail(234), Origin::UNKNOWN, Origin::Feed(0), Origin::Feed(15)])
                .chain([Origin::Fleet])
        {
            assert_eq!(Origin::from_number(origin.number()), origin);
        }
        let numbers: BTreeSet<u8> = (0..=15)
            .map(Origin::Feed)
            .chain([Origin::UNKNOWN, Origin::Jail(234), Origin::Fleet])
            .map(Origin::number)
            .collect();
        assert_eq!(numbers.len(), 19, "{numbers:?}");
    }

    #[test]
    fn every_number_of_the_kernel_is_an_origin() {
        for number in 0..=u8::MAX {
            assert_eq!(Origin::from_number(number).number(), number);
        }
        // A jail or feed beyond the last number gets the last one of its kind.
        for place in 252..=u8::MAX {
            assert_eq!(Origin::from_number(Origin::Jail(place).number()), Origin::UNKNOWN);
        }
        for place in [15, 16, u8::MAX] {
            assert_eq!(Origin::from_number(Origin::Feed(place).number()), Origin::Feed(15));
        }
    }

    fn ban(network: &str, until: Option<u64>) -> Ban {
        let (network, until) = (network.parse().unwrap(), until.map(KernelTime));
        Ban { network, scope: Scope::Sip, origin: Origin::Manual, since: Moment(0), until }
    }

    #[test]
    fn a_ban_is_in_force_until_its_end() {
        let in_force = |until, now| ban("192.0.2.1/32", until).in_force(KernelTime(now));
        assert_eq!([9, 10, 11].map(|now| in_force(Some(10), now)), [true, false, false]);
        assert!(in_force(None, u64::MAX));
    }

    #[test]
    fn the_ban_of_a_single_address_names_it() {
        let address = |network| ban(network, None).address().map(|address| address.to_string());
        assert_eq!(address("192.0.2.1/32").as_deref(), Some("192.0.2.1"));
        assert_eq!(address("2001:db8::/128").as_deref(), Some("2001:db8::"));
        assert_eq!((address("192.0.2.0/31"), address("2001:db8::/32")), (None, None));
    }

    #[test]
    fn exceptions_and_evidence_are_kept_beside_each_other() {
        let entry = Entry::new(ban("192.0.2.0/24", None), "why");
        let except: Vec<IpNet> = vec!["192.0.2.7/32".parse().unwrap()];
        let evidence = vec![Evidence {
            source: "log",
            at: Moment(0),
            address: None,
            class: crate::failure::Class::Login,
            account: None,
            proven: true,
        }];
        let both = entry.clone().with_except(except.clone()).with_evidence(evidence.clone());
        assert_eq!((both.except(), both.evidence()), (&except[..], &evidence[..]));
        assert_eq!(entry.clone().with_evidence(evidence).with_except(except), both);
        assert_eq!(both.with_except(Vec::new()).with_evidence(Vec::new()), entry);
    }

    #[test]
    fn scopes_are_compared_one_by_one() {
        let (none, sip) = (Scopes::default(), Scopes::default().and(Scope::Sip));
        let both = sip.and(Scope::All);
        assert_eq!((sip.and(Scope::Sip), both.and(Scope::Sip)), (sip, both));
        assert_eq!((both.beyond(sip), sip.beyond(both)), (none.and(Scope::All), none));
        assert!(both.contains(Scope::Sip) && !both.contains(Scope::Ports(1)));
    }

    #[test]
    fn scopes_are_a_mask() {
        let scopes = Scopes::default().and(Scope::Sip).and(Scope::Ports(2)).and(Scope::All);
        assert_eq!(scopes.mask(), 0b1000_0101);
        assert_eq!(Scopes::from_mask(0b1100_0101), scopes.and(Scope::Throttle));
        let each: Vec<Scope> = scopes.iter().collect();
        assert_eq!(each, [Scope::Sip, Scope::Ports(2), Scope::All]);
    }
}
