//! A real terminal for tests: Debian's tmux, with a server of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::child::{self, OnSignal};
use crate::scratch;
use crate::world::until;

const LIMIT: Duration = Duration::from_secs(10);

/// How long to wait for something to appear on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A terminal in which a command runs. When dropped, both end.
#[derive(Debug)]
pub struct Tmux {
    socket: PathBuf,
    // The last field, so that it outlives the server.
    directory: TempDir,
}

impl Tmux {
    /// Runs a command line of the shell in a terminal of this size, in UTF-8.
    ///
    /// # Errors
    ///
    /// If tmux is missing or does not start.
    pub fn start(width: u16, height: u16, line: &str) -> anyhow::Result<Self> {
        let directory = scratch::directory("tmux")?;
        let tmux = Self { socket: directory.path().join("socket"), directory };
        let (width, height) = (width.to_string(), height.to_string());
        let shell = format!("exec env LC_ALL=C.UTF-8 {line}");
        let size = ["-x", &width, "-y", &height];
        let session = [&["new-session", "-d"], &size[..], &[&shell]].concat();
        // The pane stays when its command has ended.
        let remain = ["set-option", "-g", "remain-on-exit", "on"];
        let status = ["set-option", "-g", "status", "off"];
        let all = [&remain[..], &[";"], &status, &[";"], &session].concat();
        tmux.run(&[&["start-server", ";"], &all[..]].concat())?;
        Ok(tmux)
    }

    fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = Command::new("tmux");
        command.args(["-u", "-f", "/dev/null", "-S"]).arg(&self.socket).args(arguments);
        command.env_remove("TMUX").env("TERM", "xterm-256color").env("LC_ALL", "C.UTF-8");
        let name = format!("tmux {}", arguments.first().unwrap_or(&""));
        Ok(child::finish(&name, &mut command, LIMIT, OnSignal::Stop)?.success(&name)?.stdout)
    }

    /// The text on the screen.
    ///
    /// # Errors
    ///
    /// If tmux does not say.
    pub fn screen(&self) -> anyhow::Result<String> {
        self.run(&["capture-pane", "-p"])
    }

    /// The same with escape sequences for its colours.
    ///
    /// # Errors
    ///
    /// If tmux does not say.
    pub fn coloured(&self) -> anyhow::Result<String> {
        self.run(&["capture-pane", "-p", "-e"])
    }

    /// Types text.
    ///
    /// # Errors
    ///
    /// If tmux does not take it.
    pub fn text(&self, text: &str) -> anyhow::Result<()> {
        self.run(&["send-keys", "-l", text]).map(drop)
    }

    /// Presses a key by its name, such as `Enter`.
    ///
    /// # Errors
    ///
    /// If tmux does not take it.
    pub fn key(&self, name: &str) -> anyhow::Result<()> {
        self.run(&["send-keys", name]).map(drop)
    }

    /// Waits until all of these are on the screen, and returns it.
    ///
    /// # Errors
    ///
    /// If they do not appear.
    pub fn shows(&self, expected: &[&str]) -> anyhow::Result<String> {
        let mut screen = String::new();
        let appeared = until(PATIENCE, || {
            screen = self.screen().unwrap_or_default();
            expected.iter().all(|text| screen.contains(text))
        });
        ensure!(appeared, "{expected:?} did not appear on\n{screen}");
        Ok(screen)
    }

    /// Changes the size.
    ///
    /// # Errors
    ///
    /// If tmux does not.
    pub fn resize(&self, width: u16, height: u16) -> anyhow::Result<()> {
        let (width, height) = (width.to_string(), height.to_string());
        self.run(&["resize-window", "-x", &width, "-y", &height]).map(drop)
    }

    /// Changes the size and types text at once.
    ///
    /// # Errors
    ///
    /// If tmux does not.
    pub fn resize_and_type(&self, width: u16, height: u16, text: &str) -> anyhow::Result<()> {
        let (width, height) = (width.to_string(), height.to_string());
        let resize = ["resize-window", "-x", &width, "-y", &height];
        self.run(&[&resize[..], &[";", "send-keys", "-l", text]].concat()).map(drop)
    }

    /// A value that tmux knows about the terminal, such as `alternate_on` or `cursor_flag`.
    ///
    /// # Errors
    ///
    /// If tmux does not say.
    pub fn value(&self, name: &str) -> anyhow::Result<String> {
        let said = self.run(&["display-message", "-p", &format!("#{{{name}}}")])?;
        Ok(said.trim().to_owned())
    }

    /// The process that was started last in the terminal.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn process(&self) -> anyhow::Result<Pid> {
        let mut pid: i32 = self.value("pane_pid")?.parse().context("the pane's process")?;
        loop {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
            match children.unwrap_or_default().split_whitespace().next() {
                Some(child) => pid = child.parse().context("a process")?,
                None => return Ok(Pid::from_raw(pid)),
            }
        }
    }

    /// From now on, writes all that the terminal is sent to a file, and returns its path.
    ///
    /// # Errors
    ///
    /// If tmux does not.
    pub fn record(&self) -> anyhow::Result<PathBuf> {
        let file = self.directory.path().join("record");
        self.run(&["pipe-pane", &format!("cat > {}", file.display())])?;
        ensure!(until(PATIENCE, || Path::exists(&file)), "tmux records nothing");
        Ok(file)
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        // A server that has ended by itself is no problem.
        self.run(&["kill-server"]).ok();
    }
}
