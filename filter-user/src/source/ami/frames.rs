//! Splits the bytes of Asterisk's manager interface into blocks, each of which ends with an empty line.
//!
//! At most [`FRAME_MAX`] bytes and one read are kept. A longer block is left out and counted, up to the
//! empty line that ends it; so is one with too many lines.
//!
//! An event of a refused login to AMI can contain whole events that a stranger has written
//! ([`ami::may_run_on`]). Such an event is believed if the next block is the answer to a
//! [`question`](Frames::question) that was asked after it and that no stranger can answer. Otherwise what
//! precedes that answer proves nothing.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;

use super::actions;
use crate::failure::Attempt;
use crate::parse::ami::{self, Block};

/// The longest block. A datagram of 64 KiB limits a Call-ID, and so the length of an event.
pub const FRAME_MAX: usize = 128 * 1024;

/// The longest banner line.
const BANNER_MAX: usize = 256;

/// How every banner begins (`main/manager.c`).
const BANNER: &[u8] = b"Asterisk Call Manager/";

/// The kind of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// A security event about an attempt.
    Security(Attempt),
    /// A security event that is not recognised.
    Unknown(Bytes),
    /// The answer to an action.
    Response(Bytes),
    /// Anything else.
    Other,
}

/// The bytes received that are not a complete block yet.
#[derive(Debug, Default)]
pub struct Frames {
    buffer: BytesMut,
    /// No block ends before this place.
    searched: usize,
    greeted: bool,
    /// Whether the current block is too long.
    skipping: bool,
    skipped: u64,
    /// A security event whose rest has not arrived.
    cut: Option<Bytes>,
    doubt: Option<Doubt>,
    /// The messages that are decided and not taken.
    decided: VecDeque<Message>,
}

/// An event that may have run on, until the answer to its question.
#[derive(Debug)]
struct Doubt {
    /// The `ActionID` of the question.
    id: String,
    asked: bool,
    /// The event, while no other block has followed it.
    held: Option<Message>,
}

impl Default for Doubt {
    fn default() -> Self {
        let secret = RandomState::new().hash_one(BANNER);
        Self { id: format!("after-{secret:016x}"), asked: false, held: None }
    }
}

/// The first bytes were not the banner of a manager interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAmi;

impl Frames {
    /// The buffer into which to read.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Takes the number of blocks that were left out because they were too long, since the last call.
    pub fn take_skipped(&mut self) -> u64 {
        std::mem::take(&mut self.skipped)
    }

    /// The next message, if it is complete.
    ///
    /// # Errors
    ///
    /// If the other side does not send Asterisk's banner.
    pub fn next_message(&mut self) -> Result<Option<Message>, NotAmi> {
        if !self.is_greeted()? {
            return Ok(None);
        }
        loop {
            if let Some(message) = self.decided.pop_front() {
                return Ok(Some(message));
            }
            let Some(block) = self.next_block() else { return Ok(None) };
            if self.is_answer(&block) {
                self.cut = None;
                self.decided.extend(self.doubt.take().and_then(|doubt| doubt.held));
                continue;
            }
            let begins = self.doubt.is_none() && ami::may_run_on(&block);
            let message = self.message(block);
            if begins {
                self.doubt = Some(Doubt { held: message, ..Doubt::default() });
            } else if let Some(doubt) = &mut self.doubt {
                let doubtful = doubt.held.take().into_iter().chain(message).map(doubted);
                self.decided.extend(doubtful);
            } else {
                self.decided.extend(message);
            }
        }
    }

    /// The action to send to Asterisk, if its answer is needed to know where the text of a stranger ends.
    pub fn question(&mut self) -> Option<String> {
        let doubt = self.doubt.as_mut().filter(|doubt| !doubt.asked)?;
        doubt.asked = true;
        Some(actions::ping(&doubt.id))
    }

    /// Takes the event whose question will not be answered.
    pub fn unanswered(&mut self) -> Option<Message> {
        self.doubt.take()?.held.map(doubted)
    }

