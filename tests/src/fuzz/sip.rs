//! Any payload: how it starts, and whether it carries credentials.
//!
//! The first byte of an input says whether there is more in later fragments, the second how many
//! bytes of the rest are padding behind the payload.

use filter_common::limits::WINDOW_WORDS;
use filter_common::packet::{Packet as _, Payload};
use filter_common::sip::{self, Start, Step};

use super::reference;

/// The start is what a slow reading says, and so is what the search over a window finds.
///
/// # Panics
///
/// When one of these is not so.
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
    assert_eq!(Payload { start: 0, ..message }, payload);
    assert!(message.start <= payload.end);
    assert!(bytes[..message.start].iter().all(|byte| b"\r\n \t".contains(byte)));
}

fn check_search(message: &[u8]) {
    let found = search(message, 0);
    assert_eq!(found, reference::is_authorized(message));
    // What an earlier message left in the window says nothing about this one.
    assert_eq!(found, search(message, u64::from_le_bytes(*b"\nAuthori")));
}

fn search(message: &[u8], left: u64) -> bool {
    let mut window = [left; WINDOW_WORDS];
    let len = message.copy(0, &mut window);
    sip::terminate(&mut window, len);
    let mut answers = (0..sip::steps(len)).map(|step| sip::search(&window, step));
    answers.find(|step| *step != Step::On) == Some(Step::Found)
}
