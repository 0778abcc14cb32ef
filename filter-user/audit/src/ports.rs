//! Findings about listeners: SIP ports of Asterisk that the filter does not know, listeners that
//! strangers can reach, and media ports that overlap with others.

use std::collections::{BTreeMap, BTreeSet};

use api::{AuditFinding, Listener, Reach, Severity, SipTransport, Transport};
use detection::settings::PortRange;

use crate::facts::Facts;
use crate::listeners::{self, Row};
use crate::reach;
use crate::services::{self, Remedy, Service};
use crate::suggest;
use crate::transports::has_socket;
use crate::words::{count, is_plain, part_of_id, shown};

/// Asterisk's process.
const ASTERISK: &str = "asterisk";

/// The most lines of evidence of one finding.
const EVIDENCE_MAX: usize = 16;

/// Why it matters that the filter does not know a port.
const UNKNOWN_SIP: &str = "the filter does not treat these packets as SIP: it neither limits them nor looks for scanners among \
     them, bans of the scope `sip` leave the port open, and failures on it count as unwitnessed";

/// The findings, and the rows with the finding of each.
pub fn examine(facts: &Facts) -> (Vec<AuditFinding>, Vec<Listener>) {
    let mut rows = listeners::rows(facts);
    let mut findings: Vec<AuditFinding> = Vec::new();
    findings.extend(unknown_transports(facts, &mut rows));
    findings.extend(media(facts));
    findings.extend(unexplained(facts, &mut rows));
    findings.extend(exposed(facts, &mut rows));
    (findings, rows.into_iter().map(|row| row.listener).collect())
}

/// The transport in the kernel that a SIP transport has.
fn kernel_transport(sip: &SipTransport) -> Transport {
    if sip.protocol == "udp" { Transport::Udp } else { Transport::Tcp }
}

/// The severity by who can reach it; `None` if it is no problem. Private addresses and closed ports
/// reduce it.
fn graded(severity: Severity, reach: Reach, closed: bool) -> Option<Severity> {
    let lower = |severity| match severity {
        Severity::Critical => Some(Severity::Warning),
        Severity::Warning => Some(Severity::Note),
        Severity::Note => None,
    };
    let graded = match reach {
        Reach::Any | Reach::Public => Some(severity),
        Reach::Private => lower(severity),
        Reach::Multicast | Reach::LinkLocal | Reach::Loopback => None,
    }?;
    if closed { Some(Severity::Note).filter(|_| graded > Severity::Note) } else { Some(graded) }
}

/// The SIP transports that the configuration's `sip` lacks.
fn unknown_transports(facts: &Facts, rows: &mut [Row]) -> Vec<AuditFinding> {
    let Some(asterisk) = &facts.asterisk else { return Vec::new() };
    let mut missing: BTreeMap<(Transport, u16), Vec<&SipTransport>> = BTreeMap::new();
    for sip in asterisk.transports.iter().filter(|sip| has_socket(sip)) {
        let place = (kernel_transport(sip), sip.port);
        if !listeners::is_sip(facts, place.0, place.1) {
            missing.entry(place).or_default().push(sip);
        }
    }
    // Those that others can reach, with the severity.
    let mut reached = Vec::new();
    for (place, all) in missing {
        let of_place = |row: &&Row| (row.listener.transport, row.listener.port) == place;
        let mut of_port = rows.iter().filter(of_place).peekable();
        let is_closed = of_port.peek().is_some() && of_port.all(|row| row.listener.closed);
        let worst = all.iter().map(|sip| reach::of(sip.address)).max();
        let severity = worst.and_then(|worst| graded(Severity::Critical, worst, is_closed));
        reached.extend(severity.map(|severity| (place, all, severity)));
    }
    let places: Vec<(Transport, u16)> = reached.iter().map(|(place, ..)| *place).collect();
    let mut findings = Vec::new();
    for ((transport, port), all, severity) in reached {
        let on_it =
            |row: &&mut Row| (row.listener.transport, row.listener.port) == (transport, port);
        let id = format!("sip-unknown/{}/{port}", transport.as_str());
        let mut evidence: Vec<String> = all.iter().map(|sip| transport_in_words(sip)).collect();
        evidence.insert(0, format!("according to {}:", asterisk.source));
        for row in rows.iter_mut().filter(on_it) {
            row.listener.finding = Some(id.clone());
            row.listener.service = Some("sip".to_owned());
            evidence.push(listeners::in_words(&row.listener));
        }
        findings.push(AuditFinding {
            id,
            severity,
            title: format!(
                "Asterisk listens for SIP on {} port {port}, which `sip` does not list",
                transport.as_str().to_uppercase()
            ),
            reason: UNKNOWN_SIP.to_owned(),
            evidence: bounded(evidence),
            remedy: "in the configuration of Ringfence, then `ringfence reload`".to_owned(),
            line: Some(sip_line(facts, &places)),
            page: None,
        });
    }
    findings
}

