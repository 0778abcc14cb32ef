//! `cargo xtask test-vm`: tests each supported kernel in a virtual machine.
//!
//! The kernels are Debian's packages, unpacked but not installed. The machine is QEMU without KVM,
//! which is not available everywhere. `ringfence-vm-init` runs inside and reports its findings on the
//! serial port.

pub(crate) mod findings;
mod initramfs;
pub(crate) mod machine;
pub(crate) mod packages;

use std::env::consts::ARCH;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::build;
use crate::setup::{self, For};
use crate::step::{read_lossy, tail, timed};
use crate::workspace::{Workspace, find_program};
use findings::Findings;
use initramfs::Initramfs;
use machine::{Guest, Machine};
use packages::{Kernel, Packages};

/// The oldest supported kernel, and the next long-term kernel.
const KERNELS: [&str; 2] = ["6.1", "6.12"];
/// Kernel modules for the network inside, each after those that it depends on, and those that a
/// classifier needs before Linux 6.6.
const MODULES: [&str; 6] = ["llc", "stp", "bridge", "veth", "sch_ingress", "cls_bpf"];
/// Test executables that need nothing but a kernel.
const TESTS: [&str; 4] = ["object", "kernel_decisions", "kernel_agreement", "egress"];
/// The longest run of one kernel; usually it takes about a minute, on a slow machine more than five.
const LIMIT: Duration = Duration::from_mins(15);
/// The number of last lines of the serial port that are shown after a failure.
const SHOWN: usize = 40;

/// The options of `test-vm`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Series of the kernels, as Debian packages them
    #[arg(default_values = KERNELS, value_parser = series)]
    kernels: Vec<String>,
}

/// The result of one kernel.
struct Run {
    kernel: String,
    findings: Findings,
    seconds: f64,
    log: PathBuf,
    error: Option<anyhow::Error>,
}

impl Default for Args {
    fn default() -> Self {
        Self { kernels: KERNELS.map(str::to_owned).to_vec() }
    }
}

/// Fetches the kernels, builds, boots each, and fails unless every check passed on all of them.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(ARCH == "x86_64", "the virtual machine is an x86_64, and runs what is built on one");
    let workspace = Workspace::find()?;
    setup::ensure(&workspace, For::Tests)?;
    let cache = workspace.target().join("vm");
    let packages = Packages::open(&cache.join("packages"))?;
    let kernels: Vec<Kernel> =
        args.kernels.iter().map(|series| packages.kernel(series)).collect::<Result<_>>()?;
    let machine = packages.qemu()?;
    let programs = programs(&workspace)?;

    let mut runs = Vec::new();
    for kernel in &kernels {
        runs.push(try_kernel(&cache, &machine, kernel, &programs)?);
    }
    report(&runs)
}

/// Checks a series such as `6.1`, because it becomes part of a package's name.
fn series(text: &str) -> Result<String, String> {
    let numbers: Vec<&str> = text.split('.').collect();
    let valid = numbers.len() == 2 && numbers.iter().all(|n| n.parse::<u32>().is_ok());
    valid.then(|| text.to_owned()).ok_or_else(|| "a series is two numbers, as `6.1`".to_owned())
}

