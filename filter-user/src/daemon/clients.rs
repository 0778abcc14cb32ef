//! The clients of the daemon: how many there may be at a time, and which one makes room for another.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use log::debug;
use tokio::task::AbortHandle;

use super::http::{self, Backend, Stream};

/// The most clients at a time: of root and the daemon's user, and again of the others, so that these cannot
/// lock out root. When there are more, those that have not sent a request are dropped first.
pub(super) const CLIENTS: usize = 64;

/// The clients of one kind of user, by number.
#[derive(Clone, Default)]
pub(super) struct Clients(Arc<Mutex<BTreeMap<u64, Client>>>);

struct Client {
    task: AbortHandle,
    has_asked: bool,
}

impl Clients {
    fn with<T>(&self, then: impl FnOnce(&mut BTreeMap<u64, Client>) -> T) -> T {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes room for another client. Returns whether there is some.
    pub(super) fn make_room(&self) -> bool {
        self.with(|clients| {
            if clients.len() < CLIENTS {
                return true;
            }
            let longest = clients.iter().find(|(_, client)| !client.has_asked);
            let Some(longest) = longest.map(|(number, _)| *number) else { return false };
            if let Some(client) = clients.remove(&longest) {
                client.task.abort();
            }
            true
        })
    }

    /// Notes that a request of a client has arrived.
    pub(super) fn arrived(&self, number: u64) {
        self.with(|clients| {
            if let Some(client) = clients.get_mut(&number) {
                client.has_asked = true;
            }
        });
    }

    /// Gives the place of a client to others, because it is counted elsewhere.
    pub(super) fn leave(&self, number: u64) {
        self.with(|clients| drop(clients.remove(&number)));
    }

    /// Serves a client.
    pub(super) fn serve(
        &self,
        number: u64,
        stream: impl Into<Stream>,
        backend: impl Backend + Send + Sync + 'static,
    ) {
        let (stream, clients) = (stream.into(), self.clone());
        let serve = async move {
            if let Err(error) = http::serve(stream, backend).await {
                debug!("a client: {error}");
            }
            clients.with(|clients| drop(clients.remove(&number)));
        };
        // The task cannot remove itself before it has been inserted.
        self.with(|clients| {
            let task = tokio::spawn(serve).abort_handle();
            clients.insert(number, Client { task, has_asked: false });
        });
    }
}
