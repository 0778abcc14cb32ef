//! The daemon's replies as text for people.

mod status;
mod text;
mod why;

use std::path::Path;
use std::time::Duration;

use api::{
    Attacked, BanRow, Banned, ChangedSetting, Confirmed, Durability, JailReport, Jails, Lifted,
    MaintenanceState, NO_REASON, NamedHost, Reloaded, Replaced, State, TakenOver, Tuned,
};

pub use self::status::status;
pub(crate) use self::text::{
    count, left, line, place, roughly, shown as shown_time, shown_text, table, when, when_exactly,
};
use self::text::{counts, until};
pub(crate) use self::why::sentences;
pub use self::why::why;
use crate::disable::Disabled;
use crate::duration;
use crate::orders::Outcome;

/// `maintenance`.
pub fn maintenance(state: &MaintenanceState) -> String {
    if !state.on {
        return "SIP is open: there is no maintenance\n".to_owned();
    }
    let known = if state.closed_to_known { "" } else { " and known peers" };
    let until = until(state.until.as_deref());
    let whom = format!("except to trusted networks{known}");
    if !state.enforcing {
        return format!("dry run: SIP stays open; it would be closed {until}, {whom}\n");
    }
    let by = match state.comment.as_deref() {
        Some(comment) if state.by_fleet && !comment.is_empty() => {
            format!(", by the fleet: {}", shown_text(comment))
        }
        _ if state.by_fleet => ", by the fleet".to_owned(),
        _ => String::new(),
    };
    format!("SIP is closed for maintenance {until}, {whom}{by}\n")
}

/// `reload`.
pub fn reloaded(reloaded: &Reloaded) -> String {
    let Reloaded { applied, changes, objections, confirm_within_seconds } = reloaded;
    let mut text = match (changes.is_empty(), *applied) {
        (true, _) => "the configuration has not changed\n".to_owned(),
        (false, true) => format!("{} changed:\n", count(changes.len(), "setting")),
        (false, false) => format!("{} would change:\n", count(changes.len(), "setting")),
    };
    for one in changes {
        line(&mut text, &format!("  {}", change(one)));
        if one.needs_restart {
            line(&mut text, "    after `systemctl restart ringfence`");
        }
    }
    for objection in objections {
        let force = if *applied { "" } else { "; this needs `--force`" };
        line(&mut text, &format!("{objection}{force}"));
    }
    if let Some(seconds) = confirm_within_seconds {
        let time = duration::format(Duration::from_secs(*seconds));
        let then = "the services that `exposure` closes open again";
        line(&mut text, &format!("type `ringfence confirm` within {time} of a reload, or {then}"));
    }
    text
}

/// A change as one line: `trusted: [] -> [192.0.2.0/24]`.
pub fn change(ChangedSetting { setting, old, new, .. }: &ChangedSetting) -> String {
    let show = |value: &Option<String>| value.clone().unwrap_or_else(|| "unset".to_owned());
    format!("{setting}: {} -> {}", show(old), show(new))
}

/// `ban`.
pub fn banned(ban: &Banned) -> String {
    let mut text = format!("banned {} {}\n", ban.banned, until(ban.until.as_deref()));
    if let Some(Replaced { until: end, scope, reason }) = &ban.replaced {
        let reason = match &**reason {
            NO_REASON => String::new(),
            reason => format!(", for: {}", shown_text(reason)),
        };
        let before = until(end.as_deref());
        let than = if ban.shortened { "SHORTER than before: " } else { "" };
        line(&mut text, &format!("{than}it was banned {before}, scope {scope}{reason}"));
    }
    match ban.known_peers {
        0 => {}
        1 => line(&mut text, "1 known peer in it, probably a phone, is cut off"),
        n => line(&mut text, &format!("{n} known peers in it, probably phones, are cut off")),
    }
    text + dry_run(ban.enforcing) + &unless_durable(&ban.durability)
}

/// `unban`.
pub fn lifted(bans: &Lifted) -> String {
    let of = bans.network.as_ref().map_or_else(String::new, |network| format!(" of {network}"));
    let mut text = format!("lifted {}{of}\n", count(bans.lifted, "ban"));
    if bans.inside_banned > 0 {
        let more = if bans.inside_banned > bans.inside.len() as u64 { " and others" } else { "" };
        let names = bans.inside.join(", ");
        line(
            &mut text,
            &format!("these bans inside it remain: {names}{more}; `--inside` lifts them too"),
        );
    }
    text + &unless_durable(&bans.durability)
}

