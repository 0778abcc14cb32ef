//! Writes the tables that the XDP program reads while they change: the table of banned IPv4 addresses,
//! the cache of banned IPv6 addresses, and the gates.
//!
//! The memory may belong to a map or a test. So the packet tests fill their model with the code that
//! fills the maps, without aya and without the XDP program.

pub mod ban_cache;
pub mod ban_table;
pub mod gates;
