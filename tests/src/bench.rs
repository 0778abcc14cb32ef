//! Measurements, each of ringfence beside a rival in the same run.

pub mod busy;
mod code;
pub mod detection;
pub(crate) mod figures;
pub mod fleet;
pub mod hearing;
pub mod latency;
pub mod operations;
pub mod packets;
pub mod phone;
mod process;
pub mod reaction;
mod sender;
mod sources;
mod stopwatch;
pub mod watched;
pub mod week;

use std::path::Path;

use anyhow::Context;
use serde::Serialize;

/// A count as a figure; none here comes close to 2^52.
#[expect(clippy::cast_precision_loss, reason = "packets of minutes at most")]
fn float(count: u64) -> f64 {
    count as f64
}

/// Writes a report where `--json` asks for it.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_json(report: &impl Serialize, path: &Path) -> anyhow::Result<()> {
    let mut text = serde_json::to_string_pretty(report).context("make JSON of the report")?;
    text.push('\n');
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
