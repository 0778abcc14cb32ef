//! The loop that owns the controller. Each kind of work has its turn after the kinds before it, and every
//! turn is short.

use std::future::ready;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use log::warn;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::alerts;
use super::answer::Answers;
use super::feeds::Feeds;
use super::geo::Geo;
use super::inbox::{Question, Scrape};
use super::notify::Notify;
use super::reload::Reloads;
use super::safety::Safety;
use super::sources::Sources;
use super::{Demand, HOST_LOOK, Outlook, Seen, Signals};
use crate::beat;
use crate::clock::turns;
use crate::controller::Controller;
use crate::datapath::{Datapath as _, Events, Interface, Kernel};
use crate::dns::{self, Following};
use crate::host;
use crate::report::count;
use crate::store::News;

/// How long work that writes waits for a store that does not keep up.
const PAUSE: Duration = Duration::from_millis(20);

/// How long the report of the start waits for the sources. One that cannot be opened, such as a remote AMI,
/// must not hold up the units that are ordered after the service.
const SOURCES_WAIT: Duration = Duration::from_secs(10);

/// The sources of work and their state.
pub(super) struct Parts {
    pub(super) controller: Controller<Kernel>,
    pub(super) sources: Sources,
    pub(super) events: Events,
    pub(super) questions: mpsc::Receiver<Question>,
    pub(super) scrapes: mpsc::Receiver<Scrape>,
    pub(super) names: Following,
    pub(super) feeds: Feeds,
    pub(super) geo: Geo,
    pub(super) store_news: mpsc::Receiver<News>,
    pub(super) seen: mpsc::Receiver<Seen>,
    pub(super) outlook: Outlook,
    pub(super) answers: Answers,
    pub(super) reloads: Reloads,
    pub(super) safety: Safety,
    pub(super) notify: Notify,
}

impl Parts {
    /// Runs until a signal ends it, and returns which.
    pub(super) async fn run(&mut self, mut signals: Signals) -> Result<&'static str> {
        let mut host_look = turns(HOST_LOOK);
        let mut had = Turn::None;
        let start = Instant::now();
        let mut beats = turns(beat::EVERY);
        loop {
            self.beat();
            self.tell_manager(start);
            let Self { controller, sources, events, questions, names, reloads, .. } = self;
            let (store_news, seen) = (&mut self.store_news, &mut self.seen);
            let scrapes = &mut self.scrapes;
            let (feeds, takes_feeds) = (&mut self.feeds, controller.takes_feeds());
            let geo = &mut self.geo;
            let alarm = alarm(controller).min(next_report(&self.notify, start));
            let pause = pause(controller);
            let has_more = controller.has_more_to_do() || controller.is_lifting();
            let (first, second) = (had < Turn::Sources, had < Turn::Questions);
            had = tokio::select! {
                biased;
                told = signals.next() => match told {
                    Demand::End(signal) => return Ok(signal),
                    Demand::Reload => {
                        self.notify.reloading();
                        reloads.begin_for_signal();
                        had
                    }
                },
                Some(news) = sources.next(), if first => {
                    sources.take(controller, news);
                    Turn::Sources
                }
                result = next_events(events, controller), if second => {
                    result.context("wait for the kernel's events")?;
                    Turn::Questions
                }
                Some(question) = questions.recv(), if second => {
                    let parts = (reloads, feeds, &mut self.safety, &mut self.answers);
                    answer(question, controller, parts);
                    Turn::Questions
                }
                Some(scrape) = scrapes.recv(), if second => {
                    scrape.answer(controller);
                    Turn::Questions
                }
                Some(news) = names.next(), if second => {
                    controller.resolved(news, crate::clock::now());
                    Turn::Questions
                }
                Some(read) = reloads.next(), if second => {
                    let disabled = self.safety.is_disabled();
                    reloads.take(read, controller, (&mut self.outlook, names, geo), disabled);
                    feeds.follow(reloads.running());
                    if self.notify.is_ready() {
                        self.notify.ready();
                    }
                    Turn::Questions
                }
                Some(news) = store_news.recv() => {
                    match news {
                        News::Kept(kept) => controller.take_kept(kept),
                        News::WantsAll => controller.put_all(),
                    }
                    Turn::None
                }
                () = wait(alarm) => {
                    controller.handle_timeout(crate::clock::now());
                    // It has its turns even while a million bans end.
                    self.go_on();
                    Turn::None
                }
                () = wait(pause), if has_more => {
                    self.go_on();
                    Turn::None
                }
                Some(news) = feeds.next(), if takes_feeds => {
                    feeds.take(controller, news);
                    Turn::None
                }
                Some(news) = geo.next() => {
                    geo.take(controller, news);
                    Turn::None
                }
                Some(seen) = seen.recv() => {
                    take_look(&seen, controller, (&mut self.outlook, names, reloads));
                    self.safety.look(seen.switched, controller);
                    Turn::None
                }
                // The loop beats before each turn, so that one that hangs does not.
                _ = beats.tick() => Turn::None,
                _ = host_look.tick() => {
                    look_around(controller, &mut self.safety, reloads, geo);
                    sources.remember(controller, false);
                    self.notify.status(summary(controller));
                    Turn::None
                }
                // None of the kinds of work behind has anything to do.
                () = ready(()), if had > Turn::None => Turn::None,
            };
        }
    }

    /// Gives the filter a sign of life.
    fn beat(&mut self) {
        let before = self.controller.datapath_mut().beat(crate::clock::now());
        if let Some(note) = before.and_then(|last| beat::after_silence(last, crate::clock::read()))
        {
            warn!("{note}");
        }
    }

    /// Sends the service manager the reports that are due. The filter is attached when this runs.
    fn tell_manager(&mut self, start: Instant) {
        let is_up = self.controller.sources_are_settled() || start.elapsed() >= SOURCES_WAIT;
        if !self.notify.is_ready() && is_up {
            self.notify.status(summary(&mut self.controller));
            self.notify.ready();
        }
        self.notify.live();
    }

    /// Does a little of the work that is spread over many turns.
    fn go_on(&mut self) {
        let now = crate::clock::now();
        self.controller.go_on(now);
        if let Some(done) = self.controller.lift_more(now) {
            self.answers.done(self.controller.store(), done);
        }
    }
}

