//! Any payload: its start, its credentials and its User-Agent.
//!
//! The first byte of an input says whether there are later fragments, and the second how many of the
//! remaining bytes are padding after the payload.

use filter_common::limits::WINDOW_WORDS;
use filter_common::packet::{Packet as _, Payload};
use filter_common::sip::{self, Agent, Fields, Start};

use super::reference;

/// Checks that the start agrees with a slow parser, and so does the result of the search over a window.
///
/// # Panics
///
/// If one of these does not hold.
pub fn check(data: &[u8]) {
    let [flags, padding, frame @ ..] = data else { return };
    let end = frame.len().saturating_sub(usize::from(*padding));
    let fragmented = flags & 1 != 0;
    let payload = Payload { start: 0, end, fragmented };
    check_start(frame, payload);
    check_search(&frame[..end]);
}

fn check_start(frame: &[u8], payload: Payload) {
    let bytes = reference::payload(frame, payload);
    let (start, message) = sip::start(&frame, payload);
    let register =
        reference::is_register(bytes, payload.fragmented, frame.get(payload.end).copied());
    assert_eq!(start == Start::Register, register, "{start:?}");
    let keep_alive = reference::is_keep_alive(bytes, payload.fragmented);
    assert_eq!(start == Start::KeepAlive, keep_alive, "{start:?}");
    assert_eq!(start == Start::Response, reference::is_response(bytes), "{start:?}");
    for (method, is) in
        [("INVITE", Start::Invite), ("OPTIONS", Start::Options), ("SUBSCRIBE", Start::Subscribe)]
    {
        assert_eq!(start == is, reference::is_method(bytes, method), "{start:?}");
    }
    assert_eq!(Payload { start: 0, ..message }, payload);
    assert!(message.start <= payload.end);
    assert!(bytes[..message.start].iter().all(|byte| b"\r\n \t".contains(byte)));
}

fn check_search(message: &[u8]) {
    let (credentials, agent) = search(message, 0);
    assert_eq!(credentials, reference::is_authorized(message));
    let expected = reference::user_agent(message).map(|text| sip::agent_of(text).0);
    assert_eq!(agent, expected);
    // The rest of an earlier message in the window has no effect on this one.
    for left in [*b"\nAuthori", *b"\nUser-Ag", *b": iWar\r\n"] {
        assert_eq!(search(message, u64::from_le_bytes(left)), (credentials, agent));
    }
}

/// Whether there are credentials, and the User-Agent.
fn search(message: &[u8], left: u64) -> (bool, Option<Agent>) {
    let mut window = [left; WINDOW_WORDS];
    let len = message.copy(0, &mut window);
    sip::terminate(&mut window, len);
    let mut fields = Fields::default();
    let _ended = (0..sip::steps(len)).any(|step| sip::search(&window, step, &mut fields));
    assert_eq!(Fields::from_word(fields.to_word()).agent, fields.agent);
    let agent = usize::try_from(fields.agent).ok().filter(|agent| *agent != 0);
    (fields.credentials != 0, agent.map(|at| sip::agent(&window, at)))
}
