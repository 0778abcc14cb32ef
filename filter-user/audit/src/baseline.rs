//! What is new since an earlier audit.

use std::collections::BTreeMap;

use api::{Audit, Severity};

use crate::report::grade;

/// Removes findings that the earlier audit has with the same id, unless they are worse now.
pub fn leave_out(audit: &mut Audit, earlier: &Audit) {
    let known: BTreeMap<&str, Severity> =
        earlier.findings.iter().map(|finding| (&*finding.id, finding.severity)).collect();
    let before = audit.findings.len();
    audit.findings.retain(|finding| {
        known.get(&*finding.id).is_none_or(|severity| finding.severity > *severity)
    });
    audit.known = u64::try_from(before - audit.findings.len()).ok();
    grade(audit);
}

/// Reads an earlier audit, as `--json` prints it.
///
/// # Errors
///
/// If it is none; why, in words.
pub fn parse(text: &[u8]) -> Result<Audit, String> {
    serde_json::from_slice(text).map_err(|error| {
        format!("this is not an audit as printed by `ringfence audit --json`: {error}")
    })
}
