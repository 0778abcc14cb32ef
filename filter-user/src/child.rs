//! Starts programs without the capabilities of the daemon.
//!
//! Must never start one with them: those of the service are ambient, so a program gets them unless they are taken from it.

use std::ffi::OsStr;
use std::path::Path;

use tokio::process::Command;

/// The directories of programs.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The command that runs a program without capabilities, which `setpriv` takes from it. Only arguments are missing.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--ambient-caps=-all", "--inh-caps=-all", "--"]).arg(program);
    command
}

/// Whether there is such a program, at this path or in [`PATH`]: `setpriv` starts in any case.
pub fn exists(program: &Path) -> bool {
    let is_path = program.components().nth(1).is_some();
    let in_path = || PATH.split(':').any(|at| Path::new(at).join(program).exists());
    if is_path { program.exists() } else { in_path() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found() {
        assert!(exists(Path::new("sh")) && exists(Path::new("/bin/sh")));
        assert!(
            !exists(Path::new("no-such-program")) && !exists(Path::new("/bin/no-such-program"))
        );
    }
}
