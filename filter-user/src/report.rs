//! What people read: the daemon's answers as text.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use crate::control::BanRow;
use crate::controller::BY_HAND;
use crate::duration;
use crate::jail::EVIDENCE_MAX;

/// How wide text is.
const WIDTH: usize = 80;

/// How wide a column with free text is at least, before it gets lines of its own.
const FREE_TEXT: usize = 16;

/// `status`.
pub fn status(value: &Value) -> String {
    let mut text = format!(
        "ringfence {}, running for {}{}\n",
        string(value, "version"),
        duration::format(Duration::from_secs(number(value, "uptime_seconds"))),
        if value["enforcing"] == true { "" } else { ", dry run: drops nothing" },
    );
    let store = &value["store"];
    if store["state"] == "failed" {
        let (path, why) = (string(store, "path"), string(store, "why"));
        let pending = count(number(store, "pending"), "change");
        line(&mut text, &format!("STORE FAILED: {path}: {why}; not written yet: {pending}"));
    }
    let missing = number(&value["log"], "lost");
    if missing > 0 {
        let lines = count(missing, "line");
        line(&mut text, &format!("LOG INCOMPLETE: {lines} lost: its reader stood still"));
    }
    if value["maintenance"]["on"] == true {
        text += &maintenance(&value["maintenance"]);
    }
    text += &interfaces(value);
    text += &reasons(value);
    let rows = list(value, "sources").map(|source| {
        let last = source["last_event"].as_str().map_or("-".to_owned(), when);
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
            &format!(
                "{} banned; {} towards more of them",
                count(banned, "network"),
                counts(offenders, "proven offender counts", "proven offenders count")
            ),
        );
    }
    let bans = &value["bans"];
    let (active, capacity) = (number(bans, "active"), number(bans, "capacity"));
    let ipv6 = number(bans, "capacity_ipv6");
    line(
        &mut text,
        &format!(
            "{} in force, room for {capacity} IPv4 and {ipv6} IPv6 addresses",
            count(active, "ban")
        ),
    );
    for name in list(value, "trusted_names") {
        line(&mut text, &format!("trusted: {}", host(name)));
    }
    let peers = &value["peers"];
    let (known, spared) = (number(peers, "known"), number(peers, "spared"));
    line(&mut text, &count(known, "known peer"));
    if spared > 0 {
        let spared = counts(spared, "failure in their names was", "failures in their names were");
        line(&mut text, &format!("{spared} not counted: anybody can make them up"));
    }
    let no_room = number(peers, "no_room");
    if no_room > 0 {
        let times = count(no_room, "time");
        line(&mut text, &format!("there was no room for another known peer: {times}"));
    }
    text
}

