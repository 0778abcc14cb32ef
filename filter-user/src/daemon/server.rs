//! The control socket: admits clients, passes their requests to the daemon's loop and says who sent them. `tcp` does
//! the same over TCP.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use api::{By, ErrorId, Refusal, Reply, Request};
use bytes::Bytes;
use hyper::header::HeaderMap;
use log::{debug, warn};
use nix::unistd::geteuid;
use tokio::net::UnixListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::asks::{Asks, LISTENERS, LISTENERS_OF_OTHERS};
use super::clients::Clients;
use super::findings::Findings;
use super::http::{self, Author, Backend, Needs, PATIENCE, Page};
use super::inbox::Inbox;
use super::logins::Logins;
use super::tcp;
use super::traffic::Traffic;
use crate::config::Api;
use crate::events::Hub;
use crate::metrics::Format;
use crate::store::Store;

/// The most requests that wait for the loop. When there are more, the client waits.
const QUESTIONS_WAITING: usize = 16;

/// The longest user name that is logged.
const NAME_MAX: usize = 64;

/// The reply to a user who has read access only.
const NOT_ROOT: &str = "only root may change anything; the daemon's group may look";

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

/// A client of the loop.
struct Asking {
    asks: Asks,
    peer: Option<u32>,
    number: u64,
    clients: Clients,
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
