//! Processes that do not outlive their owner. Each is in a process group of its own, so that the
//! terminal's Ctrl-C does not reach it, and is ended by its pid.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::prctl;
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::interrupt;

const POLL: Duration = Duration::from_millis(10);

/// A process. When dropped, it is killed and reaped.
#[derive(Debug)]
pub struct Running {
    name: String,
    child: Child,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts `command`. The kernel kills the process when the thread that called this function ends, so
    /// call it from a thread that outlives the process.
    ///
    /// # Errors
    ///
    /// If the program cannot be started.
    pub fn spawn(name: &str, command: &mut Command) -> anyhow::Result<Self> {
        command.process_group(0);
        // SAFETY: prctl is async-signal-safe, and the closure allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?));
        }
        let child = command.spawn().with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), child, ended: None })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    ///
    /// If the kernel does not return the status.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended =
                self.child.try_wait().with_context(|| format!("wait for {}", self.name))?;
        }
        Ok(self.ended)
    }

    /// Sends SIGTERM, and SIGKILL if the process still exists after `grace`.
    ///
    /// # Errors
    ///
    /// If the process cannot be signalled or reaped.
    pub fn terminate(&mut self, grace: Duration) -> anyhow::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        match self.wait_until(Instant::now() + grace)? {
            Some(status) => Ok(status),
            None => self.kill(),
        }
    }

    /// Sends SIGKILL and reaps the process.
    ///
    /// # Errors
    ///
    /// If the process cannot be signalled or reaped.
    pub fn kill(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.ended()? {
            return Ok(status);
        }
        self.child.kill().with_context(|| format!("kill {}", self.name))?;
        let status = self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        self.ended = Some(status);
        Ok(status)
    }

    fn signal(&mut self, signal: Signal) -> anyhow::Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        let pid = i32::try_from(self.child.id()).context("process id")?;
        signal::kill(Pid::from_raw(pid), signal)
            .with_context(|| format!("send {signal} to {}", self.name))
    }

    fn wait_until(&mut self, deadline: Instant) -> anyhow::Result<Option<ExitStatus>> {
        loop {
            let ended = self.ended()?;
            if ended.is_some() || Instant::now() >= deadline {
                return Ok(ended);
            }
            thread::sleep(POLL);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // A process that cannot be killed cannot be handled here, and a drop cannot return an error.
        self.kill().ok();
    }
}

/// The output of a command that has ended.
#[derive(Debug)]
pub struct Finished {
    /// Its exit status.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Finished {
    /// Turns an exit status other than 0 into an error that contains the output.
    ///
    /// # Errors
    ///
    /// If the command failed.
    pub fn success(self, name: &str) -> anyhow::Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        let said = if self.stderr.trim().is_empty() { &self.stdout } else { &self.stderr };
        bail!("{name} failed ({}): {}", self.status, said.trim());
    }
}

/// Whether a wait ends early if the run is interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnSignal {
    /// The command is killed and [`interrupt::Interrupted`] returned.
    Stop,
    /// The command is part of the clean-up and runs to its end.
    Finish,
}

/// Runs `command` to its end, but at most for `limit`.
///
/// # Errors
///
/// If it cannot be started, still runs after `limit`, or the run is interrupted. A command that fails is
/// not an error here; see [`Finished::success`].
pub fn finish(
    name: &str,
    command: &mut Command,
    limit: Duration,
    on_signal: OnSignal,
) -> anyhow::Result<Finished> {
    let mut stdout = tempfile::tempfile().context("make a temporary file")?;
    let mut stderr = tempfile::tempfile().context("make a temporary file")?;
    command.stdin(Stdio::null());
    command.stdout(stdout.try_clone().context("duplicate a file")?);
    command.stderr(stderr.try_clone().context("duplicate a file")?);
    let mut running = Running::spawn(name, command)?;
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = running.ended()? {
            break status;
        }
        if on_signal == OnSignal::Stop {
            interrupt::check()?;
        }
        if Instant::now() >= deadline {
            bail!("{name} did not end within {} s", limit.as_secs());
        }
        thread::sleep(Duration::from_millis(2));
    };
    Ok(Finished { status, stdout: read_back(&mut stdout)?, stderr: read_back(&mut stderr)? })
}

fn read_back(file: &mut File) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).context("rewind a file")?;
    file.read_to_end(&mut bytes).context("read what a command said")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_command_says_is_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let finished =
            finish("sh", &mut command, Duration::from_secs(5), OnSignal::Finish).unwrap();
        assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("out\n", "err\n"));
        assert!(finished.success("sh").unwrap_err().to_string().contains("err"));
    }

    #[test]
    fn a_command_that_hangs_is_ended() {
        let mut command = Command::new("sleep");
        command.arg("60");
        let started = Instant::now();
        finish("sleep", &mut command, Duration::from_millis(50), OnSignal::Finish).unwrap_err();
        assert!(started.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn a_dropped_process_is_gone() {
        let running = Running::spawn("sleep", Command::new("sleep").arg("60")).unwrap();
        let pid = Pid::from_raw(i32::try_from(running.id()).unwrap());
        drop(running);
        assert!(signal::kill(pid, None).is_err());
    }
}
