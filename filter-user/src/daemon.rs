//! The daemon: builds the parts, then is the one loop that owns the controller.
//!
//! In order of importance: end when told to, hear attempts, hear the kernel, let bans end, answer
//! questions.

mod answer;
mod own_logs;
mod server;
mod sources;

use std::fs::{self, DirBuilder};
use std::future::Future;
use std::mem;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use log::{info, warn};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep, sleep_until};

use self::answer::answer;
use self::sources::Sources;
use crate::ban::Roster;
use crate::clock::{KernelTime, Now};
use crate::config::Config;
use crate::controller::Controller;
use crate::datapath::{Events, Interface, Kernel, Opened, Settings};
use crate::dns::{self, Following};
use crate::escalation::Bounds;
use crate::host;
use crate::report::count;
use crate::store::{self, Names, News, Started};

/// Questions that wait for the controller; a client waits when there are more.
const QUESTIONS_WAITING: usize = 16;

/// How often the host's addresses and interfaces are looked at, and whether the sources hear.
const HOST_LOOK: Duration = Duration::from_secs(5);

/// How long the controller hears others before it puts more of its bans into a new store.
const PUTTING: Duration = Duration::from_millis(20);

/// What ends the daemon: SIGINT or SIGTERM. The signals by which other daemons reload or open their logs
/// anew end nothing.
///
/// # Errors
///
/// When signals cannot be waited for.
pub fn signals() -> Result<impl Future<Output = &'static str>> {
    let wait = |kind, name| signal(kind).with_context(|| format!("wait for {name}"));
    let mut interrupt = wait(SignalKind::interrupt(), "SIGINT")?;
    let mut terminate = wait(SignalKind::terminate(), "SIGTERM")?;
    let mut hangup = wait(SignalKind::hangup(), "SIGHUP")?;
    let mut user1 = wait(SignalKind::user_defined1(), "SIGUSR1")?;
    let mut user2 = wait(SignalKind::user_defined2(), "SIGUSR2")?;
    Ok(async move {
        loop {
            let ignored = tokio::select! {
                _ = interrupt.recv() => return "SIGINT",
                _ = terminate.recv() => return "SIGTERM",
                _ = hangup.recv() => "SIGHUP",
                _ = user1.recv() => "SIGUSR1",
                _ = user2.recv() => "SIGUSR2",
            };
            warn!(
                "{ignored} is ignored: there is no reload yet. `systemctl restart ringfence` takes a new \
                 configuration, and the filter stays in force meanwhile; rotated logs are followed by \
                 themselves"
            );
        }
    })
}

