//! Why a packet passes or drops. Each packet has exactly one reason, and each reason one verdict.

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The packet goes on to the network stack.
    Pass,
    /// The packet ends here.
    Drop,
}

impl Verdict {
    /// The word that `--json` uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
        }
    }
}

/// Declares [`Reason`] with the verdict and the name of each, so that one cannot be without them.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $verdict:ident, $text:literal;)*) => {
        /// Why a packet was passed or dropped. The number is its counter's place in the maps.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[$doc])* $name = $number,)*
        }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What happens to a packet with this reason.
            #[inline(always)]
            pub fn verdict(self) -> Verdict {
                match self {
                    $(Self::$name => Verdict::$verdict,)*
                }
            }

            /// The name that `status --json` and the log use.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// No configuration has been written yet.
    NotConfigured = 0, Pass, "not-configured";
    /// Neither IPv4 nor IPv6 behind at most two VLAN tags.
    NotIp = 1, Pass, "not-ip";
    /// A header that is cut off or contradicts itself.
    Malformed = 2, Pass, "malformed";
    /// A later fragment: its ports are not in it.
    Fragment = 3, Pass, "fragment";
    /// Neither UDP nor TCP.
    OtherProtocol = 4, Pass, "other-protocol";
    /// UDP or TCP to a port that is not a SIP port.
    OtherPort = 5, Pass, "other-port";
    /// A ban or a limit would have dropped it, but its source is trusted.
    Trusted = 6, Pass, "trusted";
    /// TCP to a SIP port without payload: handshake, acknowledgement, end.
    TcpControl = 7, Pass, "tcp-control";
    /// CR and LF alone, other white space, or nothing (RFC 5626 section 3.5.1).
    KeepAlive = 8, Pass, "keep-alive";
    /// A STUN message (RFC 8489), which phones send as keep-alive.
    Stun = 9, Pass, "stun";
    /// A SIP response.
    Response = 10, Pass, "response";
    /// A SIP request other than REGISTER.
    Request = 11, Pass, "request";
    /// A REGISTER within its source's limit.
    Register = 12, Pass, "register";
    /// A REGISTER with credentials from a source that is over its limit for those without.
    RegisterCredentials = 13, Pass, "register-credentials";
    /// Something else on a SIP port: the rest of a TCP stream, or no SIP at all.
    NotSip = 14, Pass, "not-sip";
    /// It would have been dropped if this were not a dry run.
    DryRun = 15, Pass, "dry-run";
    /// Its source is banned.
    Banned = 16, Drop, "banned";
    /// Its source is in a banned network.
    BannedNetwork = 17, Drop, "banned-network";
    /// A REGISTER without credentials over its source's limit.
    RegisterLimit = 18, Drop, "register-limit";
}

impl Reason {
    /// Its counter's place among the counters of an interface.
    #[inline(always)]
    pub fn index(self) -> u32 {
        self as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::REASON_SLOTS;

    #[test]
    fn numbers_are_the_places_in_all() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(usize::try_from(reason.index()), Ok(place), "{reason:?}");
        }
        assert!(Reason::ALL.len() <= usize::try_from(REASON_SLOTS).unwrap());
    }

    #[test]
    fn names_are_unique() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            let twin = Reason::ALL.iter().skip(place + 1).find(|r| r.as_str() == reason.as_str());
            assert_eq!(twin, None);
        }
    }
}
