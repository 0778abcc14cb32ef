//! What a user would have instead: a set of banned sources in the kernel's own firewall, filled and
//! asked by its own tools, in the far end of a lane of its own.

use std::fmt::Write as _;
use std::fs;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::lane::Lane;
use crate::child::{self, OnSignal};
use crate::scratch;

/// The programs, and the Debian packages that they are in.
const TOOLS: [(&str, &str); 3] =
    [("nft", "nftables"), ("iptables", "iptables"), ("ipset", "ipset")];
const LIMIT: Duration = Duration::from_mins(1);
/// More than any set of the measurement holds.
const SET_MAX: usize = 1 << 17;

/// One way to drop by a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rival {
    /// nftables on the interface's ingress hook: the earliest there is.
    NftIngress,
    /// nftables where most rules are.
    NftInput,
    /// iptables with ipset.
    Ipset,
}

impl Rival {
    pub(super) const ALL: [Self; 3] = [Self::NftIngress, Self::NftInput, Self::Ipset];

    /// Its name for `--only`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::NftIngress => "nft-ingress",
            Self::NftInput => "nft-input",
            Self::Ipset => "ipset",
        }
    }

    /// What it is.
    pub(super) fn what(self) -> &'static str {
        match self {
            Self::NftIngress => "nftables set, netdev ingress hook",
            Self::NftInput => "nftables set, input hook",
            Self::Ipset => "iptables INPUT with ipset",
        }
    }

    /// Sets it up at the far end of a lane, to drop these sources.
    pub(super) fn set_up(self, lane: &Lane, banned: &[Ipv4Addr]) -> anyhow::Result<()> {
        lane.cable().far_takes_frames()?;
        match self {
            Self::NftIngress => nft(
                lane,
                "table netdev bench",
                "type filter hook ingress device eth0 priority 0;",
                banned,
            ),
            Self::NftInput => {
                nft(lane, "table ip bench", "type filter hook input priority 0;", banned)
            }
            Self::Ipset => ipset(lane, banned),
        }
    }

    /// Packets that it has dropped.
    pub(super) fn dropped(self, lane: &Lane) -> anyhow::Result<u64> {
        match self {
            Self::NftIngress | Self::NftInput => {
                let family = if self == Self::NftIngress { "netdev" } else { "ip" };
                let said = run(lane, "nft", &["-j", "list", "chain", family, "bench", "drops"])?;
                let said: Value = serde_json::from_str(&said).context("read what nft printed")?;
                counter(&said).context("nft printed no counter")
            }
            Self::Ipset => {
                let said = run(lane, "iptables", &["-nvxL", "INPUT"])?;
                let rule = said.lines().find(|line| line.contains("match-set"));
                let packets = rule.and_then(|line| line.split_whitespace().next()?.parse().ok());
                packets.with_context(|| format!("iptables printed no counter: {said}"))
            }
        }
    }
}

/// Fails when a program is missing.
pub(super) fn check_tools() -> anyhow::Result<()> {
    for (program, package) in TOOLS {
        let found = Command::new(program).arg("--version").output().is_ok();
        if !found {
            bail!("`{program}` is missing: install it with `apt-get install {package}`");
        }
    }
    Ok(())
}

fn nft(lane: &Lane, table: &str, hook: &str, banned: &[Ipv4Addr]) -> anyhow::Result<()> {
    let elements: Vec<String> = banned.iter().map(Ipv4Addr::to_string).collect();
    let rules = format!(
        "{table} {{\n set banned {{ type ipv4_addr; elements = {{ {} }}; }}\n \
         chain drops {{ {hook} ip saddr @banned counter drop; }}\n}}\n",
        elements.join(", ")
    );
    from_file(lane, "nft", &["-f"], &rules)
}

fn ipset(lane: &Lane, banned: &[Ipv4Addr]) -> anyhow::Result<()> {
    let mut commands = format!("create banned hash:ip maxelem {SET_MAX}\n");
    for address in banned {
        writeln!(commands, "add banned {address}").context("write a string")?;
    }
    from_file(lane, "ipset", &["restore", "-file"], &commands)?;
    let rule = ["-I", "INPUT", "-m", "set", "--match-set", "banned", "src", "-j", "DROP"];
    run(lane, "iptables", &rule).map(drop)
}

/// Runs a program that reads `text` from the file that it is given last.
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

/// The packets of the first counter in what `nft -j` printed.
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