/// Packets by reason, and what a dry run would have dropped.
fn reasons(value: &Value) -> String {
    let mut reasons: Vec<(&String, &Value)> =
        value["reasons"].as_object().into_iter().flatten().collect();
    reasons.retain(|(_, reason)| number(reason, "packets") > 0);
    reasons.sort_by_key(|(_, reason)| std::cmp::Reverse(number(reason, "packets")));
    let rows = reasons.into_iter().map(|(name, reason)| {
        let count = |key| number(reason, key).to_string();
        vec![name.clone(), string(reason, "verdict"), count("packets"), count("bytes")]
    });
    let mut text = table(&["REASON", "VERDICT", "PACKETS", "BYTES"], rows.collect());
    if value["enforcing"] == false {
        let would: Vec<(&String, u64)> = value["would_drop"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(name, packets)| Some((name, packets.as_u64().filter(|n| *n > 0)?)))
            .collect();
        if would.is_empty() {
            line(&mut text, "dry run: nothing would have been dropped so far");
        }
        for (name, packets) in would {
            let packets = count(packets, "packet");
            line(&mut text, &format!("dry run: would have dropped {packets}: {name}"));
        }
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
            let lines = counts(
                lines,
                "line that no rule knows looks like a failure",
                "lines that no rule knows look like failures",
            );
            line(&mut text, &format!("{name}: {lines}"));
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
    let until = until(value);
    let whom = format!("to all but trusted networks{known}");
    if value["enforcing"] == false {
        return format!("dry run: SIP stays open; it would be closed {until}, {whom}\n");
    }
    format!("SIP is closed for maintenance {until}, {whom}\n")
}

/// `ban`.
pub fn banned(value: &Value) -> String {
    let mut text = format!("banned {} {}\n", string(value, "banned"), until(value));
    let replaced = &value["replaced"];
    if replaced.is_object() {
        let reason = match &*string(replaced, "reason") {
            BY_HAND => String::new(),
            reason => format!(", for: {reason}"),
        };
        let (before, scope) = (until(replaced), string(replaced, "scope"));
        let than = if value["shortened"] == true { "SHORTER than before: " } else { "" };
        line(&mut text, &format!("{than}it was banned {before}, scope {scope}{reason}"));
    }
    match number(value, "known_peers") {
        0 => {}
        1 => line(&mut text, "1 known peer is in it, most likely a phone, and is cut off"),
        n => line(
            &mut text,
            &format!("{n} known peers are in it, most likely phones, and are cut off"),
        ),
    }
    text + &dry_run(value) + &unless_durable(value)
}

/// `unban`.
pub fn lifted(value: &Value) -> String {
    let of = value["network"].as_str().map_or_else(String::new, |network| format!(" of {network}"));
    let mut text = format!("lifted {}{of}\n", count(number(value, "lifted"), "ban"));
    let inside = number(value, "inside_banned");
    if inside > 0 {
        let names: Vec<&str> = list(value, "inside").filter_map(Value::as_str).collect();
        let more = if inside > names.len() as u64 { " and others" } else { "" };
        let names = names.join(", ");
        line(
            &mut text,
            &format!("what is banned in it stays: {names}{more}; `--inside` lifts that too"),
        );
    }
    text + &unless_durable(value)
}

/// A line that says so, if nothing is dropped.
const DRY_RUN: &str = "dry run: nothing is dropped\n";

fn dry_run(value: &Value) -> String {
    if value["enforcing"] == false { DRY_RUN.to_owned() } else { String::new() }
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
    let entered = count(number(bans, "entered"), "ban");
    line(&mut text, &format!("handed over to the daemon: {entered}"));
    for (why, refused) in bans["refused"].as_object().into_iter().flatten() {
        line(&mut text, &format!("  not handed over: {refused}, {why}"));
    }
    if bans["durable"] == false {
        line(&mut text, "  they are not written down yet: the store failed");
    }
    text += &dry_run(bans);
    text += "then, as fail2ban itself goes on unchanged:\n";
    for command in ["systemctl restart ringfence", "systemctl disable --now fail2ban"] {
        line(&mut text, &format!("  {command}"));
    }
    if bans["refused"].as_object().is_some_and(|refused| !refused.is_empty()) {
        text +=
            "bans of jails that are new come with the same command once more, after the restart\n";
    }
    text
}

/// `bans`, the first of them or more.
pub fn bans(rows: &[BanRow], enforcing: bool, is_first: bool) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|ban| {
            let reason = match &ban.except[..] {
                [] => ban.reason.clone(),
                except => format!("{}; except {}", ban.reason, except.join(", ")),
            };
            let end = ban.until.as_deref();
            vec![
                ban.network.clone(),
                ban.jail.clone(),
                ban.scope.clone(),
                end.map_or("no end".to_owned(), when),
                end.map_or("-".to_owned(), left),
                ban.packets.to_string(),
                reason,
            ]
        })
        .collect();
    let dry_run = if is_first && !enforcing { DRY_RUN } else { "" };
    if rows.is_empty() {
        return if is_first { format!("{dry_run}nobody is banned\n") } else { String::new() };
    }
    let table = table(&["NETWORK", "JAIL", "SCOPE", "UNTIL", "LEFT", "PACKETS", "REASON"], rows);
    match table.split_once('\n') {
        Some((_head, rest)) if !is_first => rest.to_owned(),
        _ => format!("{dry_run}{table}"),
    }
}

