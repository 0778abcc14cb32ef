//! `cargo xtask setup`: installs everything that building and testing needs, given rustup's stable Rust
//! and apt.
//!
//! The state is checked, not recorded: dpkg is asked about packages, and compiler and linker are started.
//! This is quick enough to precede every other verb.

mod apt;
mod compiler;
mod ebpf_env;
mod linker;
mod smoke;
mod system;
mod versions;

use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::ValueEnum;

use crate::step::Steps;
use crate::workspace::{Workspace, find_program};
use compiler::{Compiler, Version};
use ebpf_env::EbpfEnv;
use system::System;
use versions::{
    BENCH_TOOLS, CROSS_TOOLS, DEBIAN_MIN, FUZZ_TOOLS, IMAGE_TOOLS, LAB_TOOLS, NIGHTLY,
    PACKAGING_TOOLS, TEST_TOOLS, Tool,
};

/// The arguments of `setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only report what is missing; fail if anything is
    #[arg(long)]
    check: bool,
    /// Also install what the measurements need: fail2ban, iptables, nftables, ipset
    #[arg(long)]
    bench: bool,
    /// The compiler of the XDP program; replaces an earlier choice
    #[arg(long, value_enum)]
    compiler: Option<Source>,
}

/// The purpose of the set-up; each one includes building.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// Building.
    Build,
    /// The Debian packages.
    Packaging,
    /// Systems on which the packages are tested.
    Images,
    /// The targets of libFuzzer.
    Fuzzing,
    /// The lab.
    Lab,
    /// The tests and the lab.
    Tests,
    /// The measurements and the tests.
    Bench,
}

/// The origin of the compiler of the XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    /// A nightly with `rust-src`
    Rustup,
    /// The packages `rustc-web` and `rust-web-src`
    Debian,
}

/// The missing parts.
struct Missing {
    tools: Vec<Tool>,
    compiler: Option<anyhow::Error>,
}

impl Missing {
    fn find(toolchain: &Path, system: &System, needs: For, source: Option<Source>) -> Result<Self> {
        Ok(Self {
            tools: missing_tools(system, needs)?,
            compiler: check_compiler(toolchain, source).err(),
        })
    }

    fn is_nothing(&self) -> bool {
        self.tools.is_empty() && self.compiler.is_none()
    }
}

/// Sets up, or reports what is missing.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let needs = if args.bench { For::Bench } else { For::Tests };
    if args.check {
        return report(&workspace, needs, args.compiler);
    }
    if !complete(&workspace, needs, args.compiler)? {
        println!("setup: nothing is missing");
    }
    Ok(())
}

/// Makes sure that everything is installed; prints nothing if it is.
pub(crate) fn ensure(workspace: &Workspace, needs: For) -> Result<()> {
    complete(workspace, needs, None)?;
    Ok(())
}

/// The major version of the compiler's LLVM.
pub(crate) fn llvm_major(workspace: &Workspace) -> Result<u32> {
    let env = EbpfEnv::read(&workspace.toolchain()).context("run `cargo xtask setup`")?;
    Ok(Version::of(&env.rustc)?.llvm)
}

fn report(workspace: &Workspace, needs: For, source: Option<Source>) -> Result<()> {
    let missing = Missing::find(&workspace.toolchain(), &System::read(), needs, source)?;
    for tool in &missing.tools {
        println!("missing: {} (the program {})", tool.package, tool.program);
    }
    if let Some(why) = &missing.compiler {
        println!("missing: the XDP program's compiler: {why:#}");
    }
    for tool in CROSS_TOOLS.iter().filter(|tool| find_program(tool.program).is_none()) {
        println!("optional: {} (for `cargo xtask deb --arch arm64`)", tool.package);
    }
    if !missing.is_nothing() {
        bail!("something is missing: run `cargo xtask setup`");
    }
    println!("setup: nothing is missing");
    Ok(())
}

/// Installs the missing parts; returns whether there were any.
fn complete(workspace: &Workspace, needs: For, source: Option<Source>) -> Result<bool> {
    let toolchain = workspace.toolchain();
    let system = System::read();
    let missing = Missing::find(&toolchain, &system, needs, source)?;
    if missing.is_nothing() {
        return Ok(false);
    }
    let steps = Steps::new(toolchain.join("log"));
    if let Some(why) = &missing.compiler {
        eprintln!("setup: the XDP program's compiler: {why:#}");
    }
    let wants_rustup = missing.compiler.is_some() && source != Some(Source::Debian);
    // Both wait for the network most of the time.
    let (programs, rustup) = thread::scope(|scope| {
        let programs = scope.spawn(|| install_programs(&steps, &system, &missing.tools));
        let rustup = wants_rustup.then(|| compiler::from_rustup(&steps, &toolchain));
        (programs.join(), rustup)
    });
    programs.map_err(|_panicked| anyhow!("the installation of packages panicked"))??;
    let compiler = match &missing.compiler {
        Some(_) => install_compiler(&steps, &toolchain, &system, source, rustup),
        None => Ok(()),
    };
    if system.debian {
        compiler?;
    } else {
        require_by_hand(&system, &missing.tools, compiler)?;
    }
    Ok(true)
}

