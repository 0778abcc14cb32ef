//! A phone that registers repeatedly with the right password and records the results. It follows RFC
//! 3261: it answers a new challenge, and retransmits a lost packet.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;

use crate::bench::figures::percentile;
use crate::interrupt;
use crate::netns::Netns;
use crate::sip::{self, Answer, Start};

/// The retransmission timers of RFC 3261 section 17.1.2.2.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const TIMER_F: Duration = Duration::from_secs(32);
/// How many times a challenge may be answered with another one (a stale nonce).
const CHALLENGES_MAX: u32 = 3;
/// How long a wait may delay the thread's end.
const TURN: Duration = Duration::from_millis(50);
/// The most times that are kept for percentiles: eleven hours of a phone that registers every 400 ms.
const TIMES_MAX: usize = 100_000;

const RUN: u8 = 0;
const FINISH: u8 = 1;
const ABORT: u8 = 2;

/// The account of a phone.
#[derive(Clone, Debug)]
pub struct Account {
    /// The account's name, also its user name for authentication.
    pub name: String,
    /// Its password.
    pub password: String,
    /// The phone's own address.
    pub local: IpAddr,
    /// The PBX.
    pub registrar: SocketAddr,
}

/// A registering phone on a thread of its own.
#[derive(Debug)]
pub struct Phone {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// The results of the registrations.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PhoneReport {
    /// Registrations that are complete.
    pub attempts: u64,
    /// Registrations that ended with anything other than 200.
    pub failures: u64,
    /// Retransmitted requests.
    pub retransmissions: u64,
    /// The median time from the first packet to the 200, in milliseconds.
    pub p50_ms: Option<f64>,
    /// The time that 99 of 100 registrations did not exceed.
    pub p99_ms: Option<f64>,
    /// The result of the last failed registration.
    pub last_failure: Option<String>,
}

#[derive(Debug, Default)]
struct Shared {
    control: AtomicU8,
    record: Mutex<Record>,
}

#[derive(Debug, Default)]
struct Record {
    attempts: u64,
    failures: u64,
    retransmissions: u64,
    times_ms: Vec<f64>,
    last_failure: Option<String>,
}

impl Phone {
    /// Starts a phone in `host` that registers every `interval`, or as soon as the previous registration
    /// is complete.
    ///
    /// # Errors
    ///
    /// If its socket cannot be created.
    pub fn start(host: &Netns, account: Account, interval: Duration) -> anyhow::Result<Self> {
        let socket = host.run_in(|| {
            let socket = UdpSocket::bind((account.local, 0)).context("bind the phone's socket")?;
            socket.connect(account.registrar).context("connect the phone's socket")?;
            Ok(socket)
        })?;
        let shared = Arc::new(Shared::default());
        let agent = UserAgent::new(socket, account, Arc::clone(&shared))?;
        let thread = thread::Builder::new()
            .name("phone".to_owned())
            .spawn(move || agent.run(interval))
            .context("start the phone's thread")?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Resets the results; the current registration counts after this.
    pub fn count_anew(&self) {
        *self.shared.record.lock().unwrap_or_else(PoisonError::into_inner) = Record::default();
    }

    /// The results so far.
    pub fn report(&self) -> PhoneReport {
        let record = self.shared.record.lock().unwrap_or_else(PoisonError::into_inner);
        PhoneReport {
            attempts: record.attempts,
            failures: record.failures,
            retransmissions: record.retransmissions,
            p50_ms: percentile(&record.times_ms, 50),
            p99_ms: percentile(&record.times_ms, 99),
            last_failure: record.last_failure.clone(),
        }
    }

    /// Waits for the current registration to complete (32 s at most, or until the run is interrupted),
    /// then stops.
    pub fn finish(mut self) -> PhoneReport {
        self.shared.control.store(FINISH, Ordering::Relaxed);
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            if interrupt::check().is_err() {
                self.shared.control.store(ABORT, Ordering::Relaxed);
            }
            thread::sleep(Duration::from_millis(10));
        }
        self.join();
        self.report()
    }

    fn join(&mut self) {
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            let mut record = self.shared.record.lock().unwrap_or_else(PoisonError::into_inner);
            record.failures += 1;
            record.last_failure = Some("the phone panicked".to_owned());
        }
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.shared.control.store(ABORT, Ordering::Relaxed);
        self.join();
    }
}

