//! `cargo xtask test`: lints and every test, with a check that the privileged ones ran.

mod pool;
mod process;
mod summary;

use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::build;
use crate::lint;
use crate::privilege::Root;
use crate::setup::{self, For};
use crate::step::timed;
use crate::workspace::Workspace;
use pool::{Executables, Outcome};
use summary::Summary;

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
    let executables = timed("build the tests", || Executables::build(&mut tests.cargo()))?;
    let outcome = timed("test", || tests.run(root, &executables))?;
    if root.is_none() {
        println!("The privileged tests were left out.");
    } else if outcome.privileged == 0 && args.filter.is_none() {
        bail!("not one privileged test ran");
    }
    let totals = outcome.summary.totals();
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
    /// Only cargo and the tests that do not need root run as the user.
    fn run(&self, root: Option<Root>, executables: &Executables) -> Result<Outcome> {
        let run = pool::Run {
            root,
            filter: self.args.filter.as_deref(),
            environment: &self.environment(),
            colour: io::stdout().is_terminal(),
            cargo: &|| self.cargo(),
        };
        let outcome = run.all(executables)?;
        print_slowest(&outcome.summary);
        print_failed(&outcome);
        Ok(outcome)
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
    fn cargo(&self) -> Command {
        let mut command = self.workspace.cargo("test");
        // libFuzzer's targets have no tests, and need a C++ compiler.
        command
            .args(["--workspace", "--exclude", "filter-ebpf", "--exclude", "ringfence-fuzz"])
            .arg("--no-fail-fast")
            .envs(self.environment());
        command
    }
}

fn print_failed(outcome: &Outcome) {
    let Outcome { summary, passed_alone, .. } = outcome;
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
