//! The control socket: admits clients, passes their requests to the daemon's loop and says who sent them. `tcp` does
//! the same over TCP.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use api::{Answer, By, ErrorId, Refusal, Reply, Request};
use bytes::Bytes;
use filter_common::decision::Reason;
use hyper::header::HeaderMap;
use log::{debug, info, warn};
use nix::unistd::geteuid;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::task::{AbortHandle, JoinHandle};

use super::findings::Findings;
use super::http::{self, Author, Backend, Needs, PATIENCE, Page, Stream};
use super::logins::Logins;
use super::tcp;
use super::traffic::Traffic;
use crate::config::Api;
use crate::controller::Controller;
use crate::datapath::{Count, Datapath};
use crate::events::Hub;
use crate::log_budget::MANUAL;
use crate::metrics::{self, Format, Process, Snapshot};
use crate::store::Store;

/// The most clients at a time: of root and the daemon's user, and again of the others, so that these cannot
/// lock out root. When there are more, those that have not sent a request are dropped first.
const CLIENTS: usize = 64;

/// The most listeners to events, and the most of them when another one is neither root nor the daemon's user.
const LISTENERS: usize = 128;
pub(super) const LISTENERS_OF_OTHERS: usize = 64;

/// The most requests that wait for the loop. When there are more, the client waits.
const QUESTIONS_WAITING: usize = 16;

/// The longest user name that is logged.
const NAME_MAX: usize = 64;

/// The reply to a user who has read access only.
const NOT_ROOT: &str = "only root may change anything; the daemon's group may look";

/// The reply to a request that the loop does not answer any more.
const STOPPING: &str = "the daemon is stopping";

/// A request, and where its reply goes.
pub(super) struct Question {
    pub(super) request: Request,
    /// The user that sent the request, for the log.
    pub(super) who: String,
    /// The source of that user's session, if it is an SSH session.
    pub(super) from: Option<IpAddr>,
    /// The port to which that session is connected.
    pub(super) ssh_port: Option<u16>,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// Listens at `path`, for root, the daemon's user and its group. The caller has the lock that only one
/// daemon can have, so an existing socket is a leftover.
pub(super) fn bind(path: &Path) -> Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!(
            "another daemon listens at {}; set `paths.runtime` to another directory",
            path.display()
        );
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))?;
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("listen on {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))
        .with_context(|| format!("set the permissions of {}", path.display()))?;
    Ok(listener)
}

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

/// Counts that are wanted, and where they go.
pub(super) enum Scrape {
    /// All of them, for the metrics.
    All(oneshot::Sender<Result<Snapshot, String>>),
    /// Only those of packets, for the history.
    Traffic(oneshot::Sender<Result<Vec<(Reason, Count)>, String>>),
}

impl Scrape {
    /// Sends them. The client may have gone.
    pub(super) fn answer<D: Datapath>(self, controller: &Controller<D>) {
        match self {
            Self::All(tell) => drop(tell.send(controller.metrics(crate::clock::now()))),
            Self::Traffic(tell) => drop(tell.send(controller.traffic())),
        }
    }
}

/// A client of the loop.
struct Asking {
    asks: Asks,
    peer: Option<u32>,
    number: u64,
    clients: Clients,
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

impl Backend for Asking {
    fn arrived(&self) {
        self.clients.arrived(self.number);
    }

    /// The socket's mode decides who can connect.
    fn greet(&self, _: &HeaderMap) -> Result<(), Refusal> {
        Ok(())
    }

    async fn admit(&self, headers: &HeaderMap, needs: Needs) -> Result<Author, Refusal> {
        if !may((self.peer, self.asks.agent), geteuid().as_raw(), needs) {
            return Err(Refusal::new(ErrorId::Forbidden, NOT_ROOT));
        }
        let by = By::of_headers(|name| headers.get(name)?.to_str().ok());
        Ok(Author { who: who(self.peer, &by), from: by.from, ssh_port: by.ssh_port })
    }

    async fn answer(&self, request: Request, author: Author) -> Reply {
        self.asks.put(request, author).await
    }

    /// The page is for a browser, which cannot use this socket.
    async fn page(&self, _: &str, _: &HeaderMap) -> Option<Page> {
        None
    }

    fn listen(&self) -> Result<mpsc::Receiver<Bytes>, Refusal> {
        let is_trusted = is_trusted(self.peer, geteuid().as_raw());
        let listener =
            self.asks.listen(if is_trusted { LISTENERS } else { LISTENERS_OF_OTHERS })?;
        // It has a place among the listeners instead.
        self.clients.leave(self.number);
        Ok(listener)
    }

