//! The daemon: builds the parts, then runs the one loop that owns the controller.
//!
//! In order of importance, the loop ends on a signal, takes attempts, takes events from the kernel and
//! answers requests, and does what can wait. Each kind of work has its turn after the one before it, and
//! every turn is short. Everything else runs on the threads of the runtime.
//!
//! Must never decide.

mod alerts;
mod answer;
mod asks;
mod clients;
mod feeds;
mod findings;
mod geo;
pub mod http;
mod inbox;
mod last_interfaces;
mod logins;
mod notify;
mod own_logs;
mod page;
mod reload;
mod safety;
mod server;
mod sources;
mod tcp;
mod tokens;
mod traffic;
mod trial;
mod turns;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder};
use std::mem;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use filter_common::limits::INTERFACES;
use ipnet::IpNet;
use log::{debug, info, warn};
use nix::unistd::User;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::sleep_until;

use self::answer::Answers;
use self::feeds::Feeds;
use self::findings::Findings;
use self::geo::Geo;
use self::notify::Notify;
pub use self::reload::Load;
use self::reload::Reloads;
use self::safety::Safety;
pub(crate) use self::server::who;
use self::sources::Sources;
use self::trial::Trial;
use self::turns::Parts;
use crate::ban::Roster;
use crate::clock::next_turn;
use crate::config::{Config, Exposure, HostName, Loaded, Paths, SipPorts};
use crate::controller::Controller;
use crate::datapath::settings::Guarded;
use crate::datapath::{self, Datapath as _, Interface, Kernel, Opened, Settings};
use crate::disable;
use crate::dns::{self, Following};
use crate::doctor::Trunks;
use crate::escalation::Bounds;
use crate::host::{self, Asterisk, Essential, Network, Protection};
use crate::report::count;
use crate::store::{self, Names, Started};
use crate::{beat, clock};

/// How often the host's addresses, its interfaces and the sources are checked.
const HOST_LOOK: Duration = Duration::from_secs(5);

/// The number of checks of the host between two searches for Asterisk.
const LOOKS_PER_ASTERISK: u32 = 12;

/// The number of checks of the host between two lists of what listens.
const LOOKS_PER_LIST: u32 = 6;

/// The directory of Asterisk's configuration, which names the trunks.
const ASTERISK: &str = "/etc/asterisk";

/// The signals that the daemon listens to.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    user1: Signal,
    user2: Signal,
}

impl Signals {
    /// Installs the signal handlers.
    ///
    /// # Errors
    ///
    /// If the signal handlers cannot be installed.
    pub fn listen() -> Result<Self> {
        let wait = |kind, name| signal(kind).with_context(|| format!("wait for {name}"));
        Ok(Self {
            interrupt: wait(SignalKind::interrupt(), "SIGINT")?,
            terminate: wait(SignalKind::terminate(), "SIGTERM")?,
            hangup: wait(SignalKind::hangup(), "SIGHUP")?,
            user1: wait(SignalKind::user_defined1(), "SIGUSR1")?,
            user2: wait(SignalKind::user_defined2(), "SIGUSR2")?,
        })
    }

    /// Waits for the next signal that the daemon acts on. Cancel-safe.
    async fn next(&mut self) -> Demand {
        loop {
            let ignored = tokio::select! {
                _ = self.interrupt.recv() => return Demand::End("SIGINT"),
                _ = self.terminate.recv() => return Demand::End("SIGTERM"),
                _ = self.hangup.recv() => return Demand::Reload,
                _ = self.user1.recv() => "SIGUSR1",
                _ = self.user2.recv() => "SIGUSR2",
            };
            warn!("{ignored} is ignored. Rotated logs are followed automatically");
        }
    }
}