/// Everything that runs inside, with its name there.
fn programs(workspace: &Workspace) -> Result<Vec<(String, PathBuf)>> {
    let [ringfence] = build::release(workspace, ["ringfence"])?;
    // In release mode, because emulation makes everything ten times slower. With the tests of a package,
    // cargo also builds its programs.
    let mut command = workspace.cargo("test");
    command.args(["--release", "--no-run", "--message-format=json-render-diagnostics"]);
    command.args(["--package", "ringfence-tests"]).stderr(Stdio::inherit());
    for test in TESTS {
        command.args(["--test", test]);
    }
    let messages = timed("build the tests (release)", || {
        let output = command.output().context("run cargo test")?;
        ensure!(output.status.success(), "cargo test --no-run failed ({})", output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    })?;
    let init = workspace.release_binary("ringfence-vm-init");
    let mut programs = vec![("init".to_owned(), init), ("ringfence".to_owned(), ringfence)];
    for test in TESTS {
        let built = executable(&messages, test)
            .with_context(|| format!("cargo names no executable for the test {test}"))?;
        programs.push((format!("tests/{test}"), built));
    }
    Ok(programs)
}

/// Finds the executable of a test in cargo's messages, which are one JSON document per line.
fn executable(messages: &str, test: &str) -> Option<PathBuf> {
    let name = format!("\"name\":\"{test}\"");
    let line = messages
        .lines()
        .find(|line| line.contains("\"kind\":[\"test\"]") && line.contains(&name))?;
    let (_, rest) = line.split_once("\"executable\":\"")?;
    let (path, _) = rest.split_once('"')?;
    Some(PathBuf::from(path.replace("\\\\", "\\")))
}

/// Boots one kernel. A failure inside is part of the result, not an error.
fn try_kernel(
    cache: &Path,
    machine: &Machine,
    kernel: &Kernel,
    programs: &[(String, PathBuf)],
) -> Result<Run> {
    let ip = find_program("ip").context("there is no program `ip`: install iproute2")?;
    let mut files = Initramfs::new(&cache.join("stripped"));
    for (name, path) in programs {
        files.program(name, path)?;
    }
    files.program("bin/ip", &ip)?;
    for module in MODULES {
        files.file(&format!("modules/{module}.ko"), &kernel.module(module)?);
    }
    let order: String = MODULES.map(|module| format!("{module}.ko\n")).concat();
    files.text("modules/order", &order);
    let image = cache.join(format!("{}.cpio", kernel.series));
    files.write(&image)?;

    let start = Instant::now();
    let (log, ended) = machine.boot(&Guest {
        verb: "test-vm",
        name: format!("linux-{}", kernel.series),
        release: kernel.release.clone(),
        kernel: kernel.image.clone(),
        initramfs: image,
        disks: Vec::new(),
        arguments: "",
        reboots: false,
        limit: LIMIT,
    });
    let findings = Findings::read(&read_lossy(&log));
    let complete = || {
        ensure!(findings.verified.is_some(), "it did not say what the verifier followed");
        findings.complete()
    };
    let error = ended.and_then(|()| complete()).err();
    let seconds = start.elapsed().as_secs_f64();
    Ok(Run { kernel: kernel.release.clone(), findings, seconds, log, error })
}

/// Prints the findings; fails unless all are good.
fn report(runs: &[Run]) -> Result<()> {
    let (mut passed, mut failed) = (0, 0);
    for run in runs {
        println!("\nLinux {} in {:.0} s (log: {})", run.kernel, run.seconds, run.log.display());
        run.findings.print();
        let bad = run.findings.failed();
        passed += run.findings.checks.len() - bad;
        failed += bad;
        if let Some(error) = &run.error {
            println!("  FAILED           {error:#}");
            failed += usize::from(bad == 0);
            println!("the end of {}:\n{}", run.log.display(), tail(&read_lossy(&run.log), SHOWN));
        }
    }
    println!("\nInstructions that the verifier followed, of 1,000,000 at most:");
    for run in runs {
        let verified = run.findings.verified.map_or("-".to_owned(), |count| count.to_string());
        println!("  {:26} {verified:>9}", run.kernel);
    }
    println!("\n{passed} passed, {failed} failed");
    if failed > 0 {
        bail!("{failed} checks failed");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_series_is_two_numbers() {
        assert_eq!(series("6.12").unwrap(), "6.12");
        for text in ["6", "6.1.0", "", "6.x", "../.."] {
            assert!(series(text).is_err(), "{text}");
        }
    }

    #[test]
    fn finds_an_executable_among_cargos_messages() {
        let messages = concat!(
            r#"{"reason":"compiler-artifact","target":{"kind":["lib"],"name":"object"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"kind":["test"],"name":"object"},"executable":"/t/object-1"}"#,
        );
        assert_eq!(executable(messages, "object").unwrap(), Path::new("/t/object-1"));
        assert_eq!(executable(messages, "kernel_decisions"), None);
    }
}
