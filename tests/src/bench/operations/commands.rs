//! The time of each command, from the start of its process to its end.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, ensure};

use super::Part;
use super::report::Row;
use super::site::{Site, banned};
use crate::bench::figures::Spread;
use crate::interrupt;

/// The number of bans.
const BANS: [u32; 2] = [0, 100_000];

/// The command that lists the newest bans.
const FIRST_BANS: &str = "bans --limit 20";

/// The most milliseconds that it may take.
const FIRST_BANS_PROMISED: f64 = 300.0;

/// The commands in their order: some end what an earlier one began. `ADDR` is an address that is
/// banned, if there are bans.
const COMMANDS: [&str; 21] = [
    "status",
    "status --check",
    "bans",
    FIRST_BANS,
    "bans --sort packets --limit 20",
    "bans --in 192.0.2.0/24",
    "bans --export",
    "why ADDR",
    "jails",
    "jails asterisk-wazo",
    "peers",
    "history",
    "ban 203.0.113.5",
    "unban 203.0.113.5",
    "allow 203.0.113.6",
    "allows",
    "disallow 203.0.113.6",
    "set sshd maxretry 7",
    "reload --dry-run",
    "reload",
    "check-config",
];

pub(super) fn measure(binary: &Path, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for bans in BANS {
        let site = Site::start(binary, |_config, _directory| ())?;
        site.fill(bans)?;
        let config = site.ringfence.config_file();
        let mut times = vec![Vec::new(); COMMANDS.len()];
        for _round in 0..rounds {
            for (line, times) in COMMANDS.iter().zip(&mut times) {
                interrupt::check()?;
                let line = line.replace("ADDR", &banned().to_string());
                times.push(time(binary, config, &line)?);
            }
        }
        for (line, times) in COMMANDS.iter().zip(times) {
            let figure = Spread::of(times).context("no rounds")?;
            let row = Row::new(Part::Commands, format!("{line}, {bans} bans"), "ms", figure);
            rows.push(if *line == FIRST_BANS { row.at_most(FIRST_BANS_PROMISED) } else { row });
        }
    }
    Ok(rows)
}

/// Milliseconds of one command.
fn time(binary: &Path, config: &Path, line: &str) -> anyhow::Result<f64> {
    let mut command = Command::new(binary);
    command.arg("-c").arg(config).args(line.split(' ')).stdin(Stdio::null());
    let started = Instant::now();
    let output = command.output().with_context(|| format!("run ringfence {line}"))?;
    let took = started.elapsed();
    // 1 means that `status --check` found a warning, for example because Asterisk does not run.
    ensure!(
        output.status.success() || line.ends_with("--check"),
        "ringfence {line} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(took.as_secs_f64() * 1e3)
}