fn transport_in_words(sip: &SipTransport) -> String {
    let SipTransport { name, protocol, address, port } = sip;
    if address.is_ipv6() {
        format!("transport {name}: {protocol} [{address}]:{port}")
    } else {
        format!("transport {name}: {protocol} {address}:{port}")
    }
}

/// The setting `sip` with these ports added.
fn sip_line(facts: &Facts, more: &[(Transport, u16)]) -> String {
    let list = |of: Transport, ranges: &[PortRange]| {
        let ports = ranges.iter().map(ToString::to_string);
        let more = more.iter().filter(|(transport, _)| *transport == of);
        ports.chain(more.map(|(_, port)| port.to_string())).collect::<Vec<_>>().join(", ")
    };
    let (udp, tcp) = (list(Transport::Udp, &facts.sip.udp), list(Transport::Tcp, &facts.sip.tcp));
    format!("sip: {{udp: [{udp}], tcp: [{tcp}]}}")
}

/// Whether the ports for media are those of something else.
fn media(facts: &Facts) -> Option<AuditFinding> {
    let (first, last) = facts.asterisk.as_ref()?.rtp?;
    let overlapping: Vec<String> = facts
        .sip
        .udp
        .iter()
        .filter(|range| range.first <= last && range.last >= first)
        .map(ToString::to_string)
        .collect();
    if overlapping.is_empty() {
        return None;
    }
    Some(AuditFinding {
        id: "rtp-overlaps-sip".to_owned(),
        severity: Severity::Warning,
        title: format!("the ports for media {first}-{last} include a port under `sip`"),
        reason:
            "the filter treats media on this port as SIP, and limits it like SIP from a stranger"
                .to_owned(),
        evidence: vec![
            format!("rtp.conf: rtpstart = {first}, rtpend = {last}"),
            format!("`sip`: UDP {}", overlapping.join(", ")),
        ],
        remedy: "begin the ports for media above the SIP ports: in rtp.conf under [general], then \
                 `asterisk -rx 'module reload res_rtp_asterisk'`"
            .to_owned(),
        line: Some("rtpstart = 10000".to_owned()),
        page: None,
    })
}

/// Sockets of Asterisk that neither its transports nor a known service explain.
fn unexplained(facts: &Facts, rows: &mut [Row]) -> Vec<AuditFinding> {
    let mut places: BTreeMap<(Transport, u16), Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        let Listener { transport, port, reach, finding, process, .. } = &row.listener;
        let is_known = row.service.is_some() || row.is_media || finding.is_some();
        let is_asterisk = process.as_deref() == Some(ASTERISK);
        let is_sip = listeners::is_sip(facts, *transport, *port);
        let is_temporary = *transport == Transport::Udp && is_ephemeral(facts, *port);
        if is_asterisk && !is_known && !is_sip && !is_temporary && *reach > Reach::Multicast {
            places.entry((*transport, *port)).or_default().push(index);
        }
    }
    let mut findings = Vec::new();
    for ((transport, port), indexes) in places {
        let of = |index: &usize| rows.get(*index).map(|row| &row.listener);
        let all: Vec<&Listener> = indexes.iter().filter_map(of).collect();
        let severity =
            all.iter().filter_map(|l| graded(Severity::Warning, l.reach, l.closed)).max();
        let Some(severity) = severity else { continue };
        let id = format!("asterisk-unknown/{}/{port}", transport.as_str());
        findings.push(AuditFinding {
            id: id.clone(),
            severity,
            title: format!(
                "Asterisk listens on {} port {port} for an unknown purpose",
                transport.as_str().to_uppercase()
            ),
            reason: format!("if it is SIP, {UNKNOWN_SIP}"),
            evidence: evidence(facts, &all),
            remedy: "if it is SIP, in the configuration of Ringfence, then `ringfence reload`; otherwise see which \
                     module it is, and whether it is needed: `asterisk -rx 'module show'`"
                .to_owned(),
            line: Some(sip_line(facts, &[(transport, port)])),
            page: None,
        });
        for index in indexes {
            if let Some(row) = rows.get_mut(index) {
                row.listener.finding = Some(id.clone());
            }
        }
    }
    findings
}

/// Whether the kernel assigns such a port to a socket that does not request one.
fn is_ephemeral(facts: &Facts, port: u16) -> bool {
    (facts.ephemeral.0..=facts.ephemeral.1).contains(&port)
}

