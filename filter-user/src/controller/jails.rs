//! The jails in a fixed order, with the names and numbers of their bans, and the length of a source.

use std::sync::Arc;

use api::{ErrorId, Refusal};

use super::Controller;
use crate::ban::{Origin, RESERVED, Roster};
use crate::config::Config;
use crate::datapath::Datapath;
use crate::jail::Jail;
use crate::prefix::SourcePrefix;

/// The jails. Each has a place that never changes.
pub(super) struct Jails {
    all: Vec<Jail>,
    /// How the source of an address is determined.
    pub(super) prefix: SourcePrefix,
    /// The names and numbers of the jails.
    pub(super) roster: Arc<Roster>,
}

impl Jails {
    /// The jails of a configuration, which `roster` names.
    pub(super) fn new(config: &Config, roster: Arc<Roster>) -> Self {
        let capacity = usize::try_from(config.capacity.watched).unwrap_or(usize::MAX);
        let names = roster.names();
        let all = names.iter().filter_map(|name| config.jails.get_key_value(name));
        let all = all.map(|(name, settings)| Jail::new(name, settings.clone(), capacity)).collect();
        Self { all, prefix: SourcePrefix::ipv6(config.ipv6_prefix), roster }
    }

    /// The number of jails.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The place of the jail with this name.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|jail| jail.name() == name)
    }

    /// The jail at this place.
    pub(super) fn get(&self, place: usize) -> Option<&Jail> {
        self.all.get(place)
    }

    /// The jail at this place.
    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut Jail> {
        self.all.get_mut(place)
    }

    /// All of them, in the order of their places.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Jail> {
        self.all.iter()
    }

    /// All of them, in the order of their places.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Jail> {
        self.all.iter_mut()
    }
}

impl<D: Datapath> Controller<D> {
    /// How many bans of this origin are in force.
    pub(super) fn banned_by(&self, origin: Origin) -> u64 {
        self.bans.ledger().count(origin) as u64
    }

    /// The origin of the bans of a jail, or of another origin such as `manual`, by its name in `bans`.
    pub(super) fn origin(&self, name: &str) -> Result<Origin, Refusal> {
        self.jails.roster.origin(name).ok_or_else(|| {
            let names = self.jails.roster.names().join(", ");
            let others = RESERVED.join(", ");
            let why = format!("there is no jail `{name}`; there are {names}, {others}");
            Refusal::new(ErrorId::NotFound, why)
        })
    }

    /// The origin of the bans by a jail.
    pub(super) fn origin_of(&self, jail: &str) -> Origin {
        self.jails.roster.origin(jail).unwrap_or(Origin::UNKNOWN)
    }

    /// The name of the jail, or of another origin of a ban.
    pub(super) fn jail_name(&self, origin: Origin) -> &'static str {
        self.jails.roster.name(origin)
    }
}