/// `ban` or `unban` of several addresses; `verb` is `made` or `lifted`.
pub fn carried_out(verb: &str, outcome: &Outcome) -> String {
    let Outcome { done, ended, refused_count, known_peers, enforcing, durability, .. } = outcome;
    let mut text = String::new();
    line(&mut text, &format!("{verb} {}", count(*done, "ban")));
    if *ended > 0 {
        line(&mut text, &format!("left out {} that had ended", count(*ended, "ban")));
    }
    if *refused_count > 0 {
        line(&mut text, &format!("refused: {refused_count}; standard error has the reasons"));
    }
    if *known_peers > 0 {
        let peers = counts(*known_peers, "known peer is", "known peers are");
        line(&mut text, &format!("{peers} in it, probably phones, cut off"));
    }
    let durable = if *done > 0 { unless_durable(durability) } else { String::new() };
    text + dry_run(*enforcing) + &durable
}

/// `confirm`.
pub fn confirmed(done: &Confirmed) -> String {
    if done.was_awaited {
        "confirmed: bans and limits stay enforced\n"
    } else {
        "there was nothing to confirm\n"
    }
    .to_owned()
}

/// `panic`.
pub fn disabled(done: &Disabled) -> String {
    let Disabled { disabled, has_filter, file } = done;
    let file = file.display();
    match (disabled, has_filter) {
        (true, true) => format!(
            "every packet passes until `ringfence panic --off`\n({file} keeps it so after \
            restarts)\n"
        ),
        (true, false) => format!(
            "there is no filter, so every packet passes; {file} keeps it so when the daemon \
             starts\n"
        ),
        (false, true) => "bans and limits are enforced again\n".to_owned(),
        (false, false) => {
            "there is no filter; bans and limits are enforced when the daemon starts\n".to_owned()
        }
    }
}

const DRY_RUN: &str = "dry run or disabled: nothing is dropped\n";

fn dry_run(enforcing: bool) -> &'static str {
    if enforcing { "" } else { DRY_RUN }
}

/// The note of `ban` and `unban` if a reboot would undo the change; otherwise empty.
pub(crate) fn unless_durable(durability: &Durability) -> String {
    if durability.durable {
        return String::new();
    }
    let why = durability.why.as_deref().unwrap_or_default();
    format!("it is not stored yet: the store failed: {why}\n")
}

/// The end of `import fail2ban`: the results and the next steps. `written` is the file of the settings
/// and the result of importing the bans; `None` in a dry run.
pub fn imported(written: Option<(&Path, &TakenOver)>) -> String {
    let Some((target, bans)) = written else {
        return "dry run: nothing is written, and no ban is imported\n".to_owned();
    };
    let mut text = format!("written to {}\n", target.display());
    line(&mut text, &format!("imported by the daemon: {}", count(bans.entered, "ban")));
    for (why, refused) in &bans.refused {
        line(&mut text, &format!("  not imported: {refused}, {why}"));
    }
    if !bans.durability.durable {
        line(&mut text, "  they are not stored yet: the store failed");
    }
    text += dry_run(bans.enforcing);
    text += "fail2ban itself is unchanged; next, type:\n";
    for command in ["systemctl restart ringfence", "systemctl disable --now fail2ban"] {
        line(&mut text, &format!("  {command}"));
    }
    if !bans.refused.is_empty() {
        text += "run the import again after the restart for the bans of new jails\n";
    }
    text
}

/// `bans`, from the first ban or continued.
pub fn bans(rows: &[BanRow], enforcing: bool, is_first: bool) -> String {
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|ban| {
            let mut reason = match &ban.except[..] {
                [] => shown_text(&ban.reason),
                except => format!("{}; except {}", shown_text(&ban.reason), except.join(", ")),
            };
            if let Some(place) = place(ban.country.as_deref(), ban.asn) {
                reason = format!("{reason}; {place}");
            }
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
        return if is_first { format!("{dry_run}no bans are in force\n") } else { String::new() };
    }
    let table = table(&["NETWORK", "JAIL", "SCOPE", "UNTIL", "LEFT", "PACKETS", "REASON"], rows);
    match table.split_once('\n') {
        Some((_head, rest)) if !is_first => rest.to_owned(),
        _ => format!("{dry_run}{table}"),
    }
}

