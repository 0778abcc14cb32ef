//! The alternatives to Ringfence: a set of banned sources in the kernel's own firewall, set up and
//! read with that firewall's own tools at the far end of a separate lane.

use std::fmt::Write as _;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::cases::USUAL;
use super::lane::Lane;
use crate::bench::sender::Family;
use crate::bench::sources::Banned;
use crate::child::{self, OnSignal};
use crate::scratch;

/// The programs, and the Debian packages that contain them.
const TOOLS: [(&str, &str); 4] =
    [("nft", "nftables"), ("iptables", "iptables"), ("ip6tables", "iptables"), ("ipset", "ipset")];
const LIMIT: Duration = Duration::from_mins(1);
/// Larger than any set of the measurement.
const SET_MAX: usize = 1 << 17;
/// Sources in the large sets.
const MANY: usize = 100_000;

/// One way to drop the sources of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rival {
    /// nftables on the interface's ingress hook, its earliest hook.
    NftIngress,
    /// nftables on the input hook, where most rules are.
    NftInput,
    /// iptables with ipset.
    Ipset,
}

/// The sources that a rival drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Set {
    /// A set of this many sources.
    Addresses(usize),
    /// The largest set of sources. No source of the flood is in it.
    Others,
    /// A set of the banned networks of a typical host.
    Networks,
    /// No set: packets to port 5060 above one limit for all sources together.
    Limit,
}

/// A rival with its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contender {
    pub(super) rival: Rival,
    pub(super) family: Family,
    pub(super) set: Set,
}

impl Contender {
    /// All of them. Those that are compared are close to each other.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        use Rival::{Ipset, NftIngress, NftInput};
        let sets = |family, rivals: &'static [Rival], set| {
            rivals.iter().map(move |rival| Self { rival: *rival, family, set })
        };
        sets(Family::V4, &[NftIngress, NftInput, Ipset], Set::Addresses(MANY))
            .chain(sets(Family::V4, &[NftIngress], Set::Limit))
            .chain(sets(Family::V4, &[NftIngress, NftInput, Ipset], Set::Addresses(1)))
            .chain(sets(Family::V4, &[NftIngress, Ipset], Set::Networks))
            .chain(sets(Family::V6, &[NftIngress, Ipset], Set::Addresses(MANY)))
            .chain(sets(Family::V6, &[NftIngress, Ipset], Set::Addresses(1)))
            .chain(sets(Family::V6, &[NftIngress, Ipset], Set::Networks))
            .chain(sets(Family::V4, &[NftIngress], Set::Others))
            .chain(sets(Family::V6, &[NftIngress], Set::Others))
    }

    /// The name for `--only`.
    pub(super) fn name(self) -> String {
        let rival = match self.rival {
            Rival::NftIngress => "nft-ingress",
            Rival::NftInput => "nft-input",
            Rival::Ipset => "ipset",
        };
        let family = match self.family {
            Family::V4 => "",
            Family::V6 => "6",
        };
        match self.set {
            Set::Addresses(count) => format!("{rival}{family}-{count}"),
            Set::Others => format!("{rival}{family}-not-sip"),
            Set::Networks => format!("{rival}{family}-networks"),
            Set::Limit => format!("{rival}{family}-limit"),
        }
    }

    /// Its description.
    pub(super) fn what(self) -> String {
        let rival = match self.rival {
            Rival::NftIngress => "nftables, netdev ingress",
            Rival::NftInput => "nftables, input",
            Rival::Ipset => "iptables with ipset",
        };
        let family = match self.family {
            Family::V4 => "",
            Family::V6 => "IPv6, ",
        };
        let set = match self.set {
            Set::Addresses(1) => "one source".to_owned(),
            Set::Addresses(_) => "random sources among 100,000".to_owned(),
            Set::Others => "random sources not among 100,000, not SIP".to_owned(),
            Set::Networks => format!("random networks among {}", USUAL.networks / 2),
            Set::Limit => "random sources over one limit for all".to_owned(),
        };
        format!("{rival}: {family}{set}")
    }

    /// Whether it is compared with generic mode.
    pub(super) fn is_beside_generic(self) -> bool {
        self.rival == Rival::NftIngress
            && self.family == Family::V4
            && matches!(self.set, Set::Addresses(_) | Set::Others | Set::Limit)
    }

    /// Sets it up at the far end of a lane, to drop the sources of its set.
    pub(super) fn set_up(self, lane: &Lane, many: &Banned, usual: &Banned) -> anyhow::Result<()> {
        lane.cable().far_takes_frames()?;
        let addresses = |count| -> Vec<String> {
            match self.family {
                Family::V4 => many.v4.iter().take(count).map(ToString::to_string).collect(),
                Family::V6 => many.v6.iter().take(count).map(ToString::to_string).collect(),
            }
        };
        let elements: Vec<String> = match (self.set, self.family) {
            (Set::Addresses(count), _) => addresses(count),
            (Set::Others, _) => addresses(MANY),
            (Set::Networks, family) => {
                let networks = usual.networks.iter();
                let of_family =
                    networks.filter(|network| network.addr().is_ipv4() == (family == Family::V4));
                of_family.map(ToString::to_string).collect()
            }
            (Set::Limit, _) => Vec::new(),
        };
        match self.rival {
            Rival::NftIngress | Rival::NftInput => {
                from_file(lane, "nft", &["-f"], &self.nft(&elements))
            }
            Rival::Ipset => self.ipset(lane, &elements),
        }
    }

    /// The number of packets that it has dropped.
    pub(super) fn dropped(self, lane: &Lane) -> anyhow::Result<u64> {
        match self.rival {
            Rival::NftIngress | Rival::NftInput => {
                let arguments = ["-j", "list", "chain", self.nft_table(), "bench", "drops"];
                let said = run(lane, "nft", &arguments)?;
                let said: Value = serde_json::from_str(&said).context("read what nft printed")?;
                counter(&said).context("nft printed no counter")
            }
            Rival::Ipset => {
                let said = run(lane, self.iptables(), &["-nvxL", "INPUT"])?;
                let rule = said.lines().find(|line| line.contains("match-set"));
                let packets = rule.and_then(|line| line.split_whitespace().next()?.parse().ok());
                packets.with_context(|| format!("iptables printed no counter: {said}"))
            }
        }
    }

    fn nft_table(self) -> &'static str {
        match (self.rival, self.family) {
            (Rival::NftIngress, _) => "netdev",
            (Rival::NftInput | Rival::Ipset, Family::V4) => "ip",
            (Rival::NftInput | Rival::Ipset, Family::V6) => "ip6",
        }
    }

    fn iptables(self) -> &'static str {
        match self.family {
            Family::V4 => "iptables",
            Family::V6 => "ip6tables",
        }
    }

    fn nft(self, elements: &[String]) -> String {
        let table = self.nft_table();
        let hook = match self.rival {
            Rival::NftIngress => "type filter hook ingress device eth0 priority 0;",
            Rival::NftInput | Rival::Ipset => "type filter hook input priority 0;",
        };
        let (kind, source) = match self.family {
            Family::V4 => ("ipv4_addr", "ip saddr"),
            Family::V6 => ("ipv6_addr", "ip6 saddr"),
        };
        // A network may contain another one.
        let flags = match self.set {
            Set::Networks => "flags interval; auto-merge;",
            Set::Addresses(_) | Set::Others | Set::Limit => "",
        };
        let (set, rule) = match self.set {
            Set::Limit => (String::new(), "udp dport 5060 limit rate over 1000/second".to_owned()),
            Set::Addresses(_) | Set::Others | Set::Networks => {
                let elements = elements.join(", ");
                (
                    format!("set banned {{ type {kind}; {flags} elements = {{ {elements} }}; }}"),
                    format!("{source} @banned"),
                )
            }
        };
        format!(
            "table {table} bench {{\n {set}\n chain drops {{ {hook} {rule} counter drop; }}\n}}\n"
        )
    }

    fn ipset(self, lane: &Lane, elements: &[String]) -> anyhow::Result<()> {
        let kind = match self.set {
            Set::Networks => "hash:net",
            Set::Addresses(_) | Set::Others | Set::Limit => "hash:ip",
        };
        let family = match self.family {
            Family::V4 => "inet",
            Family::V6 => "inet6",
        };
        let mut commands = format!("create banned {kind} family {family} maxelem {SET_MAX}\n");
        for element in elements {
            writeln!(commands, "add banned {element}").context("write a string")?;
        }
        from_file(lane, "ipset", &["restore", "-file"], &commands)?;
        let rule = ["-I", "INPUT", "-m", "set", "--match-set", "banned", "src", "-j", "DROP"];
        run(lane, self.iptables(), &rule).map(drop)
    }
}

