//! A real sshd in a network namespace, and a relay that writes its messages to an `auth.log`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, PipeReader, PipeWriter, Write as _, pipe};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::asterisk::{INSTANCES, enter};
use crate::child::{self, OnSignal, Running};
use crate::netns::Netns;
use crate::{attack, scratch};

/// How long a client may take for all its attempts: after a ban it would wait in vain.
const CLIENT_LIMIT: Duration = Duration::from_secs(5);

/// A running sshd on port 22 that accepts no password. Stopped when dropped.
#[derive(Debug)]
pub struct Sshd {
    process: Running,
    directory: PathBuf,
}

impl Sshd {
    /// Starts the sshd of `root`, which is that of
    /// [`Asterisk::ensure_root`](crate::asterisk::Asterisk::ensure_root), in `host`. Its messages are
    /// written to `auth_log`, with a syslog header.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(host: &Netns, root: &Path, auth_log: &Path) -> anyhow::Result<Self> {
        attack::require("the test of sshd", &[("ssh", "openssh-client")])?;
        let inside = Path::new("/").join(INSTANCES).join(scratch::prefix());
        let directory = root.join(inside.strip_prefix("/").context("it begins with one")?);
        fs::create_dir_all(&directory).context("make sshd's directory")?;
        let key = inside.join("host_key");
        let mut keygen = Command::new("/usr/bin/ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
        enter(&mut keygen, root);
        child::finish("ssh-keygen", &mut keygen, CLIENT_LIMIT, OnSignal::Stop)?
            .success("ssh-keygen")?;
        // Its own penalties for failed logins are not under test; Debian 12's sshd has none.
        let config = format!(
            "Port 22\nHostKey {}\nPidFile none\nUsePAM no\nPasswordAuthentication yes\n\
             KbdInteractiveAuthentication no\nMaxAuthTries 3\nMaxStartups 100\n\
             PerSourcePenalties no\nLoginGraceTime 20\nStrictModes no\nChrootDirectory /\n\
             AuthorizedKeysFile {}\n",
            key.display(),
            inside.join("authorized_keys").display(),
        );
        fs::write(directory.join("sshd_config"), config).context("write sshd's configuration")?;
        let mut command = host.command("/usr/sbin/sshd");
        command.args(["-D", "-e", "-f"]).arg(inside.join("sshd_config"));
        let (said, saying) = pipe().context("make a pipe")?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(saying);
        enter(&mut command, root);
        let log = OpenOptions::new().create(true).append(true).open(auth_log);
        let log = log.context("open auth.log")?;
        let process = Running::spawn("sshd", &mut command)?;
        thread::spawn(move || relay(said, log));
        Ok(Self { process, directory })
    }

    /// Makes a key with which `root` may log in, and returns its file.
    ///
    /// # Errors
    ///
    /// If `ssh-keygen` does not run.
    pub fn make_key(&self) -> anyhow::Result<PathBuf> {
        let key = self.directory.join("login");
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key);
        child::finish("ssh-keygen", &mut keygen, CLIENT_LIMIT, OnSignal::Stop)?
            .success("ssh-keygen")?;
        fs::copy(self.directory.join("login.pub"), self.directory.join("authorized_keys"))
            .context("admit the key")?;
        Ok(key)
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.process.kill().ok();
        // The next run removes what remains.
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// Runs until sshd and all its children have ended.
fn relay(said: PipeReader, mut log: File) {
    let (mut said, mut line) = (BufReader::new(said), Vec::new());
    while said.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
        let text = line.trim_ascii_end();
        let date = jiff::Zoned::now().strftime("%b %e %H:%M:%S").to_string();
        let mut entry = format!("{date} pbx sshd-session[4711]: ").into_bytes();
        entry.extend_from_slice(text);
        entry.push(b'\n');
        if log.write_all(&entry).is_err() {
            return;
        }
        line.clear();
    }
}

/// Makes one connection with the real client in `host`, from `source` as this user, with as many wrong
/// passwords as sshd allows, or until the client's time is up.
///
/// # Errors
///
/// If it cannot be run.
pub fn log_in(host: &Netns, source: IpAddr, target: IpAddr, user: &str) -> anyhow::Result<()> {
    let mut ssh = host.command("ssh");
    ssh.args(["-F", "none", "-b"]).arg(source.to_string()).arg("-l").arg(user);
    for option in [
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
        "PreferredAuthentications=password",
        "NumberOfPasswordPrompts=3",
        "ConnectTimeout=3",
        "LogLevel=ERROR",
    ] {
        ssh.arg("-o").arg(option);
    }
    ssh.arg(target.to_string()).arg("true");
    // The program that is asked for a password prints the prompt, which is wrong as a password.
    ssh.env("SSH_ASKPASS", "/bin/echo").env("SSH_ASKPASS_REQUIRE", "force");
    ssh.stdin(Stdio::null());
    ssh.stdout(Stdio::null()).stderr(Stdio::null());
    let mut client = Running::spawn("ssh", &mut ssh)?;
    let deadline = Instant::now() + CLIENT_LIMIT;
    while client.ended()?.is_none() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(20));
    }
    client.kill().map(drop)
}

/// A session of the real client that stands, in which a connection is forwarded to a service that sends back
/// what comes. Killed when dropped.
#[derive(Debug)]
pub struct Session {
    process: Running,
    to: PipeWriter,
    from: BufReader<PipeReader>,
}

impl Session {
    /// Logs in from `source`, an address of `host`, with [`Sshd::make_key`].
    ///
    /// # Errors
    ///
    /// If the client cannot be run.
    pub fn start(
        host: &Netns,
        source: IpAddr,
        target: IpAddr,
        key: &Path,
        service: SocketAddr,
    ) -> anyhow::Result<Self> {
        let mut ssh = host.command("ssh");
        ssh.args(["-F", "none", "-b"]).arg(source.to_string()).arg("-i").arg(key);
        ssh.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        ssh.args(["-o", "BatchMode=yes", "-o", "LogLevel=ERROR"])
            .arg("-W")
            .arg(service.to_string());
        ssh.arg(format!("root@{target}"));
        let ((input, to), (from, output)) =
            (pipe().context("make a pipe")?, pipe().context("make a pipe")?);
        ssh.stdin(input).stdout(output);
        let process = Running::spawn("ssh", &mut ssh)?;
        Ok(Self { process, to, from: BufReader::new(from) })
    }

    /// Whether a line comes back.
    ///
    /// # Errors
    ///
    /// If the session has ended.
    pub fn echoes(&mut self, line: &str) -> anyhow::Result<bool> {
        if let Some(status) = self.process.ended()? {
            anyhow::bail!("the session has ended: {status}");
        }
        writeln!(self.to, "{line}").context("write into the session")?;
        let mut back = String::new();
        self.from.read_line(&mut back).context("read from the session")?;
        Ok(back.trim_end() == line)
    }
}
