//! Measures the cost of running the service: packets that pass during a reload, a restart and an
//! upgrade, the time from a start until the host is protected, CPU time and memory while nothing
//! happens, the time of each command and of what monitoring and browsers ask for, and the sizes of what is installed.

mod answers;
mod commands;
mod gaps;
mod idle;
mod report;
pub(super) mod site;
mod sizes;
mod starts;

use std::path::PathBuf;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

pub use self::report::Report;
use crate::netns;
use crate::screen::Screen;

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Part {
    /// Packets that pass during a reload, a restart and an upgrade.
    Gaps,
    /// The time from a start until the host is protected.
    Starts,
    /// CPU time and memory while nothing happens.
    Idle,
    /// The time of each command.
    Commands,
    /// The time of a scrape, of `status` and of each view of the page.
    Answers,
    /// The sizes of the binary and the package.
    Sizes,
}

/// The settings of a measurement.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `ringfence` binary.
    pub ringfence: Option<PathBuf>,
    /// How often each operation and each command is repeated.
    pub rounds: u32,
    /// Seconds for which the idle daemon is observed.
    pub seconds: f64,
    /// The parts to measure.
    pub parts: Vec<Part>,
}

/// Measures. Everything that it creates is removed when it returns.
///
/// # Errors
///
/// If a requirement is missing, the daemon fails, or the run is interrupted. A missed target is
/// not an error; see [`Report::targets_met`].
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    netns::sweep().context("remove what an earlier run left behind")?;
    let binary = settings.ringfence.as_deref();
    let binary = binary.context("which ringfence? Name it with --ringfence PATH")?;
    let mut rows = Vec::new();
    for part in &settings.parts {
        let measured = match part {
            Part::Gaps => gaps::measure(binary, settings.rounds),
            Part::Starts => starts::measure(binary, settings.rounds),
            Part::Idle => idle::measure(binary, settings.seconds),
            Part::Commands => commands::measure(binary, settings.rounds),
            Part::Answers => answers::measure(binary, settings.rounds),
            Part::Sizes => sizes::measure(binary),
        };
        for row in measured? {
            screen.say(&row.line(screen.paint()))?;
            rows.push(row);
        }
    }
    Ok(Report::new(rows))
}
