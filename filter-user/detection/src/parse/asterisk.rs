//! Parses Asterisk's NOTICE log: turns one line without its newline into an [`Attempt`].
//!
//! The lines are those that `main/logger.c` writes to a file channel, in Wazo's date format and in
//! Asterisk's own, and as older versions and syslog write them. They come from
//! `res_pjsip/pjsip_distributor.c`, `res_pjsip_session.c`, `res_pjsip_registrar.c`, `acl.c`,
//! `manager.c`, `chan_iax2.c` and `chan_sip.c`. Only the levels NOTICE and WARNING count. The level
//! ERROR repeats data that came over TCP byte for byte, including newlines, so one packet can write any
//! line into a file with that level.
//!
//! # What a line proves
//!
//! A line proves only that Asterisk wrote it; an attacker may have chosen its content. Each of the
//! following needs one datagram from any address (recorded with Asterisk 22.10,
//! `tests/fixtures/asterisk/hostile`):
//!
//! - PJSIP decodes `%0a` in a parameter of the From URI whose value begins with `%22`. Asterisk prints
//!   the line break, and a complete NOTICE line about any address can follow it.
//! - The logger removes the text between an ESC and the next `m`, so the true address of a line can
//!   disappear and leave a forged one.
//! - A NUL, or more than 511 bytes, truncates the From header, so that the Call-ID can complete it.
//!
//! This parser promises that from a line that was neither broken, shortened nor truncated, it takes the
//! address that Asterisk wrote there, or none. No attempt from this log is [`proven`](Attempt::proven),
//! whether over TCP or not: to act on one, a second witness is needed, such as a packet from that
//! address.
//!
//! # One attempt, several lines
//!
//! If another line reports the same packet, one of the two is understood and ignored:
//!
//! | the packet | lines | the one that counts |
//! |---|---|---|
//! | fails an endpoint's ACL | `acl.c: SIP ACL`, `Not match Endpoint ACL` | `acl.c`: for a global ACL it is the only one |
//! | fails an endpoint's contact ACL | `acl.c: SIP Contact ACL`, `Not match Endpoint Contact ACL` | the second: the first names the Contact header's host |
//!
//! A failed login to AMI with an unknown user, or from a forbidden address, causes two lines over TCP
//! (the reason, and `failed to authenticate as`), and over HTTP only the reason. This parser counts both
//! lines. [`Reader`](super::Reader), which reads the lines in order, leaves out the second.
//!
//! An unknown user with credentials still causes both `No matching endpoint found` and `Failed to
//! authenticate`, and a refused packet with credentials causes `Failed to authenticate` besides its ACL
//! lines. Only the packets before and after can distinguish these from two attempts.

mod chan_sip;

use std::net::{IpAddr, SocketAddr};
use std::sync::LazyLock;

use memchr::memmem::{Finder, FinderRev};
use memchr::{memchr, memchr2, memchr3, memmem, memrchr};

use super::dates::DateFormat;
use super::text::{
    AsteriskLine, after_digits, bare_address, in_asterisk_line, socket_address, transport_named,
};
use crate::failure::{Attempt, Class, Transport, Verdict, account, session};

/// Wazo's context for phones that are not yet provisioned. There, a call to an unknown extension is a
/// guess at a provisioning code; anywhere else it is a wrong number.
const PROVISIONING_CONTEXT: &[u8] = b"xivo-initconfig";

/// The endpoint of anonymous calls (`res_pjsip_endpoint_identifier_anonymous.c`). In some
/// configurations its domain follows it.
const GUEST: &[u8] = b"anonymous";

/// What `FreePBX`'s dialplan logs about a guest's call, before the address.
const GUEST_CALL: &[u8] = b"\"Rejecting unknown SIP connection from ";

/// The text between the From URI and the address in a line of `pjsip_distributor.c`.
const FAILED_FOR: &[u8] = b"' failed for '";

/// From and Call-ID have 511 bytes each, so no genuine line repeats [`FAILED_FOR`] more often.
const MAX_FAILED_FOR: usize = 64;

