//! The control socket: reads a request, has it answered, writes the reply.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use log::warn;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use crate::control::{REQUEST_MAX, Reply, Request};

/// Clients at a time.
const CLIENTS: usize = 16;

/// How long a client may take for its request, and again for reading its reply.
const PATIENCE: Duration = Duration::from_secs(5);

/// A request, and where its reply goes.
pub(super) struct Question {
    pub(super) request: Request,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// Listens at `path`, for root only. The caller holds the lock that makes it the one daemon; a
/// socket that is there was left behind.
pub(super) fn bind(path: &Path) -> Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!("another daemon answers at {}; set `paths.runtime` to another place", path.display());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))?;
        }
        _ => {}
    }
    let listener =
        UnixListener::bind(path).with_context(|| format!("listen at {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .with_context(|| format!("set the permissions of {}", path.display()))?;
    Ok(listener)
}

/// Serves clients until it is aborted.
pub(super) async fn serve(listener: UnixListener, ask: mpsc::Sender<Question>) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let ask = ask.clone();
                tokio::spawn(async move {
                    if let Err(error) = client(stream, &ask).await {
                        warn!("control socket: {error}");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: others must end first.
                warn!("control socket: {error}");
                tokio::time::sleep(PATIENCE).await;
            }
        }
    }
}

async fn client(stream: UnixStream, ask: &mpsc::Sender<Question>) -> io::Result<()> {
    let (read, mut write) = stream.into_split();
    let mut line = Vec::new();
    let mut reader = BufReader::new(read.take(REQUEST_MAX));
    timeout(PATIENCE, reader.read_until(b'\n', &mut line)).await??;
    if line.is_empty() {
        return Ok(()); // Somebody only looked whether a daemon is here.
    }
    let reply = match serde_json::from_slice::<Request>(&line) {
        Ok(request) => put(request, ask).await,
        Err(error) => Reply::Error(format!("a request that this daemon does not know: {error}")),
    };
    let mut text = serde_json::to_vec(&reply)?;
    text.push(b'\n');
    timeout(PATIENCE, write.write_all(&text)).await??;
    Ok(())
}

async fn put(request: Request, ask: &mpsc::Sender<Question>) -> Reply {
    let (reply, answer) = oneshot::channel();
    if ask.send(Question { request, reply }).await.is_err() {
        return Reply::Error("the daemon is ending".to_owned());
    }
    answer.await.unwrap_or_else(|_| Reply::Error("the daemon is ending".to_owned()))
}
