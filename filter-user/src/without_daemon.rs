//! `bans`, `unban` and the history of `confirm` while no daemon runs. They use a controller over the pinned
//! maps and the store, so that the answers are the same as the daemon's.
//!
//! A change is written to the store before the kernel. So a failure leaves both unchanged, or the ban is
//! lifted in the store and remains in the kernel until its end.
//!
//! Must never change the kernel before the store.

mod snapshot;

use std::fs::{self, DirBuilder};
use std::mem;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use api::{Durability, Reply, Request};
use log::Level;
use nix::unistd::{Gid, Uid, geteuid, setfsgid, setfsuid};
use serde_json::Value;
use tokio::runtime::Runtime;

use self::snapshot::{Snapshot, is_enforced};
use crate::ban::Roster;
use crate::client::{self, NoDaemon};
use crate::clock;
use crate::config::Config;
use crate::controller::{Answered, Controller, Ticket};
use crate::daemon::who;
use crate::datapath::{self, InUse, Owned, Pinned};
use crate::escalation::Bounds;
use crate::host;
use crate::logging::say;
use crate::report::count;
use crate::store::{self, Kept, Names, Peeked, Store};

/// How long a daemon may take from its start to its first answer. A million bans take a few seconds.
const STARTING: Duration = Duration::from_secs(20);

/// How often it is asked during that time.
const AGAIN: Duration = Duration::from_millis(200);

/// Changes of the kernel that wait until they are durable.
const TOGETHER: usize = 4096;

/// Asks the daemon, or answers without one.
pub struct Asker {
    socket: PathBuf,
    /// The configuration of the daemon at this socket, if it is known.
    config: Option<Config>,
    instead: Option<WithoutDaemon>,
}

impl Asker {
    /// For the daemon at `socket` with this configuration. With `None` the configuration is unknown, and
    /// requests fail if no daemon runs.
    pub fn new(socket: &Path, config: Option<Config>) -> Self {
        Self { socket: socket.to_owned(), config, instead: None }
    }

