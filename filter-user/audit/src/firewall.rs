//! The rules of nftables and iptables, as far as is needed to prove that they close a port to strangers,
//! which are sources that no rule names. A rule that is not understood proves nothing.
//!
//! Must never call a port closed that a rule may open.

mod iptables;
mod nft;

use std::collections::BTreeMap;

use api::Transport;

pub use self::iptables::parse as parse_iptables;
pub use self::nft::parse as parse_nft;

use crate::words::{count, shown};

/// The most chains that one packet passes.
const STEPS_MAX: usize = 20_000;

/// How deep chains may call each other.
const DEPTH_MAX: usize = 16;

/// The rules that one program lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// The program.
    pub tool: String,
    /// The chains that the kernel calls for packets that arrive for the host.
    pub chains: Vec<Chain>,
    /// The other chains, by family, table and name.
    pub called: BTreeMap<(Family, String, String), Vec<Rule>>,
}

/// The packets that a table sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Those of IPv4.
    V4,
    /// Those of IPv6.
    V6,
    /// Those of both.
    Both,
}

/// A chain that the kernel calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The packets that it sees.
    pub family: Family,
    /// Its table.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Whether a packet is dropped that no rule decides about.
    pub drops: bool,
    /// Its rules.
    pub rules: Vec<Rule>,
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The conditions that a packet must meet.
    pub matches: Vec<Match>,
    /// The verdict for it.
    pub verdict: Verdict,
}

/// A condition, for the first packet of a stranger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// It is always met.
    Always,
    /// It never is.
    Never,
    /// It is met or not.
    Maybe,
    /// The packet is of this family.
    OfFamily(Family),
    /// It is of one of these transports, or of none of them.
    Transports(Vec<Transport>, bool),
    /// It is for one of these ports (of this transport), or for none of them.
    Ports(Option<Transport>, Vec<(u16, u16)>, bool),
}

/// The verdict about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes this chain and the calling ones.
    Accept,
    /// It is dropped or refused.
    Drop,
    /// The next rule decides.
    Continue,
    /// The calling chain continues.
    Return,
    /// Another chain decides, and the next rule if that does not.
    Jump(String),
    /// Another chain decides, and the calling chain if that does not.
    Goto(String),
    /// Any of these.
    Unknown,
}

/// A packet from a stranger that begins a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Whether it is of IPv6.
    pub is_v6: bool,
    /// Its transport.
    pub transport: Transport,
    /// The port that it is for.
    pub port: u16,
}

/// The possible outcomes for a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Fates {
    accept: bool,
    drop: bool,
    /// No rule decides.
    end: bool,
}

impl Fates {
    const ANY: Self = Self { accept: true, drop: true, end: true };

    fn with(self, other: Self) -> Self {
        Self {
            accept: self.accept || other.accept,
            drop: self.drop || other.drop,
            end: self.end || other.end,
        }
    }
}

/// Whether the rules certainly drop such a packet.
pub fn closes(rules: &Rules, packet: Packet) -> bool {
    let mut steps = 0;
    rules.chains.iter().filter(|chain| sees(chain.family, packet)).any(|chain| {
        let mut walk = Walk { rules, chain, packet, steps: &mut steps };
        let Fates { accept, drop, end } = walk.fates(&chain.rules, 0);
        let (accept, drop) = (accept || (end && !chain.drops), drop || (end && chain.drops));
        drop && !accept
    })
}

/// Whether a rule accepts packets to this port by its number.
pub fn accepts_port(rules: &Rules, packet: Packet) -> bool {
    let names_port = |condition: &Match| match condition {
        Match::Ports(of, ranges, false) => {
            of.is_none_or(|of| of == packet.transport)
                && ranges.iter().any(|(first, last)| (*first..=*last).contains(&packet.port))
        }
        Match::Ports(..)
        | Match::Always
        | Match::Never
        | Match::Maybe
        | Match::OfFamily(_)
        | Match::Transports(..) => false,
    };
    let is_other = |condition: &Match| match condition {
        Match::OfFamily(family) => !sees(*family, packet),
        Match::Transports(all, negated) => all.contains(&packet.transport) == *negated,
        Match::Always | Match::Never | Match::Maybe | Match::Ports(..) => false,
    };
    let accepts = |rule: &Rule| {
        rule.verdict == Verdict::Accept
            && rule.matches.iter().any(names_port)
            && !rule.matches.iter().any(is_other)
    };
    let chains = rules.chains.iter().map(|chain| (chain.family, &chain.rules));
    let called = rules.called.iter().map(|((family, ..), rules)| (*family, rules));
    let mut seen = chains.chain(called).filter(|(family, _)| sees(*family, packet));
    seen.any(|(_, rules)| rules.iter().any(accepts))
}