struct UserAgent {
    socket: UdpSocket,
    local: SocketAddr,
    account: Account,
    shared: Arc<Shared>,
    call_id: String,
    cseq: u32,
}

enum Outcome {
    /// A final response and its challenge.
    Final(u16, Option<sip::Challenge>),
    TimedOut,
    Aborted,
}

impl UserAgent {
    fn new(socket: UdpSocket, account: Account, shared: Arc<Shared>) -> anyhow::Result<Self> {
        let local = socket.local_addr().context("the phone's address")?;
        let address = local.ip().to_string().replace(':', "-");
        let call_id = format!("phone-{}-{address}-{}", std::process::id(), local.port());
        Ok(Self { socket, local, account, shared, call_id, cseq: 0 })
    }

    fn run(mut self, interval: Duration) {
        while self.shared.control.load(Ordering::Relaxed) == RUN {
            let started = Instant::now();
            let Some(result) = self.register() else {
                return;
            };
            self.record(result, started.elapsed());
            self.idle_until(started + interval);
        }
    }

    fn record(&self, result: Result<(), String>, took: Duration) {
        let mut record = self.shared.record.lock().unwrap_or_else(PoisonError::into_inner);
        record.attempts += 1;
        match result {
            Ok(()) if record.times_ms.len() < TIMES_MAX => {
                record.times_ms.push(took.as_secs_f64() * 1000.0);
            }
            Ok(()) => {}
            Err(why) => {
                record.failures += 1;
                record.last_failure = Some(why);
            }
        }
    }

    fn idle_until(&self, when: Instant) {
        while self.shared.control.load(Ordering::Relaxed) == RUN {
            let left = when.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            thread::sleep(left.min(TURN));
        }
    }

    /// One registration. `None` if it was cancelled.
    fn register(&mut self) -> Option<Result<(), String>> {
        let mut authorization = None;
        for _challenge in 0..=CHALLENGES_MAX {
            match self.transaction(authorization.as_deref()) {
                Outcome::Final(200, _) => return Some(Ok(())),
                Outcome::Final(401, Some(challenge)) => {
                    authorization = Some(self.answer(&challenge));
                }
                Outcome::Final(status, _) => return Some(Err(format!("answered {status}"))),
                Outcome::TimedOut => {
                    return Some(Err(format!("no answer within {} s", TIMER_F.as_secs())));
                }
                Outcome::Aborted => return None,
            }
        }
        Some(Err("challenged again and again".to_owned()))
    }

    fn answer(&self, challenge: &sip::Challenge) -> String {
        let uri = self.uri();
        let cnonce = format!("{:08x}", self.cseq);
        Answer {
            username: &self.account.name,
            password: &self.account.password,
            method: "REGISTER",
            uri: &uri,
            cnonce: &cnonce,
        }
        .header(challenge)
    }

    /// A non-INVITE client transaction over UDP.
    fn transaction(&mut self, authorization: Option<&str>) -> Outcome {
        self.cseq += 1;
        let request = self.request(authorization);
        let started = Instant::now();
        let mut wait = T1;
        self.send(&request);
        let mut next = started + wait;
        loop {
            let now = Instant::now();
            if self.shared.control.load(Ordering::Relaxed) == ABORT {
                return Outcome::Aborted;
            }
            if now >= started + TIMER_F {
                return Outcome::TimedOut;
            }
            if now >= next {
                self.send(&request);
                self.shared
                    .record
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .retransmissions += 1;
                wait = (wait * 2).min(T2);
                next = now + wait;
            }
            match self.receive((next - now).min(TURN)) {
                Some((status, _)) if status < 200 => wait = T2,
                Some((status, challenge)) => return Outcome::Final(status, challenge),
                None => {}
            }
        }
    }

    fn send(&self, request: &str) {
        // A request that could not be sent is retransmitted, like a lost packet.
        self.socket.send(request.as_bytes()).ok();
    }

