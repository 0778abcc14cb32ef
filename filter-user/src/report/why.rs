//! What is known about an address, as text.

use api::{
    BanOf, Evidence, History, JailHistory, Limit, Located, NO_REASON, Near, NotCounted, Prevented,
    Why, Wire,
};

use super::text::{count, line, shown_text, table, until, when, when_exactly};
use crate::jail::EVIDENCE_MAX;

/// `why`.
pub fn why(why: &Why) -> String {
    sentences(why) + &evidence(why)
}

/// The same without the failures on record: a line for each sentence, the details of one indented.
pub(crate) fn sentences(why: &Why) -> String {
    let mut text = verdict(why);
    if !why.unprotected.is_empty() {
        let bare = why.unprotected.join(", ");
        line(&mut text, &format!("UNPROTECTED: {bare}: nothing is dropped there"));
    }
    if let Some(until) = &why.maintenance_until {
        let until = when(until);
        line(&mut text, &format!("SIP is closed to it for maintenance until {until}"));
    }
    if !why.closed_services.is_empty() {
        let is = if why.enforcing { "is" } else { "would be" };
        let services = why.closed_services.join(", ");
        line(&mut text, &format!("{services}: {is} closed to it (`exposure`)"));
    }
    // The first of them is shown above.
    let is_told = |ban: &&BanOf| {
        why.network.as_ref() == Some(&ban.network)
            && why.jail.as_ref() == Some(&ban.jail)
            && why.scope.as_ref() == Some(&ban.scope)
    };
    text += &place(why);
    for ban in why.bans.iter().filter(|ban| !is_told(ban)) {
        let (decided, until) = (decided(&ban.network, &ban.jail), until(ban.until.as_deref()));
        line(&mut text, &format!("also: {decided}, scope {}, {until}", ban.scope));
    }
    text += &why_not(why);
    text += &wire(why);
    if let Some(until) = &why.known_until {
        let passed = count(why.packets.passed.unwrap_or_default(), "packet");
        line(&mut text, &format!("it is a known peer until {}; {passed} passed", when(until)));
    }
    if let Some(Prevented { is, jail, failures, last, .. }) = &why.prevented {
        let (failures, last) = (count(*failures, "failure"), when(last));
        line(
            &mut text,
            &format!("protected: {is}; {failures}; not banned, last at {last} by {jail}"),
        );
    } else if let Some(is) = &why.essential {
        line(&mut text, &format!("protected: {is}; no jail bans it, and limits apply to it"));
    }
    for jail in &why.ignored_by {
        line(&mut text, &format!("{jail} ignores it (ignoreip)"));
    }
    if let Some(Limit { reason, setting, value, last }) = &why.limit {
        let what = match (setting, value) {
            (Some(setting), Some(value)) => format!("it was over the limit `{setting}` ({value})"),
            _ if reason == "signature" => {
                "it sent the User-Agent of a scanner (`signatures.user_agents`)".to_owned()
            }
            _ => format!("it was over a limit ({reason})"),
        };
        line(&mut text, &format!("{what}, last at {}", when(last)));
    }
    text + &why.history.as_ref().map_or_else(String::new, history)
}

/// Where an address is, and whether SIP is admitted from there.
fn place(why: &Why) -> String {
    let mut text = String::new();
    let mut parts = Vec::new();
    if let Some(Located { country, asn, organisation }) = &why.place {
        parts.extend(country.clone());
        parts.extend(asn.map(|number| match organisation {
            Some(name) => format!("AS{number} ({})", shown_text(name)),
            None => format!("AS{number}"),
        }));
        line(&mut text, &format!("it is in {}", parts.join(", ")));
    }
    if why.shut_out {
        let place = if parts.is_empty() { "it is in no database of `geo`; " } else { "" };
        let is = if why.dropped { "is not" } else { "would not be, without a dry run," };
        line(
            &mut text,
            &format!("{place}its SIP {is} admitted (`geo`), unless it is a known peer"),
        );
    }
    text
}

/// Whether an address is dropped, because of the widest of its bans.
fn verdict(why: &Why) -> String {
    let mut text = String::new();
    let address = why.address;
    if let Some(who) = &why.protected {
        line(&mut text, &format!("{address} is never dropped: it is {who}"));
        if let Some(allowed) = &why.allowed {
            let until = allowed
                .until
                .as_deref()
                .map_or_else(|| "until it is disallowed".to_owned(), |end| until(Some(end)));
            let (network, by) = (&allowed.network, shown_text(&allowed.by));
            line(&mut text, &format!("  {network} is allowed {until}, by {by}"));
            if let Some(comment) = &allowed.comment {
                line(&mut text, &format!("  comment: {}", shown_text(comment)));
            }
        }
    } else if let Some(network) = &why.network {
        let what = match why.scope.as_deref().unwrap_or_default() {
            "sip" => "its SIP".to_owned(),
            "throttle" => "its SIP over UDP, except answers and retransmissions".to_owned(),
            "all" => "all of it".to_owned(),
            ports => format!("its {ports}"),
        };
        let until = until(why.until.as_deref());
        let is = if !why.enforcing {
            format!(
                "{address} is not dropped, because this is a dry run or the filter is disabled; \
                 otherwise it would be ({what}) {until}"
            )
        } else if !why.dropped {
            format!("{address} would be dropped ({what}) {until}, but no interface is protected")
        } else {
            format!("{address} is dropped ({what}) {until}")
        };
        line(&mut text, &is);
        let jail = why.jail.as_deref().unwrap_or_default();
        line(&mut text, &format!("  {}", decided(network, jail)));
        let reason = why.reason.as_deref().unwrap_or_default();
        if reason != NO_REASON {
            line(&mut text, &format!("  reason: {}", shown_text(reason)));
        }
        let packets = count(why.packets.dropped, "packet");
        line(&mut text, &format!("  {packets} so far"));
        line(&mut text, &format!("  to lift it: ringfence unban {network}"));
    } else {
        line(&mut text, &format!("{address} is not banned"));
    }
    text
}

