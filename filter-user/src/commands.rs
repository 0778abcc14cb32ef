//! The commands of the command line, a module for each kind.
//!
//! Must never contain logic of the product.

pub(crate) mod audit;
pub(crate) mod bans;
pub(crate) mod check_config;
pub(crate) mod common;
pub(crate) mod doctor;
pub(crate) mod filter;
pub(crate) mod lists;
pub(crate) mod logs;
pub(crate) mod run;
