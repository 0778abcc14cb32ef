//! Asterisk's manager interface (AMI) as a source: logs in, requests only security events and sends their
//! attempts.
//!
//! Asterisk ends a session that does not take its events within a tenth of a second (`writetimeout` of
//! `manager.conf`). So the connection is always read. Attempts that the controller cannot take yet wait in
//! a bounded queue; those that find it full are counted as lost, challenges first.
//!
//! The secret itself is never sent, and its digest only to a process of Asterisk's user or of root.

mod actions;
mod frames;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use self::actions::SecretError;
use self::frames::NotAmi;
pub use self::frames::{FRAME_MAX, Frames, Message};
use super::{ATTEMPTS_ENOUGH, Heard, Outlet, SourceState};
use crate::config::AmiSource;
use crate::failure::{Attempt, Verdict};
use crate::hearing::Unparsed;
use crate::listener::{Owner, Place};
use crate::parse::ami::{self, Block, Response};

/// Time limits.
#[derive(Clone, Copy, Debug)]
struct Timing {
    /// For connecting, and for each answer.
    answer: Duration,
    /// After this long without a byte Asterisk is sent a ping, and after the same time again the connection
    /// is closed.
    silence: Duration,
    /// For the security event of the login itself, which it receives if its user may.
    own_login: Duration,
    /// The pause before the first retry. Each later pause is twice as long.
    retry: Duration,
    /// The longest pause between retries.
    retry_max: Duration,
}

const TIMING: Timing = Timing {
    answer: Duration::from_secs(5),
    silence: Duration::from_secs(15),
    own_login: Duration::from_secs(5),
    retry: Duration::from_secs(1),
    retry_max: Duration::from_secs(30),
};

/// How many bytes are read at a time.
const READ: usize = 16 * 1024;

/// The maximum number of attempts that wait for the controller. From half of it on, challenges are no
/// longer added.
const QUEUE_MAX: usize = 16 * 1024;

/// Follows the events until the receiver is dropped.
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
        // Attempts that were received must not wait for the next login.
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
    /// It failed, for this reason.
    Failed(String),
}

/// Runs one connection until it ends. Ends without an error if the receiver has been dropped.
async fn session(
    login: &AmiSource,
    outlet: &Outlet,
    timing: Timing,
    queue: &mut Queue,
) -> Result<(), End> {
    // Read for each connection, so that a new or changed secret is used.
    let secret = actions::read_secret(&login.secret_file).map_err(|error| match error {
        SecretError::Missing => End::Waiting(format!(
            "the file {} with the secret of the AMI user `{}` does not exist",
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
                "it refuses a login by MD5 challenge ({}), which Asterisk accepts, so it may not be \
                Asterisk; the secret is not sent. `ss -ltnp` shows the process",
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
                "AMI at {place} refused the login of `{}` ({}); make sure that {} has the same \
                secret as Asterisk's manager.conf, and run `asterisk -rx 'manager reload'`",
                login.user,
                message.unwrap_or_default(),
                login.secret_file.display()
            )));
        }
    }
    let ended = connection.listen(outlet, login).await;
    if let Some(message) = connection.frames.unanswered() {
        connection.queue.take(message);
    }
    ended
}

/// Connects to the first address whose listener may receive the digest of the secret.
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
            && let Err(why) = owner.ask(move |owner| owner.listens(address)).await
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

/// The result of `what` within this time.
async fn within<T>(limit: Duration, what: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(limit, what).await.unwrap_or_else(|_late| Err(io::ErrorKind::TimedOut.into()))
}

/// Whether the other end may be in this place.
fn may_be(place: Place, remote: bool) -> Result<(), String> {
    if place == Place::Here || remote {
        return Ok(());
    }
    let why = "it is not on this host, so the daemon cannot check which process listens, and the \
    connection can be read and changed in transit; if that is safe, set `sources: {asterisk: {ami: \
    {remote: true}}}`";
    Err(why.to_owned())
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
    /// Waits for the banner, and checks which user sent it. That process has accepted the connection, so the
    /// kernel now knows the owner of the other end.
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
        may_be(owner.ask(move |owner| owner.check_peer(own, peer)).await?, remote)
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

    /// Cancel safe.
    async fn read(&mut self) -> io::Result<()> {
        let buffer = self.frames.buffer();
        buffer.reserve(READ);
        if self.stream.read_buf(buffer).await? == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "Asterisk closed the connection",
            ));
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
            if let Some(question) = self.frames.question() {
                within(answer, self.stream.write_all(question.as_bytes()))
                    .await
                    .map_err(|error| ended(error.to_string()))?;
            }
            let left_out = self.frames.take_skipped();
            self.queue.lost = self.queue.lost.saturating_add(left_out);
            let state = self.state(logged_in, login);
            let alarm = if state.is_none() { logged_in + own_login } else { silent_until };
            let news = state.is_some() && (self.queue.has_news() || told != state);
            tokio::select! {
                // On a busy host this task may run long after its alarm; events that have arrived
                // meanwhile count.
                biased;
                ready = outlet.ready(), if news => {
                    let Some(ready) = ready else { return Ok(()) };
                    let state = state.unwrap_or(SourceState::Ok);
                    told = Some(state.clone());
                    ready.send(self.queue.drain(state));
                }
                read = self.read() => {
                    read.map_err(|error| ended(error.to_string()))?;
                    (asked, silent_until) = (false, Instant::now() + silence);
                }
                () = sleep_until(alarm.min(silent_until)) => {
                    if Instant::now() < silent_until {
                        continue;
                    }
                    if asked {
                        let why = format!("it has not answered for {} s", (2 * silence).as_secs());
                        return Err(ended(why));
                    }
                    within(answer, self.stream.write_all(actions::ping("ping").as_bytes())).await
                        .map_err(|error| ended(error.to_string()))?;
                    (asked, silent_until) = (true, Instant::now() + silence);
                }
            }
        }
    }

    /// The state of the source; `None` while it is unknown.
    fn state(&self, logged_in: Instant, login: &AmiSource) -> Option<SourceState> {
        if self.queue.security {
            return Some(SourceState::Ok);
        }
        (logged_in.elapsed() >= self.timing.own_login).then(|| {
            SourceState::Failed(format!(
                "the AMI user `{}` receives no security events, not even that of its own login; give \
                it `read = security` in Asterisk's manager.conf",
                login.user
            ))
        })
    }
}

fn not_ami(_: NotAmi) -> String {
    "the process that answers there is not Asterisk's manager interface".to_owned()
}

/// The attempts that wait for the controller.
#[derive(Debug, Default)]
struct Queue {
    attempts: VecDeque<Attempt>,
    events: u64,
    lost: u64,
    unparsed: Unparsed,
    /// Whether a security event has ever arrived.
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

    /// Takes enough for one message.
    fn drain(&mut self, state: SourceState) -> Heard {
        let (lines, lost) = (std::mem::take(&mut self.events), std::mem::take(&mut self.lost));
        let enough = self.attempts.len().min(ATTEMPTS_ENOUGH);
        let attempts = self.attempts.drain(..enough).collect();
        let unparsed = std::mem::take(&mut self.unparsed);
        let read = crate::clock::now();
        Heard { attempts, lines, unparsed, lost, strain: None, state, place: None, read }
    }
}

#[cfg(test)]
mod tests;
