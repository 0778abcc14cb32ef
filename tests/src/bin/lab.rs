//! `ringfence-lab`: the demonstration of `cargo xtask run`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ringfence_tests::interrupt::{self, Interrupted};
use ringfence_tests::lab::{self, Settings};
use ringfence_tests::screen::{self, Screen};

/// A real Asterisk behind ringfence, a phone that must not be disturbed, and attackers.
#[derive(Debug, Parser)]
#[command(name = "ringfence-lab")]
struct Arguments {
    /// The ringfence binary to test
    #[arg(long, value_name = "PATH", required_unless_present = "no_filter")]
    ringfence: Option<PathBuf>,
    /// Where Asterisk is kept between runs
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    cache: PathBuf,
    /// Write the report to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// The duration of the demonstration, without set-up
    #[arg(long, value_name = "N", default_value_t = lab::default_seconds(),
          value_parser = clap::value_parser!(u32).range(25..=100))]
    seconds: u32,
    /// Show the attacks with `ringfence top` too, and write a picture of it to FILE as SVG
    #[arg(long, value_name = "FILE")]
    picture: Option<PathBuf>,
    /// Show the page in Chromium too, and write a picture of it to FILE as WebP or PNG
    #[arg(long, value_name = "FILE")]
    page_picture: Option<PathBuf>,
    /// Leave the host up and under attack afterwards, with its page, until Ctrl-C
    #[arg(long)]
    keep: bool,
    /// Run without a filter
    #[arg(long, conflicts_with_all = ["ringfence", "picture", "page_picture", "keep"])]
    no_filter: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match try_main(arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            screen::complain(&format!("ringfence-lab: {error:#}"));
            let interrupted = error.downcast_ref::<Interrupted>();
            interrupted.map_or(ExitCode::FAILURE, |by| ExitCode::from(by.exit_code()))
        }
    }
}

fn try_main(arguments: Arguments) -> anyhow::Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("it makes network namespaces, which needs root: run it with sudo");
    }
    interrupt::install()?;
    let mut screen = Screen::new();
    screen.say(&screen.paint().bold("Ringfence lab: building the environment"))?;
    let settings = Settings {
        ringfence: arguments.ringfence,
        cache: arguments.cache,
        seconds: arguments.seconds,
        picture: arguments.picture,
        page_picture: arguments.page_picture,
        keep: arguments.keep,
    };
    let report = lab::run(&settings, &mut screen)?;
    if let Some(path) = &arguments.json {
        lab::write_json(&report, path)?;
    }
    Ok(report.passed())
}