/// `jails`.
pub fn jails(value: &Value) -> String {
    let rows = list(value, "jails").map(|jail| {
        let accounts = number(jail, "maxaccounts");
        let mut row = vec![string(jail, "name")];
        row.push(if jail["enabled"] == true { "yes".to_owned() } else { "no".to_owned() });
        row.push(format!("{} in {}", number(jail, "maxretry"), string(jail, "findtime")));
        row.push(if accounts == 0 { "-".to_owned() } else { accounts.to_string() });
        row.extend(["bantime", "scope"].map(|key| string(jail, key)));
        row.extend(["watched", "banned"].map(|key| number(jail, key).to_string()));
        row
    });
    let head = ["JAIL", "ON", "FAILURES", "ACCOUNTS", "BANTIME", "SCOPE", "WATCHED", "BANNED"];
    let mut text = dry_run(value) + &table(&head, rows.collect());
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
            let account = string(attacked, "account");
            let last = attacked["last"].as_str().map_or_else(String::new, when);
            let [failures, sources] = ["failures", "sources"].map(|key| number(attacked, key));
            let name = string(jail, "name");
            line(
                &mut text,
                &format!(
                    "{name}: the account {account} is guessed at: {} from {}, the last one at {last}",
                    count(failures, "failure"),
                    count(sources, "source")
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
    let why = value["why"].as_str();
    let addresses = match (&addresses[..], string(value, "state").as_str(), why) {
        ([], "waiting", _) => "not looked up yet".to_owned(),
        ([], _, Some(why)) => return format!("{name}: {why}"),
        ([], _, None) => "no address".to_owned(),
        (some, ..) => some.join(", "),
    };
    let why = why.map_or_else(String::new, |why| format!(" ({why})"));
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
        let what = match &*string(value, "scope") {
            "sip" => "its SIP".to_owned(),
            "all" => "all of it".to_owned(),
            ports => format!("its {ports}"),
        };
        let until = until(value);
        let is = if value["enforcing"] == false {
            format!("{address} is not dropped, as this is a dry run; it would be ({what}) {until}")
        } else if value["dropped"] == false {
            format!("{address} would be dropped ({what}) {until}, but no interface is protected")
        } else {
            format!("{address} is dropped ({what}) {until}")
        };
        line(&mut text, &is);
        line(&mut text, &format!("  {}", decided(value)));
        let reason = string(value, "reason");
        if reason != BY_HAND {
            line(&mut text, &format!("  reason: {reason}"));
        }
        let packets = count(number(&value["packets"], "dropped"), "packet");
        line(&mut text, &format!("  {packets} so far"));
    } else {
        line(&mut text, &format!("{address} is not banned"));
    }
    let bare: Vec<&str> = list(value, "unprotected").filter_map(Value::as_str).collect();
    if !bare.is_empty() {
        let bare = bare.join(", ");
        line(&mut text, &format!("UNPROTECTED: {bare}: nothing is dropped there"));
    }
    if value["maintenance_until"].is_string() {
        let until = value["maintenance_until"].as_str().map_or_else(String::new, when);
        line(&mut text, &format!("SIP is closed to it for maintenance until {until}"));
    }
    // The first of them is told above.
    let others = list(value, "bans")
        .filter(|ban| ["network", "jail", "scope"].iter().any(|key| ban[*key] != value[*key]));
    for ban in others {
        let (decided, scope, until) = (decided(ban), string(ban, "scope"), until(ban));
        line(&mut text, &format!("also: {decided}, scope {scope}, {until}"));
    }
    text += &why_not(value);
    if let Some(until) = value["known_until"].as_str() {
        let (until, passed) = (when(until), count(number(&value["packets"], "passed"), "packet"));
        line(&mut text, &format!("it is a known peer until {until}; {passed} passed"));
    }
    for jail in list(value, "ignored_by").filter_map(Value::as_str) {
        line(&mut text, &format!("{jail} ignores it (ignoreip)"));
    }
    let limit = &value["limit"];
    if limit.is_object() {
        let last = limit["last"].as_str().map_or_else(String::new, when);
        let reason = string(limit, "reason");
        let what = match (limit["setting"].as_str(), limit["value"].as_str()) {
            (Some(setting), Some(value)) => format!("it was over the limit `{setting}` ({value})"),
            _ if reason == "signature" => {
                "it named the User-Agent of a scanner (`signatures.user_agents`)".to_owned()
            }
            _ => format!("it was over a limit ({reason})"),
        };
        line(&mut text, &format!("{what}, last at {last}"));
    }
    text + &history(value) + &evidence(value)
}

/// Who has decided a ban, and of what it is.
fn decided(ban: &Value) -> String {
    let network = string(ban, "network");
    match &*string(ban, "jail") {
        "manual" => format!("ban of {network} by hand"),
        jail => format!("ban of {network} by {jail}"),
    }
}

/// What keeps an address from being banned.
fn why_not(value: &Value) -> String {
    let mut text = String::new();
    for near in list(value, "near") {
        let [points, maxretry, failures] =
            ["points", "maxretry", "failures"].map(|key| number(near, key));
        let (jail, within) = (string(near, "jail"), string(near, "findtime"));
        let weighed = if points == failures {
            String::new()
        } else {
            format!(" ({})", count(failures, "failure"))
        };
        let accounts = match ["accounts", "maxaccounts"].map(|key| number(near, key)) {
            [_, 0] | [0, _] => String::new(),
            [accounts, most] => format!(", {accounts} of {most} accounts"),
        };
        line(
            &mut text,
            &format!("{jail}: {points} of {maxretry} within {within}{weighed}{accounts}"),
        );
    }
    let not = &value["not_counted"];
    if not.is_object() {
        let last = not["last"].as_str().map_or_else(String::new, when);
        line(&mut text, &format!("failures of it that did not count, the last one at {last}:"));
        for (key, why) in [
            (
                "unwitnessed",
                "unwitnessed: no packet of it to a SIP port was seen, so somebody else may \
              have written them",
            ),
            ("known", "spared: it was a known peer, and anybody can fail in its name"),
            (
                "unproven",
                "unproven: their source can be forged, and the jail's `unproven_scope` is `none`",
            ),
        ] {
            let failures = number(not, key);
            if failures > 0 {
                line(&mut text, &format!("  {failures} {why}"));
            }
        }
    }
    let nothing = |key: &str| list(value, key).next().is_none();
    if text.is_empty()
        && ["bans", "evidence", "near", "ignored_by"].into_iter().all(nothing)
        && value["protected"].is_null()
        && value["limit"].is_null()
    {
        line(
            &mut text,
            "no jail has a failure of it on record: `ringfence status` says what is heard",
        );
    }
    text
}

/// The bans that there were.
fn history(value: &Value) -> String {
    let mut text = String::new();
    let history = &value["history"];
    if history.is_object() {
        let (bans, proven) = (number(history, "bans"), number(history, "proven"));
        let last = history["last"].as_str().map_or_else(String::new, when);
        let bans = count(bans, "ban");
        line(
            &mut text,
            &format!("{bans} by jails so far ({proven} proven), the last one at {last}"),
        );
        for by in list(history, "jails") {
            let jail = by["jail"].as_str().unwrap_or("before this was written down");
            let (bans, proven) = (number(by, "bans"), number(by, "proven"));
            line(&mut text, &format!("  {jail}: {bans} ({proven} proven)"));
        }
    }
    text
}

/// The failures behind bans, and those that count towards one.
fn evidence(value: &Value) -> String {
    // Of a source that has many addresses, which of them failed.
    let address = string(value, "address");
    let addresses = list(value, "evidence").filter_map(|evidence| evidence["address"].as_str());
    let of_many = addresses.into_iter().any(|from| from != address);
    let rows: Vec<Vec<String>> = list(value, "evidence")
        .map(|evidence| {
            let account = evidence["account"].as_str().unwrap_or("-").to_owned();
            let proven = if evidence["proven"] == true { "proven" } else { "unproven" };
            let time = evidence["time"].as_str().map_or_else(String::new, when_exactly);
            let class = match &*string(evidence, "class") {
                "ban" => "a ban, for recidive".to_owned(),
                class => class.to_owned(),
            };
            let mut row = vec![time, string(evidence, "source"), class];
            if of_many {
                row.push(evidence["address"].as_str().unwrap_or("-").to_owned());
            }
            row.extend([proven.to_owned(), account]);
            row
        })
        .collect();
    if rows.is_empty() {
        return String::new();
    }
    let heading = format!("failures on record (of each ban and jail the last {EVIDENCE_MAX}):\n");
    let address = of_many.then_some("ADDRESS");
    let headings = ["TIME", "HEARD BY", "CLASS"].into_iter().chain(address);
    let headings: Vec<&str> = headings.chain(["SOURCE", "ACCOUNT"]).collect();
    heading + &table(&headings, rows)
}

/// A time of an answer on the clock on the wall here: `19:42`, or with its day if that is another.
fn when(time: &str) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return time.to_owned() };
    shown(time, Timestamp::now(), &TimeZone::system(), "%H:%M")
}

