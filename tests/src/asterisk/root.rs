//! Downloads a real Asterisk, sshd, nginx and baresip from the machine's Debian mirror and unpacks them into a
//! directory for `chroot`. The system's package state does not change, and no maintainer script runs.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::child::{self, Finished, OnSignal};
use crate::{interrupt, scratch};

/// The Debian suite with the Asterisk version of Wazo (22); no released suite has it.
const SUITE: &str = "forky";
/// Increases when the recipe changes, so that an old directory is not used.
const RECIPE: u32 = 4;
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const APT_LIMIT: Duration = Duration::from_mins(5);
/// Packages whose files Asterisk does not need to run here.
const UNNEEDED: [&str; 9] = [
    "asterisk-core-sounds",
    "perl_",
    "perl-modules",
    "libperl",
    "debconf",
    "apt_",
    "tzdata",
    "systemd_",
    "libsystemd-shared_",
];
const UNNEEDED_PATHS: [&str; 5] = ["doc", "man", "locale", "i18n", "sounds"];

/// The directory with Asterisk. The first use creates it (about 15 s, 90 MiB from the mirror, 200 MiB on
/// disk).
pub(super) fn ensure(cache: &Path, progress: &mut dyn FnMut(&str)) -> anyhow::Result<PathBuf> {
    let cache = std::path::absolute(cache).context("cache directory")?;
    fs::create_dir_all(&cache).with_context(|| format!("make {}", cache.display()))?;
    let root = cache.join(format!("asterisk-{SUITE}-{RECIPE}"));
    if !root.is_dir() {
        let _lock = lock(&cache.join("asterisk.lock"), progress)?;
        // Another process may have built it while this one waited.
        if !root.is_dir() {
            build(&cache, &root, progress)?;
        }
    }
    scratch::sweep_directory(&root.join(super::INSTANCES))?;
    Ok(root)
}

fn lock(path: &Path, progress: &mut dyn FnMut(&str)) -> anyhow::Result<Flock<File>> {
    let mut file = File::create(path).with_context(|| format!("create {}", path.display()))?;
    let mut said = false;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, nix::errno::Errno::EWOULDBLOCK)) => file = back,
            Err((_file, errno)) => {
                return Err(errno).with_context(|| format!("lock {}", path.display()));
            }
        }
        if !said {
            progress("another process is unpacking Asterisk; waiting for it");
            said = true;
        }
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Builds beside `root` and renames at the end, so that an interrupted build is never mistaken for a
/// complete one.
fn build(cache: &Path, root: &Path, progress: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let started = Instant::now();
    let work = cache.join("asterisk.partial");
    if work.exists() {
        fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    }
    let (apt_dir, partial) = (work.join("apt"), work.join("root"));
    let apt = Apt::new(&apt_dir)?;
    progress(&format!("reading what Debian {SUITE} has"));
    apt.run("update", &["update"])?;
    progress("downloading Asterisk 22, sshd, nginx, baresip and their libraries (about 120 MiB)");
    apt.run(
        "download",
        &[
            "install",
            "-y",
            "--download-only",
            "--no-install-recommends",
            "asterisk",
            "openssh-server",
            "nginx",
            "baresip-core",
        ],
    )?;
    let debs = apt.downloaded()?;
    progress(&format!("unpacking {} packages", debs.len()));
    lay_out(&partial)?;
    for deb in debs {
        let unpacked = unpack(&deb, &partial);
        // Ctrl-C ends dpkg-deb and tar too; then their failure is not the error to report.
        interrupt::check()?;
        unpacked?;
    }
    let version = version(&partial)?;
    fs::rename(&partial, root).with_context(|| format!("rename to {}", root.display()))?;
    fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    progress(&format!("{version} is ready ({:.0} s)", started.elapsed().as_secs_f64()));
    Ok(())
}

/// apt with a separate state.
struct Apt {
    options: Vec<String>,
    archives: PathBuf,
}

impl Apt {
    fn new(dir: &Path) -> anyhow::Result<Self> {
        let (state, cache, etc) = (dir.join("state"), dir.join("cache"), dir.join("etc"));
        for dir in [&state.join("lists/partial"), &cache.join("archives/partial"), &etc] {
            fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
        }
        let architecture = said(Command::new("dpkg").arg("--print-architecture"), "dpkg")?;
        let sources = etc.join("sources.list");
        let signed = if Path::new(KEYRING).exists() {
            format!("signed-by={KEYRING} ")
        } else {
            String::new()
        };
        // The mirror may lag behind: the release file of a testing suite expires within days.
        let line = format!(
            "deb [{signed}check-valid-until=no arch={architecture}] {} {SUITE} main\n",
            mirror()?
        );
        fs::write(&sources, line).context("write apt's sources")?;
        let status = state.join("status");
        fs::write(&status, "").context("write dpkg's status")?;
        let options = [
            ("Dir::State", state.display().to_string()),
            ("Dir::State::status", status.display().to_string()),
            ("Dir::Cache", cache.display().to_string()),
            ("Dir::Etc::sourcelist", sources.display().to_string()),
            ("Dir::Etc::sourceparts", "-".to_owned()),
            ("APT::Architecture", architecture),
            // The user `_apt` may not read the directory.
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::Retries", "3".to_owned()),
            // Otherwise a missing index is only a warning.
            ("APT::Update::Error-Mode", "any".to_owned()),
        ];
        Ok(Self {
            options: options.iter().map(|(key, value)| format!("-o{key}={value}")).collect(),
            archives: cache.join("archives"),
        })
    }

