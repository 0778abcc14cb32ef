//! Polls the running filter a few times a second, with its own commands.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;

use crate::ringfence::{Client, Status};

const INTERVAL: Duration = Duration::from_millis(400);

/// The last answers of the filter.
#[derive(Clone, Debug, Default)]
pub(super) struct FilterView {
    pub(super) status: Status,
    /// Why it did not answer.
    pub(super) trouble: Option<String>,
}

/// Polls on its own thread.
pub(super) struct FilterWatch {
    client: Client,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    view: FilterView,
    /// When each address was first banned, including bans that have been lifted.
    banned_at: HashMap<IpAddr, SystemTime>,
}

impl FilterWatch {
    pub(super) fn start(client: &Client) -> anyhow::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new()
            .name("filter watch".to_owned())
            .spawn({
                let (client, shared) = (client.clone(), Arc::clone(&shared));
                move || {
                    while !shared.stop.load(Ordering::Relaxed) {
                        if let Err(error) = shared.ask(&client) {
                            shared.known().view.trouble = Some(format!("{error:#}"));
                        }
                        thread::sleep(INTERVAL);
                    }
                }
            })
            .context("start the thread that asks the filter")?;
        Ok(Self { client: client.clone(), shared, thread: Some(thread) })
    }

    /// Polls now.
    pub(super) fn refresh(&self) -> anyhow::Result<()> {
        self.shared.ask(&self.client)
    }

    pub(super) fn view(&self) -> FilterView {
        self.shared.known().view.clone()
    }

    pub(super) fn banned_at(&self, address: IpAddr) -> Option<SystemTime> {
        self.shared.known().banned_at.get(&address).copied()
    }
}

impl Drop for FilterWatch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed; a drop cannot return an error.
            thread.join().ok();
        }
    }
}

impl Shared {
    fn ask(&self, client: &Client) -> anyhow::Result<()> {
        let (status, bans) = (client.status()?, client.bans()?);
        let now = SystemTime::now();
        let mut known = self.known();
        known.view = FilterView { status, trouble: None };
        for ban in bans {
            if let Some(address) = ban.address() {
                let at = ban.since_ms.and_then(|since| u64::try_from(since).ok());
                let at = at.map_or(now, |since| UNIX_EPOCH + Duration::from_millis(since));
                known.banned_at.entry(address).or_insert(at);
            }
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
