//! A phone that registers while a flood of forged REGISTERs comes in by the same interface: how often
//! it gets through, and how long that takes.

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

/// Forged REGISTERs a second.
const RATES: [u32; 3] = [5_000, 50_000, 500_000];

/// Who keeps the flood out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// Nobody.
    None,
    /// nftables: each source over 10 a second, with a burst of 50, is dropped.
    NftSource,
    /// nftables: the same, and all sources together over 1000 a second are dropped.
    NftTotal,
    /// Ringfence with its defaults.
    Ringfence,
    /// The same, and a phone that has never been there before the flood.
    RingfenceNew,
}

impl Contender {
    /// As the table names it.
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

/// What a measurement is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Who is measured, in this order.
    pub contenders: Vec<Contender>,
    /// The `ringfence` binary, if that is among them.
    pub ringfence: Option<PathBuf>,
    /// Where Asterisk is kept between runs.
    pub cache: PathBuf,
    /// How often each is measured.
    pub runs: u32,
    /// How long a flood is; it goes on until the last registration that began in it has ended, 32
    /// seconds at most.
    pub time: Duration,
}

/// Measures. All that was made is gone when it returns.
///
/// # Errors
///
/// When something that is needed is missing, a world cannot be built or breaks down, or the run is
/// interrupted. A missed target is no error; see [`Report::targets_met`].
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    netns::sweep().context("remove what an earlier run left behind")?;
    let mut failed = Ok(());
    let root = Asterisk::ensure_root(&settings.cache, &mut |text| {
        if failed.is_ok() {
            failed = screen.say(&format!("  {text}"));
        }
    })?;
    failed?;
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
