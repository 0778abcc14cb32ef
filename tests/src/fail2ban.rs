//! fail2ban with the jail of a Wazo host, on a network namespace's own iptables: as the rival, with the
//! defaults and actions of the machine's fail2ban, which otherwise is not touched; or with another action, from
//! Debian's package, which is not installed.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::attack;
use crate::child::{self, OnSignal, Running};
use crate::debian;
use crate::interrupt;
use crate::netns::Netns;
use crate::scratch;

const JAIL: &str = "asterisk-wazo";
/// The file in which iptables looks up `sip`.
const SERVICES: &str = "/etc/services";
const START_LIMIT: Duration = Duration::from_mins(1);
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// The programs that fail2ban needs, with their Debian packages.
const TOOLS: [(&str, &str); 3] =
    [("fail2ban-server", "fail2ban"), ("fail2ban-client", "fail2ban"), ("iptables", "iptables")];

/// The filter and the jail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rules {
    /// Wazo's.
    Wazo,
    /// Those that fail2ban ships for Asterisk.
    Shipped,
}

/// A running fail2ban, killed when dropped. Its rules disappear with the namespace.
#[derive(Debug)]
pub struct Fail2ban {
    process: Running,
    files: Files,
    // The last field, so that the files outlive the daemon.
    _directory: TempDir,
}

#[derive(Debug)]
struct Files {
    /// The root of the distribution's files.
    root: PathBuf,
    config: PathBuf,
    socket: PathBuf,
    pid: PathBuf,
    log: PathBuf,
    output: PathBuf,
}

impl Fail2ban {
    /// Starts the machine's in `host` with `notice_log`, and returns once its jail is active.
    ///
    /// # Errors
    ///
    /// If it does not start; the error contains its output.
    pub fn start(host: &Netns, notice_log: &Path) -> anyhow::Result<Self> {
        Self::start_with(host, notice_log, Rules::Wazo)
    }