    fn run(&self, what: &str, arguments: &[&str]) -> anyhow::Result<Finished> {
        let name = format!("apt-get {what}");
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        command.arg("-q").args(&self.options).args(arguments);
        child::finish(&name, &mut command, APT_LIMIT, OnSignal::Stop)?.success(&name).with_context(
            || {
                format!(
                    "get Asterisk from Debian {SUITE}: check that `apt-get update` works on this \
                     machine and that its mirror has {SUITE}, then run this again"
                )
            },
        )
    }

    fn downloaded(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut debs: Vec<PathBuf> = fs::read_dir(&self.archives)
            .context("read apt's archives")?
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension() == Some(OsStr::new("deb")) && needed(path))
            .collect();
        debs.sort();
        ensure!(!debs.is_empty(), "apt-get downloaded nothing");
        Ok(debs)
    }
}

/// The Debian mirror that this machine's apt uses.
fn mirror() -> anyhow::Result<String> {
    let mut command = Command::new("apt-get");
    command.args(["indextargets", "--format", "$(LABEL)|$(REPO_URI)", "Created-By: Packages"]);
    let said = said(&mut command, "apt-get indextargets")?;
    choose_mirror(&said).map(str::to_owned).context(
        "this machine's apt has no Debian mirror (`apt-get indextargets` names none); the lab \
         takes Asterisk from there, so add one to /etc/apt",
    )
}

/// Selects the main archive's mirror from lines `label|uri`. Before the first `apt-get update` the labels
/// are empty.
fn choose_mirror(targets: &str) -> Option<&str> {
    let targets = || targets.lines().filter_map(|line| line.split_once('|'));
    let labelled = targets().find(|(label, _uri)| *label == "Debian");
    labelled
        .or_else(|| targets().find(|(label, uri)| label.is_empty() && !uri.contains("security")))
        .map(|(_label, uri)| uri.trim())
        .filter(|uri| !uri.is_empty())
}

fn needed(deb: &Path) -> bool {
    let name = deb.file_name().and_then(OsStr::to_str).unwrap_or_default();
    !UNNEEDED.iter().any(|prefix| name.starts_with(prefix))
}

/// Creates what maintainer scripts and `base-files` would create.
fn lay_out(root: &Path) -> anyhow::Result<()> {
    for dir in
        ["usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "dev", "etc", "run/sshd", "tmp", "var"]
    {
        let dir = root.join(dir);
        fs::create_dir_all(&dir).with_context(|| format!("make {}", dir.display()))?;
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), root.join(name)).context("link /usr's directories")?;
    }
    symlink("../run", root.join("var/run")).context("link /var/run")?;
    for (name, minor) in [("null", 3), ("random", 8), ("urandom", 9)] {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(&root.join("dev").join(name), SFlag::S_IFCHR, mode, makedev(1, minor))
            .with_context(|| format!("make /dev/{name}: this needs root"))?;
    }
    let users = "root:x:0:0:root:/root:/bin/sh\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n";
    fs::write(root.join("etc/passwd"), users).context("passwd")?;
    fs::write(root.join("etc/group"), "root:x:0:\n").context("group")
}

fn unpack(deb: &Path, root: &Path) -> anyhow::Result<()> {
    let mut dpkg = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(deb)
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .context("start dpkg-deb")?;
    let archive = dpkg.stdout.take().context("dpkg-deb has no output")?;
    let tar = Command::new("tar")
        .args(["-x", "--keep-directory-symlink", "-C"])
        .arg(root)
        .args(UNNEEDED_PATHS.map(|path| format!("--exclude=./usr/share/{path}/*")))
        .stdin(archive)
        .status()
        .context("start tar")?;
    let dpkg = dpkg.wait().context("wait for dpkg-deb")?;
    ensure!(tar.success() && dpkg.success(), "unpack {}: {dpkg}, {tar}", deb.display());
    Ok(())
}

fn version(root: &Path) -> anyhow::Result<String> {
    let mut command = Command::new("chroot");
    command.arg(root).args(["/usr/sbin/asterisk", "-V"]);
    said(&mut command, "asterisk -V").context("what was unpacked does not run")
}

/// The directory of Asterisk's modules, as a path inside its root.
pub(super) fn modules(root: &Path) -> anyhow::Result<PathBuf> {
    let lib = root.join("usr/lib");
    let entries = fs::read_dir(&lib).with_context(|| format!("read {}", lib.display()))?;
    for entry in entries.flatten() {
        if entry.path().join("asterisk/modules").is_dir() {
            return Ok(Path::new("/usr/lib").join(entry.file_name()).join("asterisk/modules"));
        }
    }
    bail!("{} has no Asterisk modules; delete it and run this again", root.display());
}

fn said(command: &mut Command, name: &str) -> anyhow::Result<String> {
    let finished = child::finish(name, command, Duration::from_secs(20), OnSignal::Stop)?;
    Ok(finished.success(name)?.stdout.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_main_archive_is_chosen() {
        let targets = "Debian-Security|http://a/security/\nDebian Backports|http://b/\n\
                       Debian|http://mirror/debian/\nDebian|http://other/\n";
        assert_eq!(choose_mirror(targets), Some("http://mirror/debian/"));
    }

    #[test]
    fn before_the_first_update_labels_are_empty() {
        let targets = "|http://a/debian-security/\n|http://mirror/debian/\n";
        assert_eq!(choose_mirror(targets), Some("http://mirror/debian/"));
    }

    #[test]
    fn a_third_party_archive_is_no_mirror() {
        assert_eq!(choose_mirror("Vendor|http://vendor/apt/\n"), None);
        assert_eq!(choose_mirror(""), None);
    }

    #[test]
    fn sounds_are_left_out() {
        assert!(!needed(Path::new("/x/asterisk-core-sounds-en_1_all.deb")));
        assert!(needed(Path::new("/x/asterisk-modules_22_amd64.deb")));
    }
}
