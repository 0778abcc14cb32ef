//! How long it takes from the failure that is one too many, a byte in a log or an event from AMI, until
//! the program drops its source: one ban at a time at a daemon that has nothing else to do, and during a
//! thousand failures a second.
//!
//! The daemon is `ringfence run` with Wazo's settings in a namespace, with the real program on a veth. The
//! bench is Asterisk: it writes the log and speaks as the manager interface, in the words of a recording.

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

/// Failures that ban: Wazo's, and ringfence's default.
const MAXRETRY: u32 = 15;

/// Failures a second of the load.
const RATE: u32 = 1000;

/// How a failure is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::bench) enum Way {
    /// As a line of the NOTICE log.
    Log,
    /// As an event of AMI, behind that of its challenge.
    Ami,
}

/// How many failures there are at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Pace {
    /// One ban at a time.
    Single,
    /// [`RATE`] failures a second.
    Load,
}

/// What a measurement is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `ringfence` binary.
    pub ringfence: Option<PathBuf>,
    /// How many bans, one at a time.
    pub bans: u32,
    /// How long the load is.
    pub time: Duration,
    /// How often all is measured.
    pub rounds: u32,
}

/// Measures. All that was made is gone when it returns.
///
/// # Errors
///
/// When something that is needed is missing, a source is not banned, or the run is interrupted. A
/// missed target is no error; see [`Report::targets_met`].
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