/// The names of the rules for `status`.
pub const RULES: &[&str] = &[
    FAILED_TO_AUTHENTICATE,
    NO_MATCHING_ENDPOINT,
    ENDPOINT_ACL,
    CONTACT_ACL,
    SIP_ACL,
    GLOBAL_ACL,
    REJECTED_CALL,
    DROPPED_PACKET,
    MANAGER_LOGIN,
    MANAGER_REFUSAL,
    IAX_REGISTRATION,
    IAX_CALL,
    CHAN_SIP,
    REGISTRAR,
    REJECTED_GUEST,
];

/// Rules for lines that Asterisk writes when it also raises a security event.
pub const FAILED_REQUESTS: [&str; 2] = [FAILED_TO_AUTHENTICATE, NO_MATCHING_ENDPOINT];

const FAILED_TO_AUTHENTICATE: &str = "failed-to-authenticate";
const NO_MATCHING_ENDPOINT: &str = "no-matching-endpoint";
const ENDPOINT_ACL: &str = "endpoint-acl";
const CONTACT_ACL: &str = "endpoint-contact-acl";
const SIP_ACL: &str = "sip-acl";
const GLOBAL_ACL: &str = "global-acl";
const REJECTED_CALL: &str = "rejected-call";
const DROPPED_PACKET: &str = "dropped-packet";
const MANAGER_LOGIN: &str = "manager-login";
const MANAGER_REFUSAL: &str = "manager-refusal";
const IAX_REGISTRATION: &str = "iax-registration";
const IAX_CALL: &str = "iax-call";
const REGISTRAR: &str = "registrar";
const CHAN_SIP: &str = "chan-sip";
const REJECTED_GUEST: &str = "rejected-guest";

static FIND_FAILED_FOR: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(FAILED_FOR));

/// The text after the Call-ID.
static FIND_CALL_ID_END: LazyLock<FinderRev<'static>> = LazyLock::new(|| FinderRev::new(b") - "));

/// The attempt that `line` reports; `None` if it reports nothing of interest, or its source is
/// undecided.
pub fn parse(line: &[u8]) -> Option<Attempt> {
    parse_undecided(line).filter(|attempt| attempt.decided)
}

/// The same, but including attempts with an undecided source: a caller that knows which addresses sent
/// something can decide.
pub fn parse_undecided(line: &[u8]) -> Option<Attempt> {
    in_asterisk_line(line, |line| of_line(line, &DateFormat::default()))
}

/// The failure that a parsed line reports, if any.
pub fn of_line(line: &AsteriskLine<'_>, dates: &DateFormat) -> Option<Attempt> {
    let text = line.text;
    let attempt = match (line.level, line.file) {
        (b"NOTICE", b"res_pjsip/pjsip_distributor.c") => distributor(text),
        (b"NOTICE", b"res_pjsip_session.c") => named(REJECTED_CALL, rejected_call(text)),
        (b"NOTICE" | b"WARNING", b"acl.c") => named(SIP_ACL, acl(text)),
        (b"NOTICE", b"manager.c") => manager(text),
        (b"NOTICE", b"chan_iax2.c") => iax(text, Verdict::Failure),
        // Up to version 13, both had the level NOTICE.
        (b"WARNING", b"chan_iax2.c") => iax(text, Verdict::Ignored),
        (b"NOTICE", b"chan_sip.c") => named(CHAN_SIP, chan_sip::parse(text)),
        (b"WARNING", b"res_pjsip_registrar.c") => named(REGISTRAR, registrar(text)),
        (b"WARNING", b"res_pjsip_acl.c") => named(GLOBAL_ACL, global_acl(text)),
        (b"WARNING", b"pjproject") => named(DROPPED_PACKET, dropped(text)),
        (b"WARNING", file) if file.starts_with(b"Ext. ") => {
            named(REJECTED_GUEST, chan_sip::rejected_guest(text))
        }
        _ => None,
    }?;
    // An attacker's text can make Asterisk write a complete line with any content.
    Some(Attempt { logged_at: line.logged_at(dates), needs_witness: true, ..attempt })
}

/// Whether `attempt` is a login to AMI that another line may repeat.
pub fn is_refusal(attempt: &Attempt) -> bool {
    attempt.rule == MANAGER_REFUSAL
}

