//! The time from the failure that leads to a ban until its source is dropped, while the daemon has other
//! work: a million bans that are listed, lifted or end together, a log whose lines are expensive to read,
//! clients that send requests, a log that no process reads, a full disk, listeners to events, and hostile
//! requests.
//!
//! The stage is that of `latency`. Each load has its own daemon.

mod loads;
mod watchers;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow};
use serde::Serialize;

pub use self::loads::Load;
use super::figures::percentile;
use super::latency::{Stage, Time, Way};
use crate::netns;
use crate::ringfence::Config;
use crate::screen::{Paint, Screen};

/// The time that 99 of 100 bans must not exceed, in milliseconds.
const PROMISED_MS: f64 = 10.0;

/// How long the daemon is left idle between the earlier failures of a source and the last one.
const REST: Duration = Duration::from_millis(5);

/// The settings of a measurement.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `ringfence` binary.
    pub ringfence: Option<PathBuf>,
    /// The number of bans in the loads that use them.
    pub bans: u32,
    /// The minimum number of bans that are timed beside each load.
    pub timed: u32,
    /// The loads.
    pub loads: Vec<Load>,
}

/// The bans beside one load.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    load: Load,
    /// The work that the load did meanwhile.
    did: String,
    /// The peak memory of the daemon before and after the load, in MiB.
    peak_mib: [f64; 2],
    /// What a packet of a banned source costs in the filter before the load and beside it, in nanoseconds: the least
    /// of several runs.
    packet_ns: [f64; 2],
    times: Vec<Time>,
}

/// The result. `--json` writes its JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `busy`.
    pub benchmark: &'static str,
    measurements: Vec<Measurement>,
}

/// Measures. Everything that it creates is removed when it returns.
///
/// # Errors
///
/// If a requirement is missing, a source is not banned, or the run is interrupted. A missed promise is
/// not an error; see [`Report::targets_met`].
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    netns::sweep().context("remove what an earlier run left behind")?;
    let binary = settings.ringfence.as_deref();
    let binary = binary.context("which ringfence? Name it with --ringfence PATH")?;
    loads::unmount_disks().context("unmount what an earlier run left behind")?;
    let mut measurements = Vec::new();
    for load in &settings.loads {
        // Created before the stage, so that the daemon ends before its disk is removed.
        let disk = load.disk()?;
        let adjust =
            |config: &mut Config, directory: &Path| load.adjust(config, directory, disk.as_ref());
        let mut stage = Stage::build_with(binary, adjust)?;
        let (client, entry) = (stage.ringfence().client().clone(), stage.ringfence().entry());
        load.prepare(&client, settings.bans)?;
        let before = peak(stage.ringfence().id())?;
        let mut packet_ns = [stage.packet_ns()?, f64::INFINITY];
        let (begun, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let mut times = Vec::new();
        let did = thread::scope(|scope| -> anyhow::Result<String> {
            let (begins, over) = (Arc::clone(&begun), Arc::clone(&is_over));
            let loading = scope.spawn(move || load.run((&client, &entry), &begins, &over));
            let measured = (|| -> anyhow::Result<()> {
                let enough = usize::try_from(settings.timed)?;
                while !loading.is_finished() && (load.ends_by_itself() || times.len() < enough) {
                    let counts = begun.load(Ordering::Relaxed);
                    let time = stage.one(Way::Log, REST)?;
                    if counts {
                        packet_ns[1] = packet_ns[1].min(stage.packet_ns()?);
                    }
                    times.extend(Some(time).filter(|_| counts));
                }
                Ok(())
            })();
            is_over.store(true, Ordering::Relaxed);
            let did = loading.join().map_err(|_panic| anyhow!("the load panicked"))?;
            measured?;
            did
        })?;
        let peak_mib = [before, peak(stage.ringfence().id())?];
        stage.ringfence().check()?;
        let measurement = Measurement { load: *load, did, peak_mib, packet_ns, times };
        screen.say(&measurement.row(screen.paint()))?;
        measurements.push(measurement);
    }
    Ok(Report { benchmark: "busy", measurements })
}

/// The peak memory of a process, in MiB (proc(5), `VmHWM`).
fn peak(process: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{process}/status");
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    Ok(kib.with_context(|| format!("{path} has no VmHWM"))? / 1024.0)
}

impl Measurement {
    fn percentile(&self, percent: usize, of: fn(&Time) -> f64) -> f64 {
        let times: Vec<f64> = self.times.iter().map(of).collect();
        percentile(&times, percent).unwrap_or(f64::INFINITY)
    }

    fn is_met(&self) -> bool {
        self.percentile(99, |time| time.cpu_free) < PROMISED_MS
    }

    fn row(&self, paint: Paint) -> String {
        let clock = |percent| self.percentile(percent, |time| time.clock);
        let free = |percent| self.percentile(percent, |time| time.cpu_free);
        let [before, after] = self.peak_mib;
        let [alone, beside] = self.packet_ns;
        format!(
            "  {}  {:<22} {:>5} bans, ms: p50 {:.2}, p99 {:.2}, worst {:.2}; on the clock {:.2}, {:.2}, {:.2}; peak {before:.0}\u{2192}{after:.0} MiB; a packet {alone:.0}\u{2192}{beside:.0} ns; {}",
            if self.is_met() { paint.good("met   ") } else { paint.bad("MISSED") },
            self.load.name(),
            self.times.len(),
            free(50),
            free(99),
            free(100),
            clock(50),
            clock(99),
            clock(100),
            self.did,
        )
    }
}

impl Report {
    /// Whether every promise was kept.
    pub fn targets_met(&self) -> bool {
        !self.measurements.is_empty() && self.measurements.iter().all(Measurement::is_met)
    }

    /// The report as text.
    pub fn text(&self, paint: Paint) -> String {
        let rows = self.measurements.iter().map(|measurement| measurement.row(paint));
        let head = paint.bold("From the failure that leads to a ban to the drop, beside each load");
        let foot = paint.dim(&format!(
            "  without waiting for other processes; promised: p99 < {PROMISED_MS} ms"
        ));
        std::iter::once(head).chain(rows).chain([foot]).collect::<Vec<_>>().join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_fifty_that_is_late_misses_the_promise() {
        let measurement = |slowest| {
            let time = |cpu_free| Time { clock: cpu_free, cpu_free };
            let mut times = vec![time(0.3); 98];
            times.extend([time(slowest); 2]);
            Measurement {
                load: Load::Nothing,
                did: String::new(),
                peak_mib: [1.0; 2],
                packet_ns: [1.0; 2],
                times,
            }
        };
        let report =
            |slowest| Report { benchmark: "busy", measurements: vec![measurement(slowest)] };
        assert!(report(9.99).targets_met() && !report(10.0).targets_met());
        assert!(report(10.0).text(Paint::PLAIN).contains("MISSED"));
        assert!(peak(std::process::id()).unwrap() > 1.0);
    }
}
