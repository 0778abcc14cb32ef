//! The time from the failure that leads to a ban, as a line in a log or an event of AMI, until the
//! program drops its source: one ban at a time on an idle daemon, and during a thousand failures a
//! second.
//!
//! The daemon is `ringfence run` with Wazo's settings in a namespace, with the real program on a veth.
//! The bench plays the part of Asterisk: it writes the log and acts as the manager interface, with
//! recorded text.

mod manager;
mod report;
mod stage;
mod telling;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use serde::Serialize;

use self::report::Measurement;
pub use self::report::Report;
pub(in crate::bench) use self::report::Time;
pub(in crate::bench) use self::stage::Stage;
use crate::netns;
use crate::screen::Screen;

/// The failures that lead to a ban: Wazo's value, which is Ringfence's default.
const MAXRETRY: u32 = 15;

/// The failures per second of the load.
const RATE: u32 = 1000;

/// How a failure is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::bench) enum Way {
    /// As a line of the NOTICE log.
    Log,
    /// As an event of AMI, after that of its challenge.
    Ami,
}

/// The pace of the failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Pace {
    /// One ban at a time.
    Single,
    /// [`RATE`] failures a second.
    Load,
}

/// The settings of a measurement.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `ringfence` binary.
    pub ringfence: Option<PathBuf>,
    /// The number of bans, one at a time.
    pub bans: u32,
    /// The duration of the load.
    pub time: Duration,
    /// The number of rounds.
    pub rounds: u32,
}

/// Measures. Everything that it creates is removed when it returns.
///
/// # Errors
///
/// If a requirement is missing, a source is not banned, or the run is interrupted. A missed promise is
/// not an error; see [`Report::targets_met`].
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    netns::sweep().context("remove what an earlier run left behind")?;
    let binary = settings.ringfence.as_deref();
    let binary = binary.context("which ringfence? Name it with --ringfence PATH")?;
    let mut measurements = Vec::new();
    for round in 1..=settings.rounds {
        let mut stage = Stage::build(binary)?;
        for way in [Way::Log, Way::Ami] {
            for pace in [Pace::Single, Pace::Load] {
                let times = match pace {
                    Pace::Single => stage.one_by_one(way, settings.bans)?,
                    Pace::Load => stage.under_load(way, settings.time)?,
                };
                let measurement = Measurement { way, pace, round, times };
                screen.say(&format!("  {}", measurement.line()))?;
                measurements.push(measurement);
            }
        }
    }
    Ok(Report::new(measurements))
}
