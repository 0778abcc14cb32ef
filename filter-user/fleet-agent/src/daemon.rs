//! The client of the daemon's control socket.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use api::{Call, Event, Problem, Request};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

/// How long the daemon may take for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the stream of events may be silent: the daemon gives a sign every five seconds.
const SILENCE: Duration = Duration::from_secs(20);

/// How long to wait before the next attempt to listen.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest answer that is read, and the longest event.
const ANSWER_MAX: usize = 4 << 20;
const EVENT_MAX: usize = 64 << 10;

/// The events that wait.
const WAITING: usize = 4096;

/// What the daemon tells.
#[derive(Debug)]
pub(crate) enum Told {
    /// It listens again: what happened before is not known.
    Begins,
    /// Something has happened.
    Event(Event),
}

/// The daemon.
#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    socket: PathBuf,
}

impl Daemon {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Sends a request.
    pub(crate) async fn ask<T: DeserializeOwned>(&self, request: &Request) -> Result<T> {
        let asked = async {
            let reply = self.call(&Call::of(request)?).await?;
            let status = reply.status();
            let body = Limited::new(reply.into_body(), ANSWER_MAX).collect().await;
            let body = body.map_err(|why| anyhow!("its answer: {why}"))?.to_bytes();
            if status == StatusCode::OK {
                return serde_json::from_slice(&body).context("read its answer");
            }
            match serde_json::from_slice::<Problem>(&body) {
                Ok(problem) => bail!(problem.message),
                Err(_) => bail!("it answered with status {status}"),
            }
        };
        let answer = timeout(PATIENCE, asked).await.map_err(|_late| anyhow!("it gives no answer"));
        answer.flatten().with_context(|| format!("ask the daemon at {}", self.socket.display()))
    }

    async fn call(&self, call: &Call) -> Result<Response<Incoming>> {
        let stream = UnixStream::connect(&self.socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let request = hyper::Request::builder()
            .method(call.method.as_str())
            .uri(&call.target)
            .header("host", "ringfence")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(call.body.clone().unwrap_or_default())))?;
        Ok(sender.send_request(request).await?)
    }

    /// Listens to events, again and again.
    pub(crate) fn listen(&self) -> mpsc::Receiver<Told> {
        let (tell, told) = mpsc::channel(WAITING);
        let daemon = self.clone();
        tokio::spawn(async move {
            while !tell.is_closed() {
                drop(daemon.pass_on(&tell).await);
                sleep(PAUSE).await;
            }
        });
        told
    }

    async fn pass_on(&self, tell: &mpsc::Sender<Told>) -> Result<()> {
        let call = Call { method: api::Method::Get, target: "/1.0/events".into(), body: None };
        let reply = timeout(PATIENCE, self.call(&call)).await??;
        ensure!(reply.status() == StatusCode::OK, "no events");
        let mut body = reply.into_body();
        let mut text: Vec<u8> = Vec::new();
        let mut has_begun = false;
        loop {
            let frame = timeout(SILENCE, body.frame()).await?.context("the end")??;
            // The first sign shows that the daemon listens.
            if !std::mem::replace(&mut has_begun, true) {
                tell.send(Told::Begins).await?;
            }
            let Ok(data) = frame.into_data() else { continue };
            text.extend_from_slice(&data);
            ensure!(text.len() <= EVENT_MAX, "an event is too long");
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let Some(data) = line.strip_prefix(b"data: ") else { continue };
                // One that a newer daemon tells is not for this version.
                match serde_json::from_slice(data) {
                    Ok(Event::Gap { .. }) => tell.send(Told::Begins).await?,
                    Ok(event) => tell.send(Told::Event(event)).await?,
                    Err(_) => {}
                }
            }
        }
    }
}
