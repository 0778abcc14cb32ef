//! The view of what the doctor and the last audit have found.

use api::{Audit, AuditFinding, Severity};
use jiff::Timestamp;
use maud::{Markup, html};

use super::parts::{ago, foreign, sentence, table, tag, text};
use crate::check::Level;
use crate::doctor::Finding;

/// The most findings of an audit that are shown.
const FINDINGS_MAX: usize = 200;

/// After this many seconds an audit is old.
const OLD: i64 = 7 * 24 * 3600;

/// What has been found.
#[derive(Clone, Debug)]
pub struct Found {
    /// When the doctor looked.
    pub at: String,
    /// What it found, each with its severity for monitoring.
    pub doctor: Vec<(Level, Finding)>,
    /// The last audit, if there is one, or why it cannot be read.
    pub audit: Result<Option<Audit>, String>,
}

/// The view.
pub fn view(found: &Found) -> Markup {
    html! {
        h1 { "Findings" }
        h2 { "What reduces protection" }
        p.dim { "The doctor looked " (ago(&found.at)) ", as far as the service can see. " code { "ringfence doctor" }
            " as root sees more, and solves some of it with " code { "--fix" } "." }
        (of_doctor(&found.doctor))
        h2 { "The last audit of the host" }
        @match &found.audit {
            Ok(Some(audit)) => (of_audit(audit)),
            Ok(None) => p { "There is none. " code { "ringfence audit" } " as root makes one, which then stands here." },
            Err(why) => p.says role="alert" { (foreign(why)) },
        }
    }
}

fn of_doctor(findings: &[(Level, Finding)]) -> Markup {
    let columns = [text("About"), text("Level"), text("Problem"), text("What to do")];
    let row = |(level, finding): &(Level, Finding)| {
        let level = match level {
            Level::Critical => tag("critical", "critical"),
            Level::Warning => tag("warning", "warning"),
            Level::Ok => tag("plain", "note"),
        };
        let Finding { subject, problem, remedy, .. } = finding;
        vec![foreign(subject), level, sentence(problem), sentence(remedy)]
    };
    let rows = findings.iter().map(row).collect();
    table("Each problem, and how to solve it", &columns, rows, "No problems found.")
}

fn of_audit(audit: &Audit) -> Markup {
    // What the doctor finds stands above, as it is now.
    let findings: Vec<&AuditFinding> =
        audit.findings.iter().filter(|finding| !finding.id.starts_with("doctor/")).collect();
    let seconds =
        audit.time.parse::<Timestamp>().map(|at| Timestamp::now().as_second() - at.as_second());
    let columns = [text("Finding"), text("Level"), text("Why"), text("What to do")];
    let row = |finding: &&AuditFinding| {
        let level = match finding.severity {
            Severity::Critical => tag("critical", "critical"),
            Severity::Warning => tag("warning", "warning"),
            Severity::Note => tag("plain", "note"),
        };
        vec![
            sentence(&finding.title),
            level,
            sentence(&finding.reason),
            html! {
                (sentence(&finding.remedy))
                @if let Some(line) = &finding.line { br; code { (sentence(line)) } }
            },
        ]
    };
    let rows = findings.iter().take(FINDINGS_MAX).map(row).collect();
    let more = findings.len().saturating_sub(FINDINGS_MAX);
    html! {
        p.dim {
            "Made " (ago(&audit.time)) ". "
            @if seconds.is_ok_and(|seconds| seconds > OLD) { (tag("warning", "old")) " " }
            "It does not change until " code { "ringfence audit" } " runs again."
            @if let Some(known) = audit.known.filter(|known| *known > 0) {
                " Findings that were known before and are left out: " (known) "."
            }
        }
        (table("Each finding, the worst first", &columns, rows, "No problems found."))
        @if more > 0 { p.dim { (more) " more: type " code { "ringfence audit" } "." } }
        @if !audit.unread.is_empty() {
            p { "The audit is incomplete, because some facts could not be read:" }
            ul { @for one in audit.unread.iter().take(FINDINGS_MAX) {
                li { (foreign(&one.what)) ": " (sentence(&one.why)) }
            } }
        }
    }
}
