//! Lines of `channels/chan_sip.c`, which Asterisk had up to version 20.

use memchr::memmem;

use super::{GUEST_CALL, Source, call_verdict, source_of};
use crate::failure::{Attempt, Class, Verdict, account};

/// The most places in a text that may look like the place of the address; a genuine line has one.
const MAX_PLACES: usize = 64;

/// The reasons for refusing a registration, and their classes (`register_verify` and the functions it
/// calls).
const REASONS: [(&[u8], Class); 8] = [
    (b"Wrong password", Class::WrongCredential),
    (b"Username/auth name mismatch", Class::WrongCredential),
    (b"No matching peer found", Class::UnknownAccount),
    (b"Not a local domain", Class::UnknownAccount),
    (b"Peer is not supposed to register", Class::UnknownAccount),
    (b"Device does not match ACL", Class::Acl),
    (b"Device not configured to use this transport type", Class::Acl),
    (b"ACL error (permit/deny)", Class::Acl),
];

pub(super) fn parse(text: &[u8]) -> Option<Attempt> {
    registration(text).or_else(|| call(text)).or_else(|| guess(text))
}

/// `Registration from 'TO' failed for 'ADDR[:PORT]' - REASON`
///
/// TO is the whole header of the request; nothing of the attacker's follows the address.
fn registration(text: &[u8]) -> Option<Attempt> {
    const FAILED_FOR: &[u8] = b"' failed for '";
    let text = text.strip_prefix(b"Registration from '")?;
    let (named, class) = REASONS.into_iter().find_map(|(reason, class)| {
        Some((text.strip_suffix(reason)?.strip_suffix(b"' - ")?, class))
    })?;
    let end = memmem::rfind(named, FAILED_FOR)?;
    let Source { address, port } = source_of(&named[end + FAILED_FOR.len()..])?;
    let user = super::uri_of(&named[..end]).and_then(super::user_of);
    Some(Attempt {
        port,
        account: user.map(account),
        ..Attempt::new(Verdict::Failure, class, address)
    })
}

/// `Call from 'NAME' (ADDR:PORT) to extension 'E' rejected because extension not found in context 'C'.`
///
/// NAME is the peer's, or empty for a guest; the guest's text is in E. Up to version 16,
/// `res_pjsip_session.c` wrote the same with the transport before the address.
pub(super) fn call(text: &[u8]) -> Option<Attempt> {
    const SOURCE: &[u8] = b"' (";
    const REJECTED: &[u8] = b"' rejected because extension not found in context '";
    let text = text.strip_prefix(b"Call from '")?;
    let context = &text[memmem::rfind(text, REJECTED)? + REJECTED.len()..];
    let context = context.strip_suffix(b"'.")?;
    // NAME can be the user that a request names: if two places name an address, neither counts.
    let mut named: Option<(&[u8], Source, Option<_>)> = None;
    for at in memmem::find_iter(text, SOURCE).take(MAX_PLACES) {
        let source = &text[at + SOURCE.len()..];
        let Some(end) = memmem::find(source, b") to extension '") else { break };
        let source = &source[..end];
        let (transport, source) = match memchr::memchr(b':', source) {
            Some(colon) if source[..colon].iter().all(u8::is_ascii_uppercase) => {
                (super::transport_named(&source[..colon]), &source[colon + 1..])
            }
            _ => (None, source),
        };
        let Some(source) = source_of(source) else { continue };
        if named.is_some_and(|(_, other, _)| other.address != source.address) {
            return None;
        }
        named = named.or(Some((&text[..at], source, transport)));
    }
    let (name, Source { address, port }, transport) = named?;
    let name_or_none = (!name.is_empty()).then(|| account(name));
    Some(Attempt {
        port,
        transport,
        account: name_or_none,
        ..Attempt::new(call_verdict(name, context), Class::CallRejected, address)
    })
}

/// `hacking attempt detected 'ADDR'`
fn guess(text: &[u8]) -> Option<Attempt> {
    let address = text.strip_prefix(b"hacking attempt detected '")?.strip_suffix(b"'")?;
    let Source { address, port } = source_of(address)?;
    Some(Attempt { port, ..Attempt::new(Verdict::Failure, Class::UnknownAccount, address) })
}

/// `"Rejecting unknown SIP connection from ADDR[:PORT]"`, which `FreePBX`'s dialplan logs about a
/// guest.
pub(super) fn rejected_guest(text: &[u8]) -> Option<Attempt> {
    // The priority and the context can precede it.
    let call = memmem::rfind(text, GUEST_CALL)?;
    let source = text[call + GUEST_CALL.len()..].strip_suffix(b"\"")?;
    let Source { address, port } = source_of(source)?;
    Some(Attempt { port, ..Attempt::new(Verdict::Failure, Class::CallRejected, address) })
}
