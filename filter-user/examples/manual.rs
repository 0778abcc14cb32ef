//! Writes the man pages and the shells' completions into the directory that is named.
//!
//! An example, so that the shipped binary does not carry what writes them.

use std::fs::create_dir_all;
use std::path::{Path, PathBuf};
use std::{env, io};

use clap::{Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;
use filter_user::cli::Cli;

fn main() -> io::Result<()> {
    let Some(directory) = env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::other("name a directory"));
    };
    // Where Debian's packages have them.
    let completions = [
        (Shell::Bash, "bash-completion/completions", "ringfence"),
        (Shell::Zsh, "zsh/vendor-completions", "_ringfence"),
        (Shell::Fish, "fish/vendor_completions.d", "ringfence.fish"),
    ];
    for (shell, part, name) in completions {
        let part = directory.join(part);
        create_dir_all(&part)?;
        let mut file = std::fs::File::create(part.join(name))?;
        clap_complete::generate(shell, &mut Cli::command(), "ringfence", &mut file);
    }
    let pages = directory.join("man/man8");
    create_dir_all(&pages)?;
    let mut command = Cli::command().disable_help_subcommand(true);
    command.build();
    write_pages(&command, &pages)
}

/// The name of a page that describes a program of the same name too (`packaging/man`).
const ELSEWHERE: &str = "ringfence-fleet";

/// A page for a command, and one for each of its subcommands.
fn write_pages(command: &Command, directory: &Path) -> io::Result<()> {
    for subcommand in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        write_pages(subcommand, directory)?;
    }
    if command.get_display_name() == Some(ELSEWHERE) {
        return Ok(());
    }
    // Without it, the pages name their package as `ringfence-ban 0.1.0`.
    let source = concat!("ringfence ", env!("CARGO_PKG_VERSION"));
    Man::new(command.clone()).section("8").source(source).generate_to(directory)?;
    Ok(())
}
