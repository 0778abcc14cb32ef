//! Reports what listens on a host, who can reach it, and what to do about it: turns facts about the host
//! into an [`api::Audit`], as a value, text or a page.
//!
//! ```text
//! Facts ─ listeners ─▶ rows ─ ports ─▶ findings ─ report ─▶ Audit ─▶ text, html
//!            ▲ reach, services, firewall
//! ```
//!
//! Nothing here reads a socket, a file or a clock, or runs a program.

/// Writes at the end of a text.
macro_rules! add {
    ($text:expr, $($part:tt)*) => {{
        use std::fmt::Write as _;
        // Writing to a string cannot fail.
        let _infallible = write!($text, $($part)*);
    }};
}

pub mod accounts;
pub mod baseline;
pub mod devices;
pub mod facts;
pub mod firewall;
pub mod html;
pub mod listeners;
pub mod passwords;
pub mod ports;
pub mod reach;
pub mod report;
pub mod secret;
pub mod services;
pub mod suggest;
pub mod text;
pub mod transports;
pub mod words;