fn install_programs(steps: &Steps, system: &System, tools: &[Tool]) -> Result<()> {
    if !system.debian || tools.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = tools.iter().map(|tool| tool.package).collect();
    apt::install(steps, &packages)
}

/// For systems on which nothing is installed automatically: fails with a list of everything to install.
fn require_by_hand(system: &System, tools: &[Tool], compiler: Result<()>) -> Result<()> {
    let mut list: Vec<String> = tools
        .iter()
        .map(|Tool { package, program }| {
            format!("\n  the program {program} (Debian's package {package})")
        })
        .collect();
    if let Err(error) = compiler {
        list.push(format!(
            "\n  a compiler for the XDP program, by\n    rustup toolchain install {NIGHTLY} \
             --profile minimal --component rust-src\n  because the set-up itself failed: {error:#}"
        ));
    }
    if list.is_empty() {
        return Ok(());
    }
    bail!(
        "set-up installs packages on Debian {DEBIAN_MIN} and later, and this is {}. Install these, \
         then run `cargo xtask setup` again:{}",
        system.name,
        list.concat()
    );
}

fn missing_tools(system: &System, needs: For) -> Result<Vec<Tool>> {
    let mut wanted: Vec<Tool> = match needs {
        For::Build => Vec::new(),
        For::Packaging => PACKAGING_TOOLS.to_vec(),
        For::Images => IMAGE_TOOLS.to_vec(),
        For::Fuzzing => FUZZ_TOOLS.to_vec(),
        For::Lab => LAB_TOOLS.to_vec(),
        For::Tests => [&LAB_TOOLS[..], &TEST_TOOLS].concat(),
        For::Bench => [&LAB_TOOLS[..], &TEST_TOOLS, &BENCH_TOOLS].concat(),
    };
    if wanted.is_empty() {
        return Ok(wanted);
    }
    if system.debian {
        let packages: Vec<&str> = wanted.iter().map(|tool| tool.package).collect();
        let missing = apt::missing(&packages)?;
        wanted.retain(|tool| missing.contains(&tool.package));
    } else {
        wanted.retain(|tool| find_program(tool.program).is_none());
    }
    Ok(wanted)
}

/// Fails with the problem of the chosen compiler, or if none was chosen.
fn check_compiler(toolchain: &Path, source: Option<Source>) -> Result<()> {
    let Ok(env) = EbpfEnv::read(toolchain) else { bail!("none was chosen yet") };
    let chosen = if env.rustup_toolchain.is_some() { Source::Rustup } else { Source::Debian };
    if source.is_some_and(|source| source != chosen) {
        bail!("another one is wanted");
    }
    if env.linker != linker::path(toolchain) {
        bail!("it was set up in another directory");
    }
    let version = Version::of(&env.rustc)?;
    if !env.cargo.is_file() || !compiler::has_library_source(&env.rustc) {
        bail!("{} lost its cargo or its library's source", env.rustc.display());
    }
    linker::check(toolchain, version.llvm)
}

/// Prepares the compiler from rustup; without one (`rustup`), or if it fails, Debian's.
fn install_compiler(
    steps: &Steps,
    toolchain: &Path,
    system: &System,
    source: Option<Source>,
    rustup: Option<Result<Compiler>>,
) -> Result<()> {
    if let Some(compiler) = rustup {
        match compiler.and_then(|compiler| equip(steps, toolchain, &compiler)) {
            Ok(()) => return Ok(()),
            Err(error) if source == Some(Source::Rustup) || !system.debian => return Err(error),
            Err(error) => {
                let error = format!("{error:#}");
                // The rest is the end of the log, which matters only if no other compiler works.
                let why = error.lines().next().unwrap_or_default().trim_end_matches(':');
                eprintln!("setup: not with rustup: {why}");
                eprintln!("setup: using Debian's compiler instead");
            }
        }
    }
    if !system.debian {
        bail!("{} has no Debian packages", system.name);
    }
    equip(steps, toolchain, &compiler::from_debian(steps)?)
}

/// Builds the linker for the compiler, tests both, and records their paths.
fn equip(steps: &Steps, toolchain: &Path, compiler: &Compiler) -> Result<()> {
    if linker::check(toolchain, compiler.version.llvm).is_err() {
        linker::install(steps, toolchain, compiler)?;
    }
    let env = EbpfEnv {
        cargo: compiler.cargo.clone(),
        rustc: compiler.rustc.clone(),
        rustup_toolchain: compiler.rustup_toolchain.clone(),
        linker: linker::path(toolchain),
    };
    smoke::build(steps, toolchain, &env)?;
    env.write(toolchain)?;
    eprintln!(
        "setup: {} {} with LLVM {} builds the XDP program",
        compiler.rustup_toolchain.as_deref().unwrap_or("Debian's rustc"),
        compiler.version.release,
        compiler.version.llvm
    );
    Ok(())
}
