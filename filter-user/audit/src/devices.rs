//! The telephones that wazo-provd configures: its documents enter, findings and proposals leave.
//!
//! ```text
//! documents ─▶ Inventory ─ inherited passwords ─▶ examine ─▶ findings, fixes
//!                             ▲ vendors
//! ```
//!
//! Must never repeat a document in an error.

mod documents;
mod findings;
mod inventory;
mod vendors;

pub use self::documents::{Device, parse_devices};
pub use self::findings::{Examined, Fix, HttpAuth, examine};
pub use self::inventory::{Field, Inventory};

#[cfg(test)]
mod tests;
