//! The report for a terminal.
//!
//! Must never let a name control a terminal.

use api::{Audit, AuditFinding, AuditedFilter, Listener, Severity};

use crate::listeners::owner_in_words;
use crate::words::count;

/// How wide text is.
const WIDTH: usize = 100;

/// The whole report.
pub fn report(audit: &Audit) -> String {
    let kind = if audit.wazo { "a Wazo host" } else { "not a Wazo host" };
    let mut text = format!(
        "audit of {}, {kind}, by ringfence {}, {}\n",
        audit.host, audit.version, audit.time
    );
    if let Some(filter) = &audit.filter {
        add!(text, "filter: {}\n", filter_in_words(filter));
    }
    text += &summary(audit);
    text += &findings(audit);
    text.push('\n');
    text += &listeners(audit);
    text += &rest(audit);
    text
}

/// What `audit ports` prints.
pub fn ports(audit: &Audit) -> String {
    let mut text = listeners(audit);
    text += &rest(audit);
    text.push('\n');
    text += &summary(audit);
    text += &findings(audit);
    text
}

/// What `audit accounts` and `audit devices` print.
pub fn findings_alone(audit: &Audit) -> String {
    let mut text = summary(audit);
    text += &findings(audit);
    text += &unread(audit);
    text
}

/// The state of the filter in words.
pub fn filter_in_words(filter: &AuditedFilter) -> String {
    let mut parts = Vec::new();
    match (&filter.why, filter.enforcing) {
        (Some(why), _) => parts.push(why.clone()),
        (None, Some(false)) => parts.push("drops nothing".to_owned()),
        (None, _) => parts.push("drops packets".to_owned()),
    }
    if filter.interfaces.is_empty() {
        parts.push("attached to no interface".to_owned());
    } else {
        parts.push(format!("attached to {}", filter.interfaces.join(", ")));
    }
    parts.extend(filter.bans.map(|bans| format!("{bans} bans in force")));
    parts.extend(filter.dropped.map(|dropped| format!("{dropped} packets dropped")));
    parts.join("; ")
}

/// A line with the number of findings.
pub fn summary(audit: &Audit) -> String {
    let of = |severity: Severity| {
        let number = audit.findings.iter().filter(|one| one.severity == severity).count();
        (number > 0).then(|| match severity {
            Severity::Critical => format!("{number} critical"),
            Severity::Warning => count(number, "warning"),
            Severity::Note => count(number, "note"),
        })
    };
    let parts: Vec<String> = [Severity::Critical, Severity::Warning, Severity::Note]
        .into_iter()
        .filter_map(of)
        .collect();
    let new = if audit.known.is_some() { "new " } else { "" };
    let mut text = if parts.is_empty() {
        format!("no {new}findings")
    } else {
        format!("{new}findings: {}", parts.join(", "))
    };
    if let Some(known) = audit.known {
        add!(text, "; {known} known from the baseline");
    }
    text.push('\n');
    text
}

fn findings(audit: &Audit) -> String {
    audit.findings.iter().map(finding).collect()
}

fn finding(finding: &AuditFinding) -> String {
    let AuditFinding { id, severity, title, reason, evidence, remedy, line, page } = finding;
    let mut text = format!("\n{}: {title}\n", severity.as_str().to_uppercase());
    text += &wrapped("why", reason);
    for line in evidence {
        text += &wrapped("seen", line);
    }
    text += &wrapped("do", remedy);
    // In one piece, so that it can be copied.
    if let Some(line) = line {
        add!(text, "      {line}\n");
    }
    if let Some(page) = page {
        text += &wrapped("page", page);
    }
    text += &wrapped("id", id);
    text
}

/// A line with a head, continued below the text.
fn wrapped(head: &str, text: &str) -> String {
    let mut out = String::new();
    let mut line = format!("{head:>5}");
    for word in text.split(' ') {
        if line.chars().count() > 6 && line.chars().count() + 1 + word.chars().count() > WIDTH {
            out += line.trim_end();
            out.push('\n');
            line = String::from("     ");
        }
        line.push(' ');
        line += word;
    }
    out += line.trim_end();
    out.push('\n');
    out
}

/// The address and port of a listener, as the table has it.
pub fn place(listener: &Listener) -> String {
    let mut text = if listener.address.is_ipv6() {
        format!("[{}]:{}", listener.address, listener.port)
    } else {
        format!("{}:{}", listener.address, listener.port)
    };
    if let Some(interface) = &listener.interface {
        add!(text, "%{interface}");
    }
    text
}

/// The families of a listener.
pub fn families(listener: &Listener) -> &'static str {
    match (listener.ipv4, listener.ipv6) {
        (true, true) => "4+6",
        (false, true) => "6",
        (true | false, false) => "4",
    }
}

/// The severity of a listener, or that there is none.
pub fn severity_of<'a>(audit: &'a Audit, listener: &Listener) -> &'a str {
    let id = listener.finding.as_deref();
    let finding = audit.findings.iter().find(|finding| Some(&*finding.id) == id);
    match (finding, id) {
        (Some(finding), _) => finding.severity.as_str(),
        (None, Some(_)) => "known",
        (None, None) => "-",
    }
}

fn listeners(audit: &Audit) -> String {
    let head = ["PROTO", "IP", "LISTENS ON", "SERVICE", "SEVERITY", "PROCESS"].map(str::to_owned);
    let rows = audit.listeners.iter().map(|listener| {
        [
            listener.transport.as_str().to_owned(),
            families(listener).to_owned(),
            place(listener),
            listener.service.clone().unwrap_or_else(|| "-".to_owned()),
            severity_of(audit, listener).to_owned(),
            owner_in_words(listener),
        ]
    });
    let rows: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
    let mut widths = [0; 6];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

/// The protection in front of the listeners, and the facts that could not be read.
fn rest(audit: &Audit) -> String {
    let mut text = String::from("\n");
    for interface in &audit.interfaces {
        let addresses: Vec<String> = interface.addresses.iter().map(ToString::to_string).collect();
        let filter = if interface.filtered { "the filter" } else { "no filter" };
        add!(text, "interface {}: {filter}; {}\n", interface.name, addresses.join(", "));
    }
    for rules in &audit.firewall {
        let chains = match &rules.chains[..] {
            [] => "no rules for packets that arrive".to_owned(),
            chains => chains.join("; "),
        };
        add!(text, "{}: {chains}\n", rules.tool);
    }
    if let Some(asterisk) = &audit.asterisk {
        let transports: Vec<String> = asterisk
            .transports
            .iter()
            .map(|one| match one.address {
                std::net::IpAddr::V4(v4) => format!("{} {v4}:{}", one.protocol, one.port),
                std::net::IpAddr::V6(v6) => format!("{} [{v6}]:{}", one.protocol, one.port),
            })
            .collect();
        let transports =
            if transports.is_empty() { "none".to_owned() } else { transports.join(", ") };
        add!(text, "SIP transports ({}): {transports}\n", asterisk.source);
        if let (Some(first), Some(last)) = (asterisk.rtp_first, asterisk.rtp_last) {
            add!(text, "media: UDP {first}-{last}\n");
        }
    }
    text += &unread(audit);
    text
}

/// The facts that could not be read.
fn unread(audit: &Audit) -> String {
    let line = |one: &api::Unread| format!("could not read {}: {}\n", one.what, one.why);
    audit.unread.iter().map(line).collect()
}