/// Fails if a program is missing.
pub(super) fn check_tools() -> anyhow::Result<()> {
    for (program, package) in TOOLS {
        let found = Command::new(program).arg("--version").output().is_ok();
        if !found {
            bail!("`{program}` is missing: install it with `apt-get install {package}`");
        }
    }
    Ok(())
}

/// Runs a program that reads `text` from a file, which is its last argument.
fn from_file(lane: &Lane, program: &str, arguments: &[&str], text: &str) -> anyhow::Result<()> {
    let directory = scratch::directory("rival")?;
    let path = directory.path().join("rules");
    fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    let path = path.to_str().context("path of a temporary file")?;
    run(lane, program, &[arguments, &[path]].concat()).map(drop)
}

fn run(lane: &Lane, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = lane.host().command(program);
    command.args(arguments);
    let name = format!("{program} {}", arguments.join(" "));
    Ok(child::finish(&name, &mut command, LIMIT, OnSignal::Stop)?.success(&name)?.stdout)
}

/// The packets of the first counter in the output of `nft -j`.
fn counter(said: &Value) -> Option<u64> {
    match said {
        Value::Object(fields) => match fields.get("counter") {
            Some(counter) => counter.get("packets")?.as_u64(),
            None => fields.values().find_map(counter),
        },
        Value::Array(values) => values.iter().find_map(counter),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_of_their_family_and_their_set() {
        let contender = |rival, family, set| Contender { rival, family, set };
        let elements = ["2001:db8::/48".to_owned(), "2001:db8:1::/56".to_owned()];
        let networks = contender(Rival::NftIngress, Family::V6, Set::Networks);
        let rules = networks.nft(&elements);
        for part in [
            "table netdev bench",
            "type ipv6_addr; flags interval; auto-merge;",
            "{ 2001:db8::/48, 2001:db8:1::/56 }",
            "ip6 saddr @banned counter drop",
        ] {
            assert!(rules.contains(part), "{part:?} is not in\n{rules}");
        }
        let limit = contender(Rival::NftInput, Family::V4, Set::Limit).nft(&[]);
        assert!(limit.contains("table ip bench") && !limit.contains("set banned"), "{limit}");
    }

    #[test]
    fn the_counter_is_found_where_nft_has_it() {
        let said = serde_json::json!({"nftables": [
            {"metainfo": {"version": "1.0.6"}},
            {"rule": {"family": "ip", "expr": [
                {"match": {"op": "==", "right": "@banned"}},
                {"counter": {"packets": 17, "bytes": 1700}},
                {"drop": null}
            ]}}
        ]});
        assert_eq!(counter(&said), Some(17));
        assert_eq!(counter(&serde_json::json!({"nftables": []})), None);
    }
}
