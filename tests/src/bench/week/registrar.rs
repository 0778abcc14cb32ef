//! A model of Asterisk 22 as Wazo sets it up: what it answers to a request over UDP, the lines of its NOTICE log,
//! and its security events. The digest of a password is a stand-in; a nonce is valid for 32 seconds, and only for
//! the address that it was sent to.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};

use filter_user::clock::KernelTime;

const SECOND: u64 = 1_000_000_000;

/// `nonce_lifetime` of an authentication object.
const NONCE_LIFE: u64 = 32;

/// `unidentified_request_count`, `_period` and `_prune_interval` of `pjsip.conf`.
const UNIDENTIFIED: (u32, u64, u64) = (5, 5, 30);

/// When the trunk refuses every call, and when the dial plan has lost every number: the hours from the start.
pub(super) const NO_TRUNK: std::ops::Range<u64> = 13..15;
const NO_DIAL_PLAN: std::ops::Range<u64> = 39..41;

/// A request of a client.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) source: SocketAddr,
    /// The user in the From.
    pub(super) user: String,
    /// The user in the To and the request URI.
    pub(super) to: String,
    pub(super) call_id: String,
    pub(super) cseq: u32,
    pub(super) credentials: Option<Credentials>,
}

/// Credentials for the user of a request.
#[derive(Clone, Debug)]
pub(super) struct Credentials {
    pub(super) nonce: String,
    /// The stand-in of a digest; see [`digest`].
    pub(super) response: u64,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    pub(super) text: String,
    /// The provisional responses before it.
    pub(super) before: Vec<String>,
    /// The nonce of a challenge, and whether it replaces one that was too old.
    pub(super) challenge: Option<(String, bool)>,
}

/// An answer with what Asterisk wrote about the request.
#[derive(Debug)]
pub(super) struct Handled {
    pub(super) reply: Reply,
    /// Lines of the NOTICE log.
    pub(super) lines: Vec<String>,
    /// Blocks of AMI.
    pub(super) events: Vec<String>,
}

/// What the credentials of a request are worth.
enum Verified {
    Right,
    Stale,
    Wrong,
}

/// The state of Asterisk.
#[derive(Debug, Default)]
pub(super) struct Registrar {
    /// The version of each account's password.
    passwords: HashMap<String, u32>,
    /// Addresses that identify an endpoint (`type=identify`).
    identified: HashSet<IpAddr>,
    /// Addresses with requests of no endpoint: when the first one came, and how many.
    unidentified: HashMap<IpAddr, (u64, u32)>,
}

/// The stand-in of the digest of a password, of which there are versions.
pub(super) fn digest(user: &str, password: u32, nonce: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (user, password, nonce).hash(&mut hasher);
    hasher.finish()
}

fn nonce(source: IpAddr, seconds: u64) -> String {
    let mut hasher = DefaultHasher::new();
    (source, seconds, "secret").hash(&mut hasher);
    let hash = hasher.finish();
    format!("{}/{hash:016x}{hash:016x}", 1_700_000_000 + seconds)
}

impl Request {
    /// Its text.
    pub(super) fn text(&self) -> String {
        let Self { method, source, user, to, call_id, cseq, credentials } = self;
        let authorization = credentials.as_ref().map_or_else(String::new, |credentials| {
            let Credentials { nonce, response } = credentials;
            format!(
                "Authorization: Digest username=\"{user}\", realm=\"asterisk\", nonce=\"{nonce}\", \
                 uri=\"sip:192.0.2.10\", response=\"{response:032x}\", algorithm=MD5\r\n"
            )
        });
        format!(
            "{method} sip:{to}@192.0.2.10 SIP/2.0\r\nVia: SIP/2.0/UDP {source};rport;\
             branch=z9hG4bK{call_id}{cseq}\r\nMax-Forwards: 70\r\nFrom: <sip:{user}@192.0.2.10>;tag=1\r\n\
             To: <sip:{to}@192.0.2.10>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:{user}@{source}>\r\n{authorization}Content-Length: 0\r\n\r\n"
        )
    }
}

impl Registrar {
    pub(super) fn new(
        accounts: impl IntoIterator<Item = String>,
        identified: impl IntoIterator<Item = IpAddr>,
    ) -> Self {
        let passwords = accounts.into_iter().map(|account| (account, 1)).collect();
        let identified = identified.into_iter().collect();
        Self { passwords, identified, unidentified: HashMap::new() }
    }

