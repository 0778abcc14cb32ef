//! Debian's baresip: a real phone without sound card, driven through its module `ctrl_tcp`.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::asterisk::{INSTANCES, enter};
use crate::child::Running;
use crate::netns::Netns;
use crate::{interrupt, scratch};

const START_LIMIT: Duration = Duration::from_mins(1);
/// The port of `ctrl_tcp`, on the loopback of the phone's own namespace.
const CONTROL: u16 = 4444;
/// No message of `ctrl_tcp` is longer.
const MESSAGE_MAX: usize = 65_536;

/// How a phone talks to its PBX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS.
    Tls,
}

impl Transport {
    fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }
}

/// The account of a phone.
#[derive(Clone, Debug)]
pub struct Line {
    /// What others read on their screen.
    pub display: String,
    /// The account's name.
    pub name: String,
    /// Its password.
    pub password: String,
    /// The PBX, or a proxy in front of it.
    pub registrar: SocketAddr,
    /// The transport.
    pub transport: Transport,
}

/// What a phone has told so far.
#[derive(Clone, Debug, Default)]
struct Told {
    registered: u64,
    refused: Vec<String>,
    /// The call that is up, with sound from the other side.
    heard: bool,
    closed: Option<String>,
    last: Vec<String>,
}

/// A running phone, killed when dropped. It registers every two seconds, for a minute each time.
#[derive(Debug)]
pub struct Baresip {
    process: Running,
    control: TcpStream,
    told: Arc<Mutex<Told>>,
    reader: Option<JoinHandle<()>>,
    registrar: SocketAddr,
    _directory: Directory,
}

impl Baresip {
    /// Starts a phone in `host` from the installation in `root`. At most one runs in a namespace.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(host: &Netns, root: &Path, line: &Line) -> anyhow::Result<Self> {
        let directory = Directory::create(root)?;
        directory.configure(line)?;
        let output = File::create(directory.outside.join("output")).context("create a file")?;
        let mut command = host.command("/usr/bin/baresip");
        command.arg("-f").arg(&directory.inside).env_clear().stdin(Stdio::null());
        command.stdout(output.try_clone().context("duplicate a file")?).stderr(output);
        enter(&mut command, root);
        let mut process = Running::spawn("baresip", &mut command)?;
        let deadline = Instant::now() + START_LIMIT;
        let control = loop {
            let dialled =
                host.run_in(|| Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, CONTROL)).ok()))?;
            if let Some(control) = dialled {
                break control;
            }
            interrupt::check()?;
            let output = fs::read_to_string(directory.outside.join("output")).unwrap_or_default();
            ensure!(process.ended()?.is_none(), "baresip ended; it said:\n{output}");
            ensure!(Instant::now() < deadline, "baresip is not up; it said:\n{output}");
            thread::sleep(Duration::from_millis(20));
        };
        let told = Arc::new(Mutex::new(Told::default()));
        let (stream, to) = (control.try_clone().context("duplicate a socket")?, Arc::clone(&told));
        let reader = thread::Builder::new().name("baresip".to_owned());
        let reader = reader.spawn(move || listen(stream, &to)).context("start a thread")?;
        let reader = Some(reader);
        Ok(Self {
            process,
            control,
            told,
            reader,
            registrar: line.registrar,
            _directory: directory,
        })
    }

    /// How many times it has registered.
    pub fn registrations(&self) -> u64 {
        self.told().registered
    }

    /// The registrations that failed, as it says so.
    pub fn refused(&self) -> Vec<String> {
        self.told().refused
    }

    /// Calls a number of the PBX.
    ///
    /// # Errors
    ///
    /// If the phone does not listen.
    pub fn dial(&mut self, number: &str) -> anyhow::Result<()> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        (told.heard, told.closed) = (false, None);
        drop(told);
        let peer = format!("sip:{number}@{}", self.registrar);
        self.tell("dial", &peer)
    }

    /// Ends the call.
    ///
    /// # Errors
    ///
    /// If the phone does not listen.
    pub fn hang_up(&mut self) -> anyhow::Result<()> {
        self.tell("hangup", "")
    }

    /// Whether a call is up, and the other side has been heard.
    pub fn hears(&self) -> bool {
        let told = self.told();
        told.heard && told.closed.is_none()
    }

    /// Why the last call has ended, if it has.
    pub fn closed(&self) -> Option<String> {
        self.told().closed
    }

    /// Its last words.
    pub fn last_words(&self) -> String {
        self.told().last.join("\n")
    }

    fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn tell(&mut self, command: &str, params: &str) -> anyhow::Result<()> {
        let text = json!({"command": command, "params": params}).to_string();
        let message = format!("{}:{text},", text.len());
        self.control.write_all(message.as_bytes()).context("tell baresip")
    }
}

