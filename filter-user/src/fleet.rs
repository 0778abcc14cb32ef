//! The fleet as text for people.

use api::{Fleet, FleetChanged, FleetHost, FleetReport, FleetState};

use crate::report::{count, line, shown_text, table, when};

/// A clock that is further off than this is worth a word, in milliseconds.
const WRONG: u64 = 10_000;

/// `fleet status`.
pub fn status(fleet: &Fleet) -> String {
    if fleet.state == FleetState::Off {
        return "this host is in no fleet; `fleet.servers` names its servers\n".to_owned();
    }
    let mut text = String::new();
    let host = fleet.host.as_deref().unwrap_or("this host");
    let server = fleet.report.as_ref().and_then(|report| report.server.as_deref());
    match server.filter(|_| fleet.state == FleetState::Connected) {
        Some(server) => line(
            &mut text,
            &format!("{} is connected with {}", shown_text(host), shown_text(server)),
        ),
        None => line(
            &mut text,
            &format!("{} is NOT connected: bans stay until their end", shown_text(host)),
        ),
    }
    if let Some(problem) = &fleet.problem {
        line(&mut text, &format!("PROBLEM: {}", shown_text(problem)));
    }
    let mut banned =
        format!("other hosts: {}, {} in force here", fleet.hosts.len(), count(fleet.banned, "ban"));
    if let Some(FleetReport { waiting: 1.., .. }) = &fleet.report {
        banned.push_str("; `fleet.accept.total` leaves no room for more");
    }
    line(&mut text, &banned);
    let spared: Vec<String> =
        fleet.spared.iter().map(|(why, number)| format!("{number} {why}")).collect();
    if !spared.is_empty() {
        line(&mut text, &format!("banned there, but not here: {}", spared.join(", ")));
    }
    if let Some(report) = &fleet.report {
        let FleetReport { shared, behind, held_back, strange, clock_ms, .. } = report;
        line(
            &mut text,
            &format!("shared: {}, {behind} still to be written", count(*shared, "ban")),
        );
        if *held_back > 0 {
            line(&mut text, &format!("not shared, because they are too many: {held_back}"));
        }
        if *strange > 0 {
            line(
                &mut text,
                &format!("unknown records: {strange}; does a host have a newer version?"),
            );
        }
        if let Some(off) = clock_ms.filter(|off| off.unsigned_abs() > WRONG) {
            line(&mut text, &format!("this host's clock is {} the servers'", ahead(off)));
        }
    }
    if let Some(asked) = fleet.report.as_ref().and_then(|report| report.maintenance.as_ref())
        && asked.seconds > 0
    {
        let what = match &fleet.maintenance_refused {
            Some(why) => format!("SIP is not closed here: {}", shown_text(why)),
            None => "SIP is closed here".to_owned(),
        };
        let comment = shown_text(&asked.comment);
        let purpose = if comment.is_empty() { comment } else { format!(" ({comment})") };
        line(&mut text, &format!("maintenance of the fleet{purpose}: {what}"));
    }
    if !fleet.cut.is_empty() {
        line(
            &mut text,
            &format!(
                "cut off here: {}; `ringfence fleet join HOST` accepts again",
                fleet.cut.join(", ")
            ),
        );
    }
    if !fleet.enforcing {
        line(&mut text, "nothing is enforced now, so these bans drop no packets");
    }
    text
}

/// `fleet hosts`.
pub fn hosts(fleet: &Fleet) -> String {
    if fleet.hosts.is_empty() {
        return "no other host is known\n".to_owned();
    }
    let row = |host: &FleetHost| {
        vec![
            host.host.clone(),
            if host.cut { "cut off" } else { "accepted" }.to_owned(),
            host.bans.to_string(),
            host.refused.values().sum::<u64>().to_string(),
            host.last.as_deref().map_or_else(|| "-".to_owned(), when),
            host.version.as_deref().map_or_else(|| "-".to_owned(), shown_text),
        ]
    };
    let head = ["HOST", "STATE", "BANS", "REFUSED", "LAST", "VERSION"];
    let mut text = table(&head, fleet.hosts.iter().map(row).collect());
    for host in &fleet.hosts {
        let refused: Vec<String> = host
            .refused
            .iter()
            .map(|(why, number)| format!("{number} {}", shown_text(why)))
            .collect();
        if !refused.is_empty() {
            line(&mut text, &format!("{}: refused: {}", host.host, refused.join(", ")));
        }
        if let Some(until) = &host.closed_until {
            line(
                &mut text,
                &format!("{}: SIP is closed by maintenance until {}", host.host, when(until)),
            );
        }
        if let Some(off) = host.clock_ms.filter(|off| off.unsigned_abs() > WRONG) {
            line(&mut text, &format!("{}: its clock is {} the servers'", host.host, ahead(off)));
        }
    }
    text
}

/// `fleet cut` and `fleet join`.
pub fn changed(FleetChanged { host, cut, durability }: &FleetChanged) -> String {
    let host = shown_text(host);
    let mut text = if *cut {
        format!(
            "{host} is cut off: its bans are lifted, and none is accepted until `ringfence fleet join {host}`\n"
        )
    } else {
        format!("the bans of {host} are accepted again\n")
    };
    if let Some(why) = &durability.why {
        line(&mut text, &format!("this is not saved yet: {}", shown_text(why)));
    }
    text
}

fn ahead(milliseconds: i64) -> String {
    let seconds = milliseconds.unsigned_abs() / 1000;
    let side = if milliseconds > 0 { "ahead of" } else { "behind" };
    format!("{seconds} s {side}")
}
