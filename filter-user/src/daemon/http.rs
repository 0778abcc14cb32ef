//! One connection to the control socket: reads a request in HTTP/1.1 and writes the reply.
//!
//! hyper reads and writes the messages. This module bounds their size and time, and says meanwhile that the
//! daemon works on a request.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use api::{
    Answer, By, ErrorId, Problem, REQUEST_MAX, Refusal, Reply, WANTS_SIGNS, find, methods, resource,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, Shutdown, recv, shutdown};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Sleep, sleep, timeout};

use crate::metrics::Format;

/// How long a client may take to send its request, and how long it may take nothing of the reply.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The longest head of a request, in bytes.
const HEAD_MAX: usize = 16 * 1024;

/// The most headers in a request.
const HEADERS_MAX: usize = 64;

/// How often to check whether a client that waits for its answer is still connected.
const LOOK: Duration = Duration::from_millis(50);

/// After this many checks a client that wants to know learns that its request is being worked on.
const LOOKS_PER_SIGN: u32 = 40;

/// The sign: a reply that precedes the final one (RFC 9110, section 15.2).
const SIGN: &[u8] = b"HTTP/1.1 102 Processing\r\n\r\n";

/// The reply to a command of a version that sent a line of JSON, in the form that it understands.
const TO_OLD_COMMAND: &[u8] = b"{\"api\":1,\"error\":\"the daemon has another version than this \
    command, which is probably in an old package; type the command again\"}\n";

/// The media type of server-sent events.
const EVENTS: &str = "text/event-stream";

/// The description of the API.
const API: &str = include_str!("../../../docs/api/api.yml");

/// A reply before it is written.
type Written = Response<Sent>;

/// The body of a reply.
enum Sent {
    Whole(Full<Bytes>),
    Events(mpsc::Receiver<Bytes>),
}

impl Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(text) => Pin::new(text).poll_frame(context),
            Self::Events(events) => {
                events.poll_recv(context).map(|event| Some(Ok(Frame::data(event?))))
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(text) => text.size_hint(),
            Self::Events(_) => SizeHint::default(),
        }
    }
}

/// What stands behind a connection.
pub trait Backend {
    /// Called when a request has arrived.
    fn arrived(&self);

    /// Answers a request.
    fn answer(&self, request: api::Request, by: By) -> impl Future<Output = Reply> + Send;

    /// Listens to events.
    ///
    /// # Errors
    ///
    /// If there are too many listeners.
    fn listen(&self) -> Result<mpsc::Receiver<Bytes>, Refusal>;

    /// The page of metrics.
    fn metrics(&self, format: Format) -> impl Future<Output = Result<String, Refusal>> + Send;
}

/// Serves a connection.
///
/// # Errors
///
/// If the client is too slow, sends no HTTP or disconnects.
pub async fn serve(stream: UnixStream, backend: impl Backend) -> io::Result<()> {
    match timeout(PATIENCE, first_byte(&stream)).await?? {
        // The client only checked whether a daemon runs.
        None => return Ok(()),
        Some(b'{') => return tell_old_command(&stream).await,
        Some(_) => {}
    }
    let stream = Arc::new(stream);
    let has_request = Arc::new(AtomicBool::new(false));
    let io = Socket::new(Arc::clone(&stream), Arc::clone(&has_request));
    let service = service_fn(|request: Request<Incoming>| {
        let (stream, has_request) = (Arc::clone(&stream), Arc::clone(&has_request));
        let backend = &backend;
        async move {
            let (head, body) = request.into_parts();
            let body = collected(body).await;
            has_request.store(true, Ordering::Relaxed);
            backend.arrived();
            let target = head.uri.path_and_query().map_or("", |target| target.as_str());
            Ok::<_, Infallible>(match (head.method.as_str(), target) {
                ("GET", "/1.0/api/api.yml") => written(StatusCode::OK, "application/yaml", API),
                ("GET", "/metrics") => {
                    let accept = head.headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
                    let format = Format::accepted(accept);
                    match backend.metrics(format).await {
                        Ok(page) => written(StatusCode::OK, format.media_type(), page),
                        Err(refusal) => of_refusal(&refusal, target),
                    }
                }
                ("GET", "/1.0/events") => match backend.listen() {
                    Ok(events) => of_body(StatusCode::OK, EVENTS, Sent::Events(events)),
                    Err(refusal) => of_refusal(&refusal, target),
                },
                (method, target) => match body.and_then(|body| find(method, target, &body)) {
                    Err(refusal) => of_refusal(&refusal, target),
                    Ok((_, request)) => {
                        let answer = backend.answer(request, by(&head.headers));
                        match while_there(&stream, wants_signs(&head.headers), answer).await {
                            Reply::Ok(answer) => of_answer(&answer, target),
                            Reply::Error(refusal) => of_refusal(&refusal, target),
                        }
                    }
                },
            })
        }
    });
    let served = http1::Builder::new()
        .keep_alive(false)
        .half_close(true)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX)
        .serve_connection(io, service)
        .await;
    served.map_err(io::Error::other)
}

/// The first byte that a client sends, without taking it; `None` if it sends nothing.
async fn first_byte(stream: &UnixStream) -> io::Result<Option<u8>> {
    let mut first = [0];
    let peek = || Ok(recv(stream.as_raw_fd(), &mut first, MsgFlags::MSG_PEEK)?);
    let length = stream.async_io(tokio::io::Interest::READABLE, peek).await?;
    Ok((length > 0).then_some(first[0]))
}

