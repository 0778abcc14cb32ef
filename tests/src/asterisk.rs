//! A real Asterisk 22 with the configuration of a Wazo host, in a network namespace.

mod root;

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::unistd::{chdir, chroot};

use crate::child::{self, OnSignal, Running};
use crate::netns::Netns;
use crate::screen::Screen;
use crate::{interrupt, scratch};

/// Where the instances' directories are, inside the root.
pub(crate) const INSTANCES: &str = "instances";
const START_LIMIT: Duration = Duration::from_mins(1);
const CLI_LIMIT: Duration = Duration::from_secs(30);

const PROBE: &str = "OPTIONS sip:127.0.0.1 SIP/2.0\r\n\
    Via: SIP/2.0/UDP 127.0.0.1:5999;rport;branch=z9hG4bKready\r\nMax-Forwards: 1\r\n\
    From: <sip:ready@127.0.0.1>;tag=1\r\nTo: <sip:ready@127.0.0.1>\r\nCall-ID: ready\r\n\
    CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";

/// The port of its HTTP server on 127.0.0.1, as on a Wazo host.
pub const HTTP_PORT: u16 = 5039;

/// The transport for SIP over TLS.
const TLS: &str = "[transport-tls@FAMILY@]\ntype = transport\nprotocol = tls\nbind = @ANY@:5061\n\
    cert_file = @DIR@/etc/tls.pem\npriv_key_file = @DIR@/etc/tls.key\nmethod = tlsv1_2\n";

/// The options of an instance.
#[derive(Clone, Debug)]
pub struct Options {
    /// Names and passwords of the endpoints that may register.
    pub endpoints: Vec<(String, String)>,
    /// The form of the `security` file, if it is written.
    pub security_log: Option<LogForm>,
    /// Name and secret of an AMI user on 127.0.0.1:5038.
    pub manager: Option<(String, String)>,
    /// The secret of the AMI user that Ringfence ships, in [`Asterisk::ami_secret`].
    pub ami_secret: Option<String>,
    /// Whether it accepts SIP over `WebSocket`, on 127.0.0.1:5039 as on a Wazo host.
    pub websocket: bool,
    /// Whether AMI is available over HTTP too, on the same port.
    pub ami_over_http: bool,
    /// SIP servers at which it registers as `trunk`, over UDP, with a password.
    pub trunks: Vec<(IpAddr, String)>,
    /// Whether it accepts SIP over TLS, on port 5061 of all addresses. [`Asterisk::certificate`] is its own.
    pub tls: bool,
}

/// The form of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogForm {
    /// Lines of text.
    Plain,
    /// One JSON object per line.
    Json,
}

impl Default for Options {
    fn default() -> Self {
        let endpoint = |name: &str, password: &str| (name.to_owned(), password.to_owned());
        Self {
            endpoints: vec![
                endpoint("1001", "Vy7-kqzP-3hEm"),
                endpoint("1002", "nU4x-Lw9s-Tb2c"),
                endpoint("1003", "gM8r-Zd5j-Qf6a"),
            ],
            security_log: None,
            manager: None,
            ami_secret: None,
            websocket: false,
            ami_over_http: false,
            trunks: Vec::new(),
            tls: false,
        }
    }
}

/// A running Asterisk. When dropped, it is stopped and its directory removed.
#[derive(Debug)]
pub struct Asterisk {
    process: Running,
    directory: InstanceDirectory,
    root: PathBuf,
}

impl Asterisk {
    /// The directory with an unpacked Asterisk in `cache`. If it does not exist yet, it is fetched from
    /// the machine's Debian mirror; `progress` is called with each step.
    ///
    /// # Errors
    ///
    /// If it cannot be fetched or does not run; the text says what to do.
    pub fn ensure_root(cache: &Path, progress: &mut dyn FnMut(&str)) -> anyhow::Result<PathBuf> {
        root::ensure(cache, progress)
    }

