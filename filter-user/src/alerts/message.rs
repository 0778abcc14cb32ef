//! Writes messages: as JSON, and for a mail as text.
//!
//! Must never put what an attacker may have chosen anywhere but into JSON and into the text of a mail, where it
//! cannot become a header, a line or a control character.

use std::fmt::Write as _;

use api::{ActionEvent, ActionMessage, AlertEvent, AlertMessage, AlertSeverity};
use serde::Serialize;

/// The most characters of a line of a mail.
const LINE_MAX: usize = 700;

/// A message.
#[derive(Clone, Debug)]
pub(super) struct Message {
    /// The document.
    pub(super) json: String,
    /// The subject of a mail. All of its words are ours.
    pub(super) subject: String,
    /// The text of a mail, without the document.
    pub(super) text: String,
    pub(super) severity: AlertSeverity,
}

impl Message {
    pub(super) fn of_alert(message: &AlertMessage) -> Self {
        let AlertMessage { kind, severity, events, more, host, .. } = message;
        let count = (events.len() as u64).saturating_add(*more);
        let many = if count > 1 { format!(" ({count})") } else { String::new() };
        let subject = format!("[ringfence {host}] {}: {kind}{many}", severity.as_str());
        let mut text = String::new();
        for AlertEvent { time, state, subject, text: says } in events {
            let line = format!("{time} {} {subject}: {says}", state.as_str());
            push(&mut text, &line);
        }
        if *more > 0 {
            push(&mut text, &format!("and {more} more"));
        }
        Self { json: json(message), subject, text, severity: *severity }
    }

    pub(super) fn of_action(message: &ActionMessage) -> Self {
        let (subject, text) = (String::new(), String::new());
        Self { json: json(message), subject, text, severity: AlertSeverity::Notice }
    }
}

/// Appends a line without its control characters.
fn push(text: &mut String, line: &str) {
    text.extend(line.chars().take(LINE_MAX).map(|c| if c.is_control() { ' ' } else { c }));
    text.push('\n');
}

/// A document in one line.
fn json(document: &impl Serialize) -> String {
    serde_json::to_string(document).unwrap_or_default()
}

/// The greatest length of an event in an option of curl, which quotes a part of a mail twice.
pub(super) fn size(event: &impl Serialize) -> usize {
    let json = json(event);
    json.len() + 3 * json.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

/// The last failures of an event that are sent, so that one event is never larger than a message may be.
pub(super) const EVIDENCE_MAX: usize = 10;

/// The most characters of each text of an action's event.
const ACTION_TEXT_MAX: usize = 300;

/// An action's event with bounds on its length.
pub(super) fn bounded(mut event: ActionEvent) -> ActionEvent {
    let short = |text: &mut String| {
        if let Some((end, _)) = text.char_indices().nth(ACTION_TEXT_MAX) {
            text.truncate(end);
        }
    };
    let surplus = event.evidence.len().saturating_sub(EVIDENCE_MAX);
    event.evidence.drain(..surplus);
    short(&mut event.reason);
    for account in event.evidence.iter_mut().filter_map(|one| one.account.as_mut()) {
        short(account);
    }
    event
}

/// The HMAC of a document, as the header of a webhook has it.
pub(super) fn signature(key: &str, document: &str) -> String {
    use hmac::{Hmac, KeyInit as _, Mac as _};

    // A key of any length is possible.
    let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(key.as_bytes()) else {
        return String::new();
    };
    mac.update(document.as_bytes());
    let mut text = "sha256=".to_owned();
    for byte in mac.finalize().into_bytes() {
        let _infallible = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use api::AlertState;

    use super::*;

    #[test]
    fn foreign_text_stays_in_its_place() {
        let foreign = "a\"\\\r\nBcc: x@y\r\n\r\n.\r\n$(id)`id`%s{{7*7}}\u{1b}[2J";
        let event = AlertEvent {
            time: "2026-01-01T00:00:00Z".to_owned(),
            state: AlertState::Happened,
            subject: foreign.to_owned(),
            text: foreign.to_owned(),
        };
        let message = AlertMessage {
            id: "1".to_owned(),
            alert: "ops".to_owned(),
            host: "pbx".to_owned(),
            time: "2026-01-01T00:00:00Z".to_owned(),
            kind: "account".to_owned(),
            severity: AlertSeverity::Warning,
            events: vec![event],
            more: 3,
        };
        let written = Message::of_alert(&message);
        assert_eq!(written.subject, "[ringfence pbx] warning: account (4)");
        assert_eq!(written.text.lines().count(), 2, "{}", written.text);
        assert!(!written.text.contains(['\r', '\u{1b}']));
        assert!(!written.json.contains(|c: char| c.is_control()), "{}", written.json);
        let back: AlertMessage = serde_json::from_str(&written.json).unwrap();
        assert_eq!(back, message);
    }

    /// RFC 4231, test case 2.
    #[test]
    fn the_signature_is_an_hmac() {
        let expected = "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(signature("Jefe", "what do ya want for nothing?"), expected);
    }
}
