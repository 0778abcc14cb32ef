//! Debian's dnsmasq and chrony, which are not installed, in namespaces: a name server and a time server, and what a
//! host asks them.

use std::fs::{self, File};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::child::{self, OnSignal, Running};
use crate::netns::Netns;
use crate::{debian, scratch};

/// How long a question may take on a busy machine.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// The port from which a host asks for the time, as NTP has it (RFC 5905).
const NTP: u16 = 123;

/// The packages of dnsmasq's libraries that not every machine has.
const LIBRARIES: [&str; 2] = ["libnetfilter-conntrack3", "libnfnetlink0"];

/// A name server and a time server on one host, and the programs that ask them. Both are killed when dropped.
#[derive(Debug)]
pub struct Servers {
    _names: Running,
    _time: Running,
    chronyd: PathBuf,
    // The last field, so that the files outlive the processes.
    directory: TempDir,
}

impl Servers {
    /// Starts both on `host`, on all its addresses. The name server knows `name` alone.
    ///
    /// # Errors
    ///
    /// If they cannot be downloaded or do not start.
    pub fn start(host: &Netns, cache: &Path, name: &str, address: IpAddr) -> anyhow::Result<Self> {
        let directory = scratch::directory("servers")?;
        let dnsmasq = debian::unpacked(cache, "dnsmasq-base")?.join("usr/sbin/dnsmasq");
        let chronyd = debian::unpacked(cache, "chrony")?.join("usr/sbin/chronyd");
        let libraries = debian::libraries(cache, &LIBRARIES)?;
        let output = File::create(directory.path().join("output")).context("create a file")?;
        let spawn = |name: &str, program: &Path, arguments: &[String]| {
            let mut command = host.command(program);
            command.args(arguments).env("LD_LIBRARY_PATH", &libraries).stdin(Stdio::null());
            command.stdout(output.try_clone().context("duplicate a file")?);
            command.stderr(output.try_clone().context("duplicate a file")?);
            Running::spawn(name, &mut command)
        };
        let fixed = "--keep-in-foreground --conf-file=/dev/null --no-resolv --no-hosts --user=root --pid-file=";
        let mut arguments: Vec<String> = fixed.split(' ').map(str::to_owned).collect();
        arguments.push(format!("--address=/{name}/{address}"));
        let names = spawn("dnsmasq", &dnsmasq, &arguments)?;
        let config = directory.path().join("chrony.conf");
        let text = format!("local stratum 3\nallow all\n{}", quiet(directory.path(), "server"));
        fs::write(&config, text).context("write chrony's configuration")?;
        // In the foreground, and without setting the clock.
        let mut arguments = ["-d", "-x", "-u", "root", "-f"].map(str::to_owned).to_vec();
        arguments.push(config.display().to_string());
        let time = spawn("chronyd", &chronyd, &arguments)?;
        Ok(Self { _names: names, _time: time, chronyd, directory })
    }

    /// What both have said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("output")).unwrap_or_default()
    }

    /// Asks the name server at `server` from `host`, with the resolver of the system.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub fn resolve(&self, host: &Netns, server: IpAddr, name: &str) -> anyhow::Result<String> {
        let settings = self.directory.path().join("resolv.conf");
        let text = format!("nameserver {server}\noptions timeout:1 attempts:5\n");
        fs::write(&settings, text).context("write the resolver's settings")?;
        let mut ask = host.command("unshare");
        // Seen by this command alone.
        ask.args([
            "--mount",
            "sh",
            "-c",
            "mount --bind \"$0\" /etc/resolv.conf && exec getent hosts \"$1\"",
        ]);
        ask.arg(&settings).arg(name);
        let done = child::finish("getent", &mut ask, ANSWER_LIMIT, OnSignal::Stop)?;
        Ok(done.success("getent")?.stdout)
    }

    /// Asks the time server at `server` from the NTP port of `host`, with chrony.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub fn time(&self, host: &Netns, server: IpAddr) -> anyhow::Result<()> {
        let config = self.directory.path().join("client.conf");
        let text = format!(
            "server {server} iburst maxsamples 1\nacquisitionport {NTP}\n{}",
            quiet(self.directory.path(), "client")
        );
        fs::write(&config, text).context("write chrony's configuration")?;
        let mut ask = host.command(&self.chronyd);
        // It asks once, prints the difference, and ends.
        ask.args(["-Q", "-t", "20", "-u", "root", "-f"]).arg(&config);
        child::finish("chronyd", &mut ask, ANSWER_LIMIT, OnSignal::Stop)?
            .success("chronyd")
            .map(drop)
    }
}

/// Settings by which an instance of chrony has no files and sockets but its own.
fn quiet(directory: &Path, name: &str) -> String {
    let pid = directory.join(format!("{name}.pid"));
    format!("pidfile {}\nbindcmdaddress /\ncmdport 0\n", pid.display())
}
