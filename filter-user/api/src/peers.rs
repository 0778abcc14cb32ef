//! The known peers, as `peers` lists them.

use std::net::IpAddr;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The maximum length of a page.
pub const PEERS_MAX: usize = 256;

/// A page of the known peers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct PeersPage {
    /// The peers, by address.
    pub peers: Vec<Peer>,
    /// The value of `after` for the next page; null on the last page.
    pub next: Option<IpAddr>,
}

/// A known peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Peer {
    /// Its address.
    pub address: IpAddr,
    /// When it is forgotten unless it proves itself again.
    pub until: String,
    /// Packets from it that passed to SIP.
    pub passed: u64,
}