/// The same with seconds.
fn when_exactly(time: &str) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return time.to_owned() };
    shown(time, Timestamp::now(), &TimeZone::system(), "%H:%M:%S")
}

fn shown(time: Timestamp, now: Timestamp, zone: &TimeZone, clock: &str) -> String {
    let (time, now) = (time.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let day = if time.date() == now.date() {
        ""
    } else if time.year() == now.year() {
        "%d %b "
    } else {
        return time.strftime("%Y-%m-%d").to_string();
    };
    time.strftime(&format!("{day}{clock}")).to_string()
}

/// How long it is until a time of an answer.
fn left(time: &str) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return time.to_owned() };
    let seconds = time.as_second().saturating_sub(Timestamp::now().as_second());
    roughly(u64::try_from(seconds).unwrap_or(0))
}

/// A time in one unit, or two that are next to each other: `42m`, `3h10m`, `6d`.
fn roughly(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, 0) => format!("{hours}h"),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (1..=9, hours @ 1.., _) => format!("{days}d{hours}h"),
        (days, _, _) => format!("{days}d"),
    }
}

/// When something ends: `until 19:42 (42m left)`, or that it does not.
fn until(value: &Value) -> String {
    match value["until"].as_str() {
        Some(until) => format!("until {} ({} left)", when(until), left(until)),
        None => "until it is lifted".to_owned(),
    }
}

