//! The other end of the control socket.
//!
//! Must never touch a map.

use std::fmt::{self, Write as _};
use std::io::{self, Read as _, Write as _};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context as _, Result, anyhow, bail};
use api::{BanPlace, BansPage, BansQuery, By, Call, ErrorId, Method, Request, WANTS_SIGNS};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{User, getuid};
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer};
use serde_json::Value;

use crate::datapath::{Connection, connections};

/// The user that the service runs as (`packaging/ringfence.service`).
pub const USER: &str = "ringfence";

/// How long the daemon may be silent. It gives a sign every two seconds that it works on the answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// The longest reply that is read, in bytes.
const REPLY_MAX: usize = 16 << 20;

/// The longest head of a reply, in bytes.
const HEAD_MAX: usize = 16 << 10;

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
    let by = if request.changes() { by() } else { By::default() };
    let body = call(socket, &Call::of(request)?, &by)?;
    serde_json::from_slice(&body)
        .map_err(|why| anyhow!("the daemon at {} gave no answer: {why}", socket.display()))
}

/// The page of metrics, in the text format of Prometheus.
///
/// # Errors
///
/// The same as of [`ask`].
pub fn metrics(socket: &Path) -> Result<String> {
    let get = Call { method: Method::Get, target: "/metrics".to_owned(), body: None };
    let page = call(socket, &get, &By::default())?;
    String::from_utf8(page).context("read the metrics")
}

/// Sends a call. Returns the body of a successful reply.
fn call(socket: &Path, call: &Call, by: &By) -> Result<Vec<u8>> {
    let mut stream = connect(socket)?;
    let reply = || -> Result<Reply> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        // The daemon may reply without reading, so the reply counts even if the request cannot be sent.
        let sent = send(&mut stream, call, by);
        let reply = receive(&mut stream)?;
        if matches!(reply, Reply::Nothing) {
            sent?;
        }
        Ok(reply)
    };
    let at = socket.display();
    match { reply }() {
        Ok(Reply::Http { status: 200..300, body }) => Ok(body),
        Ok(Reply::Http { status, body }) => match serde_json::from_slice(&body) {
            Ok(Said { error_id: Some(ErrorId::NoSuchEndpoint | ErrorId::MethodNotAllowed), .. }) => {
                bail!(
                    "the daemon at {at} has another version than this command and does not know its \
                     request; type `systemctl restart ringfence`"
                )
            }
            Ok(Said { message, .. }) => bail!(message),
            Err(_) => bail!("the daemon at {at} gave no answer: it replied with status {status}"),
        },
        Ok(Reply::Old) => bail!(
            "the daemon at {at} is of an earlier version, which this command does not understand; type \
             `systemctl restart ringfence`"
        ),
        Ok(Reply::Nothing) => bail!("the daemon at {at} gave no answer: it closed the connection"),
        // Without the original error: a broken pipe to the daemon must not be taken for one of the
        // output, which is not a failure.
        Err(error) if is_late(&error) => Err(Late(format!(
            "the daemon at {at} gave no answer within {} s; its log may say why: `journalctl -u ringfence`",
            PATIENCE.as_secs()
        ))
        .into()),
        Err(error) => bail!("the daemon at {at} gave no answer: {error:#}"),
    }
}

/// Connects to the daemon.
fn connect(socket: &Path) -> Result<UnixStream> {
    let stream = UnixStream::connect(socket).map_err(|error| -> anyhow::Error {
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
    Ok(stream)
}

/// The parts of a [`Problem`](api::Problem) that matter here.
#[derive(Deserialize)]
struct Said {
    /// `None` for a kind that only another version knows.
    #[serde(deserialize_with = "if_known")]
    error_id: Option<ErrorId>,
    message: String,
}

fn if_known<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ErrorId>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(from)?).ok())
}

/// What came back.
enum Reply {
    /// A reply in HTTP.
    Http { status: u16, body: Vec<u8> },
    /// A reply of a daemon that knows no HTTP.
    Old,
    /// Nothing.
    Nothing,
}

/// Sends a call, and asks for signs that the daemon works on it.
fn send(stream: &mut UnixStream, call: &Call, by: &By) -> Result<()> {
    let mut text = format!(
        "{} {} HTTP/1.1\r\nhost: ringfence\r\naccept: application/json\r\nconnection: close\r\n\
         prefer: {WANTS_SIGNS}\r\n",
        call.method, call.target
    );
    for (name, value) in by.headers() {
        write!(text, "{name}: {value}\r\n")?;
    }
    match &call.body {
        Some(body) => {
            let length = body.len();
            write!(
                text,
                "content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
            )?;
        }
        None => text.push_str("\r\n"),
    }
    Ok(stream.write_all(text.as_bytes())?)
}

