//! The `ringfence` binary in the way that a user runs it: started in a namespace, queried with its own
//! commands, ended by signals.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, anyhow, bail};
use filter_user::register::{self, ASTERISK_JAIL, LogSetting, Reads, SOURCES};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tempfile::TempDir;

use crate::child::{self, OnSignal, Running};
use crate::netns::{Entry, Netns};
use crate::{interrupt, scratch};

/// The mount point of the BPF file system; `ringfence` mounts it if necessary.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Limits for a machine on which several tests run at once: none is waited for longer than necessary.
const START_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// The settings of an instance; all others have their defaults.
#[derive(Clone, Debug)]
pub struct Config {
    /// Asterisk's NOTICE-only file.
    pub notice_log: PathBuf,
    /// Asterisk's log of security events, if it is read.
    pub security_log: Option<PathBuf>,
    /// The file with the secret of the AMI user `ringfence`, if AMI is used.
    pub ami_secret: Option<PathBuf>,
    /// The directory with `auth.log` of sshd and a `JAIL.log` for each built-in jail whose log has a setting of its own, if
    /// these jails are enabled.
    pub other_logs: Option<PathBuf>,
    /// `auto`, `native` or `generic`.
    pub mode: String,
    /// The rate of REGISTERs per second without credentials from one source.
    pub register_rate: u32,
    /// The burst.
    pub register_burst: u32,
    /// The failures that lead to a ban.
    pub maxretry: u32,
    /// What failures lead to that are not proven: `throttle` or `ban`.
    pub unproven: &'static str,
    /// How long they count, such as `10m`.
    pub findtime: String,
    /// How long a ban lasts, such as `1h`.
    pub bantime: String,
    /// Networks that are never dropped.
    pub trusted: Vec<String>,
    /// The interfaces to protect.
    pub interfaces: Vec<String>,
    /// Whether it is a dry run.
    pub dry_run: bool,
    /// Further configuration, as a file in `conf.d`.
    pub more: String,
    /// The content of the file `confirmation`; without one this is its first start on the host.
    pub confirmation: Option<&'static str>,
    /// Whether its log is a pipe that no process reads.
    pub unread_log: bool,
    /// A library to preload, such as that of [`crate::old_kernel`].
    pub preload: Option<PathBuf>,
    /// Variables of its environment.
    pub environment: Vec<(String, String)>,
    /// Whether to drop packets with the User-Agent of a scanner, which then never reach Asterisk, and so
    /// no jail.
    pub signatures: bool,
}

impl Config {
    /// The defaults of a Wazo host, reading `notice_log`.
    pub fn new(notice_log: &Path) -> Self {
        Self {
            notice_log: notice_log.to_owned(),
            security_log: None,
            ami_secret: None,
            other_logs: None,
            mode: "native".to_owned(),
            register_rate: 10,
            register_burst: 50,
            maxretry: 15,
            unproven: "throttle",
            findtime: "10m".to_owned(),
            bantime: "1h".to_owned(),
            trusted: Vec::new(),
            interfaces: vec!["eth0".to_owned()],
            dry_run: false,
            more: String::new(),
            confirmation: Some("confirmed"),
            unread_log: false,
            preload: None,
            environment: Vec::new(),
            signatures: false,
        }
    }

    fn write(&self, paths: &Paths) -> anyhow::Result<()> {
        fs::write(&paths.config, self.yaml(paths)).context("write the configuration")?;
        if let Some(confirmation) = self.confirmation {
            fs::create_dir_all(&paths.state).context("make the state directory")?;
            fs::write(paths.state.join("confirmation"), confirmation)
                .context("write the confirmation")?;
        }
        let more = paths.config.with_file_name("conf.d");
        fs::create_dir_all(&more).context("make conf.d")?;
        fs::write(more.join("more.yml"), &self.more).context("write conf.d/more.yml")
    }

