//! Alerts and actions as text for people.

use api::{AlertRow, AlertTested, Alerts, AlertsTested};

use crate::report::{line, shown_text, table, when};

/// `alerts`.
pub fn listed(Alerts { alerts, actions }: &Alerts) -> String {
    if alerts.is_empty() && actions.is_empty() {
        return "no alerts or actions are configured\n".to_owned();
    }
    let row = |row: &AlertRow| {
        let numbers = [row.sent, row.failed, row.events, row.suppressed, row.lost, row.waiting];
        let time = row.last_sent.as_deref().map_or_else(|| "-".to_owned(), when);
        [row.name.clone(), row.way.clone()]
            .into_iter()
            .chain(numbers.map(|number| number.to_string()))
            .chain([time])
            .collect()
    };
    let mut text = String::new();
    for (title, rows) in [("ALERT", alerts), ("ACTION", actions)] {
        if rows.is_empty() {
            continue;
        }
        if !text.is_empty() {
            text.push('\n');
        }
        let head = [
            title,
            "WAY",
            "SENT",
            "FAILED",
            "EVENTS",
            "SUPPRESSED",
            "LOST",
            "WAITING",
            "LAST SENT",
        ];
        text.push_str(&table(&head, rows.iter().map(row).collect()));
        for AlertRow { name, problem, .. } in rows {
            if let Some(problem) = problem {
                line(&mut text, &format!("{name}: PROBLEM: {}", shown_text(problem)));
            }
        }
    }
    text
}

/// `alerts test`.
pub fn tested(AlertsTested { tested }: &AlertsTested) -> String {
    let mut text = String::new();
    for AlertTested { name, way, problem } in tested {
        match problem {
            None => line(&mut text, &format!("{name}: the {way} has taken a test message")),
            Some(why) => {
                line(&mut text, &format!("{name}: the {way} has failed: {}", shown_text(why)));
            }
        }
    }
    text
}