    async fn metrics(&self, format: Format) -> Result<String, Refusal> {
        self.asks.metrics(format).await
    }
}

/// What the loop receives from clients.
pub(super) struct Inbox {
    pub(super) questions: mpsc::Receiver<Question>,
    pub(super) scrapes: mpsc::Receiver<Scrape>,
}

/// Serves clients of the control socket, and of TCP if it is configured, each on a task of its own. The
/// agent of the fleet is this user.
pub(super) fn start(
    listener: UnixListener,
    (api, agent): (Api, Option<u32>),
    (events, store): (Hub, Store),
    findings: Findings,
) -> (Serving, Inbox) {
    let (ask, questions) = mpsc::channel(QUESTIONS_WAITING);
    let (scrape, scrapes) = mpsc::channel(1);
    let logins = api.listen.map(|at| Arc::new(Logins::new(at)));
    let traffic = Arc::new(Traffic::new(store));
    let recorded = Arc::clone(&traffic);
    let record = scrape.clone();
    let recording = tokio::spawn(async move { recorded.record(record).await });
    let history = Arc::clone(&traffic);
    let asks = Asks {
        questions: ask,
        scrapes: scrape,
        events,
        logins,
        traffic: history,
        findings: Arc::new(findings),
        agent,
    };
    let tcp = api.listen.map(|at| tokio::spawn(tcp::serve(at, api.wazo_auth, asks.clone())));
    let socket = tokio::spawn(serve(listener, asks));
    (Serving { socket, tcp, recording, traffic }, Inbox { questions, scrapes })
}

/// The tasks that serve clients, and the one that records the traffic.
pub(super) struct Serving {
    socket: JoinHandle<()>,
    tcp: Option<JoinHandle<()>>,
    recording: JoinHandle<()>,
    traffic: Arc<Traffic>,
}

impl Serving {
    /// Serves nobody any more, and has the store keep what was recorded.
    pub(super) fn abort(&self) {
        self.recording.abort();
        self.traffic.keep();
        self.socket.abort();
        if let Some(tcp) = &self.tcp {
            tcp.abort();
        }
    }
}

/// Serves clients until it is aborted.
async fn serve(listener: UnixListener, asks: Asks) {
    let (own, others) = (Clients::default(), Clients::default());
    for number in 0_u64.. {
        match listener.accept().await {
            Ok((stream, _)) => {
                let peer = stream.peer_cred().ok().map(|peer| peer.uid());
                let clients = if is_trusted(peer, geteuid().as_raw()) { &own } else { &others };
                if clients.make_room() {
                    let client =
                        Asking { asks: asks.clone(), peer, number, clients: clients.clone() };
                    clients.serve(number, stream, client);
                } else if let Err(error) = stream.try_write(http::refused().as_bytes()) {
                    debug!("control socket: {error}");
                }
            }
            Err(error) => {
                // Probably out of descriptors: other clients must finish first.
                warn!("control socket: {error}");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

/// Whether a user may change anything.
fn is_trusted(peer: Option<u32>, own: u32) -> bool {
    peer.is_some_and(|peer| peer == 0 || peer == own)
}

/// Whether a user may send a request. The group, which the socket's mode lets in, may only look, and
/// the agent of the fleet also say what other hosts have banned.
fn may((peer, agent): (Option<u32>, Option<u32>), own: u32, needs: Needs) -> bool {
    let is_agent = peer.is_some() && peer == agent;
    is_trusted(peer, own) || !needs.changes || (is_agent && needs.is_for_agent)
}

/// The requester as text: the user of the process according to the kernel, and the details that the
/// client adds.
pub(crate) fn who(uid: Option<u32>, by: &By) -> String {
    let mut who = match uid {
        Some(0) => "root".to_owned(),
        Some(uid) => format!("uid {uid}"),
        None => "an unknown user".to_owned(),
    };
    let name = by.sudo_user.iter().flat_map(|name| name.chars());
    let plain = |c: &char| c.is_ascii_alphanumeric() || "._-@\\".contains(*c);
    let name: String = name.filter(plain).take(NAME_MAX).collect();
    if !name.is_empty() {
        who = format!("{name} (sudo, {who})");
    }
    match by.from {
        Some(from) => format!("{who} from {from}"),
        None => who,
    }
}

#[cfg(test)]
mod tests;