/// The subject of a finding about exposure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    /// A service that is known, at a port.
    Known(&'static str, Transport, u16),
    /// A port of this process.
    Unknown(Transport, u16, String),
    /// All UDP ports of this process that the kernel has chosen.
    Temporary(String),
    /// Asterisk's ports for media.
    Media,
}

/// What strangers can reach.
fn exposed(facts: &Facts, rows: &mut [Row]) -> Vec<AuditFinding> {
    let mut subjects: BTreeMap<Subject, Vec<usize>> = BTreeMap::new();
    for (index, row) in rows.iter().enumerate() {
        let Listener { transport, port, finding, process, .. } = &row.listener;
        if finding.is_some() || row.listener.reach <= Reach::Multicast {
            continue;
        }
        let process = process.clone().unwrap_or_else(|| "unknown".to_owned());
        let subject = match row.service {
            _ if row.is_media => Subject::Media,
            Some(service) => Subject::Known(service.name, *transport, *port),
            None if *transport == Transport::Udp && is_ephemeral(facts, *port) => {
                Subject::Temporary(process)
            }
            None => Subject::Unknown(*transport, *port, process),
        };
        subjects.entry(subject).or_default().push(index);
    }
    let mut findings = Vec::new();
    for (subject, indexes) in subjects {
        let of = |index: &usize| rows.get(*index);
        let all: Vec<&Row> = indexes.iter().filter_map(of).collect();
        let Some(finding) = finding(facts, &subject, &all) else { continue };
        let id = finding.id.clone();
        let exposed: Vec<usize> = indexes
            .iter()
            .copied()
            .filter(|index| {
                of(index).is_some_and(|row| {
                    graded(Severity::Critical, row.listener.reach, false).is_some()
                })
            })
            .collect();
        findings.push(finding);
        for index in exposed {
            if let Some(row) = rows.get_mut(index) {
                row.listener.finding = Some(id.clone());
            }
        }
    }
    findings
}

/// The finding about a subject, if it is worth one.
fn finding(facts: &Facts, subject: &Subject, rows: &[&Row]) -> Option<AuditFinding> {
    let all: Vec<&Listener> = rows.iter().map(|row| &row.listener).collect();
    let service = rows.iter().find_map(|row| row.service);
    let severity_of = |severity: Severity| {
        all.iter().filter_map(|one| graded(severity, one.reach, one.closed)).max()
    };
    let evidence = evidence(facts, &all);
    let who = all.iter().map(|one| one.reach).max().unwrap_or(Reach::Loopback);
    let place = reach::in_words(who);
    match (subject, service) {
        (Subject::Known(name, transport, port), Some(service)) => {
            let base = if *name == "sip" && !is_all_filtered(facts, &all) {
                Severity::Warning
            } else {
                service.severity
            };
            let (remedy, line) = remedy(facts, service, (*transport, *port), &all);
            Some(AuditFinding {
                id: format!("exposed/{name}/{}/{port}", transport.as_str()),
                severity: severity_of(base)?,
                title: format!(
                    "{name} can be reached: {} port {port} on {place}",
                    shown_transport(*transport)
                ),
                reason: reason(service, &all),
                evidence,
                remedy,
                line,
                page: service.page.map(str::to_owned),
            })
        }
        (Subject::Media, _) | (Subject::Known(..), None) => None,
        (Subject::Temporary(process), _) => Some(AuditFinding {
            id: format!("exposed/udp/temporary/{}", part_of_id(process)),
            severity: severity_of(Severity::Note)?,
            title: format!(
                "`{process}` accepts UDP packets from anybody, on {}",
                count(all.len(), "port")
            ),
            reason: "the kernel assigns such ports, so it may only wait for answers".to_owned(),
            evidence,
            remedy: "nothing, if this program is to speak to others; otherwise stop it".to_owned(),
            line: None,
            page: None,
        }),
        (Subject::Unknown(transport, port, process), _) => {
            let (remedy, line) = for_unknown(facts, (*transport, *port), &all);
            Some(AuditFinding {
                id: format!("exposed/{}/{}/{port}", part_of_id(process), transport.as_str()),
                severity: severity_of(Severity::Warning)?,
                title: format!(
                    "`{process}` can be reached: {} port {port} on {place}",
                    shown_transport(*transport)
                ),
                reason: if facts.wazo {
                    "Wazo does not document this port, so it may be open unintentionally".to_owned()
                } else {
                    "the service is unknown, so it may be open unintentionally".to_owned()
                },
                evidence,
                remedy,
                line,
                page: facts.wazo.then(|| services::SECURITY.to_owned()),
            })
        }
    }
}

