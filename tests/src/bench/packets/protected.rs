//! Ringfence at the far end of a lane. Its tables are filled as the controller fills them.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::programs::ProgramInfo;
use filter_common::decision::Verdict;
use filter_user::ban::{AddressEntry, Ends, NetworkEntry, Origin, Scopes};
use filter_user::config::{ClassLimits, Config, Limit, Mode, Scope};
use filter_user::datapath::settings::Guarded;
use filter_user::datapath::{Datapath as _, Kernel, Settings, detach_all};
use filter_user::host;
use ipnet::IpNet;
use tokio::runtime::{Builder, Runtime};

use super::lane::Lane;
use crate::bench::sources::Banned;
use crate::bpf::{Link, Program};
use crate::ringfence::BPFFS;
use crate::{kernel, scratch};

const INTERFACE: &str = "eth0";
/// The slot of the only interface.
const SLOT: u32 = 0;

/// How long bans last.
const OUTLASTS: Duration = Duration::from_hours(24);

/// Which limit applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limits {
    /// The default limits.
    Default,
    /// A limit that a test run of a million packets does not reach.
    Wide,
}

/// The program at a lane's far end. Dropping this detaches the program and removes its maps.
pub(super) struct Protected {
    kernel: Kernel,
    // The kernel's events are registered with it.
    runtime: Runtime,
    mode: Mode,
    // Last, because the directory can only be removed once the kernel has released its lock.
    pins: Pins,
}

/// A directory of pins, removed on drop.
struct Pins(PathBuf);

/// Packets by verdict.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Verdicts {
    /// Passed.
    pub(super) passed: u64,
    /// Dropped.
    pub(super) dropped: u64,
}

impl Protected {
    /// Attaches the program in this mode, with empty tables.
    pub(super) fn attach(lane: &Lane, mode: Mode) -> Result<Self> {
        Self::attach_with(lane, mode, &Guarded::default())
    }

    /// The same in native mode, with ports that are not open to everybody.
    pub(super) fn attach_guarded(lane: &Lane, guarded: &Guarded) -> Result<Self> {
        Self::attach_with(lane, Mode::Native, guarded)
    }

    fn attach_with(lane: &Lane, mode: Mode, guarded: &Guarded) -> Result<Self> {
        let directory =
            Path::new(BPFFS).join(format!("{}-bench", scratch::prefix().replace('.', "-")));
        let runtime = Builder::new_current_thread().enable_all().build().context("runtime")?;
        let pins = Pins(directory);
        let kernel = open(lane, &runtime, &pins.0, mode, Limits::Default, guarded)?;
        Ok(Self { kernel, runtime, mode, pins })
    }

    /// Applies other limits by restarting, as the controller does: the maps remain.
    pub(super) fn restart(self, lane: &Lane, limits: Limits) -> Result<Self> {
        let Self { kernel, runtime, mode, pins } = self;
        drop(kernel);
        let guarded = Guarded::default();
        let kernel = open(lane, &runtime, &pins.0, mode, limits, &guarded)?;
        Ok(Self { kernel, runtime, mode, pins })
    }

    /// Bans all of these. Returns how long storing the IPv4 addresses took.
    pub(super) fn fill(&mut self, banned: &Banned) -> Result<Duration> {
        let started = Instant::now();
        for address in &banned.v4 {
            self.kernel.ban(&ban(IpAddr::from(*address)))?;
        }
        let took = started.elapsed();
        for address in &banned.v6 {
            self.kernel.ban(&ban(IpAddr::from(*address)))?;
        }
        for network in &banned.networks {
            self.kernel.ban_network(&ban_network(*network))?;
        }
        Ok(took)
    }

    /// Enters this address as a known peer.
    pub(super) fn know(&mut self, address: IpAddr) -> Result<()> {
        self.kernel.know(address, filter_user::clock::now())
    }

    /// Records the users of these ports, each with whether it is a TCP port.
    pub(super) fn record(&mut self, ports: &BTreeSet<(bool, u16)>) -> Result<()> {
        self.kernel.record_visits(ports)
    }

    /// The attached program.
    pub(super) fn program(&self) -> Result<Program> {
        Program::from_pin(&self.pins.0.join(format!("program-{SLOT}-{INTERFACE}")))
    }

