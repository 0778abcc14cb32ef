//! `cargo xtask setup`: from rustup's stable Rust and apt to where everything builds and tests.
//!
//! What is there is never guessed from a stamp: packages are asked of dpkg, compiler and linker
//! are started. That is quick enough to come before every other verb.

mod apt;
mod compiler;
mod ebpf_env;
mod linker;
mod smoke;
mod system;
mod versions;

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;

use crate::step::Steps;
use crate::workspace::{Workspace, find_program};
use compiler::{Compiler, Version};
use ebpf_env::EbpfEnv;
use system::System;
use versions::{
    BENCH_TOOLS, DEBIAN_MIN, FUZZ_TOOLS, IMAGE_TOOLS, NIGHTLY, PACKAGING_TOOLS, TEST_TOOLS, Tool,
};

/// What `setup` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only say what is missing; fails when something is
    #[arg(long)]
    check: bool,
    /// Also what the measurements need: fail2ban, iptables, nftables, ipset
    #[arg(long)]
    bench: bool,
    /// Whose compiler builds the XDP program; a new choice replaces the old one
    #[arg(long, value_enum)]
    compiler: Option<Source>,
}

/// What is to work afterwards; each includes building.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum For {
    /// Building.
    Build,
    /// The Debian packages.
    Packaging,
    /// Systems to try the packages on.
    Images,
    /// The targets of libFuzzer.
    Fuzzing,
    /// The tests and the lab.
    Tests,
    /// The measurements, and what the tests need.
    Bench,
}

/// Whose compiler builds the XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Source {
    /// A nightly with `rust-src`
    Rustup,
    /// The packages `rustc-web` and `rust-web-src`
    Debian,
}

/// What is missing.
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

/// Sets up, or says what is missing.
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

/// Makes sure that everything is there; silent when it is.
pub(crate) fn ensure(workspace: &Workspace, needs: For) -> Result<()> {
    complete(workspace, needs, None)?;
    Ok(())
}

/// The major version of the LLVM that the XDP program is compiled with.
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
    if !missing.is_nothing() {
        bail!("something is missing: run `cargo xtask setup`");
    }
    println!("setup: nothing is missing");
    Ok(())
}

/// Installs what is missing; says whether anything was.
fn complete(workspace: &Workspace, needs: For, source: Option<Source>) -> Result<bool> {
    let toolchain = workspace.toolchain();
    let system = System::read();
    let missing = Missing::find(&toolchain, &system, needs, source)?;
    if missing.is_nothing() {
        return Ok(false);
    }
    let steps = Steps::new(toolchain.join("log"));
    if system.debian && !missing.tools.is_empty() {
        let packages: Vec<&str> = missing.tools.iter().map(|tool| tool.package).collect();
        apt::install(&steps, &packages)?;
    }
    let compiler = match missing.compiler {
        Some(why) => {
            eprintln!("setup: the XDP program's compiler: {why:#}");
            install_compiler(&steps, &toolchain, &system, source)
        }
        None => Ok(()),
    };
    if system.debian {
        compiler?;
    } else {
        require_by_hand(&system, &missing.tools, compiler)?;
    }
    Ok(true)
}

/// Where set-up installs no packages: fails with all that is to be installed.
fn require_by_hand(system: &System, tools: &[Tool], compiler: Result<()>) -> Result<()> {
    let mut list: Vec<String> = tools
        .iter()
        .map(|Tool { package, program }| {
            format!("\n  the program {program} (Debian's package {package})")
        })
        .collect();
    if let Err(error) = compiler {
        list.push(format!(
            "\n  a compiler for the XDP program, by\n    \
             rustup toolchain install {NIGHTLY} --profile minimal --component rust-src\n  \
             since set-up's own try ended so: {error:#}"
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
        For::Tests => TEST_TOOLS.to_vec(),
        For::Bench => [&TEST_TOOLS[..], &BENCH_TOOLS].concat(),
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

/// Fails with what is wrong with the compiler that was chosen, or that none was.
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

fn install_compiler(
    steps: &Steps,
    toolchain: &Path,
    system: &System,
    source: Option<Source>,
) -> Result<()> {
    if source != Some(Source::Debian) {
        let tried = compiler::from_rustup(steps, toolchain)
            .and_then(|compiler| equip(steps, toolchain, &compiler));
        match tried {
            Ok(()) => return Ok(()),
            Err(error) if source == Some(Source::Rustup) || !system.debian => return Err(error),
            Err(error) => {
                let error = format!("{error:#}");
                // The rest is the log's end, which matters only where there is no other way.
                let why = error.lines().next().unwrap_or_default().trim_end_matches(':');
                eprintln!("setup: not with rustup: {why}");
                eprintln!("setup: so with Debian's compiler");
            }
        }
    }
    if !system.debian {
        bail!("{} has no Debian packages", system.name);
    }
    equip(steps, toolchain, &compiler::from_debian(steps)?)
}

/// Gives the compiler its linker, proves the two, and writes down where they are.
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