/// Takes what was seen of the host.
fn take_look(
    seen: &Seen,
    controller: &mut Controller<Kernel>,
    (outlook, names, reloads): (&mut Outlook, &mut Following, &Reloads),
) {
    outlook.take(seen, controller);
    if outlook.take_trunks(seen) {
        *names = Following::start(outlook.names(reloads.running()), dns::system_resolver);
    }
}

/// Has the part answer a question that it is for.
fn answer(
    question: Question,
    controller: &mut Controller<Kernel>,
    (reloads, feeds, safety, answers): (&mut Reloads, &mut Feeds, &mut Safety, &mut Answers),
) {
    let other = reloads.begin_for(question);
    let other = other.and_then(|question| feeds.answer_for(question, controller));
    let other = other.and_then(|question| alerts::answer_for(question, controller));
    if let Some(question) = other.and_then(|q| safety.confirm_for(q, reloads, controller)) {
        answers.answer(controller, question);
    }
}

/// The kind of work that had the last turn. The kinds before it wait until those behind it have had theirs,
/// if they have anything to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Turn {
    None,
    Sources,
    Questions,
}

async fn next_events(
    events: &mut Events,
    controller: &mut Controller<Kernel>,
) -> std::io::Result<()> {
    events.next_batch(|event| controller.limit_exceeded(event)).await
}

/// What is done every few seconds.
fn look_around(
    controller: &mut Controller<Kernel>,
    safety: &mut Safety,
    reloads: &mut Reloads,
    geo: &mut Geo,
) {
    controller.set_clock(crate::clock::read());
    look_at_host(controller);
    controller.tell_changes(crate::clock::now());
    controller.tell_alerts(crate::clock::now());
    safety.tick(controller, reloads.running(), crate::clock::now());
    reloads.tick(controller, safety.is_disabled());
    controller.look_at_hearing(crate::clock::now());
    controller.count_feeds(crate::clock::now());
    geo.tick(controller);
    controller.remember_peers(crate::clock::now());
    controller.keep_peers(crate::clock::now());
}

/// Follows changes of the host: its addresses, and interfaces that were created again.
fn look_at_host(controller: &mut Controller<Kernel>) {
    match host::own_networks() {
        Ok(own) => controller.set_own(own),
        Err(error) => warn!("{error:#}"),
    }
    for note in controller.datapath_mut().check() {
        warn!("{note}");
    }
}

/// The time until the next report to the service manager is due.
fn next_report(notify: &Notify, start: Instant) -> Duration {
    let beat = notify.until_due().unwrap_or(Duration::MAX);
    let waits = SOURCES_WAIT.saturating_sub(start.elapsed());
    if notify.is_ready() { beat } else { beat.min(waits) }
}

/// What `systemctl status` shows.
fn summary(controller: &mut Controller<Kernel>) -> String {
    let bans = count(controller.ban_count(), "ban");
    let interfaces = controller.datapath_mut().interfaces();
    let (bare, protected): (Vec<_>, Vec<_>) =
        interfaces.into_iter().partition(|interface| interface.unprotected.is_some());
    let names = |interfaces: Vec<Interface>| {
        interfaces.into_iter().map(|interface| interface.name).collect::<Vec<_>>().join(", ")
    };
    let unprotected =
        if bare.is_empty() { String::new() } else { format!("; UNPROTECTED: {}", names(bare)) };
    format!("protects {}; {bans}{unprotected}", names(protected))
}

/// How long until the controller next has something to do.
fn alarm(controller: &Controller<Kernel>) -> Duration {
    const LONGEST: Duration = Duration::from_hours(1);
    let wait = controller.next_timeout().map_or(LONGEST, |next| next.since(crate::clock::now()));
    wait.min(LONGEST)
}

/// How long until the next part of the work that is spread over many turns.
fn pause(controller: &Controller<Kernel>) -> Duration {
    match (controller.store().has_room(), controller.store().keeps_up()) {
        (true, _) => Duration::ZERO,
        // The store cannot be written at all, so waiting for it is useless.
        (false, true) => Duration::from_millis(1),
        (false, false) => PAUSE,
    }
}

/// [`sleep`], but without the millisecond that even a sleep of zero takes.
async fn wait(time: Duration) {
    if !time.is_zero() {
        sleep(time).await;
    }
}