    fn yaml(&self, paths: &Paths) -> String {
        format!(
            "interfaces: [{interfaces}]\n\
             mode: {mode}\n\
             trusted: [{trusted}]\n\
             sip: {{udp: [5060], tcp: [5060, 5061]}}\n\
             limits:\n  register: {{rate: {rate}/s, burst: {burst}}}\n\
             {signatures}\
             jails:\n  asterisk-wazo: {{enabled: true, maxretry: {maxretry}, \
             findtime: {findtime}, bantime: {bantime}, \
             unproven: {unproven}}}\n\
             {other_jails}\
             sources:\n  asterisk: {{notice_log: {log}, security_log: \"{security_log}\", ami: {{enabled: {ami}, \
             secret_file: {secret}}}}}\n  \
             sshd: {{log: file, auth_log: {other_logs}/auth.log}}\n\
             {more_logs}\
             paths: {{state: {state}, runtime: {runtime}, bpffs: {bpffs}}}\n",
            interfaces = self.interfaces.join(", "),
            mode = self.mode,
            trusted = self.trusted.join(", "),
            rate = self.register_rate,
            signatures = if self.signatures { "" } else { "signatures: {user_agents: []}\n" },
            burst = self.register_burst,
            maxretry = self.maxretry,
            unproven = self.unproven,
            findtime = self.findtime,
            bantime = self.bantime,
            log = self.notice_log.display(),
            security_log = self.security_log.as_deref().unwrap_or(Path::new("")).display(),
            ami = self.ami_secret.is_some(),
            secret = self.ami_secret.as_deref().unwrap_or(Path::new("/nonexistent")).display(),
            other_jails = self.other_jails(),
            other_logs = self.directory_of_other_logs().display(),
            more_logs = self.more_logs(),
            state = paths.state.display(),
            runtime = paths.runtime.display(),
            bpffs = paths.bpffs.display(),
        )
    }

    fn directory_of_other_logs(&self) -> &Path {
        self.other_logs.as_deref().unwrap_or(Path::new("/nonexistent"))
    }

    /// Enables or disables the jails that are not Asterisk's.
    fn other_jails(&self) -> String {
        let is_on = self.other_logs.is_some();
        let jails: BTreeSet<_> = SOURCES.iter().map(|source| source.jail).collect();
        let others = jails.into_iter().filter(|jail| *jail != ASTERISK_JAIL);
        let lines: Vec<_> =
            others.map(|jail| format!("  {jail}: {{enabled: {is_on}}}\n")).collect();
        lines.concat()
    }

    /// The settings of the logs with a setting of their own.
    fn more_logs(&self) -> String {
        let directory = self.directory_of_other_logs().display();
        let log = |source: &register::Source| {
            let Reads::Log(LogSetting { section, .. }) = source.reads else { return String::new() };
            format!("  {section}: {{log: {directory}/{}.log}}\n", source.jail)
        };
        SOURCES.iter().map(log).collect::<Vec<_>>().concat()
    }
}

/// The directories of an instance.
#[derive(Clone, Debug)]
struct Paths {
    config: PathBuf,
    log: PathBuf,
    state: PathBuf,
    runtime: PathBuf,
    bpffs: PathBuf,
}

/// The part of `ringfence status --json` that the lab reads.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Status {
    /// Whether it drops packets.
    #[serde(default)]
    pub enforcing: bool,
    /// The interfaces to which it is attached.
    pub interfaces: Vec<Interface>,
    /// Packets by reason.
    pub reasons: BTreeMap<String, Reason>,
    /// Its sources of failures.
    #[serde(default)]
    pub sources: Vec<Source>,
}

/// What the daemon reads failures from.
#[derive(Clone, Debug, Deserialize)]
pub struct Source {
    /// Why it is not read.
    pub why: Option<String>,
}

impl Status {
    /// Whether each log has been opened, if it exists. What is written earlier may be taken for old.
    fn reads_all(&self) -> bool {
        self.sources.iter().all(|source| source.why.as_deref() != Some("not looked at yet"))
    }

    /// Checks that the packets of the interfaces add up to those of the reasons.
    ///
    /// # Errors
    ///
    /// If they do not.
    pub fn adds_up(&self) -> anyhow::Result<()> {
        let of = |verdict: &str| -> u64 {
            let reasons = self.reasons.values().filter(|reason| reason.verdict == verdict);
            reasons.map(|reason| reason.packets).sum()
        };
        let sum = |packets: fn(&Interface) -> u64| self.interfaces.iter().map(packets).sum::<u64>();
        let each =
            |interface: &Interface| interface.received == interface.passed + interface.dropped;
        if self.interfaces.iter().all(each)
            && sum(|interface| interface.passed) == of("pass")
            && sum(|interface| interface.dropped) == of("drop")
        {
            return Ok(());
        }
        bail!("this does not add up: {self:?}");
    }
}

