//! Runs the tests, several processes at once: each test that needs root in a process of its own, and each executable's
//! other tests in one. Those that need root wait for something most of the time, and each has namespaces, pins and
//! sockets of its own. The others compute, and get what is left of the processors.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::{Context as _, Result, bail};

use super::process;
use super::summary::Summary;
use crate::privilege::Root;
use crate::workspace::json_string;

/// How many processes run at once on two processors, and how many more for each further one: those that wait take little
/// of a processor, and all need some of it when they go on.
const ON_TWO: usize = 5;
const FOR_EACH_MORE: usize = 2;
const MOST_AT_ONCE: usize = 9;

/// How many of them take the longest tests first. These start several daemons or a browser: all of them at once would
/// need more than two processors.
const LONG: usize = 2;

/// The tests that take longest, the longest first: the last to begin must not be one of them.
const LONGEST: [&str; 21] = [
    "filter_user",
    "ringfence_tests",
    "page::a_browser_shows_every_view",
    "closed_host::everything_that_stands_goes_on",
    "documents::every_block_of_commands_runs",
    "fleet::maintenance_of_the_fleet_is_accepted_bounded_and_ends",
    "safety::a_first_start_is_to_be_confirmed",
    "clients::real_phones_live_through_everything",
    "alerts::what_happens_is_told_by_its_kind",
    "watchdog::a_filter_without_a_daemon_makes_no_bans_and_keeps_those_it_has",
    "alerts::what_hangs_or_fails_delays_no_ban",
    "metrics::each_alert_fires_when_it_should",
    "fleet::a_host_that_is_parted_and_has_a_wrong_clock_finds_back",
    "kills::every_failure_counts_once_over_kills_and_rotation",
    "kill_anywhere",
    "own_jails::a_jail_of_ones_own_comes_works_and_goes",
    "upgrade::a_site_with_ipv6_comes_back_over_tls_without_maintenance",
    "upgrade::all_phones_get_in_after_maintenance",
    "host_decisions",
    "jail_memory",
    "store::what_was_reported_is_there_after_a_kill",
];

/// How willingly the tests that do not need root give way to those that watch real programs.
const NICE: &str = "10";

/// A test executable that cargo has built.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Executable {
    path: PathBuf,
    /// The directory of its package, where cargo would start it.
    package: PathBuf,
    name: String,
}

/// What one process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Job {
    /// The tests of an executable that need no root, or those whose name contains the filter.
    Executable(Executable, Option<String>),
    /// One of them.
    One(Executable, String),
    /// A test that needs root.
    Privileged(Executable, String),
    /// The tests in the documentation, by their filter.
    Documentation(Option<String>),
}

impl Job {
    /// The name of the executable.
    fn name(&self) -> &str {
        match self {
            Self::Executable(executable, _)
            | Self::One(executable, _)
            | Self::Privileged(executable, _) => &executable.name,
            Self::Documentation(_) => "doc",
        }
    }

    /// The name of what it runs.
    fn full_name(&self) -> String {
        match self {
            Self::Privileged(executable, test) | Self::One(executable, test) => {
                format!("{}::{test}", executable.name)
            }
            Self::Executable(..) | Self::Documentation(_) => self.name().to_owned(),
        }
    }

    /// Its place among the [`LONGEST`], after which all others come.
    fn order(&self) -> usize {
        let name = self.full_name();
        LONGEST.iter().position(|long| *long == name).unwrap_or(LONGEST.len())
    }

    /// The run of one of its tests alone.
    fn alone(&self, test: &str) -> Self {
        match self {
            Self::Executable(executable, _) | Self::One(executable, _) => {
                Self::One(executable.clone(), test.to_owned())
            }
            Self::Privileged(..) => self.clone(),
            Self::Documentation(_) => Self::Documentation(Some(test.to_owned())),
        }
    }
}

/// The settings that all of them share.
pub(super) struct Run<'a> {
    /// How those that need root become root, if they are to run.
    pub(super) root: Option<Root>,
    /// Only the tests whose name, or whose executable's name, contains this.
    pub(super) filter: Option<&'a str>,
    /// The environment variables of the tests.
    pub(super) environment: &'a [(&'static str, OsString)],
    /// Whether the output is coloured.
    pub(super) colour: bool,
    /// A `cargo test` of all packages.
    pub(super) cargo: &'a (dyn Fn() -> Command + Sync),
}

/// How the tests ended.
#[derive(Default)]
pub(super) struct Outcome {
    /// What they said, the second runs included.
    pub(super) summary: Summary,
    /// The number of tests that ran as root.
    pub(super) privileged: u64,
    /// The tests that failed beside others and passed alone.
    pub(super) passed_alone: Vec<String>,
}

