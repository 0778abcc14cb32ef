//! What people read: the daemon's answers as text.

use std::fmt::Write as _;

use serde_json::Value;

/// `status`.
pub fn status(value: &Value) -> String {
    let mut text = format!(
        "ringfence {}, running for {}{}\n",
        string(value, "version"),
        crate::duration::format(std::time::Duration::from_secs(number(value, "uptime_seconds"))),
        if value["enforcing"] == true { "" } else { ", dry run: drops nothing" },
    );
    if value["maintenance"]["on"] == true {
        text += &maintenance(&value["maintenance"]);
    }
    text += &interfaces(value);
    let mut reasons: Vec<(&String, &Value)> =
        value["reasons"].as_object().into_iter().flatten().collect();
    reasons.retain(|(_, reason)| number(reason, "packets") > 0);
    reasons.sort_by_key(|(_, reason)| std::cmp::Reverse(number(reason, "packets")));
    let rows = reasons.into_iter().map(|(name, reason)| {
        let count = |key| number(reason, key).to_string();
        vec![name.clone(), string(reason, "verdict"), count("packets"), count("bytes")]
    });
    text += &table(&["REASON", "VERDICT", "PACKETS", "BYTES"], rows.collect());
    if value["enforcing"] == false {
        for (name, packets) in value["would_drop"].as_object().into_iter().flatten() {
            line(&mut text, &format!("would have dropped {packets} packets: {name}"));
        }
    }
    let rows = list(value, "sources").map(|source| {
        let last = source["last_event"].as_str().unwrap_or("-").to_owned();
        let (events, failures) = (number(source, "events"), number(source, "failures"));
        let unwitnessed = number(source, "unwitnessed");
        vec![
            string(source, "name"),
            string(source, "state"),
            events.to_string(),
            failures.to_string(),
            unwitnessed.to_string(),
            last,
            source["why"].as_str().unwrap_or_default().to_owned(),
        ]
    });
    text += &table(
        &["SOURCE", "STATE", "LINES", "FAILURES", "UNWITNESSED", "LAST", ""],
        rows.collect(),
    );
    text += &hearing(value);
    let rows = list(value, "jails").map(|jail| {
        let count = |key| number(jail, key).to_string();
        vec![string(jail, "name"), count("watched"), count("banned")]
    });
    text += &table(&["JAIL", "WATCHED", "BANNED"], rows.collect());
    let escalation = &value["escalation"];
    if escalation["enabled"] == true {
        let (offenders, banned) = (number(escalation, "offenders"), number(escalation, "banned"));
        line(
            &mut text,
            &format!("{banned} networks banned; {offenders} proven offenders count towards more"),
        );
    }
    let bans = &value["bans"];
    let (active, capacity) = (number(bans, "active"), number(bans, "capacity"));
    let ipv6 = number(bans, "capacity_ipv6");
    line(
        &mut text,
        &format!("{active} bans in force, room for {capacity} IPv4 and {ipv6} IPv6 addresses"),
    );
    let store = &value["store"];
    if store["state"] == "failed" {
        let (path, why) = (string(store, "path"), string(store, "why"));
        let pending = number(store, "pending");
        line(&mut text, &format!("STORE FAILED: {path}: {why}; {pending} changes wait"));
    }
    for name in list(value, "trusted_names") {
        line(&mut text, &format!("trusted is {}", host(name)));
    }
    let peers = &value["peers"];
    let (known, spared) = (number(peers, "known"), number(peers, "spared"));
    line(
        &mut text,
        &format!("{known} known peers; {spared} unproven failures of such not counted"),
    );
    let no_room = number(peers, "no_room");
    if no_room > 0 {
        line(&mut text, &format!("{no_room} times there was no room for another known peer"));
    }
    text
}