    /// The same with the log and the rules of another host.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn start_with(host: &Netns, log: &Path, rules: Rules) -> anyhow::Result<Self> {
        let directory = scratch::directory("fail2ban")?;
        let files = Files::write(Path::new("/"), directory.path(), log, rules)?;
        Self::run(host, directory, files)
    }

    /// The same with the fail2ban that is unpacked below `cache`, and another action: a file for `action.d`,
    /// and the line of the jail that names it.
    ///
    /// # Errors
    ///
    /// The same, or if the package cannot be downloaded.
    pub fn start_with_action(
        host: &Netns,
        cache: &Path,
        notice_log: &Path,
        (file, line): (&Path, &str),
    ) -> anyhow::Result<Self> {
        let directory = scratch::directory("fail2ban")?;
        let files = Files::write(&unpacked(cache)?, directory.path(), notice_log, Rules::Wazo)?;
        let to = files.config.join("action.d").join(file.file_name().unwrap_or_default());
        fs::copy(file, to).with_context(|| format!("copy {}", file.display()))?;
        let text = format!("[{JAIL}]\naction = {line}\n");
        fs::write(files.config.join("jail.d/zz-action.conf"), text).context("write a jail")?;
        Self::run(host, directory, files)
    }

    fn run(host: &Netns, directory: TempDir, files: Files) -> anyhow::Result<Self> {
        let output = fs::File::create(&files.output).context("create fail2ban's output file")?;
        let mut command = host.command(files.program("fail2ban-server"));
        files
            .name(&mut command)
            .arg("-p")
            .arg(&files.pid)
            .args(["-f", "start"])
            // The lab's Asterisk writes its times in UTC.
            .env("TZ", "UTC")
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("duplicate a file")?)
            .stderr(output);
        let process = Running::spawn("fail2ban-server", &mut command)?;
        let mut fail2ban = Self { process, files, _directory: directory };
        fail2ban.wait_until_up()?;
        Ok(fail2ban)
    }

    /// Checks that it is still running.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.process.ended()? {
            Some(status) => bail!("fail2ban ended ({status}); it said:\n{}", self.log().trim()),
            None => Ok(()),
        }
    }

    /// How it notices new lines in the log: `pyinotify`, or `polling` if Python has no pyinotify.
    ///
    /// # Errors
    ///
    /// If its log does not show this.
    pub fn backend(&self) -> anyhow::Result<String> {
        let log = self.log();
        let backend = backend(&log).context("fail2ban did not report its backend")?;
        Ok(backend.to_owned())
    }

    /// The addresses that its jail bans.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub fn banned(&self) -> anyhow::Result<Vec<IpAddr>> {
        let said = self.ask(&["get", JAIL, "banip"])?.success("fail2ban-client")?.stdout;
        said.split_whitespace()
            .map(|word| word.parse().with_context(|| format!("fail2ban-client said {said:?}")))
            .collect()
    }

    /// Its log and its output on standard error.
    pub fn log(&self) -> String {
        let read = |path: &Path| fs::read(path).unwrap_or_default();
        let bytes = [read(&self.files.output), read(&self.files.log)].concat();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn wait_until_up(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            interrupt::check()?;
            self.check()?;
            if self.ask(&["status", JAIL])?.status.success() {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!(
                    "fail2ban's jail is not up after {} s; it said:\n{}",
                    START_LIMIT.as_secs(),
                    self.log().trim()
                );
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Runs a command of `fail2ban-client`, and returns whether it succeeded.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub fn command(&self, arguments: &[&str]) -> anyhow::Result<bool> {
        Ok(self.ask(arguments)?.status.success())
    }

    fn ask(&self, arguments: &[&str]) -> anyhow::Result<child::Finished> {
        let mut command = Command::new(self.files.program("fail2ban-client"));
        self.files.name(&mut command).args(arguments);
        child::finish("fail2ban-client", &mut command, ASK_LIMIT, OnSignal::Stop)
    }
}

impl Files {
    /// Writes a configuration under `directory`: that of the distribution, without the enabled jails and
    /// without this machine's local changes.
    fn write(root: &Path, directory: &Path, log: &Path, rules: Rules) -> anyhow::Result<Self> {
        let config = directory.join("config");
        for part in ["", "action.d", "filter.d"] {
            copy_conf(&root.join("etc/fail2ban").join(part), &config.join(part))?;
        }
        let (dir, log) = (directory.display().to_string(), log.display().to_string());
        let settings = include_str!("../lab/fail2ban/fail2ban.local.in").replace("@DIR@", &dir);
        let jail = match rules {
            Rules::Wazo => include_str!("../lab/fail2ban/jail.conf.in"),
            Rules::Shipped => include_str!("../lab/fail2ban/shipped.conf.in"),
        };
        let jail = jail.replace("@LOG@", &log);
        let filter = include_str!("../lab/fail2ban/asterisk-wazo.conf");
        for (name, text) in [
            ("fail2ban.local", settings.as_str()),
            ("jail.d/wazo.conf", jail.as_str()),
            ("filter.d/asterisk-wazo.conf", filter),
        ] {
            let path = config.join(name);
            fs::create_dir_all(path.parent().unwrap_or(&config))
                .and_then(|()| fs::write(&path, text))
                .with_context(|| format!("write {}", path.display()))?;
        }
        Ok(Self {
            root: root.to_owned(),
            config,
            socket: directory.join("socket"),
            pid: directory.join("pid"),
            log: directory.join("log"),
            output: directory.join("output"),
        })
    }

    fn program(&self, name: &str) -> PathBuf {
        self.root.join("usr/bin").join(name)
    }

    /// Adds the options that select this instance to a fail2ban command, and its modules.
    fn name<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command
            .arg("-c")
            .arg(&self.config)
            .arg("-s")
            .arg(&self.socket)
            .env("PYTHONPATH", self.root.join("usr/lib/python3/dist-packages"))
            .env("PYTHONDONTWRITEBYTECODE", "1")
    }
}

/// Checks that everything that fail2ban needs is installed.
///
/// # Errors
///
/// If something is missing; the text names the package to install.
pub fn check_tools() -> anyhow::Result<()> {
    attack::require("fail2ban", &TOOLS)?;
    ensure!(
        fs::read_to_string(SERVICES).is_ok_and(|services| knows_sip(&services)),
        "iptables does not know the port `sip`, which must be in {SERVICES}; on Debian: apt-get \
         install --no-install-recommends netbase"
    );
    Ok(())
}

/// The version, such as `1.0.2`.
///
/// # Errors
///
/// If fail2ban does not run.
pub fn version() -> anyhow::Result<String> {
    let mut command = Command::new("fail2ban-server");
    command.arg("-V");
    let said = child::finish("fail2ban-server -V", &mut command, ASK_LIMIT, OnSignal::Stop)?;
    Ok(said.success("fail2ban-server -V")?.stdout.trim().to_owned())
}

/// Debian's package unpacked below `cache`, with fail2ban's own tests.
///
/// # Errors
///
/// If it cannot be downloaded.
pub fn unpacked(cache: &Path) -> anyhow::Result<PathBuf> {
    debian::unpacked(cache, "fail2ban")
}

/// Copies the files `*.conf` of one directory, without its subdirectories.
fn copy_conf(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to).with_context(|| format!("make {}", to.display()))?;
    let entries = fs::read_dir(from).with_context(|| format!("read {}", from.display()))?;
    for entry in entries {
        let from = entry.with_context(|| format!("read {}", from.display()))?.path();
        if let (Some("conf"), Some(name)) =
            (from.extension().and_then(|extension| extension.to_str()), from.file_name())
        {
            fs::copy(&from, to.join(name)).with_context(|| format!("copy {}", from.display()))?;
        }
    }
    Ok(())
}

