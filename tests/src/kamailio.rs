//! Kamailio from Debian's package, which is not installed, in a namespace: as a registrar, or as a proxy in front of
//! Asterisk.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use tempfile::TempDir;

use crate::child::Running;
use crate::netns::Netns;
use crate::{debian, interrupt, scratch};

const START_LIMIT: Duration = Duration::from_mins(1);

/// The only password.
pub const PASSWORD: &str = "kamailio-secret";

/// A running Kamailio, killed when dropped.
#[derive(Debug)]
pub struct Kamailio {
    process: Running,
    // The last field, so that the files outlive the process.
    directory: TempDir,
}

impl Kamailio {
    /// Starts it as a registrar at the SIP port of an address of `host`, over UDP and TCP. Every user has
    /// [`PASSWORD`]. Its nonces depend on the source only if `checks` says so, which is not its default.
    ///
    /// # Errors
    ///
    /// If it cannot be downloaded or does not start; the error contains its output.
    pub fn registrar(host: &Netns, cache: &Path, at: IpAddr, checks: bool) -> anyhow::Result<Self> {
        let checks = if checks {
            "modparam(\"auth\", \"auth_checks_register\", 8)\n\
             modparam(\"auth\", \"auth_checks_no_dlg\", 8)\n\
             modparam(\"auth\", \"auth_checks_in_dlg\", 8)\n"
        } else {
            ""
        };
        let text = include_str!("../lab/kamailio/registrar.cfg.in")
            .replace("@CHECKS@", checks)
            .replace("@PASSWORD@", PASSWORD);
        Self::start(host, cache, at, &text, 2)
    }

    /// Starts it as a proxy at the SIP port of an address of `host`, over UDP. It passes everything on to `pbx`.
    ///
    /// # Errors
    ///
    /// If it cannot be downloaded or does not start; the error contains its output.
    pub fn proxy(host: &Netns, cache: &Path, at: IpAddr, pbx: IpAddr) -> anyhow::Result<Self> {
        let text = include_str!("../lab/kamailio/proxy.cfg.in").replace("@PBX@", &pbx.to_string());
        Self::start(host, cache, at, &text, 1)
    }

    /// Starts it with a configuration by which it has this many sockets at the SIP port.
    fn start(
        host: &Netns,
        cache: &Path,
        at: IpAddr,
        text: &str,
        sockets: usize,
    ) -> anyhow::Result<Self> {
        let root = debian::unpacked(cache, "kamailio")?;
        let libraries = libraries(&root)?;
        let directory = scratch::directory("kamailio")?;
        let text = text
            .replace("@ADDRESS@", &in_uri(at))
            .replace("@MODULES@", &libraries.join("kamailio/modules/").display().to_string());
        let config = directory.path().join("kamailio.cfg");
        fs::write(&config, text).context("write Kamailio's configuration")?;
        let log = File::create(directory.path().join("log")).context("create Kamailio's log")?;
        let mut command: Command = host.command(root.join("usr/sbin/kamailio"));
        let own = libraries.join("kamailio");
        command
            .env("LD_LIBRARY_PATH", format!("{}:{}", own.display(), libraries.display()))
            .arg("-f")
            .arg(&config)
            // In the foreground, with its log on standard error.
            .args(["-DD", "-E", "-m", "32", "-M", "4", "-Y"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("duplicate a file")?)
            .stderr(log);
        let process = Running::spawn("kamailio", &mut command)?;
        let mut kamailio = Self { process, directory };
        kamailio.wait_until_up(host, sockets)?;
        Ok(kamailio)
    }

    /// Its output.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn wait_until_up(&mut self, host: &Netns, sockets: usize) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            interrupt::check()?;
            if let Some(status) = self.process.ended()? {
                bail!("Kamailio ended ({status}); it said:\n{}", self.log().trim());
            }
            let said = host.command("ss").args(["-Hlnut"]).output().context("run ss")?;
            let listens = String::from_utf8_lossy(&said.stdout).matches(":5060 ").count();
            if listens >= sockets {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "Kamailio is not up; it said:\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Kamailio {
    fn drop(&mut self) {
        // Its first process ends the others when it is asked to end, and not when it is killed. A drop cannot
        // return an error.
        self.process.terminate(Duration::from_secs(5)).ok();
    }
}

/// The directory of the architecture's libraries.
fn libraries(root: &Path) -> anyhow::Result<std::path::PathBuf> {
    let lib = root.join("usr/lib");
    let entries = fs::read_dir(&lib).with_context(|| format!("list {}", lib.display()))?;
    let found = entries.flatten().map(|entry| entry.path()).find(|at| at.join("kamailio").is_dir());
    found.context("Debian's package kamailio has no modules")
}

/// An address as it is written in a URI.
fn in_uri(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
}
