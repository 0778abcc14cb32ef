//! The good traffic: phones, trunks, and a monitor that asks whether the host is alive.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use filter_common::decision::Reason;
use filter_user::clock::KernelTime;

use super::exchange::{Exchange, Network, Step};
use super::registrar::{Credentials, Reply, Request, digest};

const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;

/// How long a registration lasts.
const REGISTERED_FOR: u64 = 120;

/// How long a client waits after a refusal or without an answer.
const RETRY: u64 = 30 * SECOND;

/// How long a program needs to answer.
const THINKING: Duration = Duration::from_millis(10);

/// What has happened to a client.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Service {
    /// Requests that were served: registrations, calls, answers to a ping.
    pub(super) served: u64,
    /// Right requests that were not answered in 32 seconds.
    pub(super) lost: u64,
    /// Packets that were dropped, and why the last one was.
    pub(super) dropped: u64,
    pub(super) dropped_by: Option<Reason>,
    /// The longest time from the first packet of a registration with the right password to its end.
    pub(super) slowest: Duration,
}

impl Service {
    fn note(&mut self, dropped: Option<Reason>) {
        self.dropped += u64::from(dropped.is_some());
        self.dropped_by = dropped.or(self.dropped_by);
    }
}

/// What a phone does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Register,
    Call,
    Ping,
}

/// The habits of a phone.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Habits {
    /// Whether it sends the last nonce with the next registration, when it is too old.
    pub(super) reuses_nonce: bool,
    /// How often it sends an OPTIONS, whose challenge it does not answer, if it does.
    pub(super) pings: Option<Duration>,
    /// Whether its password is an old one.
    pub(super) old_password: bool,
    /// How often it registers; if nothing is said, before the registration ends.
    pub(super) every: Option<Duration>,
    /// When it is off each day, in hours, if it is.
    pub(super) off: Option<(u64, u64)>,
    /// Whether it has another address every hour.
    pub(super) roams: bool,
    /// How often it calls one number after the other, if it does: a third of them no longer exist, and some never
    /// did.
    pub(super) dials: Option<Duration>,
}

/// A phone.
#[derive(Debug)]
pub(super) struct Phone {
    name: String,
    pub(super) source: SocketAddr,
    habits: Habits,
    cseq: u32,
    nonce: Option<String>,
    /// How many more times the password is typed wrongly.
    typed_wrong: u32,
    task: Task,
    begun: KernelTime,
    exchange: Option<Exchange>,
    /// When each task is due.
    due: [(u64, Task); 3],
    pub(super) service: Service,
}

impl Phone {
    /// A phone that registers first at `first`.
    pub(super) fn new(name: String, source: SocketAddr, habits: Habits, first: u64) -> Self {
        let pings = habits.pings.map_or(u64::MAX, |_| first + 7 * SECOND);
        let calls = match habits {
            Habits { old_password: true, .. } => u64::MAX,
            Habits { dials: Some(_), .. } => first + SECOND,
            Habits { .. } => first + HOUR,
        };
        Self {
            name,
            source,
            habits,
            cseq: 1,
            nonce: None,
            typed_wrong: 0,
            task: Task::Register,
            begun: KernelTime(0),
            exchange: None,
            due: [(first, Task::Register), (calls, Task::Call), (pings, Task::Ping)],
            service: Service::default(),
        }
    }

    /// When it first does something.
    pub(super) fn first(&self) -> u64 {
        self.due.iter().map(|(at, _)| *at).min().unwrap_or(u64::MAX)
    }

    /// Does what is due. Returns when it next has something to do.
    pub(super) fn wake(&mut self, network: &mut Network<'_>) -> u64 {
        let exchange = match self.exchange.take() {
            Some(exchange) => exchange,
            None => match self.begin(network) {
                Ok(exchange) => exchange,
                Err(later) => return later,
            },
        };
        self.go_on(exchange, network)
    }