/// Replies to a command that knows no HTTP.
async fn tell_old_command(stream: &UnixStream) -> io::Result<()> {
    // A socket that is closed with unread bytes reports an error to the other end.
    let mut unread = vec![0; HEAD_MAX];
    timeout(PATIENCE, stream.readable()).await??;
    let _length = stream.try_read(&mut unread)?;
    stream.try_write(TO_OLD_COMMAND).map(drop)
}

/// The body of a request.
async fn collected(body: Incoming) -> Result<Bytes, Refusal> {
    let limit = usize::try_from(REQUEST_MAX).unwrap_or(usize::MAX);
    match Limited::new(body, limit).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let why = format!("the body has more than {REQUEST_MAX} bytes; send less at once");
            Err(Refusal::new(ErrorId::TooLong, why))
        }
        Err(error) => {
            let why = format!("the body did not arrive: {error}");
            Err(Refusal::new(ErrorId::TooSlow, why))
        }
    }
}

/// What a client says about the author of a change.
fn by(headers: &HeaderMap) -> By {
    By::of_headers(|name| headers.get(name)?.to_str().ok())
}

fn wants_signs(headers: &HeaderMap) -> bool {
    let prefer = HeaderName::from_static("prefer");
    headers.get_all(prefer).iter().any(|value| value.as_bytes() == WANTS_SIGNS.as_bytes())
}

/// Waits for the answer as long as the client is connected, and meanwhile gives it signs, if it wants any.
async fn while_there(
    client: &UnixStream,
    wants_signs: bool,
    answer: impl Future<Output = Reply>,
) -> Reply {
    let mut answer = std::pin::pin!(answer);
    for look in 1_u32.. {
        if let Ok(reply) = timeout(LOOK, answer.as_mut()).await {
            return reply;
        }
        if has_left(client) {
            break;
        }
        // Nothing else has been written, so the whole sign fits into the socket's buffer unless the client reads
        // nothing.
        if wants_signs
            && look.is_multiple_of(LOOKS_PER_SIGN)
            && let Err(error) = client.try_write(SIGN)
        {
            log::debug!("control socket: {error}");
        }
    }
    Reply::Error(Refusal::new(ErrorId::Unavailable, "the client has gone"))
}

/// Whether both directions of a connection are closed. A client that has only closed its sending side is
/// still connected.
fn has_left(stream: &UnixStream) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let hung_up =
        |polled: &PollFd| polled.revents().is_some_and(|r| r.contains(PollFlags::POLLHUP));
    poll(&mut polled, PollTimeout::ZERO).is_ok() && polled.iter().any(hung_up)
}

fn of_answer(answer: &Answer, target: &str) -> Written {
    match serde_json::to_string(answer) {
        Ok(text) => json(StatusCode::OK, text),
        Err(why) => of_refusal(&Refusal::new(ErrorId::Failed, why.to_string()), target),
    }
}

fn of_refusal(refusal: &Refusal, target: &str) -> Written {
    let status = StatusCode::from_u16(refusal.id.status());
    let mut reply =
        json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), problem(refusal, target));
    if refusal.id == ErrorId::MethodNotAllowed
        && let Ok(methods) = HeaderValue::from_str(&methods(target).join(", "))
    {
        reply.headers_mut().insert(ALLOW, methods);
    }
    reply
}

/// The body of a reply without an answer.
fn problem(refusal: &Refusal, target: &str) -> String {
    let (resource, resource_id) = resource(target);
    let problem = Problem {
        error_id: refusal.id,
        message: refusal.message.clone(),
        resource,
        resource_id,
        timestamp: Timestamp::now().as_duration().as_secs_f64(),
        details: std::collections::BTreeMap::new(),
    };
    serde_json::to_string(&problem).unwrap_or_default()
}

fn json(status: StatusCode, text: String) -> Written {
    written(status, "application/json", text + "\n")
}

fn written(status: StatusCode, kind: &'static str, text: impl Into<Bytes>) -> Written {
    of_body(status, kind, Sent::Whole(Full::new(text.into())))
}

fn of_body(status: StatusCode, kind: &'static str, body: Sent) -> Written {
    let mut reply = Response::new(body);
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    reply
}

/// The whole reply to a client for which there is no place.
pub(super) fn refused() -> String {
    let why = "the daemon has too many clients; try again";
    let body = problem(&Refusal::new(ErrorId::Unavailable, why), "");
    format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A connection on which a client must not be slow.
struct Socket {
    stream: Arc<UnixStream>,
    /// Whether the request has arrived. Until then `reading` is the deadline for it.
    has_request: Arc<AtomicBool>,
    reading: Pin<Box<Sleep>>,
    /// The deadline for the client to take something of the reply.
    writing: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    fn new(stream: Arc<UnixStream>, has_request: Arc<AtomicBool>) -> Self {
        Self { stream, has_request, reading: Box::pin(sleep(PATIENCE)), writing: None }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 4096];
        let room = into.remaining().min(bytes.len());
        loop {
            if self.stream.poll_read_ready(context)?.is_pending() {
                if !self.has_request.load(Ordering::Relaxed) {
                    ready!(self.reading.as_mut().poll(context));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                return Poll::Pending;
            }
            match self.stream.try_read(&mut bytes[..room]) {
                Ok(length) => {
                    into.put_slice(&bytes[..length]);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.stream.poll_write_ready(context)?.is_pending() {
                let deadline = self.writing.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
                ready!(deadline.as_mut().poll(context));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            match self.stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => {
                    self.writing = None;
                    return Poll::Ready(done);
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(self.stream.as_raw_fd(), Shutdown::Write)?))
    }
}
