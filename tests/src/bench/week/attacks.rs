//! The attacks.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use filter_user::clock::KernelTime;

use super::exchange::Network;
use super::host::Fate;
use super::registrar::{Credentials, Reply, Request, digest};

/// What an attacker sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// REGISTERs for accounts that do not exist, without credentials.
    Scan,
    /// The same, each sent twice.
    ScanTwice,
    /// The same for accounts that exist.
    ScanOfAccounts,
    /// The same with other requests.
    Sweep(&'static str),
    /// Requests of one invented account, without credentials.
    Knock(&'static str),
    /// Wrong passwords for one account, with real challenges.
    Guess,
    /// The same for many accounts.
    Spray,
    /// Wrong passwords with an invented nonce.
    Invented,
    /// Calls to one number after the other with a stolen password.
    TollFraud,
}

/// An attack from one or more addresses.
#[derive(Debug)]
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) method: Method,
    pub(super) sources: Vec<IpAddr>,
    /// The time between two requests of all sources together.
    gap: Duration,
    pub(super) begins: u64,
    ends: u64,
    most: u64,
    /// Whether the sources are others' addresses, whose answers do not come back.
    pub(super) is_forged: bool,
    /// After how many requests of one source it must be seen; `None` if nothing but its purpose distinguishes it
    /// from good traffic.
    pub(super) within: Option<u64>,
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// When each of the first requests was sent.
    pub(super) times: Vec<(u64, IpAddr)>,
}

/// How many times are remembered.
const TIMES_MAX: usize = 200_000;

impl Attack {
    pub(super) fn new(
        name: &'static str,
        method: Method,
        sources: Vec<IpAddr>,
        gap: Duration,
        (begins, ends): (u64, u64),
    ) -> Self {
        Self {
            name,
            method,
            sources,
            gap,
            begins,
            ends,
            most: u64::MAX,
            is_forged: false,
            within: None,
            sent: 0,
            answered: 0,
            times: Vec::new(),
        }
    }

    /// With no more requests than this.
    pub(super) fn limited(self, most: u64) -> Self {
        Self { most, ..self }
    }

    pub(super) fn within(self, requests: u64) -> Self {
        Self { within: Some(requests), ..self }
    }

    pub(super) fn forged(self) -> Self {
        Self { is_forged: true, ..self }
    }

    /// How many requests a source had sent by a time.
    pub(super) fn sent_by(&self, source: IpAddr, at: KernelTime) -> u64 {
        let before = |(time, from): &&(u64, IpAddr)| *from == source && *time <= at.0;
        self.times.iter().filter(before).count() as u64
    }

    /// Sends the next request. Returns when the one after it is due.
    pub(super) fn wake(&mut self, network: &mut Network<'_>) -> u64 {
        if network.now.0 >= self.ends || self.sent >= self.most {
            return u64::MAX;
        }
        let turn = usize::try_from(self.sent).unwrap_or(0);
        let source = self.sources[turn % self.sources.len()];
        self.sent += 1;
        if self.times.len() < TIMES_MAX {
            self.times.push((network.now.0, source));
        }
        self.answered += u64::from(self.attack(source, network));
        network.now.after(self.gap).0
    }

    /// Returns whether the request was answered in full.
    fn attack(&self, source: IpAddr, network: &mut Network<'_>) -> bool {
        let number = self.sent;
        let of_many = 1001 + number % 997;
        let (method, user) = match self.method {
            Method::Scan | Method::ScanTwice => ("REGISTER", format!("x{number}")),
            Method::ScanOfAccounts | Method::Spray => ("REGISTER", of_many.to_string()),
            Method::Sweep(method) => (method, format!("x{number}")),
            Method::Knock(method) => (method, "100".to_owned()),
            Method::Guess | Method::Invented => ("REGISTER", "1001".to_owned()),
            Method::TollFraud => ("INVITE", "1999".to_owned()),
        };
        let to = match method {
            "INVITE" => format!("0044{number}"),
            _ => user.clone(),
        };
        let mut request = Request {
            method,
            source: SocketAddr::new(source, 5060),
            user,
            to,
            call_id: format!("a{number}@{source}"),
            cseq: 1,
            credentials: None,
        };
        let mut send = |request: &Request| match network.host.take(request, None, network.now) {
            Fate::Answered(reply) => Some(reply),
            Fate::Dropped(_) => None,
        };
        match self.method {
            Method::Scan | Method::Sweep(_) | Method::ScanOfAccounts | Method::Knock(_) => {
                send(&request).is_some()
            }
            Method::ScanTwice => {
                let first = send(&request);
                first.is_some() || send(&request).is_some()
            }
            Method::Invented => {
                let nonce = format!("1700000000/{number:032x}");
                request.credentials = Some(Credentials { nonce, response: number });
                send(&request).is_some()
            }
            Method::Guess | Method::Spray | Method::TollFraud => {
                let Some(Reply { challenge: Some((nonce, _)), .. }) = send(&request) else {
                    return false;
                };
                let right = self.method == Method::TollFraud;
                let response = if right { digest("1999", 1, &nonce) } else { number };
                request.credentials = Some(Credentials { nonce, response });
                request.cseq = 2;
                send(&request).is_some()
            }
        }
    }
}
