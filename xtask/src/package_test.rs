//! `cargo xtask test-package`: tests the Debian package on Debian systems in virtual machines.
//!
//! mmdebstrap makes a system with systemd and Debian's kernel, from the suites of this machine's apt.
//! The system is kept below `target` for a week; a run's changes to it are discarded. A second disk
//! has the packages and `ringfence-package-guest`, which installs, upgrades and removes them, with a
//! reboot in between. A third one has the lab's Asterisk.

use std::env::consts::ARCH;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use crate::deb;
use crate::privilege::Root;
use crate::setup::{self, For};
use crate::step::{Steps, output, read_lossy, succeed, tail, timed};
use crate::vm::findings::Findings;
use crate::vm::machine::Guest;
use crate::vm::packages::Packages;
use crate::workspace::Workspace;

const VERB: &str = "test-package";
/// The program that runs in the systems.
const GUEST: &str = "ringfence-package-guest";
/// The longest run of one system; usually it takes about six minutes.
const LIMIT: Duration = Duration::from_mins(30);
/// A system older than this is made again, with the suite's newest packages.
const AGE_MAX: Duration = Duration::from_hours(7 * 24);
/// The number of last lines of the serial port that are shown after a failure.
const SHOWN: usize = 40;
/// Debian's files of apt's sources.
const SOURCES: [&str; 2] = ["/etc/apt/sources.list.d/debian.sources", "/etc/apt/sources.list"];
/// The packages of a system, in addition to those that apt needs.
const PACKAGES: &str =
    "systemd-sysv,udev,dbus,iproute2,passwd,linux-image-cloud-amd64,initramfs-tools,zstd";
const UNNEEDED: [&str; 4] =
    ["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/lib/udev/hwdb.d/*"];
const KERNEL_ARGUMENTS: &str = "root=/dev/vda rw systemd.show_status=0";
/// Starts the program on the second disk. The serial port has no login prompt, so that only this
/// program writes to it.
const UNIT: &str = "\
[Unit]
Description=Test of the package
After=multi-user.target
[Service]
Type=oneshot
StandardOutput=tty
StandardError=inherit
TTYPath=/dev/ttyS0
TimeoutStartSec=1200
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin
ExecStartPre=/usr/bin/mount -o ro /dev/vdb /mnt
ExecStart=/mnt/guest
ExecStopPost=/bin/sh -c 'test -e /run/package-test-reboots || systemctl poweroff --no-block'
";

/// The options of `test-package`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Debian's suites
    #[arg(value_enum, default_values = ["bookworm", "trixie"])]
    suites: Vec<Suite>,
}

/// A release of Debian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Suite {
    /// Debian 12, Linux 6.1
    Bookworm,
    /// Debian 13, Linux 6.12
    Trixie,
}

impl Suite {
    const ALL: [Self; 2] = [Self::Bookworm, Self::Trixie];

    fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Trixie => "trixie",
        }
    }
}

impl Default for Args {
    fn default() -> Self {
        Self { suites: Suite::ALL.to_vec() }
    }
}

/// Packs, makes the systems, boots each, and fails unless every check passed on all of them.
pub(crate) fn run(args: &Args) -> Result<()> {
    ensure!(ARCH == "x86_64", "the virtual machine is an x86_64, and runs what is built on one");
    let workspace = Workspace::find()?;
    setup::ensure(&workspace, For::Images)?;
    let directory = workspace.target().join("package");
    let packages = Packages::open(&workspace.target().join("vm/packages"))?;
    let machine = packages.qemu()?;
    let payload = payload(&workspace, &directory)?;
    let asterisk = asterisk(&workspace, &directory)?;
    let mut failed = Vec::new();
    for suite in &args.suites {
        let system = System::of(*suite, &directory)?;
        let (log, ended) = machine.boot(&Guest {
            verb: VERB,
            name: format!("package-{}", suite.name()),
            release: format!("of Debian's {}", suite.name()),
            kernel: system.file("vmlinuz"),
            initramfs: system.file("initrd"),
            disks: vec![system.file("disk"), payload.clone(), asterisk.clone()],
            arguments: KERNEL_ARGUMENTS,
            reboots: true,
            limit: LIMIT,
        });
        let findings = Findings::read(&read_lossy(&log));
        println!("\nThe package on Debian's {} (log: {})", suite.name(), log.display());
        findings.print();
        if let Err(error) = ended.and_then(|()| findings.complete()) {
            println!("  FAILED           {error:#}");
            println!("the end of {}:\n{}", log.display(), tail(&read_lossy(&log), SHOWN));
            failed.push(suite.name());
        }
    }
    for disk in [payload, asterisk] {
        fs::remove_file(&disk).with_context(|| format!("remove {}", disk.display()))?;
    }
    if !failed.is_empty() {
        bail!("the package failed on {}", failed.join(" and "));
    }
    Ok(())
}

/// The second disk: two versions of the package, and the program that installs them.
fn payload(workspace: &Workspace, directory: &Path) -> Result<PathBuf> {
    let mut cargo = workspace.cargo("build");
    cargo.args(["--package", "ringfence-tests", "--bin", GUEST]);
    timed(&format!("build {GUEST}"), || succeed(&mut cargo))?;
    let files = directory.join("payload");
    if files.exists() {
        fs::remove_dir_all(&files).with_context(|| format!("remove {}", files.display()))?;
    }
    fs::create_dir_all(&files).with_context(|| format!("make {}", files.display()))?;
    let packages = deb::upgrade(workspace, &files)?;
    for (package, name) in packages.iter().zip(["old.deb", "new.deb"]) {
        fs::rename(package, files.join(name)).context("name a package")?;
    }
    let guest = workspace.debug_binary(GUEST);
    succeed(Command::new("strip").arg("-o").arg(files.join("guest")).arg(guest))?;
    let disk = directory.join("payload.ext4");
    make_disk(&files, &disk, "96M")?;
    fs::remove_dir_all(&files).context("remove the second disk's files")?;
    Ok(disk)
}