    /// The same, with its steps on a screen.
    ///
    /// # Errors
    ///
    /// The same, or if standard output is closed.
    pub fn ensure_root_on(cache: &Path, screen: &mut Screen) -> anyhow::Result<PathBuf> {
        let mut printed = Ok(());
        let root = Self::ensure_root(cache, &mut |text| {
            if printed.is_ok() {
                printed = screen.say(&format!("  {text}"));
            }
        })?;
        printed.map(|()| root)
    }

    /// Starts an instance in `host` from the installation in `root`, and returns once it answers SIP.
    ///
    /// # Errors
    ///
    /// If it does not start; the error contains Asterisk's output.
    pub fn start(host: &Netns, root: &Path, options: &Options) -> anyhow::Result<Self> {
        let directory = InstanceDirectory::create(root)?;
        directory.configure(root, options)?;
        let console = directory.outside.join("console");
        let output = fs::File::create(&console).context("create Asterisk's console file")?;
        let mut command = host.command("/usr/sbin/asterisk");
        command
            .args(["-f", "-n", "-C"])
            .arg(directory.inside.join("etc/asterisk.conf"))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin")
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("duplicate a file")?)
            .stderr(output);
        enter(&mut command, root);
        let process = Running::spawn("asterisk", &mut command)?;
        let mut asterisk = Self { process, directory, root: root.to_owned() };
        if let Err(error) = asterisk.wait_until_up(host) {
            let said = fs::read_to_string(&console).unwrap_or_default();
            return Err(error.context(format!("Asterisk did not start; it said:\n{}", said.trim())));
        }
        Ok(asterisk)
    }

    /// The directory of its log files (`fail2ban`, `messages`), as a path outside its root.
    pub fn log_dir(&self) -> PathBuf {
        self.directory.outside.join("log")
    }

    /// The NOTICE-only file that the filter reads.
    pub fn notice_log(&self) -> PathBuf {
        self.log_dir().join("fail2ban")
    }

    /// The file of its security events, if [`Options::security_log`] is set.
    pub fn security_log(&self) -> PathBuf {
        self.log_dir().join("security")
    }

    /// The file with the secret of the AMI user `ringfence`, which Asterisk reads too.
    pub fn ami_secret(&self) -> PathBuf {
        self.directory.outside.join("etc/ami.secret")
    }

    /// Its certificate for TLS, signed by itself.
    pub fn certificate(&self) -> PathBuf {
        self.directory.outside.join("etc/tls.pem")
    }

    /// The path of a file of the instance inside Asterisk's root.
    pub fn inside(&self, outside: &Path) -> PathBuf {
        let below = outside.strip_prefix(&self.directory.outside).unwrap_or(outside);
        self.directory.inside.join(below)
    }

    /// Checks that it is still running.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.process.ended()? {
            Some(status) => bail!("Asterisk ended by itself ({status})"),
            None => Ok(()),
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Runs a command on Asterisk's command line and returns its output.
    ///
    /// # Errors
    ///
    /// If Asterisk does not answer.
    pub fn cli(&self, command: &str) -> anyhow::Result<String> {
        let mut asterisk = Command::new("/usr/sbin/asterisk");
        asterisk.arg("-C").arg(self.directory.inside.join("etc/asterisk.conf"));
        asterisk.args(["-rx", command]).env_clear();
        enter(&mut asterisk, &self.root);
        let name = format!("asterisk -rx '{command}'");
        Ok(child::finish(&name, &mut asterisk, CLI_LIMIT, OnSignal::Stop)?.success(&name)?.stdout)
    }

    /// Rotates the NOTICE log as logrotate does on a Wazo host: rename, then `logger reload`.
    /// Returns the renamed file.
    ///
    /// # Errors
    ///
    /// If the file cannot be renamed or Asterisk does not answer.
    pub fn rotate(&self) -> anyhow::Result<PathBuf> {
        let (current, old) = (self.notice_log(), self.log_dir().join("fail2ban.1"));
        fs::rename(&current, &old).context("rename the NOTICE log")?;
        self.cli("logger reload")?;
        Ok(old)
    }

    fn wait_until_up(&mut self, host: &Netns) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        // It is not enough that the CLI answers: it does so even while Asterisk aborts because of its
        // configuration.
        let probe = host.run_in(|| {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.set_read_timeout(Some(Duration::from_millis(100)))?;
            socket.connect((Ipv4Addr::LOCALHOST, 5060))?;
            Ok(socket)
        })?;
        loop {
            if let Some(status) = self.process.ended()? {
                bail!("it ended ({status})");
            }
            interrupt::check()?;
            let mut answer = [0; 2048];
            if self.cli("core waitfullybooted").is_ok()
                && probe.send(PROBE.as_bytes()).is_ok()
                && probe.recv(&mut answer).is_ok()
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("it did not answer within {} s", START_LIMIT.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Asterisk {
    fn drop(&mut self) {
        // Its directory is removed too, so an orderly stop would save nothing.
        self.process.kill().ok();
    }
}

/// One instance's directory in the root, removed on drop.
#[derive(Debug)]
struct InstanceDirectory {
    inside: PathBuf,
    outside: PathBuf,
}

impl InstanceDirectory {
    fn create(root: &Path) -> anyhow::Result<Self> {
        let name = scratch::prefix();
        let inside = Path::new("/").join(INSTANCES).join(&name);
        let outside = root.join(INSTANCES).join(&name);
        for dir in ["etc", "log", "run", "spool", "lib", "cache"] {
            let dir = outside.join(dir);
            fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
        }
        Ok(Self { inside, outside })
    }

    fn configure(&self, root: &Path, options: &Options) -> anyhow::Result<()> {
        let dir = self.inside.display().to_string();
        let modules = root::modules(root)?.display().to_string();
        let wanted = options.manager.is_some() || options.ami_secret.is_some();
        let enabled = if wanted { "yes" } else { "no" };
        let (user, secret) =
            options.manager.clone().unwrap_or_else(|| ("nobody".to_owned(), "none".to_owned()));
        let secret_file = self.inside.join("etc/ami.secret").display().to_string();
        let shipped = include_str!("../../packaging/asterisk/manager.d/ringfence.conf")
            .replace("/etc/ringfence/ami.secret", &secret_file);
        let endpoints: String = options
            .endpoints
            .iter()
            .map(|(name, password)| {
                fill(
                    include_str!("../lab/asterisk/endpoint.conf.in"),
                    &[("NAME", name), ("PASSWORD", password)],
                ) + "\n"
            })
            .chain(options.trunks.iter().enumerate().map(|(n, trunk)| registration(n, trunk)))
            .collect();
        let security = match options.security_log {
            Some(LogForm::Plain) => "security => security",
            Some(LogForm::Json) => "security => [json]security",
            None => "",
        };
        let tls = if options.tls {
            self.make_certificate()?;
            let transport =
                |family, any| fill(TLS, &[("FAMILY", family), ("ANY", any), ("DIR", &dir)]);
            transport("4", "0.0.0.0") + &transport("6", "[::]")
        } else {
            String::new()
        };
        let http = if options.websocket || options.ami_over_http {
            format!("[general]\nenabled = yes\nbindaddr = 127.0.0.1\nbindport = {HTTP_PORT}\n")
        } else {
            String::new()
        };
        let files = [
            (
                "asterisk.conf",
                fill(
                    include_str!("../lab/asterisk/asterisk.conf.in"),
                    &[("DIR", &dir), ("MODULES", &modules)],
                ),
            ),
            (
                "logger.conf",
                fill(include_str!("../lab/asterisk/logger.conf.in"), &[("SECURITY", security)]),
            ),
            (
                "manager.conf",
                fill(
                    include_str!("../lab/asterisk/manager.conf.in"),
                    &[
                        ("ENABLED", enabled),
                        ("WEBENABLED", if options.ami_over_http { "yes" } else { "no" }),
                        ("USER", &user),
                        ("SECRET", &secret),
                    ],
                ),
            ),
            ("manager.d-ringfence.conf", shipped),
            (
                "pjsip.conf",
                fill(
                    include_str!("../lab/asterisk/pjsip.conf.in"),
                    &[("TLS", &tls), ("ENDPOINTS", &endpoints)],
                ),
            ),
            ("http.conf", http),
            ("modules.conf", include_str!("../lab/asterisk/modules.conf").to_owned()),
            ("extensions.conf", include_str!("../lab/asterisk/extensions.conf").to_owned()),
            ("rtp.conf", include_str!("../lab/asterisk/rtp.conf").to_owned()),
        ];
        for (name, text) in files {
            fs::write(self.outside.join("etc").join(name), text)
                .with_context(|| format!("write {name}"))?;
        }
        if let Some(secret) = &options.ami_secret {
            let file = self.outside.join("etc/ami.secret");
            fs::write(&file, format!("secret = {secret}\n")).context("write AMI's secret")?;
            fs::set_permissions(&file, Permissions::from_mode(0o640))
                .context("keep AMI's secret")?;
        }
        Ok(())
    }
}

impl InstanceDirectory {
    fn make_certificate(&self) -> anyhow::Result<()> {
        let mut openssl = Command::new("openssl");
        openssl.current_dir(self.outside.join("etc"));
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]);
        openssl.args(["-nodes", "-keyout", "tls.key", "-out", "tls.pem", "-days", "2"]);
        openssl.args(["-subj", "/CN=pbx"]);
        child::finish("openssl", &mut openssl, CLI_LIMIT, OnSignal::Stop)?
            .success("openssl")
            .map(drop)
    }
}