/// One interface and its packets.
#[derive(Clone, Debug, Deserialize)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// `native` or `generic`.
    pub mode: String,
    /// Packets that the program saw.
    pub received: u64,
    /// Packets that passed.
    pub passed: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// One reason with its counts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, serde::Serialize)]
pub struct Reason {
    /// `pass` or `drop`.
    pub verdict: String,
    /// Packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

#[derive(Debug, Deserialize)]
struct Bans {
    bans: Vec<Ban>,
}

/// One ban in force.
#[derive(Clone, Debug, Deserialize)]
pub struct Ban {
    /// The source, `192.0.2.66` or `192.0.2.0/24`.
    pub network: String,
    /// The jail that banned it, if a jail did.
    pub jail: Option<String>,
    /// When it began, in milliseconds since 1970.
    pub since_ms: Option<i64>,
    /// Packets that it dropped.
    #[serde(default)]
    pub packets: u64,
}

impl Ban {
    /// The address, if it is a ban of a single address.
    pub fn address(&self) -> Option<IpAddr> {
        let Some((base, length)) = self.network.split_once('/') else {
            return self.network.parse().ok();
        };
        let address: IpAddr = base.parse().ok()?;
        let whole = if address.is_ipv4() { 32 } else { 128 };
        (length.parse() == Ok(whole)).then_some(address)
    }

    /// Whether it bans this address or a network that contains it.
    pub fn covers(&self, address: IpAddr) -> bool {
        let network = self.network.parse::<ipnet::IpNet>();
        network.map_or_else(|_one| self.address() == Some(address), |n| n.contains(&address))
    }
}

/// A client of a running instance. Cheap to clone, for a thread that polls.
#[derive(Clone, Debug)]
pub struct Client {
    binary: PathBuf,
    socket: PathBuf,
}

impl Client {
    /// Its status.
    ///
    /// # Errors
    ///
    /// If it does not answer in the documented format.
    pub fn status(&self) -> anyhow::Result<Status> {
        self.ask(&["status"])
    }

    /// The bans in force.
    ///
    /// # Errors
    ///
    /// If it does not answer in the documented format.
    pub fn bans(&self) -> anyhow::Result<Vec<Ban>> {
        Ok(self.ask::<Bans>(&["bans"])?.bans)
    }

    /// Whether `address` is dropped, and why.
    ///
    /// # Errors
    ///
    /// If it does not answer with JSON.
    pub fn why(&self, address: IpAddr) -> anyhow::Result<serde_json::Value> {
        self.ask(&["why", &address.to_string()])
    }

    /// The program.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Its control socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Runs a command and reads the JSON that it prints.
    ///
    /// # Errors
    ///
    /// If the command fails or prints something else.
    pub fn ask<T: DeserializeOwned>(&self, arguments: &[&str]) -> anyhow::Result<T> {
        let name = format!("ringfence {} --json", arguments.join(" "));
        let finished = self.run(arguments, true)?.success(&name)?;
        serde_json::from_str(&finished.stdout)
            .with_context(|| format!("read what `{name}` printed: {}", finished.stdout.trim()))
    }

    /// Runs a command against the instance, with or without `--json`.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub fn run(&self, arguments: &[&str], json: bool) -> anyhow::Result<child::Finished> {
        let mut command = Command::new(&self.binary);
        command.arg("--socket").arg(&self.socket).args(arguments);
        if json {
            command.arg("--json");
        }
        let name = format!("ringfence {}", arguments.join(" "));
        child::finish(&name, &mut command, ASK_LIMIT, OnSignal::Stop)
    }
}

/// A running instance. When dropped, it is stopped, and its program and maps are removed.
#[derive(Debug)]
pub struct Ringfence {
    process: Running,
    client: Client,
    config: Config,
    paths: Paths,
    entry: Entry,
    /// The reading end of the log's pipe, if no process reads it.
    unread: Option<File>,
    // The last field, so that the files outlive the daemon.
    _directory: TempDir,
}