impl Drop for Baresip {
    fn drop(&mut self) {
        // With its end the connection ends, and so does the thread that reads it.
        self.process.kill().ok();
        if let Some(reader) = self.reader.take() {
            reader.join().ok();
        }
    }
}

/// Reads the netstrings of `ctrl_tcp` to the end.
fn listen(mut stream: TcpStream, told: &Mutex<Told>) {
    let (mut bytes, mut part) = (Vec::new(), [0; 4096]);
    while let Ok(length @ 1..) = stream.read(&mut part) {
        bytes.extend_from_slice(&part[..length]);
        while let Some((message, rest)) = first(&bytes) {
            if let Ok(message) = serde_json::from_slice(message) {
                note(&mut told.lock().unwrap_or_else(PoisonError::into_inner), &message);
            }
            bytes = rest.to_vec();
        }
        if bytes.len() > MESSAGE_MAX {
            return;
        }
    }
}

/// The first netstring, if it is complete, and what follows it.
fn first(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = bytes.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    let message = bytes.get(colon + 1..)?;
    // A comma follows.
    (message.len() > length).then(|| (&message[..length], &message[length + 1..]))
}

fn note(told: &mut Told, message: &Value) {
    let text = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
    match message["type"].as_str() {
        Some("REGISTER_OK") => {
            told.registered += 1;
            return;
        }
        Some("REGISTER_FAIL") => told.refused.push(text("param")),
        Some("CALL_RTPESTAB") => told.heard = true,
        Some("CALL_CLOSED") => told.closed = Some(text("param")),
        Some(_) | None => {}
    }
    told.last.push(message.to_string());
    if told.last.len() > 12 {
        told.last.remove(0);
    }
}

/// A phone's directory in the root, removed on drop.
#[derive(Debug)]
struct Directory {
    inside: PathBuf,
    outside: PathBuf,
}

impl Directory {
    fn create(root: &Path) -> anyhow::Result<Self> {
        let name = scratch::prefix();
        let inside = Path::new("/").join(INSTANCES).join(&name);
        let outside = root.join(INSTANCES).join(&name);
        fs::create_dir_all(&outside).with_context(|| format!("make {}", outside.display()))?;
        Ok(Self { inside, outside })
    }

    /// The sound that it hears goes back through `aubridge`, so it needs no sound card. Certificates are not
    /// checked: that is no matter of the filter.
    fn configure(&self, line: &Line) -> anyhow::Result<()> {
        let Line { display, name, password, registrar, transport } = line;
        let transport = transport.name();
        let config = format!(
            "poll_method epoll\nmodule_path /usr/lib/baresip/modules\n\
             audio_player aubridge,sound\naudio_source aubridge,sound\naudio_alert aubridge,bell\n\
             module g711.so\nmodule aubridge.so\n\
             module_app account.so\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n\
             ctrl_tcp_listen 127.0.0.1:{CONTROL}\nsip_verify_server no\n"
        );
        let account = format!(
            "\"{display}\" <sip:{name}@{registrar};transport={transport}>;auth_pass={password};\
             regint=60;rwait=3;answermode=auto\n"
        );
        for (file, text) in
            [("config", config.as_str()), ("accounts", &account), ("contacts", ""), ("uuid", "")]
        {
            fs::write(self.outside.join(file), text).with_context(|| format!("write {file}"))?;
        }
        Ok(())
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // The next run removes what remains.
        fs::remove_dir_all(&self.outside).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn netstrings_are_read() {
        assert_eq!(first(b"2:{},3:[1]"), Some((b"{}".as_slice(), b"3:[1]".as_slice())));
        assert_eq!(first(b"3:[1],"), Some((b"[1]".as_slice(), b"".as_slice())));
        for incomplete in ["", "3", "3:", "3:[1", "3:[1]", "x:[1],"] {
            assert_eq!(first(incomplete.as_bytes()), None, "{incomplete}");
        }
    }

    #[test]
    fn what_a_phone_tells_is_noted() {
        let mut told = Told::default();
        for event in ["REGISTER_OK", "REGISTER_FAIL", "CALL_RTPESTAB", "CALL_CLOSED"] {
            note(&mut told, &json!({"event": true, "type": event, "param": "why"}));
        }
        assert_eq!((told.registered, told.refused.len(), told.heard), (1, 1, true));
        assert_eq!(told.closed.as_deref(), Some("why"));
    }
}
