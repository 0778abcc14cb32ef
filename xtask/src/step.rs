//! One step of work: shows what it does, that it is still running, and how long it took.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// How often a step checks its command.
const POLL: Duration = Duration::from_millis(50);
/// How often it updates its line on a terminal.
const REFRESH: Duration = Duration::from_millis(500);
/// The number of last log lines that are shown after a failure.
const SHOWN: usize = 20;
/// The longest part of a log line that a terminal shows without wrapping.
const WIDTH: usize = 100;

/// Runs commands and writes the output of each to a log of its own.
pub(crate) struct Steps {
    verb: &'static str,
    logs: PathBuf,
}

/// The progress of a step's command.
pub(crate) struct Progress<'a> {
    /// Time since it was started.
    pub(crate) elapsed: Duration,
    /// The file with all of its output.
    pub(crate) log: &'a Path,
}

impl Steps {
    /// Steps of set-up. Each step has a log file in the directory `logs`.
    pub(crate) fn new(logs: PathBuf) -> Self {
        Self::of("setup", logs)
    }

    /// Steps of another verb.
    pub(crate) fn of(verb: &'static str, logs: PathBuf) -> Self {
        Self { verb, logs }
    }

    /// Runs `command`, which `what` describes, and waits until it has succeeded.
    pub(crate) fn run(&self, name: &str, what: &str, command: &mut Command) -> Result<()> {
        self.run_while(name, what, command, |_| Ok(()))
    }

    /// As [`Steps::run`], but ends the command with this error if `check` fails.
    pub(crate) fn run_while(
        &self,
        name: &str,
        what: &str,
        command: &mut Command,
        check: impl Fn(&Progress) -> Result<()>,
    ) -> Result<()> {
        fs::create_dir_all(&self.logs)
            .with_context(|| format!("create {}", self.logs.display()))?;
        let log = self.logs.join(format!("{name}.log"));
        eprintln!("{}: {what}", self.verb);
        let start = Instant::now();
        let status = wait(&log, command, check)
            .with_context(|| format!("{name}: {what} (log: {})", log.display()))?;
        if status.success() {
            eprintln!("{}:   {name}: done in {:.1} s", self.verb, start.elapsed().as_secs_f64());
            return Ok(());
        }
        bail!(
            "{name} failed ({status}); the end of {}:\n{}",
            log.display(),
            tail(&read_lossy(&log), SHOWN)
        );
    }
}

/// Does `work`, then prints how long `what` took.
pub(crate) fn timed<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    eprintln!("xtask: {what}");
    let start = Instant::now();
    let done = work()?;
    eprintln!("xtask: {what}: {:.1} s", start.elapsed().as_secs_f64());
    Ok(done)
}

/// Runs a command whose output the developer sees; fails if it fails.
pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let argument = command.get_args().next().map(|a| a.to_string_lossy().into_owned());
    let status = command.status().with_context(|| format!("run {program}"))?;
    if !status.success() {
        let name = Path::new(&program).file_name().unwrap_or_default().to_string_lossy();
        bail!("{name} {} failed ({status})", argument.unwrap_or_default());
    }
    Ok(())
}

/// Returns the output of a command without the last newline; fails if it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output =
        command.stderr(Stdio::inherit()).output().with_context(|| format!("run {program}"))?;
    if !output.status.success() {
        bail!("{program} failed ({})", output.status);
    }
    let text =
        String::from_utf8(output.stdout).with_context(|| format!("{program} printed no UTF-8"))?;
    Ok(text.trim_end().to_owned())
}

fn wait(
    log: &Path,
    command: &mut Command,
    check: impl Fn(&Progress) -> Result<()>,
) -> Result<ExitStatus> {
    let mut file = File::create(log).context("create the log")?;
    writeln!(file, "$ {command:?}").context("write the log")?;
    let output = file.try_clone().context("share the log")?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(output)
        .spawn()
        .context("start the command")?;
    let start = Instant::now();
    let mut shown = Instant::now();
    loop {
        if let Some(status) = child.try_wait().context("wait for the command")? {
            erase();
            return Ok(status);
        }
        let progress = Progress { elapsed: start.elapsed(), log };
        if let Err(error) = check(&progress) {
            child.kill().context("end the command")?;
            child.wait().context("wait for the command's end")?;
            erase();
            return Err(error);
        }
        if shown.elapsed() >= REFRESH {
            show(&progress);
            shown = Instant::now();
        }
        thread::sleep(POLL);
    }
}

fn show(progress: &Progress) {
    if !io::stderr().is_terminal() {
        return;
    }
    let log = read_lossy(progress.log);
    let last: String = tail(&log, 1).trim().chars().take(WIDTH).collect();
    eprint!("\r\x1b[2K  {:>4} s  {last}", progress.elapsed.as_secs());
}

fn erase() {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[2K");
    }
}

/// The text of a log. If it cannot be read, it is empty, because it only explains a failure.
pub(crate) fn read_lossy(log: &Path) -> String {
    String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned()
}

/// The last `count` lines that are not blank. A carriage return also starts a line, because progress
/// bars use it.
pub(crate) fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> =
        text.split(['\n', '\r']).filter(|line| !line.trim().is_empty()).collect();
    lines.get(lines.len().saturating_sub(count)..).unwrap_or_default().join("\n")
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process;

    use super::*;

    fn steps(name: &str) -> Steps {
        Steps::new(env::temp_dir().join(format!("xtask-step-{name}-{}", process::id())))
    }

    #[test]
    fn the_tail_is_what_was_said_last() {
        assert_eq!(tail("a\nb\n\nc\n", 2), "b\nc");
        assert_eq!(tail("10%\r20%\r", 1), "20%");
        assert_eq!(tail("", 3), "");
    }

    #[test]
    fn a_failure_names_the_log_and_shows_its_end() {
        let steps = steps("failure");
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo why it failed >&2; exit 3"]);
        let error = steps.run("job", "a job that fails", &mut command).unwrap_err().to_string();
        assert!(error.contains("job.log"), "{error}");
        assert!(error.contains("why it failed"), "{error}");
        fs::remove_dir_all(&steps.logs).unwrap();
    }

    #[test]
    fn a_step_that_fails_its_check_is_ended() {
        let steps = steps("check");
        let start = Instant::now();
        let mut command = Command::new("sleep");
        command.arg("60");
        let error =
            steps.run_while("nap", "sleeps", &mut command, |_| bail!("long enough")).unwrap_err();
        assert!(format!("{error:#}").contains("long enough"), "{error:#}");
        assert!(start.elapsed() < Duration::from_secs(30));
        fs::remove_dir_all(&steps.logs).unwrap();
    }
}
