//! A ban, and the ledger of those in force.

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
pub use crate::settings::RESERVED;

/// The origin of a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// `ringfence ban`: a manual ban.
    Hand,
    /// A jail, by its number in the [`Roster`].
    Jail(u8),
    /// Escalation, because of the offenders in a network.
    Escalation,
    /// The kernel, because of a flood.
    Flood,
}

impl Origin {
    /// The number in the kernel's entry.
    pub fn number(self) -> u8 {
        match self {
            Self::Hand => 0,
            Self::Jail(place) => place.saturating_add(1).min(Self::ESCALATION - 1),
            Self::Escalation => Self::ESCALATION,
            Self::Flood => Self::FLOOD,
        }
    }

    /// The inverse of [`number`](Self::number).
    pub fn from_number(number: u8) -> Self {
        match number {
            0 => Self::Hand,
            Self::FLOOD => Self::Flood,
            Self::ESCALATION => Self::Escalation,
            number => Self::Jail(number - 1),
        }
    }

    /// A jail whose name is no longer known.
    pub const UNKNOWN: Self = Self::Jail(Self::ESCALATION - 2);

    const FLOOD: u8 = u8::MAX;
    const ESCALATION: u8 = Self::FLOOD - 1;
}

/// A ban: one decision about one address or network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// One address, as `/32` or `/128`, or a network.
    pub network: IpNet,
    /// What it closes.
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

    /// The address, if it is of a single one.
    pub fn address(&self) -> Option<IpAddr> {
        let is_address = self.network.prefix_len() == self.network.max_prefix_len();
        is_address.then(|| self.network.addr())
    }
}

/// A ban and why. There may be a million: a copy shares what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The ban.
    pub ban: Ban,
    /// Why, in words.
    pub reason: Arc<str>,
    details: Option<Arc<Details>>,
}

/// What few bans have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Details {
    except: Vec<IpNet>,
    evidence: Vec<Evidence>,
}

impl Entry {
    /// A ban of the whole network, on no evidence.
    pub fn new(ban: Ban, reason: impl Into<Arc<str>>) -> Self {
        Self { ban, reason: reason.into(), details: None }
    }

    /// Networks inside it that it leaves out.
    pub fn except(&self) -> &[IpNet] {
        self.details.as_deref().map_or(&[], |details| &details.except)
    }

    /// The failures behind it, the last ones last, as far as they are remembered here.
    pub fn evidence(&self) -> &[Evidence] {
        self.details.as_deref().map_or(&[], |details| &details.evidence)
    }

    /// The same with these exceptions.
    #[must_use]
    pub fn with_except(self, except: Vec<IpNet>) -> Self {
        let evidence = self.evidence().to_vec();
        self.with(Details { except, evidence })
    }

    /// The same on this evidence.
    #[must_use]
    pub fn with_evidence(self, evidence: Vec<Evidence>) -> Self {
        let except = self.except().to_vec();
        self.with(Details { except, evidence })
    }

    fn with(mut self, details: Details) -> Self {
        self.details = (details != Details::default()).then(|| Arc::new(details));
        self
    }

    /// What it is known by: one decision of each about each scope of a network.
    pub fn key(&self) -> Key {
        (self.ban.network, self.ban.origin, self.ban.scope)
    }
}

/// The reason of a ban that only the kernel had.
pub const ADOPTED: &str = "in force before the daemon started";

/// A ban's place among the bans.
pub type Key = (IpNet, Origin, Scope);

/// Scopes that are closed together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scopes(u8);

impl Scopes {
    /// With this one too.
    #[must_use]
    pub fn and(self, scope: Scope) -> Self {
        Self(self.0 | 1_u8.checked_shl(scope.bit().into()).unwrap_or(0))
    }

    /// Those of them that `other` does not have.
    #[must_use]
    pub fn beyond(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether this one is among them.
    pub fn contains(self, scope: Scope) -> bool {
        self.and(scope) == self
    }

    /// Each of them.
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
    /// What is closed to it.
    pub scopes: Scopes,
    /// Whose ban ends last.
    pub origin: Origin,
    /// When the first of them began.
    pub since: KernelTime,
    /// When the last of them ends; `None`: never.
    pub until: Option<KernelTime>,
}

/// What the kernel holds against a network. Its address lookup takes the longest one around an
/// address, and looks at no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NetworkEntry {
    /// The network; a single address too, where that is a hole.
    pub network: IpNet,
    /// What is closed to it, and until when: nothing at all for a hole.
    pub ends: Ends,
    /// Whose ban of exactly this network ends last.
    pub origin: Origin,
    /// When the first of them began.
    pub since: KernelTime,
}

/// The kernel's entries when a daemon starts.
#[derive(Clone, Debug, Default)]
pub struct InForce {
    /// Against addresses.
    pub addresses: Vec<AddressEntry>,
    /// Against networks.
    pub networks: Vec<NetworkEntry>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_numbers() {
        for origin in
            [Origin::Hand, Origin::Jail(0), Origin::Jail(7), Origin::Escalation, Origin::Flood]
        {
            assert_eq!(Origin::from_number(origin.number()), origin);
        }
    }

    #[test]
    fn scopes_are_a_mask() {
        let scopes = Scopes::default().and(Scope::Sip).and(Scope::Ports(2)).and(Scope::All);
        assert_eq!(scopes.mask(), 0b1000_0101);
        assert_eq!(Scopes::from_mask(0b1100_0101), scopes);
        let each: Vec<Scope> = scopes.iter().collect();
        assert_eq!(each, [Scope::Sip, Scope::Ports(2), Scope::All]);
    }
}
