//! Any bytes that a client sends to the control socket.

use std::time::Duration;

use bytes::Bytes;
use filter_user::control::{Call, ErrorId, Refusal, Reply, Request, find};
use filter_user::daemon::http::{self, Author, Backend, HeaderMap, Needs, Page};
use filter_user::metrics::Format;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Longer than the server waits for a client.
const PATIENCE: Duration = Duration::from_mins(1);

/// Checks that each client gets a reply in HTTP, one in the form of earlier versions, or none; and that a request
/// that is understood means the same when it is written again.
///
/// # Panics
///
/// If one of these does not hold.
pub fn check(data: &[u8]) {
    understood(data);
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let reply = runtime.block_on(async { timeout(PATIENCE, reply(data)).await.expect("an end") });
    let is_one = |begins: &[u8]| reply.starts_with(begins);
    assert!(
        reply.is_empty() || is_one(b"HTTP/1.") || is_one(b"{\"api\":1,\"error\":"),
        "{:?}",
        String::from_utf8_lossy(&reply)
    );
}

/// What a client gets that sends these bytes and then closes its side.
async fn reply(data: &[u8]) -> Vec<u8> {
    let (mut client, server) = UnixStream::pair().expect("a pair of sockets");
    let asks = async {
        // The server may close its side before it has read everything.
        drop(client.write_all(data).await);
        drop(client.shutdown().await);
        let mut reply = Vec::new();
        drop(client.read_to_end(&mut reply).await);
        reply
    };
    let (_served, reply) = tokio::join!(http::serve(server, Refusing), asks);
    reply
}

/// A daemon that answers nothing.
struct Refusing;

impl Backend for Refusing {
    fn arrived(&self) {}

    fn greet(&self, _: &HeaderMap) -> Result<(), Refusal> {
        Ok(())
    }

    async fn admit(&self, _: &HeaderMap, _: Needs) -> Result<Author, Refusal> {
        Ok(Author::default())
    }

    async fn answer(&self, request: Request, _: Author) -> Reply {
        assert!(find_again(&request), "{request:?}");
        Reply::Error(Refusal::new(ErrorId::Refused, "no"))
    }

    async fn page(&self, _: &str, _: &HeaderMap) -> Option<Page> {
        None
    }

    fn listen(&self) -> Result<mpsc::Receiver<Bytes>, Refusal> {
        Err(Refusal::new(ErrorId::Unavailable, "no"))
    }

    async fn metrics(&self, _: Format) -> Result<String, Refusal> {
        Err(Refusal::new(ErrorId::Failed, "no"))
    }
}

/// The input as a request line and a body.
fn understood(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let line = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let body = parts.next().unwrap_or_default();
    let (method, target) = line.split_once(' ').unwrap_or((&line, ""));
    if let Ok((route, request)) = find(method, target, body) {
        assert_eq!(route, request.route(), "{line}");
        assert!(find_again(&request), "{line}");
    }
}

/// Whether a request is found again in the call that is made of it.
fn find_again(request: &Request) -> bool {
    let Ok(Call { method, target, body }) = Call::of(request) else { return false };
    let body = body.unwrap_or_default();
    find(method.as_str(), &target, body.as_bytes()).is_ok_and(|(_, found)| found == *request)
}