/// Runs until `shutdown` is done. The filter stays in force after it.
///
/// # Errors
///
/// When it cannot start: no such interface, another controller at work, a kernel that refuses.
pub async fn run(config: Config, shutdown: impl Future<Output = &'static str>) -> Result<()> {
    let interfaces = match &config.interfaces[..] {
        [] => vec![host::default_interface()?],
        named => named.to_vec(),
    };
    // What can go wrong without the kernel goes wrong before it has the program.
    let own = host::own_networks()?;
    make_directory(&config.paths.state)?;
    make_directory(&config.paths.runtime)?;
    let settings = Settings {
        bpffs: config.paths.bpffs.clone(),
        interfaces,
        mode: config.mode,
        dry_run: config.dry_run,
        trusted: own.iter().chain(&config.trusted).copied().collect(),
        sip: config.sip.clone(),
        ports: config.ports.clone(),
        limits: config.limits,
        peers: config.peers,
        signatures: config.signatures.clone(),
        bans: config.capacity.bans,
        bans_ipv6: config.capacity.bans_ipv6,
    };
    // First of all: whether another controller is at work.
    let locked = Kernel::lock(&settings)?;
    let roster = Arc::new(Roster::new(config.jails.keys().copied()));
    // A million bans take longer to read than a program to load: the one while the other.
    let starting = store::begin(store::Settings {
        directory: config.paths.state.clone(),
        names: Names { ports: config.ports.clone(), jails: Arc::clone(&roster) },
        offenders: Bounds::from(&config),
        findtime: config.jails.values().map(|jail| jail.findtime).max().unwrap_or_default(),
        clock: store::Clock::read,
    })
    .context("start the store's thread")?;
    let Opened { kernel, mut events, bans, notes } = locked.open(&settings)?;
    for note in notes {
        warn!("{note}");
    }
    #[cfg(feature = "trace")]
    let mut kernel = kernel;
    #[cfg(feature = "trace")]
    let _loggers = crate::trace::start(&mut kernel)?;
    announce(&kernel, config.dry_run);
    let Started { store, mut kept, news: mut store_news, thread } = starting.wait();
    let (positions, told) = kept
        .as_mut()
        .map(|kept| (mem::take(&mut kept.positions), mem::take(&mut kept.told)))
        .unwrap_or_default();
    let bans = (store.clone(), kept, &bans);
    let mut controller = Controller::new(kernel, &config, roster, own, bans, Now::read())?;
    if controller.ban_count() > 0 {
        info!("in force from before this start: {}", count(controller.ban_count(), "ban"));
    }

    let (ask, mut questions) = mpsc::channel(QUESTIONS_WAITING);
    let socket = server::bind(&config.paths.control_socket())?;
    let server = tokio::spawn(server::serve(socket, ask));

    let mut sources = Sources::start(&config, positions, &mut controller);
    controller.recall(told, KernelTime::now());
    let mut names = Following::start(dns::names(&config), dns::system_resolver);
    let mut host_look = interval(HOST_LOOK);
    tokio::pin!(shutdown);
    let why = loop {
        let alarm = alarm(&controller);
        tokio::select! {
            biased;
            signal = &mut shutdown => break signal,
            Some(news) = sources.next() => sources.take(&mut controller, news),
            result = next_events(&mut events, &mut controller) => {
                result.context("wait for the kernel's events")?;
            }
            () = sleep_until(alarm) => controller.handle_timeout(KernelTime::now()),
            Some(news) = names.next() => controller.resolved(news, KernelTime::now()),
            Some(question) = questions.recv() => answer(&mut controller, question),
            Some(news) = store_news.recv() => match news {
                News::Kept(kept) => controller.take_kept(kept, KernelTime::now()),
                News::WantsAll => controller.put_all(),
            },
            () = sleep(PUTTING), if controller.is_putting_all() => controller.put_more(),
            _ = host_look.tick() => {
                look_at_host(&mut controller);
                controller.look_at_hearing(KernelTime::now());
                sources.remember(&controller, false);
            }
        }
    };
    sources.remember(&controller, true);
    drop(sources);
    server.abort();
    store.end();
    if thread.join().is_err() {
        warn!("the store's thread has failed");
    }
    if let Err(error) = fs::remove_file(config.paths.control_socket()) {
        warn!("remove the control socket: {error}");
    }
    info!(
        "ended by {why}; the filter stays attached and its bans in force \
         (`ringfence detach` takes it off)"
    );
    Ok(())
}

async fn next_events(
    events: &mut Events,
    controller: &mut Controller<Kernel>,
) -> std::io::Result<()> {
    events.next_batch(|event| controller.limit_exceeded(event)).await
}

/// Follows what may have changed on the host: its addresses, and interfaces that were made anew.
fn look_at_host(controller: &mut Controller<Kernel>) {
    match host::own_networks() {
        Ok(own) => controller.set_own(own),
        Err(error) => warn!("{error:#}"),
    }
    for note in controller.datapath_mut().check() {
        warn!("{note}");
    }
}

/// When the controller has something to do by itself.
fn alarm(controller: &Controller<Kernel>) -> Instant {
    const LONGEST: Duration = Duration::from_hours(1);
    let wait = controller.next_timeout().map_or(LONGEST, |next| next.since(KernelTime::now()));
    Instant::now() + wait.min(LONGEST)
}

fn announce(kernel: &Kernel, dry_run: bool) {
    for Interface { name, mode, fallback, adopted, .. } in kernel.interfaces() {
        let mode = mode.as_str();
        let how = if *adopted { "took over" } else { "attached to" };
        match fallback {
            Some(why) => warn!("{how} {name} in {mode} mode: its driver does not do XDP ({why})"),
            None => info!("{how} {name} in {mode} mode"),
        }
    }
    if dry_run {
        warn!("dry run: judges and counts, drops nothing");
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
        .with_context(|| format!("make {}", path.display()))
}
