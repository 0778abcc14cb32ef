//! The whole report: the sorted findings, and all facts.
//!
//! Must never give a finding another id than in the last audit.

use std::collections::BTreeSet;

use api::{
    Audit, AuditFinding, AuditPart, AuditedAsterisk, AuditedInterface, RuleSet, Severity, Unread,
};

use crate::facts::Facts;
use crate::words::{printable, shown};
use crate::{firewall, ports};

/// The beginning of the ids that come first among equals.
const FIRST: &str = "sip-unknown/";

/// The report about these parts. `more` are findings of others.
pub fn report(mut facts: Facts, parts: &[AuditPart], more: Vec<AuditFinding>) -> Audit {
    for Unread { what, why } in &mut facts.unread {
        (*what, *why) = (printable(what), printable(why));
    }
    let (mut findings, listeners) =
        if parts.contains(&AuditPart::Ports) { ports::examine(&facts) } else { Default::default() };
    findings.extend(unread(&facts));
    findings.extend(more);
    let mut seen = BTreeSet::new();
    findings.retain(|finding| seen.insert(finding.id.clone()));
    findings.sort_by(|one, other| {
        let key = |finding: &AuditFinding| !finding.id.starts_with(FIRST);
        other.severity.cmp(&one.severity).then_with(|| key(one).cmp(&key(other)))
    });
    let mut audit = Audit {
        worst: None,
        known: None,
        parts: parts.to_vec(),
        findings,
        listeners,
        interfaces: facts
            .interfaces
            .into_iter()
            .map(|one| AuditedInterface {
                name: shown(&one.name),
                addresses: one.addresses,
                filtered: one.filtered,
            })
            .collect(),
        firewall: facts
            .firewall
            .iter()
            .map(|rules| RuleSet { tool: rules.tool.clone(), chains: firewall::in_words(rules) })
            .collect(),
        asterisk: facts.asterisk.map(|asterisk| AuditedAsterisk {
            source: asterisk.source,
            transports: asterisk.transports,
            rtp_first: asterisk.rtp.map(|(first, _)| first),
            rtp_last: asterisk.rtp.map(|(_, last)| last),
        }),
        version: facts.version,
        host: shown(&facts.host),
        time: facts.time,
        wazo: facts.wazo,
        filter: facts.filter,
        unread: facts.unread,
    };
    grade(&mut audit);
    audit
}

/// Sets the worst severity.
pub(crate) fn grade(audit: &mut Audit) {
    audit.worst = audit.findings.iter().map(|finding| finding.severity).max();
}

/// That the audit is incomplete.
fn unread(facts: &Facts) -> Option<AuditFinding> {
    if facts.unread.is_empty() {
        return None;
    }
    let evidence = facts.unread.iter().map(|one| format!("{}: {}", one.what, one.why));
    Some(AuditFinding {
        id: "incomplete".to_owned(),
        severity: Severity::Warning,
        title: "the audit is incomplete: not everything could be read".to_owned(),
        reason: "what was not read may have more findings".to_owned(),
        evidence: evidence.collect(),
        remedy: "see why, and run the audit again".to_owned(),
        line: None,
        page: None,
    })
}

/// The exit status: 0 for nothing and for notes, 1 for warnings, 2 for what is critical.
pub fn exit_status(audit: &Audit) -> u8 {
    match audit.worst {
        None | Some(Severity::Note) => 0,
        Some(Severity::Warning) => 1,
        Some(Severity::Critical) => 2,
    }
}
