//! `cargo xtask lint`: formatting, and clippy with every warning an error.

use std::process::Stdio;

use anyhow::{Result, bail};

use crate::setup;
use crate::step::{succeed, timed};
use crate::workspace::Workspace;

/// Sets up and lints.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    setup::ensure(&workspace, setup::For::Build)?;
    check(&workspace)
}

/// Lints a workspace that has been set up.
pub(crate) fn check(workspace: &Workspace) -> Result<()> {
    for component in ["fmt", "clippy"] {
        let known = workspace
            .cargo(component)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        if !known {
            bail!("there is no cargo {component}: run `rustup component add rustfmt clippy`");
        }
    }
    timed("check formatting", || succeed(workspace.cargo("fmt").args(["--all", "--check"])))?;
    timed("lint the host's crates", || {
        let mut clippy = workspace.cargo("clippy");
        clippy.args(["--workspace", "--exclude", "filter-ebpf", "--exclude", "ringfence-fuzz"]);
        clippy.arg("--all-targets");
        succeed(clippy.args(["--", "-D", "warnings"]))
    })?;
    timed("lint the XDP program", || {
        // For the host, because Debian's compiler has no clippy: the code is the same except for the
        // helpers' calls. Without unwinding, which a program without std does not support there.
        let mut clippy = workspace.cargo("clippy");
        clippy.args(["--package", "filter-ebpf", "--config", "profile.dev.panic='abort'"]);
        succeed(clippy.args(["--", "-D", "warnings"]))
    })
}
