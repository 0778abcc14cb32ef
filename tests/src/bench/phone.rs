//! A phone that registers while a flood of forged REGISTERs arrives on the same interface: how often it
//! succeeds, and how long that takes.

mod flood;
mod report;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use self::report::Measurement;
pub use self::report::Report;
use self::world::World;
use crate::asterisk::Asterisk;
use crate::netns;
use crate::screen::Screen;

/// The rates of the forged REGISTERs, per second.
const RATES: [u32; 3] = [5_000, 50_000, 500_000];

/// The firewall against the flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// Nobody.
    None,
    /// nftables: packets of each source over 10 a second, with a burst of 50, are dropped.
    NftSource,
    /// nftables: the same, and packets of all sources together over 1000 a second are dropped.
    NftTotal,
    /// Ringfence with its defaults.
    Ringfence,
    /// The same, with a phone that appears only during the flood.
    RingfenceNew,
}

impl Contender {
    /// Its name in the table.
    fn name(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::NftSource => "nftables, 10/s a source",
            Self::NftTotal => "nftables, and 1000/s for all",
            Self::Ringfence => "ringfence",
            Self::RingfenceNew => "ringfence, a new phone",
        }
    }
}

/// The settings of a measurement.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The contenders, in this order.
    pub contenders: Vec<Contender>,
    /// The `ringfence` binary, if it is one of them.
    pub ringfence: Option<PathBuf>,
    /// The directory where Asterisk is kept between runs.
    pub cache: PathBuf,
    /// The number of runs for each.
    pub runs: u32,
    /// The duration of a flood; it continues until the last registration that began in it has ended, for
    /// 32 seconds at most.
    pub time: Duration,
}

/// Measures. Everything that it creates is removed when it returns.
///
/// # Errors
///
/// If a requirement is missing, an environment cannot be built or breaks down, or the run is interrupted.
/// A missed promise is not an error; see [`Report::targets_met`].
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    netns::sweep().context("remove what an earlier run left behind")?;
    let root = Asterisk::ensure_root_on(&settings.cache, screen)?;
    let mut measurements = Vec::new();
    for rate in RATES {
        for run in 1..=settings.runs {
            for &contender in &settings.contenders {
                let world = World::build(&root, contender, settings.ringfence.as_deref())?;
                let outcome = world.measure(rate, settings.time)?;
                let measurement = Measurement { contender, rate, run, outcome };
                screen.say(&format!("  {}", measurement.line()))?;
                measurements.push(measurement);
            }
        }
    }
    Ok(Report::new(measurements))
}