/// Whether the rules do anything to packets that arrive.
pub fn has_rules(rules: &Rules) -> bool {
    rules.chains.iter().any(|chain| chain.drops || !chain.rules.is_empty())
}

fn sees(family: Family, packet: Packet) -> bool {
    match family {
        Family::Both => true,
        Family::V4 => !packet.is_v6,
        Family::V6 => packet.is_v6,
    }
}

/// The path of a packet through a chain.
struct Walk<'a> {
    rules: &'a Rules,
    chain: &'a Chain,
    packet: Packet,
    steps: &'a mut usize,
}

impl Walk<'_> {
    fn fates(&mut self, rules: &[Rule], depth: usize) -> Fates {
        let mut fates = Fates::default();
        for rule in rules {
            *self.steps += 1;
            if *self.steps > STEPS_MAX || depth > DEPTH_MAX {
                return Fates::ANY;
            }
            let Some(is_certain) = self.is_met(&rule.matches) else { continue };
            let of_rule = self.verdict(&rule.verdict, depth);
            let Some((done, goes_on)) = of_rule else { continue };
            fates = fates.with(done);
            if is_certain && !goes_on {
                return fates;
            }
        }
        fates.with(Fates { end: true, ..Fates::default() })
    }

    /// What a verdict makes of the packet, and whether the next rule may see it; `None`: it certainly does.
    fn verdict(&mut self, verdict: &Verdict, depth: usize) -> Option<(Fates, bool)> {
        let none = Fates::default();
        let decided = match verdict {
            Verdict::Continue => return None,
            Verdict::Accept => (Fates { accept: true, ..none }, false),
            Verdict::Drop => (Fates { drop: true, ..none }, false),
            Verdict::Return => (Fates { end: true, ..none }, false),
            Verdict::Unknown => (Fates::ANY, true),
            Verdict::Jump(name) => {
                let fates = self.called(name, depth);
                (Fates { end: false, ..fates }, fates.end)
            }
            Verdict::Goto(name) => (self.called(name, depth), false),
        };
        Some(decided)
    }

    fn called(&mut self, name: &str, depth: usize) -> Fates {
        let key = (self.chain.family, self.chain.table.clone(), name.to_owned());
        let rules = self.rules;
        rules.called.get(&key).map_or(Fates::ANY, |rules| self.fates(rules, depth + 1))
    }

    /// Whether all conditions are met, certainly or perhaps; `None`: one of them is not.
    fn is_met(&self, matches: &[Match]) -> Option<bool> {
        let Packet { transport, port, .. } = self.packet;
        let mut is_certain = true;
        for condition in matches {
            let met = match condition {
                Match::Always => true,
                Match::Never => false,
                Match::Maybe => {
                    is_certain = false;
                    true
                }
                Match::OfFamily(family) => sees(*family, self.packet),
                Match::Transports(all, negated) => all.contains(&transport) != *negated,
                Match::Ports(of, ranges, negated) => {
                    let is_in = ranges.iter().any(|(first, last)| (*first..=*last).contains(&port));
                    of.is_none_or(|of| of == transport) && is_in != *negated
                }
            };
            if !met {
                return None;
            }
        }
        Some(is_certain)
    }
}

/// Each chain in words.
pub fn in_words(rules: &Rules) -> Vec<String> {
    let chain = |chain: &Chain| {
        let family = match chain.family {
            Family::V4 => "ip",
            Family::V6 => "ip6",
            Family::Both => "inet",
        };
        format!(
            "{family} {} {}: policy {}, {}",
            shown(&chain.table),
            shown(&chain.name),
            if chain.drops { "drop" } else { "accept" },
            count(chain.rules.len(), "rule")
        )
    };
    rules.chains.iter().map(chain).collect()
}

#[cfg(test)]
mod tests;
