//! Fetches the lists of feeds, keeps them under `paths.state`, and says what changes. Each feed is a task of its
//! own; nothing here decides what is banned, and the loop never waits for a list.
//!
//! Must never decide what is banned, put a key on a command line, or follow a redirect with a key.

mod fetch;
mod keep;
mod once;
pub mod text;
mod worker;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::{FeedConfirmed, FeedRow, FeedState};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

pub use self::once::{Once, test};
use crate::config::{Config, Feed};
use crate::controller::FeedUpdate;

/// The part of the tables for networks and single IPv6 addresses that feeds may fill, in quarters.
const SHARE: u32 = 3;

/// News of a feed.
#[derive(Debug)]
pub struct News {
    /// The place of the feed in the configuration.
    pub feed: u8,
    /// Its state.
    pub report: Report,
    /// What to ban and what not to, if that has changed.
    pub update: Option<FeedUpdate>,
}

/// What is known about a list without the bans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub(crate) state: FeedState,
    pub(crate) problem: Option<String>,
    pub(crate) entries: u64,
    pub(crate) left_out: u64,
    pub(crate) unread: u64,
    /// Seconds since 1970; 0: never.
    pub(crate) fetched: u64,
    pub(crate) next: u64,
    pub(crate) until: u64,
}

/// A request to use a list that was refused, or all that a feed lists.
#[derive(Debug)]
pub struct Confirm {
    /// Whether the bans of the feed had been lifted.
    pub was_paused: bool,
    /// Gets the result.
    pub reply: oneshot::Sender<Result<FeedConfirmed, String>>,
}

/// The running feeds.
#[derive(Debug)]
pub struct Running {
    /// By their places.
    pub feeds: Vec<Handle>,
    /// News of them.
    pub news: mpsc::Receiver<News>,
    tell: mpsc::Sender<News>,
}

/// A running feed.
#[derive(Debug)]
pub struct Handle {
    /// Its row, without its bans.
    pub row: FeedRow,
    /// Its task takes requests here.
    pub confirm: mpsc::Sender<Confirm>,
    settings: Feed,
    task: JoinHandle<()>,
    /// When it is dropped, the task ends.
    _keep: watch::Sender<()>,
}

/// Starts the feeds of a configuration.
pub fn start(config: &Config) -> Running {
    let (tell, news) = mpsc::channel(1);
    let feeds = (0..).zip(&config.feeds);
    let feeds = feeds.map(|(place, (name, feed))| begin(config, (place, name, feed), &tell, None));
    Running { feeds: feeds.collect(), news, tell }
}

impl Running {
    /// Uses other settings of the same feeds. Returns the places of those that have changed: each begins again when
    /// its old task has ended, with the list that is kept.
    pub fn change(&mut self, config: &Config) -> Vec<u8> {
        let mut changed = Vec::new();
        let feeds = std::mem::take(&mut self.feeds);
        self.feeds.reserve(feeds.len());
        for ((place, (name, feed)), handle) in (0..).zip(&config.feeds).zip(feeds) {
            if handle.settings == *feed {
                self.feeds.push(handle);
                continue;
            }
            let Handle { task, .. } = handle;
            self.feeds.push(begin(config, (place, name, feed), &self.tell, Some(task)));
            changed.push(place);
        }
        changed
    }
}

fn begin(
    config: &Config,
    (place, name, feed): (u8, &String, &Feed),
    tell: &mpsc::Sender<News>,
    old: Option<JoinHandle<()>>,
) -> Handle {
    let count = u32::try_from(config.feeds.len()).unwrap_or(u32::MAX).max(1);
    let share = |all: u32| usize::try_from(all / 4 * SHARE / count).unwrap_or(usize::MAX);
    let networks = filter_common::limits::BANNED_NETWORKS;
    let room = (share(networks), share(config.capacity.bans_ipv6));
    let (confirm, asked) = mpsc::channel(1);
    let (keep, kept) = watch::channel(());
    let settings = worker::Settings {
        place,
        name: name.clone(),
        feed: feed.clone(),
        directory: config.paths.state.join(DIRECTORY),
        room,
        tell: tell.clone(),
        asked,
        kept,
    };
    let task = tokio::spawn(async move {
        if let Some(old) = old {
            // It may still write the files.
            drop(old.await);
        }
        worker::run(settings).await;
    });
    Handle { row: row(config, name, feed), confirm, settings: feed.clone(), task, _keep: keep }
}

/// The directory of lists below `paths.state`.
const DIRECTORY: &str = "feeds";

fn row(config: &Config, name: &str, feed: &Feed) -> FeedRow {
    FeedRow {
        name: name.to_owned(),
        url: feed.url.as_ref().map(ToString::to_string).unwrap_or_default(),
        format: feed.format.to_string(),
        scope: config.ports.name(feed.scope).to_owned(),
        dry_run: feed.dry_run,
        ..FeedRow::default()
    }
}

/// The time in seconds since 1970.
fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or(Duration::ZERO).as_secs()
}