/// Receives the reply, and drops the signs before it.
fn receive(stream: &mut UnixStream) -> Result<Reply> {
    let mut bytes = Vec::new();
    let (status, body_at, length) = loop {
        if bytes.first().is_some_and(|first| b"{ ".contains(first)) {
            return Ok(Reply::Old);
        }
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut head = httparse::Response::new(&mut headers);
        match head.parse(&bytes)? {
            httparse::Status::Complete(end) => match head.code.unwrap_or_default() {
                100..200 => {
                    bytes.drain(..end);
                    continue;
                }
                status => break (status, end, length(&head)?),
            },
            httparse::Status::Partial if bytes.len() > HEAD_MAX => bail!("its reply is too long"),
            httparse::Status::Partial => {}
        }
        if read_more(stream, &mut bytes)? == 0 {
            return Ok(Reply::Nothing);
        }
    };
    let mut body = bytes.split_off(body_at);
    while body.len() < length {
        if read_more(stream, &mut body)? == 0 {
            bail!("its reply ended too early");
        }
    }
    body.truncate(length);
    Ok(Reply::Http { status, body })
}

/// The length of the body of a reply. The daemon always says it.
fn length(head: &httparse::Response<'_, '_>) -> Result<usize> {
    let mut headers = head.headers.iter();
    let length = headers.find(|header| header.name.eq_ignore_ascii_case("content-length"));
    let length = length.and_then(|header| str::from_utf8(header.value).ok()?.parse().ok());
    match length {
        Some(length) if length <= REPLY_MAX => Ok(length),
        Some(_) => bail!("its reply is too long"),
        None => bail!("its reply does not say how long it is"),
    }
}

fn read_more(stream: &mut UnixStream, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut more = [0; 16 << 10];
    let length = loop {
        match stream.read(&mut more) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => break done?,
        }
    };
    bytes.extend_from_slice(&more[..length]);
    Ok(length)
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
        let http = |status: &str, body: &str| {
            let length = body.len();
            format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}")
        };
        let problem = |id: &str| {
            format!(
                r#"{{"error_id":"{id}","message":"no","resource":null,"resource_id":null,"timestamp":1.5,"details":{{}}}}"#
            )
        };
        let signs = "HTTP/1.1 102 Processing\r\n\r\n".repeat(3);
        let replies = [
            (http("200 OK", state), Ok(false)),
            (format!("{signs}{}", http("200 OK", state)), Ok(false)),
            // What daemons sent before they knew HTTP.
            (r#"  {"api":1,"error":"unknown request"}"#.to_owned(), Err("earlier version")),
            (http("404 Not Found", &problem("no-such-endpoint")), Err("systemctl restart")),
            (http("400 Bad Request", &problem("refused")), Err("no")),
            (http("400 Bad Request", &problem("of-tomorrow")), Err("no")),
            (http("400 Bad Request", ""), Err("status 400")),
            (http("200 OK", r#"{"on":"yes"}"#), Err("another version?")),
            (http("200 OK", "{"), Err("gave no answer")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_owned(), Err("too early")),
            ("HTTP/1.1 200 OK\r\n\r\n{}".to_owned(), Err("how long")),
            ("HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_owned(), Err("too long")),
            (format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(2 * HEAD_MAX)), Err("too long")),
            ("SSH-2.0-OpenSSH".to_owned(), Err("gave no answer")),
            (String::new(), Err("closed the connection")),
        ];
        let sent: Vec<String> = replies.iter().map(|(reply, _)| reply.clone()).collect();
        let serves = thread::spawn(move || {
            for reply in sent {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 4096];
                let length = stream.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"GET /1.0/maintenance HTTP/1.1\r\n"));
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
        for (reply, expected) in replies {
            let request = Request::Maintenance(api::Maintenance::Status);
            let answer = ask_as::<api::MaintenanceState>(&socket, &request);
            match (answer.map_err(|why| format!("{why:#}")), expected) {
                (Ok(state), Ok(on)) => assert_eq!(state.on, on),
                (Err(why), Err(expected)) => assert!(why.contains(expected), "{reply}: {why}"),
                (answer, _) => panic!("{reply}: {answer:?}"),
            }
        }
        serves.join().unwrap();
    }
}