/// Whether `attempt` repeats a login to AMI that `refusal` has already reported.
pub fn repeats_refusal(attempt: &Attempt, refusal: &Attempt) -> bool {
    (attempt.rule, refusal.rule) == (MANAGER_LOGIN, MANAGER_REFUSAL)
        && (attempt.address, &attempt.account) == (refusal.address, &refusal.account)
}

/// Whether `line` is the end of one about a failed request that a line break in its text has broken.
pub fn ends_broken_line(line: &[u8]) -> bool {
    const REASONS: [&[u8]; 5] = [
        b"Failed to authenticate",
        b"Error to authenticate",
        b"No matching endpoint found",
        b"Not match Endpoint ACL",
        b"Not match Endpoint Contact ACL",
    ];
    FIND_CALL_ID_END.rfind(line).is_some_and(|end| {
        let reason = &line[end + b") - ".len()..];
        REASONS.iter().any(|known| reason.starts_with(known))
    }) && in_asterisk_line(line, |_line| Some(())).is_none()
}

/// Whether `line` reports a failure with the peer's name where other lines have the address
/// (`register_verify` of `chan_iax2.c`, since version 1.2).
pub fn names_peer_for_address(line: &AsteriskLine<'_>) -> bool {
    line.file == b"chan_iax2.c" && is_of_peer_by_key(line.text)
}

/// Whether a text of `chan_iax2.c` concerns a peer with an RSA key.
fn is_of_peer_by_key(text: &[u8]) -> bool {
    const BY_KEY: [&[u8]; 2] =
        [b" failed RSA authentication with inkeys '", b" trying to do RSA authentication, but we"];
    text.starts_with(b"Host ") && BY_KEY.iter().any(|by| memmem::find(text, by).is_some())
}

/// The attempt, with the name of the rule that recognised it.
fn named(rule: &'static str, attempt: Option<Attempt>) -> Option<Attempt> {
    attempt.map(|attempt| Attempt { rule, ..attempt })
}

/// `Request 'M' from 'FROM' failed for 'ADDR:PORT' (callid: X) - REASON`
fn distributor(text: &[u8]) -> Option<Attempt> {
    let request = text.strip_prefix(b"Request ")?;
    let from_on = match request.strip_prefix(b"'") {
        // A method is a token: it may contain an apostrophe, but no space.
        Some(method_on) => {
            let (method, from_on) = method_on.split_at(memchr(b' ', method_on)?);
            method.strip_suffix(b"'")?;
            &from_on[1..]
        }
        // Up to version 13, the line did not name the method.
        None => request,
    };
    let from_on = from_on.strip_prefix(b"from '")?;
    let FailedFor { named, rivals, decided } = failed_for(from_on)?;
    let Named { source, uri, call_id_on } = named;
    let (verdict, class, rule) = reason(text);
    let call_id = FIND_CALL_ID_END.rfind(call_id_on).map(|end| &call_id_on[..end]);
    Some(Attempt {
        rivals,
        decided,
        rule,
        port: Some(source.port()),
        account: uri.and_then(user_of).map(account),
        session: call_id.map(session),
        ..Attempt::new(verdict, class, source.ip())
    })
}

/// The source of the failed request.
struct FailedFor<'a> {
    named: Named<'a>,
    /// The other addresses in such a place.
    rivals: Vec<IpAddr>,
    /// Whether the line alone proves that `address` is the true one.
    decided: bool,
}

/// An address in the place of the source.
#[derive(Clone, Copy)]
struct Named<'a> {
    source: SocketAddr,
    /// The URI before it, if a complete From precedes it.
    uri: Option<&'a [u8]>,
    /// The Call-ID and the text after it.
    call_id_on: &'a [u8],
}

