//! The threads on which sources read and parse.
//!
//! Files and filters can be slow, and the controller's thread must never wait for them. A lane has few
//! threads, so that slow sources occupy no more than these; the others wait.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

/// Threads for some of the sources. Clones share them.
#[derive(Clone, Debug)]
pub struct Lane {
    places: Arc<Semaphore>,
    share: Duration,
}

impl Lane {
    /// A lane with this many threads, on which each source that can be slow has this `share` of each second.
    pub fn new(threads: usize, share: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(threads)), share }
    }

    /// How much of each second a source that can be slow may take.
    pub(super) fn share(&self) -> Duration {
        self.share
    }

    /// Does `work` when it is its turn. If the caller stops waiting, the work still finishes.
    ///
    /// # Errors
    ///
    /// If the work panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, String> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.map_err(|error| error.to_string())?;
        let work = move || {
            let done = work();
            drop(place);
            done
        };
        spawn_blocking(work).await.map_err(|error| error.to_string())
    }
}