/// What is protected, and what the filter does not see.
fn interfaces(value: &Value) -> String {
    let rows = list(value, "interfaces").map(|interface| {
        let keys = ["received", "passed", "dropped"];
        let is_bare = interface["protected"] == false;
        let mode = if is_bare { "UNPROTECTED".to_owned() } else { string(interface, "mode") };
        let mut row = vec![string(interface, "name"), mode];
        row.extend(keys.map(|key| number(interface, key).to_string()));
        row
    });
    let mut text = table(&["INTERFACE", "MODE", "RECEIVED", "PASSED", "DROPPED"], rows.collect());
    for interface in list(value, "interfaces") {
        let name = string(interface, "name");
        if let Some(why) = interface["why"].as_str() {
            line(&mut text, &format!("UNPROTECTED: {name}: {why}"));
            continue;
        }
        if let Some(why) = interface["fallback"].as_str() {
            line(&mut text, &format!("{name}: generic because {why}"));
        }
        if let Some(why) = interface["not_learning"].as_str() {
            line(&mut text, &format!("NOT LEARNING: {name}: {why}"));
        }
    }
    for exposure in list(value, "exposure") {
        let (subject, problem) = (string(exposure, "subject"), string(exposure, "problem"));
        line(&mut text, &format!("NOT SEEN: {subject}: {problem}"));
        line(&mut text, &format!("    {}", string(exposure, "mend")));
    }
    text
}

/// Whether the sources hear: what gives away that they do not.
fn hearing(value: &Value) -> String {
    let mut text = String::new();
    for finding in list(value, "hearing") {
        let (source, problem) = (string(finding, "source"), string(finding, "problem"));
        line(&mut text, &format!("NOT HEARD: {source}: {problem}"));
        line(&mut text, &format!("    {}", string(finding, "mend")));
    }
    for source in list(value, "sources") {
        let (unparsed, name) = (&source["unparsed"], string(source, "name"));
        let lines = number(unparsed, "lines");
        if lines > 0 {
            line(&mut text, &format!("{name}: {lines} lines without a rule look like failures"));
        }
        for sample in list(unparsed, "samples") {
            let (lines, sample) = (number(sample, "lines"), string(sample, "line"));
            line(&mut text, &format!("    {lines} like: {sample}"));
        }
    }
    text
}

/// `maintenance`.
pub fn maintenance(value: &Value) -> String {
    if value["on"] != true {
        return "SIP is open: there is no maintenance\n".to_owned();
    }
    let known = if value["closed_to_known"] == true { "" } else { " and known peers" };
    format!(
        "SIP is closed for maintenance until {}, to all but trusted networks{known}\n",
        string(value, "until")
    )
}

/// What `ban` and `unban` say when a reboot would undo it; nothing otherwise.
pub fn unless_durable(value: &Value) -> String {
    if value["durable"] != false {
        return String::new();
    }
    format!("it is not written down yet: the store failed: {}\n", string(value, "why"))
}

/// The end of `import fail2ban`: what was done, and what is left to do.
pub fn imported(value: &Value) -> String {
    let Some(target) = value["written"].as_str() else {
        return "dry run: nothing is written, and no ban is handed over\n".to_owned();
    };
    let mut text = format!("written to {target}\n");
    let bans = &value["bans_handed_over"];
    line(&mut text, &format!("{} bans handed over to the daemon", number(bans, "entered")));
    for (why, count) in bans["refused"].as_object().into_iter().flatten() {
        line(&mut text, &format!("  {count} not: {why}"));
    }
    if bans["durable"] == false {
        line(&mut text, "  they are not written down yet: the store failed");
    }
    text += "then, with nothing of fail2ban's changed yet:\n";
    for command in ["systemctl restart ringfence", "systemctl disable --now fail2ban"] {
        line(&mut text, &format!("  {command}"));
    }
    if bans["refused"].as_object().is_some_and(|refused| !refused.is_empty()) {
        text +=
            "bans of jails that are new come with the same command once more, after the restart\n";
    }
    text
}

/// `bans`.
pub fn bans(value: &Value) -> String {
    let rows: Vec<Vec<String>> = list(value, "bans")
        .map(|ban| {
            let except: Vec<&str> = list(ban, "except").filter_map(Value::as_str).collect();
            let network = match &except[..] {
                [] => string(ban, "network"),
                except => format!("{} except {}", string(ban, "network"), except.join(", ")),
            };
            vec![
                network,
                string(ban, "jail"),
                string(ban, "scope"),
                string(ban, "since"),
                ban["until"].as_str().unwrap_or("without end").to_owned(),
                number(ban, "packets").to_string(),
                string(ban, "reason"),
            ]
        })
        .collect();
    if rows.is_empty() {
        return "nobody is banned\n".to_owned();
    }
    table(&["NETWORK", "JAIL", "SCOPE", "SINCE", "UNTIL", "PACKETS", "REASON"], rows)
}