fn shown_transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "TCP",
        Transport::Udp => "UDP",
    }
}

/// The reason for the severity of a known service.
fn reason(service: &Service, all: &[&Listener]) -> String {
    let mut text = service.reason.to_owned();
    if service.page.is_some() && service.bind == services::Bind::Local {
        text += "; according to Wazo's documentation it listens on 127.0.0.1 only";
    }
    if all.iter().all(|one| one.closed) {
        text += "; strangers cannot reach it now, but could without the rules that close the port";
    } else if all.iter().all(|one| one.reach == Reach::Private) {
        text += "; its address is private, so strangers reach it only through other hosts";
    }
    text
}

/// What to do about a service: in its own configuration if that can do it, and otherwise with `exposure`.
fn remedy(
    facts: &Facts,
    service: &Service,
    place: (Transport, u16),
    all: &[&Listener],
) -> (String, Option<String>) {
    match service.remedy {
        Remedy::Conf(setting) => {
            let daemon = service.name;
            let line = format!(
                "printf '{setting}\\n' > /etc/{daemon}/conf.d/00-listen.yml; systemctl restart {daemon}"
            );
            ("listen on loopback; the first file of conf.d wins".to_owned(), Some(line))
        }
        Remedy::Paste(what, line) => (what.to_owned(), Some(line.to_owned())),
        Remedy::Words(what) => match exposure(facts, place, all) {
            Some(line) if service.severity > Severity::Note => {
                (format!("{what}; or {BY_EXPOSURE}"), Some(line))
            }
            _ => (what.to_owned(), None),
        },
    }
}

/// What to do about an unknown program.
fn for_unknown(
    facts: &Facts,
    place: (Transport, u16),
    all: &[&Listener],
) -> (String, Option<String>) {
    let units: BTreeSet<&str> = all.iter().filter_map(|one| one.unit.as_deref()).collect();
    let unit = match units.iter().copied().collect::<Vec<_>>()[..] {
        [unit] if unit.ends_with(".service") && is_plain(unit) => Some(unit),
        _ => None,
    };
    let what = "let it listen on 127.0.0.1, in its own configuration; if nobody needs it, stop it";
    if let Some(unit) = unit {
        return (what.to_owned(), Some(format!("systemctl disable --now {unit}")));
    }
    match exposure(facts, place, all) {
        Some(line) => (format!("{what}; or {BY_EXPOSURE}"), Some(line)),
        None => (what.to_owned(), None),
    }
}

/// The remedy that every service has.
const BY_EXPOSURE: &str = "open it to trusted networks only, in the configuration of Ringfence, then \
                           `ringfence reload`";

/// The line for [`BY_EXPOSURE`], if the filter has all ways to the service and does not close it yet.
fn exposure(
    facts: &Facts,
    place @ (transport, port): (Transport, u16),
    all: &[&Listener],
) -> Option<String> {
    let is_useful = is_all_filtered(facts, all) && !facts.closed.contains_key(&place);
    suggest::line(facts, transport, port).filter(|_| is_useful)
}

/// Whether the filter protects all of them.
fn is_all_filtered(facts: &Facts, all: &[&Listener]) -> bool {
    let mut ways = all.iter().flat_map(|one| listeners::ways(facts, one)).peekable();
    let is_filtered =
        |name: &str| facts.interfaces.iter().any(|one| one.name == name && one.filtered);
    ways.peek().is_some() && ways.all(|(name, _)| is_filtered(name))
}

/// Evidence that these listen, where they can be reached, and how they are protected.
fn evidence(facts: &Facts, all: &[&Listener]) -> Vec<String> {
    let mut evidence: Vec<String> = all.iter().map(|one| listeners::in_words(one)).collect();
    let ways: BTreeSet<String> = all
        .iter()
        .flat_map(|one| listeners::ways(facts, one))
        .map(|(name, address)| format!("{address} ({})", shown(name)))
        .collect();
    if !ways.is_empty() {
        let ways: Vec<String> = ways.into_iter().take(EVIDENCE_MAX).collect();
        evidence.push(format!("addresses: {}", ways.join(", ")));
    }
    let guards: BTreeSet<&str> =
        all.iter().flat_map(|one| one.guards.iter().map(String::as_str)).collect();
    let guards: Vec<&str> = guards.into_iter().collect();
    evidence.push(if guards.is_empty() {
        "nothing protects it".to_owned()
    } else {
        format!("protected by: {}", guards.join("; "))
    });
    bounded(evidence)
}

/// The first lines, and how many more there are.
fn bounded(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(EVIDENCE_MAX);
    if more > 0 {
        lines.truncate(EVIDENCE_MAX);
        lines.push(format!("and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests;