    /// Handles a request.
    pub(super) fn handle(&mut self, request: &Request, now: KernelTime) -> Handled {
        let (mut lines, mut events) = (Vec::new(), Vec::new());
        let password = self.passwords.get(&request.user).copied();
        let source = request.source.ip();
        if password.is_none() && self.identified.contains(&source) {
            let reply = serve(request, &mut lines, "from-extern", now);
            return Handled { reply, lines, events };
        }
        if password.is_some() {
            self.unidentified.remove(&source);
        } else if let Some((tries, seconds)) = self.not_identified(source, now) {
            let tries =
                format!("No matching endpoint found after {tries} tries in {seconds:.3} ms");
            lines.push(notice(request, &tries));
            events.push(event("InvalidAccountID", "Error", request, &request.user, ""));
        }
        let shown = if password.is_some() { request.user.as_str() } else { "<unknown>" };
        let verified = request.credentials.as_ref().map(|of| verify(request, of, password, now));
        let reply = match verified {
            Some(Verified::Right) => {
                events.push(event("SuccessfulAuth", "Informational", request, shown, PASSWORD));
                serve(request, &mut lines, "default", now)
            }
            Some(Verified::Wrong) => {
                lines.push(notice(request, "Failed to authenticate"));
                events.push(event("ChallengeResponseFailed", "Error", request, shown, RESPONSE));
                challenge(request, false, now)
            }
            Some(Verified::Stale) | None => {
                events.push(event("ChallengeSent", "Informational", request, shown, CHALLENGE));
                challenge(request, verified.is_some(), now)
            }
        };
        Handled { reply, lines, events }
    }

    /// Counts a request of no endpoint. Returns how many there were in how many seconds, if Asterisk says so.
    fn not_identified(&mut self, source: IpAddr, now: KernelTime) -> Option<(u32, f64)> {
        let (count, period, prune) = UNIDENTIFIED;
        let prune = prune * SECOND;
        if let Some((first, _)) = self.unidentified.get(&source)
            && now.0 / prune * prune > first + 2 * period * SECOND
        {
            self.unidentified.remove(&source);
        }
        let (first, tries) = self.unidentified.entry(source).or_insert((now.0, 0));
        *tries += 1;
        let age = now.0 - *first;
        let told = *tries >= count && age <= period * SECOND;
        told.then(|| (*tries, std::time::Duration::from_nanos(age).as_secs_f64()))
    }
}

fn verify(
    request: &Request,
    credentials: &Credentials,
    password: Option<u32>,
    now: KernelTime,
) -> Verified {
    let Credentials { nonce: of, response } = credentials;
    let sent = of.split_once('/').and_then(|(time, _)| time.parse::<u64>().ok());
    let sent = sent.and_then(|time| time.checked_sub(1_700_000_000));
    let genuine = sent.filter(|sent| *of == nonce(request.source.ip(), *sent));
    let right = password.is_some_and(|password| *response == digest(&request.user, password, of));
    match genuine {
        Some(sent) if right && now.0 / SECOND <= sent + NONCE_LIFE => Verified::Right,
        Some(_) if right => Verified::Stale,
        Some(_) | None => Verified::Wrong,
    }
}

/// What is common to all replies.
fn reply(request: &Request, status: u16, phrase: &str, fields: &str) -> Reply {
    let Request { method, source, user, to, call_id, cseq, .. } = request;
    let (address, port) = (source.ip(), source.port());
    let text = format!(
        "SIP/2.0 {status} {phrase}\r\nVia: SIP/2.0/UDP {source};rport={port};received={address};\
         branch=z9hG4bK{call_id}{cseq}\r\nCall-ID: {call_id}\r\nFrom: <sip:{user}@192.0.2.10>;tag=1\r\n\
         To: <sip:{to}@192.0.2.10>;tag=z9hG4bK{cseq}\r\nCSeq: {cseq} {method}\r\n{fields}\
         Server: Wazo PBX\r\nContent-Length:  0\r\n\r\n"
    );
    Reply { text, before: Vec::new(), challenge: None }
}

fn challenge(request: &Request, stale: bool, now: KernelTime) -> Reply {
    let nonce = nonce(request.source.ip(), now.0 / SECOND);
    let stale_field = if stale { ",stale=true" } else { "" };
    let field = format!(
        "WWW-Authenticate: Digest realm=\"asterisk\",nonce=\"{nonce}\",opaque=\"3a4b\",algorithm=MD5,\
         qop=\"auth\"{stale_field}\r\n"
    );
    Reply { challenge: Some((nonce, stale)), ..reply(request, 401, "Unauthorized", &field) }
}

