//! `CrowdSec` from Debian's package, in a namespace and without the Internet: its local API, and if a test wants it,
//! what reads logs.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use tempfile::TempDir;

use crate::child::{self, OnSignal, Running};
use crate::netns::Netns;
use crate::{debian, scratch};

const START_LIMIT: Duration = Duration::from_mins(1);
const ASK_LIMIT: Duration = Duration::from_mins(1);

/// The port of the local API.
const PORT: u16 = 8080;

/// A log of lines `failed ADDRESS`, each of which leads to a decision, and what the site does not want decided.
#[derive(Clone, Copy, Debug)]
pub struct Reads<'a> {
    /// The log.
    pub log: &'a Path,
    /// An address whose lines a whitelist among the parsers drops.
    pub parser: &'a str,
    /// An address whose alerts a whitelist among the postoverflows drops.
    pub postoverflow: &'a str,
}

/// A running local API, killed when dropped.
#[derive(Debug)]
pub struct Crowdsec {
    process: Running,
    programs: PathBuf,
    reads_logs: bool,
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
        Self::start_with(host, cache, None)
    }

    /// The same, and it reads a log.
    ///
    /// # Errors
    ///
    /// If it cannot be downloaded or started.
    pub fn start_with(
        host: &Netns,
        cache: &Path,
        reads: Option<Reads<'_>>,
    ) -> anyhow::Result<Self> {
        let root = debian::unpacked(cache, "crowdsec")?;
        let directory = scratch::directory("crowdsec")?;
        write(&root, directory.path()).context("write CrowdSec's configuration")?;
        if let Some(reads) = reads {
            read(&root, directory.path(), reads).context("write CrowdSec's parsers")?;
        }
        let reads_logs = reads.is_some();
        let programs = root.join("usr/bin");
        let credentials = directory.path().join("local.yaml");
        let mut command = cscli(&programs, host, directory.path());
        command.args(["machines", "add", "-a", "-f"]).arg(credentials);
        child::finish("cscli", &mut command, ASK_LIMIT, OnSignal::Stop)?.success("cscli")?;
        let process = run(&programs, host, directory.path(), reads_logs)?;
        let crowdsec = Self { process, programs, reads_logs, directory };
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
        self.process = run(&self.programs, host, self.directory.path(), self.reads_logs)?;
        self.wait_until_up()
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn wait_until_up(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        let is_up = |log: &str| {
            log.contains("Local API listening")
                && (!self.reads_logs || log.contains("Starting processing data"))
        };
        while !is_up(&self.log()) {
            ensure!(Instant::now() < deadline, "CrowdSec is not up; it said:\n{}", self.log());
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

fn write(root: &Path, directory: &Path) -> std::io::Result<()> {
    fs::create_dir_all(directory.join("data"))?;
    fs::create_dir_all(directory.join("hub"))?;
    let hub = r#"{"parsers": {}, "scenarios": {}, "postoverflows": {}, "collections": {}}"#;
    fs::write(directory.join("hub/.index.json"), hub)?;
    fs::write(directory.join("local.yaml"), "")?;
    let (here, shipped) = (directory.display(), root.join("etc/crowdsec"));
    let shipped = shipped.display();
    let mut text = format!(
        "common: {{daemonize: false, log_media: stdout, log_level: info, working_dir: {here}}}\n\
         config_paths: {{config_dir: {here}, data_dir: {here}/data, simulation_path: {shipped}/simulation.yaml, \
         hub_dir: {here}/hub, index_path: {here}/hub/.index.json, notification_dir: {here}, plugin_dir: {here}}}\n\
         cscli: {{output: human}}\n\
         db_config: {{type: sqlite, db_path: {here}/data/crowdsec.db, log_level: info}}\n\
         api:\n  client: {{credentials_path: {here}/local.yaml}}\n  \
         server: {{log_level: info, listen_uri: 127.0.0.1:{PORT}, profiles_path: {shipped}/profiles.yaml}}\n\
         prometheus: {{enabled: false}}\n"
    );
    let _infallible = writeln!(
        text,
        "crowdsec_service: {{acquisition_path: {here}/acquis.yaml, parser_routines: 1}}"
    );
    fs::write(directory.join("config.yaml"), text)
}

/// What a site writes itself: a parser and a scenario for its log, and its whitelists.
fn read(root: &Path, directory: &Path, reads: Reads<'_>) -> std::io::Result<()> {
    let Reads { log, parser, postoverflow } = reads;
    std::os::unix::fs::symlink(root.join("etc/crowdsec/patterns"), directory.join("patterns"))?;
    let acquired = format!("filenames: [{}]\nlabels: {{type: site}}\n", log.display());
    fs::write(directory.join("acquis.yaml"), acquired)?;
    let whitelist = |name: &str, what: &str| {
        format!("name: site/{name}\ndescription: ours\nwhitelist: {{reason: ours, {what}}}\n")
    };
    for (path, text) in [
        ("parsers/s00-raw/site.yaml", PARSER.to_owned()),
        ("parsers/s02-enrich/ours.yaml", whitelist("ours", &format!("ip: [\"{parser}\"]"))),
        (
            "postoverflows/s01-whitelist/ours.yaml",
            whitelist(
                "ours-too",
                &format!("expression: [\"evt.Overflow.Alert.Source.IP == '{postoverflow}'\"]"),
            ),
        ),
        ("scenarios/site.yaml", SCENARIO.to_owned()),
    ] {
        let path = directory.join(path);
        fs::create_dir_all(path.parent().unwrap_or(directory))?;
        fs::write(path, text)?;
    }
    Ok(())
}

const PARSER: &str = "\
name: site/failures
filter: \"evt.Line.Labels.type == 'site'\"
onsuccess: next_stage
grok: {pattern: \"^failed %{IP:source_ip}$\", apply_on: Line.Raw}
statics:
  - {meta: service, value: site}
  - {meta: source_ip, expression: evt.Parsed.source_ip}
";

const SCENARIO: &str = "\
type: trigger
name: site/failure
description: a failure
filter: \"evt.Meta.service == 'site'\"
groupby: evt.Meta.source_ip
labels: {remediation: true, service: site}
";

fn cscli(programs: &Path, host: &Netns, directory: &Path) -> Command {
    let mut command = host.command(programs.join("cscli"));
    command.arg("-c").arg(directory.join("config.yaml"));
    command
}

fn run(
    programs: &Path,
    host: &Netns,
    directory: &Path,
    reads_logs: bool,
) -> anyhow::Result<Running> {
    let log = File::create(directory.join("log")).context("create CrowdSec's log")?;
    let mut command = host.command(programs.join("crowdsec"));
    command.arg("-c").arg(directory.join("config.yaml"));
    if !reads_logs {
        command.arg("-no-cs");
    }
    command.stdin(Stdio::null());
    command.stdout(log.try_clone().context("duplicate a file")?).stderr(log);
    Running::spawn("crowdsec", &mut command)
}

/// A port on the loopback of a host that passes everything on to the local API there, and can lose an answer.
#[derive(Debug)]
pub struct Lossy {
    loses: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    accepts: Option<JoinHandle<()>>,
}

impl Lossy {
    /// Opens the port.
    ///
    /// # Errors
    ///
    /// If it is in use.
    pub fn start(host: &Netns, port: u16) -> anyhow::Result<Self> {
        let listener =
            host.run_in(|| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).context("open a port"))?;
        listener.set_nonblocking(true).context("make a socket nonblocking")?;
        let (loses, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (loses_one, over, entry) = (Arc::clone(&loses), Arc::clone(&stop), host.entry());
        let accepts = thread::spawn(move || {
            if entry.enter().is_err() {
                return;
            }
            while !over.load(Ordering::Relaxed) {
                match listener.accept() {
                    // A client whose connection breaks asks again.
                    Ok((client, _)) => drop(pass_on(&client, &loses_one)),
                    Err(_) => thread::sleep(Duration::from_millis(5)),
                }
            }
        });
        Ok(Self { loses, stop, accepts: Some(accepts) })
    }

    /// The answer to the next alert is lost.
    pub fn lose(&self) {
        self.loses.store(true, Ordering::Release);
    }

    /// Whether it has not been lost yet.
    pub fn will_lose(&self) -> bool {
        self.loses.load(Ordering::Acquire)
    }
}

impl Drop for Lossy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.accepts.take() {
            // A panic there has been printed; a drop cannot return an error.
            thread.join().ok();
        }
    }
}

/// Passes one connection on until either side closes it.
fn pass_on(client: &TcpStream, loses: &AtomicBool) -> std::io::Result<()> {
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    client.set_nonblocking(false)?;
    let is_alert = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            copy(client, &server, |bytes| {
                if bytes.starts_with(b"POST /v1/alerts") {
                    is_alert.store(true, Ordering::Release);
                }
                true
            });
        });
        copy(&server, client, |_answer| {
            !(is_alert.load(Ordering::Acquire) && loses.swap(false, Ordering::AcqRel))
        });
    });
    Ok(())
}

/// Copies until it ends, or until something must not pass. Closes both sides then.
fn copy(mut from: &TcpStream, mut to: &TcpStream, may_pass: impl Fn(&[u8]) -> bool) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        let bytes = buffer.get(..length).unwrap_or_default();
        if !may_pass(bytes) || to.write_all(bytes).is_err() {
            break;
        }
    }
    for stream in [from, to] {
        // It may be closed already.
        stream.shutdown(Shutdown::Both).ok();
    }
}
