//! `status` as text: what the daemon does, and everything that is wrong with it.

use std::time::Duration;

use api::{
    Bans, Enforcement, EnforcementState, Essential, Exposure, FleetHealth, GeoState, GeoStatus,
    Hearing, Interface, Peers, Prevented, ReasonCount, Sample, Source, State, Status, StoreState,
    Verdict,
};

use super::text::{count, counts, line, note, shown_text, table, under, when};
use super::{host, maintenance};
use crate::duration;

/// `status`.
pub fn status(status: &Status) -> String {
    let mut text = format!(
        "ringfence {}, running for {}{}\n",
        status.version,
        duration::format(Duration::from_secs(status.uptime_seconds)),
        match status.enforcement.state {
            EnforcementState::Enforcing | EnforcementState::Unconfirmed => "",
            EnforcementState::DryRun => ", dry run: drops nothing",
            EnforcementState::Lapsed | EnforcementState::Disabled => ", DISABLED: drops nothing",
        },
    );
    text += &enforcement(&status.enforcement);
    let store = &status.store;
    if store.state == StoreState::Failed {
        let why = store.why.as_deref().unwrap_or_default();
        let pending = count(store.pending, "change");
        line(
            &mut text,
            &format!("STORE FAILED: {}: {why}; not written yet: {pending}", store.path),
        );
    }
    if status.log.lost > 0 {
        let lines = count(status.log.lost, "line");
        line(&mut text, &format!("LOG INCOMPLETE: {lines} lost, because its reader was too slow"));
    }
    if status.maintenance.on {
        text += &maintenance(&status.maintenance);
    }
    text += &interfaces(status);
    text += &reasons(status);
    text += &sources(&status.sources);
    text += &hearing(status);
    let rows = status
        .jails
        .iter()
        .map(|jail| vec![jail.name.clone(), jail.watched.to_string(), jail.banned.to_string()]);
    text += &table(&["JAIL", "WATCHED", "BANNED"], rows.collect());
    let escalation = &status.escalation;
    if escalation.enabled {
        let banned = count(escalation.banned, "network");
        let offenders =
            counts(escalation.offenders, "proven offender counts", "proven offenders count");
        line(&mut text, &format!("{banned} banned; {offenders} towards further bans"));
    }
    let Bans { active, capacity, capacity_ipv6 } = status.bans;
    let active = count(active, "ban");
    line(
        &mut text,
        &format!("{active} in force, room for {capacity} IPv4 and {capacity_ipv6} IPv6 addresses"),
    );
    for name in &status.trusted_names {
        line(&mut text, &format!("trusted: {}", host(name)));
    }
    if status.allowed > 0 {
        let allowed = counts(status.allowed, "network is", "networks are");
        line(&mut text, &format!("{allowed} allowed at run time: `ringfence allows` lists them"));
    }
    text += &geo(status);
    text += &fleet(status);
    text += &essential(&status.essential);
    let Peers { known, spared, no_room, .. } = status.peers;
    line(&mut text, &count(known, "known peer"));
    if spared > 0 {
        let spared = counts(spared, "failure in their names was", "failures in their names were");
        line(&mut text, &format!("{spared} not counted, because anybody can forge them"));
    }
    if no_room > 0 {
        let times = count(no_room, "time");
        line(&mut text, &format!("there was no room for another known peer: {times}"));
    }
    text
}

/// The countries from which SIP is admitted.
fn geo(status: &Status) -> String {
    let mut text = String::new();
    let Some(GeoStatus { policy, dry_run, state, problem, in_force, databases, networks, .. }) =
        &status.geo
    else {
        return text;
    };
    let policy = policy.as_deref().unwrap_or("only says where addresses are");
    let dry = if *dry_run { ", dry run" } else { "" };
    match (state, problem) {
        (GeoState::Ok, _) | (_, None) => {
            let databases = count(databases.len() as u64, "database");
            let networks = count(*networks, "network");
            note(&mut text, &format!("geo: {policy}{dry}: {networks} in {databases}"));
        }
        (state, Some(why)) => {
            let stays = if *in_force {
                "the table before it stays in force"
            } else {
                "nothing is shut out"
            };
            let state = state.as_str().to_uppercase();
            note(&mut text, &format!("GEO {state}: {policy}{dry}: {why}; {stays}"));
        }
    }
    text
}

/// The fleet.
fn fleet(status: &Status) -> String {
    let mut text = String::new();
    let Some(FleetHealth { state, problem, hosts, banned }) = &status.fleet else { return text };
    match problem {
        None => {
            let (hosts, bans) = (count(*hosts, "other host"), count(*banned, "ban"));
            line(&mut text, &format!("fleet: {hosts}, {bans} of theirs in force here"));
        }
        Some(why) => {
            let state = state.as_str().to_uppercase();
            line(&mut text, &format!("FLEET {state}: {}", shown_text(why)));
        }
    }
    text
}

/// The bans that were not made.
fn essential(essential: &Essential) -> String {
    let Some(last) = &essential.last else { return String::new() };
    let bans = counts(essential.prevented, "ban was", "bans were");
    let Prevented { address, is, jail, last, .. } = last;
    let last = when(last);
    let what = format!("at {last} {jail} did not ban {address}: it is {is}");
    let mut text = String::new();
    note(&mut text, &format!("NOT BANNED: {bans} not made; {what}"));
    text
}