/// `jails`.
pub fn jails(value: &Value) -> String {
    let rows = list(value, "jails").map(|jail| {
        let mut row = vec![string(jail, "name")];
        row.push(if jail["enabled"] == true { "yes".to_owned() } else { "no".to_owned() });
        row.extend(["maxretry", "maxaccounts"].map(|key| number(jail, key).to_string()));
        row.extend(["findtime", "bantime", "scope"].map(|key| string(jail, key)));
        row.extend(["watched", "banned"].map(|key| number(jail, key).to_string()));
        row
    });
    let head = [
        "JAIL",
        "ENABLED",
        "MAXRETRY",
        "MAXACCOUNTS",
        "FINDTIME",
        "BANTIME",
        "SCOPE",
        "WATCHED",
        "BANNED",
    ];
    let mut text = table(&head, rows.collect());
    for jail in list(value, "jails") {
        for name in list(jail, "ignored_names") {
            let jail = string(jail, "name");
            line(&mut text, &format!("{jail} ignores {}", host(name)));
        }
    }
    for jail in list(value, "jails") {
        let weights = jail["weights"].as_object().into_iter().flatten();
        let unequal: Vec<String> = weights
            .filter(|(_, weight)| **weight != 1)
            .map(|(class, weight)| format!("{class} {weight}"))
            .collect();
        if !unequal.is_empty() {
            let name = string(jail, "name");
            line(&mut text, &format!("{name}: a failure counts 1, but {}", unequal.join(", ")));
        }
        for attacked in list(jail, "attacked") {
            let [account, last] = ["account", "last"].map(|key| string(attacked, key));
            let [failures, sources] = ["failures", "sources"].map(|key| number(attacked, key));
            let name = string(jail, "name");
            line(
                &mut text,
                &format!(
                    "{name}: the account {account} is guessed at: {failures} failures of {sources} \
                     sources, the last one at {last}"
                ),
            );
        }
    }
    text
}

/// A host that is known by name, and what is known of it.
fn host(value: &Value) -> String {
    let name = string(value, "name");
    let addresses: Vec<&str> = list(value, "addresses").filter_map(Value::as_str).collect();
    let addresses = match (&addresses[..], string(value, "state").as_str()) {
        ([], "waiting") => "not looked up yet".to_owned(),
        ([], _) => "no address".to_owned(),
        (some, _) => some.join(", "),
    };
    let why = value["why"].as_str().map_or_else(String::new, |why| format!(" ({why})"));
    let more = match number(value, "left_out") {
        0 => String::new(),
        more => format!("; {more} more are left out"),
    };
    format!("{name}: {addresses}{more}{why}")
}