    /// Begins the next task, or says when it will.
    fn begin(&mut self, network: &mut Network<'_>) -> Result<Exchange, u64> {
        let now = network.now.0;
        if let Some((from, to)) = self.habits.off {
            let (hour, day) = (now % DAY / HOUR, now / DAY * DAY);
            if (from..to).contains(&hour) {
                // All of them are switched on at the same time.
                self.nonce = None;
                let on = day + to * HOUR;
                self.due
                    .iter_mut()
                    .for_each(|(at, _)| *at = if *at == u64::MAX { *at } else { on });
                return Err(on);
            }
        }
        let Some((at, task)) = self.due.iter().min_by_key(|(at, _)| *at).copied() else {
            return Err(u64::MAX);
        };
        if at > now {
            return Err(at);
        }
        if self.habits.roams {
            let hour = u32::try_from(now / HOUR).unwrap_or(0);
            let place = u32::from(self.source.port()) * 1000 + hour;
            let [_, b, c, d] = place.to_be_bytes();
            self.source.set_ip(IpAddr::from([100, 64 | b & 63, c, d]));
        }
        (self.task, self.begun) = (task, network.now);
        let is_typed = task == Task::Register && self.habits.every.is_none();
        if is_typed && network.chance.below(3000) == 0 {
            self.typed_wrong = 1 + u32::try_from(network.chance.below(3)).unwrap_or(0);
        }
        let reused = self.nonce.clone().filter(|_| self.habits.reuses_nonce);
        Ok(self.exchange_with(reused.filter(|_| task == Task::Register), network))
    }

    fn exchange_with(&mut self, nonce: Option<String>, network: &mut Network<'_>) -> Exchange {
        self.cseq += 1;
        let is_old = self.habits.old_password || self.typed_wrong > 0;
        let credentials = nonce.map(|nonce| {
            let response = digest(&self.name, u32::from(!is_old), &nonce);
            Credentials { nonce, response }
        });
        let (method, to) = match self.task {
            Task::Register => ("REGISTER", self.name.clone()),
            Task::Ping => ("OPTIONS", "ping".to_owned()),
            Task::Call if self.habits.dials.is_some() => {
                let number = network.chance.below(1_000_000);
                (
                    "INVITE",
                    match network.chance.below(30) {
                        0..2 => format!("0{number}"),
                        2..12 => format!("5{number}1"),
                        _ => format!("5{number}0"),
                    },
                )
            }
            // One number in thirty is wrong.
            Task::Call if network.chance.below(30) == 0 => ("INVITE", "0441632960123".to_owned()),
            Task::Call => ("INVITE", "1000".to_owned()),
        };
        let call_id = match self.task {
            Task::Register => format!("r{}@phone", self.name),
            Task::Call | Task::Ping => format!("{}{}@phone", self.name, self.begun.0 / SECOND),
        };
        let user = self.name.clone();
        let (source, cseq) = (self.source, self.cseq);
        let request = Request { method, source, user, to, call_id, cseq, credentials };
        Exchange::new(request, network.now)
    }

    fn go_on(&mut self, mut exchange: Exchange, network: &mut Network<'_>) -> u64 {
        let (step, dropped) = exchange.step(network);
        self.service.note(dropped);
        match step {
            Step::Wait(until) => {
                self.exchange = Some(exchange);
                until
            }
            Step::Lost => {
                if !self.habits.old_password {
                    self.service.lost += 1;
                }
                self.end(RETRY, network)
            }
            Step::Got(Reply { challenge: Some((nonce, is_stale)), .. }) => {
                let was_refused = exchange.request.credentials.is_some() && !is_stale;
                self.challenged(nonce, was_refused, network)
            }
            Step::Got(_) => {
                self.service.served += 1;
                if self.task == Task::Register {
                    let took = network.now.since(self.begun);
                    self.service.slowest = self.service.slowest.max(took);
                }
                self.end((REGISTERED_FOR - network.chance.below(12)) * SECOND, network)
            }
        }
    }

    /// Answers a challenge, unless it is a refusal or that of a ping.
    fn challenged(&mut self, nonce: String, was_refused: bool, network: &mut Network<'_>) -> u64 {
        self.nonce = Some(nonce.clone());
        if self.task == Task::Ping {
            self.service.served += 1;
            return self.end(0, network);
        }
        if was_refused {
            self.typed_wrong = self.typed_wrong.saturating_sub(1);
            return self.end(RETRY, network);
        }
        let mut exchange = self.exchange_with(Some(nonce), network);
        exchange.delay(THINKING);
        self.exchange = Some(exchange);
        network.now.after(THINKING).0
    }

