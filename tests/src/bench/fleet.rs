//! What comes from beyond the host: lists of a million addresses, a table of countries for a whole world, and the bans
//! of a fleet.

pub mod countries;
mod hosts;
mod lists;

use std::fs;
use std::path::PathBuf;
use std::thread;

use clap::ValueEnum;
use serde::Serialize;

pub use self::countries::Countries;
pub use self::hosts::{Merged, Shared};
pub use self::lists::{Difference, Lists};
use crate::netns;
use crate::screen::{Paint, Screen};

/// A part of the measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// A million addresses of five lists, and their differences.
    Lists,
    /// A table of countries for 500,000 networks.
    Countries,
    /// Three NATS servers and twelve daemons, three of them under attack.
    Hosts,
}

/// What to measure.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The program.
    pub ringfence: PathBuf,
    /// Where packages of Debian are kept.
    pub cache: PathBuf,
    /// The parts.
    pub parts: Vec<Part>,
    /// How many bans there are a second, on all hosts.
    pub rate: u32,
    /// How many there are.
    pub bans: u32,
}

/// The result. `--json` writes its JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `fleet`.
    pub benchmark: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// The number of processors.
    pub processors: usize,
    /// The load of the last minute before the run.
    pub load: String,
    /// The lists.
    pub lists: Option<Lists>,
    /// The countries.
    pub countries: Option<Countries>,
    /// The fleet.
    pub hosts: Option<Shared>,
}

impl Report {
    /// Whether nothing is lost, wrong or let through, and all is in time.
    pub fn targets_met(&self) -> bool {
        self.lists.as_ref().is_none_or(Lists::targets_met)
            && self.hosts.as_ref().is_none_or(Shared::targets_met)
    }

    /// What it was measured on.
    pub fn text(&self, paint: Paint) -> String {
        let Self { kernel, processors, load, .. } = self;
        paint.dim(&format!("  Linux {kernel}, {processors} processors, load {load} before"))
    }
}

/// Measures, and says each part when it is done.
///
/// # Errors
///
/// If something does not start, or the run is interrupted. A missed promise is not an error; see
/// [`Report::targets_met`].
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let first = |text: String| text.split_whitespace().next().unwrap_or_default().to_owned();
    let mut report = Report {
        benchmark: "fleet",
        kernel: first(read("/proc/sys/kernel/osrelease")),
        processors: thread::available_parallelism().map_or(0, usize::from),
        load: first(read("/proc/loadavg")),
        lists: None,
        countries: None,
        hosts: None,
    };
    for part in &settings.parts {
        netns::sweep()?;
        let paint = screen.paint();
        let text = match part {
            Part::Lists => {
                report.lists.insert(lists::measure(&settings.ringfence, screen)?).text(paint)
            }
            Part::Countries => {
                report.countries.insert(countries::measure(&settings.ringfence)?).text(paint)
            }
            Part::Hosts => report.hosts.insert(hosts::measure(settings, screen)?).text(paint),
        };
        screen.say(&text)?;
    }
    Ok(report)
}