impl Ringfence {
    /// Starts `binary` in `host`, and returns once it answers.
    ///
    /// # Errors
    ///
    /// If it does not start; the error contains its output.
    pub fn start(host: &Netns, binary: &Path, config: &Config) -> anyhow::Result<Self> {
        let binary = find(binary)?;
        let directory = scratch::directory("ringfence")?;
        let paths = Paths::new(directory.path());
        config.write(&paths)?;
        let unread = config.unread_log.then(|| unread_pipe(&paths.log)).transpose()?;
        let process = run(host, &binary, config, &paths)?;
        let client = Client { binary, socket: paths.runtime.join("control.sock") };
        let (config, entry) = (config.clone(), host.entry());
        let mut ringfence =
            Self { process, client, config, paths, entry, unread, _directory: directory };
        ringfence.wait_until_up()?;
        Ok(ringfence)
    }

    /// Runs `binary` in `host` to its end, with a configuration that it must refuse. Returns its output
    /// and the pins that it left.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub fn refused(
        host: &Netns,
        binary: &Path,
        config: &Config,
    ) -> anyhow::Result<(child::Finished, Vec<PathBuf>)> {
        let binary = find(binary)?;
        let directory = scratch::directory("ringfence")?;
        let paths = Paths::new(directory.path());
        config.write(&paths)?;
        let mut command = command(host, &binary, config, &paths);
        let finished = child::finish("ringfence run", &mut command, START_LIMIT, OnSignal::Stop);
        let left = entries(&paths.bpffs);
        fs::remove_dir_all(&paths.bpffs).ok();
        Ok((finished?, left))
    }

    /// Its client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The namespace in which it runs.
    pub fn entry(&self) -> Entry {
        self.entry.clone()
    }

    /// See [`Client::status`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn status(&self) -> anyhow::Result<Status> {
        self.client.status()
    }

    /// See [`Client::bans`].
    ///
    /// # Errors
    ///
    /// The same.
    pub fn bans(&self) -> anyhow::Result<Vec<Ban>> {
        self.client.bans()
    }

    /// See [`Client::why`].
    ///
    /// # Errors
    ///
    /// The same.
    pub fn why(&self, address: IpAddr) -> anyhow::Result<serde_json::Value> {
        self.client.why(address)
    }

    /// Checks that it is still running.
    ///
    /// # Errors
    ///
    /// If it has ended; the error contains its output.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.process.ended()? {
            Some(status) => bail!("ringfence ended ({status}); it said:\n{}", self.log().trim()),
            None => Ok(()),
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Its configuration file.
    pub fn config_file(&self) -> &Path {
        &self.paths.config
    }

    /// The pins that exist now, of this instance or earlier ones.
    pub fn pins(&self) -> Vec<PathBuf> {
        entries(&self.paths.bpffs)
    }

    /// Its standard output and standard error; empty if no process reads them.
    pub fn log(&self) -> String {
        if self.unread.is_some() {
            return String::new();
        }
        let bytes = fs::read(&self.paths.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The file of its log.
    pub fn log_file(&self) -> &Path {
        &self.paths.log
    }

    /// Stops the daemon by SIGTERM. Its program and maps stay in the kernel.
    ///
    /// # Errors
    ///
    /// If it cannot be stopped.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.terminate(STOP_LIMIT).map(drop)
    }

    /// Kills the daemon by SIGKILL. Its program and maps stay in the kernel.
    ///
    /// # Errors
    ///
    /// If it cannot be killed.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.kill().map(drop)
    }

    /// Starts the daemon again, with the same configuration, after [`Self::stop`] or
    /// [`Self::kill`].
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn restart(&mut self, host: &Netns) -> anyhow::Result<()> {
        self.kill()?;
        self.process = run(host, &self.client.binary, &self.config, &self.paths)?;
        self.wait_until_up()
    }

    /// Starts another binary in the daemon's place, as an upgrade does.
    ///
    /// # Errors
    ///
    /// As [`Self::restart`].
    pub fn replace(&mut self, host: &Netns, binary: &Path) -> anyhow::Result<()> {
        self.client.binary = find(binary)?;
        self.restart(host)
    }

    /// Starts the daemon again, with another configuration.
    ///
    /// # Errors
    ///
    /// The same as for [`Self::restart`].
    pub fn restart_with(
        &mut self,
        host: &Netns,
        adjust: impl FnOnce(&mut Config),
    ) -> anyhow::Result<()> {
        adjust(&mut self.config);
        self.config.write(&self.paths)?;
        self.restart(host)
    }

    /// Writes another configuration, which the daemon reads at its next start or reload.
    ///
    /// # Errors
    ///
    /// If it cannot be written.
    pub fn configure(&mut self, adjust: impl FnOnce(&mut Config)) -> anyhow::Result<()> {
        adjust(&mut self.config);
        self.config.write(&self.paths)
    }

    /// Sends a signal to the daemon.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill(Pid::from_raw(self.id().cast_signed()), signal).context("send a signal")
    }

    /// Runs the daemon, which has been stopped, to its end with another configuration, which it must
    /// refuse.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub fn refuses(
        &mut self,
        host: &Netns,
        adjust: impl FnOnce(&mut Config),
    ) -> anyhow::Result<child::Finished> {
        self.kill()?;
        let mut config = self.config.clone();
        adjust(&mut config);
        config.write(&self.paths)?;
        let mut command = command(host, &self.client.binary, &config, &self.paths);
        child::finish("ringfence run", &mut command, START_LIMIT, OnSignal::Stop)
    }

    /// Runs `ringfence doctor` in `host`.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub fn doctor(&self, host: &Netns) -> anyhow::Result<child::Finished> {
        let mut command = host.command(&self.client.binary);
        command.arg("-c").arg(&self.paths.config).arg("doctor");
        child::finish("ringfence doctor", &mut command, ASK_LIMIT, OnSignal::Stop)
    }

    fn wait_until_up(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            interrupt::check()?;
            self.check()?;
            let error = match self.status() {
                Ok(status) if status.reads_all() => return Ok(()),
                Ok(status) => anyhow!("some sources are not read: {:?}", status.sources),
                Err(error) => error,
            };
            if Instant::now() > deadline {
                let log = self.log();
                return Err(error.context(format!(
                    "ringfence is not ready after {} s; it said:\n{}",
                    START_LIMIT.as_secs(),
                    log.trim()
                )));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs `ringfence detach`, after [`Self::stop`] or [`Self::kill`].
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub fn detach(&self) -> anyhow::Result<child::Finished> {
        let mut command = self.entry.command(&self.client.binary);
        command.arg("-c").arg(&self.paths.config).arg("detach");
        child::finish("ringfence detach", &mut command, STOP_LIMIT, OnSignal::Finish)
    }
}

impl Drop for Ringfence {
    fn drop(&mut self) {
        // A drop cannot return an error. If `detach` fails, the pins are removed nevertheless, and the
        // program disappears with the namespace's interface.
        self.stop().ok();
        self.detach().ok();
        fs::remove_dir_all(&self.paths.bpffs).ok();
    }
}

impl Paths {
    fn new(directory: &Path) -> Self {
        Self {
            config: directory.join("config.yml"),
            log: directory.join("log"),
            state: directory.join("state"),
            runtime: directory.join("run"),
            bpffs: Path::new(BPFFS).join(format!("{}-lab", scratch::prefix().replace('.', "-"))),
        }
    }
}

/// The binary to test: that in `RINGFENCE_BIN`, otherwise the newest one beside the running executable.
///
/// # Errors
///
/// If there is none.
pub fn built() -> anyhow::Result<PathBuf> {
    if let Some(binary) = std::env::var_os("RINGFENCE_BIN") {
        return find(Path::new(&binary));
    }
    let own = std::env::current_exe().context("path of this executable")?;
    let target = own.ancestors().nth(3).context("this executable is not in a target directory")?;
    let built = ["release", "debug"].map(|profile| target.join(profile).join("ringfence"));
    let age = |path: &PathBuf| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    let newest = built.into_iter().filter(|path| age(path).is_some()).max_by_key(age);
    newest.with_context(|| {
        format!(
            "there is no ringfence in {}: build it with `cargo build --release -p filter-user`",
            target.display()
        )
    })
}

/// The absolute path of the binary to run.
///
/// # Errors
///
/// If it does not exist.
pub fn find(binary: &Path) -> anyhow::Result<PathBuf> {
    let binary = std::path::absolute(binary).context("path of ringfence")?;
    if !binary.is_file() {
        bail!("{} does not exist: build it with `cargo build`", binary.display());
    }
    Ok(binary)
}

/// The version of a binary, such as `0.1.0`.
///
/// # Errors
///
/// If it does not run.
pub fn version(binary: &Path) -> anyhow::Result<String> {
    let mut command = Command::new(binary);
    command.arg("--version");
    let said = child::finish("ringfence --version", &mut command, ASK_LIMIT, OnSignal::Stop)?;
    let said = said.success("ringfence --version")?.stdout;
    Ok(said.trim().trim_start_matches("ringfence ").to_owned())
}

fn command(host: &Netns, binary: &Path, config: &Config, paths: &Paths) -> Command {
    let mut command = host.command(binary);
    command.arg("-c").arg(&paths.config).arg("run");
    for interface in &config.interfaces {
        command.args(["-i", interface]);
    }
    if config.dry_run {
        command.arg("--dry-run");
    }
    if let Some(library) = &config.preload {
        command.env("LD_PRELOAD", library);
    }
    command.envs(config.environment.iter().map(|(name, value)| (name, value)));
    command
}

fn run(host: &Netns, binary: &Path, config: &Config, paths: &Paths) -> anyhow::Result<Running> {
    let log = File::options().create(true).append(true).open(&paths.log).context("log file")?;
    let mut command = command(host, binary, config, paths);
    command.stdin(Stdio::null());
    command.stdout(log.try_clone().context("duplicate a file")?).stderr(log);
    Running::spawn("ringfence", &mut command)
}

/// Creates a pipe that is full after one page, and opens its reading end.
fn unread_pipe(path: &Path) -> anyhow::Result<File> {
    mkfifo(path, Mode::S_IRWXU).context("make a pipe")?;
    let mut options = File::options();
    let end = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path);
    let end = end.context("open a pipe")?;
    fcntl(&end, FcntlArg::F_SETPIPE_SZ(4096)).context("make a pipe small")?;
    Ok(end)
}