/// The address that Asterisk printed between the From URI and the Call-ID, and the From URI.
///
/// Both texts are the attacker's, and either can contain `' failed for '` and an address. If only one
/// place names an address, there is no choice. Otherwise the true address is the one that a complete
/// From precedes; if a complete From precedes two, the line is undecided.
///
/// Counting quotes is not enough: PJSIP prints an unquoted name with the quotes in it, decodes `%22`,
/// and allows any text in the brackets of an IPv6 host.
fn failed_for(from_on: &[u8]) -> Option<FailedFor<'_>> {
    let mut first: Option<Named> = None;
    let mut after_whole_from: Option<Named> = None;
    // The addresses that differ from the first.
    let mut others: Vec<IpAddr> = Vec::new();
    let mut decided = true;
    let mut places = 0;
    for at in FIND_FAILED_FOR.find_iter(from_on) {
        places += 1;
        if places > MAX_FAILED_FOR {
            return None;
        }
        let Some((source, call_id_on)) = quoted_source(&from_on[at + FAILED_FOR.len()..]) else {
            continue;
        };
        let named = Named { source, uri: uri_of(&from_on[..at]), call_id_on };
        if first.get_or_insert(named).source.ip() != source.ip() {
            others.push(source.ip());
        }
        if named.uri.is_some() {
            let whole = after_whole_from.get_or_insert(named);
            decided &= whole.source.ip() == source.ip();
        }
    }
    // A NUL or more than 511 bytes truncated a From, and old stack contents follow.
    decided &= places == 1 || after_whole_from.is_some();
    let first = first?;
    let named = after_whole_from.unwrap_or(first);
    let mut rivals = others;
    if !rivals.is_empty() {
        rivals.push(first.source.ip());
        rivals.sort_unstable();
        rivals.dedup();
        rivals.retain(|rival| *rival != named.source.ip());
    }
    Some(FailedFor { named, rivals, decided })
}

/// `ADDR:PORT' (callid: `, and the text after it.
fn quoted_source(text: &[u8]) -> Option<(SocketAddr, &[u8])> {
    let end = memchr(b'\'', &text[..text.len().min(64)])?;
    let rest = text[end..].strip_prefix(b"' (callid: ")?;
    Some((socket_address(&text[..end])?, rest))
}

/// The URI in `from`, if `from` is something that `pjsip_name_addr_print` can have printed completely:
/// `<URI>`, or `"NAME" <URI>`.
///
/// PJSIP prints NAME as received. In a quoted name, a backslash precedes each quote; an unquoted name
/// can contain quotes and end with a backslash, but contains no `<` and no `:` (`int_parse_name_addr`).
fn uri_of(from: &[u8]) -> Option<&[u8]> {
    let Some(name_on) = from.strip_prefix(b"\"") else {
        return bracketed_uri(from);
    };
    let quoted = closing_quote(name_on)
        .and_then(|end| name_on[end + 1..].strip_prefix(b" "))
        .and_then(bracketed_uri);
    quoted.or_else(|| {
        let name = &name_on[..memchr3(b'<', b':', b'\n', name_on)?];
        name.ends_with(b"\" ").then(|| bracketed_uri(&name_on[name.len()..]))?
    })
}

/// The position of the first quote without a backslash before it.
fn closing_quote(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        at += memchr2(b'"', b'\\', &text[at..])?;
        if text[at] == b'"' {
            return Some(at);
        }
        at += 2;
        if at > text.len() {
            return None;
        }
    }
}

/// `<URI>`. User, host and parameters contain no space and no quote, but after the start of an IPv6
/// host, or of a value that begins with a quote, anything is possible: PJSIP does not check the former,
/// and prints the latter as received or percent-decoded.
fn bracketed_uri(text: &[u8]) -> Option<&[u8]> {
    let uri = text.strip_prefix(b"<")?.strip_suffix(b">")?;
    let colon = memchr(b':', uri)?;
    if colon == 0 || !uri[..colon].iter().all(u8::is_ascii_alphanumeric) {
        return None;
    }
    let strict = &uri[..memchr2(b'"', b'[', uri).unwrap_or(uri.len())];
    let quote_is_value = uri.get(strict.len()) != Some(&b'"') || strict.ends_with(b"=");
    (quote_is_value && strict.iter().all(|b| matches!(b, b'!'..=b'~') && !b"<>\\".contains(b)))
        .then_some(uri)
}

/// The user of a SIP URI.
fn user_of(uri: &[u8]) -> Option<&[u8]> {
    let rest = &uri[memchr(b':', uri)? + 1..];
    let user = &rest[..memchr(b'@', rest)?];
    let user = &user[..memchr(b':', user).unwrap_or(user.len())];
    (!user.is_empty()).then_some(user)
}

