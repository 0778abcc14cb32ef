//! Asterisk's manager interface (AMI) as a source: logs in, asks for security events alone, sends
//! what they say.
//!
//! Asterisk ends a session that does not take its events within a tenth of a second (`writetimeout`
//! of `manager.conf`). So it is always read; what the controller cannot take yet waits in a queue
//! with a bound, and what finds that full is counted as lost, challenges first.
//!
//! The secret itself is never sent, and its digest only to a process of Asterisk's user or root's.

mod actions;
mod frames;
mod listener;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::actions::SecretError;
use self::frames::NotAmi;
pub use self::frames::{FRAME_MAX, Frames, Message};
use self::listener::{Owner, Place};
use super::{ATTEMPTS_ENOUGH, Heard, Outlet, SourceState};
use crate::config::AmiSource;
use crate::failure::{Attempt, Verdict};
use crate::hearing::Unparsed;
use crate::parse::ami::{self, Block, Response};

/// How long what may take.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// Connecting, and each answer.
    answer: Duration,
    /// After so long without a byte Asterisk is asked whether it is alive, and after so long again
    /// it is given up.
    silence: Duration,
    /// Asterisk tells of a login by a security event, which the login itself receives if it may.
    own_login: Duration,
    /// The pause before the first new try; each one is twice the last.
    retry: Duration,
    /// The longest pause between tries.
    retry_max: Duration,
}

const TIMING: Timing = Timing {
    answer: Duration::from_secs(5),
    silence: Duration::from_secs(15),
    own_login: Duration::from_secs(5),
    retry: Duration::from_secs(1),
    retry_max: Duration::from_secs(30),
};

/// Bytes that are read at a time.
const READ: usize = 16 * 1024;

/// Attempts that wait for the controller. From half of it on no challenges are added.
const QUEUE_MAX: usize = 16 * 1024;

/// Follows the events for as long as somebody listens.
pub async fn follow(login: AmiSource, outlet: Outlet) {
    follow_at(login, outlet, TIMING).await;
}

async fn follow_at(login: AmiSource, outlet: Outlet, timing: Timing) {
    let mut pause = timing.retry;
    let mut queue = Queue::default();
    while !outlet.is_closed() {
        let state = match session(&login, &outlet, timing, &mut queue).await {
            Ok(()) => return,
            Err(End::Waiting(why)) => SourceState::Waiting(why),
            Err(End::Failed(why)) => SourceState::Failed(why),
        };
        let worked = std::mem::take(&mut queue.security);
        // What was heard must not wait for the next login.
        while queue.attempts.len() > ATTEMPTS_ENOUGH {
            if !outlet.send(queue.drain(SourceState::Ok)).await {
                return;
            }
        }
        if !outlet.send(queue.drain(state)).await {
            return;
        }
        if worked {
            pause = timing.retry;
        }
        sleep(pause).await;
        pause = (pause * 2).min(timing.retry_max);
    }
}

/// Why a session ended.
enum End {
    /// There is nothing to log in with.
    Waiting(String),
    /// It did not work, or does no more.
    Failed(String),
}

/// One connection, until it ends; without an error when nobody listens.
async fn session(
    login: &AmiSource,
    outlet: &Outlet,
    timing: Timing,
    queue: &mut Queue,
) -> Result<(), End> {
    // Each time anew, so that a secret that is put there or changed is taken up.
    let secret = actions::read_secret(&login.secret_file).map_err(|error| match error {
        SecretError::Missing => End::Waiting(format!(
            "there is no {} with the secret of AMI's user `{}`",
            login.secret_file.display(),
            login.user
        )),
        SecretError::Unusable(why) => End::Failed(why),
    })?;
    let place = format!("{}:{}", login.host, login.port);
    let failed = |why: String| End::Failed(format!("AMI at {place}: {why}"));
    let owner = Owner::of(&login.listener).map_err(failed)?;
    let mut connection = connect(login, owner, timing, queue).await?;

    let answer = connection.ask(actions::CHALLENGE, "challenge").await.map_err(failed)?;
    let action = match response(&answer) {
        Some(Response { success: true, challenge, .. }) if !challenge.is_empty() => {
            actions::login_by_digest(&login.user, &secret, challenge)
        }
        other => {
            let message = other.map(|r| String::from_utf8_lossy(r.message).into_owned());
            return Err(failed(format!(
                "it refuses a login by MD5 challenge ({}), as Asterisk does not, and the secret \
                 itself is never sent; see with `ss -ltnp` what listens there",
                message.unwrap_or_default()
            )));
        }
    };
    let answer = connection.ask(&action, "login").await.map_err(failed)?;
    match response(&answer) {
        Some(Response { success: true, .. }) => {}
        other => {
            let message = other.map(|r| String::from_utf8_lossy(r.message).into_owned());
            return Err(End::Failed(format!(
                "AMI at {place} refused the login of `{}` ({}); compare {} with Asterisk's \
                 manager.conf and run `asterisk -rx 'manager reload'`",
                login.user,
                message.unwrap_or_default(),
                login.secret_file.display()
            )));
        }
    }
    connection.listen(outlet, login).await
}