/// So many of something: `1 ban`, `2 bans`.
pub(crate) fn count(number: impl TryInto<u64>, what: &str) -> String {
    counts(number.try_into().unwrap_or(u64::MAX), what, &format!("{what}s"))
}

fn counts(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "{line}");
}

pub(crate) fn string(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_default().to_owned()
}

pub(crate) fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_default()
}

pub(crate) fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

/// Columns as wide as their widest cell, in lines of [`WIDTH`]. What does not fit into them has lines of
/// its own: a long first cell the one before, a long last one those after.
fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let length = |cell: &String| cell.chars().count();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(length).max();
    let mut widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let (Some(first), Some((last, others))) = (widths.first().copied(), widths.split_last()) else {
        return String::new();
    };
    // Of a last column that is free text, as much as is left.
    let title = rows.first().and_then(|head| head.last()).map_or(0, length);
    let between = others.iter().sum::<usize>() + 2 * others.len();
    let room = WIDTH.saturating_sub(between);
    let last = *last;
    if last > room && first > 15 {
        // The others must not be as far apart as one long network wants.
        let wanted = last.min(FREE_TEXT).max(title);
        let narrowest = rows.first().and_then(|head| head.first()).map_or(0, length).max(15);
        let spare = wanted.saturating_sub(room);
        if let Some(first) = widths.first_mut() {
            *first = first.saturating_sub(spare).max(narrowest);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut shown = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let (length, is_last) = (cell.chars().count(), column + 1 == columns);
            if column == 0 && length > *width {
                line(&mut text, cell);
                shown = " ".repeat(*width);
            } else if is_last {
                let at = shown.chars().count() + 2;
                if at + length <= WIDTH || length == 0 {
                    shown = format!("{shown}  {cell}");
                } else {
                    line(&mut text, shown.trim_end());
                    shown = wrapped(cell);
                }
            } else {
                let gap = if column == 0 { "" } else { "  " };
                shown = format!("{shown}{gap}{cell:<width$}");
            }
        }
        line(&mut text, shown.trim_end());
    }
    text
}

