//! Asks wazo-auth whether a token allows something: `GET /0.1/token/{token}?scope={acl}`.
//!
//! wazo-auth is on this host and speaks plain HTTP, so one short exchange over a socket is enough. An answer that is
//! yes is remembered for a moment.
//!
//! Must never let a client in without an answer, or ask more than a few questions at once.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Error, Result, bail};
use api::{ErrorId, Refusal};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::config::Loopback;
use crate::listener::Owner;

/// How long wazo-auth may take, with the wait for a turn.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most questions at once. A flood of invented tokens then waits here and not in wazo-auth.
const QUESTIONS: usize = 4;

/// The longest answer that is read, in bytes. That of a user with many ACLs has a few kilobytes.
const ANSWER_MAX: u64 = 64 << 10;

/// How long a yes is remembered: a revoked token is valid for as long.
const REMEMBERED: Duration = Duration::from_secs(10);

/// The most that is remembered.
const REMEMBERED_MAX: usize = 256;

/// The most characters of a user that are logged.
const USER_MAX: usize = 64;

/// A token. wazo-auth makes only UUIDs, so nothing else is sent to it.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Token(String);

impl Token {
    fn read(bytes: &[u8]) -> Option<Self> {
        let groups = bytes.split(|byte| *byte == b'-').map(<[u8]>::len);
        let is_uuid = groups.eq([8, 4, 4, 4, 12])
            && bytes.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-');
        let text = str::from_utf8(bytes).ok().filter(|_| is_uuid)?;
        Some(Self(text.to_ascii_lowercase()))
    }
}

/// Without the token, which is as good as a password.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }
}

/// What wazo-auth says.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// The token is that of this user, and allows it.
    Yes(String),
    /// There is no such token.
    Unknown,
    /// The token does not allow it.
    Forbidden,
}

/// A yes that is remembered.
struct Yes {
    user: String,
    until: Instant,
}

/// The tokens of clients.
pub(super) struct Tokens {
    wazo_auth: Option<Loopback>,
    /// Who may listen there: anybody else could approve tokens.
    owner: Owner,
    patience: Duration,
    turns: Semaphore,
    known: Mutex<HashMap<(Token, &'static str), Yes>>,
}

impl Tokens {
    /// Has wazo-auth check them, if there is any.
    pub(super) fn new(wazo_auth: Option<Loopback>) -> Self {
        Self {
            wazo_auth,
            owner: Owner::Service,
            patience: PATIENCE,
            turns: Semaphore::new(QUESTIONS),
            known: Mutex::default(),
        }
    }

    /// Whether a token allows what needs this ACL. Returns its user.
    pub(super) async fn check(
        &self,
        token: Option<&[u8]>,
        acl: &'static str,
    ) -> Result<String, Refusal> {
        let unauthorized = |why: &str| Refusal::new(ErrorId::Unauthorized, why);
        let token = token.ok_or_else(|| {
            unauthorized("the header `X-Auth-Token` is missing; it needs a token of wazo-auth")
        })?;
        let invalid = || unauthorized("the token is unknown or has expired; get another one");
        let token = Token::read(token).ok_or_else(invalid)?;
        let Some(at) = self.wazo_auth else {
            return Err(unauthorized("no tokens are accepted, because `api.wazo_auth` is empty"));
        };
        let key = (token, acl);
        if let Some(user) = self.remembered(&key) {
            return Ok(user);
        }
        let asks = async {
            let _turn = self.turns.acquire().await?;
            self.owner.require(vec![at.address()]).await.map_err(Error::msg)?;
            ask(at, &key.0, acl).await
        };
        let answer = timeout(self.patience, asks).await.unwrap_or_else(|_elapsed| {
            bail!("no answer within {} s", self.patience.as_secs_f32());
        });
        match answer {
            Ok(Answer::Yes(user)) => {
                self.remember(key, user.clone());
                Ok(user)
            }
            Ok(Answer::Unknown) => Err(invalid()),
            Ok(Answer::Forbidden) => {
                let why = format!(
                    "the token does not allow `{acl}`; add this ACL to a policy of its user"
                );
                Err(Refusal::new(ErrorId::Forbidden, why))
            }
            Err(why) => {
                let why = format!("wazo-auth at {at} cannot check the token: {why:#}");
                Err(Refusal::new(ErrorId::Unavailable, why))
            }
        }
    }

    fn remembered(&self, key: &(Token, &'static str)) -> Option<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let yes = known.get(key).filter(|yes| Instant::now() < yes.until)?;
        Some(yes.user.clone())
    }

    fn remember(&self, key: (Token, &'static str), user: String) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if known.len() >= REMEMBERED_MAX {
            known.retain(|_, yes| now < yes.until);
        }
        // Else wazo-auth is asked again, which costs only time.
        if known.len() < REMEMBERED_MAX {
            known.insert(key, Yes { user, until: now + REMEMBERED });
        }
    }
}

/// Asks wazo-auth.
async fn ask(at: Loopback, token: &Token, acl: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect(at.address()).await.context("connect")?;
    // In HTTP/1.0 the answer ends with the connection, and is not in chunks.
    let request = format!(
        "GET /0.1/token/{}?scope={acl} HTTP/1.0\r\nHost: {at}\r\nAccept: application/json\r\n\r\n",
        token.0
    );
    stream.write_all(request.as_bytes()).await.context("send the question")?;
    let mut reply = Vec::new();
    let read = stream.take(ANSWER_MAX + 1).read_to_end(&mut reply).await;
    match read {
        // Some servers reset a connection at its end. What has arrived is judged below.
        Err(error) if error.kind() != io::ErrorKind::ConnectionReset => {
            return Err(error).context("read the answer");
        }
        _ => {}
    }
    if reply.len() as u64 > ANSWER_MAX {
        bail!("its answer is longer than {} KiB", ANSWER_MAX >> 10);
    }
    understood(&reply)
}

/// The part of the answer that is used.
#[derive(Deserialize)]
struct Body {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    auth_id: String,
}

/// What a reply means. An error says nothing of what it contains, because this may be from anybody.
fn understood(reply: &[u8]) -> Result<Answer> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut head = httparse::Response::new(&mut headers);
    let Ok(httparse::Status::Complete(end)) = head.parse(reply) else {
        bail!("its answer is not HTTP");
    };
    match head.code.unwrap_or_default() {
        200 => {
            let body: Result<Body, _> = serde_json::from_slice(&reply[end..]);
            let Ok(Body { data: Data { auth_id } }) = body else {
                bail!("its answer is not that of wazo-auth");
            };
            let plain = |c: &char| c.is_ascii_alphanumeric() || "._-@".contains(*c);
            Ok(Answer::Yes(auth_id.chars().filter(plain).take(USER_MAX).collect()))
        }
        401 | 404 => Ok(Answer::Unknown),
        403 => Ok(Answer::Forbidden),
        status => bail!("its answer has status {status}"),
    }
}

#[cfg(test)]
mod tests;
