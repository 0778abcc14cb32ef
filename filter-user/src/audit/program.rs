//! Runs a program of the host and returns its output, with limits of time and length.

use std::fmt;
use std::io::{self, Read as _, Write as _};
use std::ops::Deref;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use zeroize::{Zeroize as _, Zeroizing};

/// The directories of programs; cron's `PATH` may contain fewer.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The variable that may contain a token. Programs do not inherit it.
pub const TOKEN_VARIABLE: &str = "RINGFENCE_WAZO_TOKEN";

/// How long a program may take.
const TIME_MAX: Duration = Duration::from_secs(10);

/// The maximum length of its output in bytes.
const OUTPUT_MAX: usize = 32 << 20;

/// The output of a program, which may contain passwords: it is overwritten when it is dropped.
pub(super) struct Output(Vec<u8>);

impl Output {
    /// Removes the last line, without its line break, and returns it.
    pub(super) fn pop_line(&mut self) -> Option<String> {
        let end = self.0.iter().rposition(|byte| *byte == b'\n')?;
        let line = String::from_utf8_lossy(self.0.get(end + 1..).unwrap_or_default()).into_owned();
        self.0.truncate(end);
        Some(line)
    }
}

impl Deref for Output {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Output")
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        // Not the whole capacity, which is mostly memory that was never used.
        self.0.as_mut_slice().zeroize();
    }
}

/// The output of a program; `None` if it is not installed.
///
/// # Errors
///
/// If it fails, or takes too long, or prints too much.
pub(super) fn output(program: &str, arguments: &[&str]) -> Result<Option<String>> {
    output_within(program, arguments, TIME_MAX, OUTPUT_MAX)
}

/// The same for a program that prints passwords: the output is overwritten when it is dropped.
///
/// # Errors
///
/// As [`output`]. The error repeats only what the program prints on standard error.
pub(super) fn secret_output(
    program: &str,
    arguments: &[&str],
) -> Result<Option<Zeroizing<String>>> {
    let bytes = run(program, arguments, &[], TIME_MAX, OUTPUT_MAX)?;
    Ok(bytes.map(|bytes| Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned())))
}

fn output_within(
    program: &str,
    arguments: &[&str],
    time: Duration,
    length: usize,
) -> Result<Option<String>> {
    let bytes = run(program, arguments, &[], time, length)?;
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Runs a program with this input, and returns its output, which may contain passwords.
pub(super) fn run(
    program: &str,
    arguments: &[&str],
    input: &[u8],
    time: Duration,
    length: usize,
) -> Result<Option<Output>> {
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", PATH).env("LC_ALL", "C");
    command.env_remove(TOKEN_VARIABLE);
    command.stdin(if input.is_empty() { Stdio::null() } else { Stdio::piped() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("run {program}")),
    };
    let until = Instant::now() + time;
    let printed = child.stdout.take().map(|pipe| read(pipe, length));
    let said = child.stderr.take().map(|pipe| read(pipe, 4096));
    if let Some(mut pipe) = child.stdin.take() {
        let input = Zeroizing::new(input.to_vec());
        thread::spawn(move || {
            // A program that does not read it says why.
            pipe.write_all(&input).ok();
        });
    }
    let status = loop {
        if let Some(status) = child.try_wait().with_context(|| format!("wait for {program}"))? {
            break Some(status);
        }
        if Instant::now() > until {
            break None;
        }
        thread::sleep(Duration::from_millis(5));
    };
    let Some(status) = status else {
        child.kill().and_then(|()| child.wait()).with_context(|| format!("end {program}"))?;
        bail!("{program} did not end within {} s", time.as_secs());
    };
    // A process that it started may keep the pipe open: do not wait for it.
    let take = |from: Option<mpsc::Receiver<Output>>| {
        let left = until.saturating_duration_since(Instant::now()) + Duration::from_millis(500);
        from.and_then(|from| from.recv_timeout(left).ok())
    };
    if !status.success() {
        let said = take(said);
        let said = String::from_utf8_lossy(said.as_deref().unwrap_or_default());
        let first = said.lines().next().unwrap_or_default().trim();
        bail!("{program} failed ({status}): {}", first.escape_debug());
    }
    let printed = take(printed).with_context(|| format!("read what {program} printed"))?;
    ensure!(printed.len() <= length, "{program} printed more than {} MiB", length >> 20);
    Ok(Some(printed))
}

/// Reads a pipe on a separate thread: returns at most one byte more than `length`, and discards the rest.
fn read(mut pipe: impl io::Read + Send + 'static, length: usize) -> mpsc::Receiver<Output> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        // All of the memory at once: a vector that grows leaves copies of passwords behind.
        let mut bytes = Output(Vec::with_capacity(length + 1));
        let most = u64::try_from(length).unwrap_or(u64::MAX).saturating_add(1);
        // The result is what was read so far.
        let _ended = pipe.by_ref().take(most).read_to_end(&mut bytes.0);
        let _drained = io::copy(&mut pipe, &mut io::sink());
        // Nobody waits any more if this fails.
        sender.send(bytes).ok();
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    #[test]
    fn a_program_is_run_within_its_bounds() {
        let sh = |script: &str, time, length| output_within("sh", &["-c", script], time, length);
        assert_eq!(sh("echo a; echo b >&2", LONG, 10).unwrap().as_deref(), Some("a\n"));
        assert_eq!(output("no-such-program", &[]).unwrap(), None);
        let failed = sh("echo 'no\u{1b}' >&2; exit 3", LONG, 10).unwrap_err().to_string();
        assert!(failed.contains("exit status: 3") && failed.ends_with("no\\u{1b}"), "{failed}");
        assert!(sh("echo 12345", LONG, 3).unwrap_err().to_string().contains("printed more"));
        let late = sh("exec sleep 600", Duration::from_millis(50), 10).unwrap_err().to_string();
        assert!(late.contains("did not end"), "{late}");
    }
}