/// Packets by reason, and those that a dry run would have dropped.
fn reasons(status: &Status) -> String {
    let mut reasons: Vec<(&String, &ReasonCount)> =
        status.reasons.iter().filter(|(_, reason)| reason.packets > 0).collect();
    reasons.sort_by_key(|(_, reason)| std::cmp::Reverse(reason.packets));
    let rows = reasons.into_iter().map(|(name, reason)| {
        let verdict = match reason.verdict {
            Verdict::Pass => "pass",
            Verdict::Drop => "drop",
        };
        let (packets, bytes) = (reason.packets.to_string(), reason.bytes.to_string());
        vec![name.clone(), verdict.to_owned(), packets, bytes]
    });
    let mut text = table(&["REASON", "VERDICT", "PACKETS", "BYTES"], rows.collect());
    if status.enforcing {
        return text;
    }
    if status.would_drop.values().all(|packets| *packets == 0) {
        line(&mut text, "dry run: nothing would have been dropped so far");
    }
    for (name, packets) in status.would_drop.iter().filter(|(_, packets)| **packets > 0) {
        let packets = count(*packets, "packet");
        line(&mut text, &format!("dry run: would have dropped {packets}: {name}"));
    }
    text
}

/// The interfaces, and traffic that the filter does not see.
fn interfaces(status: &Status) -> String {
    let rows = status.interfaces.iter().map(|interface| {
        let Interface { name, mode, received, passed, dropped, .. } = interface;
        let mode = if interface.protected { mode } else { "UNPROTECTED" };
        let mut row = vec![name.clone(), mode.to_owned()];
        row.extend([received, passed, dropped].map(ToString::to_string));
        row
    });
    let mut text = table(&["INTERFACE", "MODE", "RECEIVED", "PASSED", "DROPPED"], rows.collect());
    for interface in &status.interfaces {
        let name = &interface.name;
        if let Some(why) = &interface.why {
            note(&mut text, &format!("UNPROTECTED: {name}: {why}"));
            continue;
        }
        if let Some(why) = &interface.fallback {
            note(&mut text, &format!("{name}: generic because {why}"));
        }
        if let Some(why) = &interface.not_learning {
            note(&mut text, &format!("NOT LEARNING: {name}: {why}"));
        }
    }
    for Exposure { subject, problem, remedy } in &status.exposure {
        note(&mut text, &format!("NOT SEEN: {subject}: {problem}"));
        under(&mut text, remedy);
    }
    text
}

fn sources(sources: &[Source]) -> String {
    let rows = sources.iter().map(|source| {
        let state = match source.state {
            State::Ok => "ok",
            State::Waiting => "waiting",
            State::Failed => "failed",
        };
        vec![
            source.name.clone(),
            state.to_owned(),
            source.events.to_string(),
            source.failures.to_string(),
            source.unwitnessed.to_string(),
            source.last_event.as_deref().map_or("-".to_owned(), when),
            source.why.clone().unwrap_or_default(),
        ]
    });
    table(&["SOURCE", "STATE", "LINES", "FAILURES", "UNWITNESSED", "LAST", ""], rows.collect())
}

/// Signs that failures are not recognised.
fn hearing(status: &Status) -> String {
    let mut text = String::new();
    for Hearing { source, problem, remedy, .. } in &status.hearing {
        note(&mut text, &format!("NOT HEARD: {source}: {problem}"));
        under(&mut text, remedy);
    }
    for Source { name, unparsed, .. } in &status.sources {
        if unparsed.lines > 0 {
            let lines = counts(
                unparsed.lines,
                "line matches no rule but looks like a failure",
                "lines match no rule but look like failures",
            );
            line(&mut text, &format!("{name}: {lines}"));
        }
        for Sample { line: sample, lines, .. } in &unparsed.samples {
            line(&mut text, &format!("    {lines} like: {sample}"));
        }
    }
    text
}

/// A line that says whether anything is dropped and what an administrator must do, if this is not the
/// normal state.
fn enforcement(enforcement: &Enforcement) -> String {
    let trial = enforcement.exposure_confirm_until.as_deref().map(when);
    let trial = trial.map(|until| {
        format!("ON TRIAL: type `ringfence confirm`, or what `exposure` closes opens again after {until}\n")
    });
    let state = match enforcement.state {
        EnforcementState::Enforcing | EnforcementState::DryRun => String::new(),
        EnforcementState::Unconfirmed => format!(
            "FIRST START: type `ringfence confirm`, or nothing is dropped after {}\n",
            when(enforcement.confirm_until.as_deref().unwrap_or_default())
        ),
        EnforcementState::Lapsed => {
            "NOT CONFIRMED: nothing is dropped; `ringfence confirm` enforces bans and limits\n"
                .to_owned()
        }
        EnforcementState::Disabled => {
            "DISABLED: nothing is dropped; `ringfence panic --off` enforces bans and limits\n"
                .to_owned()
        }
    };
    state + &trial.unwrap_or_default()
}