/// The meaning of a signal to the daemon.
enum Demand {
    /// To end, by the signal of this name.
    End(&'static str),
    /// To read its configuration again.
    Reload,
}

/// Runs until a signal ends it. The filter then stays in force. `load` reads the configuration again for
/// a reload; `switch` is the file of the emergency switch.
///
/// # Errors
///
/// If it cannot start: an interface is missing, another daemon runs, or the kernel refuses.
pub async fn run(loaded: Loaded, load: Load, switch: PathBuf, signals: Signals) -> Result<()> {
    let config = loaded.config.clone();
    let follows = config.interfaces.is_empty();
    let interfaces = if follows { exposed(&config.paths)? } else { config.interfaces.clone() };
    // Everything that does not need the kernel is done before the program is loaded, so that it fails
    // first.
    let own = host::own_networks()?;
    make_directory(&config.paths.state)?;
    make_directory(&config.paths.runtime)?;
    let is_first = !config.paths.state.join(store::FILE).exists();
    let safety = Safety::new(switch, &config, is_first);
    let mut trial = Trial::read(&config.paths.state, &config.exposure);
    trial.begin(&config, 0, clock::now());
    let exposure = trial.in_force(&config.exposure);
    let settings = settings(&config, exposure, interfaces, &own, safety.is_disabled());
    // Check first whether another daemon runs.
    let locked = Kernel::lock(&settings)?;
    let roster = Arc::new(config.roster());
    // Reading a million bans takes longer than loading the program, so they run in parallel.
    let starting =
        store::begin(of_store(&config, Arc::clone(&roster))).context("start the store's thread")?;
    // Without a control socket the daemon must not attach to the interfaces.
    let socket = server::bind(&config.paths.control_socket())?;
    let Opened { kernel, events, geo, responses, bans, silence, notes } = locked.open(&settings)?;
    if let Some(note) = silence.and_then(|before| beat::after_silence(before, clock::read())) {
        warn!("{note}");
    }
    for note in notes {
        warn!("{note}");
    }
    #[cfg(feature = "trace")]
    let mut kernel = kernel;
    #[cfg(feature = "trace")]
    let _loggers = datapath::trace::start(&mut kernel)?;
    announce(&kernel.interfaces());
    if follows {
        last_interfaces::remember(&config.paths.state, &kernel.interfaces());
    }
    if config.dry_run {
        warn!("dry run: packets are judged and counted, but not dropped");
    }
    let Started { store, mut kept, news: store_news, thread } = starting.wait();
    let (positions, told) = kept
        .as_mut()
        .map(|kept| (mem::take(&mut kept.positions), mem::take(&mut kept.jail_records)))
        .unwrap_or_default();
    let bans = (store.clone(), kept, &bans);
    let mut controller = Controller::new(kernel, &config, roster, own, bans, clock::read())?;
    safety.announce(&mut controller);
    prepare(&mut controller, &config);
    if controller.ban_count() > 0 {
        info!("still in force from before this start: {}", count(controller.ban_count(), "ban"));
    }

    let who = (config.api, agent(&config));
    let findings = Findings::new(Arc::clone(&load), &config);
    let what = (controller.events().clone(), store.clone());
    let (server, inbox) = server::start(socket, who, what, findings);

    let mut sources = Sources::start(&config, positions, &mut controller);
    sources.wire(responses, &mut controller);
    controller.recall(told, clock::now());
    let outlook = Outlook::new(&config, follows);
    let (tell, seen) = mpsc::channel(1);
    let watch = tokio::spawn(watch_host(safety.switch(), tell));
    let mut parts = Parts {
        geo: Geo::start(&config.geo, geo, &mut controller),
        controller,
        sources,
        events,
        questions: inbox.questions,
        scrapes: inbox.scrapes,
        names: Following::start(outlook.names(&config), dns::system_resolver),
        feeds: Feeds::start(&config),
        store_news,
        seen,
        outlook,
        answers: Answers::default(),
        reloads: Reloads::new(loaded, load, trial),
        safety,
        notify: Notify::of_environment(),
    };
    let why = parts.run(signals).await?;
    let Parts { mut controller, mut sources, notify, .. } = parts;
    notify.stopping();
    controller.stop_lifting();
    controller.keep_peers_exactly(clock::now());
    sources.remember(&controller, true);
    drop(sources);
    if let Some(alerts) = controller.alerts() {
        alerts.stop().await;
    }
    server.abort();
    watch.abort();
    store.end();
    if thread.join().is_err() {
        warn!("the store's thread has panicked; the last changes may not be saved");
    }
    if let Err(error) = fs::remove_file(config.paths.control_socket()) {
        warn!("cannot remove the control socket: {error}");
    }
    info!(
        "stopped by {why}; the filter stays attached and its bans stay in force \
        (`ringfence detach` removes it)"
    );
    Ok(())
}

/// The part of the configuration that the store needs.
fn of_store(config: &Config, jails: Arc<Roster>) -> store::Settings {
    store::Settings {
        directory: config.paths.state.clone(),
        memory: config.paths.runtime.clone(),
        names: Names { ports: config.ports.clone(), jails },
        offenders: Bounds::from(config),
        findtime: config.findtime_max(),
        clock: clock::of_boot,
    }
}

/// The user that the agent of the fleet runs as, if there is a fleet and such a user.
fn agent(config: &Config) -> Option<u32> {
    let user = &config.fleet.user;
    if !config.fleet.is_on() {
        return None;
    }
    match User::from_name(user) {
        Ok(Some(user)) => Some(user.uid.as_raw()),
        Ok(None) => None,
        Err(why) => {
            warn!("who the user `{user}` of `fleet.user` is cannot be found out: {why}");
            None
        }
    }
}

/// The part of the configuration and of the host's state that the kernel needs.
fn settings(
    config: &Config,
    exposure: &Exposure,
    interfaces: Vec<String>,
    own: &BTreeSet<IpNet>,
    disabled: bool,
) -> Settings {
    Settings {
        bpffs: config.paths.bpffs.clone(),
        interfaces,
        mode: config.mode,
        dry_run: config.dry_run,
        disabled,
        own: host::addresses(own),
        trusted: config.trusted.clone(),
        trusted_by_route: config.trusted_by_route,
        sip: config.sip.clone(),
        ports: config.ports.clone(),
        guarded: Guarded { ports: exposure.guards(&config.sip), dry_run: exposure.dry_run },
        limits: config.limits,
        known_for: config.peers.remember,
        user_agents: config.signatures.user_agents.clone(),
        unattended_after: config.watchdog.after(),
        bans: config.capacity.bans,
        bans_ipv6: config.capacity.bans_ipv6,
    }
}

/// Tells the controller what the host depends on, and who is told what happens, before the first attempt. The
/// trunks come later.
fn prepare(controller: &mut Controller<Kernel>, config: &Config) {
    controller.set_alerts(crate::alerts::start(config));
    let essential = Essential::read(&Network::read().unwrap_or_default());
    controller.set_essentials(&essential, &Trunks::default(), clock::now());
}

/// How the daemon uses what it learns about the host.
struct Outlook {
    /// Whether the protected interfaces are those with a default route.
    follows: bool,
    sip: SipPorts,
    /// The directory of the state.
    state: PathBuf,
    /// Asterisk's trunks.
    trunks: Arc<Trunks>,
}

impl Outlook {
    fn new(config: &Config, follows: bool) -> Self {
        let (sip, state) = (config.sip.clone(), config.paths.state.clone());
        Self { follows, sip, state, trunks: Arc::default() }
    }

