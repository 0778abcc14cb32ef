//! Sizes of the binary, and of the package that `cargo xtask deb` made last.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::Part;
use super::report::Row;
use crate::bench::figures::Spread;
use crate::bench::float;

/// The largest size of the binary in megabytes.
const BINARY_PROMISED: f64 = 15.0;

pub(super) fn measure(binary: &Path) -> anyhow::Result<Vec<Row>> {
    let target = binary.ancestors().nth(2).context("the binary is in no target directory")?;
    let installed = target.join("debian/work/ringfence/usr/sbin/ringfence");
    let mut rows = Vec::new();
    let add = |name: &str, file: &Path| -> anyhow::Result<Row> {
        let size = fs::metadata(file).with_context(|| format!("look at {}", file.display()))?.len();
        let size = float(size) / 1e6;
        Ok(Row::new(Part::Sizes, name, "MB", Spread { median: size, min: size, max: size }))
    };
    if installed.is_file() {
        rows.push(add("the binary as it is installed", &installed)?.at_most(BINARY_PROMISED));
    }
    if let Some(package) = package(&target.join("debian")) {
        rows.push(add("the package", &package)?);
    }
    if rows.is_empty() {
        rows.push(add("the binary", binary)?.note("the package: after `cargo xtask deb`"));
    }
    Ok(rows)
}

fn package(directory: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    let is_it = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("ringfence_") && name.ends_with("_amd64.deb")
    };
    entries.filter(is_it).max()
}
