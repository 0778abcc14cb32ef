//! Second implementations of the parsers, written for readability rather than the verifier: they take
//! bytes from the front of the rest. If two implementations disagree, one is wrong.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use filter_common::limits::{IPV6_EXTENSIONS, LEADING_SPACE, VLAN_DEPTH, WINDOW_BYTES};
use filter_common::packet::{Headers, Layer4, Payload, UNREAD_SOURCE, Unparsed};

/// The rest of a frame, and its offset.
struct Rest<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Unparsed> {
        let taken = self.peek(count)?;
        self.skip(count);
        Ok(taken)
    }

    fn peek(&self, count: usize) -> Result<&'a [u8], Unparsed> {
        self.bytes.get(..count).ok_or(Unparsed::Malformed)
    }

    /// Skips bytes, even past the frame's end.
    fn skip(&mut self, count: usize) {
        self.bytes = self.bytes.get(count..).unwrap_or_default();
        self.offset += count;
    }
}

/// The same as [`filter_common::packet::parse`].
///
/// # Errors
///
/// The same.
pub fn headers(frame: &[u8]) -> Result<Headers, Unparsed> {
    let mut rest = Rest { bytes: frame, offset: 0 };
    rest.take(12)?;
    let mut ethertype = half(rest.take(2)?);
    let mut tags = 0;
    while tags < VLAN_DEPTH && [0x8100, 0x88a8, 0x9100].contains(&ethertype) {
        ethertype = half(&rest.take(4)?[2..]);
        tags += 1;
    }
    if ethertype == 0x8864 {
        ethertype = match rest.take(8).map(|header| half(&header[6..])) {
            Ok(0x21) => 0x0800,
            Ok(0x57) => 0x86dd,
            Ok(_) | Err(_) => return Err(Unparsed::NotIp),
        };
    }
    match ethertype {
        0x0800 => ipv4(rest),
        0x86dd => ipv6(rest),
        0x8100 | 0x88a8 | 0x9100 => {
            let (source, network) = (UNREAD_SOURCE, rest.offset);
            Ok(Headers { source, layer4: Layer4::Unknown, network, end: 0 })
        }
        _ => Err(Unparsed::NotIp),
    }
}

fn ipv4(mut rest: Rest<'_>) -> Result<Headers, Unparsed> {
    let start = rest.offset;
    let header = rest.peek(20)?;
    let header_len = usize::from(header[0] % 16) * 4;
    let total_len = match usize::from(half(&header[2..])) {
        0 => rest.bytes.len(),
        len if len < header_len => return Err(Unparsed::Malformed),
        len => len,
    };
    if header[0] / 16 != 4 || header_len < 20 {
        return Err(Unparsed::Malformed);
    }
    let source: [u8; 4] = header[12..16].try_into().expect("four bytes");
    let fragment = half(&header[6..]);
    let end = start + total_len;
    let layer4 = if fragment & 0x1fff != 0 {
        Layer4::LaterFragment
    } else {
        rest.skip(header_len);
        upper(&rest, header[9], end, fragment & 0x2000 != 0)?
    };
    let source = IpAddr::from(Ipv4Addr::from(source)).into();
    Ok(Headers { source, layer4, network: start, end })
}

fn ipv6(mut rest: Rest<'_>) -> Result<Headers, Unparsed> {
    // The destination does not matter.
    let header = rest.peek(24)?;
    if header[0] / 16 != 6 {
        return Err(Unparsed::Malformed);
    }
    let source: [u8; 16] = header[8..24].try_into().expect("sixteen bytes");
    let source = Ipv6Addr::from(source);
    let network = rest.offset;
    let next = header[6];
    let end = match usize::from(half(&header[4..])) {
        0 if next == 0 => network + rest.bytes.len(),
        len => network + 40 + len,
    };
    if source.to_ipv4_mapped().is_some() {
        let source = IpAddr::from(Ipv6Addr::UNSPECIFIED).into();
        return Ok(Headers { source, layer4: Layer4::Unknown, network, end });
    }
    let source = IpAddr::from(source).into();
    rest.skip(40);
    let layer4 = chain(rest, next, end)?;
    Ok(Headers { source, layer4, network, end })
}

/// The layer 4 header after a chain of extension headers.
fn chain(mut rest: Rest<'_>, mut next: u8, end: usize) -> Result<Layer4, Unparsed> {
    let mut fragmented = false;
    let mut followed = 0;
    while followed < IPV6_EXTENSIONS {
        let Ok(header) = rest.peek(if next == 44 { 4 } else { 2 }) else {
            let is_extension = matches!(next, 0 | 43 | 44 | 51 | 60 | 135);
            return if is_extension {
                cut(fragmented)
            } else {
                upper(&rest, next, end, fragmented)
            };
        };
        let units = usize::from(header[1]);
        let len = match next {
            0 | 43 | 60 | 135 => (units + 1) * 8,
            51 => (units + 2) * 4,
            44 => {
                let fragment = half(&header[2..]);
                if fragment >= 8 {
                    return Ok(Layer4::LaterFragment);
                }
                fragmented = fragment % 2 == 1;
                8
            }
            _ => break,
        };
        next = header[0];
        rest.skip(len);
        followed += 1;
    }
    match next {
        0 | 43 | 44 | 51 | 60 | 135 => Ok(Layer4::Unknown),
        _ => upper(&rest, next, end, fragmented),
    }
}