impl Drop for InstanceDirectory {
    fn drop(&mut self) {
        // The next run removes what remains.
        fs::remove_dir_all(&self.outside).ok();
    }
}

/// The configuration of a registration `trunkN` at a server.
fn registration(place: usize, (server, password): &(IpAddr, String)) -> String {
    let (host, transport) = match server {
        IpAddr::V4(server) => (server.to_string(), "transport-udp"),
        IpAddr::V6(server) => (format!("[{server}]"), "transport-udp6"),
    };
    fill(
        include_str!("../lab/asterisk/registration.conf.in"),
        &[
            ("NAME", &format!("trunk{place}")),
            ("HOST", &host),
            ("TRANSPORT", transport),
            ("PASSWORD", password),
        ],
    ) + "\n"
}

/// Makes a command run with `root` as its root directory.
pub(crate) fn enter(command: &mut Command, root: &Path) {
    let root = root.to_owned();
    // SAFETY: chroot and chdir are system calls and async-signal-safe, and for a path this short nix uses
    // the stack and does not allocate.
    unsafe {
        command.pre_exec(move || {
            chroot(&root)?;
            Ok(chdir("/")?)
        });
    }
}

fn fill(template: &str, values: &[(&str, &str)]) -> String {
    values
        .iter()
        .fold(template.to_owned(), |text, (key, value)| text.replace(&format!("@{key}@"), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_filled() {
        assert_eq!(fill("a=@A@ b=@B@ @A@", &[("A", "1"), ("B", "2")]), "a=1 b=2 1");
    }

    #[test]
    fn no_placeholder_is_left_over() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/lib/x86_64-linux-gnu/asterisk/modules")).unwrap();
        let directory = InstanceDirectory::create(root.path()).unwrap();
        directory.configure(root.path(), &Options::default()).unwrap();
        for file in fs::read_dir(directory.outside.join("etc")).unwrap().flatten() {
            let text = fs::read_to_string(file.path()).unwrap();
            let code = text.lines().filter(|line| !line.starts_with(';'));
            assert!(!code.clone().any(|line| line.contains('@')), "{}", file.path().display());
        }
        let outside = directory.outside.clone();
        drop(directory);
        assert!(!outside.exists());
    }
}