    /// Whether `block` is the answer to the question.
    fn is_answer(&self, block: &[u8]) -> bool {
        self.doubt.as_ref().is_some_and(|doubt| match ami::parse(block) {
            Block::Response(response) => response.action == doubt.id.as_bytes(),
            Block::Security(_) | Block::Cut | Block::Unread | Block::TooLong | Block::Other => {
                false
            }
        })
    }

    /// Whether the banner has arrived.
    ///
    /// # Errors
    ///
    /// As [`next_message`](Self::next_message).
    pub fn is_greeted(&mut self) -> Result<bool, NotAmi> {
        if !self.greeted {
            self.greeted = self.take_banner()?;
        }
        Ok(self.greeted)
    }

    fn take_banner(&mut self) -> Result<bool, NotAmi> {
        let known = self.buffer.len().min(BANNER.len());
        if self.buffer[..known] != BANNER[..known] {
            return Err(NotAmi);
        }
        let end = memmem::find(&self.buffer, b"\r\n");
        match end {
            Some(end) if end <= BANNER_MAX => {
                self.buffer.advance(end + 2);
                Ok(true)
            }
            None if self.buffer.len() <= BANNER_MAX => Ok(false),
            Some(_) | None => Err(NotAmi),
        }
    }

    fn next_block(&mut self) -> Option<Bytes> {
        const END: &[u8] = b"\r\n\r\n";
        loop {
            let from = self.searched.saturating_sub(END.len() - 1);
            let Some(end) = memmem::find(&self.buffer[from..], END) else {
                self.searched = self.buffer.len();
                if self.buffer.len() > FRAME_MAX {
                    self.skipping = true;
                    // The last bytes may be the beginning of an end.
                    self.buffer.advance(self.buffer.len() - (END.len() - 1));
                    self.searched = 0;
                }
                return None;
            };
            let block = self.buffer.split_to(from + end).freeze();
            self.buffer.advance(END.len());
            self.searched = 0;
            if std::mem::take(&mut self.skipping) || block.len() > FRAME_MAX {
                self.leave_out();
                continue;
            }
            return Some(block);
        }
    }

    /// Leaves out a block, and the event whose rest it is.
    fn leave_out(&mut self) {
        self.skipped = self.skipped.saturating_add(1);
        self.cut = None;
    }

    /// The kind of `block`; `None` if only a later block can decide this.
    fn message(&mut self, block: Bytes) -> Option<Message> {
        match ami::parse(&block) {
            Block::Security(attempt) => {
                self.cut = None;
                Some(attempt.map_or(Message::Unknown(block), Message::Security))
            }
            Block::Cut => {
                self.cut = Some(block);
                None
            }
            Block::TooLong => {
                self.leave_out();
                None
            }
            Block::Response(_) if self.cut.is_none() => Some(Message::Response(block)),
            Block::Response(_) | Block::Unread | Block::Other => self.rest_of_cut(block),
        }
    }

    /// Asterisk writes an event in one piece, so the block after an incomplete event is its rest.
    fn rest_of_cut(&mut self, block: Bytes) -> Option<Message> {
        let Some(cut) = self.cut.take() else {
            let unread = ami::parse(&block) == Block::Unread;
            return Some(if unread { Message::Unknown(block) } else { Message::Other });
        };
        let whole = [&cut, &b"\r\n\r\n"[..], &block].concat();
        match ami::parse(&whole) {
            Block::Security(attempt) => {
                Some(attempt.map_or_else(|| Message::Unknown(whole.into()), Message::Security))
            }
            Block::Cut if whole.len() <= FRAME_MAX => {
                self.cut = Some(whole.into());
                None
            }
            Block::Cut | Block::TooLong => {
                self.leave_out();
                None
            }
            Block::Response(_) | Block::Unread | Block::Other => Some(Message::Other),
        }
    }
}

