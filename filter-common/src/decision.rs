//! Why a packet passes or drops. Each packet has exactly one reason, and each reason one verdict.
//!
//! Must never have a reason without a verdict.

/// The fate of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The packet passes to the network stack.
    Pass,
    /// The packet is dropped.
    Drop,
}

impl Verdict {
    /// The name in `--json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Drop => "drop",
        }
    }
}

/// Declares [`Reason`] with the verdict and the name of each, so that neither can be missing.
macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $verdict:ident, $text:literal;)*) => {
        /// Why a packet passed or was dropped. The number is the index of its counter in the maps.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[$doc])* $name = $number,)*
        }

        impl Reason {
            /// Every reason, in the order of their numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The verdict of this reason.
            #[inline(always)]
            pub fn verdict(self) -> Verdict {
                match self {
                    $(Self::$name => Verdict::$verdict,)*
                }
            }

            /// The name in `status --json` and the log.
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
    /// Neither IPv4 nor IPv6, after any VLAN tags and `PPPoE` header.
    NotIp = 1, Pass, "not-ip";
    /// A header is truncated or inconsistent.
    Malformed = 2, Pass, "malformed";
    /// A later fragment, which does not contain its ports.
    Fragment = 3, Pass, "fragment";
    /// Neither UDP nor TCP.
    OtherProtocol = 4, Pass, "other-protocol";
    /// UDP or TCP to a port that is not a SIP port.
    OtherPort = 5, Pass, "other-port";
    /// A ban or a limit would have dropped it, but its source is trusted.
    Trusted = 6, Pass, "trusted";
    /// TCP to a SIP port without payload: handshake, acknowledgement, close.
    TcpControl = 7, Pass, "tcp-control";
    /// Only CR and LF, only other white space, or an empty payload (RFC 5626 section 3.5.1).
    KeepAlive = 8, Pass, "keep-alive";
    /// A STUN message (RFC 8489), which phones send as keep-alive.
    Stun = 9, Pass, "stun";
    /// A SIP response.
    Response = 10, Pass, "response";
    /// A SIP request other than REGISTER.
    Request = 11, Pass, "request";
    /// A REGISTER without credentials within the limits.
    Register = 12, Pass, "register";
    /// A REGISTER with credentials within the limits.
    RegisterCredentials = 13, Pass, "register-credentials";
    /// Something else on a SIP port: the rest of a TCP stream, or another protocol.
    NotSip = 14, Pass, "not-sip";
    /// It would have been dropped if this were not a dry run.
    DryRun = 15, Pass, "dry-run";
    /// Its source is banned.
    Banned = 16, Drop, "banned";
    /// Its source is in a banned network.
    BannedNetwork = 17, Drop, "banned-network";
    /// A REGISTER without credentials over its source's limit.
    RegisterLimit = 18, Drop, "register-limit";
    /// A REGISTER with credentials over its source's limit.
    CredentialsLimit = 19, Drop, "credentials-limit";
    /// An INVITE over its source's limit.
    InviteLimit = 20, Drop, "invite-limit";
    /// An OPTIONS over its source's limit.
    OptionsLimit = 21, Drop, "options-limit";
    /// A SUBSCRIBE over its source's limit.
    SubscribeLimit = 22, Drop, "subscribe-limit";
    /// Anything else sent to SIP over its source's limit.
    OtherLimit = 23, Drop, "other-limit";
    /// A TCP connection request over its source's limit.
    SynLimit = 24, Drop, "syn-limit";
    /// Over the limit of its source's network.
    PrefixLimit = 25, Drop, "prefix-limit";
    /// Over the limit that all unknown sources share.
    SharedLimit = 26, Drop, "shared-limit";
    /// The same, but its retransmission will be admitted.
    Greylist = 27, Drop, "greylist";
    /// A known peer is over its limit.
    KnownLimit = 28, Drop, "known-limit";
    /// The program has banned its source for a short time because it kept flooding.
    Flooding = 29, Drop, "flooding";
    /// It has the User-Agent of a scanner.
    Signature = 30, Drop, "signature";
    /// SIP is closed for maintenance.
    Maintenance = 31, Drop, "maintenance";
    /// From a known peer, within its limit.
    Known = 32, Pass, "known";
    /// A throttle or a limit would have dropped it, but it is a retransmission.
    Admitted = 33, Pass, "admitted";
    /// Its source is impossible for a packet from a wire: the host's own address, loopback, multicast.
    Spoofed = 34, Drop, "spoofed";
    /// A TCP segment over the limit of bytes of its connection or its source.
    StreamLimit = 35, Drop, "stream-limit";
    /// To a port that is not open to its source.
    ClosedPort = 36, Drop, "closed-port";
    /// Its source is throttled because of failures that are not proven.
    Throttled = 37, Drop, "throttled";
    /// A limit or a throttle would have dropped it, but it answers a challenge that was sent to its source.
    Answered = 38, Pass, "answered";
    /// Its source is unknown, and in a country or an autonomous system from which SIP is not admitted.
    Geo = 39, Drop, "geo";
}

impl Reason {
    /// The index of its counter among the counters of an interface.
    #[inline(always)]
    pub fn index(self) -> u32 {
        self as u32
    }

    /// The reason with this number.
    pub fn from_index(index: u32) -> Option<Self> {
        usize::try_from(index).ok().and_then(|index| Self::ALL.get(index)).copied()
    }
}

