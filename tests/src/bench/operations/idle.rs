//! CPU time and memory of the idle daemon, and its peak memory while it lists all bans.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::Part;
use super::report::Row;
use super::site::{Site, cpu_time, peak_during, resident};
use crate::bench::figures::Spread;
use crate::interrupt;
use crate::ringfence::Config;

/// The number of bans, what else is on, and the promised memory in megabytes.
const CASES: [(u32, Option<&str>, f64); 3] =
    [(0, None, 20.0), (0, Some(ALL_OF_IT), 25.0), (100_000, None, 60.0)];
/// What people and programs look at and are told by.
const ALL_OF_IT: &str = "\
api: {listen: '127.0.0.1:9499'}
alerts: {people: {syslog: true}, program: {command: [/bin/true]}}
actions: {program: {command: [/bin/true]}}
";
/// The promised share of a core in per cent.
const CPU_PROMISED: f64 = 0.1;
/// The promised additional memory for a list, in megabytes.
const LIST_PROMISED: f64 = 20.0;
/// After this time, the work that follows a start has finished.
const SETTLE: Duration = Duration::from_secs(15);

pub(super) fn measure(binary: &Path, seconds: f64) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (bans, also, promised) in CASES {
        let adjust = |config: &mut Config, _directory: &Path| {
            config.more.push_str(also.unwrap_or_default());
        };
        let site = Site::start(binary, adjust)?;
        let case =
            format!("{bans} bans{}", also.map_or("", |_| ", API, page, alerts and actions on"));
        site.fill(bans)?;
        sleep(SETTLE)?;
        let process = site.ringfence.id();
        let (before, started) = (cpu_time(process)?, Instant::now());
        sleep(Duration::from_secs_f64(seconds))?;
        let worked = cpu_time(process)?.saturating_sub(before);
        let share = worked.as_secs_f64() / started.elapsed().as_secs_f64() * 100.0;
        let memory = resident(process)?;
        let row = |name: &str, unit, value| {
            let figure = Spread { median: value, min: value, max: value };
            Row::new(Part::Idle, format!("{name}, {case}"), unit, figure)
        };
        rows.push(row("CPU while idle", "% of a core", share).at_most(CPU_PROMISED));
        let tables = format!("and {:.1} MB of mapped tables", memory.tables);
        rows.push(row("resident", "MB", memory.own).at_most(promised).note(tables));
        if bans > 0 {
            let peak = peak_during(process, || {
                let list = site.ringfence.client().run(&["bans"], true)?;
                list.success("ringfence bans").map(drop)
            })?;
            rows.push(row("more while all are listed", "MB", peak).at_most(LIST_PROMISED));
        }
    }
    Ok(rows)
}

fn sleep(time: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        interrupt::check()?;
        thread::sleep(
            Duration::from_millis(100).min(end.saturating_duration_since(Instant::now())),
        );
    }
    Ok(())
}