    /// The status of a response to this transaction's request.
    fn receive(&self, wait: Duration) -> Option<(u16, Option<sip::Challenge>)> {
        let mut buffer = [0; 4096];
        self.socket.set_read_timeout(Some(wait.max(Duration::from_millis(1)))).ok()?;
        let length = match self.socket.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) => {
                // An ICMP error arrives at once and must not cause a busy loop.
                if error.kind() == ErrorKind::ConnectionRefused {
                    thread::sleep(wait);
                }
                return None;
            }
        };
        let message = sip::parse(&buffer[..length])?;
        let Start::Response(status) = message.start else {
            return None;
        };
        let ours = message.call_id == self.call_id.as_bytes()
            && message.cseq == Some(self.cseq)
            && message.branch == Some(self.branch().as_bytes());
        ours.then_some((status, message.challenge))
    }

    fn request(&self, authorization: Option<&str>) -> String {
        let (uri, local, name) = (self.uri(), self.local, &self.account.name);
        let address = format!("sip:{name}@{}", host(self.account.registrar.ip()));
        let authorization =
            authorization.map_or(String::new(), |value| format!("Authorization: {value}\r\n"));
        format!(
            "REGISTER {uri} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};rport;branch={branch}\r\n\
             Max-Forwards: 70\r\n\
             From: <{address}>;tag=phone\r\n\
             To: <{address}>\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <sip:{name}@{local}>\r\n\
             Expires: 120\r\n\
             User-Agent: Ringfence lab phone\r\n\
             {authorization}Content-Length: 0\r\n\r\n",
            branch = self.branch(),
            call_id = self.call_id,
            cseq = self.cseq,
        )
    }

    fn branch(&self) -> String {
        format!("z9hG4bK{}-{}", self.call_id, self.cseq)
    }

    fn uri(&self) -> String {
        format!("sip:{}", host(self.account.registrar.ip()))
    }
}

fn host(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn agent() -> (UserAgent, UdpSocket) {
        let registrar = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect(registrar.local_addr().unwrap()).unwrap();
        registrar.connect(socket.local_addr().unwrap()).unwrap();
        let account = Account {
            name: "1001".to_owned(),
            password: "secret".to_owned(),
            local: Ipv4Addr::LOCALHOST.into(),
            registrar: registrar.local_addr().unwrap(),
        };
        (UserAgent::new(socket, account, Arc::new(Shared::default())).unwrap(), registrar)
    }

    fn response(request: &[u8], status: &str, extra: &str) -> Vec<u8> {
        let request = std::str::from_utf8(request).unwrap();
        let kept = |line: &&str| ["Via", "Call", "CSeq"].iter().any(|name| line.starts_with(name));
        let kept: Vec<_> = request.lines().filter(kept).collect();
        format!("SIP/2.0 {status}\r\n{}\r\n{extra}\r\n", kept.join("\r\n")).into_bytes()
    }

    #[test]
    fn a_challenge_is_answered_and_a_lost_request_sent_again() {
        let (mut agent, registrar) = agent();
        let server = thread::spawn(move || {
            let mut buffer = [0; 4096];
            // The first packet is "lost", and the answer to it belongs to another transaction.
            registrar.recv(&mut buffer).unwrap();
            registrar.send(b"SIP/2.0 200 OK\r\nCall-ID: other\r\n\r\n").unwrap();
            registrar.send(b"\xff\xff\xff").unwrap();
            let length = registrar.recv(&mut buffer).unwrap();
            let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"n\", qop=\"auth\"\r\n";
            registrar.send(&response(&buffer[..length], "401 Unauthorized", challenge)).unwrap();
            let length = registrar.recv(&mut buffer).unwrap();
            let authorized = sip::parse(&buffer[..length]).unwrap().has_authorization;
            registrar.send(&response(&buffer[..length], "100 Trying", "")).unwrap();
            registrar.send(&response(&buffer[..length], "200 OK", "")).unwrap();
            authorized
        });
        assert_eq!(agent.register(), Some(Ok(())));
        assert!(server.join().unwrap());
        assert_eq!(agent.shared.record.lock().unwrap().retransmissions, 1);
    }

    #[test]
    fn a_refusal_is_a_failure() {
        let (mut agent, registrar) = agent();
        let server = thread::spawn(move || {
            let mut buffer = [0; 4096];
            let length = registrar.recv(&mut buffer).unwrap();
            registrar.send(&response(&buffer[..length], "403 Forbidden", "")).unwrap();
        });
        assert_eq!(agent.register(), Some(Err("answered 403".to_owned())));
        server.join().unwrap();
    }

    #[test]
    fn it_can_be_called_off() {
        let (mut agent, _registrar) = agent();
        agent.shared.control.store(ABORT, Ordering::Relaxed);
        assert_eq!(agent.register(), None);
    }
}
