//! A real nginx in a network namespace that forwards `WebSocket` connections to Asterisk, as on a Wazo
//! host, and a browser's end of such a WebSocket.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use crate::asterisk::{HTTP_PORT, INSTANCES, enter};
use crate::child::Running;
use crate::guesser::dial;
use crate::netns::Netns;
use crate::scratch;

/// The port on which it listens.
pub const PORT: u16 = 8080;

const START_LIMIT: Duration = Duration::from_secs(30);
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

/// Means that the length is in the next 16 bits.
const LONG: u8 = 0x7e;

/// A running nginx, stopped when dropped.
#[derive(Debug)]
pub struct Nginx {
    process: Running,
    directory: PathBuf,
}

impl Nginx {
    /// Starts the nginx of `root`, which is that of
    /// [`Asterisk::ensure_root`](crate::asterisk::Asterisk::ensure_root), in `host`, and returns once it
    /// listens at `address`.
    ///
    /// # Errors
    ///
    /// If it does not start; the error contains its output.
    pub fn start(host: &Netns, root: &Path, address: IpAddr) -> anyhow::Result<Self> {
        let inside = Path::new("/").join(INSTANCES).join(scratch::prefix());
        let directory = root.join(inside.strip_prefix("/").context("it begins with one")?);
        fs::create_dir_all(&directory).context("make nginx's directory")?;
        let at = inside.display();
        // `location` as in Wazo's `/etc/nginx/locations/https-available/wazo-asterisk`.
        let config = format!(
            "user root;\ndaemon off;\nmaster_process off;\npid {at}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n\
             access_log off;\nclient_body_temp_path {at}/body;\nproxy_temp_path {at}/proxy;\n\
             fastcgi_temp_path {at}/fastcgi;\nuwsgi_temp_path {at}/uwsgi;\nscgi_temp_path {at}/scgi;\n\
             server {{\nlisten 0.0.0.0:{PORT};\nlisten [::]:{PORT};\n\
             location /api/asterisk/ws {{\nproxy_pass http://127.0.0.1:{HTTP_PORT}/ws;\nproxy_http_version 1.1;\n\
             proxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection \"upgrade\";\n\
             proxy_set_header X-Real-IP $remote_addr;\n}}\n}}\n}}\n"
        );
        fs::write(directory.join("nginx.conf"), config).context("write nginx's configuration")?;
        let log = fs::File::create(directory.join("log")).context("create nginx's log")?;
        let mut command = host.command("/usr/sbin/nginx");
        command.arg("-e").arg("stderr").arg("-c").arg(inside.join("nginx.conf"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        enter(&mut command, root);
        let mut nginx = Self { process: Running::spawn("nginx", &mut command)?, directory };
        let deadline = Instant::now() + START_LIMIT;
        while dial(host, address, SocketAddr::new(address, PORT)).is_err() {
            if nginx.process.ended()?.is_some() || Instant::now() > deadline {
                let said = fs::read_to_string(nginx.directory.join("log")).unwrap_or_default();
                bail!("nginx did not start; it said:\n{}", said.trim());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.process.kill().ok();
        // The next run removes what remains.
        fs::remove_dir_all(&self.directory).ok();
    }
}

/// A browser's end of a WebSocket for SIP (RFC 7118).
#[derive(Debug)]
pub struct WebSocket {
    stream: TcpStream,
    /// Bytes that have arrived but are not consumed yet.
    read: Vec<u8>,
}

impl WebSocket {
    /// Opens one from `source`, an address of `host`, to the nginx at `target`.
    ///
    /// # Errors
    ///
    /// If it is refused.
    pub fn open(host: &Netns, source: IpAddr, target: IpAddr) -> anyhow::Result<Self> {
        let mut stream = dial(host, source, SocketAddr::new(target, PORT))?;
        stream.set_read_timeout(Some(ANSWER_LIMIT)).context("set a timeout")?;
        stream
            .write_all(
                b"GET /api/asterisk/ws HTTP/1.1\r\nHost: pbx\r\nUpgrade: websocket\r\n\
                  Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: sip\r\n\r\n",
            )
            .context("ask for a WebSocket")?;
        let mut socket = Self { stream, read: Vec::new() };
        let end = loop {
            if let Some(at) = socket.read.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            socket.read_more().context("wait for the answer")?;
        };
        let head: Vec<u8> = socket.read.drain(..end).collect();
        ensure!(head.starts_with(b"HTTP/1.1 101"), "refused: {}", head.escape_ascii());
        Ok(socket)
    }

    /// Sends a message.
    ///
    /// # Errors
    ///
    /// If it cannot be sent.
    pub fn send(&mut self, message: &[u8]) -> anyhow::Result<()> {
        // RFC 6455 section 5.2: text, final, masked by zeros; a length of 16 bits.
        let mut frame = vec![0x81, 0x80 | LONG];
        frame.extend(u16::try_from(message.len()).context("a short message")?.to_be_bytes());
        frame.extend([0; 4]);
        frame.extend(message);
        self.stream.write_all(&frame).context("send over a WebSocket")
    }

    /// The next message.
    ///
    /// # Errors
    ///
    /// If none arrives within a few seconds.
    pub fn receive(&mut self) -> anyhow::Result<Vec<u8>> {
        loop {
            if let Some((head, length)) = frame(&self.read)
                && self.read.len() >= head + length
            {
                let message = self.read.drain(..head + length).skip(head).collect();
                return Ok(message);
            }
            self.read_more()?;
        }
    }

    fn read_more(&mut self) -> anyhow::Result<()> {
        let mut buffer = [0; 4096];
        let length = self.stream.read(&mut buffer).context("read from a WebSocket")?;
        ensure!(length != 0, "the WebSocket is closed");
        self.read.extend(&buffer[..length]);
        Ok(())
    }
}

/// The lengths of a server's frame: of its header and of its payload.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    match bytes {
        [_, LONG, l1, l0, ..] => Some((4, usize::from(u16::from_be_bytes([*l1, *l0])))),
        [_, length @ 0..LONG, ..] => Some((2, usize::from(*length))),
        _ => None,
    }
}
