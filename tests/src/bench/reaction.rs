//! How many passwords a guesser still gets an answer to before it is shut out, and how long that
//! takes. A guess counts when Asterisk's answer leaves the PBX: iptables acts after the tap, so
//! what arrives says nothing about fail2ban.

mod report;
mod world;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use serde::Serialize;

use crate::asterisk::Asterisk;
use crate::screen::Screen;
use crate::{attack, fail2ban, netns, ringfence};

pub use self::report::Report;
use self::report::Versions;
use self::world::World;

/// Failures that ban: Wazo's, and ringfence's default.
const MAXRETRY: u64 = 15;

/// fail2ban 1.0 looks for those to be banned 0, 0.2, 0.6, 1.2 and 2 s after it began to wait, then
/// begins anew; so it does with the log where it has no pyinotify. How many guesses it answers
/// hangs on the moment, so the runs meet it at different ones, spread over the whole.
const CYCLE: Duration = Duration::from_secs(2);

/// One speed of guessing.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Guesses a second.
    rate: u32,
    /// How long it goes on.
    seconds: u32,
    /// Answers that ringfence may let through.
    answered_max: u64,
}

const PACES: [Pace; 2] = [
    Pace { rate: 50, seconds: 5, answered_max: 18 },
    Pace { rate: 500, seconds: 3, answered_max: 25 },
];

/// Who keeps the guesser out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Contender {
    /// Nobody.
    None,
    /// fail2ban with Wazo's jail.
    Fail2ban,
    /// Ringfence with its defaults.
    Ringfence,
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
}

/// Measures. All that was made is gone when it returns.
///
/// # Errors
///
/// When something that is needed is missing, a world cannot be built or breaks down, what was
/// measured means nothing, or the run is interrupted. A missed target is no error; see
/// [`Report::targets_met`].
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    let versions = check(settings)?;
    netns::sweep().context("remove what an earlier run left behind")?;
    let mut failed = Ok(());
    let root = Asterisk::ensure_root(&settings.cache, &mut |text| {
        if failed.is_ok() {
            failed = screen.say(&format!("  {text}"));
        }
    })?;
    failed?;
    let mut measurements = Vec::new();
    for pace in &PACES {
        for run in 1..=settings.runs {
            // One after the other, so that what else the machine does meets them all alike.
            for &contender in &settings.contenders {
                let world = World::build(&root, contender, settings.ringfence.as_deref())?;
                let wait = CYCLE * (run - 1) / settings.runs;
                let measurement = world.measure(pace, run, wait)?;
                screen.say(&format!("  {}", measurement.line(settings.runs)))?;
                measurements.push(measurement);
            }
        }
    }
    Ok(Report::new(settings, versions, measurements))
}

/// Fails when something that will be needed is missing.
fn check(settings: &Settings) -> anyhow::Result<Versions> {
    attack::check_tools()?;
    let mut versions = Versions::default();
    for contender in &settings.contenders {
        match contender {
            Contender::None => {}
            Contender::Fail2ban => {
                fail2ban::check_tools()?;
                versions.fail2ban = Some(fail2ban::version()?);
            }
            Contender::Ringfence => {
                let binary = settings.ringfence.as_deref();
                let binary = binary.context("which ringfence? Name it with --ringfence PATH")?;
                versions.ringfence = Some(ringfence::version(&ringfence::find(binary)?)?);
            }
        }
    }
    Ok(versions)
}
