//! How many guesses are answered before the guesser is banned, and how long that takes. A guess counts
//! when Asterisk's answer leaves the PBX: iptables acts after the tap, so arriving packets do not show
//! the effect of fail2ban.

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

/// The failures that lead to a ban: Wazo's value, which is Ringfence's default.
const MAXRETRY: u64 = 15;

/// The same in the jail that fail2ban ships.
const MAXRETRY_SHIPPED: u64 = 10;

/// fail2ban 1.0 looks for new bans 0, 0.2, 0.6, 1.2 and 2 s after it began to wait, and then starts
/// again; without pyinotify it polls the log in the same way. The number of answered guesses depends on
/// the moment, so the runs start at different moments of this cycle.
const CYCLE: Duration = Duration::from_secs(2);

/// How the guesses are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// Datagrams.
    Udp,
    /// One connection.
    Tcp,
}

impl Over {
    fn name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }
}

/// A rate of guesses.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// How they are sent.
    over: Over,
    /// Guesses per second.
    rate: u32,
    /// The duration in seconds.
    seconds: u32,
    /// The most answers that ringfence may allow.
    answered_max: u64,
}

impl Pace {
    const fn new(over: Over, rate: u32, seconds: u32, answered_max: u64) -> Self {
        Self { over, rate, seconds, answered_max }
    }

    /// How many guesses are planned.
    fn planned(&self) -> u64 {
        u64::from(self.rate) * u64::from(self.seconds)
    }

    /// Whether a measurement was made at it.
    fn is(&self, over: Over, rate: u32) -> bool {
        (self.over, self.rate) == (over, rate)
    }
}

/// At 5,000 a second, the limit of a source (50 at once, and ten a second) comes before the ban.
const PACES: [Pace; 6] = [
    Pace::new(Over::Udp, 50, 5, 18),
    Pace::new(Over::Udp, 500, 3, 25),
    Pace::new(Over::Udp, 5000, 2, 75),
    Pace::new(Over::Tcp, 50, 5, 18),
    Pace::new(Over::Tcp, 500, 3, 25),
    Pace::new(Over::Tcp, 5000, 2, 75),
];

/// The program that bans the guesser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Contender {
    /// Nobody.
    None,
    /// fail2ban with Wazo's jail.
    Fail2ban,
    /// fail2ban with the jail that it ships.
    #[value(name = "fail2ban-shipped")]
    #[serde(rename = "fail2ban-shipped")]
    Fail2banShipped,
    /// Ringfence with its defaults.
    Ringfence,
}

impl Contender {
    /// The failures that lead to a ban.
    fn maxretry(self) -> u64 {
        match self {
            Self::Fail2banShipped => MAXRETRY_SHIPPED,
            Self::None | Self::Fail2ban | Self::Ringfence => MAXRETRY,
        }
    }
}

/// The settings of a measurement.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The contenders, in this order.
    pub contenders: Vec<Contender>,
    /// How the guesses are sent.
    pub over: Vec<Over>,
    /// The `ringfence` binary, if it is one of them.
    pub ringfence: Option<PathBuf>,
    /// The directory where Asterisk is kept between runs.
    pub cache: PathBuf,
    /// The number of runs for each.
    pub runs: u32,
}

/// Measures. Everything that it creates is removed when it returns.
///
/// # Errors
///
/// If a requirement is missing, an environment cannot be built or breaks down, a measurement is
/// meaningless, or the run is interrupted. A missed promise is not an error; see [`Report::targets_met`].
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    let versions = check(settings)?;
    netns::sweep().context("remove what an earlier run left behind")?;
    let root = Asterisk::ensure_root_on(&settings.cache, screen)?;
    let mut measurements = Vec::new();
    for pace in PACES.iter().filter(|pace| settings.over.contains(&pace.over)) {
        for run in 1..=settings.runs {
            // In turns, so that other load on the machine affects all of them alike.
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

/// Checks the requirements.
fn check(settings: &Settings) -> anyhow::Result<Versions> {
    attack::check_tools()?;
    let mut versions = Versions::default();
    for contender in &settings.contenders {
        match contender {
            Contender::None => {}
            Contender::Fail2ban | Contender::Fail2banShipped => {
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
