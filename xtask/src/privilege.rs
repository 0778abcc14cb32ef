//! Becomes root through sudo if necessary, and checks that root has the rights that the tests need.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, IsTerminal as _};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::workspace::find_program;

/// The capabilities that are needed to attach a program in a network namespace
/// (`include/uapi/linux/capability.h`).
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (39, "CAP_BPF")];

/// How to run a command as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    /// This process is root.
    Already,
    /// Through sudo, which has accepted the user.
    Sudo,
}

impl Root {
    /// Makes sure that commands can run as root. Announces the use of sudo, which asks for the password
    /// now rather than minutes later.
    pub(crate) fn obtain(purpose: &str) -> Result<Self> {
        if is_root()? {
            return Ok(Self::Already);
        }
        if find_program("sudo").is_none() {
            bail!("root is needed for {purpose}, but there is no sudo: run this as root");
        }
        eprintln!("xtask: using sudo for {purpose}");
        let mut sudo = Command::new("sudo");
        if !io::stdin().is_terminal() {
            sudo.arg("-n");
        }
        let status = sudo.arg("true").status().context("run sudo")?;
        if !status.success() {
            bail!("root is needed for {purpose}, and sudo refused: run this as root");
        }
        Ok(Self::Sudo)
    }

    /// `program` as root, with this process's environment.
    pub(crate) fn command(self, program: impl AsRef<OsStr>) -> Command {
        match self {
            Self::Already => Command::new(program),
            Self::Sudo => {
                let mut command = Command::new("sudo");
                command.arg("-E").arg(program);
                command
            }
        }
    }

    /// Fails if even root may not load programs or create namespaces, as in most containers.
    pub(crate) fn require_capabilities(self) -> Result<()> {
        let output = self
            .command("cat")
            .arg("/proc/self/status")
            .stdin(Stdio::null())
            .output()
            .context("read root's capabilities")?;
        let status = String::from_utf8_lossy(&output.stdout);
        let effective =
            effective_capabilities(&status).context("no CapEff in /proc/self/status")?;
        let missing = missing_capabilities(effective);
        if missing.is_empty() {
            return Ok(());
        }
        bail!(
            "root has no {} here (a container?): the privileged tests cannot run. Give it these, \
             use a virtual machine, or leave them out with `cargo xtask test --no-privileged`",
            missing.join(", ")
        );
    }
}

fn is_root() -> Result<bool> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    Ok(effective_uid(&status).context("no Uid in /proc/self/status")? == 0)
}

fn effective_uid(status: &str) -> Option<u32> {
    field(status, "Uid:")?.split_whitespace().nth(1)?.parse().ok()
}

fn effective_capabilities(status: &str) -> Option<u64> {
    u64::from_str_radix(field(status, "CapEff:")?.trim(), 16).ok()
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name))
}

fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    NEEDED.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tcat\nUid:\t1000\t0\t1000\t1000\nCapEff:\t000001fffeffffff\n";

    #[test]
    fn the_effective_uid_counts() {
        assert_eq!(effective_uid(STATUS), Some(0));
        assert_eq!(effective_uid("Uid:\t1000\t1000\t1000\t1000\n"), Some(1000));
        assert_eq!(effective_uid("Name:\tcat\n"), None);
    }

    #[test]
    fn names_the_capabilities_a_container_lacks() {
        let full = effective_capabilities(STATUS).unwrap();
        assert_eq!(missing_capabilities(full), [""; 0]);
        // Docker's default set.
        assert_eq!(
            missing_capabilities(0x0000_0000_a804_25fb),
            ["CAP_NET_ADMIN", "CAP_SYS_ADMIN", "CAP_BPF"]
        );
    }
}
