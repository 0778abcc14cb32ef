//! What `nft -j list ruleset` prints (libnftables-json(5)).

use std::collections::BTreeMap;

use api::Transport;
use serde_json::Value;

use super::{Chain, Family, Match, Rule, Rules, Verdict};

/// The sets of a ruleset with their elements, by family, table and name.
type Sets<'a> = BTreeMap<(&'a str, &'a str, &'a str), &'a Vec<Value>>;

/// The rules in the output of `nft -j list ruleset`.
///
/// # Errors
///
/// If it is none; why, in words.
pub fn parse(text: &str) -> Result<Rules, String> {
    let document: Value =
        serde_json::from_str(text).map_err(|error| format!("no JSON of nft: {error}"))?;
    let all = document.get("nftables").and_then(Value::as_array);
    let all = all.ok_or("no JSON of nft: there is no list `nftables`")?;
    let mut sets = Sets::new();
    for set in all.iter().filter_map(|one| one.get("set")) {
        let elements = set.get("elem").and_then(Value::as_array);
        if let Some(elements) = elements {
            sets.insert((word(set, "family"), word(set, "table"), word(set, "name")), elements);
        }
    }
    let mut chains = Vec::new();
    let mut called = BTreeMap::new();
    for chain in all.iter().filter_map(|one| one.get("chain")) {
        let Some(family) = family(word(chain, "family")) else { continue };
        let (table, name) = (word(chain, "table").to_owned(), word(chain, "name").to_owned());
        match (chain.get("hook").and_then(Value::as_str), word(chain, "type")) {
            (Some("input" | "prerouting"), "filter") => {
                let drops = word(chain, "policy") == "drop";
                chains.push(Chain { family, table, name, drops, rules: Vec::new() });
            }
            (Some(_), _) => {}
            (None, _) => drop(called.insert((family, table, name), Vec::new())),
        }
    }
    for rule in all.iter().filter_map(|one| one.get("rule")) {
        let Some(family) = family(word(rule, "family")) else { continue };
        let (table, name) = (word(rule, "table"), word(rule, "chain"));
        let parts = rule.get("expr").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let sets = |set: &str| sets.get(&(word(rule, "family"), table, set)).copied();
        let rule = of_parts(parts, &sets);
        let of_chain = |chain: &&mut Chain| {
            (chain.family, &*chain.table, &*chain.name) == (family, table, name)
        };
        if let Some(chain) = chains.iter_mut().find(of_chain) {
            chain.rules.push(rule);
        } else if let Some(rules) = called.get_mut(&(family, table.to_owned(), name.to_owned())) {
            rules.push(rule);
        }
    }
    Ok(Rules { tool: "nft".to_owned(), chains, called })
}

fn word<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn family(name: &str) -> Option<Family> {
    match name {
        "ip" => Some(Family::V4),
        "ip6" => Some(Family::V6),
        "inet" => Some(Family::Both),
        _ => None,
    }
}

fn of_parts<'a>(parts: &[Value], sets: &dyn Fn(&str) -> Option<&'a Vec<Value>>) -> Rule {
    let mut rule = Rule { matches: Vec::new(), verdict: Verdict::Continue };
    for part in parts {
        let Some((key, value)) = part.as_object().and_then(|part| part.iter().next()) else {
            rule.matches.push(Match::Maybe);
            continue;
        };
        let target = || word(value, "target").to_owned();
        match &**key {
            "accept" => rule.verdict = Verdict::Accept,
            "drop" | "reject" => rule.verdict = Verdict::Drop,
            "return" => rule.verdict = Verdict::Return,
            "continue" | "counter" | "log" | "mangle" | "notrack" => {}
            "jump" => rule.verdict = Verdict::Jump(target()),
            "goto" => rule.verdict = Verdict::Goto(target()),
            "vmap" => rule.verdict = of_map(value),
            "queue" => rule.verdict = Verdict::Unknown,
            "match" => rule.matches.push(condition(value, sets)),
            _ => rule.matches.push(Match::Maybe),
        }
    }
    rule
}

/// A map of verdicts is understood if it is one of states of connections.
fn of_map(map: &Value) -> Verdict {
    let pairs = map.pointer("/data/set").and_then(Value::as_array);
    let is_state = map.pointer("/key/ct/key").and_then(Value::as_str) == Some("state");
    let Some(pairs) = pairs.filter(|_| is_state) else { return Verdict::Unknown };
    let is_new = |pair: &Value| pair.get(0).is_none_or(|state| !is_of_known(state));
    if pairs.iter().any(is_new) { Verdict::Unknown } else { Verdict::Continue }
}