/// The number of a [`Reason`], in the form in which the stages of the program pass it on, so that they
/// need not check which one it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u32);

const FLOOD: u32 = 1 << 16;
const GUARDED: u32 = 1 << 17;

/// The [bits](Code::bit) of the reasons that drop.
const DROPS: u64 = 0xffff_0000
    | bits(&[
        Reason::Spoofed,
        Reason::StreamLimit,
        Reason::ClosedPort,
        Reason::Throttled,
        Reason::Geo,
    ]);

impl Code {
    /// Undecided: the source is unknown, and its packet goes to SIP.
    pub const UNKNOWN: Self = Self(1000);
    /// Undecided: the packet has a class with limits.
    pub const LIMITED: Self = Self(1001);
    /// Undecided: the budget of all unknown sources is exhausted.
    pub const OVERLOAD: Self = Self(1002);

    /// Not decided yet: the port is guarded, and closed to trusted sources too.
    pub const SHUT: Self = Self(1004);

    /// Not decided yet: the port is guarded. Contains the code that applies if it is open to the source.
    #[inline(always)]
    pub fn guarded(open: Self) -> Self {
        Self(open.0 | GUARDED)
    }

    /// The code inside [`guarded`](Self::guarded), if this is one.
    #[inline(always)]
    pub fn as_guarded(self) -> Option<Self> {
        (self.0 & GUARDED != 0).then_some(Self(self.0 & !GUARDED))
    }

    /// Undecided: a source keeps flooding over TCP. Contains the reason of the drop in case the source is
    /// not proven.
    #[inline(always)]
    pub fn flood(otherwise: Self) -> Self {
        Self(otherwise.0 | FLOOD)
    }

    /// The reason in [`flood`](Self::flood), if it is such a code.
    #[inline(always)]
    pub fn as_flood(self) -> Option<Self> {
        (self.0 & FLOOD != 0).then_some(Self(self.0 & !FLOOD))
    }

    /// The code with a number from [`number`](Self::number). Any other number is treated as one that
    /// passes.
    #[inline(always)]
    pub fn from_number(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    #[inline(always)]
    pub fn number(self) -> u32 {
        self.0
    }

    /// Whether the packet drops.
    #[inline(always)]
    pub fn drops(self) -> bool {
        self.bit() & DROPS != 0
    }

    /// Whether it is this reason.
    #[inline(always)]
    pub fn is(self, reason: Reason) -> bool {
        self.0 == reason.index()
    }

    /// The bit of the reason in a word of 64; zero while it is undecided.
    #[inline(always)]
    pub fn bit(self) -> u64 {
        if self.0 < 64 { 1u64.wrapping_shl(self.0) } else { 0 }
    }

    /// The reason.
    pub fn reason(self) -> Option<Reason> {
        Reason::from_index(self.0)
    }
}

impl From<Reason> for Code {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        Self(reason.index())
    }
}

/// The [bits](Code::bit) of the reasons of packets over their source's limit of a class, without TCP
/// connection requests.
pub const OVER_SOURCE: u64 = bits(&[
    Reason::RegisterLimit,
    Reason::CredentialsLimit,
    Reason::InviteLimit,
    Reason::OptionsLimit,
    Reason::SubscribeLimit,
    Reason::OtherLimit,
]);

/// The [bits](Code::bit) of some reasons.
pub const fn bits(reasons: &[Reason]) -> u64 {
    let (mut bits, mut rest) = (0, reasons);
    while let [first, others @ ..] = rest {
        bits |= 1u64.wrapping_shl(*first as u32);
        rest = others;
    }
    bits
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
    fn codes_know_what_drops() {
        for reason in Reason::ALL {
            let code = Code::from(*reason);
            assert_eq!(code.drops(), reason.verdict() == Verdict::Drop, "{reason:?}");
            assert_eq!(code.reason(), Some(*reason));
            assert_eq!(bits(&[*reason]), code.bit());
            assert!(!Code::flood(code).drops() && Code::flood(code).reason().is_none());
            assert_eq!(Code::flood(code).as_flood(), Some(code));
            assert_eq!(code.as_flood(), None);
            assert!(!Code::guarded(code).drops() && Code::guarded(code).reason().is_none());
            assert_eq!(Code::guarded(code).as_guarded(), Some(code));
            assert_eq!(code.as_guarded(), None);
        }
        assert_eq!(
            DROPS.count_ones(),
            Reason::ALL.iter().map(|r| u32::from(Code::from(*r).drops())).sum()
        );
    }

    #[test]
    fn only_numbers_below_64_have_a_bit() {
        assert_eq!(Code::from_number(63).bit(), 1 << 63);
        assert_eq!(Code::from_number(64).bit(), 0);
        assert_eq!(Code::UNKNOWN.bit(), 0);
    }

    #[test]
    fn verdicts_have_the_words_of_the_json() {
        assert_eq!((Verdict::Pass.as_str(), Verdict::Drop.as_str()), ("pass", "drop"));
    }

    #[test]
    fn names_are_unique() {
        for (place, reason) in Reason::ALL.iter().enumerate() {
            let twin = Reason::ALL.iter().skip(place + 1).find(|r| r.as_str() == reason.as_str());
            assert_eq!(twin, None);
        }
    }
}
