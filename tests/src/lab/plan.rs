//! The schedule of the attacks, with explanations for the audience.

use std::net::{IpAddr, Ipv4Addr};

use crate::attack::Method;

/// A phase of the demonstration.
#[derive(Debug)]
pub(super) struct Phase {
    pub(super) title: &'static str,
    /// An explanation of what happens.
    pub(super) says: &'static str,
    pub(super) seconds: u32,
    pub(super) attacks: &'static [Attack],
}

/// One attacker.
#[derive(Debug)]
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) method: Method,
    pub(super) from: AttackHost,
    /// The last byte of its address.
    pub(super) host: u8,
    pub(super) rate: u32,
    pub(super) seconds: u32,
}

/// The host from which an attack comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttackHost {
    Guesser,
    Scanner,
    Flooder,
}

impl Attack {
    pub(super) fn source(&self) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, self.host).into()
    }
}

pub(super) const PHASES: [Phase; 7] = [
    Phase {
        title: "a phone alone",
        says: "A phone registers every 0.4 s with the right password. There is no attack yet, and the\n\
               filter passes everything. From now on, no attack may disturb the phone.",
        seconds: 5,
        attacks: &[],
    },
    Phase {
        title: "a password guesser",
        says: "svcrack tries many passwords for the phone's account. Asterisk writes each failure\n\
               to its log. After 15 failures, ringfence bans the address, and the XDP program on the\n\
               interface drops all further packets before the kernel handles them.",
        seconds: 8,
        attacks: &[Attack {
            name: "guesser svcrack",
            method: Method::Svcrack,
            from: AttackHost::Guesser,
            host: 66,
            rate: 0,
            seconds: 8,
        }],
    },
    Phase {
        title: "a steady password guesser",
        says: "The same with SIPp: 50 guesses per second from another address.",
        seconds: 7,
        attacks: &[Attack {
            name: "guesser sipp 50/s",
            method: Method::Guess,
            from: AttackHost::Guesser,
            host: 67,
            rate: 50,
            seconds: 5,
        }],
    },
    Phase {
        title: "a user scanner",
        says: "It tries one account after another to find out which exist. None of them exists, which\n\
               Asterisk writes to its log.",
        seconds: 7,
        attacks: &[Attack {
            name: "scanner sipp 20/s",
            method: Method::Scan,
            from: AttackHost::Scanner,
            host: 68,
            rate: 20,
            seconds: 5,
        }],
    },
    Phase {
        title: "a REGISTER flood",
        says: "5000 REGISTERs per second without a password. No login fails, so Asterisk's log shows\n\
               nothing and no address is banned for failures. Only the limit of the XDP program\n\
               protects Asterisk: 10 per second from each source.",
        seconds: 8,
        attacks: &[Attack {
            name: "flooder sipp 5000/s",
            method: Method::Flood,
            from: AttackHost::Flooder,
            host: 69,
            rate: 5000,
            seconds: 6,
        }],
    },
    Phase {
        title: "all of them together",
        says: "A guesser at 500 per second, a scanner and a flood at once, from new addresses.",
        seconds: 12,
        attacks: &[
            Attack {
                name: "guesser sipp 500/s",
                method: Method::Guess,
                from: AttackHost::Guesser,
                host: 76,
                rate: 500,
                seconds: 9,
            },
            Attack {
                name: "scanner sipp 20/s",
                method: Method::Scan,
                from: AttackHost::Scanner,
                host: 78,
                rate: 20,
                seconds: 9,
            },
            Attack {
                name: "flooder sipp 5000/s",
                method: Method::Flood,
                from: AttackHost::Flooder,
                host: 79,
                rate: 5000,
                seconds: 6,
            },
        ],
    },
    Phase {
        title: "quiet again",
        says: "The attacks have ended. The bans last for an hour. The phone continues to register.",
        seconds: 3,
        attacks: &[],
    },
];

/// The duration of all phases.
pub(super) fn seconds() -> u32 {
    PHASES.iter().map(|phase| phase.seconds).sum()
}

/// All source addresses of attacks from a host.
pub(super) fn addresses(from: AttackHost) -> Vec<IpAddr> {
    let attacks = PHASES.iter().flat_map(|phase| phase.attacks);
    attacks.filter(|attack| attack.from == from).map(Attack::source).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_address_is_used_twice() {
        let sources: Vec<_> =
            PHASES.iter().flat_map(|phase| phase.attacks).map(Attack::source).collect();
        assert_eq!(sources.iter().collect::<HashSet<_>>().len(), sources.len());
        assert!(!sources.contains(&super::super::PHONE) && !sources.contains(&super::super::PBX));
    }

    #[test]
    fn no_attack_outlasts_its_phase() {
        for phase in &PHASES {
            assert!(phase.attacks.iter().all(|attack| attack.seconds <= phase.seconds));
        }
    }
}
