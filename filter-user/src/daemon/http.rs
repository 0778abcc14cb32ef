//! Reads a request in HTTP/1.1 from a connection, and writes the reply.
//!
//! hyper reads and writes the messages. This module bounds their size and time, has the [`Backend`] decide who may
//! send a request, and says meanwhile that the daemon works on it.

mod stream;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use api::acl;
use api::{
    Answer, ErrorId, Problem, REQUEST_MAX, Refusal, Reply, WANTS_SIGNS, find, methods, resource,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    LOCATION, REFERRER_POLICY, SET_COOKIE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::http::request::Parts;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use jiff::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::stream::Socket;
pub use self::stream::Stream;
use crate::metrics::Format;
use crate::page::POLICY;
pub use hyper::header::HeaderMap;

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

/// The user who sends a request.
#[derive(Clone, Debug, Default)]
pub struct Author {
    /// The name, for the log.
    pub who: String,
    /// The source of the user's session, if it is an SSH session.
    pub from: Option<IpAddr>,
    /// The port to which that session is connected.
    pub ssh_port: Option<u16>,
}

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The ACL that a token must allow.
    pub acl: &'static str,
    /// Whether it may change anything.
    pub changes: bool,
    /// Whether the agent of the fleet may send it.
    pub is_for_agent: bool,
}

impl Needs {
    const fn to_read(acl: &'static str) -> Self {
        Self { acl, changes: false, is_for_agent: false }
    }
}

/// A part of the page for a browser.
#[derive(Clone, Debug)]
pub struct Page {
    /// The status.
    pub status: u16,
    /// The media type.
    pub kind: &'static str,
    /// The text.
    pub text: String,
    /// A cookie to set.
    pub cookie: Option<String>,
    /// Where to go instead.
    pub location: Option<&'static str>,
}

impl Page {
    /// A text of a media type.
    pub fn new(kind: &'static str, text: String) -> Self {
        Self { status: 200, kind, text, cookie: None, location: None }
    }

    /// A text in HTML.
    pub fn html(text: String) -> Self {
        Self::new("text/html; charset=utf-8", text)
    }
}

/// What stands behind a connection.
pub trait Backend {
    /// Called when a request has arrived.
    fn arrived(&self);

    /// Whether a request with these headers is answered at all.
    ///
    /// # Errors
    ///
    /// If it is not, for example because another site has a browser send it.
    fn greet(&self, headers: &HeaderMap) -> Result<(), Refusal>;

    /// Finds out who sends a request, and whether this user may send it.
    fn admit(
        &self,
        headers: &HeaderMap,
        needs: Needs,
    ) -> impl Future<Output = Result<Author, Refusal>> + Send;

    /// Answers a request.
    fn answer(&self, request: api::Request, author: Author) -> impl Future<Output = Reply> + Send;

    /// The reply to a `GET` of a part of the page; `None` if the path is no part of it, or there is no page.
    fn page(&self, uri: &str, headers: &HeaderMap) -> impl Future<Output = Option<Page>> + Send;

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
pub async fn serve(stream: impl Into<Stream>, backend: impl Backend) -> io::Result<()> {
    let stream = stream.into();
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
            let reply = reply(&head, body, backend, &stream).await;
            let target = head.uri.path_and_query().map_or("", |target| target.as_str());
            Ok::<_, Infallible>(reply.unwrap_or_else(|refusal| of_refusal(&refusal, target)))
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

/// The reply to a request.
async fn reply(
    head: &Parts,
    body: Result<Bytes, Refusal>,
    backend: &impl Backend,
    stream: &Stream,
) -> Result<Written, Refusal> {
    let Parts { method, uri, headers, .. } = head;
    backend.greet(headers)?;
    let target = uri.path_and_query().map_or("", |target| target.as_str());
    if method == Method::GET
        && let Some(page) = backend.page(target, headers).await
    {
        return Ok(of_page(page));
    }
    Ok(match (method.as_str(), target) {
        ("GET", "/1.0/api/api.yml") => written(StatusCode::OK, "application/yaml", API),
        ("GET", "/metrics") => {
            backend.admit(headers, Needs::to_read(acl::METRICS)).await?;
            let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
            let format = Format::accepted(accept);
            let page = backend.metrics(format).await?;
            written(StatusCode::OK, format.media_type(), page)
        }
        ("GET", "/1.0/events") => {
            backend.admit(headers, Needs::to_read(acl::EVENTS)).await?;
            of_body(StatusCode::OK, EVENTS, Sent::Events(backend.listen()?))
        }
        (method, target) => {
            let (route, request) = find(method, target, &body?)?;
            let (changes, is_for_agent) = (request.changes(), request.is_for_agent());
            let needs = Needs { acl: route.acl, changes, is_for_agent };
            let author = backend.admit(headers, needs).await?;
            let answer = backend.answer(request, author);
            match while_there(stream, wants_signs(headers), answer).await {
                Reply::Ok(answer) => of_answer(&answer, target),
                Reply::Error(refusal) => return Err(refusal),
            }
        }
    })
}

/// The first byte that a client sends, without taking it; `None` if it sends nothing.
async fn first_byte(stream: &Stream) -> io::Result<Option<u8>> {
    let mut first = [0];
    let peek = || Ok(recv(stream.as_raw_fd(), &mut first, MsgFlags::MSG_PEEK)?);
    let length = stream.when_readable(peek).await?;
    Ok((length > 0).then_some(first[0]))
}

/// Replies to a command that knows no HTTP.
async fn tell_old_command(stream: &Stream) -> io::Result<()> {
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

fn wants_signs(headers: &HeaderMap) -> bool {
    let prefer = HeaderName::from_static("prefer");
    headers.get_all(prefer).iter().any(|value| value.as_bytes() == WANTS_SIGNS.as_bytes())
}

/// Waits for the answer as long as the client is connected, and meanwhile gives it signs, if it wants any.
async fn while_there(
    client: &Stream,
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
fn has_left(stream: &Stream) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let hung_up =
        |polled: &PollFd| polled.revents().is_some_and(|r| r.contains(PollFlags::POLLHUP));
    poll(&mut polled, PollTimeout::ZERO).is_ok() && polled.iter().any(hung_up)
}

/// A part of the page, with headers that leave a browser no way to do more than show it.
fn of_page(Page { status, kind, text, cookie, location }: Page) -> Written {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut reply = written(status, kind, text);
    let headers = reply.headers_mut();
    for (name, value) in [
        (CONTENT_SECURITY_POLICY, POLICY),
        (REFERRER_POLICY, "no-referrer"),
        (X_FRAME_OPTIONS, "DENY"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Some(cookie) = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok()) {
        headers.insert(SET_COOKIE, cookie);
    }
    if let Some(location) = location {
        headers.insert(LOCATION, HeaderValue::from_static(location));
    }
    reply
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
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    // Over TCP a browser may read it: it must neither keep it nor take it for something else.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
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