/// `jails`.
pub fn jails(Jails { jails, enforcing }: &Jails) -> String {
    let rows = jails.iter().map(|jail| {
        let accounts = match jail.maxaccounts {
            0 => "-".to_owned(),
            accounts => accounts.to_string(),
        };
        vec![
            jail.name.clone(),
            if jail.enabled { "yes" } else { "no" }.to_owned(),
            format!("{} in {}", jail.maxretry, jail.findtime),
            accounts,
            jail.bantime.clone(),
            jail.scope.clone(),
            jail.watched.to_string(),
            jail.banned.to_string(),
        ]
    });
    let head = ["JAIL", "ON", "FAILURES", "ACCOUNTS", "BANTIME", "SCOPE", "WATCHED", "BANNED"];
    let mut text = dry_run(*enforcing).to_owned() + &table(&head, rows.collect());
    for JailReport { name, ignored_names, .. } in jails {
        for ignored in ignored_names {
            line(&mut text, &format!("{name} ignores {}", host(ignored)));
        }
    }
    for JailReport { name, tuned, .. } in jails {
        for Tuned { setting, value, configured, since, by } in tuned {
            let (setting, since) = (setting.as_str(), when(since));
            line(
                &mut text,
                &format!(
                    "{name}: {setting} is set to {value}; the configured value is {configured}"
                ),
            );
            line(&mut text, &format!("    since {since}, by {}", shown_text(by)));
        }
    }
    for JailReport { name, weights, attacked, .. } in jails {
        let unequal: Vec<String> = weights
            .iter()
            .flatten()
            .filter(|(_, weight)| **weight != 1)
            .map(|(class, weight)| format!("{class} {weight}"))
            .collect();
        if !unequal.is_empty() {
            line(&mut text, &format!("{name}: a failure counts 1, but {}", unequal.join(", ")));
        }
        for Attacked { account, failures, sources, last } in attacked {
            let (failures, sources) = (count(*failures, "failure"), count(*sources, "source"));
            let last = when(last);
            line(
                &mut text,
                &format!(
                    "{name}: the account {account} is guessed at: {failures} from {sources}, the last one at {last}"
                ),
            );
        }
    }
    text
}

