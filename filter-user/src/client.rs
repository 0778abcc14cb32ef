//! The other end of the control socket.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Shutdown};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, Result, bail};
use api::{BanPlace, BansPage, BansQuery, By, Envelope, Line, Reply, Request};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{User, getuid};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::datapath::{Connection, connections};

/// The user that the service runs as (`packaging/ringfence.service`).
pub const USER: &str = "ringfence";

/// How long the daemon may be silent. It gives a sign every two seconds that it works on the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest reply that is read, in bytes.
const REPLY_MAX: u64 = 16 << 20;

/// The socket exists, but this user may not use it.
#[derive(Debug)]
pub struct NotRoot(String);

impl fmt::Display for NotRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NotRoot {}

/// No daemon listens at the socket.
#[derive(Debug)]
pub struct NoDaemon(String);

impl fmt::Display for NoDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoDaemon {}

/// A daemon listens and does not answer in time.
#[derive(Debug)]
pub struct Late(String);

impl fmt::Display for Late {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Late {}

/// Asks the daemon at `socket`.
///
/// # Errors
///
/// The same as of [`ask`] and [`read`].
pub fn ask_as<T: DeserializeOwned>(socket: &Path, request: &Request) -> Result<T> {
    read(ask(socket, request)?)
}

/// Reads an answer.
///
/// # Errors
///
/// If it has another form, for example because the daemon has another version.
pub fn read<T: DeserializeOwned>(answer: Value) -> Result<T> {
    serde_json::from_value(answer)
        .context("read the daemon's answer; is it another version? `systemctl restart ringfence`")
}

/// Sends a request to the daemon at `socket`. The answer is returned unchanged, including fields that a
/// newer daemon has added.
///
/// # Errors
///
/// If there is no daemon ([`NoDaemon`]), this user may not use it ([`NotRoot`]), it does not answer in
/// time ([`Late`]), its reply has another version, or it refuses.
pub fn ask(socket: &Path, request: &Request) -> Result<Value> {
    let mut stream = UnixStream::connect(socket).map_err(|error| -> anyhow::Error {
        if error.kind() == io::ErrorKind::PermissionDenied {
            return NotRoot(format!("connect to {}: {error}", socket.display())).into();
        }
        NoDaemon(format!(
            "no daemon answers at {} ({error}); is `ringfence run` running? `--socket` sets \
             another path",
            socket.display()
        ))
        .into()
    })?;
    let credentials = getsockopt(&stream, sockopt::PeerCredentials)
        .with_context(|| format!("find out which process listens at {}", socket.display()))?;
    if !may_answer(credentials.uid(), getuid().as_raw(), daemon_user()) {
        bail!(
            "the user {} listens at {}, neither root nor `{USER}`, so it is not Ringfence's daemon",
            credentials.uid(),
            socket.display()
        );
    }
    let mut reply = || -> Result<Envelope<Value>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut text = serde_json::to_vec(&Line::new(request.clone(), by()))?;
        text.push(b'\n');
        stream.write_all(&text)?;
        stream.shutdown(Shutdown::Write)?;
        let mut line = Vec::new();
        BufReader::new((&stream).take(REPLY_MAX)).read_until(b'\n', &mut line)?;
        Ok(serde_json::from_slice(&line)?)
    };
    match reply() {
        Ok(Envelope { api, .. }) if api != api::VERSION => bail!(
            "the daemon at {} replies in version {api} of its protocol, but this command knows \
             version {}; type `systemctl restart ringfence`",
            socket.display(),
            api::VERSION
        ),
        Ok(Envelope { reply: Reply::Ok(value), .. }) => Ok(value),
        Ok(Envelope { reply: Reply::Error(why), .. }) => bail!(why),
        // Without the original error: a broken pipe to the daemon must not be taken for one of the
        // output, which is not a failure.
        Err(error) if is_late(&error) => Err(Late(format!(
            "the daemon at {} gave no answer within {} s; its log may say why: `journalctl -u ringfence`",
            socket.display(),
            PATIENCE.as_secs()
        ))
        .into()),
        Err(error) => bail!("the daemon at {} gave no answer: {error:#}", socket.display()),
    }
}

/// A page of the bans in force, those behind `after`.
///
/// # Errors
///
/// The same as of [`ask_as`].
pub fn bans(socket: &Path, query: &BansQuery, after: Option<BanPlace>) -> Result<BansPage> {
    ask_as(socket, &Request::Bans(BansQuery { after, ..query.clone() }))
}

/// Whether to trust the listener: any other user could claim that a ban is in force.
fn may_answer(listener: u32, own: u32, daemon: Option<u32>) -> bool {
    listener == 0 || listener == own || Some(listener) == daemon
}