/// The reply to a request of an endpoint. Extensions begin with 1 and have four digits. Numbers that begin with 5 go to
/// a trunk, which knows the even ones.
fn serve(request: &Request, lines: &mut Vec<String>, context: &str, now: KernelTime) -> Reply {
    let hour = now.0 / SECOND / 3600;
    let provisional = |status, phrase| reply(request, status, phrase, "").text;
    let Request { method, source, user, to, .. } = request;
    match *method {
        "REGISTER" => {
            let contact = format!("Contact: <sip:{user}@{source}>;expires=119\r\nExpires: 120\r\n");
            reply(request, 200, "OK", &contact)
        }
        "INVITE" if to.starts_with('5') && !NO_DIAL_PLAN.contains(&hour) => {
            let trying = provisional(100, "Trying");
            if to.ends_with(['0', '2', '4', '6', '8']) && !NO_TRUNK.contains(&hour) {
                let before = vec![trying, provisional(180, "Ringing")];
                return Reply { before, ..reply(request, 200, "OK", "") };
            }
            Reply { before: vec![trying], ..reply(request, 404, "Not Found", "") }
        }
        "INVITE" if !(to.len() == 4 && to.starts_with('1')) || NO_DIAL_PLAN.contains(&hour) => {
            let name = if context == "default" { user } else { "trunk" };
            lines.push(format!(
                "[Nov 22 09:32:21] NOTICE[9999] res_pjsip_session.c:  {name}: Call (UDP:{source}) to \
                 extension '{to}' rejected because extension not found in context '{context}'."
            ));
            reply(request, 404, "Not Found", "")
        }
        "INVITE" => {
            let before = vec![provisional(100, "Trying"), provisional(180, "Ringing")];
            Reply { before, ..reply(request, 200, "OK", "") }
        }
        _ => reply(request, 200, "OK", ""),
    }
}

fn notice(request: &Request, why: &str) -> String {
    let Request { method, source, user, call_id, .. } = request;
    format!(
        "[Nov 22 09:32:21] NOTICE[9999] res_pjsip/pjsip_distributor.c: Request '{method}' from \
         '<sip:{user}@192.0.2.10>' failed for '{source}' (callid: {call_id}) - {why}"
    )
}

const PASSWORD: &str = "UsingPassword: 1\r\n";
const RESPONSE: &str = "Challenge: 1/a\r\nResponse: b\r\nExpectedResponse: \r\n";
const CHALLENGE: &str = "Challenge: \r\n";

/// A security event, without the empty line at its end.
fn event(name: &str, severity: &str, request: &Request, account: &str, fields: &str) -> String {
    let Request { source, call_id, .. } = request;
    let (address, port) = (source.ip(), source.port());
    format!(
        "Event: {name}\r\nPrivilege: security,all\r\nEventTV: 2026-11-22T09:32:21.123+0000\r\n\
         Severity: {severity}\r\nService: PJSIP\r\nEventVersion: 1\r\nAccountID: {account}\r\n\
         SessionID: {call_id}\r\nLocalAddress: IPV4/UDP/192.0.2.10/5060\r\n\
         RemoteAddress: IPV4/UDP/{address}/{port}\r\n{fields}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(user: &str, credentials: Option<Credentials>) -> Request {
        Request {
            method: "REGISTER",
            source: "203.0.113.5:5060".parse().unwrap(),
            user: user.to_owned(),
            to: user.to_owned(),
            call_id: "a".to_owned(),
            cseq: 1,
            credentials,
        }
    }

    fn at(seconds: u64) -> KernelTime {
        KernelTime(seconds * SECOND)
    }

    #[test]
    fn a_password_is_right_for_a_while() {
        let mut registrar = Registrar::new(["1001".to_owned()], []);
        let challenged = registrar.handle(&request("1001", None), at(0));
        let (nonce, _) = challenged.reply.challenge.unwrap();
        let with = |password, nonce: &str| {
            let response = digest("1001", password, nonce);
            request("1001", Some(Credentials { nonce: nonce.to_owned(), response }))
        };
        let mut status = |password, nonce: &str, time| {
            let handled = registrar.handle(&with(password, nonce), at(time));
            let stale = handled.reply.challenge.is_some_and(|(_, stale)| stale);
            (handled.reply.text.starts_with("SIP/2.0 200 "), stale, handled.lines.len())
        };
        assert_eq!(status(1, &nonce, 32), (true, false, 0));
        assert_eq!(status(1, &nonce, 33), (false, true, 0));
        assert_eq!(status(2, &nonce, 33), (false, false, 1));
        assert_eq!(status(1, "1700000000/stolen", 1), (false, false, 1));
    }

    /// As recorded: the fifth to the tenth of 60 requests in 30 seconds, and silence until the next prune.
    #[test]
    fn few_requests_of_no_endpoint_are_logged() {
        let mut registrar = Registrar::default();
        let mut lines = |gap: u64| -> usize {
            registrar.unidentified.clear();
            let mut handled = |n| registrar.handle(&request("9", None), KernelTime(n * gap));
            (0..60).map(|n| handled(n).lines.len()).sum()
        };
        assert_eq!([lines(SECOND / 2), lines(SECOND * 13 / 10)], [7, 0]);
    }
}
