//! `cargo xtask <verb>`: everything a developer or CI runs.
//!
//! A verb is a subcommand here and a file beside this one. Nothing in this crate knows what
//! Ringfence does: it installs, builds, starts and checks.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a developer's tool talks")]

mod bench;
mod build;
mod deb;
mod disasm;
mod fuzz;
mod lint;
mod mutants;
mod package_test;
mod privilege;
mod release;
mod run;
mod setup;
mod shipped;
mod step;
mod test;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Everything a developer or CI runs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what building, testing and running need; quick when nothing is missing
    Setup(setup::Args),
    /// Build `ringfence`
    Build(build::Args),
    /// Build the Debian packages `ringfence` and `ringfence-dbgsym`
    Deb(deb::Args),
    /// Make all that is published of a release: packages, archive, checksums and bill of materials
    Release(release::Args),
    /// Run the lab, or with `-i NIC` run `ringfence` on an interface
    Run(run::Args),
    /// Check formatting and lints
    Lint,
    /// Lint, then run every test; the privileged ones as root
    Test(test::Args),
    /// Try the program on the kernels that are supported, each in a virtual machine
    TestVm(vm::Args),
    /// Try the Debian package on the systems that are supported, each in a virtual machine
    TestPackage(package_test::Args),
    /// Before a release: `test --release`, and when nothing failed `test-vm`, `test-package` and
    /// `release --check`
    Ci,
    /// Measure against fail2ban and the bare kernel
    Bench(bench::Args),
    /// Look for bytes that break what must hold for any bytes, with libFuzzer
    Fuzz(fuzz::Args),
    /// Change the code a little, many times, and look whether a test fails each time
    Mutants(mutants::Args),
    /// Print the XDP program's instructions
    Disasm,
}

fn main() -> ExitCode {
    let done = match Cli::parse().verb {
        Verb::Setup(args) => setup::run(&args),
        Verb::Build(args) => build::run(&args),
        Verb::Deb(args) => deb::run(&args),
        Verb::Release(args) => release::run(&args),
        Verb::Run(args) => run::run(&args),
        Verb::Lint => lint::run(),
        Verb::Test(args) => test::run(&args),
        Verb::TestVm(args) => vm::run(&args),
        Verb::TestPackage(args) => package_test::run(&args),
        Verb::Ci => test::run(&test::Args::of_release())
            .and_then(|()| vm::run(&vm::Args::default()))
            .and_then(|()| package_test::run(&package_test::Args::default()))
            .and_then(|()| release::run(&release::Args::checked())),
        Verb::Bench(args) => bench::run(&args),
        Verb::Fuzz(args) => fuzz::run(&args),
        Verb::Mutants(args) => mutants::run(&args),
        Verb::Disasm => disasm::run(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
