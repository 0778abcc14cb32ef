//! `cargo xtask run`: the lab, or `ringfence` on a real interface.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::build::{self, Profile};
use crate::privilege::Root;
use crate::setup::{self, For};
use crate::workspace::Workspace;

/// The arguments of `run`: all are passed to the program that it starts.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Run the lab with an optimised build, which takes minutes longer; must precede all other options
    #[arg(long)]
    release: bool,
    /// `-i NIC` and options of `ringfence run`; or options of the lab, such as `--json FILE`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

/// Sets up, builds, and is replaced by the lab or `ringfence`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let on_interface = names_interface(&args.options);
    let (purpose, needs) =
        if on_interface { ("ringfence", For::Build) } else { ("the lab", of_lab(&args.options)) };
    let root = Root::obtain(purpose)?;
    setup::ensure(&workspace, needs)?;
    if on_interface {
        let [ringfence] = build::release(&workspace, ["ringfence"])?;
        let mut command = root.command(ringfence);
        command.arg("run").args(&args.options);
        return become_command(&mut command);
    }
    // The XDP program is optimised in both, and `cargo xtask test` uses the same build.
    let profile = if args.release { Profile::Release } else { Profile::Debug };
    let [ringfence, lab] = build::binaries_of(&workspace, profile, ["ringfence", "ringfence-lab"])?;
    let mut command = root.command(lab);
    command.arg("--ringfence").arg(ringfence).arg("--cache").arg(workspace.lab_cache());
    become_command(command.args(&args.options))
}

/// Replaces this process, so that the exit status and Ctrl-C belong to the command, which can clean up.
pub(crate) fn become_command(command: &mut Command) -> Result<()> {
    let error = command.exec();
    Err(error).with_context(|| format!("start {}", command.get_program().display()))
}

/// The lab starts a browser only to take a picture of the page.
fn of_lab(options: &[OsString]) -> For {
    let pictures = options.iter().any(|option| option.as_bytes().starts_with(b"--page-picture"));
    if pictures { For::Tests } else { For::Lab }
}

fn names_interface(options: &[OsString]) -> bool {
    options.iter().any(|option| is_interface_option(option))
}

fn is_interface_option(option: &OsStr) -> bool {
    option.as_bytes().starts_with(b"-i")
        || option == "--interface"
        || option.as_bytes().starts_with(b"--interface=")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(options: &[&str]) -> bool {
        names_interface(&options.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn an_interface_chooses_ringfence() {
        assert!(names(&["-i", "eth0"]));
        assert!(names(&["--dry-run", "-ieth0"]));
        assert!(names(&["--interface=eth0"]));
    }

    #[test]
    fn a_picture_of_the_page_needs_the_browser_of_the_tests() {
        let of_lab = |option: &str| of_lab(&[OsString::from("--json"), option.into()]);
        assert_eq!(of_lab("--page-picture"), For::Tests);
        assert_eq!(of_lab("--page-picture=page.png"), For::Tests);
        assert_eq!(of_lab("--picture"), For::Lab);
    }

    #[test]
    fn anything_else_is_for_the_lab() {
        assert!(!names(&[]));
        assert!(!names(&["--json", "report.json"]));
        assert!(!names(&["--interval", "5"]));
    }
}