/// The missing part of a header may be in later fragments, or nowhere.
fn cut(fragmented: bool) -> Result<Layer4, Unparsed> {
    if fragmented { Ok(Layer4::Unknown) } else { Err(Unparsed::Malformed) }
}

fn upper(rest: &Rest<'_>, protocol: u8, end: usize, fragmented: bool) -> Result<Layer4, Unparsed> {
    match protocol {
        17 => {
            let Ok(header) = rest.peek(8) else { return cut(fragmented) };
            let end = match usize::from(half(&header[4..])) {
                0 => end,
                1..8 => return Err(Unparsed::Malformed),
                len => end.min(rest.offset + len),
            };
            let payload = Payload { start: rest.offset + 8, end, fragmented };
            Ok(Layer4::Udp { port: half(&header[2..]), payload })
        }
        6 => {
            let Ok(header) = rest.peek(20) else { return cut(fragmented) };
            let len = usize::from(header[12] / 16) * 4;
            if len < 20 {
                return Err(Unparsed::Malformed);
            }
            let payload = Payload { start: rest.offset + len, end, fragmented };
            // SYN without ACK.
            let syn = header[13] & 0x12 == 0x02;
            Ok(Layer4::Tcp { port: half(&header[2..]), payload, syn, start: rest.offset })
        }
        _ => Ok(Layer4::Other),
    }
}

/// A payload within its frame: the bytes between its start and its end that are there.
pub fn payload(frame: &[u8], payload: Payload) -> &[u8] {
    let end = payload.end.min(frame.len());
    frame.get(payload.start..end).unwrap_or_default()
}

/// Whether a payload is judged as a REGISTER: Asterisk accepts it as one, or its method cannot be read.
///
/// `behind` is the byte after a payload that ends with its method, if the frame has one.
pub fn is_register(payload: &[u8], fragmented: bool, behind: Option<u8>) -> bool {
    let message = message(payload);
    if payload.len() - message.len() >= LEADING_SPACE {
        return true;
    }
    if message.len() < 8 {
        return fragmented;
    }
    let (method, rest) = message.split_at(8);
    let next = rest.first().copied().or(if fragmented { Some(b' ') } else { behind });
    method.eq_ignore_ascii_case(b"REGISTER") && next.is_some_and(is_space)
}

/// Whether a payload is a keep-alive: only white space.
pub fn is_keep_alive(payload: &[u8], fragmented: bool) -> bool {
    !fragmented && payload.len() < LEADING_SPACE && payload.iter().copied().all(is_space)
}

/// Whether a payload is a response.
pub fn is_response(payload: &[u8]) -> bool {
    payload.len() - message(payload).len() < LEADING_SPACE
        && message(payload).starts_with(b"SIP/2.0 ")
}

/// A payload from its start line on, after at most as much white space as is skipped.
pub fn message(payload: &[u8]) -> &[u8] {
    let spaces = payload.iter().take(LEADING_SPACE).take_while(|byte| is_space(**byte)).count();
    &payload[spaces..]
}

/// Whether a payload is a request with this method, in any case, followed by white space. Of a longer
/// name, eight bytes are compared, and nothing after them.
pub fn is_method(payload: &[u8], method: &str) -> bool {
    let message = message(payload);
    if payload.len() - message.len() >= LEADING_SPACE || message.len() < 8 {
        return false;
    }
    let compared = method.len().min(8);
    let named =
        message[..compared].iter().zip(method.bytes()).all(|(byte, of)| byte | 0x20 == of | 0x20);
    named && (compared == 8 || matches!(message[compared], b' ' | b'\t' | b'\r' | b'\n'))
}

/// Whether a message has an `Authorization` field in the part of its header that is searched.
pub fn is_authorized(message: &[u8]) -> bool {
    field(message, b"authorization").is_some()
}

/// The value of the first `User-Agent` field in the part of a message's header that is searched, at most
/// 32 bytes of it.
pub fn user_agent(message: &[u8]) -> Option<&[u8]> {
    let value = field(message, b"user-agent")?;
    // The colon is among the eight bytes that may precede it.
    let skipped = value.iter().take(8).take_while(|byte| matches!(byte, b':' | b' ' | b'\t'));
    let value = &value[skipped.count()..];
    let end = value.iter().position(|byte| matches!(byte, b'\r' | b'\n' | 0));
    let value = &value[..end.unwrap_or(value.len())];
    Some(&value[..value.len().min(32)])
}

/// The rest of a message after the name of a header field, as far as it is searched.
fn field<'a>(message: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let message = &message[..message.len().min(WINDOW_BYTES)];
    for at in 1..message.len() {
        let (before, rest) = (message[at - 1], &message[at..]);
        let empty_line = match before {
            b'\n' => matches!(rest[0], b'\r' | b'\n'),
            b'\r' => rest[0] == b'\r',
            _ => false,
        };
        if empty_line {
            return None;
        }
        let Some((start, value)) = rest.split_at_checked(name.len()) else { continue };
        if matches!(before, b'\r' | b'\n') && start.eq_ignore_ascii_case(name) {
            let spaces = value.iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
            if spaces <= 3 && value.get(spaces) == Some(&b':') {
                return Some(value);
            }
        }
    }
    None
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n' | b' ' | b'\t')
}

fn half(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}