/// Connects to the first address at which somebody greets who may be told the digest of the secret.
async fn connect<'a>(
    login: &AmiSource,
    owner: Owner,
    timing: Timing,
    queue: &'a mut Queue,
) -> Result<Connection<'a>, End> {
    let place = format!("{}:{}", login.host, login.port);
    let failed = |error: io::Error| End::Failed(format!("connect to AMI at {place}: {error}"));
    let found = within(timing.answer, lookup_host((&*login.host, login.port))).await;
    let mut last = failed(io::ErrorKind::NotFound.into());
    for address in found.map_err(failed)?.collect::<Vec<SocketAddr>>() {
        if address.ip().to_canonical().is_loopback()
            && let Err(why) = ask_kernel(&owner, move |owner| owner.check_listener(address)).await
        {
            last = End::Failed(format!("AMI at {place}: {why}"));
            continue;
        }
        let stream = match within(timing.answer, TcpStream::connect(address)).await {
            Ok(stream) => stream,
            Err(error) => {
                last = failed(error);
                continue;
            }
        };
        let frames = Frames::default();
        let mut connection = Connection { stream, frames, timing, queue: &mut *queue };
        match connection.check(&owner, login.remote).await {
            Ok(()) => {
                let Connection { stream, frames, .. } = connection;
                return Ok(Connection { stream, frames, timing, queue });
            }
            Err(why) => last = End::Failed(format!("AMI at {place}: {why}")),
        }
    }
    Err(last)
}

/// What comes of it in this time.
async fn within<T>(limit: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, what).await.unwrap_or_else(|_late| Err(io::ErrorKind::TimedOut.into()))
}

/// Whether the other end may be there.
fn may_be(place: Place, remote: bool) -> Result<(), String> {
    if place == Place::Here || remote {
        return Ok(());
    }
    let why = "it is not on this host, so nobody can tell who listens, and whoever is in between can \
               read and change what is sent; if that is safe, set `sources: {asterisk: {ami: {remote: \
               true}}}`";
    Err(why.to_owned())
}

/// Reads the kernel's tables, which may be long, where nobody waits for it.
async fn ask_kernel<T: Send + 'static>(
    owner: &Owner,
    ask: impl FnOnce(&Owner) -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    let owner = owner.clone();
    let asked = spawn_blocking(move || ask(&owner)).await;
    asked.unwrap_or_else(|error| Err(error.to_string()))
}

fn response(block: &[u8]) -> Option<Response<'_>> {
    match ami::parse(block) {
        Block::Response(response) => Some(response),
        Block::Security(_) | Block::Cut | Block::Unread | Block::TooLong | Block::Other => None,
    }
}

struct Connection<'a> {
    stream: TcpStream,
    frames: Frames,
    timing: Timing,
    queue: &'a mut Queue,
}

