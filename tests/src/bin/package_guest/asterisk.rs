//! A real Asterisk, as Wazo sets it up: its user, directories, configuration and service.
//!
//! Debian's Asterisk 22 needs a newer C library than the system's, so a disk has both, and its own loader
//! starts it. All else, as `/etc/asterisk`, is the system's.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use ringfence_tests::asterisk::Asterisk;

use crate::system::{must, output, run_quietly, said, until};

/// The name and the password of the account of the phone. The name is such as Wazo makes.
pub(crate) const ACCOUNT: (&str, &str) = ("lp3wc06e", "Vy7-kqzP-3hEm");
/// The third disk, which has the `/usr` of the lab's Asterisk.
const DISK: &str = "/dev/vdc";
const MOUNTED: &str = "/opt/asterisk";
/// The loader's name becomes the name of the process.
const LOADER: &str = "/usr/local/lib/asterisk/asterisk";
const PROGRAM: &str = "/usr/sbin/asterisk";
const DIRECTORIES: [&str; 6] = [
    "/etc/asterisk/manager.d",
    "/etc/asterisk/logger.d",
    "/var/log/asterisk",
    "/var/lib/asterisk",
    "/var/spool/asterisk",
    "/var/cache/asterisk",
];
const FILES: [(&str, &str); 10] = [
    ("asterisk.conf", include_str!("../../../lab/wazo/asterisk.conf")),
    ("logger.conf", include_str!("../../../lab/wazo/logger.conf")),
    ("logger.d/01-wazo.conf", include_str!("../../../lab/wazo/logger.d-01-wazo.conf")),
    ("manager.conf", include_str!("../../../lab/wazo/manager.conf")),
    ("manager.d/01-wazo.conf", include_str!("../../../lab/wazo/manager.d-01-wazo.conf")),
    ("manager.d/99-general.conf", include_str!("../../../lab/wazo/manager.d-99-general.conf")),
    ("modules.conf", include_str!("../../../lab/asterisk/modules.conf")),
    ("extensions.conf", include_str!("../../../lab/asterisk/extensions.conf")),
    ("rtp.conf", include_str!("../../../lab/asterisk/rtp.conf")),
    ("cdr.conf", "[general]\nenable = no\n"),
];

/// Prints the directory of the lab's Asterisk below `cache`, on the machine that makes the disk.
#[expect(clippy::print_stderr, reason = "only its answer is for the caller")]
pub(crate) fn find(cache: &Path) -> Result<()> {
    let root = Asterisk::ensure_root(cache, &mut |step| eprintln!("{step}"))?;
    println!("{}", root.display());
    Ok(())
}

/// Installs and starts it.
pub(crate) fn install() -> Result<()> {
    must("groupadd", &["--system", "asterisk"])?;
    must("useradd", &["--system", "-g", "asterisk", "-d", "/var/lib/asterisk", "asterisk"])?;
    mount()?;
    for directory in DIRECTORIES {
        fs::create_dir_all(directory).with_context(|| format!("make {directory}"))?;
    }
    for (file, text) in FILES {
        let text = text.replace("@ASTERISK@", MOUNTED);
        fs::write(Path::new("/etc/asterisk").join(file), text)
            .with_context(|| format!("write {file}"))?;
    }
    let (name, password) = ACCOUNT;
    let account = include_str!("../../../lab/asterisk/endpoint.conf.in")
        .replace("@NAME@", name)
        .replace("@PASSWORD@", password);
    let pjsip = format!("{}{account}", include_str!("../../../lab/wazo/pjsip.conf"));
    fs::write("/etc/asterisk/pjsip.conf", pjsip).context("write pjsip.conf")?;
    // As Wazo does: only its user and group have access.
    let all = ["/etc/asterisk", "/var/log/asterisk", "/var/lib/asterisk", "/var/spool/asterisk"];
    for directory in all.into_iter().chain(["/var/cache/asterisk"]) {
        must("chown", &["-R", "asterisk:asterisk", directory])?;
        must("chmod", &["-R", "u=rwX,g=rwX,o=", directory])?;
    }
    must("chmod", &["g+s", "/etc/asterisk", "/etc/asterisk/manager.d", "/etc/asterisk/logger.d"])?;
    let unit = include_str!("../../../lab/wazo/asterisk.service");
    fs::write("/etc/systemd/system/asterisk.service", unit).context("write its unit")?;
    must("systemctl", &["daemon-reload"])?;
    must("systemctl", &["enable", "--quiet", "--now", "asterisk"])?;
    until("Asterisk has started", || run_quietly("asterisk", &["-rx", "core waitfullybooted"]))
}

/// Mounts its disk, now and at each boot, and makes its command.
fn mount() -> Result<()> {
    fs::create_dir_all(MOUNTED).with_context(|| format!("make {MOUNTED}"))?;
    let mut table = OpenOptions::new().create(true).append(true).open("/etc/fstab")?;
    writeln!(table, "{DISK} {MOUNTED} ext4 ro 0 0").context("write /etc/fstab")?;
    must("mount", &[MOUNTED])?;
    let loader = Path::new(LOADER);
    fs::create_dir_all(loader.parent().context("a file without a directory")?)?;
    symlink(format!("{MOUNTED}/lib64/ld-linux-x86-64.so.2"), loader).context("link the loader")?;
    let script = format!(
        "#!/bin/sh\nexec {LOADER} --argv0 {PROGRAM} --library-path {MOUNTED}/lib/x86_64-linux-gnu \
         {MOUNTED}/sbin/asterisk \"$@\"\n"
    );
    fs::write(PROGRAM, script).context("write a program")?;
    fs::set_permissions(PROGRAM, Permissions::from_mode(0o755)).context("set its mode")
}

/// Fails unless Asterisk has the package's AMI user, with a secret that it can read and others cannot.
pub(crate) fn has_the_ami_user() -> Result<()> {
    let secret = "/etc/ringfence/ami.secret";
    let mode = output("stat", &["--format=%U:%G %a", secret])?;
    ensure!(mode.contains(":asterisk ") && mode.trim().ends_with('0'), "{secret} is {mode}");
    must("runuser", &["-u", "asterisk", "--", "cat", secret])?;
    let user = ami_user()?;
    let is_complete = user.contains("username: ringfence") && user.contains("secret: <Set>");
    ensure!(is_complete, "Asterisk says of its AMI user: {user}");
    Ok(())
}

/// Fails if Asterisk has the package's AMI user.
pub(crate) fn has_no_ami_user() -> Result<()> {
    let user = ami_user()?;
    ensure!(!user.contains("username: ringfence"), "Asterisk still has its AMI user: {user}");
    Ok(())
}

fn ami_user() -> Result<String> {
    said("asterisk", &["-rx", "manager show user ringfence"])
}
