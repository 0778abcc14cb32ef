//! The virtual machine: QEMU with emulation of the guest's instructions.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, bail};

use crate::step::Steps;

/// `panic=-1` makes a panic restart the machine at once, and `-no-reboot` turns the restart into its
/// end.
const KERNEL_ARGUMENTS: &str = "console=ttyS0 quiet panic=-1";

/// A system to boot.
#[derive(Debug)]
pub(crate) struct Guest {
    /// The verb that boots it, for messages to the developer.
    pub(crate) verb: &'static str,
    /// The name of the log file.
    pub(crate) name: String,
    /// The kernel's release.
    pub(crate) release: String,
    pub(crate) kernel: PathBuf,
    pub(crate) initramfs: PathBuf,
    /// Its disks. Changes to them are discarded.
    pub(crate) disks: Vec<PathBuf>,
    /// Further arguments for the kernel.
    pub(crate) arguments: &'static str,
    /// Whether it may reboot; otherwise a reboot ends it.
    pub(crate) reboots: bool,
    /// The longest run.
    pub(crate) limit: Duration,
}

/// QEMU, and the paths of its files.
pub(crate) struct Machine {
    program: PathBuf,
    libraries: Option<OsString>,
    firmware: Vec<PathBuf>,
    logs: PathBuf,
}

impl Machine {
    /// An installed QEMU.
    pub(crate) fn installed(program: PathBuf, logs: PathBuf) -> Self {
        Self { program, libraries: None, firmware: Vec::new(), logs }
    }

    /// QEMU from packages that were unpacked into `root`.
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

    /// Boots a kernel and waits until the machine is switched off. Returns the path of the log of its
    /// serial port, however it ended.
    pub(crate) fn boot(&self, guest: &Guest) -> (PathBuf, Result<()>) {
        let mut qemu = Command::new(&self.program);
        if let Some(libraries) = &self.libraries {
            qemu.env("LD_LIBRARY_PATH", libraries);
        }
        for directory in &self.firmware {
            qemu.arg("-L").arg(directory);
        }
        // Changes to disks go to a temporary file without a name.
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
