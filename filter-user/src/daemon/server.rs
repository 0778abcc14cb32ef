//! The control socket: reads a request, passes it to the daemon's loop and writes the reply.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use api::{By, Envelope, Line, REQUEST_MAX, Reply, Request};
use log::warn;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::geteuid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// The most clients at a time. When there are more, those that have not sent a request are dropped first.
const CLIENTS: usize = 16;

/// The longest user name that is logged.
const NAME_MAX: usize = 64;

/// How long a client may take to send its request, and again to read the reply.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often to check whether a client that waits for its answer is still connected.
const LOOK: Duration = Duration::from_millis(50);

/// After this many checks the client is sent a space, which shows that its request is in progress.
const LOOKS_PER_SIGN: u32 = 40;

/// The reply to a user who has read access only.
const NOT_ROOT: &str = "only root may change anything; the daemon's group may look";

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

/// The clients that have not sent a request yet, oldest first.
#[derive(Clone, Default)]
struct Idle(Arc<Mutex<BTreeMap<u64, AbortHandle>>>);

impl Idle {
    fn with<T>(&self, then: impl FnOnce(&mut BTreeMap<u64, AbortHandle>) -> T) -> T {
        then(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Serves clients until it is aborted.
pub(super) async fn serve(listener: UnixListener, ask: mpsc::Sender<Question>) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    let idle = Idle::default();
    let mut number = 0_u64;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if places.available_permits() == 0
                    && let Some((_, longest)) = idle.with(BTreeMap::pop_first)
                {
                    longest.abort();
                }
                // Clients whose requests are being answered are not dropped.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                let (ask, still_idle) = (ask.clone(), idle.clone());
                number += 1;
                let own = number;
                let serve = async move {
                    let asked = || still_idle.with(|idle| drop(idle.remove(&own)));
                    if let Err(error) = client(stream, &ask, asked).await {
                        warn!("control socket: {error}");
                    }
                    still_idle.with(|idle| drop(idle.remove(&own)));
                    drop(place);
                };
                // The task cannot remove itself before it has been inserted.
                idle.with(|idle| idle.insert(own, tokio::spawn(serve).abort_handle()));
            }
            Err(error) => {
                // Probably out of descriptors: other clients must finish first.
                warn!("control socket: {error}");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn client(
    stream: UnixStream,
    ask: &mpsc::Sender<Question>,
    asked: impl Fn(),
) -> io::Result<()> {
    let peer = stream.peer_cred().ok().map(|peer| peer.uid());
    let mut stream = stream;
    let mut line = Vec::new();
    let mut reader = BufReader::new((&mut stream).take(REQUEST_MAX));
    timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
    if line.is_empty() {
        return Ok(()); // The client only checked whether a daemon runs.
    }
    asked();
    let reply = match serde_json::from_slice(&line) {
        Ok(Line { request, .. }) if !may(peer, geteuid().as_raw(), &request) => {
            Reply::Error(NOT_ROOT.to_owned())
        }
        Ok(Line { request, by }) => {
            let by = by.unwrap_or_default();
            let answer = put(request, who(peer, &by), (by.from, by.ssh_port), ask);
            match while_there(&mut stream, answer).await? {
                Some(reply) => reply,
                None => return Ok(()),
            }
        }
        Err(error) => Reply::Error(format!("this daemon does not know the request: {error}")),
    };
    let mut text = serde_json::to_vec(&Envelope::from(reply))?;
    text.push(b'\n');
    timeout(PATIENCE, stream.write_all(&text)).await??;
    Ok(())
}

/// Waits for the answer as long as the client is connected. Meanwhile it sends spaces, with which JSON
/// may begin, to show that the request is being worked on.
async fn while_there(
    stream: &mut UnixStream,
    answer: impl Future<Output = Reply>,
) -> io::Result<Option<Reply>> {
    let mut answer = pin!(answer);
    let mut looks = 0_u32;
    loop {
        if let Ok(reply) = timeout(LOOK, answer.as_mut()).await {
            return Ok(Some(reply));
        }
        if has_left(stream) {
            return Ok(None);
        }
        looks += 1;
        if looks.is_multiple_of(LOOKS_PER_SIGN) {
            timeout(PATIENCE, stream.write_all(b" ")).await??;
        }
    }
}

/// Whether both directions of a connection are closed. A client that has only closed its sending side is
/// still connected.
fn has_left(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let hung_up =
        |polled: &PollFd| polled.revents().is_some_and(|r| r.contains(PollFlags::POLLHUP));
    poll(&mut polled, PollTimeout::ZERO).is_ok() && polled.iter().any(hung_up)
}

/// Whether a user may send a request. The group, which the socket's mode lets in, may only look.
fn may(peer: Option<u32>, own: u32, request: &Request) -> bool {
    peer.is_some_and(|peer| peer == 0 || peer == own) || !request.changes()
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

async fn put(
    request: Request,
    who: String,
    (from, ssh_port): (Option<IpAddr>, Option<u16>),
    ask: &mpsc::Sender<Question>,
) -> Reply {
    let (reply, answer) = oneshot::channel();
    if ask.send(Question { request, who, from, ssh_port, reply }).await.is_err() {
        return Reply::Error("the daemon is stopping".to_owned());
    }
    answer.await.unwrap_or_else(|_| Reply::Error("the daemon is stopping".to_owned()))
}

#[cfg(test)]
mod tests {
    use api::{Answer, TakenOver};

    use super::*;

    #[test]
    fn who_asks_is_told_in_plain_letters() {
        let by = |sudo_user: &str| By {
            sudo_user: Some(sudo_user.to_owned()),
            from: Some([192, 0, 2, 9].into()),
            ssh_port: None,
        };
        assert_eq!(who(Some(0), &By::default()), "root");
        assert_eq!(who(Some(1000), &By::default()), "uid 1000");
        assert_eq!(who(Some(0), &by("alice")), "alice (sudo, root) from 192.0.2.9");
        assert_eq!(who(Some(0), &by("a\nb\u{1b}[0m")), "ab0m (sudo, root) from 192.0.2.9");
        assert!(who(Some(0), &by(&"x".repeat(1000))).len() < 100);
    }

    #[test]
    fn root_and_the_daemons_user_change_and_others_look() {
        let change = Request::Confirm;
        let table = [
            (Some(0), 900, true),
            (Some(900), 900, true),
            (Some(0), 0, true),
            (Some(1000), 900, false),
            (Some(1000), 0, false),
            (None, 0, false),
        ];
        for (peer, own, may_change) in table {
            assert_eq!(may(peer, own, &change), may_change, "{peer:?} {own}");
            assert!(may(peer, own, &Request::Status), "{peer:?} {own}");
        }
    }

    #[tokio::test]
    async fn idle_clients_keep_nobody_from_asking() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (ask, mut questions) = mpsc::channel(1);
        let serving = tokio::spawn(serve(bind(&path).unwrap(), ask));
        let answering = tokio::spawn(async move {
            while let Some(Question { reply, .. }) = questions.recv().await {
                reply.send(Reply::Ok(Answer::TakenOver(TakenOver::default()))).ok();
            }
        });
        let mut idle = Vec::new();
        for _ in 0..20 * CLIENTS {
            idle.push(UnixStream::connect(&path).await.unwrap());
            tokio::task::yield_now().await;
        }
        let asks = tokio::task::spawn_blocking(move || {
            crate::client::ask(&path, &Request::Status).map_err(|why| format!("{why:#}"))
        });
        let answer = timeout(Duration::from_secs(3), asks).await.expect("an answer").unwrap();
        assert_eq!(answer, Ok(serde_json::to_value(TakenOver::default()).unwrap()));
        drop(idle);
        serving.abort();
        answering.abort();
    }

    /// A client that has closed its sending side still gets its answer, and spaces until then. A client that
    /// has disconnected is dropped.
    #[tokio::test]
    async fn a_client_is_waited_for_as_long_as_it_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (ask, mut questions) = mpsc::channel(1);
        let serving = tokio::spawn(serve(bind(&path).unwrap(), ask));
        let connect = async || {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(b"{\"command\":\"status\"}\n").await.unwrap();
            stream.shutdown().await.unwrap();
            stream
        };
        let left = connect().await;
        let Question { mut reply, .. } = questions.recv().await.unwrap();
        drop(left);
        timeout(Duration::from_secs(5), reply.closed()).await.expect("it is gone");

        let mut stays = connect().await;
        let Question { mut reply, .. } = questions.recv().await.unwrap();
        let mut first = [0];
        timeout(Duration::from_secs(10), stays.read_exact(&mut first)).await.unwrap().unwrap();
        assert_eq!(first, *b" ");
        assert!(timeout(Duration::from_millis(200), reply.closed()).await.is_err(), "it is there");
        let done = TakenOver { entered: 7, ..TakenOver::default() };
        reply.send(Reply::Ok(Answer::TakenOver(done.clone()))).unwrap();
        let mut rest = Vec::new();
        stays.read_to_end(&mut rest).await.unwrap();
        let reply: Envelope<TakenOver> = serde_json::from_slice(&rest).unwrap();
        assert_eq!((reply.api, reply.reply), (api::VERSION, Reply::Ok(done)));
        serving.abort();
    }
}
