//! A real sshd in a network namespace, and a relay that writes its messages to an `auth.log`.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, PipeReader, Write as _, pipe};
use std::net::IpAddr;
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

/// A running sshd on port 22 that accepts no user and no password. Stopped when dropped.
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
             PerSourcePenalties no\nLoginGraceTime 20\n",
            key.display()
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