/// `why`.
pub fn why(value: &Value) -> String {
    let address = string(value, "address");
    let mut text = String::new();
    if let Some(who) = value["protected"].as_str() {
        line(&mut text, &format!("{address} is never dropped: it is {who}"));
    } else if value["network"].is_string() {
        let network = string(value, "network");
        let until = value["until"].as_str().unwrap_or("it is lifted by hand");
        let what = match &*string(value, "scope") {
            "sip" => "its SIP".to_owned(),
            "all" => "all of it".to_owned(),
            ports => format!("its {ports}"),
        };
        let is = match (&value["dropped"], &value["enforcing"]) {
            (dropped, _) if *dropped == true => "is",
            (_, enforcing) if *enforcing == true => "would be, but no interface is protected,",
            _ => "would be, but for the dry run,",
        };
        line(&mut text, &format!("{address} {is} dropped ({what}) until {until}"));
        line(&mut text, &format!("  ban of {network} by {}", string(value, "jail")));
        line(&mut text, &format!("  because of {}", string(value, "reason")));
        let packets = number(&value["packets"], "dropped");
        line(&mut text, &format!("  {packets} packets so far"));
    } else {
        line(&mut text, &format!("{address} is not banned"));
    }
    let bare: Vec<&str> = list(value, "unprotected").filter_map(Value::as_str).collect();
    if !bare.is_empty() {
        let bare = bare.join(", ");
        line(&mut text, &format!("UNPROTECTED: {bare}: nothing is dropped there"));
    }
    if let Some(until) = value["maintenance_until"].as_str() {
        line(&mut text, &format!("SIP is closed to it for maintenance until {until}"));
    }
    // The first of them is told above.
    let others = list(value, "bans")
        .filter(|ban| ["network", "jail", "scope"].iter().any(|key| ban[*key] != value[*key]));
    for ban in others {
        let until = ban["until"].as_str().unwrap_or("it is lifted by hand");
        let [network, jail, scope] = ["network", "jail", "scope"].map(|key| string(ban, key));
        line(&mut text, &format!("also: ban of {network} by {jail}, scope {scope}, until {until}"));
    }
    if let Some(until) = value["known_until"].as_str() {
        let passed = number(&value["packets"], "passed");
        line(&mut text, &format!("it is a known peer until {until}; {passed} packets passed"));
    }
    for jail in list(value, "ignored_by").filter_map(Value::as_str) {
        line(&mut text, &format!("{jail} ignores it (ignoreip)"));
    }
    if value["limit"].is_object() {
        let (limit, last) = (string(&value["limit"], "reason"), string(&value["limit"], "last"));
        line(&mut text, &format!("it was over a limit ({limit}), at last at {last}"));
    }
    if value["history"].is_object() {
        let history = &value["history"];
        let (bans, proven) = (number(history, "bans"), number(history, "proven"));
        let times = if bans == 1 { "once".to_owned() } else { format!("{bans} times") };
        let last = string(history, "last");
        line(
            &mut text,
            &format!("jails have banned it {times} ({proven} proven), at last at {last}"),
        );
        for by in list(history, "jails") {
            let jail = by["jail"].as_str().unwrap_or("before this was written down");
            let (bans, proven) = (number(by, "bans"), number(by, "proven"));
            line(&mut text, &format!("  {jail}: {bans} ({proven} proven)"));
        }
    }
    // Of a source that has many addresses, which of them failed.
    let addresses = list(value, "evidence").filter_map(|evidence| evidence["address"].as_str());
    let of_many = addresses.into_iter().any(|from| from != address);
    let rows: Vec<Vec<String>> = list(value, "evidence")
        .map(|evidence| {
            let account = evidence["account"].as_str().unwrap_or("-").to_owned();
            let proven = if evidence["proven"] == true { "proven" } else { "unproven" };
            let mut row: Vec<String> =
                ["time", "source", "class"].map(|k| string(evidence, k)).into();
            if of_many {
                row.push(evidence["address"].as_str().unwrap_or("-").to_owned());
            }
            row.extend([account, proven.to_owned()]);
            row
        })
        .collect();
    if !rows.is_empty() {
        let address = of_many.then_some("ADDRESS");
        let headings = ["FAILURE", "HEARD BY", "CLASS"].into_iter().chain(address);
        let headings: Vec<&str> = headings.chain(["ACCOUNT", "SOURCE"]).collect();
        text += &table(&headings, rows);
    }
    text
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "{line}");
}

fn string(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// Columns as wide as their widest cell.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        line(&mut text, cells.join("  ").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn columns_line_up() {
        let text = table(&["A", "LONG"], vec![vec!["wide cell".to_owned(), "x".to_owned()]]);
        assert_eq!(text, "A          LONG\nwide cell  x\n");
    }

    #[test]
    fn nothing_in_an_answer_panics() {
        for value in [json!({}), json!(null), json!({"bans": 7, "reasons": []})] {
            let _texts =
                [status(&value), bans(&value), jails(&value), why(&value), maintenance(&value)];
            let _text = imported(&value);
        }
    }

    #[test]
    fn an_import_says_what_is_left_to_do() {
        assert!(imported(&json!({})).contains("nothing is written"));
        let bans = json!({"entered": 2, "refused": {"known peers": 1}, "durable": true});
        let text = imported(&json!({"written": "/x.yml", "bans_handed_over": bans}));
        for expected in
            ["written to /x.yml\n2 bans", "1 not: known peers", "disable --now fail2ban"]
        {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn why_says_it_in_words() {
        let value = json!({
            "address": "192.0.2.66", "dropped": true, "network": "192.0.2.66", "scope": "sip",
            "jail": "asterisk-wazo", "reason": "15 failures within 10m", "until": null,
            "protected": null, "packets": {"dropped": 3}, "evidence": [],
        });
        let text = why(&value);
        assert!(text.starts_with("192.0.2.66 is dropped (its SIP) until it is lifted by hand\n"));
        assert!(text.contains("because of 15 failures within 10m"));
    }
}
