//! The virtual machine: QEMU, which translates the guest's instructions.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use super::packages::Kernel;
use crate::step::Steps;

/// The longest that one kernel may take; it takes about a minute.
const LIMIT: Duration = Duration::from_mins(5);
/// `panic=-1` starts the machine again at once, which `-no-reboot` turns into its end.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1";

/// QEMU, and where it finds what belongs to it.
pub(super) struct Machine {
    program: PathBuf,
    libraries: Option<OsString>,
    firmware: Vec<PathBuf>,
    logs: PathBuf,
}

impl Machine {
    /// QEMU as it is installed.
    pub(super) fn installed(program: PathBuf, logs: PathBuf) -> Self {
        Self { program, libraries: None, firmware: Vec::new(), logs }
    }

    /// QEMU as its packages were unpacked into `root`.
    pub(super) fn unpacked(root: &Path, logs: PathBuf) -> Self {
        let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
        let libraries: Vec<OsString> =
            libraries.iter().map(|directory| root.join(directory).into()).collect();
        Self {
            program: root.join("usr/bin/qemu-system-x86_64"),
            libraries: Some(libraries.join(":".as_ref())),
            firmware: ["qemu", "seabios"].map(|name| root.join("usr/share").join(name)).to_vec(),
            logs,
        }
    }

    /// Boots a kernel and waits until the machine is switched off. Returns where the log of its
    /// serial line is, however it ended.
    pub(super) fn boot(&self, kernel: &Kernel, initramfs: &Path) -> (PathBuf, Result<()>) {
        let mut qemu = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            qemu.env("LD_LIBRARY_PATH", libraries);
        }
        for directory in &self.firmware {
            qemu.arg("-L").arg(directory);
        }
        qemu.args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1G"])
            .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"])
            .arg("-kernel")
            .arg(&kernel.image)
            .arg("-initrd")
            .arg(initramfs)
            .args(["-append", KERNEL_ARGUMENTS]);
        let name = format!("linux-{}", kernel.series);
        let log = self.logs.join(format!("{name}.log"));
        let what = format!("boot Linux {}", kernel.release);
        let steps = Steps::of("test-vm", self.logs.clone());
        let ended = steps.run_while(&name, &what, &mut qemu, |progress| {
            if progress.elapsed > LIMIT {
                bail!("it did not end within {} s", LIMIT.as_secs());
            }
            Ok(())
        });
        (log, ended)
    }
}
