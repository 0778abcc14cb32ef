//! The writers of the tables that the XDP program reads while they change: the table of banned IPv4
//! addresses and the gates. Addresses and networks enter, bits in memory leave.
//!
//! Whose memory it is, a map's or a test's, they do not know. So the packet tests fill their model
//! with the code that fills the maps, without aya and without the XDP program.

pub mod ban_table;
pub mod gates;