/// The name in `Initiated 'pyinotify' backend`.
fn backend(log: &str) -> Option<&str> {
    log.lines().find_map(|line| line.split_once("Initiated '")?.1.strip_suffix("' backend"))
}

/// Whether a list of services names SIP over UDP.
fn knows_sip(services: &str) -> bool {
    services.lines().any(|line| {
        let mut words = line.split_whitespace();
        (words.next(), words.next()) == (Some("sip"), Some("5060/udp"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backend_is_read_from_the_log() {
        let log = "2026-11-22 11:00:00,100 fail2ban.jail [7]: INFO Jail 'x' uses pyinotify {}\n\
                   2026-11-22 11:00:00,101 fail2ban.jail [7]: INFO Initiated 'pyinotify' backend\n\
                   2026-11-22 11:00:00,102 fail2ban.filter [7]: INFO   maxRetry: 15\n";
        assert_eq!(backend(log), Some("pyinotify"));
        assert_eq!(backend("nothing"), None);
    }

    #[test]
    fn the_port_has_to_be_known_for_udp() {
        assert!(knows_sip("sip\t\t5060/tcp\nsip\t\t5060/udp\t# SIP\n"));
        assert!(!knows_sip("sip\t\t5060/tcp\nsip-tls\t5061/udp\nxsip 5060/udp\n"));
    }

    #[test]
    fn only_the_configuration_that_is_shipped_is_copied() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        for name in ["jail.conf", "jail.local", "README"] {
            fs::write(from.path().join(name), name).unwrap();
        }
        fs::create_dir(from.path().join("jail.d")).unwrap();
        copy_conf(from.path(), &to.path().join("new")).unwrap();
        let copied: Vec<_> = fs::read_dir(to.path().join("new")).unwrap().flatten().collect();
        assert_eq!(copied.len(), 1);
        assert_eq!(copied[0].file_name(), "jail.conf");
    }
}
