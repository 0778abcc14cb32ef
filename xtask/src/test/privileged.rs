//! The tests that need root: several executables at once, and in each one test after the other. Most of
//! them wait for something most of the time, and each has namespaces, pins and sockets of its own.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use super::summary::Summary;
use crate::privilege::Root;
use crate::workspace::json_string;

/// How many executables run at once for each processor, and how many at most.
const PER_PROCESSOR: usize = 2;
const MOST_AT_ONCE: usize = 4;

/// An executable with one test takes as long as one with this many.
const LONE: usize = 6;

/// A test executable that cargo has built.
#[derive(Debug, PartialEq, Eq)]
struct Executable {
    path: PathBuf,
    /// The directory of its package, where cargo would start it.
    package: PathBuf,
    name: String,
}

/// The settings that all of them share.
pub(super) struct Run<'a> {
    /// How they become root.
    pub(super) root: Root,
    /// Only the tests whose name contains this.
    pub(super) filter: Option<&'a str>,
    /// The environment variables of the tests.
    pub(super) environment: &'a [(&'static str, OsString)],
    /// Whether the output is coloured.
    pub(super) colour: bool,
}

/// How the tests ended.
pub(super) struct Outcome {
    /// What they said, the second runs included.
    pub(super) summary: Summary,
    /// The tests that failed beside others and passed alone.
    pub(super) passed_alone: Vec<String>,
}

impl Run<'_> {
    /// Builds the tests with `build`, a `cargo test`, and runs those that need root.
    pub(super) fn all(&self, build: &mut Command) -> Result<Outcome> {
        let mut counted = Vec::new();
        for executable in built(build)? {
            let tests = self.count(&executable)?;
            if tests > 0 {
                counted.push((tests, executable));
            }
        }
        // The last to be taken must not be the longest: many tests, or one that is a whole story.
        counted.sort_by_key(|(tests, _)| if *tests == 1 { LONE } else { *tests });
        let width = counted.iter().map(|(_, executable)| executable.name.len()).max().unwrap_or(0);

        let processors = thread::available_parallelism()?.get();
        let workers = (PER_PROCESSOR * processors).min(MOST_AT_ONCE);
        let waiting = Mutex::new(counted);
        let ended = Mutex::new((Summary::default(), Vec::new()));
        thread::scope(|scope| -> Result<()> {
            let work = || -> Result<()> {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
                    let Some((_, executable)) = next else { return Ok(()) };
                    let (status, summary) = self.run(&executable, width, &[])?;
                    let mut ended = ended.lock().unwrap_or_else(PoisonError::into_inner);
                    if !status.success() {
                        if summary.totals().failed == 0 {
                            bail!(
                                "{} ended with {status}, though no test failed: see above",
                                executable.name
                            );
                        }
                        let failed = summary.failed().to_vec();
                        ended.1.push((executable, failed));
                    }
                    ended.0.merge(summary);
                }
            };
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            for worker in threads {
                match worker.join() {
                    Ok(ended) => ended?,
                    Err(panic) => resume_unwind(panic),
                }
            }
            Ok(())
        })?;
        let (mut summary, failed) = ended.into_inner().unwrap_or_else(PoisonError::into_inner);
        let failed = failed
            .iter()
            .flat_map(|(executable, names)| names.iter().map(move |name| (executable, name)));
        let passes = |(executable, name): &(&Executable, &String)| {
            let (status, second) = self.run(executable, width, &["--exact", name])?;
            Ok(status.success() && second.totals().passed == 1)
        };
        let passed_alone = summary.run_again(failed.collect(), |(_, name)| name, passes)?;
        let full =
            |(executable, name): (&Executable, &String)| format!("{}::{name}", executable.name);
        Ok(Outcome { summary, passed_alone: passed_alone.into_iter().map(full).collect() })
    }

    fn count(&self, executable: &Executable) -> Result<usize> {
        let output = self
            .harness(executable, Command::new(&executable.path))
            .args(["--list", "--format=terse"])
            .output()
            .with_context(|| format!("list the tests of {}", executable.name))?;
        if !output.status.success() {
            bail!("{} does not list its tests: {}", executable.name, output.status);
        }
        let list = String::from_utf8_lossy(&output.stdout);
        Ok(list.lines().filter(|line| line.ends_with(": test")).count())
    }

    /// Runs an executable with these arguments more. Prints each line with the executable's name before it, so
    /// that those of several can be told apart.
    fn run(
        &self,
        executable: &Executable,
        width: usize,
        arguments: &[&str],
    ) -> Result<(ExitStatus, Summary)> {
        let name = &executable.name;
        let (output, into) = io::pipe().context("make a pipe")?;
        let mut command = self.harness(executable, self.root.command(&executable.path));
        command
            .arg("--test-threads=1")
            .args(arguments)
            .args(self.colour.then_some("--color=always"))
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(into.try_clone().context("share a pipe")?)
            .stderr(into);
        let mut child = command.spawn().with_context(|| format!("start {name}"))?;
        // It holds the end that is written to.
        drop(command);
        let mut output = BufReader::new(output);
        let mut summary = Summary::default();
        loop {
            // The name of a test comes before it runs, and the time is taken from there.
            let begun = output.fill_buf().with_context(|| format!("read from {name}"))?;
            summary.feed(begun.get(..1).unwrap_or_default(), Instant::now());
            if begun.is_empty() {
                break;
            }
            let mut line = Vec::new();
            output.read_until(b'\n', &mut line).with_context(|| format!("read from {name}"))?;
            summary.feed(line.get(1..).unwrap_or_default(), Instant::now());
            let mut out = io::stdout().lock();
            write!(out, "{name:<width$} | ")
                .and_then(|()| out.write_all(&line))
                .and_then(|()| out.flush())
                .context("print the tests' output")?;
        }
        let status = child.wait().with_context(|| format!("wait for {name}"))?;
        Ok((status, summary))
    }

    fn harness(&self, executable: &Executable, mut command: Command) -> Command {
        command.current_dir(&executable.package).args(self.filter).arg("--ignored");
        command
    }
}

/// The test executables of a `cargo test`, which this ends at what cargo says of them.
fn built(build: &mut Command) -> Result<Vec<Executable>> {
    let output = build
        .args(["--tests", "--no-run", "--message-format=json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("run cargo test")?;
    if !output.status.success() {
        bail!("the tests cannot be built ({}): see above", output.status);
    }
    let messages = String::from_utf8(output.stdout).context("cargo's messages are not UTF-8")?;
    Ok(messages.lines().filter_map(executable).collect())
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
    use super::*;

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