    /// The names to look up: those in the configuration and those of Asterisk's trunks.
    fn names(&self, config: &Config) -> BTreeSet<HostName> {
        let of_trunks = self.trunks.names.iter().filter(|_| config.protect.trunks);
        dns::names(config).into_iter().chain(of_trunks.cloned()).collect()
    }

    /// Updates the trunks after a check. Returns whether their names have changed.
    fn take_trunks(&mut self, seen: &Seen) -> bool {
        let is_same = self.trunks.names == seen.trunks.names;
        self.trunks = Arc::clone(&seen.trunks);
        !is_same
    }

    /// Takes the result of a check of the host.
    fn take(&self, seen: &Seen, controller: &mut Controller<Kernel>) {
        let Seen { network, asterisk, essential, trunks, listening, .. } = seen;
        controller.set_essentials(essential, trunks, clock::now());
        if self.follows {
            follow(controller.datapath_mut(), network);
            last_interfaces::remember(&self.state, &controller.datapath_mut().interfaces());
        }
        if let Some(listening) = listening
            && let Err(error) = controller.datapath_mut().record_visits(listening)
        {
            warn!("which networks use which ports is not recorded: {error:#}");
        }
        let names = controller.interface_names();
        let protection = Protection { interfaces: &names, sip: &self.sip };
        let exposures = host::exposures(network, asterisk.as_ref(), protection);
        let hint = host::hint(&exposures, asterisk.as_ref(), protection);
        controller.set_exposures(exposures, hint);
    }
}

/// Protects the interfaces that have a default route now. Those that cannot be protected are reported
/// as exposures.
fn follow(kernel: &mut Kernel, network: &Network) {
    let known = kernel.interfaces();
    let is_new = |name: &String| known.iter().all(|interface| interface.name != *name);
    for name in network.exposed().iter().filter(|name| is_new(name)) {
        match kernel.protect(name) {
            Ok(Some(interface)) => {
                if let Some(why) = &interface.unprotected {
                    warn!("`{name}` is unprotected: {why}");
                }
                announce(&[interface]);
            }
            Ok(None) => {}
            Err(error) => debug!("`{name}`: {error:#}"),
        }
    }
}

/// The interfaces to protect if none is named: those with a default route, and those that exist and were
/// protected before, so that an interface stays protected while its route is missing for a moment. Before
/// the network is up, those of the last start.
fn exposed(paths: &Paths) -> Result<Vec<String>> {
    let network = Network::read()?;
    let mut names = network.exposed();
    for (tunnel, beneath) in network.tunnels() {
        match beneath {
            Some(beneath) => info!(
                "the default route is on `{tunnel}`, which has no Ethernet header; protecting `{beneath}`, \
                which carries its packets"
            ),
            None => warn!(
                "the default route is on `{tunnel}`, which has no Ethernet header and is not protected"
            ),
        }
    }
    for name in datapath::protected(&paths.bpffs).unwrap_or_default() {
        if !names.contains(&name) {
            info!("`{name}` has no default route now, but stays protected");
            names.push(name);
        }
    }
    names.truncate(INTERFACES);
    if names.is_empty() {
        names = last_interfaces::recall(&paths.state);
        for name in &names {
            info!("there is no default route; protecting `{name}`, as before");
        }
    }
    if names.is_empty() {
        bail!(
            "there is no default route, so the interface to protect is unknown; \
            name it with `-i` or with `interfaces: [NAME]`"
        );
    }
    Ok(names)
}

/// The result of a check of the host.
struct Seen {
    network: Network,
    asterisk: Option<Asterisk>,
    essential: Essential,
    trunks: Arc<Trunks>,
    /// The ports of services, if they have just been read.
    listening: Option<BTreeSet<(bool, u16)>>,
    /// The file of the emergency switch, if it exists.
    switched: Option<disable::Note>,
}

/// Checks the host repeatedly, outside the loop: it may have many interfaces, routes and processes.
async fn watch_host(switch: PathBuf, tell: mpsc::Sender<Seen>) {
    let (mut asterisk, mut trunks) = (None, Arc::<Trunks>::default());
    for look in 0u32.. {
        if look.is_multiple_of(LOOKS_PER_ASTERISK) {
            let find = || (Asterisk::find(), Arc::new(Trunks::read(Path::new(ASTERISK))));
            let before = trunks.refused.clone();
            (asterisk, trunks) = tokio::task::spawn_blocking(find).await.unwrap_or_default();
            if let Some(why) = trunks.refused.as_ref().filter(|why| before.as_ref() != Some(why)) {
                warn!("the trunks are not read from wazo-confgend: {why}");
            }
        }
        let (switch, lists) = (switch.clone(), look.is_multiple_of(LOOKS_PER_LIST));
        let read = move || {
            let network = Network::read();
            let essential = network.as_ref().map(Essential::read).unwrap_or_default();
            let listening = lists.then(|| {
                host::listening().unwrap_or_else(|error| {
                    debug!("{error:#}");
                    BTreeSet::new()
                })
            });
            (network, essential, disable::read(&switch), listening)
        };
        match tokio::task::spawn_blocking(read).await {
            Ok((Ok(network), essential, switched, listening)) => {
                let (asterisk, trunks) = (asterisk.clone(), Arc::clone(&trunks));
                let seen = Seen { network, asterisk, essential, trunks, listening, switched };
                if tell.send(seen).await.is_err() {
                    return;
                }
            }
            Ok((Err(error), ..)) => debug!("{error:#}"),
            Err(error) => debug!("{error}"),
        }
        sleep_until(next_turn(HOST_LOOK)).await;
    }
}

fn announce(interfaces: &[Interface]) {
    // An interface without the program has already been reported.
    for interface in interfaces.iter().filter(|interface| interface.unprotected.is_none()) {
        let Interface { name, mode, fallback, adopted, .. } = interface;
        let mode = mode.as_str();
        let how = if *adopted { "replaced the program on" } else { "attached to" };
        match fallback {
            Some(why) => warn!("{how} {name} in {mode} mode: {why}"),
            None => info!("{how} {name} in {mode} mode"),
        }
    }
}

fn make_directory(path: &Path) -> Result<()> {
    if path.exists() && !path.is_dir() {
        bail!("{} is not a directory", path.display());
    }
    let mut make = DirBuilder::new();
    make.recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("create {}", path.display()))
}
