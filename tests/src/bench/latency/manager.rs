//! The part of Asterisk's manager interface that a login and a stream of events need.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::netns::Netns;

const PORT: u16 = 5038;

/// How long to wait for the client.
const PATIENCE: Duration = Duration::from_secs(10);

const BANNER: &str = "Asterisk Call Manager/11.0.0\r\n";

/// A port to which the client connects.
#[derive(Debug)]
pub(super) struct Listener(TcpListener);

/// A client that has logged in.
#[derive(Debug)]
pub(super) struct Session(TcpStream);

impl Listener {
    /// Opens the port in `host`.
    pub(super) fn open(host: &Netns) -> anyhow::Result<Self> {
        host.run_in(|| Ok(Self(TcpListener::bind(("127.0.0.1", PORT)).context("open AMI's port")?)))
    }

    /// Accepts the next client, whatever its secret is.
    pub(super) fn accept(&self) -> anyhow::Result<Session> {
        let (mut stream, _client) = self.0.accept().context("wait for AMI's client")?;
        stream.set_nodelay(true).context("send events at once")?;
        stream.set_read_timeout(Some(PATIENCE)).context("set a timeout")?;
        let mut actions = BufReader::new(stream.try_clone().context("duplicate a socket")?);
        stream.write_all(BANNER.as_bytes()).context("greet AMI's client")?;
        loop {
            let action = action(&mut actions)?;
            stream.write_all(answer(&action).as_bytes()).context("answer AMI's client")?;
            if action.starts_with("Action: Login\r\n") {
                break;
            }
        }
        stream.set_read_timeout(None).context("set no timeout")?;
        let mut answers = stream.try_clone().context("duplicate a socket")?;
        // It ends when the client disconnects.
        thread::spawn(move || {
            while let Ok(action) = action(&mut actions) {
                if answers.write_all(answer(&action).as_bytes()).is_err() {
                    return;
                }
            }
        });
        Ok(Session(stream))
    }
}

impl Session {
    /// Sends events.
    pub(super) fn send(&mut self, events: &str) -> anyhow::Result<()> {
        self.0.write_all(events.as_bytes()).context("send events over AMI")
    }
}

/// One action, up to its empty line.
fn action(actions: &mut BufReader<TcpStream>) -> anyhow::Result<String> {
    let mut action = String::new();
    while !action.ends_with("\r\n\r\n") {
        if actions.read_line(&mut action).context("read what AMI's client asks")? == 0 {
            bail!("AMI's client has hung up");
        }
    }
    Ok(action)
}

/// The response to an action: success, with a challenge if requested.
fn answer(action: &str) -> String {
    let id = action.lines().find(|line| line.starts_with("ActionID: ")).unwrap_or("ActionID: ");
    let challenge = action.starts_with("Action: Challenge\r\n");
    let challenge = if challenge { "Challenge: 160512217\r\n" } else { "" };
    format!("Response: Success\r\n{id}\r\n{challenge}Message: Done\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_to_its_action() {
        let asked = "Action: Challenge\r\nActionID: c\r\nAuthType: MD5\r\n\r\n";
        assert!(answer(asked).starts_with("Response: Success\r\nActionID: c\r\nChallenge: "));
        let asked = "Action: Ping\r\nActionID: p\r\n\r\n";
        assert_eq!(answer(asked), "Response: Success\r\nActionID: p\r\nMessage: Done\r\n\r\n");
    }
}