/// What the filter has seen of the challenges to an address, and what that proves.
fn wire(why: &Why) -> String {
    let mut text = String::new();
    let Some(Wire { challenged, answered, refused, accepted, proven_at }) = &why.wire else {
        return text;
    };
    let challenges = count(*challenged, "challenge");
    let answers = match answered {
        0 => "it answered none".to_owned(),
        _ => format!("{} ({refused} refused, {accepted} accepted)", count(*answered, "answer")),
    };
    line(&mut text, &format!("{challenges} sent to it; {answers}"));
    if let Some(at) = proven_at {
        let at = when(at);
        line(&mut text, &format!("its address is proven: it answered a challenge at {at}"));
    }
    text
}

/// The origin and the network of a ban.
fn decided(network: &str, jail: &str) -> String {
    match jail {
        "manual" => format!("manual ban of {network}"),
        jail => format!("ban of {network} by {jail}"),
    }
}

/// The reasons why an address is not banned.
fn why_not(why: &Why) -> String {
    let mut text = String::new();
    for near in &why.near {
        let Near { jail, failures, points, maxretry, accounts, maxaccounts, findtime } = near;
        let weighed = if points == failures {
            String::new()
        } else {
            format!(" ({})", count(*failures, "failure"))
        };
        let accounts = match (accounts, maxaccounts) {
            (_, 0) | (0, _) => String::new(),
            (accounts, most) => format!(", {accounts} of {most} accounts"),
        };
        line(
            &mut text,
            &format!("{jail}: {points} of {maxretry} within {findtime}{weighed}{accounts}"),
        );
    }
    if let Some(NotCounted { unwitnessed, known, unproven, last }) = &why.not_counted {
        let last = when(last);
        line(&mut text, &format!("failures of it that did not count, the last one at {last}:"));
        for (failures, why) in [
            (
                unwitnessed,
                "unwitnessed: no packet from it to a SIP port was seen, so the lines may be forged",
            ),
            (known, "spared: it was a known peer, and these failures can be forged"),
            (
                unproven,
                "unproven: their source can be forged, and the `unproven_scope` of the jail is \
                 `none`",
            ),
        ] {
            if *failures > 0 {
                line(&mut text, &format!("  {failures} {why}"));
            }
        }
    }
    let nothing_is_known = why.bans.is_empty()
        && why.evidence.is_empty()
        && why.near.is_empty()
        && why.ignored_by.is_empty()
        && why.protected.is_none()
        && why.essential.is_none()
        && why.limit.is_none();
    if text.is_empty() && nothing_is_known {
        line(
            &mut text,
            "no jail has recorded a failure of it; `ringfence status` shows what the sources report",
        );
    }
    text
}

/// Earlier bans.
fn history(History { bans, proven, last, jails }: &History) -> String {
    let mut text = String::new();
    let (bans, last) = (count(*bans, "ban"), when(last));
    line(&mut text, &format!("{bans} by jails so far ({proven} proven), the last one at {last}"));
    for JailHistory { jail, bans, proven, .. } in jails {
        let jail = jail.as_deref().unwrap_or("by jails that were not recorded");
        line(&mut text, &format!("  {jail}: {bans} ({proven} proven)"));
    }
    text
}

/// The failures behind bans, and those that count towards one.
fn evidence(why: &Why) -> String {
    // For a source with several addresses, which of them failed.
    let of_many =
        why.evidence.iter().filter_map(|failure| failure.address).any(|from| from != why.address);
    let row = |failure: &Evidence| {
        let class = match &*failure.class {
            "ban" => "a ban, for recidive",
            class => class,
        };
        let mut row = vec![when_exactly(&failure.time), failure.source.clone(), class.to_owned()];
        if of_many {
            row.push(failure.address.map_or("-".to_owned(), |from| from.to_string()));
        }
        row.push(if failure.proven { "proven" } else { "unproven" }.to_owned());
        row.push(failure.account.clone().unwrap_or("-".to_owned()));
        row
    };
    let rows: Vec<Vec<String>> = why.evidence.iter().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let heading = format!("failures on record (of each ban and jail the last {EVIDENCE_MAX}):\n");
    let address = of_many.then_some("ADDRESS");
    let headings = ["TIME", "HEARD BY", "CLASS"].into_iter().chain(address);
    let headings: Vec<&str> = headings.chain(["SOURCE", "ACCOUNT"]).collect();
    heading + &table(&headings, rows)
}