impl Run<'_> {
    /// Runs the tests of these executables.
    pub(super) fn all(&self, executables: &Executables) -> Result<Outcome> {
        let mut jobs = self.jobs(executables)?;
        jobs.sort_by_key(Job::order);
        let width = jobs.iter().map(|job| job.name().len()).max().unwrap_or(0);

        let processors = thread::available_parallelism()?.get();
        let workers = at_once(processors);
        let waiting = Mutex::new(VecDeque::from(jobs));
        let ended = Mutex::new((Outcome::default(), Vec::new()));
        thread::scope(|scope| -> Result<()> {
            let work = |worker| -> Result<()> {
                loop {
                    let mut waiting = waiting.lock().unwrap_or_else(PoisonError::into_inner);
                    let next = if worker < LONG { waiting.pop_front() } else { waiting.pop_back() };
                    drop(waiting);
                    let Some(job) = next else { return Ok(()) };
                    let (success, mut summary) = self.run(&job, width)?;
                    if !success && summary.failed().is_empty() {
                        for test in Self::unfinished(&job, &summary)? {
                            summary.fail(test);
                        }
                    }
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    let (outcome, failed) = &mut *ended;
                    if !success {
                        if summary.failed().is_empty() {
                            bail!("{} failed, though no test did: see above", job.name());
                        }
                        failed.extend(
                            summary.failed().iter().map(|test| (job.alone(test), test.clone())),
                        );
                    }
                    if matches!(job, Job::Privileged(..)) {
                        outcome.privileged += summary.totals().ran();
                    }
                    outcome.summary.merge(summary);
                }
            };
            let threads: Vec<_> =
                (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
            for worker in threads {
                match worker.join() {
                    Ok(ended) => ended?,
                    Err(panic) => resume_unwind(panic),
                }
            }
            Ok(())
        })?;
        let (mut outcome, failed) = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let passes = |(job, _): &(Job, String)| {
            let (success, second) = self.run(job, width)?;
            Ok(success && second.totals().passed == 1)
        };
        let passed_alone = outcome.summary.run_again(failed, |(_, test)| test, passes)?;
        let full = |(job, test): (Job, String)| format!("{}::{test}", job.name());
        outcome.passed_alone = passed_alone.into_iter().map(full).collect();
        Ok(outcome)
    }

    /// What is to run.
    fn jobs(&self, executables: &Executables) -> Result<Vec<Job>> {
        let filter = self.filter.unwrap_or_default();
        let mut jobs = vec![Job::Documentation(self.filter.map(str::to_owned))];
        for executable in &executables.0 {
            // All of an executable whose name contains it.
            let filter = if executable.name.contains(filter) { "" } else { filter };
            let wanted = |test: &String| test.contains(filter);
            let ignored = Self::list(executable, &["--ignored"])?;
            let all = Self::list(executable, &[])?;
            if all.iter().any(|test| wanted(test) && !ignored.contains(test)) {
                let filter = Some(filter).filter(|filter| !filter.is_empty());
                jobs.push(Job::Executable(executable.clone(), filter.map(str::to_owned)));
            }
            if self.root.is_some() {
                let tests = ignored.into_iter().filter(wanted);
                jobs.extend(tests.map(|test| Job::Privileged(executable.clone(), test)));
            }
        }
        Ok(jobs)
    }

    /// The tests of a process that failed without a word about them, because it was killed or crashed: those that had not
    /// ended.
    fn unfinished(job: &Job, summary: &Summary) -> Result<Vec<String>> {
        let mut tests = match job {
            Job::Privileged(_, test) | Job::One(_, test) => return Ok(vec![test.clone()]),
            Job::Documentation(_) => return Ok(Vec::new()),
            Job::Executable(executable, filter) => {
                let mut tests = Self::list(executable, &[])?;
                let ignored = Self::list(executable, &["--ignored"])?;
                let filter = filter.as_deref().unwrap_or_default();
                tests.retain(|test| test.contains(filter) && !ignored.contains(test));
                tests
            }
        };
        tests.retain(|test| summary.ended().all(|ended| ended != test));
        Ok(tests)
    }

    /// The names of an executable's tests.
    fn list(executable: &Executable, arguments: &[&str]) -> Result<Vec<String>> {
        let output = Command::new(&executable.path)
            .current_dir(&executable.package)
            .args(["--list", "--format=terse"])
            .args(arguments)
            .output()
            .with_context(|| format!("list the tests of {}", executable.name))?;
        if !output.status.success() {
            bail!("{} does not list its tests: {}", executable.name, output.status);
        }
        let list = String::from_utf8_lossy(&output.stdout);
        Ok(list.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
    }

    /// Runs a job. Returns whether it succeeded, and what it said.
    fn run(&self, job: &Job, width: usize) -> Result<(bool, Summary)> {
        let label = format!("{:<width$} | ", job.name());
        let mut command = Self::command(job, self.cargo);
        command
            .args(self.colour.then_some("--color=always"))
            .envs(self.environment.iter().map(|(key, value)| (key, value)));
        let root = self.root.filter(|_| matches!(job, Job::Privileged(..)));
        process::run(&job.full_name(), &label, &mut process::limited(root, &command))
    }

    fn command(job: &Job, cargo: &dyn Fn() -> Command) -> Command {
        let niced = |executable: &Executable| {
            let mut command = Command::new("nice");
            command.args(["-n", NICE]).arg(&executable.path).current_dir(&executable.package);
            command
        };
        match job {
            Job::Executable(executable, filter) => {
                let mut command = niced(executable);
                command.args(filter);
                command
            }
            Job::One(executable, test) => {
                let mut command = niced(executable);
                command.args(["--exact", test]);
                command
            }
            Job::Privileged(executable, test) => {
                let mut command = Command::new(&executable.path);
                command.current_dir(&executable.package);
                command.args(["--ignored", "--test-threads=1", "--exact", test]);
                command
            }
            Job::Documentation(filter) => {
                let mut command = cargo();
                command.args(["--quiet", "--doc"]).args(filter).arg("--");
                command
            }
        }
    }
}

/// How many processes run at once.
fn at_once(processors: usize) -> usize {
    match processors {
        0 | 1 => 2,
        more => (ON_TWO + FOR_EACH_MORE * (more - 2)).min(MOST_AT_ONCE),
    }
}

/// The test executables that cargo has built.
pub(super) struct Executables(Vec<Executable>);

impl Executables {
    /// Builds them with a `cargo test`.
    pub(super) fn build(build: &mut Command) -> Result<Self> {
        let output = build
            .args(["--no-run", "--message-format=json-render-diagnostics"])
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("run cargo test")?;
        if !output.status.success() {
            bail!("the tests cannot be built ({}): see above", output.status);
        }
        let messages =
            String::from_utf8(output.stdout).context("cargo's messages are not UTF-8")?;
        Ok(Self(messages.lines().filter_map(executable).collect()))
    }
}

/// The test executable that one of cargo's messages is about, if it is about one.
fn executable(message: &str) -> Option<Executable> {
    let (_, profile) = message.split_once("\"profile\":{")?;
    let (profile, _) = profile.split_once('}')?;
    profile.contains("\"test\":true").then_some(())?;
    let path = PathBuf::from(json_string(message, "executable")?);
    let manifest = PathBuf::from(json_string(message, "manifest_path")?);
    let name = path.file_name()?.to_str()?;
    let name = name.rsplit_once('-').map_or(name, |(name, _hash)| name).to_owned();
    Some(Executable { package: manifest.parent().map(Path::to_path_buf)?, path, name })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn more_run_at_once_on_more_processors() {
        assert_eq!([1, 2, 3, 4, 64].map(at_once), [2, 5, 7, 9, 9]);
    }

    #[test]
    fn the_longest_tests_exist() {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/tests");
        for (file, test) in LONGEST.iter().filter_map(|name| name.split_once("::")) {
            let text = fs::read_to_string(tests.join(file).with_extension("rs")).unwrap();
            assert!(text.contains(&format!("fn {test}() {{")), "{file}::{test}");
        }
    }

    #[test]
    fn cargo_says_which_executables_are_tests() {
        let message = r#"{"reason":"compiler-artifact","package_id":"path+file:///src/tests#ringfence-tests@0.1.0","manifest_path":"/src/tests/Cargo.toml","target":{"kind":["test"],"crate_types":["bin"],"name":"attach","src_path":"/src/tests/tests/attach.rs","edition":"2024","doc":false,"doctest":false,"test":true},"profile":{"opt_level":"0","debuginfo":2,"debug_assertions":true,"overflow_checks":true,"test":true},"features":[],"filenames":["/src/target/debug/deps/attach-0a1b"],"executable":"/src/target/debug/deps/attach-0a1b","fresh":false}"#;
        assert_eq!(
            executable(message),
            Some(Executable {
                path: "/src/target/debug/deps/attach-0a1b".into(),
                package: "/src/tests".into(),
                name: "attach".into(),
            })
        );
        // A binary that the tests start.
        let binary =
            message.replace(r#"true,"test":true},"features""#, r#"true,"test":false},"features""#);
        assert_eq!(executable(&binary), None);
        let library = message.replace(
            r#""executable":"/src/target/debug/deps/attach-0a1b""#,
            r#""executable":null"#,
        );
        assert_eq!(executable(&library), None);
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
    }
}
