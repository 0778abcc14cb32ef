//! The doctor's findings and the state of the filter as parts of an audit.

use ::audit::facts::Interface;
use ::audit::words::{part_of_id, printable};
use api::{AuditFinding, AuditedFilter, Severity, Status, Verdict};

use crate::check::Level;
use crate::doctor::Finding;

/// Why most findings of the doctor matter.
const LOWER: &str = "it reduces protection";

/// The state of the filter.
pub(super) fn filter(status: &Result<Status, String>, interfaces: &[Interface]) -> AuditedFilter {
    match status {
        Ok(status) => {
            let dropped = status.reasons.values().filter(|one| one.verdict == Verdict::Drop);
            let protected = status.interfaces.iter().filter(|one| one.protected);
            AuditedFilter {
                daemon: true,
                why: None,
                enforcing: Some(status.enforcing),
                interfaces: protected.map(|one| one.name.clone()).collect(),
                bans: Some(status.bans.active),
                dropped: Some(dropped.map(|one| one.packets).sum()),
            }
        }
        Err(why) => AuditedFilter {
            daemon: false,
            why: Some(why.clone()),
            enforcing: None,
            interfaces: {
                let filtered = interfaces.iter().filter(|one| one.filtered);
                filtered.map(|one| one.name.clone()).collect()
            },
            bans: None,
            dropped: None,
        },
    }
}

/// The doctor's findings: those about the configuration, which would prevent the daemon's next start, and
/// the others.
pub(super) fn findings(
    of_configuration: &[Finding],
    graded: &[(Level, Finding)],
) -> Vec<AuditFinding> {
    let of_configuration = of_configuration.iter().map(|one| (Level::Warning, one));
    let others = graded.iter().map(|(level, one)| (*level, one));
    of_configuration.chain(others).map(|(level, one)| finding(level, one)).collect()
}

fn finding(level: Level, Finding { subject, problem, remedy, .. }: &Finding) -> AuditFinding {
    let (severity, reason) = match level {
        Level::Ok => (Severity::Note, "it costs something, and leaves the host protected"),
        Level::Warning => (Severity::Warning, LOWER),
        Level::Critical => (
            Severity::Critical,
            "packets may arrive that nobody judges, or attacks of which nobody hears",
        ),
    };
    AuditFinding {
        id: format!("doctor/{}/{}", part_of_id(subject), part_of_id(&words(problem))),
        severity,
        title: printable(&format!("{subject}: {problem}")),
        reason: reason.to_owned(),
        evidence: Vec::new(),
        remedy: printable(remedy),
        line: None,
        page: None,
    }
}

/// The text of a problem without numbers, which may change from one audit to the next.
fn words(problem: &str) -> String {
    let letters: String =
        problem.chars().map(|c| if c.is_ascii_alphabetic() { c } else { ' ' }).collect();
    letters.split_whitespace().collect::<Vec<_>>().join("-")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::healthy;

    #[test]
    fn a_problem_keeps_its_id_while_its_numbers_change() {
        let finding = |problem: &str| {
            let all = [(
                Level::Critical,
                Finding {
                    subject: "eth0".to_owned(),
                    problem: problem.to_owned(),
                    remedy: "do this".to_owned(),
                    fix: None,
                },
            )];
            findings(&[], &all).remove(0)
        };
        let (one, other) = (finding("3 lines lost"), finding("77 lines lost"));
        assert_eq!((&*one.id, &one.id), ("doctor/eth0/lines-lost", &other.id));
        assert_eq!(one.severity, Severity::Critical);
        assert_eq!(one.title, "eth0: 3 lines lost");
    }

    #[test]
    fn the_state_of_the_filter_with_a_daemon_and_without() {
        let state = filter(&Ok(healthy()), &[]);
        assert_eq!((state.daemon, state.bans, state.interfaces.len()), (true, Some(3), 2));
        let interface = |name: &str, filtered| Interface {
            name: name.to_owned(),
            addresses: Vec::new(),
            filtered,
        };
        let all = [interface("eth0", true), interface("eth1", false)];
        let state = filter(&Err("no daemon answers".to_owned()), &all);
        assert_eq!(
            (state.why.as_deref(), state.interfaces),
            (Some("no daemon answers"), vec!["eth0".to_owned()])
        );
    }
}