    /// The link that keeps it attached.
    pub(super) fn link(&self) -> Result<Link> {
        Link::from_pin(&self.pins.0.join(format!("link-{SLOT}-{INTERFACE}")))
    }

    /// The pin of the link of the classifier of outgoing packets.
    pub(super) fn egress(&self) -> PathBuf {
        self.pins.0.join(format!("out-{SLOT}-{INTERFACE}"))
    }

    /// Packets by verdict since it was attached.
    pub(super) fn verdicts(&self) -> Result<Verdicts> {
        let mut verdicts = Verdicts::default();
        for interface in self.kernel.counters()? {
            for (reason, count) in interface.reasons {
                match reason.verdict() {
                    Verdict::Pass => verdicts.passed += count.packets,
                    Verdict::Drop => verdicts.dropped += count.packets,
                }
            }
        }
        Ok(verdicts)
    }

    /// Bytes that the kernel uses for all maps of the program, see [`kernel::memory`].
    pub(super) fn memory(&self) -> Result<u64> {
        let pin = self.pins.0.join(format!("program-{SLOT}-{INTERFACE}"));
        let program = ProgramInfo::from_pin(&pin).context("open the pinned program")?;
        Ok(kernel::memory(&program)?.values().sum())
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        // Drop cannot return an error; the next run removes what this one could not.
        detach_all(&self.0).ok();
        fs::remove_dir_all(&self.0).ok();
    }
}

impl Verdicts {
    /// The packets since `before`.
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            passed: self.passed.saturating_sub(before.passed),
            dropped: self.dropped.saturating_sub(before.dropped),
        }
    }
}

fn open(
    lane: &Lane,
    runtime: &Runtime,
    directory: &Path,
    mode: Mode,
    limits: Limits,
    guarded: &Guarded,
) -> Result<Kernel> {
    let opened = lane.host().run_in(|| {
        let _runtime = runtime.enter();
        let settings = settings(directory, mode, limits)?;
        Kernel::open(&Settings { guarded: guarded.clone(), ..settings })
    })?;
    let attached = opened.kernel.interfaces().first().map(|interface| interface.mode.as_str());
    let wanted = if mode == Mode::Generic { "generic" } else { "native" };
    ensure!(attached == Some(wanted), "the program is attached in mode {attached:?}");
    Ok(opened.kernel)
}

fn settings(directory: &Path, mode: Mode, limits: Limits) -> Result<Settings> {
    let mut config = Config::default();
    if limits == Limits::Wide {
        let wide =
            Limit { rate: "1000000/s".parse().map_err(anyhow::Error::msg)?, burst: u32::MAX };
        let all = ClassLimits {
            register: wide,
            register_credentials: wide,
            invite: wide,
            options: wide,
            subscribe: wide,
            other: wide,
            syn: wide,
        };
        (config.limits.source, config.limits.shared, config.limits.known) = (all, all, wide);
        config.limits.prefix.classes = all;
    }
    Ok(Settings {
        bpffs: directory.to_owned(),
        interfaces: vec![INTERFACE.to_owned()],
        mode,
        dry_run: false,
        disabled: false,
        own: host::addresses(&host::own_networks()?),
        trusted: Vec::new(),
        trusted_by_route: false,
        sip: config.sip,
        ports: config.ports,
        guarded: Guarded::default(),
        limits: config.limits,
        known_for: config.peers.remember,
        user_agents: config.signatures.user_agents,
        unattended_after: None,
        bans: config.capacity.bans,
        bans_ipv6: config.capacity.bans_ipv6,
    })
}

/// The ban of a jail without proof: SIP only, for longer than the measurement takes.
fn ban(address: IpAddr) -> AddressEntry {
    let now = filter_user::clock::now();
    AddressEntry {
        address,
        scopes: Scopes::default().and(Scope::Sip),
        origin: Origin::Jail(0),
        since: now,
        until: Some(now.after(OUTLASTS)),
    }
}

fn ban_network(network: IpNet) -> NetworkEntry {
    let now = filter_user::clock::now();
    let ends = Ends::NONE.and(Scope::Sip, Some(now.after(OUTLASTS)));
    NetworkEntry { network, ends, origin: Origin::Jail(0), since: now }
}
