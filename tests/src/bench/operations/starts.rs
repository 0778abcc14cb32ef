//! The time from a start until the daemon reports to the service manager that the host is
//! protected: with the tables of the previous run (a restart), and without them (a boot, when the
//! bans are read from the store).

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::Part;
use super::report::Row;
use super::site::Site;
use crate::bench::figures::Spread;
use crate::interrupt;

/// The numbers of bans.
const BANS: [u32; 2] = [0, 1_000_000];
/// A start with a million bans is measured at most this many times.
const ROUNDS_MAX: u32 = 3;
const LIMIT: Duration = Duration::from_mins(1);
/// The maximum length of a message to the service manager.
const MESSAGE_MAX: usize = 4096;

pub(super) fn measure(binary: &Path, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for bans in BANS {
        let mut manager = None;
        let mut site = Site::start(binary, |config, directory| {
            let socket = directory.join("notify");
            manager = UnixDatagram::bind(&socket).ok();
            config.environment.push(("NOTIFY_SOCKET".to_owned(), socket.display().to_string()));
        })?;
        let reports = reports(manager.context("make a socket")?);
        site.fill(bans)?;
        for (is_boot, name) in [(false, "restart"), (true, "boot")] {
            let mut seconds = Vec::new();
            for _round in 0..rounds.min(ROUNDS_MAX) {
                interrupt::check()?;
                site.ringfence.stop()?;
                if is_boot {
                    site.ringfence.detach()?.success("ringfence detach")?;
                }
                while reports.try_recv().is_ok() {}
                let started = Instant::now();
                site.ringfence.restart(&site.cable.far)?;
                let ready = reports.recv_timeout(LIMIT).context("the daemon is not ready")?;
                seconds.push(ready.saturating_duration_since(started).as_secs_f64());
            }
            let figure = Spread::of(seconds).context("no rounds")?;
            rows.push(Row::new(
                Part::Starts,
                format!("protected at a {name}, {bans} bans"),
                "s",
                figure,
            ));
        }
    }
    Ok(rows)
}

/// The times at which the daemon reported that it is ready.
fn reports(manager: UnixDatagram) -> Receiver<Instant> {
    let (tell, reports) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; MESSAGE_MAX];
        while let Ok(length) = manager.recv(&mut buffer) {
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            if text.lines().any(|line| line == "READY=1") && tell.send(Instant::now()).is_err() {
                return;
            }
        }
    });
    reports
}
