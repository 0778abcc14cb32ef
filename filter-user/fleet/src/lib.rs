//! What the hosts of a fleet report to each other: records enter and bans for this host leave; its own bans enter and
//! records for the others leave.
//!
//! ```text
//! key, record ─ view ─▶ Change ─▶ daemon        local bans ─ own ─▶ Publish ─▶ key, record
//!                ▲ accept, clock                               ▲ clock
//! ```
//!
//! Must never use a clock, file, socket or program, trust a time that another host wrote, or grow with what one
//! host sends: the agent's crate connects what this one decides.

mod accept;
mod clock;
mod host;
mod key;
mod own;
mod record;
mod view;

pub use self::accept::{Accept, HOSTS_MAX};
pub use self::clock::{Clock, Time};
pub use self::host::{HOST_MAX, Host};
pub use self::key::{Key, is_shared};
pub use self::own::{Own, Publish, Shared};
pub use self::record::{
    Allow, BanRecord, Beat, Cut, Maintenance, RECORD_MAX, SCHEMA, Unread, read, write,
};
pub use self::view::{Change, Closing, HostReport, Refused, Update, View};
