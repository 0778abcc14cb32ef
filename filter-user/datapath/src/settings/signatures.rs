//! The User-Agents of scanners.

use std::fmt;
use std::str::FromStr;

use detection::duration::snippet;

/// The most bytes of a User-Agent that are compared, without a final `*`.
pub const USER_AGENT_MAX: usize = 31;

/// The most User-Agents.
pub const USER_AGENTS_MAX: usize = 256;

/// Shorter beginnings, such as `SIP*` or `Sn*`, would match phones.
const PREFIX_MIN: usize = 4;

/// Scanners that name themselves, and whether more text may follow, usually a version. Tools that also
/// monitor hosts (sipsak, `SIPp`) and phones whose names attackers use (eyeBeam) are left out.
static SCANNERS: [(&str, bool); 15] = [
    ("friendly-scanner", true),
    ("friendly-request", true),
    ("sipvicious", true),
    ("sipcli", true),
    ("sundayddr", true),
    ("VaxSIPUserAgent", true),
    ("VaxIPUserAgent", true),
    ("sip-scan", true),
    ("sipscan", true),
    ("siparmyknife", true),
    ("SIVuS", true),
    ("iWar", false),
    ("smap", false),
    ("pplsip", true),
    ("sipptk", true),
];

/// A User-Agent, or its beginning, compared without regard to the case of ASCII letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserAgent {
    text: String,
    is_prefix: bool,
}

impl UserAgent {
    /// Those of scanners that name themselves.
    pub fn of_scanners() -> Vec<Self> {
        let known = |&(text, is_prefix): &(&str, bool)| Self { text: text.into(), is_prefix };
        SCANNERS.iter().map(known).collect()
    }

    /// The text to compare, in lower case: 1 to [`USER_AGENT_MAX`] bytes of printable ASCII.
    pub fn folded(&self) -> String {
        self.text.to_ascii_lowercase()
    }

    /// Whether more text may follow.
    pub fn is_prefix(&self) -> bool {
        self.is_prefix
    }
}

impl FromStr for UserAgent {
    type Err = String;

    /// With a final `*`, matches what begins with the text; without it, exactly the text.
    fn from_str(written: &str) -> Result<Self, String> {
        let shown = snippet(written);
        let (text, is_prefix) =
            written.strip_suffix('*').map_or((written, false), |text| (text, true));
        if text.is_empty() || !text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(format!(
                "`{shown}` is not a User-Agent; write printable ASCII such as `sipcli*` or `iWar`"
            ));
        }
        // Only the beginning of a name, as in `friendly scanner *`, may end in a space.
        if text.starts_with(' ') || (text.ends_with(' ') && !is_prefix) {
            return Err(format!(
                "`{shown}` begins or ends with a space, which is not possible in a \
                                User-Agent"
            ));
        }
        if text.contains('*') {
            return Err(format!("`{shown}` may contain `*` only once, at the end"));
        }
        if text.len() > USER_AGENT_MAX {
            let cut = text.get(..USER_AGENT_MAX).unwrap_or_default();
            return Err(format!(
                "`{shown}` is too long; {USER_AGENT_MAX} bytes are compared; write `{cut}*`"
            ));
        }
        if is_prefix && text.len() < PREFIX_MIN {
            return Err(format!(
                "`{shown}` would match phones too; write at least {PREFIX_MIN} bytes before the `*`"
            ));
        }
        Ok(Self { text: text.to_owned(), is_prefix })
    }
}

impl fmt::Display for UserAgent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.text, if self.is_prefix { "*" } else { "" })
    }
}
