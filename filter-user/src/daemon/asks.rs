//! The ways from a client to the daemon's loop.

use std::sync::Arc;
use std::time::Instant;

use api::{Answer, ErrorId, Refusal, Reply, Request};
use bytes::Bytes;
use log::info;
use tokio::sync::{mpsc, oneshot};

use super::findings::Findings;
use super::http::Author;
use super::inbox::{Question, Scrape};
use super::logins::Logins;
use super::traffic::Traffic;
use crate::events::Hub;
use crate::log_budget::MANUAL;
use crate::metrics::{self, Format, Process};

/// The most listeners to events, and the most of them when another one is neither root nor the daemon's user.
pub(super) const LISTENERS: usize = 128;
pub(super) const LISTENERS_OF_OTHERS: usize = 64;

/// The reply to a request that the loop does not answer any more.
const STOPPING: &str = "the daemon is stopping";

/// The ways to the loop.
#[derive(Clone)]
pub(super) struct Asks {
    pub(super) questions: mpsc::Sender<Question>,
    pub(super) scrapes: mpsc::Sender<Scrape>,
    pub(super) events: Hub,
    /// The logins to the page, if there is one.
    pub(super) logins: Option<Arc<Logins>>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) findings: Arc<Findings>,
    /// The user that the agent of the fleet runs as.
    pub(super) agent: Option<u32>,
}

impl Asks {
    /// Passes a request to the loop, and waits for its reply.
    pub(super) async fn put(&self, request: Request, author: Author) -> Reply {
        let Author { who, from, ssh_port } = author;
        if let (Request::PageLink, Some(logins)) = (&request, &self.logins) {
            info!(target: MANUAL, "{who}: a link to log in to the page");
            return match logins.link(Instant::now()) {
                Ok(link) => Reply::Ok(Answer::PageLink(link)),
                Err(why) => Reply::Error(Refusal::new(ErrorId::Failed, why.to_string())),
            };
        }
        let stopping = || Reply::Error(Refusal::new(ErrorId::Unavailable, STOPPING));
        if let Request::Traffic(query) = &request {
            return self.traffic.past(query).await;
        }
        let (reply, answer) = oneshot::channel();
        let question = Question { request, who, from, ssh_port, reply };
        if self.questions.send(question).await.is_err() {
            return stopping();
        }
        answer.await.unwrap_or_else(|_| stopping())
    }

    /// Listens to events, unless there are this many listeners.
    pub(super) fn listen(&self, most: usize) -> Result<mpsc::Receiver<Bytes>, Refusal> {
        let refused = || Refusal::new(ErrorId::Unavailable, "too many clients listen to events");
        self.events.listen(most).ok_or_else(refused)
    }

    /// The page of metrics.
    pub(super) async fn metrics(&self, format: Format) -> Result<String, Refusal> {
        let (tell, counts) = oneshot::channel();
        let stopping = || Refusal::new(ErrorId::Unavailable, STOPPING);
        self.scrapes.send(Scrape::All(tell)).await.map_err(|_closed| stopping())?;
        let counts = counts.await.map_err(|_closed| stopping())?;
        let failed = |why: String| Refusal::new(ErrorId::Failed, why);
        let counts = counts.map_err(failed)?;
        metrics::page(counts, Process::read(), format).map_err(|why| failed(why.to_string()))
    }
}