    /// Sends a request, and reports on standard error if no daemon runs.
    ///
    /// # Errors
    ///
    /// The same as of [`client::ask`], or if the pinned maps or the store cannot be read or changed.
    pub fn ask(&mut self, request: &Request) -> Result<Value> {
        let deadline = Instant::now() + STARTING;
        loop {
            if let Some(instead) = &mut self.instead {
                return instead.answer(request.clone());
            }
            let why = match client::ask(&self.socket, request) {
                Err(why) if why.is::<NoDaemon>() => why,
                answer => return answer,
            };
            let Some(config) = &self.config else { return Err(why) };
            let begun = if request.changes() { change(config) } else { read(config) };
            match begun {
                Ok(Some(instead)) => {
                    say(Level::Warn, instead.introduction());
                    self.instead = Some(instead);
                }
                Ok(None) => return Err(why),
                // A starting daemon has the lock before it answers.
                Err(error) if error.is::<InUse>() && Instant::now() < deadline => {
                    thread::sleep(AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Completes the changes, if any were made without a daemon.
    ///
    /// # Errors
    ///
    /// If the thread that writes the store has failed.
    pub fn end(self) -> Result<()> {
        self.instead.map_or(Ok(()), WithoutDaemon::end)
    }
}

/// Records a manual change in the history. Does nothing without a store.
///
/// # Errors
///
/// If a daemon runs, or the store cannot be written.
pub fn note(config: &Config, action: &str) -> Result<()> {
    let Some(mut instead) = change(config)? else { return Ok(()) };
    let who = instead.changing.as_ref().map_or("", |changing| &*changing.who).to_owned();
    let now = clock::read();
    instead.controller.set_clock(now);
    instead.controller.note_change(None, &who, action.to_owned(), now.kernel);
    instead.carry_out()?;
    instead.end()
}

/// A controller without a daemon around it.
struct WithoutDaemon {
    controller: Controller<Snapshot>,
    /// Access for changes; `None` if it only reads.
    changing: Option<Changing>,
    /// Whether there are maps.
    is_pinned: bool,
}

struct Changing {
    // Keeps daemons away.
    owned: Owned,
    store: Store,
    writes: thread::JoinHandle<()>,
    runtime: Runtime,
    /// The user who makes the change, for the history.
    who: String,
    /// Changes that were made in the kernel.
    made: usize,
    /// Whether the store has failed. Its waiting changes must not be written later.
    has_failed: bool,
}

/// Reads the bans in force, without a lock, so that it does not delay others. `None` if there is nothing
/// to read.
fn read(config: &Config) -> Result<Option<WithoutDaemon>> {
    let pinned = Pinned::open(&config.paths.bpffs)?;
    let roster = roster(config);
    let settings = store_settings(config, &roster);
    let peeked = as_owner(&config.paths.state, || store::peek(&settings));
    let peeked = peeked.map_err(|why| anyhow!(why))?;
    if pinned.is_none() && peeked.is_none() {
        return Ok(None);
    }
    let Peeked { mut kept, is_whole } = peeked.unwrap_or_default();
    if !is_whole {
        say(
            Level::Warn,
            &format!(
                "the store {} cannot be read as a whole; the reasons of some bans are missing",
                config.paths.state.join(store::FILE).display()
            ),
        );
    }
    if let Some(pinned) = &pinned {
        let held = pinned.held()?;
        let is_enforced = is_enforced(&held, clock::now());
        kept.bans.retain(|entry| is_enforced(&entry.ban));
    }
    let is_pinned = pinned.is_some();
    let controller = controller(config, roster, pinned, (Store::nowhere(), kept))?;
    Ok(Some(WithoutDaemon { controller, changing: None, is_pinned }))
}

/// Takes the lock for changing bans. `None` if there are no bans.
fn change(config: &Config) -> Result<Option<WithoutDaemon>> {
    let has_store = config.paths.state.join(store::FILE).exists();
    if !has_store && !config.paths.bpffs.exists() {
        return Ok(None);
    }
    let owned = datapath::own(&config.paths.bpffs)?;
    let pinned = Pinned::open(&config.paths.bpffs)?;
    if !has_store && pinned.is_none() {
        return Ok(None);
    }
    make_directory(&config.paths.state)?;
    let roster = roster(config);
    let settings = store_settings(config, &roster);
    let started = as_owner(&config.paths.state, || store::start(settings));
    let started = started.context("start the store's thread")?;
    let store = started.store;
    let status = store.status();
    let (Some(mut kept), None) = (started.kept, &status.failed) else {
        let why = status.failed.unwrap_or_default();
        bail!("nothing was changed, because the store {} failed: {why}", status.path.display());
    };
    if let Some(replaced) = status.replaced {
        say(Level::Warn, &replaced);
    }
    let told = mem::take(&mut kept.jail_records);
    let is_pinned = pinned.is_some();
    let mut controller = controller(config, roster, pinned, (store.clone(), kept))?;
    // Failures that are forgotten now must not count at the next start.
    controller.recall(told, clock::now());
    controller.datapath_mut().discard();
    let runtime = tokio::runtime::Builder::new_current_thread().build().context("wait")?;
    let who = who(Some(geteuid().as_raw()), &client::by());
    let writes = started.thread;
    let changing =
        Some(Changing { owned, store, writes, runtime, who, made: 0, has_failed: false });
    Ok(Some(WithoutDaemon { controller, changing, is_pinned }))
}

fn roster(config: &Config) -> Arc<Roster> {
    Arc::new(config.roster())
}

fn store_settings(config: &Config, roster: &Arc<Roster>) -> store::Settings {
    let paths = &config.paths;
    // The service manager removes the directory of a daemon that has stopped.
    let memory = if paths.runtime.is_dir() { paths.runtime.clone() } else { std::env::temp_dir() };
    store::Settings {
        directory: paths.state.clone(),
        memory,
        names: Names { ports: config.ports.clone(), jails: Arc::clone(roster) },
        offenders: Bounds::from(config),
        findtime: config.findtime_max(),
        clock: clock::of_boot,
    }
}

fn controller(
    config: &Config,
    roster: Arc<Roster>,
    pinned: Option<Pinned>,
    (store, kept): (Store, Kept),
) -> Result<Controller<Snapshot>> {
    let now = clock::read();
    let held = pinned.as_ref().map(Pinned::held).transpose()?.unwrap_or_default();
    let floods = pinned.as_ref().map(|pinned| pinned.floods(now.kernel)).transpose()?;
    let snapshot = Snapshot::new(pinned, now.kernel)?;
    // The kernel has the current state of whether packets are dropped.
    let config = Config { dry_run: false, ..config.clone() };
    let own = host::own_networks()?;
    let mut controller =
        Controller::new(snapshot, &config, roster, own, (store, Some(kept), &held), now)?;
    for (source, until) in floods.unwrap_or_default() {
        controller.take_flood(source, until);
    }
    controller.datapath_mut().discard();
    Ok(controller)
}

/// Runs this, including the threads that it starts, with the file access rights of the owner of
/// `directory`. Root must not write through a symbolic link that the daemon's user has made there, nor
/// leave files that the daemon cannot write.
fn as_owner<T>(directory: &Path, access: impl FnOnce() -> T) -> T {
    let owner = fs::metadata(directory).ok().filter(|owner| owner.uid() != 0);
    let Some(owner) = owner.filter(|_| geteuid().is_root()) else { return access() };
    let (user, group) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
    let before = (setfsgid(group), setfsuid(user));
    let done = access();
    // The user first, so that the process may then change the group.
    setfsuid(before.1);
    setfsgid(before.0);
    done
}

fn make_directory(path: &Path) -> Result<()> {
    if fs::exists(path).unwrap_or(false) {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("create {}", path.display()))
}

impl WithoutDaemon {
    /// The message before the first answer.
    fn introduction(&self) -> &'static str {
        match (&self.changing, self.is_pinned) {
            (None, true) => "no daemon runs: these bans are in the kernel, and end by themselves",
            (None, false) => {
                "no daemon runs, and there is no filter: the next start enforces these bans"
            }
            (Some(_), true) => "no daemon runs: the kernel and the store are changed directly",
            (Some(_), false) => {
                "no daemon runs, and there is no filter: the store is changed directly"
            }
        }
    }

    fn answer(&mut self, request: Request) -> Result<Value> {
        if self.changing.as_ref().is_some_and(|changing| changing.has_failed) {
            bail!("the store has failed");
        }
        let now = clock::read();
        self.controller.set_clock(now);
        let who = self.changing.as_ref().map_or("", |changing| &*changing.who).to_owned();
        let mut reply = match self.controller.answer_to(request, &*who, now.kernel) {
            Answered::Now(reply) => reply,
            Answered::Later(ticket) => self.lift(ticket)?,
        };
        self.carry_out()?;
        if let Reply::Ok(answer) = &mut reply
            && let Some(durability) = answer.durability_mut()
        {
            *durability = Durability { durable: true, why: None };
        }
        match reply {
            Reply::Ok(answer) => serde_json::to_value(answer).context("write the answer"),
            Reply::Error(why) => bail!(why.message),
        }
    }

    /// Lifts bans, of which there may be many.
    fn lift(&mut self, ticket: Ticket) -> Result<Reply> {
        loop {
            match self.controller.lift_more(clock::now()) {
                Some((done, reply)) if done == ticket => return Ok(reply),
                Some(_) | None => {}
            }
            if self.controller.datapath_mut().waiting() >= TOGETHER {
                self.carry_out()?;
            }
            if !self.controller.store().keeps_up() {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Makes the changes in the kernel once they are durable.
    fn carry_out(&mut self) -> Result<()> {
        let Some(changing) = &mut self.changing else { return Ok(()) };
        if let Err(why) = changing.runtime.block_on(changing.store.settled()) {
            changing.has_failed = true;
            let path = changing.store.status().path;
            let made = match changing.made {
                0 => "nothing was changed".to_owned(),
                made => format!("{} lifted, and the others are not", count(made, "ban")),
            };
            bail!("{made}, because the store {} failed: {why}", path.display());
        }
        let (made, refused) = self.controller.datapath_mut().carry_out(&changing.owned);
        changing.made += made;
        match refused {
            None => Ok(()),
            Some(why) => bail!(
                "the store has lifted what was asked for, but the kernel has not: {why:#}; it drops packets until \
                 these bans end, unless the next start takes them over"
            ),
        }
    }

    fn end(self) -> Result<()> {
        let Some(changing) = self.changing.filter(|changing| !changing.has_failed) else {
            return Ok(());
        };
        changing.store.end();
        changing.writes.join().map_err(|_panic| anyhow!("the store's thread has panicked"))
    }
}

#[cfg(test)]
mod tests {
    use api::{BansQuery, Unban};

    use super::*;
    use crate::ban::{Ban, Entry, Origin};
    use crate::clock::Moment;
    use crate::config::{Paths, Scope};

    fn config(directory: &Path) -> Config {
        let paths = Paths {
            state: directory.join("state"),
            runtime: directory.join("run"),
            bpffs: directory.join("bpffs"),
        };
        Config { paths, ..Config::default() }
    }

    #[test]
    fn without_anything_there_is_no_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        let socket = config.paths.control_socket();
        let unban = Request::Unban(Unban::All);
        for known in [Some(config), None] {
            let mut asker = Asker::new(&socket, known);
            for request in [&Request::Bans(BansQuery::default()), &unban] {
                assert!(asker.ask(request).unwrap_err().is::<NoDaemon>());
            }
            asker.end().unwrap();
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn root_acts_as_the_owner_of_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        if !geteuid().is_root() {
            return;
        }
        std::os::unix::fs::chown(directory.path(), Some(65_534), Some(65_534)).unwrap();
        let (of_it, of_a_thread) = as_owner(directory.path(), || {
            let write = |name: &str| {
                let path = directory.path().join(name);
                fs::write(&path, "").unwrap();
                fs::metadata(path).unwrap().uid()
            };
            let of_a_thread = thread::scope(|scope| scope.spawn(|| write("two")).join().unwrap());
            (write("one"), of_a_thread)
        });
        assert_eq!((of_it, of_a_thread), (65_534, 65_534));
        fs::write(directory.path().join("three"), "").unwrap();
        assert_eq!(fs::metadata(directory.path().join("three")).unwrap().uid(), 0);
    }

    #[test]
    fn the_store_alone_is_listed() {
        let directory = tempfile::tempdir().unwrap();
        let config = config(directory.path());
        fs::create_dir(&config.paths.state).unwrap();
        let started = store::start(store_settings(&config, &roster(&config))).unwrap();
        let (scope, origin, since) = (Scope::Sip, Origin::Manual, Moment(0));
        for network in ["203.0.113.1/32", "203.0.113.2/32"] {
            let network = network.parse().unwrap();
            let ban = Ban { network, scope, origin, since, until: None };
            started.store.put(&Entry::new(ban, "abuse"), true, None);
        }
        started.store.end();
        started.thread.join().unwrap();
        let mut asker = Asker::new(&config.paths.control_socket(), Some(config));
        let query = BansQuery { jail: Some("manual".to_owned()), ..BansQuery::default() };
        let page = asker.ask(&Request::Bans(query)).unwrap();
        let networks: Vec<_> =
            page["bans"].as_array().unwrap().iter().map(|row| row["network"].clone()).collect();
        assert_eq!(networks, ["203.0.113.1", "203.0.113.2"]);
        assert_eq!(
            (&page["bans"][0]["reason"], &page["enforcing"]),
            (&"abuse".into(), &false.into())
        );
        let wrong = BansQuery { jail: Some("none".to_owned()), ..BansQuery::default() };
        let refused = asker.ask(&Request::Bans(wrong)).unwrap_err().to_string();
        assert!(refused.contains("there is no jail `none`"), "{refused}");
    }
}
