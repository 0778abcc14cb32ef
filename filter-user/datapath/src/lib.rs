//! The way into the kernel, and the only user of aya: bans and settings enter, counters and events leave.
//!
//! It decides nothing.
//!
//! | module | does |
//! |---|---|
//! | `port` | what the daemon wants of the kernel: the trait [`Datapath`] and what it is asked and answers |
//! | `kernel` | [`Kernel`]: the maps opened, written and read, the interfaces looked after |
//! | `reuse` | what an earlier daemon left pinned |
//! | `settings`, `configure`, `config_map` | the settings, as the program reads them, switched as a whole |
//! | `bans`, `trust`, `crowds` | one kind of maps each, with `ban_table` and `gates` of the crate `tables` |
//! | `attach`, `egress`, `programs` | the XDP program and the classifier on an interface |
//! | `pins`, `detach`, `disable`, `beat` | the directory of pins, and its end; the switch that lets everything pass; the sign of life |
//! | `network`, `netlink` | the host's interfaces and routes |
//! | `batch`, `mapped`, `unread`, `events`, `clock`, `clocks`, `requirements` | whole maps, memory of maps, failed reads, what the program tells, its clocks, what the kernel lacks |

mod attach;
mod bans;
pub mod batch;
mod beat;
pub mod clock;
pub mod clocks;
pub mod config_map;
mod configure;
mod crowds;
mod detach;
mod disable;
mod egress;
mod events;
mod kernel;
mod mapped;
mod netlink;
mod network;
mod object;
mod pins;
mod port;
mod programs;
mod requirements;
mod reuse;
pub mod settings;
#[cfg(feature = "trace")]
pub mod trace;
mod trust;
mod unread;

pub use self::beat::{LastBeat, last_beat};
pub use self::detach::detach_all;
pub use self::disable::disable;
pub use self::events::{Events, Limited};
pub use self::kernel::{Kernel, Locked, Opened};
pub use self::network::Network;
pub use self::object::OBJECT;
pub use self::pins::{check_place, mount_bpffs, protected};
pub use self::port::{ClosedSip, Count, Datapath, Interface, InterfaceCounters, KnownPeer, Mode};
pub use self::settings::Settings;
pub use tables::{ban_table, gates};
