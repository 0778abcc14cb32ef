//! What `iptables-save` and `ip6tables-save` print.

use std::net::IpAddr;

use api::Transport;

use super::{Chain, Family, Match, Rule, Rules, Verdict};

/// The rules that `tool` printed.
pub fn parse(tool: &str, family: Family, text: &str) -> Rules {
    let mut rules = Rules { tool: tool.to_owned(), ..Rules::default() };
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.trim().clone_into(&mut table);
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let (Some(name), Some(policy)) = (words.next(), words.next()) else { continue };
            let (table, name) = (table.clone(), name.to_owned());
            if ["filter", "mangle", "raw"].contains(&&*table)
                && ["INPUT", "PREROUTING"].contains(&&*name)
            {
                let drops = policy == "DROP";
                rules.chains.push(Chain { family, table, name, drops, rules: Vec::new() });
            } else {
                rules.called.insert((family, table, name), Vec::new());
            }
        } else if let Some(rest) = line.strip_prefix("-A ") {
            let words = words(rest);
            let Some((name, words)) = words.split_first() else { continue };
            let rule = rule(words);
            let of_chain = |chain: &&mut Chain| chain.table == table && chain.name == *name;
            if let Some(chain) = rules.chains.iter_mut().find(of_chain) {
                chain.rules.push(rule);
            } else {
                let key = (family, table.clone(), name.clone());
                rules.called.entry(key).or_default().push(rule);
            }
        }
    }
    rules
}

/// The words of a line; one in quotation marks may have spaces.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let (mut quoted, mut escaped) = (false, false);
    for c in line.chars() {
        match c {
            _ if escaped => {
                word.push(c);
                escaped = false;
            }
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            c if c.is_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn rule(words: &[String]) -> Rule {
    let mut rule = Rule { matches: Vec::new(), verdict: Verdict::Continue };
    let mut words = words.iter().map(String::as_str);
    let mut negated = false;
    while let Some(option) = words.next() {
        if option == "!" {
            negated = true;
            continue;
        }
        let mut value = || words.next().unwrap_or_default();
        let condition = match option {
            "-j" | "-g" => {
                rule.verdict = verdict(value(), option == "-g");
                // What follows are the options of the target.
                break;
            }
            "-m" | "--comment" => {
                let name = value();
                let known = ["tcp", "udp", "comment", "conntrack", "state", "multiport"];
                if option == "-m" && !known.contains(&name) { Match::Maybe } else { Match::Always }
            }
            "-p" => transport(value(), negated),
            "-i" => match (value(), negated) {
                ("lo", false) => Match::Never,
                ("lo", true) => Match::Always,
                _ => Match::Maybe,
            },
            "-s" => match (is_narrow(value()), negated) {
                (true, false) => Match::Never,
                (true, true) => Match::Always,
                (false, _) => Match::Maybe,
            },
            "--dport" | "--dports" => {
                let ranges: Option<Vec<_>> = value().split(',').map(range).collect();
                ranges.map_or(Match::Maybe, |ranges| Match::Ports(None, ranges, negated))
            }
            "--ctstate" | "--state" => {
                let known = |state| ["ESTABLISHED", "RELATED", "INVALID"].contains(&state);
                let (known, negated) = (value().split(',').all(known), negated);
                if known && !negated { Match::Never } else { Match::Maybe }
            }
            _ => Match::Maybe,
        };
        rule.matches.push(condition);
        negated = false;
    }
    rule
}

fn verdict(target: &str, goes: bool) -> Verdict {
    match target {
        "ACCEPT" => Verdict::Accept,
        "DROP" | "REJECT" => Verdict::Drop,
        "RETURN" => Verdict::Return,
        "LOG" | "NFLOG" | "MARK" | "CONNMARK" | "TOS" | "DSCP" | "TTL" | "NOTRACK" | "CT" => {
            Verdict::Continue
        }
        "" | "QUEUE" | "NFQUEUE" => Verdict::Unknown,
        name if goes => Verdict::Goto(name.to_owned()),
        name => Verdict::Jump(name.to_owned()),
    }
}

fn transport(name: &str, negated: bool) -> Match {
    let all = match name {
        "tcp" | "6" => vec![Transport::Tcp],
        "udp" | "17" => vec![Transport::Udp],
        "all" => return Match::Maybe,
        _ => Vec::new(),
    };
    Match::Transports(all, negated)
}

fn is_narrow(network: &str) -> bool {
    let (address, length) = network.split_once('/').unwrap_or((network, "128"));
    let Ok(address) = address.parse::<IpAddr>() else { return false };
    length.parse::<u8>().is_ok_and(|length| length >= if address.is_ipv6() { 16 } else { 8 })
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    Some((first.parse().ok()?, last.parse().ok()?))
}