/// Text in lines, indented.
fn wrapped(text: &str) -> String {
    const INDENT: &str = "    ";
    let mut lines = vec![INDENT.to_owned()];
    for word in text.split(' ') {
        let length = |line: &str| line.chars().count();
        let is_full =
            |line: &String| length(line) > INDENT.len() && length(line) + 1 + length(word) > WIDTH;
        if lines.last().is_some_and(is_full) {
            lines.push(INDENT.to_owned());
        }
        if let Some(last) = lines.last_mut() {
            if length(last) > INDENT.len() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines.join("\n")
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
            let _texts = [status(&value), jails(&value), why(&value), maintenance(&value)];
            let _text = imported(&value);
        }
    }

    #[test]
    fn an_import_says_what_is_left_to_do() {
        assert!(imported(&json!({})).contains("nothing is written"));
        let bans = json!({"entered": 2, "refused": {"known peers": 1}, "durable": true});
        let text = imported(&json!({"written": "/x.yml", "bans_handed_over": bans}));
        for expected in
            ["written to /x.yml\n", "daemon: 2 bans", "1, known peers", "disable --now fail2ban"]
        {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn why_says_it_in_words() {
        let value = json!({
            "address": "192.0.2.66", "dropped": true, "enforcing": true, "network": "192.0.2.66",
            "scope": "sip", "jail": "asterisk-wazo", "reason": "15 failures within 10m", "until": null,
            "protected": null, "packets": {"dropped": 1}, "evidence": [],
        });
        let text = why(&value);
        assert!(text.starts_with("192.0.2.66 is dropped (its SIP) until it is lifted\n"), "{text}");
        assert!(text.contains("reason: 15 failures within 10m\n  1 packet so far"), "{text}");
        let mut dry = value.clone();
        dry["enforcing"] = false.into();
        assert!(why(&dry).starts_with("192.0.2.66 is not dropped, as this is a dry run"));
        let mut by_hand = value;
        (by_hand["jail"], by_hand["reason"]) = ("manual".into(), BY_HAND.into());
        let text = why(&by_hand);
        assert!(text.contains("ban of 192.0.2.66 by hand\n") && !text.contains("reason"), "{text}");
    }

    #[test]
    fn why_says_why_somebody_is_not_banned() {
        let near = |points: u64, failures: u64| {
            json!({"jail": "asterisk-wazo", "failures": failures, "points": points, "maxretry": 15,
                "accounts": 2, "maxaccounts": 10, "findtime": "10m"})
        };
        let of = |mut more: Value| {
            more["address"] = "192.0.2.66".into();
            why(&more)
        };
        let text = of(json!({"near": [near(5, 5)]}));
        assert!(text.contains("asterisk-wazo: 5 of 15 within 10m, 2 of 10 accounts\n"), "{text}");
        let text = of(json!({"near": [near(9, 3)]}));
        assert!(text.contains("asterisk-wazo: 9 of 15 within 10m (3 failures), 2"), "{text}");
        let counts =
            json!({"unwitnessed": 15, "known": 0, "unproven": 2, "last": "2026-01-02T00:00:00Z"});
        let text = of(json!({ "not_counted": counts }));
        assert!(
            text.contains("\n  15 unwitnessed: ") && text.contains("\n  2 unproven: "),
            "{text}"
        );
        assert!(!text.contains("spared"), "{text}");
        let limit = json!({"reason": "invite-limit", "setting": "limits.invite", "value": "10/s, burst 100"});
        let text = of(json!({ "limit": limit }));
        assert!(text.contains("over the limit `limits.invite` (10/s, burst 100)"), "{text}");
        assert!(of(json!({})).contains("no jail has a failure of it on record"));
    }

    #[test]
    fn a_ban_that_is_shorter_than_before_says_so() {
        let replaced = json!({"until": null, "scope": "all", "reason": "abuse ticket 4711"});
        let value = json!({"banned": "192.0.2.66", "until": "2026-01-02T00:00:00Z", "enforcing": false,
            "replaced": replaced, "shortened": true, "known_peers": 3});
        let text = banned(&value);
        for expected in [
            "SHORTER than before: it was banned until it is lifted, scope all, for: abuse ticket 4711\n",
            "3 known peers are in it",
            "dry run: nothing is dropped\n",
        ] {
            assert!(text.contains(expected), "{text}");
        }
    }

    #[test]
    fn what_a_dry_run_does_not_do_is_said_everywhere() {
        let value = json!({"enforcing": false, "on": true, "until": "2026-01-02T00:00:00Z"});
        for text in [status, jails, banned, maintenance] {
            let text = text(&value);
            assert!(text.contains("dry run"), "{text}");
        }
        assert!(bans(&[], false, true).contains("dry run"));
    }

    #[test]
    fn lists_fit_the_screen_and_leave_nothing_out() {
        let long = "2001:db8:1234:5678:9abc:def0:1234:5678";
        let reason = "15 failures that count 45 on 12 accounts within 10m, the last one unknown-account; 2nd ban";
        for network in ["192.0.2.7", "198.51.100.0/24", "2001:db8:1234:5678::/64", long] {
            for jail in ["sshd", "asterisk-wazo", "a-jail-of-the-longest-name-there", "manual"] {
                let ban = BanRow {
                    network: network.to_owned(),
                    except: vec!["192.0.2.9".to_owned()],
                    jail: jail.to_owned(),
                    scope: "provisioning".to_owned(),
                    since: String::new(),
                    since_ms: 0,
                    until: Some("2031-01-02T00:00:00Z".to_owned()),
                    packets: 4_000_000,
                    reason: reason.to_owned(),
                };
                let other = BanRow {
                    network: "192.0.2.1".to_owned(),
                    jail: "sshd".to_owned(),
                    scope: "ssh".to_owned(),
                    ..ban.clone()
                };
                let text = bans(&[ban, other], true, true);
                let width = text.lines().map(|line| line.chars().count()).max();
                assert!(
                    width <= Some(if jail.len() > 20 { 100 } else { WIDTH }),
                    "{width:?}\n{text}"
                );
                let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
                for expected in [network, jail, reason, "except 192.0.2.9"] {
                    assert!(words.contains(expected), "{expected}\n{text}");
                }
            }
        }
    }

    #[test]
    fn times_are_those_of_the_place() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let now: Timestamp = "2026-11-28T18:00:00Z".parse().unwrap();
        for (time, expected) in [
            ("2026-11-28T19:42:31Z", "21:42"),
            ("2026-11-28T22:10:00Z", "29 Nov 00:10"),
            ("2027-01-02T00:00:00Z", "2027-01-02"),
        ] {
            assert_eq!(shown(time.parse().unwrap(), now, &zone, "%H:%M"), expected);
        }
        for (seconds, expected) in [
            (0, "0s"),
            (59, "59s"),
            (2530, "42m"),
            (7200, "2h"),
            (7900, "2h11m"),
            (90_000, "1d1h"),
            (864_000, "10d"),
        ] {
            assert_eq!(roughly(seconds), expected);
        }
        assert_eq!(
            (count(1_u64, "ban"), count(0_u64, "ban")),
            ("1 ban".to_owned(), "0 bans".to_owned())
        );
    }
}
