//! The report as a web page: one file without external parts, suitable for printing. All text in it is
//! escaped.
//!
//! Must never let a name become markup.

use std::net::IpAddr;

use api::{Audit, AuditFinding};

use crate::listeners::owner_in_words;
use crate::text;

const STYLE: &str = "
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1f24; max-width: 62em; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin: 0; } h2 { font-size: 1.15em; margin: 2em 0 .5em; border-bottom: 1px solid #c8ccd1; }
h3 { font-size: 1em; margin: 0; } p { margin: .4em 0; }
.about { color: #57606a; }
article { border: 1px solid #c8ccd1; border-left-width: .5em; padding: .6em 1em; margin: .8em 0; break-inside: avoid; }
.critical { border-left-color: #b3261e; } .warning { border-left-color: #c77700; } .note { border-left-color: #4a6fa5; }
.level { font-weight: 600; text-transform: uppercase; font-size: .85em; margin-right: .6em; }
dl { display: grid; grid-template-columns: 6em 1fr; gap: .2em .6em; margin: .5em 0 0; } dt { color: #57606a; } dd { margin: 0; overflow-wrap: anywhere; }
ul { margin: 0; padding-left: 1.1em; } pre { margin: .2em 0; padding: .4em .6em; background: #f3f4f6; white-space: pre-wrap; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .9em; } th, td { text-align: left; padding: .25em .5em; border-bottom: 1px solid #e1e4e8; vertical-align: top; overflow-wrap: anywhere; }
thead { display: table-header-group; } tr { break-inside: avoid; }
@media print { body { font-size: 10.5pt; margin: 0; max-width: none; } a { color: inherit; text-decoration: none; } pre { border: 1px solid #c8ccd1; } }
@page { margin: 18mm; }
";

/// The page.
pub fn page(audit: &Audit) -> String {
    let mut out = String::new();
    out += "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n";
    out += "<meta name=\"viewport\" content=\"width=device-width\">\n";
    add!(out, "<title>Audit of {}</title>\n", escaped(&audit.host));
    add!(out, "<style>{STYLE}</style>\n</head>\n<body>\n<header>\n");
    add!(out, "<h1>Audit of {}</h1>\n", escaped(&audit.host));
    let kind = if audit.wazo { "a Wazo host" } else { "not a Wazo host" };
    add!(
        out,
        "<p class=\"about\">{}, {kind}, by Ringfence {}</p>\n",
        escaped(&audit.time),
        escaped(&audit.version)
    );
    add!(out, "<p>{}</p>\n", escaped(text::summary(audit).trim_end()));
    if let Some(filter) = &audit.filter {
        add!(out, "<p>Filter: {}</p>\n", escaped(&text::filter_in_words(filter)));
    }
    out += "</header>\n<main>\n<h2>Findings</h2>\n";
    if audit.findings.is_empty() {
        out += "<p>None.</p>\n";
    }
    out.extend(audit.findings.iter().map(finding));
    out += &listeners(audit);
    out += &environment(audit);
    out += "</main>\n</body>\n</html>\n";
    out
}

fn finding(finding: &AuditFinding) -> String {
    let AuditFinding { id, severity, title, reason, evidence, remedy, line, page } = finding;
    let level = severity.as_str();
    let mut out = format!(
        "<article class=\"{level}\">\n<h3><span class=\"level\">{level}</span>{}</h3>\n<dl>\n",
        escaped(title)
    );
    add!(out, "<dt>Why</dt><dd>{}</dd>\n<dt>Seen</dt><dd><ul>\n", escaped(reason));
    for line in evidence {
        add!(out, "<li>{}</li>\n", escaped(line));
    }
    add!(out, "</ul></dd>\n<dt>Do</dt><dd>{}", escaped(remedy));
    if let Some(line) = line {
        add!(out, "<pre>{}</pre>", escaped(line));
    }
    out += "</dd>\n";
    if let Some(page) = page {
        let page = escaped(page);
        if page.starts_with("https://") {
            add!(out, "<dt>Page</dt><dd><a href=\"{page}\">{page}</a></dd>\n");
        } else {
            add!(out, "<dt>Page</dt><dd>{page}</dd>\n");
        }
    }
    add!(out, "<dt>Id</dt><dd>{}</dd>\n</dl>\n</article>\n", escaped(id));
    out
}

fn listeners(audit: &Audit) -> String {
    let head = ["Protocol", "IP", "Listens on", "Service", "Severity", "Process", "Before it"];
    let rows = audit.listeners.iter().map(|listener| {
        let guards = match &listener.guards[..] {
            [] if listener.reach == api::Reach::Loopback => "-".to_owned(),
            [] => "nothing".to_owned(),
            guards => guards.join("; "),
        };
        vec![
            listener.transport.as_str().to_owned(),
            text::families(listener).to_owned(),
            text::place(listener),
            listener.service.clone().unwrap_or_else(|| "-".to_owned()),
            text::severity_of(audit, listener).to_owned(),
            owner_in_words(listener),
            guards,
        ]
    });
    format!("<h2>What listens</h2>\n{}", table(&head, rows))
}

fn environment(audit: &Audit) -> String {
    let mut out = String::from("<h2>Interfaces and firewall</h2>\n");
    let interfaces = audit.interfaces.iter().map(|one| {
        let addresses: Vec<String> = one.addresses.iter().map(ToString::to_string).collect();
        let filter = if one.filtered { "yes" } else { "no" };
        vec![one.name.clone(), filter.to_owned(), addresses.join(", ")]
    });
    out += &table(&["Interface", "Filter", "Addresses"], interfaces);
    let rules = audit.firewall.iter().map(|rules| {
        let chains = match &rules.chains[..] {
            [] => "no rules for packets that arrive".to_owned(),
            chains => chains.join("; "),
        };
        vec![rules.tool.clone(), chains]
    });
    out += &table(&["Firewall", "Chains"], rules);
    if let Some(asterisk) = &audit.asterisk {
        let transports = asterisk.transports.iter().map(|one| {
            let place = match one.address {
                IpAddr::V4(v4) => format!("{v4}:{}", one.port),
                IpAddr::V6(v6) => format!("[{v6}]:{}", one.port),
            };
            vec![one.name.clone(), one.protocol.clone(), place]
        });
        add!(out, "<h2>Asterisk</h2>\n<p>According to {}", escaped(&asterisk.source));
        if let (Some(first), Some(last)) = (asterisk.rtp_first, asterisk.rtp_last) {
            add!(out, "; media on UDP {first} to {last}");
        }
        out += "</p>\n";
        out += &table(&["Transport", "Protocol", "Bound to"], transports);
    }
    if !audit.unread.is_empty() {
        let unread = audit.unread.iter().map(|one| vec![one.what.clone(), one.why.clone()]);
        add!(out, "<h2>Not read</h2>\n{}", table(&["What", "Why not"], unread));
    }
    out
}

/// A table, or nothing if it has no rows.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut body = String::new();
    for row in rows {
        body += "<tr>";
        for cell in row {
            add!(body, "<td>{}</td>", escaped(&cell));
        }
        body += "</tr>\n";
    }
    if body.is_empty() {
        return body;
    }
    let mut out = String::from("<table>\n<thead><tr>");
    for cell in head {
        add!(out, "<th>{}</th>", escaped(cell));
    }
    add!(out, "</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n");
    out
}

/// Text escaped for a page.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c if c.is_control() && c != '\n' => out += "&#xfffd;",
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests;
