//! `cargo xtask test`: lints and every test, with a check that the privileged ones ran.

mod privileged;
mod summary;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::build;
use crate::lint;
use crate::privilege::Root;
use crate::setup::{self, For};
use crate::step::timed;
use crate::workspace::Workspace;
use privileged::Outcome;
use summary::{Summary, Totals};

/// A test is listed among the slowest if it took at least this long.
const SLOW: Duration = Duration::from_secs(5);
/// The number of slowest tests to list.
const SLOWEST: usize = 20;

/// The arguments of `test`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// Leave out the tests that need root
    #[arg(long)]
    no_privileged: bool,
    /// Test `ringfence` as it is shipped instead of a debug build
    #[arg(long)]
    release: bool,
    /// Only the tests whose name contains this
    filter: Option<String>,
}

impl Args {
    /// The tests before a release.
    pub(crate) fn of_release() -> Self {
        Self { release: true, ..Self::default() }
    }
}

/// Sets up, lints, and runs every test; fails if one failed or the requested ones did not run.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let root = if args.no_privileged { None } else { Some(privileged()?) };
    setup::ensure(&workspace, For::Tests)?;
    lint::check(&workspace)?;
    let ringfence = if args.release {
        let [ringfence] = build::release(&workspace, ["ringfence"])?;
        build::agent(&workspace)?;
        ringfence
    } else {
        // Cargo builds it with the tests, before it runs any of them.
        workspace.debug_binary("ringfence")
    };

    let tests = Tests { workspace: &workspace, ringfence: ringfence.into(), args };
    let mut totals = timed("test without privileges", || tests.unprivileged())?;
    if let Some(root) = root {
        let privileged = timed("test as root", || tests.privileged(root))?;
        if privileged.ran() == 0 && args.filter.is_none() {
            bail!("not one privileged test ran");
        }
        totals = totals + privileged;
    } else {
        println!("The privileged tests were left out.");
    }
    if totals.ran() == 0 {
        bail!("not one test ran");
    }

    println!("{} passed, {} failed", totals.passed, totals.failed);
    if totals.failed > 0 {
        bail!("{} of {} tests failed", totals.failed, totals.ran());
    }
    Ok(())
}

fn privileged() -> Result<Root> {
    let root = Root::obtain("the privileged tests")?;
    root.require_capabilities()?;
    Ok(root)
}

struct Tests<'a> {
    workspace: &'a Workspace,
    ringfence: OsString,
    args: &'a Args,
}

impl Tests<'_> {
    fn unprivileged(&self) -> Result<Totals> {
        let mut command = self.cargo_test();
        command.args(&self.args.filter);
        command.arg("--").args(colour());
        let mut summary = run_counted(&mut command)?;
        print_slowest(&summary);
        let passes = |name: &String| {
            let mut command = self.cargo_test();
            command.args(["--tests", name, "--", "--exact"]).args(colour());
            let second = run_counted(&mut command)?.totals();
            Ok(second.failed == 0 && second.passed > 0)
        };
        let failed = summary.failed().to_vec();
        let passed_alone = summary.run_again(failed, |name| name, passes)?;
        print_failed(&summary, &passed_alone);
        Ok(summary.totals())
    }

    /// Cargo builds as the user; only the test executables run as root.
    fn privileged(&self, root: Root) -> Result<Totals> {
        let run = privileged::Run {
            root,
            filter: self.args.filter.as_deref(),
            environment: &self.environment(),
            colour: io::stdout().is_terminal(),
        };
        let Outcome { summary, passed_alone } = run.all(&mut self.cargo_test())?;
        print_slowest(&summary);
        print_failed(&summary, &passed_alone);
        Ok(summary.totals())
    }

    /// The environment variables of the tests.
    fn environment(&self) -> [(&'static str, OsString); 2] {
        [
            ("RINGFENCE_BIN", self.ringfence.clone()),
            ("RINGFENCE_LAB_CACHE", self.workspace.lab_cache().into()),
        ]
    }

    /// Always with the same packages: for others cargo would rebuild shared dependencies with other
    /// features.
    fn cargo_test(&self) -> Command {
        let mut command = self.workspace.cargo("test");
        // libFuzzer's targets have no tests, and need a C++ compiler.
        command
            .args(["--workspace", "--exclude", "filter-ebpf", "--exclude", "ringfence-fuzz"])
            .arg("--no-fail-fast")
            .envs(self.environment());
        command
    }
}

/// The pipe that counts hides the terminal from the test harness.
fn colour() -> Option<&'static str> {
    io::stdout().is_terminal().then_some("--color=always")
}

/// Runs `cargo test`, shows its output as it arrives, and counts.
fn run_counted(command: &mut Command) -> Result<Summary> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("start cargo test")?;
    let mut output = child.stdout.take().context("cargo test has no output")?;
    let mut summary = Summary::default();
    let mut buffer = [0; 4096];
    let mut out = io::stdout().lock();
    loop {
        let count = output.read(&mut buffer).context("read cargo test's output")?;
        if count == 0 {
            break;
        }
        let bytes = buffer.get(..count).unwrap_or_default();
        out.write_all(bytes).and_then(|()| out.flush()).context("print the tests' output")?;
        summary.feed(bytes, Instant::now());
    }
    let status = child.wait().context("wait for cargo test")?;
    if !status.success() && summary.totals().failed == 0 {
        bail!("cargo test failed ({status}), though no test did: see above");
    }
    Ok(summary)
}

fn print_failed(summary: &Summary, passed_alone: &[String]) {
    if !passed_alone.is_empty() {
        println!("Failed beside others, passed alone: {}", passed_alone.join(", "));
    }
    if !summary.failed().is_empty() {
        println!("Failed: {}", summary.failed().join(", "));
    }
}

fn print_slowest(summary: &Summary) {
    for (took, name) in summary.slowest(SLOWEST, SLOW) {
        println!("{:>4} s  {name}", took.as_secs());
    }
}
