//! A daemon on a host whose ports answer, without Asterisk: for tests of commands.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use crate::child::{self, Finished, OnSignal};
use crate::ringfence::{self, Config, Ringfence};
use crate::scratch;
use crate::world::{Echo, Hosts, OTHER_PORT, SIP_PORT, nothing_is_left, tcp_reaches, udp_reaches};

/// The site. Fields are dropped in this order.
pub struct Site {
    /// The daemon.
    pub ringfence: Ringfence,
    /// The services on the ports of the PBX.
    pub echo: Echo,
    /// The hosts.
    pub hosts: Hosts,
}

impl Site {
    /// A site that trusts these networks.
    ///
    /// # Errors
    ///
    /// If the hosts cannot be made or the daemon does not start.
    pub fn new(trusted: &[String]) -> anyhow::Result<Self> {
        let hosts = Hosts::new()?;
        let echo = Echo::start(&hosts.pbx)?;
        let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
        config.trusted = trusted.to_vec();
        let ringfence = Ringfence::start(&hosts.pbx, &ringfence::built()?, &config)?;
        Ok(Self { ringfence, echo, hosts })
    }

    /// Runs a command.
    ///
    /// # Errors
    ///
    /// If it cannot be started.
    pub fn run(&self, line: &str) -> anyhow::Result<Finished> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.ringfence.client().run(&words, false)
    }

    /// Runs a command that must succeed. Returns what it prints.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn done(&self, line: &str) -> anyhow::Result<String> {
        Ok(self.run(line)?.success(line)?.stdout)
    }

    /// Runs a command that must succeed, with `--json`.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn json(&self, line: &str) -> anyhow::Result<Value> {
        let words: Vec<&str> = line.split_whitespace().collect();
        self.ringfence.client().ask(&words)
    }

    /// Bans what these lines say, as `ban --from` reads them: thousands take a while on a busy machine.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn ban_from(&self, lines: &str) -> anyhow::Result<()> {
        const LIMIT: Duration = Duration::from_mins(4);
        let directory = scratch::directory("list")?;
        let list = directory.path().join("list");
        fs::write(&list, lines).context("write the list")?;
        let client = self.ringfence.client();
        let mut ban = Command::new(client.binary());
        ban.arg("--socket").arg(client.socket()).args(["ban", "--from"]).arg(&list);
        child::finish("ban --from", &mut ban, LIMIT, OnSignal::Stop)?.success("ban --from")?;
        Ok(())
    }

    /// The bans that a command lists, in its order.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn bans(&self, line: &str) -> anyhow::Result<Vec<Value>> {
        let bans = self.json(line)?;
        bans["bans"].as_array().cloned().context("a list of bans")
    }

    /// Which ports of the PBX a source reaches: SIP over UDP and TCP, and other ports over both.
    ///
    /// # Errors
    ///
    /// If its host cannot send.
    pub fn reaches(&self, source: IpAddr) -> anyhow::Result<[bool; 4]> {
        let host = &self.hosts.attacker;
        Ok([
            udp_reaches(host, source, SIP_PORT)?,
            tcp_reaches(host, source, SIP_PORT),
            udp_reaches(host, source, OTHER_PORT)?,
            tcp_reaches(host, source, OTHER_PORT),
        ])
    }

    /// Ends the site, and checks that it has left nothing behind.
    ///
    /// # Errors
    ///
    /// If something is left.
    pub fn end(self) -> anyhow::Result<()> {
        drop(self);
        nothing_is_left()
    }
}
