//! `CrowdSec`'s local API from Debian's package, in a namespace and without the Internet.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::child::{self, OnSignal, Running};
use crate::netns::Netns;
use crate::{debian, scratch};

const START_LIMIT: Duration = Duration::from_mins(1);
const ASK_LIMIT: Duration = Duration::from_mins(1);

/// A running local API, killed when dropped.
#[derive(Debug)]
pub struct Crowdsec {
    process: Running,
    programs: PathBuf,
    // The last field, so that the files outlive the process.
    directory: TempDir,
}

impl Crowdsec {
    /// Starts it on port 8080 of the loopback of `host`.
    ///
    /// # Errors
    ///
    /// If it cannot be downloaded or started.
    pub fn start(host: &Netns, cache: &Path) -> anyhow::Result<Self> {
        let root = debian::unpacked(cache, "crowdsec")?;
        let directory = scratch::directory("crowdsec")?;
        write(&root, directory.path()).context("write CrowdSec's configuration")?;
        let programs = root.join("usr/bin");
        let credentials = directory.path().join("local.yaml");
        let mut command = cscli(&programs, host, directory.path());
        command.args(["machines", "add", "-a", "-f"]).arg(credentials);
        child::finish("cscli", &mut command, ASK_LIMIT, OnSignal::Stop)?.success("cscli")?;
        let process = run(&programs, host, directory.path())?;
        let crowdsec = Self { process, programs, directory };
        crowdsec.wait_until_up()?;
        Ok(crowdsec)
    }

    /// Runs `cscli`, and returns what it prints.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn cscli(&self, host: &Netns, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = cscli(&self.programs, host, self.directory.path());
        command.args(arguments);
        let done = child::finish("cscli", &mut command, ASK_LIMIT, OnSignal::Stop)?;
        Ok(done.success("cscli")?.stdout)
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.kill().map(drop)
    }

    /// Starts it again.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start_again(&mut self, host: &Netns) -> anyhow::Result<()> {
        self.process = run(&self.programs, host, self.directory.path())?;
        self.wait_until_up()
    }

    fn wait_until_up(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let log = || fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        while !log().contains("Local API listening") {
            ensure!(Instant::now() < deadline, "CrowdSec is not up; it said:\n{}", log());
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

fn write(root: &Path, directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory.join("data"))?;
    fs::create_dir_all(directory.join("hub"))?;
    fs::write(directory.join("hub/.index.json"), "{}")?;
    fs::write(directory.join("local.yaml"), "")?;
    let (here, shipped) = (directory.display(), root.join("etc/crowdsec"));
    let shipped = shipped.display();
    let text = format!(
        "common: {{daemonize: false, log_media: stdout, log_level: info, working_dir: {here}}}\n\
         config_paths: {{config_dir: {here}, data_dir: {here}/data, simulation_path: {shipped}/simulation.yaml, \
         hub_dir: {here}/hub, index_path: {here}/hub/.index.json, notification_dir: {here}, plugin_dir: {here}}}\n\
         cscli: {{output: human}}\n\
         db_config: {{type: sqlite, db_path: {here}/data/crowdsec.db, log_level: info}}\n\
         api:\n  client: {{credentials_path: {here}/local.yaml}}\n  \
         server: {{log_level: info, listen_uri: 127.0.0.1:8080, profiles_path: {shipped}/profiles.yaml}}\n\
         prometheus: {{enabled: false}}\n"
    );
    fs::write(directory.join("config.yaml"), text)
}

fn cscli(programs: &Path, host: &Netns, directory: &Path) -> Command {
    let mut command = host.command(programs.join("cscli"));
    command.arg("-c").arg(directory.join("config.yaml"));
    command
}

fn run(programs: &Path, host: &Netns, directory: &Path) -> anyhow::Result<Running> {
    let log = File::create(directory.join("log")).context("create CrowdSec's log")?;
    let mut command = host.command(programs.join("crowdsec"));
    command.arg("-c").arg(directory.join("config.yaml")).arg("-no-cs");
    command.stdin(Stdio::null());
    command.stdout(log.try_clone().context("duplicate a file")?).stderr(log);
    Running::spawn("crowdsec", &mut command)
}
