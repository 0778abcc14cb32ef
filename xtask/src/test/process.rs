//! Runs one process of tests: prints what it says, names it if it takes long, and ends it if it hangs.

use std::collections::HashSet;
use std::io::{self, BufRead as _, BufReader, PipeReader, Write as _};
use std::mem;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::summary::{self, Summary};
use crate::privilege::Root;

/// How long a process may run. The longest takes two minutes when nothing else runs.
const LIMIT: Duration = Duration::from_mins(10);

/// After this time its processes are printed.
const LONG: Duration = Duration::from_mins(6);

/// How long processes that it has left behind may hold its output.
const GRACE: Duration = Duration::from_secs(10);

const POLL: Duration = Duration::from_millis(500);

/// How many characters of a line about a process are shown.
const WIDTH: usize = 200;

/// The command, killed after [`LIMIT`]. The kernel then kills what the tests have started (`child::Running` of the
/// tests), and the next run removes their namespaces.
pub(super) fn limited(root: Option<Root>, command: &Command) -> Command {
    killed_after(LIMIT, root, command)
}

fn killed_after(limit: Duration, root: Option<Root>, command: &Command) -> Command {
    // Below sudo, since only root can kill a process of root.
    let mut timeout = root.map_or_else(|| Command::new("timeout"), |root| root.command("timeout"));
    // In the foreground, so that Ctrl-C on the terminal still reaches the tests.
    timeout.args(["--foreground", "--verbose", "--signal=KILL"]);
    timeout.arg(limit.as_secs_f64().to_string());
    timeout.arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        timeout.current_dir(directory);
    }
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => timeout.env(key, value),
            None => timeout.env_remove(key),
        };
    }
    timeout
}

/// Runs it, and prints each line behind the label, so that the lines of several processes can be told apart. Returns
/// whether it succeeded, and what it said.
pub(super) fn run(name: &str, label: &str, command: &mut Command) -> Result<(bool, Summary)> {
    let (output, into) = io::pipe().context("make a pipe")?;
    command.stdin(Stdio::null()).stdout(into.try_clone().context("share a pipe")?).stderr(into);
    let mut child = command.spawn().with_context(|| format!("start {name}"))?;
    // The command holds the end that is written to.
    command.stdout(Stdio::null()).stderr(Stdio::null());

    let summary = Arc::new(Mutex::new(Summary::default()));
    let (sender, end) = mpsc::channel();
    let (shared, label) = (Arc::clone(&summary), label.to_owned());
    thread::spawn(move || {
        // Nobody receives it any more after the time of grace.
        drop(sender.send(print(output, &label, &shared)));
    });
    let taken = || mem::take(&mut *summary.lock().unwrap_or_else(PoisonError::into_inner));

    let begun = Instant::now();
    let mut told = false;
    let mut ended: Option<Instant> = None;
    loop {
        match end.recv_timeout(POLL) {
            Ok(done) => break done.with_context(|| format!("print the output of {name}"))?,
            Err(RecvTimeoutError::Disconnected) => bail!("the output of {name} is lost"),
            Err(RecvTimeoutError::Timeout) => {}
        }
        if !told && begun.elapsed() > LONG {
            println!("{name} still runs after {} s:\n{}", LONG.as_secs(), processes(child.id()));
            told = true;
        }
        if ended.is_none()
            && child.try_wait().with_context(|| format!("wait for {name}"))?.is_some()
        {
            ended = Some(Instant::now());
        }
        if ended.is_some_and(|ended| ended.elapsed() > GRACE) {
            println!("{name} has ended, but a process that it started still holds its output");
            return Ok((false, taken()));
        }
    }
    let status = child.wait().with_context(|| format!("wait for {name}"))?;
    if !status.success() {
        println!("{name} ended with {status}");
    }
    Ok((status.success(), taken()))
}

fn print(output: PipeReader, label: &str, summary: &Mutex<Summary>) -> io::Result<()> {
    let mut output = BufReader::new(output);
    let feed = |bytes: &[u8]| {
        let mut summary = summary.lock().unwrap_or_else(PoisonError::into_inner);
        summary.feed(bytes, Instant::now());
    };
    loop {
        // The name of a test comes before it runs, and the time is taken from there.
        let begun = output.fill_buf()?;
        feed(begun.get(..1).unwrap_or_default());
        if begun.is_empty() {
            return Ok(());
        }
        let mut line = Vec::new();
        output.read_until(b'\n', &mut line)?;
        feed(line.get(1..).unwrap_or_default());
        if summary::says_nothing(&String::from_utf8_lossy(&line)) {
            continue;
        }
        let mut out = io::stdout().lock();
        out.write_all(label.as_bytes())?;
        out.write_all(&line)?;
        out.flush()?;
    }
}

/// A process and all that it has started, a line each: state, place in the kernel where it waits, seconds, command.
fn processes(root: u32) -> String {
    let mut ps = Command::new("ps");
    ps.args(["-e", "-ww", "-o", "pid=,ppid=,stat=,wchan:24=,etimes=,args="]);
    let Ok(output) = ps.output() else { return "(ps cannot be run)".to_owned() };
    let text = String::from_utf8_lossy(&output.stdout);
    descendants(&text, root)
}

fn descendants(list: &str, root: u32) -> String {
    let id = |line: &str, field| line.split_whitespace().nth(field)?.parse::<u32>().ok();
    let mut family = HashSet::from([root]);
    loop {
        let children: Vec<u32> = list
            .lines()
            .filter(|line| id(line, 1).is_some_and(|parent| family.contains(&parent)))
            .filter_map(|line| id(line, 0))
            .filter(|child| !family.contains(child))
            .collect();
        if children.is_empty() {
            break;
        }
        family.extend(children);
    }
    let lines = list.lines().filter(|line| id(line, 0).is_some_and(|own| family.contains(&own)));
    let lines = lines.map(|line| line.chars().take(WIDTH).collect::<String>());
    lines.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `sh` does with this script under this limit.
    fn done(limit: Duration, script: &str) -> (bool, Summary) {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        run("sh", "sh | ", &mut killed_after(limit, None, &command)).unwrap()
    }

    #[test]
    fn a_process_that_hangs_is_ended() {
        let begun = Instant::now();
        let said = "echo 'test a ... ok'; echo 'test b ... ok'; exec sleep 60";
        let (success, summary) = done(Duration::from_millis(500), said);
        assert!(!success && begun.elapsed() < Duration::from_secs(30));
        assert_eq!(summary.ended().collect::<Vec<_>>(), ["a", "b"]);
    }

    #[test]
    fn the_status_of_one_that_ends_is_its_own() {
        assert!(done(Duration::from_mins(1), "true").0);
        assert!(!done(Duration::from_mins(1), "exit 3").0);
    }

    #[test]
    fn one_that_leaves_another_with_its_output_has_failed() {
        let (success, _) = done(Duration::from_mins(1), "sleep 40 & true");
        assert!(!success);
    }

    #[test]
    fn a_process_is_shown_with_all_it_has_started() {
        let list = " 1 0 S - 9 init\n 7 1 S - 9 test\n 8 7 S pipe_read 9 asterisk -f\n 9 8 S - 1 sh\n 10 1 S - 9 sshd\n";
        assert_eq!(
            descendants(list, 7),
            " 7 1 S - 9 test\n 8 7 S pipe_read 9 asterisk -f\n 9 8 S - 1 sh"
        );
    }
}