impl Connection<'_> {
    /// Waits for the banner, and looks whose it is. Who writes it has accepted the connection, so that
    /// from here on the kernel tells whose the other end is.
    async fn check(&mut self, owner: &Owner, remote: bool) -> Result<(), String> {
        let limit = self.timing.answer;
        let greeted = async {
            while !self.frames.is_greeted().map_err(not_ami)? {
                self.read().await.map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        let late = |_late| Err(format!("no answer within {} s", limit.as_secs()));
        timeout(limit, greeted).await.unwrap_or_else(late)?;
        let ends = self.stream.local_addr().and_then(|own| Ok((own, self.stream.peer_addr()?)));
        let (own, peer) = ends.map_err(|error| error.to_string())?;
        may_be(ask_kernel(owner, move |owner| owner.check_peer(own, peer)).await?, remote)
    }

    /// Sends an action and returns the block that answers it.
    async fn ask(&mut self, action: &str, id: &str) -> Result<bytes::Bytes, String> {
        let limit = self.timing.answer;
        let asked = async {
            self.stream.write_all(action.as_bytes()).await.map_err(|error| error.to_string())?;
            loop {
                while let Some(message) = self.frames.next_message().map_err(not_ami)? {
                    if let Message::Response(block) = &message
                        && response(block).is_some_and(|r| r.action == id.as_bytes())
                    {
                        return Ok(block.clone());
                    }
                    self.queue.take(message);
                }
                self.read().await.map_err(|error| error.to_string())?;
            }
        };
        match timeout(limit, asked).await {
            Ok(answer) => answer,
            Err(_late) => Err(format!("no answer within {} s", limit.as_secs())),
        }
    }

    /// Can be dropped at any await.
    async fn read(&mut self) -> io::Result<()> {
        let buffer = self.frames.buffer();
        buffer.reserve(READ);
        if self.stream.read_buf(buffer).await? == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "Asterisk hung up"));
        }
        Ok(())
    }

    /// Takes events and sends them on.
    async fn listen(&mut self, outlet: &Outlet, login: &AmiSource) -> Result<(), End> {
        let ended =
            |why: String| End::Failed(format!("AMI at {}:{}: {why}", login.host, login.port));
        let Timing { answer, silence, own_login, .. } = self.timing;
        let logged_in = Instant::now();
        let mut told = None;
        let mut silent_until = logged_in + silence;
        let mut asked = false;
        loop {
            while let Some(message) = self.frames.next_message().map_err(|e| ended(not_ami(e)))? {
                self.queue.take(message);
            }
            let left_out = self.frames.take_skipped();
            self.queue.lost = self.queue.lost.saturating_add(left_out);
            let state = self.state(logged_in, login);
            let alarm = if state.is_none() { logged_in + own_login } else { silent_until };
            let news = state.is_some() && (self.queue.has_news() || told != state);
            tokio::select! {
                read = self.read() => {
                    read.map_err(|error| ended(error.to_string()))?;
                    (asked, silent_until) = (false, Instant::now() + silence);
                }
                ready = outlet.ready(), if news => {
                    let Some(ready) = ready else { return Ok(()) };
                    let state = state.unwrap_or(SourceState::Ok);
                    told = Some(state.clone());
                    ready.send(self.queue.drain(state));
                }
                () = sleep_until(alarm.min(silent_until)) => {
                    if Instant::now() < silent_until {
                        continue;
                    }
                    if asked {
                        let why = format!("it has not answered for {} s", (2 * silence).as_secs());
                        return Err(ended(why));
                    }
                    within(answer, self.stream.write_all(actions::PING.as_bytes())).await
                        .map_err(|error| ended(error.to_string()))?;
                    (asked, silent_until) = (true, Instant::now() + silence);
                }
            }
        }
    }

    /// How the source is; `None` while that is not known yet.
    fn state(&self, logged_in: Instant, login: &AmiSource) -> Option<SourceState> {
        if self.queue.security {
            return Some(SourceState::Ok);
        }
        (logged_in.elapsed() >= self.timing.own_login).then(|| {
            SourceState::Failed(format!(
                "AMI's user `{}` gets no security events, not even that of its own login; give it \
                 `read = security` in Asterisk's manager.conf",
                login.user
            ))
        })
    }
}

fn not_ami(_: NotAmi) -> String {
    "what answers there is not Asterisk's manager interface".to_owned()
}

/// What waits for the controller.
#[derive(Debug, Default)]
struct Queue {
    attempts: VecDeque<Attempt>,
    events: u64,
    lost: u64,
    unparsed: Unparsed,
    /// Whether there ever was a security event.
    security: bool,
}

impl Queue {
    fn take(&mut self, message: Message) {
        let (attempt, event) = match message {
            Message::Security(attempt) => (Some(attempt), None),
            Message::Unknown(event) => (None, Some(event)),
            Message::Response(_) | Message::Other => return,
        };
        self.security = true;
        self.events = self.events.saturating_add(1);
        if let Some(event) = event.filter(|event| ami::is_of_failure(event)) {
            self.unparsed.add(&event, Timestamp::now());
        }
        let Some(attempt) = attempt else { return };
        let room = if attempt.verdict == Verdict::Ignored { QUEUE_MAX / 2 } else { QUEUE_MAX };
        if self.attempts.len() < room {
            self.attempts.push_back(attempt);
        } else {
            self.lost = self.lost.saturating_add(1);
        }
    }

    fn has_news(&self) -> bool {
        self.events > 0 || self.lost > 0 || !self.attempts.is_empty()
    }

    /// What is enough for one message.
    fn drain(&mut self, state: SourceState) -> Heard {
        let (lines, lost) = (std::mem::take(&mut self.events), std::mem::take(&mut self.lost));
        let enough = self.attempts.len().min(ATTEMPTS_ENOUGH);
        let attempts = self.attempts.drain(..enough).collect();
        let unparsed = std::mem::take(&mut self.unparsed);
        Heard { attempts, lines, unparsed, lost, strain: None, state, place: None }
    }
}

#[cfg(test)]
mod tests;