/// The result at the end of a distributor line. The Call-ID before it is the attacker's text, so only
/// the last `) - ` can be Asterisk's.
fn reason(text: &[u8]) -> (Verdict, Class, &'static str) {
    let reason = memrchr(b')', text).map_or(&[][..], |at| &text[at..]);
    let reason = reason.strip_prefix(b") - ").unwrap_or_default();
    match reason {
        b"Failed to authenticate" | b"Error to authenticate" => {
            (Verdict::Failure, Class::WrongCredential, FAILED_TO_AUTHENTICATE)
        }
        b"Not match Endpoint ACL" => (Verdict::Ignored, Class::Acl, ENDPOINT_ACL),
        b"Not match Endpoint Contact ACL" => (Verdict::Failure, Class::Acl, CONTACT_ACL),
        // `No matching endpoint found`, with or without ` after N tries in X ms`, and anything else: a
        // request that Asterisk reports as failed has failed.
        _ => (Verdict::Failure, Class::UnknownAccount, NO_MATCHING_ENDPOINT),
    }
}

/// ` NAME: Call (UDP:ip:port) to extension 'E' rejected because extension not found in context 'C'.`
///
/// NAME is the endpoint's, from the configuration. E is the caller's, and ends where the last `'
/// rejected because` begins.
fn rejected_call(text: &[u8]) -> Option<Attempt> {
    const REJECTED: &[u8] = b"' rejected because extension not found in context '";
    let Some(text) = text.strip_prefix(b" ") else { return chan_sip::call(text) };
    let name_end = memmem::find(text, b": Call (")?;
    let call = &text[name_end + b": Call (".len()..];
    let (transport, source_on) = call.split_at(memchr(b':', call)?);
    let end = memchr(b')', source_on)?;
    let source = socket_address(&source_on[1..end])?;
    let extension = source_on[end..].strip_prefix(b") to extension '")?;
    let context = &extension[memmem::rfind(extension, REJECTED)? + REJECTED.len()..];
    let context = context.strip_suffix(b"'.")?;
    Some(Attempt {
        port: Some(source.port()),
        account: Some(account(&text[..name_end])),
        transport: transport_named(transport),
        ..Attempt::new(call_verdict(&text[..name_end], context), Class::CallRejected, source.ip())
    })
}

/// The class of a call to an extension that does not exist. A good phone that dials a wrong number must
/// never be banned, but a caller without an account is guessing.
fn call_verdict(endpoint: &[u8], context: &[u8]) -> Verdict {
    if is_guest(endpoint) || context == PROVISIONING_CONTEXT {
        Verdict::Failure
    } else {
        Verdict::Ignored
    }
}

fn is_guest(endpoint: &[u8]) -> bool {
    endpoint.is_empty() || endpoint == GUEST || endpoint.starts_with(b"anonymous@")
}

/// An address, printed with or without its port.
#[derive(Clone, Copy)]
struct Source {
    address: IpAddr,
    port: Option<u16>,
}

/// `ADDR:PORT`, `[ADDR]:PORT` or `ADDR`; old versions also put an IPv4 address in brackets.
fn source_of(text: &[u8]) -> Option<Source> {
    if let Some(source) = socket_address(text) {
        return Some(Source { address: source.ip(), port: Some(source.port()) });
    }
    let Some(bracketed) = text.strip_prefix(b"[") else {
        return Some(Source { address: bare_address(text)?, port: None });
    };
    let (address, port) = bracketed.split_at(memchr(b']', bracketed)?);
    let port = str::from_utf8(port.strip_prefix(b"]:")?).ok()?.parse().ok()?;
    Some(Source { address: bare_address(address)?, port: Some(port) })
}

/// `SIP ACL: Rejecting 'ADDR' due to a failure to pass ACL '(BASELINE)'`
///
/// Not `SIP Contact ACL`, whose address is the host of the Contact header, nor the access lists of
/// other modules, which report the failure themselves.
fn acl(text: &[u8]) -> Option<Attempt> {
    let rest = text.strip_prefix(b"SIP ACL: Rejecting '")?;
    let (address, rest) = rest.split_at(memchr(b'\'', rest)?);
    let list = rest
        .strip_prefix(b"' due to a failure to pass ACL '")
        .or_else(|| rest.strip_prefix(b"' due to use of an invalid ACL '"))?;
    let list = list.strip_suffix(b".").unwrap_or(list);
    list.strip_suffix(b"'")?;
    Some(Attempt::new(Verdict::Failure, Class::Acl, bare_address(address)?))
}