/// The message, if a stranger may have written it.
fn doubted(message: Message) -> Message {
    match message {
        Message::Security(attempt) => Message::Security(attempt.doubted()),
        Message::Unknown(_) | Message::Response(_) | Message::Other => message,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const STREAM: &str = "Asterisk Call Manager/11.0.0\r\n\
        Response: Success\r\nActionID: login\r\nMessage: Authentication accepted\r\n\r\n\
        Event: FullyBooted\r\nPrivilege: system,all\r\nStatus: Fully Booted\r\n\r\n\
        Event: InvalidAccountID\r\nPrivilege: security,all\r\n\
        EventTV: 2026-11-22T09:39:10.668+0000\r\nSeverity: Error\r\nService: PJSIP\r\n\
        EventVersion: 1\r\nAccountID: \r\n\r\nEvent: X\r\nSessionID: a@192.0.2.139\r\n\
        LocalAddress: IPV4/UDP/192.0.2.10/5060\r\nRemoteAddress: IPV4/UDP/192.0.2.139/45570\r\n\r\n\
        Event: ChallengeSent\r\nPrivilege: security,all\r\n\
        EventTV: 2026-11-22T09:39:10.668+0000\r\nSeverity: Informational\r\nService: PJSIP\r\n\
        EventVersion: 1\r\nAccountID: <unknown>\r\nSessionID: a@192.0.2.139\r\n\
        LocalAddress: IPV4/UDP/192.0.2.10/5060\r\nRemoteAddress: IPV4/UDP/192.0.2.139/45570\r\n\
        Challenge: \r\n\r\n";

    fn read<'a>(
        frames: &mut Frames,
        portions: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Vec<Message>, NotAmi> {
        let mut messages = Vec::new();
        for portion in portions {
            frames.buffer().extend_from_slice(portion);
            while let Some(message) = frames.next_message()? {
                messages.push(message);
            }
            assert!(frames.buffer.len() <= FRAME_MAX + portion.len());
        }
        Ok(messages)
    }

    fn sources(messages: &[Message]) -> Vec<String> {
        let attempts = messages.iter().filter_map(|message| match message {
            Message::Security(attempt) => Some(attempt),
            Message::Unknown(_) | Message::Response(_) | Message::Other => None,
        });
        attempts.map(|attempt| attempt.address.to_string()).collect()
    }

    #[test]
    fn an_event_that_attacker_text_cut_is_put_together() {
        let messages = read(&mut Frames::default(), [STREAM.as_bytes()]).unwrap();
        assert_eq!(messages.len(), 4);
        assert!(matches!(messages[0], Message::Response(_)));
        assert_eq!(messages[1], Message::Other);
        assert_eq!(sources(&messages), ["192.0.2.139", "192.0.2.139"]);
    }

    #[test]
    fn an_event_that_stays_cut_does_not_take_the_next_one() {
        let stream = STREAM.replace(
            "RemoteAddress: IPV4/UDP/192.0.2.139/45570\r\n\r\nEvent: Ch",
            "\
            \r\n\r\nEvent: Ch",
        );
        let messages = read(&mut Frames::default(), [stream.as_bytes()]).unwrap();
        assert_eq!(sources(&messages), ["192.0.2.139"]);
    }

    #[test]
    fn long_blocks_are_left_out() {
        let mut frames = Frames::default();
        let (banner, rest) = STREAM.split_once("\r\n").unwrap();
        let long = "x".repeat(FRAME_MAX * 3 + 1);
        let stream = format!("{banner}\r\n{long}\r\n\r\n{rest}");
        let messages = read(&mut frames, stream.as_bytes().chunks(4096)).unwrap();
        assert_eq!((messages.len(), frames.take_skipped()), (4, 1));
    }

    #[test]
    fn events_of_too_many_lines_are_counted() {
        let (banner, rest) = STREAM.split_once("\r\n").unwrap();
        let event = rest.split_once("\r\n\r\n").unwrap().1.split_once("\r\n\r\n").unwrap().1;
        let at = event.find("SessionID").unwrap();
        for lines in [64, 100, 2_000, 10_000, 100_000] {
            // In the account: whole, or cut by an empty line in the middle.
            for cut in ["", "\r\n"] {
                let half = "X: y\r\n".repeat(lines / 2);
                let text = format!("{half}{cut}{half}");
                let long = format!("{}{text}{}", &event[..at], &event[at..]);
                let stream = format!("{banner}\r\n{long}{event}");
                let mut frames = Frames::default();
                let messages = read(&mut frames, stream.as_bytes().chunks(4096)).unwrap();
                let counted = frames.take_skipped();
                assert_eq!(sources(&messages).len(), 2 + 1, "{lines} {cut:?}: {messages:?}");
                // Each of its two halves if it was cut.
                assert!((1..=2).contains(&counted), "{lines} {cut:?}: {counted}");
            }
        }
    }

    /// A refused login to AMI of this user, as Asterisk writes it.
    fn refused_login(user: &str) -> String {
        format!(
            "Event: InvalidAccountID\r\nPrivilege: security,all\r\n\
             EventTV: 2026-11-30T22:18:32.245+0000\r\nSeverity: Error\r\nService: AMI\r\n\
             EventVersion: 1\r\nAccountID: {user}\r\nSessionID: 0x7f462f79a620\r\n\
             LocalAddress: IPV4/TCP/192.0.2.10/8088\r\nRemoteAddress: IPV4/TCP/192.0.2.66/42342\r\n\
             SessionTV: 1970-01-01T00:00:00.000+0000\r\n\r\n"
        )
    }

    /// An event of a phone with the right password.
    fn right_password(address: &str) -> String {
        format!(
            "Event: SuccessfulAuth\r\nPrivilege: security,all\r\n\
             EventTV: 2026-11-30T22:18:32.245+0000\r\nSeverity: Informational\r\nService: PJSIP\r\n\
             EventVersion: 1\r\nAccountID: 1001\r\nSessionID: b\r\n\
             LocalAddress: IPV4/UDP/192.0.2.10/5060\r\nRemoteAddress: IPV4/UDP/{address}/5060\r\n\
             UsingPassword: 1\r\n\r\n"
        )
    }

    /// Whether each attempt in `stream` is believed without a witness, with its address. The question is
    /// answered after `asked` and everything after it is `later`.
    fn believed(asked: &str, later: &str) -> Vec<(String, bool)> {
        let mut frames = Frames { greeted: true, ..Frames::default() };
        let mut messages = read(&mut frames, [asked.as_bytes()]).unwrap();
        let answer = frames.question().map_or_else(String::new, |question| {
            let id = question.split("ActionID: ").nth(1).unwrap().trim_end();
            format!("Response: Success\r\nActionID: {id}\r\nPing: Pong\r\n\r\n")
        });
        assert_eq!(frames.question(), None, "it is asked once");
        let rest = answer + later;
        messages.extend(read(&mut frames, [rest.as_bytes()]).unwrap());
        let attempts = messages.iter().filter_map(|message| match message {
            Message::Security(attempt) => Some(attempt),
            Message::Unknown(_) | Message::Response(_) | Message::Other => None,
        });
        let is_believed =
            |of: &Attempt| (of.proven || of.answered || !of.needs_witness) && of.decided;
        attempts.map(|attempt| (attempt.address.to_string(), is_believed(attempt))).collect()
    }

    #[test]
    fn a_refused_login_to_ami_is_believed_if_nothing_follows_it() {
        let of = |address: &str, is_believed| (address.to_owned(), is_believed);
        let (login, phone) = (refused_login("x"), right_password("192.0.2.20"));
        assert_eq!(believed(&login, ""), [of("192.0.2.66", true)]);
        let both = [of("192.0.2.66", true), of("192.0.2.20", true)];
        assert_eq!(believed(&login, &phone), both);
        assert_eq!(believed(&phone, &login)[..1], both[1..]);
        let doubtful = [of("192.0.2.66", false), of("192.0.2.20", false), of("192.0.2.20", true)];
        assert_eq!(believed(&(login.clone() + &phone), &phone), doubtful);
        assert_eq!(believed(&login.repeat(2), &phone)[..2], vec![of("192.0.2.66", false); 2]);
        // What has no answer yet at the end of the connection.
        let mut frames = Frames { greeted: true, ..Frames::default() };
        assert_eq!(read(&mut frames, [login.as_bytes()]).unwrap(), []);
        assert!(matches!(frames.unanswered(), Some(Message::Security(of)) if of.needs_witness));
        assert_eq!(frames.unanswered(), None);
    }

    /// Over HTTP, a user of a login can contain whole events (recorded with Asterisk 22.10).
    #[test]
    fn events_within_a_login_to_ami_are_not_believed() {
        let source = "SessionID: a\r\nLocalAddress: IPV4/TCP/192.0.2.10/5060\r\n\
                      RemoteAddress: IPV4/TCP/198.51.100.9/5060\r\n\r\n";
        let forged = right_password("198.51.100.7");
        let begun = refused_login("").split_once("SessionID").unwrap().0.to_owned();
        for user in [
            format!("x\r\n{source}"),
            format!("x\r\n{source}{forged}"),
            format!("x\r\n{source}{forged}{begun}"),
            format!("x\r\n\r\n{forged}"),
            format!("x\r\n\r\n{forged}{begun}"),
            format!("x\r\n\r\nEvent: X\r\n\r\n{forged}"),
            format!("x\r\n{source}Response: Success\r\nActionID: ping\r\n\r\n{forged}"),
        ] {
            let phone = right_password("192.0.2.20");
            let mut found = believed(&refused_login(&user), &phone);
            assert_eq!(found.pop(), Some(("192.0.2.20".to_owned(), true)), "{user:?}");
            assert!(found.iter().all(|(_, is_believed)| !is_believed), "{user:?}: {found:?}");
        }
    }

    #[test]
    fn another_greeting_is_refused() {
        for greeting in ["SSH-2.0-OpenSSH_9.2p1\r\n", "\r\n", "HTTP/1.1 400\r\n"] {
            assert_eq!(read(&mut Frames::default(), [greeting.as_bytes()]), Err(NotAmi));
        }
        let endless = [BANNER, &[b'1'; BANNER_MAX + 1]].concat();
        assert_eq!(read(&mut Frames::default(), [&endless[..]]), Err(NotAmi));
    }

    proptest! {
        /// No text of a login to AMI makes an address believed that is not its own.
        #[test]
        fn no_login_to_ami_moves_an_address(pieces in vec(prop::sample::select(vec![
            "x", "\r\n", "\r\n\r\n", "Event: SuccessfulAuth\r\nPrivilege: security,all\r\n",
            "EventTV: x\r\nSeverity: Error\r\nService: PJSIP\r\nEventVersion: 1\r\nAccountID: ",
            "SessionID: a\r\nLocalAddress: IPV4/UDP/192.0.2.10/5060\r\n",
            "RemoteAddress: IPV4/TCP/198.51.100.9/5060\r\n", "UsingPassword: 1\r\n",
            "Response: Success\r\nActionID: ping\r\n\r\n",
        ]), 0..16)) {
            let phone = right_password("192.0.2.20");
            let mut found = believed(&refused_login(&pieces.concat()), &phone);
            prop_assert_eq!(found.pop(), Some(("192.0.2.20".to_owned(), true)));
            for (address, is_believed) in found {
                prop_assert!(!is_believed || address == "192.0.2.66", "{}", address);
            }
        }

        #[test]
        fn any_split_gives_the_same(cuts in vec(any::<prop::sample::Index>(), 0..12)) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(STREAM.len())).collect();
            cuts.extend([0, STREAM.len()]);
            cuts.sort_unstable();
            let portions = cuts.windows(2).map(|ends| &STREAM.as_bytes()[ends[0]..ends[1]]);
            let split = read(&mut Frames::default(), portions).unwrap();
            prop_assert_eq!(split, read(&mut Frames::default(), [STREAM.as_bytes()]).unwrap());
        }

        #[test]
        fn any_bytes_are_read(portions in vec(vec(any::<u8>(), 0..64), 0..20)) {
            let mut frames = Frames { greeted: true, ..Frames::default() };
            prop_assert!(read(&mut frames, portions.iter().map(|p| &p[..])).is_ok());
        }

        /// Lost or changed bytes never produce an address that was not written.
        #[test]
        fn damage_names_nobody_else(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let mut stream = STREAM.as_bytes().to_vec();
            let from = "Asterisk Call Manager/11.0.0\r\n".len();
            let address = memmem::rfind(&stream, b"192.0.2.139/").unwrap();
            let place = from + at.index(address - from);
            stream[place] = byte;
            let named = sources(&read(&mut Frames::default(), [&stream[..]]).unwrap());
            let written = String::from_utf8_lossy(&stream).into_owned();
            for name in named {
                prop_assert!(written.contains(&format!("/{name}/")), "{}", name);
            }
        }
    }
}
