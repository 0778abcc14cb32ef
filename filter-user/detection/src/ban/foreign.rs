//! Bans of another program, as far as they can be imported.

use ipnet::IpNet;
use jiff::Timestamp;

/// A ban of another program that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Banned {
    /// The jail, by its name in that program.
    pub jail: String,
    /// The address or network.
    pub network: IpNet,
    /// When it ends; `None`: never.
    pub until: Option<Timestamp>,
}

/// The contents of the other program's database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bans {
    /// The bans in force, by jail and address.
    pub in_force: Vec<Banned>,
    /// Entries without an address or network, such as names of users, or with an impossible time.
    pub unreadable: usize,
}
