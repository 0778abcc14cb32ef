//! `ringfence-bench`: the measurements that `cargo xtask bench` shows.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use ringfence_tests::bench::reaction::{self, Contender};
use ringfence_tests::interrupt::{self, Interrupted};
use ringfence_tests::screen::{self, Screen};

/// Measurements of ringfence, each beside its rival in the same run.
#[derive(Debug, Parser)]
#[command(name = "ringfence-bench")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// How many guesses Asterisk answers until the guesser is shut out, beside fail2ban
    Reaction(Reaction),
}

#[derive(Debug, Args)]
struct Reaction {
    /// The ringfence binary to measure
    #[arg(long, value_name = "PATH")]
    ringfence: Option<PathBuf>,
    /// Where Asterisk is kept between runs
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    cache: PathBuf,
    /// How often each is measured
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=50))]
    runs: u32,
    /// Who is measured; can be given more than once
    #[arg(long = "contender", value_name = "NAME",
          default_values = ["fail2ban", "ringfence"])]
    contenders: Vec<Contender>,
    /// Write every single run to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail when ringfence misses a target
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let Arguments { benchmark: Benchmark::Reaction(arguments) } = Arguments::parse();
    match reaction(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            screen::complain(&format!("ringfence-bench: {error:#}"));
            let interrupted = error.downcast_ref::<Interrupted>();
            interrupted.map_or(ExitCode::FAILURE, |by| ExitCode::from(by.exit_code()))
        }
    }
}

fn reaction(arguments: Reaction) -> anyhow::Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("it makes network namespaces, which needs root: run it with sudo");
    }
    interrupt::install()?;
    let mut screen = Screen::new();
    screen.say(&screen.paint().bold("A password guesser at a real Asterisk, again and again"))?;
    let settings = reaction::Settings {
        contenders: arguments.contenders,
        ringfence: arguments.ringfence,
        cache: arguments.cache,
        runs: arguments.runs,
    };
    let report = reaction::run(&settings, &mut screen)?;
    screen.say(&report.text(screen.paint()))?;
    if let Some(path) = &arguments.json {
        reaction::write_json(&report, path)?;
    }
    Ok(!arguments.check || report.targets_met())
}
