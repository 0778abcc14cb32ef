//! Access to the kernel, and the only user of aya: writes bans and settings, reads counters and events.
//!
//! It decides nothing.
//!
//! | module | does |
//! |---|---|
//! | `port` | the daemon's interface to the kernel: the trait [`Datapath`] and its types |
//! | `kernel` | [`Kernel`]: opens, writes and reads the maps, and monitors the interfaces |
//! | `peers` | the maps of known peers |
//! | `reuse` | the pinned maps of an earlier daemon |
//! | `settings`, `configure`, `config_map` | the settings, their form for the program, and the switch to them |
//! | `bans`, `trust`, `crowds`, `geo` | the maps of bans, of trusted networks, of counts of known peers, and of countries |
//! | `attach`, `egress`, `programs` | the XDP program and the classifier on an interface |
//! | `pins`, `detach`, `disable`, `beat` | the directory of pins, and its removal; the switch to pass all; the heartbeat |
//! | `pinned`, `floods` | the pinned maps while no controller runs; lifts the program's own bans |
//! | `visits` | which networks use which ports |
//! | `network`, `netlink`, `sockets` | the host's interfaces, routes and listening sockets |
//! | `batch`, `mapped`, `unread` | reading of whole maps; maps in memory; failed reads |
//! | `capture` | packets that the program has judged |
//! | `events`, `clock`, `clocks`, `requirements` | the program's events; the kernel's clocks; missing requirements |

mod attach;
mod bans;
pub mod batch;
mod beat;
pub mod capture;
pub mod clock;
pub mod clocks;
pub mod config_map;
mod configure;
mod counters;
mod crowds;
mod detach;
mod disable;
mod egress;
mod events;
mod floods;
mod geo;
mod guard;
mod kernel;
mod mapped;
mod netlink;
mod network;
mod object;
mod peers;
mod pinned;
mod pins;
mod port;
mod programs;
mod requirements;
mod reuse;
pub mod settings;
mod slots;
mod sockets;
#[cfg(feature = "trace")]
pub mod trace;
mod trust;
mod unread;
mod visits;

pub use self::beat::{LastBeat, last_beat};
pub use self::configure::limits;
pub use self::detach::detach_all;
pub use self::disable::disable;
pub use self::events::{Events, Limited, Responses};
pub use self::geo::{GeoMode, GeoTable};
pub use self::kernel::{Kernel, Locked, Opened};
pub use self::mapped::Memory;
pub use self::network::Network;
pub use self::object::OBJECT;
pub use self::pinned::{Owned, Pinned, own};
pub use self::pins::{InUse, check_place, mount_bpffs, protected};
pub use self::port::{
    ClosedSip, Count, Datapath, Exchange, Interface, InterfaceCounters, KnownPeer, Mode,
};
pub use self::settings::Settings;
pub use self::sockets::{Connection, Socket, connections, listening};
pub use self::visits::{PortVisits, Uses, closed, visits};
pub use tables::{ban_cache, ban_table, gates};
