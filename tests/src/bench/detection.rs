//! Which attacks are seen, by what and after how many attempts, and whom forgeries hurt: every attack live on a
//! real Asterisk, with Ringfence and with fail2ban.
//!
//! All attacks of a contender run at the same time, each from an address of its own. An attempt is a request, or
//! a request and the answer to its challenge.

mod attacks;
mod report;
mod world;

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub use self::report::Report;
use super::reaction;
use crate::asterisk::Asterisk;
use crate::screen::Screen;
use crate::{fail2ban, netns, ringfence};

/// The program that detects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// Ringfence with the NOTICE log, without its classifier of outgoing packets.
    RingfenceLog,
    /// Ringfence with the wire, and no log.
    RingfenceWire,
    /// Ringfence with the NOTICE log and the wire.
    Ringfence,
    /// The same, and AMI.
    RingfenceAll,
    /// fail2ban with the filter and the jail that it ships, on the log with warnings.
    Fail2ban,
    /// fail2ban with Wazo's filter and jail, on the NOTICE log.
    Fail2banWazo,
}

impl Contender {
    /// Its name.
    fn name(self) -> &'static str {
        match self {
            Self::RingfenceLog => "Ringfence, log",
            Self::RingfenceWire => "Ringfence, wire",
            Self::Ringfence => "Ringfence, log and wire",
            Self::RingfenceAll => "Ringfence, log, wire and AMI",
            Self::Fail2ban => "fail2ban",
            Self::Fail2banWazo => "fail2ban, Wazo",
        }
    }

    fn is_ringfence(self) -> bool {
        match self {
            Self::RingfenceLog | Self::RingfenceWire | Self::Ringfence | Self::RingfenceAll => true,
            Self::Fail2ban | Self::Fail2banWazo => false,
        }
    }
}

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The contenders, in this order.
    pub contenders: Vec<Contender>,
    /// The `ringfence` binary, if it is one of them.
    pub ringfence: Option<PathBuf>,
    /// The directory where Asterisk is kept between runs.
    pub cache: PathBuf,
    /// How often each rate of guesses is tried with each contender; not at all if zero.
    pub runs: u32,
}

impl Settings {
    /// The contenders that are as fast as the others with the same name.
    fn guesses(&self) -> reaction::Settings {
        let of = |contender: &Contender| match contender {
            Contender::Ringfence => Some(reaction::Contender::Ringfence),
            Contender::Fail2ban => Some(reaction::Contender::Fail2banShipped),
            Contender::Fail2banWazo => Some(reaction::Contender::Fail2ban),
            Contender::RingfenceLog | Contender::RingfenceWire | Contender::RingfenceAll => None,
        };
        reaction::Settings {
            contenders: self.contenders.iter().filter_map(of).collect(),
            over: vec![reaction::Over::Udp, reaction::Over::Tcp],
            ringfence: self.ringfence.clone(),
            cache: self.cache.clone(),
            runs: self.runs,
        }
    }
}

/// Runs every attack. Everything that it creates is removed when it returns.
///
/// # Errors
///
/// If a requirement is missing, an environment cannot be built or breaks down, or the run is interrupted. An
/// attack that is not seen is not an error; see [`Report::targets_met`].
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    let mut versions = Vec::new();
    if settings.contenders.iter().any(|of| of.is_ringfence()) {
        let binary = settings.ringfence.as_deref();
        let binary = binary.context("which ringfence? Name it with --ringfence PATH")?;
        versions.push(format!("Ringfence {}", ringfence::version(&ringfence::find(binary)?)?));
    }
    if settings.contenders.iter().any(|of| !of.is_ringfence()) {
        fail2ban::check_tools()?;
        versions.push(format!("fail2ban {}", fail2ban::version()?));
    }
    netns::sweep().context("remove what an earlier run left behind")?;
    let root = Asterisk::ensure_root_on(&settings.cache, screen)?;
    let mut runs = Vec::new();
    for contender in &settings.contenders {
        let run = world::World::build(&root, *contender, settings.ringfence.as_deref())?.run()?;
        screen.say(&format!("  {}: done", contender.name()))?;
        runs.push(run);
    }
    let guesses = match settings.runs {
        0 => None,
        _ => Some(reaction::run(&settings.guesses(), screen)?),
    };
    Ok(Report::new(versions, runs, guesses))
}