/// `Incoming SIP message from ADDR:PORT did not pass ACL test`
///
/// `acl.c` has reported the failure.
fn global_acl(text: &[u8]) -> Option<Attempt> {
    let source = text.strip_prefix(b"Incoming SIP message from ")?;
    let source = socket_address(source.strip_suffix(b" did not pass ACL test")?)?;
    let port = Some(source.port());
    Some(Attempt { port, ..Attempt::new(Verdict::Ignored, Class::Acl, source.ip()) })
}

/// `<TAB> sip_transport.c Dropping N bytes packet from UDP ADDR:PORT : WHY`
///
/// Devices send other data to a SIP port too, so this does not count.
fn dropped(text: &[u8]) -> Option<Attempt> {
    let text = text.trim_ascii_start().strip_prefix(b"sip_transport.c")?.trim_ascii_start();
    let text = after_digits(text.strip_prefix(b"Dropping ")?)?;
    let source_on = text.strip_prefix(b" bytes packet from ")?;
    let (transport, source_on) = source_on.split_at(memchr(b' ', source_on)?);
    let source = &source_on[1..];
    let source = socket_address(&source[..memchr(b' ', source)?])?;
    Some(Attempt {
        port: Some(source.port()),
        transport: transport_named(transport),
        ..Attempt::new(Verdict::Ignored, Class::Malformed, source.ip())
    })
}

/// `ADDR failed to authenticate as 'USER'`, and the two lines that can precede or replace it.
fn manager(text: &[u8]) -> Option<Attempt> {
    let (address, rest) = text.split_at(memchr(b' ', text)?);
    let (user, rule, class) = [
        (&b" failed to authenticate as '"[..], MANAGER_LOGIN, Class::Login),
        (b" tried to authenticate with nonexistent user '", MANAGER_REFUSAL, Class::Login),
        (b" failed to pass IP ACL as '", MANAGER_REFUSAL, Class::Acl),
    ]
    .into_iter()
    .find_map(|(text, rule, class)| Some((rest.strip_prefix(text)?, rule, class)))?;
    let user = user.strip_suffix(b"'")?;
    Some(Attempt {
        rule,
        account: (!user.is_empty()).then(|| account(user)),
        transport: Some(Transport::Tcp),
        ..Attempt::new(Verdict::Failure, class, bare_address(address)?)
    })
}

/// The refusals of `res_pjsip_registrar.c`, which writes the address as `ADDR:PORT`, without brackets
/// even for IPv6.
///
/// A misconfigured phone with the right password is refused in the same way, so only a guest counts.
/// The AOR, which can be the caller's text, precedes the address.
fn registrar(text: &[u8]) -> Option<Attempt> {
    const ENDS: [&[u8]; 3] = [
        b") has no configured AORs",
        b") attempted to register to an AOR with a non-SIP URI",
        b") unable to register",
    ];
    let named = ENDS.into_iter().find_map(|end| text.strip_suffix(end));
    let not_found = || text.strip_suffix(b")").filter(|_| text.starts_with(b"AOR '"));
    let named = named.or_else(not_found)?;
    let end = memmem::rfind(named, b"' (")?;
    let source = &named[end + b"' (".len()..];
    let quote = memrchr(b'\'', &named[..end])?;
    named[..quote].ends_with(b"ndpoint ").then_some(())?;
    let endpoint = &named[quote + 1..end];
    let colon = memrchr(b':', source)?;
    let address = source[..colon].strip_prefix(b"[").unwrap_or(&source[..colon]);
    let address = address.strip_suffix(b"]").unwrap_or(address);
    let port = str::from_utf8(&source[colon + 1..]).ok()?.parse().ok()?;
    let verdict = if is_guest(endpoint) { Verdict::Failure } else { Verdict::Ignored };
    Some(Attempt {
        port: Some(port),
        account: (!endpoint.is_empty()).then(|| account(endpoint)),
        ..Attempt::new(verdict, Class::UnknownAccount, bare_address(address)?)
    })
}