    /// Ends a task. A registration is due again after `wait`.
    fn end(&mut self, wait: u64, network: &mut Network<'_>) -> u64 {
        let now = network.now.0;
        let every = |time: Option<Duration>| {
            time.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
        };
        let wait = match self.task {
            Task::Register => every(self.habits.every).unwrap_or(wait),
            Task::Call if self.habits.dials.is_some() => every(self.habits.dials).unwrap_or(wait),
            Task::Call => (1800 + network.chance.below(7200)) * SECOND,
            Task::Ping => every(self.habits.pings).unwrap_or(u64::MAX / 2),
        };
        for (at, task) in &mut self.due {
            if *task == self.task {
                *at = now + wait;
            }
        }
        self.first().max(now + 1)
    }
}

/// How a trunk and the host know each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Asterisk registers there.
    Registers,
    /// By address; both send OPTIONS.
    Qualified,
    /// By address, and nothing else.
    Plain,
    /// It is no trunk: it sends an OPTIONS each minute, and is satisfied with the challenge.
    Monitor,
}

/// A trunk, or the monitor.
#[derive(Debug)]
pub(super) struct Trunk {
    pub(super) kind: Kind,
    pub(super) source: SocketAddr,
    number: u32,
    pub(super) service: Service,
}

impl Trunk {
    pub(super) fn new(kind: Kind, source: SocketAddr) -> Self {
        Self { kind, source, number: 0, service: Service::default() }
    }

    /// Sends what is due each minute. Returns when it next has something to do.
    pub(super) fn wake(&mut self, network: &mut Network<'_>) -> u64 {
        self.number += 1;
        let (number, source) = (self.number, self.source);
        let asks = match self.kind {
            Kind::Registers => (number % 5 == 0).then_some("REGISTER"),
            Kind::Qualified => Some("OPTIONS"),
            Kind::Plain | Kind::Monitor => None,
        };
        if let Some(method) = asks {
            let out = format!(
                "{method} sip:{source} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;rport;\
                 branch=z9hG4bKPj{number}\r\nFrom: <sip:wazo@192.0.2.10>;tag=1\r\nTo: <sip:{source}>\r\n\
                 Call-ID: out{number}\r\nCSeq: {number} {method}\r\nContent-Length:  0\r\n\r\n"
            );
            network.host.send(source, &out, network.now);
            let reply = format!(
                "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bKPj{number}\r\n\
                 Call-ID: out{number}\r\nCSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n"
            );
            let dropped = network.host.take_reply(source, &reply, network.now);
            self.service.note(dropped);
        }
        if matches!(self.kind, Kind::Qualified | Kind::Monitor) {
            self.ask("OPTIONS", "ping".to_owned(), network);
        }
        if self.kind != Kind::Monitor && network.chance.below(30) == 0 {
            let wrong = network.chance.below(20) == 0;
            self.ask("INVITE", if wrong { "0999" } else { "1000" }.to_owned(), network);
        }
        network.now.0 + 60 * SECOND
    }

    /// Sends a request, twice if need be.
    fn ask(&mut self, method: &'static str, to: String, network: &mut Network<'_>) {
        let call_id = format!("t{}-{method}", self.number);
        let user = if method == "INVITE" {
            // The caller.
            format!("0163296{:04}", network.chance.below(10_000))
        } else {
            "asterisk".to_owned()
        };
        let (source, cseq) = (self.source, self.number);
        let request = Request { method, source, user, to, call_id, cseq, credentials: None };
        let mut exchange = Exchange::new(request, network.now);
        for _ in 0..3 {
            let (step, dropped) = exchange.step(network);
            self.service.note(dropped);
            if matches!(step, Step::Got(_)) {
                self.service.served += 1;
                return;
            }
        }
        self.service.lost += 1;
    }
}