/// A configured host name and its addresses.
fn host(host: &NamedHost) -> String {
    let NamedHost { name, addresses, state, why, left_out } = host;
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let addresses = match (&addresses[..], state, why) {
        ([], State::Waiting, _) => "not looked up yet".to_owned(),
        ([], _, Some(why)) => return format!("{name}: {why}"),
        ([], _, None) => "no address".to_owned(),
        (some, ..) => some.join(", "),
    };
    let why = why.as_ref().map_or_else(String::new, |why| format!(" ({why})"));
    let more = match left_out {
        0 => String::new(),
        more => format!("; {more} more are left out"),
    };
    format!("{name}: {addresses}{more}{why}")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use api::{Limit, Near, NotCounted, Why};
    use jiff::Timestamp;
    use jiff::tz::TimeZone;

    use super::text::{WIDTH, roughly, shown};
    use super::*;
    use crate::examples::{self, banned_why, healthy, replacing, unknown_why};

    #[test]
    fn columns_line_up() {
        let text = table(&["A", "LONG"], vec![vec!["wide cell".to_owned(), "x".to_owned()]]);
        assert_eq!(text, "A          LONG\nwide cell  x\n");
    }

    #[test]
    fn an_import_says_what_is_left_to_do() {
        assert!(imported(None).contains("nothing is written"));
        let bans = TakenOver {
            entered: 2,
            refused: BTreeMap::from([("known peers".to_owned(), 1)]),
            enforcing: true,
            durability: Durability { durable: true, why: None },
        };
        let text = imported(Some((Path::new("/x.yml"), &bans)));
        for expected in
            ["written to /x.yml\n", "daemon: 2 bans", "1, known peers", "disable --now fail2ban"]
        {
            assert!(text.contains(expected), "{text}");
        }
        assert!(!text.contains("not stored"), "{text}");
    }

    #[test]
    fn why_says_it_in_words() {
        let mut banned = banned_why();
        (banned.until, banned.reason) = (None, Some("15 failures within 10m".to_owned()));
        banned.packets.dropped = 1;
        let text = why(&banned);
        assert!(
            text.starts_with("203.0.113.7 is dropped (its SIP) until it is lifted\n"),
            "{text}"
        );
        assert!(text.contains("reason: 15 failures within 10m\n  1 packet so far"), "{text}");
        let dry = Why { enforcing: false, ..banned.clone() };
        assert!(why(&dry).starts_with("203.0.113.7 is not dropped, because this is a dry run"));
        let [jail, reason] = ["manual", NO_REASON].map(|text| Some(text.to_owned()));
        let text = why(&Why { jail, reason, ..banned });
        assert!(text.contains("manual ban of 203.0.113.7\n") && !text.contains("reason"), "{text}");
    }

    #[test]
    fn why_says_why_somebody_is_not_banned() {
        let near = |points, failures| Near {
            jail: "asterisk-wazo".to_owned(),
            failures,
            points,
            maxretry: 15,
            accounts: 2,
            maxaccounts: 10,
            findtime: "10m".to_owned(),
        };
        let text = why(&Why { near: vec![near(5, 5)], ..unknown_why() });
        assert!(text.contains("asterisk-wazo: 5 of 15 within 10m, 2 of 10 accounts\n"), "{text}");
        let text = why(&Why { near: vec![near(9, 3)], ..unknown_why() });
        assert!(text.contains("asterisk-wazo: 9 of 15 within 10m (3 failures), 2"), "{text}");
        let last = "2026-01-02T00:00:00Z".to_owned();
        let counts = NotCounted { unwitnessed: 15, known: 0, unproven: 2, last: last.clone() };
        let text = why(&Why { not_counted: Some(counts), ..unknown_why() });
        assert!(
            text.contains("\n  15 unwitnessed: ") && text.contains("\n  2 unproven: "),
            "{text}"
        );
        assert!(!text.contains("spared"), "{text}");
        let limit = Limit {
            reason: "invite-limit".to_owned(),
            setting: Some("limits.invite".to_owned()),
            value: Some("10/s, burst 100".to_owned()),
            last,
        };
        let text = why(&Why { limit: Some(limit), ..unknown_why() });
        assert!(text.contains("over the limit `limits.invite` (10/s, burst 100)"), "{text}");
        assert!(why(&unknown_why()).contains("no jail has recorded a failure of it"));
    }

    #[test]
    fn a_ban_that_is_shorter_than_before_says_so() {
        let mut ban = replacing();
        (ban.enforcing, ban.known_peers) = (false, 3);
        let text = banned(&ban);
        for expected in [
            "SHORTER than before: it was banned until it is lifted, scope sip, for: abuse ticket 4711\n",
            "3 known peers in it",
            "dry run or disabled: nothing is dropped\n",
        ] {
            assert!(text.contains(expected), "{text}");
        }
        assert!(!text.contains("not stored"), "{text}");
        ban.durability = Durability { durable: false, why: Some("disk is full".to_owned()) };
        assert!(banned(&ban).contains("not stored yet: the store failed: disk is full\n"));
    }

    #[test]
    fn what_a_dry_run_does_not_do_is_said_everywhere() {
        let mut of_status = healthy();
        of_status.enforcing = false;
        let mut of_jails = examples::jails();
        of_jails.enforcing = false;
        let of_ban = Banned { enforcing: false, ..replacing() };
        let until = Some("2026-01-02T00:00:00Z".to_owned());
        let closed = MaintenanceState {
            on: true,
            enforcing: false,
            until,
            closed_to_known: false,
            by_fleet: false,
            comment: None,
        };
        let texts = [status(&of_status), jails(&of_jails), banned(&of_ban), maintenance(&closed)];
        for text in texts {
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
                    kind: api::BanKind::Ban,
                    proven: true,
                    since: String::new(),
                    since_ms: 0,
                    until: Some("2031-01-02T00:00:00Z".to_owned()),
                    packets: 4_000_000,
                    reason: reason.to_owned(),
                    country: Some("RU".to_owned()),
                    asn: Some(64_500),
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
                for expected in [network, jail, reason, "except 192.0.2.9; RU AS64500"] {
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
