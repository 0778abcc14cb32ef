//! Debian's Kamailio as a proxy in front of Asterisk, in a namespace. It is not installed.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::child::Running;
use crate::netns::Netns;
use crate::{debian, interrupt, scratch};

const LIMIT: Duration = Duration::from_secs(20);

/// A running proxy, ended when dropped.
#[derive(Debug)]
pub struct Proxy {
    process: Running,
    // The last field, so that the files outlive the process.
    directory: TempDir,
}

impl Proxy {
    /// Starts it on the SIP port of `address` over UDP. It passes everything on to `pbx`.
    ///
    /// # Errors
    ///
    /// If it cannot be downloaded or started; the error contains its output.
    pub fn start(host: &Netns, cache: &Path, address: IpAddr, pbx: IpAddr) -> anyhow::Result<Self> {
        let root = debian::unpacked(cache, "kamailio")?;
        let libraries = libraries(&root)?;
        let directory = scratch::directory("proxy")?;
        let config = directory.path().join("kamailio.cfg");
        let modules = libraries.join("kamailio/modules/").display().to_string();
        let text = include_str!("../lab/proxy/kamailio.cfg.in")
            .replace("@ADDRESS@", &address.to_string())
            .replace("@PBX@", &pbx.to_string())
            .replace("@MODULES@", &modules);
        fs::write(&config, text).context("write Kamailio's configuration")?;
        let log = File::create(directory.path().join("log")).context("create Kamailio's log")?;
        let mut command = host.command(root.join("usr/sbin/kamailio"));
        let own = libraries.join("kamailio");
        command.env("LD_LIBRARY_PATH", format!("{}:{}", own.display(), libraries.display()));
        // In the foreground, with its log on standard error.
        command.args(["-DD", "-E", "-m", "32", "-M", "4", "-f"]).arg(&config);
        command.arg("-Y").arg(directory.path()).stdin(Stdio::null());
        command.stdout(log.try_clone().context("duplicate a file")?).stderr(log);
        let process = Running::spawn("kamailio", &mut command)?;
        let mut proxy = Self { process, directory };
        let deadline = Instant::now() + LIMIT;
        while !is_bound(host)? {
            interrupt::check()?;
            let ended = proxy.process.ended()?.is_some();
            ensure!(!ended && Instant::now() < deadline, "Kamailio is not up:\n{}", proxy.log());
            thread::sleep(Duration::from_millis(20));
        }
        Ok(proxy)
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Its first process ends the others when it is asked to end, and not when it is killed.
        self.process.terminate(LIMIT).ok();
    }
}

/// Whether a process has a socket at the SIP port.
fn is_bound(host: &Netns) -> anyhow::Result<bool> {
    let sockets =
        host.run_in(|| fs::read_to_string("/proc/thread-self/net/udp").context("read sockets"))?;
    Ok(sockets.contains(":13C4 "))
}

/// The directory with Kamailio's libraries.
fn libraries(root: &Path) -> anyhow::Result<PathBuf> {
    let lib = root.join("usr/lib");
    let entries = fs::read_dir(&lib).with_context(|| format!("list {}", lib.display()))?;
    let mut found = entries.flatten().map(|entry| entry.path());
    found.find(|at| at.join("kamailio").is_dir()).context("the package has no modules")
}