/// The user that the service runs as, if this host has it.
fn daemon_user() -> Option<u32> {
    User::from_name(USER).ok().flatten().map(|user| user.uid.as_raw())
}

fn is_late(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut))
}

/// The user who sends the request.
pub(crate) fn by() -> By {
    let connection = connection();
    let from = connection.map(|one| one.peer).or_else(session);
    By { sudo_user: env::var("SUDO_USER").ok(), from, ssh_port: connection.map(|one| one.port) }
}

/// How many processes above this one are looked at.
const ANCESTORS: usize = 16;

/// Where this session comes from, if it came over ssh. `sudo` takes the variable away, so the
/// environments of the processes above are asked too.
pub fn session() -> Option<IpAddr> {
    ancestors().find_map(|process| {
        let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
        let mut variables = environment.split(|byte| *byte == 0);
        let connection = variables.find_map(|v| v.strip_prefix(b"SSH_CONNECTION="))?;
        let from = connection.split(|byte| *byte == b' ').next()?;
        std::str::from_utf8(from).ok()?.parse().ok()
    })
}

/// The connection of this session: that of the sshd above this process. Nothing that a user can set is
/// asked for it, but only root sees the sockets of other users.
fn connection() -> Option<Connection> {
    let is_sshd = |process: &String| {
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        name.starts_with("sshd")
    };
    let mut all = None;
    ancestors().filter(is_sshd).find_map(|process| {
        let files = fs::read_dir(format!("/proc/{process}/fd")).ok()?.flatten();
        let inode = |file: fs::DirEntry| -> Option<u32> {
            let target = fs::read_link(file.path()).ok()?;
            target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
        };
        let inodes: Vec<u32> = files.filter_map(inode).collect();
        let all: &Vec<Connection> = all.get_or_insert_with(|| connections().unwrap_or_default());
        all.iter().find(|one| inodes.contains(&one.inode)).copied()
    })
}

/// This process and those above it.
fn ancestors() -> impl Iterator<Item = String> {
    let parent = |process: &String| {
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        Some(parent.trim().to_owned())
    };
    std::iter::successors(Some(std::process::id().to_string()), parent).take(ANCESTORS)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::thread;

    use super::*;

    #[test]
    fn another_user_is_no_daemon() {
        let table = [
            (0, 0, None, true),
            (0, 7, None, true),
            (7, 7, None, true),
            (7, 0, None, false),
            (7, 0, Some(8), false),
            (8, 0, Some(8), true),
            (8, 7, Some(8), true),
        ];
        for (listener, own, daemon, may) in table {
            assert_eq!(may_answer(listener, own, daemon), may, "{listener} {own} {daemon:?}");
        }
    }

    #[test]
    fn a_daemon_that_ends_is_no_broken_pipe() {
        let directory = tempfile::TempDir::new().unwrap();
        let socket = directory.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let ends = thread::spawn(move || {
            for _ in 0..50 {
                drop(listener.accept().unwrap());
            }
        });
        for _ in 0..50 {
            let error = ask(&socket, &Request::Status).unwrap_err();
            assert!(error.to_string().contains("gave no answer"), "{error:#}");
            assert!(!error.chain().any(<dyn std::error::Error>::is::<io::Error>), "{error:?}");
        }
        ends.join().unwrap();
    }

    #[test]
    fn a_reply_of_another_version_says_so() {
        let directory = tempfile::TempDir::new().unwrap();
        let socket = directory.path().join("control.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let state =
            r#"{"on":false,"enforcing":true,"until":null,"closed_to_known":false,"more":1}"#;
        // The first is as daemons sent it that had no version.
        let replies = [
            format!(r#"{{"ok":{state}}}"#),
            format!(r#"{{"api":1,"ok":{state}}}"#),
            format!(r#"{{"api":2,"ok":{state}}}"#),
            r#"{"api":1,"ok":{"on":"yes"}}"#.to_owned(),
        ];
        let sent = replies.clone();
        let serves = thread::spawn(move || {
            for reply in sent {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = String::new();
                stream.read_to_string(&mut request).unwrap();
                stream.write_all(format!("  {reply}\n").as_bytes()).unwrap();
            }
        });
        let answers = replies.map(|_reply| {
            let request = Request::Maintenance(api::Maintenance::Status);
            ask_as::<api::MaintenanceState>(&socket, &request).map_err(|why| format!("{why:#}"))
        });
        serves.join().unwrap();
        let [unversioned, same, newer, other] = answers;
        assert_eq!((unversioned.unwrap().on, same.unwrap().on), (false, false));
        assert!(newer.unwrap_err().contains("in version 2 of its protocol"));
        assert!(other.unwrap_err().contains("another version?"));
    }
}
