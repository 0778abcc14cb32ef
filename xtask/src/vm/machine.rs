//! The virtual machine: QEMU, which translates the guest's instructions.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::step::Steps;

/// `panic=-1` starts the machine again at once, which `-no-reboot` turns into its end.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1";

/// What is booted.
#[derive(Debug)]
pub(crate) struct Guest {
    /// The verb that boots it, for what the developer sees.
    pub(crate) verb: &'static str,
    /// The name of its log.
    pub(crate) name: String,
    /// What the kernel calls itself.
    pub(crate) release: String,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// Its disks. What it writes to them is lost.
    pub(crate) disks: Vec<PathBuf>,
    /// Further arguments of the kernel.
    pub(crate) arguments: &'static str,
    /// Whether it may start again; else that is its end.
    pub(crate) reboots: bool,
    /// The longest that it may run.
    pub(crate) limit: Duration,
}

/// QEMU, and where it finds what belongs to it.
pub(crate) struct Machine {
    program: PathBuf,
    libraries: Option<OsString>,
    firmware: Vec<PathBuf>,
    logs: PathBuf,
}

impl Machine {
    /// QEMU as it is installed.
    pub(crate) fn installed(program: PathBuf, logs: PathBuf) -> Self {
        Self { program, libraries: None, firmware: Vec::new(), logs }
    }

    /// QEMU as its packages were unpacked into `root`.
    pub(crate) fn unpacked(root: &Path, logs: PathBuf) -> Self {
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
    pub(crate) fn boot(&self, guest: &Guest) -> (PathBuf, Result<()>) {
        let mut qemu = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            qemu.env("LD_LIBRARY_PATH", libraries);
        }
        for directory in &self.firmware {
            qemu.arg("-L").arg(directory);
        }
        // What a guest writes to its disks goes to a file there that has no name.
        qemu.env("TMPDIR", &self.logs);
        qemu.args(["-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "1G"])
            .args(["-nodefaults", "-display", "none", "-serial", "stdio"])
            .args((!guest.reboots).then_some("-no-reboot"))
            .arg("-kernel")
            .arg(&guest.kernel)
            .arg("-initrd")
            .arg(&guest.initramfs)
            .arg("-append")
            .arg(format!("{KERNEL_ARGUMENTS} {}", guest.arguments));
        for disk in &guest.disks {
            let mut drive = OsString::from("if=virtio,format=raw,snapshot=on,file=");
            drive.push(disk);
            qemu.arg("-drive").arg(drive);
        }
        let log = self.logs.join(format!("{}.log", guest.name));
        let what = format!("boot Linux {}", guest.release);
        let steps = Steps::of(guest.verb, self.logs.clone());
        let ended = steps.run_while(&guest.name, &what, &mut qemu, |progress| {
            if progress.elapsed > guest.limit {
                bail!("it did not end within {} s", guest.limit.as_secs());
            }
            Ok(())
        });
        (log, ended)
    }
}