/// Whether the first packet of a stranger cannot have this connection state.
fn is_of_known(state: &Value) -> bool {
    state.as_str().is_some_and(|state| ["established", "related", "invalid"].contains(&state))
}

fn condition<'a>(value: &Value, sets: &dyn Fn(&str) -> Option<&'a Vec<Value>>) -> Match {
    let negated = match word(value, "op") {
        "==" | "in" => false,
        "!=" => true,
        _ => return Match::Maybe,
    };
    let right = value.get("right").unwrap_or(&Value::Null);
    let named = right.as_str().and_then(|name| name.strip_prefix('@')).map(sets);
    let elements: Vec<&Value> = match (named, right.get("set").and_then(Value::as_array)) {
        (Some(Some(named)), _) => named.iter().collect(),
        (Some(None), _) => return Match::Maybe,
        (None, Some(set)) => set.iter().collect(),
        (None, None) => match right.as_array() {
            Some(list) => list.iter().collect(),
            None => vec![right],
        },
    };
    let left = value.get("left").unwrap_or(&Value::Null);
    let met = |is: bool| if is == negated { Match::Never } else { Match::Always };
    if let Some(payload) = left.get("payload") {
        return of_payload(payload, &elements, negated);
    }
    if let Some(state) = left.get("ct") {
        let known = elements.iter().all(|state| is_of_known(state));
        return if word(state, "key") == "state" && known { met(false) } else { Match::Maybe };
    }
    match left.get("meta").map(|meta| word(meta, "key")) {
        Some("l4proto") => transports(&elements, negated),
        Some("nfproto") => match (&elements[..], negated) {
            ([one], false) if one.as_str() == Some("ipv4") => Match::OfFamily(Family::V4),
            ([one], false) if one.as_str() == Some("ipv6") => Match::OfFamily(Family::V6),
            _ => Match::Maybe,
        },
        Some("iifname" | "iif") if elements.iter().all(|one| one.as_str() == Some("lo")) => {
            met(false)
        }
        _ => Match::Maybe,
    }
}

fn of_payload(payload: &Value, elements: &[&Value], negated: bool) -> Match {
    let transport = match word(payload, "protocol") {
        "tcp" => Some(Transport::Tcp),
        "udp" => Some(Transport::Udp),
        "th" => None,
        "ip" if word(payload, "field") == "protocol" => return transports(elements, negated),
        "ip6" if word(payload, "field") == "nexthdr" => return transports(elements, negated),
        "ip" | "ip6" if word(payload, "field") == "saddr" => {
            // A stranger is not in any network that a rule names, unless it is very wide.
            return match (elements.iter().all(|network| is_narrow(network)), negated) {
                (true, false) => Match::Never,
                (true, true) => Match::Always,
                (false, _) => Match::Maybe,
            };
        }
        // ICMP and the like, which are not for a port.
        "icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" => return Match::Never,
        _ => return Match::Maybe,
    };
    if word(payload, "field") != "dport" {
        return Match::Maybe;
    }
    let ranges: Option<Vec<(u16, u16)>> = elements.iter().map(|one| range(one)).collect();
    ranges.map_or(Match::Maybe, |ranges| Match::Ports(transport, ranges, negated))
}

/// Whether a network is too small for strangers at large.
fn is_narrow(network: &Value) -> bool {
    if let Some(prefix) = network.get("prefix") {
        let is_v6 = word(prefix, "addr").contains(':');
        let length = prefix.get("len").and_then(Value::as_u64).unwrap_or_default();
        return length >= if is_v6 { 16 } else { 8 };
    }
    network.as_str().is_some_and(|address| address.parse::<std::net::IpAddr>().is_ok())
}

fn range(value: &Value) -> Option<(u16, u16)> {
    let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    match value.get("range").and_then(Value::as_array).map(Vec::as_slice) {
        Some([first, last]) => Some((port(first)?, port(last)?)),
        _ => port(value).map(|port| (port, port)),
    }
}

fn transports(elements: &[&Value], negated: bool) -> Match {
    let mut all = Vec::new();
    for element in elements {
        match (element.as_str(), element.as_u64()) {
            (Some("tcp"), _) | (_, Some(6)) => all.push(Transport::Tcp),
            (Some("udp"), _) | (_, Some(17)) => all.push(Transport::Udp),
            (Some(_), _) | (_, Some(_)) => {}
            _ => return Match::Maybe,
        }
    }
    Match::Transports(all, negated)
}
