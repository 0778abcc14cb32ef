//! Messages to the service manager, as `sd_notify(3)` describes them.
//!
//! The protocol is a datagram of `NAME=VALUE` lines, which takes fewer lines than a library takes to audit.

use std::env;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use log::warn;

/// How many times a sign of life is sent within the time that the service manager allows between two.
const BEATS: u32 = 3;

/// The service manager, if there is one.
#[derive(Debug, Default)]
pub(super) struct Notify {
    manager: Option<(UnixDatagram, SocketAddr)>,
    beat: Option<Beat>,
    is_ready: bool,
    status: String,
}

/// When signs of life are due.
#[derive(Debug)]
struct Beat {
    every: Duration,
    last: Instant,
}

impl Notify {
    /// The service manager that the environment names.
    pub(super) fn of_environment() -> Self {
        let Some(name) = env::var("NOTIFY_SOCKET").ok().filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let owner = env::var("WATCHDOG_PID").ok();
        let interval = env::var("WATCHDOG_USEC").ok();
        let interval =
            interval.filter(|_| owner.is_none_or(|pid| pid == process::id().to_string()));
        Self::to(&name, interval.as_deref()).unwrap_or_else(|why| {
            warn!("cannot notify the service manager: {why:#}");
            Self::default()
        })
    }

    /// The service manager at a socket, and the interval of its watchdog in microseconds.
    fn to(name: &str, interval: Option<&str>) -> Result<Self> {
        let address = match name.strip_prefix('@') {
            Some(name) => SocketAddr::from_abstract_name(name),
            None => SocketAddr::from_pathname(name),
        };
        let address = address.with_context(|| format!("the socket {name}"))?;
        let socket = UnixDatagram::unbound().context("open a socket")?;
        // A service manager that does not read must not stop the daemon.
        socket.set_nonblocking(true).context("make the socket non-blocking")?;
        let interval = interval.and_then(|interval| interval.parse().ok()).filter(|us| *us > 0);
        let beat = interval.map(|interval| {
            let every = Duration::from_micros(interval) / BEATS;
            Beat { every, last: Instant::now() }
        });
        Ok(Self { manager: Some((socket, address)), beat, ..Self::default() })
    }

    /// Whether the start was reported.
    pub(super) fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Reports that the daemon protects the host.
    pub(super) fn ready(&mut self) {
        self.is_ready = true;
        self.send("READY=1");
    }

    /// Reports that a reload has begun, until [`ready`](Self::ready).
    pub(super) fn reloading(&self) {
        let now = crate::clock::now().0 / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
    }

    /// Reports that the daemon ends.
    pub(super) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=the filter stays attached");
    }

    /// Sets the line that `systemctl status` shows.
    pub(super) fn status(&mut self, status: String) {
        if self.manager.is_some() && status != self.status {
            self.send(&format!("STATUS={}", status.replace('\n', " ")));
            self.status = status;
        }
    }

    /// Sends a sign of life if one is due.
    pub(super) fn live(&mut self) {
        let Some(beat) = &mut self.beat else { return };
        if beat.last.elapsed() >= beat.every {
            beat.last = Instant::now();
            self.send("WATCHDOG=1");
        }
    }

    /// How long until the next sign of life is due.
    pub(super) fn until_due(&self) -> Option<Duration> {
        let beat = self.beat.as_ref()?;
        Some(beat.every.saturating_sub(beat.last.elapsed()))
    }

    fn send(&self, text: &str) {
        let Some((socket, manager)) = &self.manager else { return };
        if let Err(why) = socket.send_to_addr(text.as_bytes(), manager) {
            log::debug!("cannot notify the service manager: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager() -> (tempfile::TempDir, UnixDatagram, String) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_nonblocking(true).unwrap();
        (directory, manager, path.display().to_string())
    }

    fn received(manager: &UnixDatagram) -> Vec<String> {
        let mut datagram = [0; 512];
        let mut all = Vec::new();
        while let Ok(length) = manager.recv(&mut datagram) {
            all.push(String::from_utf8(datagram[..length].to_vec()).unwrap());
        }
        all
    }

    #[test]
    fn reports_start_status_and_end() {
        let (_directory, manager, path) = manager();
        let mut notify = Notify::to(&path, None).unwrap();
        assert!(received(&manager).is_empty() && !notify.is_ready());
        notify.ready();
        assert!(notify.is_ready());
        notify.status("protects eth0\nREADY=0".to_owned());
        notify.status("protects eth0\nREADY=0".to_owned());
        notify.stopping();
        assert_eq!(
            received(&manager),
            [
                "READY=1",
                "STATUS=protects eth0 READY=0",
                "STOPPING=1\nSTATUS=the filter stays attached"
            ]
        );
    }

    #[test]
    fn a_reload_has_a_begin_and_an_end() {
        let (_directory, manager, path) = manager();
        let mut notify = Notify::to(&path, None).unwrap();
        notify.reloading();
        notify.ready();
        let told = received(&manager);
        assert!(told[0].starts_with("RELOADING=1\nMONOTONIC_USEC="), "{told:?}");
        assert_eq!(told[1], "READY=1");
    }

    #[test]
    fn signs_of_life_come_in_time() {
        let (_directory, manager, path) = manager();
        let mut silent = Notify::to(&path, Some("3600000000")).unwrap();
        silent.live();
        assert!(received(&manager).is_empty());
        let due = silent.until_due().unwrap();
        assert!(due <= Duration::from_mins(20) && due > Duration::from_mins(19), "{due:?}");
        let mut due = Notify::to(&path, Some("3")).unwrap();
        while due.until_due().unwrap() > Duration::ZERO {}
        due.live();
        assert_eq!(received(&manager), ["WATCHDOG=1"]);
        for interval in [None, Some("0"), Some("x")] {
            assert_eq!(Notify::to(&path, interval).unwrap().until_due(), None);
        }
    }

    #[test]
    fn without_a_service_manager_nothing_happens() {
        let mut nobody = Notify::default();
        nobody.live();
        nobody.ready();
        nobody.status("protects eth0".to_owned());
        assert_eq!(nobody.until_due(), None);
        let (directory, manager, path) = manager();
        let mut gone = Notify::to(&path, Some("1")).unwrap();
        drop((manager, directory));
        gone.live();
        gone.stopping();
    }
}