/// The refusals of `chan_iax2.c`. The caller's text follows the address, except in `No registration for
/// peer`, where the address ends the line.
///
/// With RSA, the peer's name replaces the address (`register_verify`): such a line has no source.
fn iax(text: &[u8], wrong_number: Verdict) -> Option<Attempt> {
    let (source, peer, class, rule) =
        iax_registration(text).or_else(|| iax_host(text)).or_else(|| iax_call(text))?;
    // Before Asterisk 12, chan_iax2 did not write the port.
    let Source { address, port } = source_of(source)?;
    // A guest without a secret is reported at the level NOTICE, a peer that has proved itself at
    // WARNING.
    let verdict = if class == Class::CallRejected {
        wrong_number
    } else if class == Class::Malformed {
        Verdict::Ignored
    } else {
        Verdict::Failure
    };
    Some(Attempt {
        rule,
        port,
        account: (!peer.is_empty()).then(|| account(peer)),
        transport: Some(Transport::Udp),
        ..Attempt::new(verdict, class, address)
    })
}

/// An address, the account that it named, and the result.
type IaxRefusal<'a> = (&'a [u8], &'a [u8], Class, &'static str);

/// `No registration for peer 'X' (from ADDR)`, `Peer 'X' is not dynamic (from ADDR)`, `Empty
/// registration from ADDR`
fn iax_registration(text: &[u8]) -> Option<IaxRefusal<'_>> {
    if let Some(source) = text.strip_prefix(b"Empty registration from ") {
        return Some((source, b"", Class::UnknownAccount, IAX_REGISTRATION));
    }
    let (peer, from) = [
        (&b"No registration for peer '"[..], &b"' (from "[..]),
        (b"Peer '", b"' is not dynamic (from "),
    ]
    .into_iter()
    .find_map(|(start, from)| Some((text.strip_prefix(start)?.strip_suffix(b")")?, from)))?;
    let end = memmem::rfind(peer, from)?;
    let named = &peer[..memchr(b'\'', peer).unwrap_or(end).min(end)];
    Some((&peer[end + from.len()..], named, Class::UnknownAccount, IAX_REGISTRATION))
}

/// `Host ADDR failed MD5 authentication for 'X' (...)` and the like; also with an unquoted name.
fn iax_host(text: &[u8]) -> Option<IaxRefusal<'_>> {
    if is_of_peer_by_key(text) {
        return None;
    }
    let host = text.strip_prefix(b"Host ")?;
    let (source, rest) = host.split_at(memchr(b' ', host)?);
    let (peer, class) = [
        (&b" failed MD5 authentication for "[..], Class::WrongCredential),
        (b" did not provide proper plaintext password for ", Class::WrongCredential),
        (b" failed to authenticate as ", Class::WrongCredential),
        (b" denied access to register peer ", Class::Acl),
    ]
    .into_iter()
    .find_map(|(text, class)| Some((rest.strip_prefix(text)?, class)))?;
    let peer = match peer.strip_prefix(b"'") {
        // An unquoted name may begin with a quote.
        Some(quoted) => &quoted[..memchr(b'\'', quoted).unwrap_or(quoted.len())],
        None => peer,
    };
    Some((source, peer, class, IAX_REGISTRATION))
}

/// `Rejected connect attempt from ADDR, WHY`
fn iax_call(text: &[u8]) -> Option<IaxRefusal<'_>> {
    let (start, from) =
        [(&b"Rejected connect attempt from "[..], true), (b"Rejected dial attempt from ", false)]
            .into_iter()
            .find_map(|(start, connects)| Some((text.strip_prefix(start)?, connects)))?;
    let (source, why) = start.split_at(memchr(b',', start)?);
    let class = if why.starts_with(b", who was trying to reach '") {
        // No user of `iax.conf` may call from this address.
        Class::UnknownAccount
    } else if why.starts_with(b", request '") && why.ends_with(b"' does not exist") {
        if from { Class::CallRejected } else { Class::Malformed }
    } else {
        // A codec mismatch: no failure of either side.
        why.starts_with(b", requested").then_some(Class::Malformed)?
    };
    Some((source, b"", class, IAX_CALL))
}

#[cfg(test)]
mod tests;