/// The entries of a directory; none if it does not exist.
fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ban(network: &str) -> Ban {
        Ban { network: network.to_owned(), jail: None, since_ms: None, packets: 0 }
    }

    #[test]
    fn a_ban_is_of_one_address_or_a_network() {
        let address: IpAddr = "192.0.2.66".parse().unwrap();
        assert_eq!(ban("192.0.2.66").address(), Some(address));
        assert_eq!(ban("192.0.2.66/32").address(), Some(address));
        assert_eq!(ban("192.0.2.66/24").address(), None);
        assert_eq!(ban("nonsense").address(), None);
        assert_eq!(ban("2001:db8::66/128").address(), "2001:db8::66".parse().ok());
        assert_eq!(ban("2001:db8::/64").address(), None);
    }

    #[test]
    fn the_documented_answers_are_read() {
        let status: Status = serde_json::from_str(
            r#"{"version": "0.1.0", "uptime_seconds": 3, "enforcing": true,
                "interfaces": [{"name": "eth0", "mode": "native", "received": 5, "passed": 3,
                                "dropped": 2}],
                "reasons": {"banned": {"verdict": "drop", "packets": 2, "bytes": 900}},
                "bans": {"active": 1, "capacity": 10}, "peers": {"known": 0},
                "sources": [], "jails": []}"#,
        )
        .unwrap();
        assert_eq!(status.interfaces[0].dropped, 2);
        assert_eq!(status.reasons["banned"].packets, 2);
        let bans: Bans = serde_json::from_str(
            r#"{"bans": [{"network": "192.0.2.66", "jail": "asterisk-wazo", "scope": "sip",
                 "since": "2026-11-22T09:32:21Z", "since_ms": 1795339941123, "until": null, "packets": 4,
                 "reason": "15 failures"}]}"#,
        )
        .unwrap();
        assert_eq!(bans.bans[0].since_ms, Some(1_795_339_941_123));
    }

    #[test]
    fn the_configuration_names_its_own_paths() {
        let paths = Paths::new(Path::new("/tmp/x"));
        let yaml = Config::new(Path::new("/log/fail2ban")).yaml(&paths);
        assert!(yaml.contains("notice_log: /log/fail2ban"), "{yaml}");
        assert!(yaml.contains("runtime: /tmp/x/run"), "{yaml}");
        assert!(yaml.contains("bpffs: /sys/fs/bpf/rf"), "{yaml}");
    }
}