/// The third disk: the `/usr` of the lab's Asterisk, which the guest's program finds or fetches.
fn asterisk(workspace: &Workspace, directory: &Path) -> Result<PathBuf> {
    let root = Root::obtain("the lab's Asterisk")?;
    let mut find = root.command(workspace.debug_binary(GUEST));
    let found = output(find.arg("asterisk").arg(workspace.lab_cache()))?;
    let disk = directory.join("asterisk.ext4");
    make_disk(&Path::new(&found).join("usr"), &disk, "400M")?;
    Ok(disk)
}

fn make_disk(files: &Path, disk: &Path, size: &str) -> Result<()> {
    let mut make = Command::new("mke2fs");
    make.args(["-q", "-F", "-t", "ext4", "-d"]).arg(files).arg(disk).arg(size);
    succeed(make.stdout(Stdio::null()))
}

/// A Debian system: its disk, kernel and initramfs.
struct System(PathBuf);

impl System {
    /// A system that was made earlier, or a new one.
    fn of(suite: Suite, directory: &Path) -> Result<Self> {
        let system = Self(directory.join(suite.name()));
        if !system.is_fresh() {
            system.make(suite, directory)?;
        }
        Ok(system)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Whether it was made recently and in the same way.
    fn is_fresh(&self) -> bool {
        let recipe = self.file("recipe");
        let made = fs::metadata(&recipe).and_then(|metadata| metadata.modified());
        let is_young = made.is_ok_and(|made| {
            SystemTime::now().duration_since(made).is_ok_and(|age| age < AGE_MAX)
        });
        is_young && fs::read_to_string(recipe).is_ok_and(|made_by| made_by == Self::recipe())
    }

    fn recipe() -> String {
        format!("{PACKAGES}\n{}\n{UNIT}", UNNEEDED.join("\n"))
    }

    fn make(&self, suite: Suite, directory: &Path) -> Result<()> {
        let partial = directory.join("partial");
        for old in [&partial, &self.0] {
            if old.exists() {
                fs::remove_dir_all(old).with_context(|| format!("remove {}", old.display()))?;
            }
        }
        fs::create_dir_all(&partial).with_context(|| format!("make {}", partial.display()))?;
        fs::write(partial.join("unit"), UNIT).context("write the unit")?;
        fs::write(partial.join("sources"), sources(suite)?).context("write apt's sources")?;
        let mut mmdebstrap = Command::new("mmdebstrap");
        mmdebstrap
            .args(["--variant=apt", "--format=null"])
            .arg(format!("--include={PACKAGES}"))
            .args([
                "--aptopt=Acquire::Languages \"none\"",
                "--aptopt=APT::Install-Recommends \"false\"",
            ])
            .args(UNNEEDED.map(|path| format!("--dpkgopt=path-exclude={path}")))
            .arg(format!("--customize-hook={}", hook(&partial)))
            .args([suite.name(), "-"])
            .arg(partial.join("sources"))
            .env("TMPDIR", &partial);
        let steps = Steps::of(VERB, directory.join("log"));
        let what = format!("make a system of Debian's {}", suite.name());
        steps.run(&format!("mmdebstrap-{}", suite.name()), &what, &mut mmdebstrap)?;
        fs::write(partial.join("recipe"), Self::recipe()).context("write the recipe")?;
        // Last, so that an incomplete system is never used.
        fs::rename(&partial, &self.0).with_context(|| format!("make {}", self.0.display()))
    }
}

/// A shell script for the system's directory, which is `$1`. The bind mount leaves out what mmdebstrap
/// has mounted inside, such as `/proc`. The rule that no service may be started only lasts while
/// mmdebstrap runs.
fn hook(to: &Path) -> String {
    let to = to.display();
    format!(
        "set -e; cd \"$1\"; mkdir -p etc/systemd/system/default.target.wants; \
         cp '{to}/unit' etc/systemd/system/package-test.service; \
         ln -s ../package-test.service etc/systemd/system/default.target.wants/; \
         ln -s /dev/null etc/systemd/system/serial-getty@ttyS0.service; \
         echo guest > etc/hostname; \
         cp boot/vmlinuz-* '{to}/vmlinuz'; cp boot/initrd.img-* '{to}/initrd'; \
         rm -f usr/sbin/policy-rc.d; \
         if [ -e usr/sbin/start-stop-daemon.REAL ]; then \
         mv usr/sbin/start-stop-daemon.REAL usr/sbin/start-stop-daemon; fi; \
         mkdir '{to}/root'; mount --bind . '{to}/root'; \
         mke2fs -q -F -t ext4 -d '{to}/root' '{to}/disk' 1200M; \
         umount '{to}/root'; rmdir '{to}/root'"
    )
}

/// This machine's apt sources of Debian's packages, changed to this suite.
fn sources(suite: Suite) -> Result<String> {
    let own = SOURCES.iter().find_map(|file| fs::read_to_string(file).ok());
    let own =
        own.with_context(|| format!("apt's sources are in none of {}", SOURCES.join(", ")))?;
    for other in Suite::ALL {
        if own.contains(other.name()) {
            return Ok(own.replace(other.name(), suite.name()));
        }
    }
    bail!(
        "apt's sources name neither bookworm nor trixie: test-package makes its systems of theirs"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_ends_before_the_machine_is_ended() {
        let (_, seconds) = UNIT.split_once("TimeoutStartSec=").unwrap();
        let seconds: u64 = seconds.lines().next().unwrap().parse().unwrap();
        assert!(seconds < LIMIT.as_secs());
    }
}
