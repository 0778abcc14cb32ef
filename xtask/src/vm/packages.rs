//! Kernels, and QEMU if it is not installed, from Debian packages: downloaded from this machine's mirror,
//! and unpacked below `target`.
//!
//! Nothing is installed. An installed kernel would become the machine's own at its next boot, and QEMU
//! conflicts with an older or newer `qemu-utils` that may be needed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail, ensure};

use super::machine::Machine;
use crate::step::Steps;
use crate::workspace::find_program;

/// Debian's kernel for virtual machines, the smallest one.
const FLAVOUR: &str = "-cloud-amd64";
const QEMU: &str = "qemu-system-x86_64";
const QEMU_PACKAGE: &str = "qemu-system-x86";
/// How often to look for a newer kernel.
const LISTS_AGE_MAX: Duration = Duration::from_hours(24);
const UNNEEDED: [&str; 4] =
    ["./usr/share/doc/*", "./usr/share/man/*", "./usr/share/locale/*", "./boot/System.map*"];

/// The packages that were unpacked, and a way to download more.
pub(crate) struct Packages {
    directory: PathBuf,
    steps: Steps,
    /// The error, if the newest packages are unknown.
    outdated: Option<anyhow::Error>,
}

/// A kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The requested series, such as `6.1`.
    pub(crate) series: String,
    /// Its release, such as `6.1.0-56-cloud-amd64`.
    pub(crate) release: String,
    /// The file to boot.
    pub(crate) image: PathBuf,
    modules: PathBuf,
}

impl Packages {
    /// Uses `directory`; updates the lists of packages at most once a day.
    pub(crate) fn open(directory: &Path) -> Result<Self> {
        for part in ["state/lists/partial", "cache/archives/partial"] {
            let part = directory.join(part);
            fs::create_dir_all(&part).with_context(|| format!("make {}", part.display()))?;
        }
        let steps = Steps::of("test-vm", directory.join("log"));
        let mut packages = Self { directory: directory.to_owned(), steps, outdated: None };
        if packages.is_fresh() {
            return Ok(packages);
        }
        match packages.apt("update", "ask apt for the newest kernels", &["update"]) {
            Ok(()) => drop(File::create(packages.stamp()).context("note when apt was asked")?),
            // Without a network, the existing packages are used.
            Err(error) => {
                eprintln!("test-vm:   failed; so with what is there");
                packages.outdated = Some(error);
            }
        }
        Ok(packages)
    }

    /// The newest kernel of a series.
    pub(crate) fn kernel(&self, series: &str) -> Result<Kernel> {
        let package = self.newest(series)?;
        let root = self.directory.join(&package);
        if !root.is_dir() {
            self.fetch(&package, "linux-image", &["download", &package])?;
            self.remove_older(series, &package)?;
        }
        let release = package.trim_start_matches("linux-image-").to_owned();
        let modules = ["lib/modules", "usr/lib/modules"]
            .map(|modules| root.join(modules).join(&release).join("kernel"))
            .into_iter()
            .find(|modules| modules.is_dir())
            .with_context(|| format!("{package} has no modules"))?;
        let image = root.join("boot").join(format!("vmlinuz-{release}"));
        Ok(Kernel { series: series.to_owned(), release, image, modules })
    }

    /// QEMU, installed or unpacked.
    pub(crate) fn qemu(&self) -> Result<Machine> {
        let logs = self.directory.with_file_name("log");
        if let Some(installed) = find_program(QEMU) {
            return Ok(Machine::installed(installed, logs));
        }
        let root = self.directory.join(QEMU_PACKAGE);
        if !root.is_dir() {
            let arguments =
                ["install", "--yes", "--download-only", "--no-install-recommends", QEMU_PACKAGE];
            self.fetch(QEMU_PACKAGE, QEMU_PACKAGE, &arguments)?;
        }
        Ok(Machine::unpacked(&root, logs))
    }

    fn newest(&self, series: &str) -> Result<String> {
        let prefix = prefix(series);
        let known = newest(self.known(&prefix)?, &prefix);
        let chosen = match &self.outdated {
            None => known,
            // A package that may no longer be in the mirror is the last choice.
            Some(_) => newest(self.unpacked()?, &prefix).or(known),
        };
        if let Some(chosen) = chosen {
            return Ok(chosen);
        }
        let why = self.outdated.as_ref().map(|why| format!(" ({why:#})")).unwrap_or_default();
        bail!(
            "apt knows no kernel {prefix}*{FLAVOUR}{why}: see that `apt-get update` works here, \
             and that /etc/apt has Debian's suite with updates or backports that carries {series}"
        )
    }

    fn known(&self, prefix: &str) -> Result<Vec<String>> {
        let output = Command::new("apt-cache")
            .args(self.options())
            .args(["pkgnames", prefix])
            .output()
            .context("run apt-cache (test-vm takes Debian's kernels from apt)")?;
        Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
    }

    fn remove_older(&self, series: &str, newest: &str) -> Result<()> {
        for package in self.unpacked()? {
            if package.starts_with(&prefix(series)) && package != newest {
                let root = self.directory.join(&package);
                fs::remove_dir_all(&root).with_context(|| format!("remove {}", root.display()))?;
            }
        }
        Ok(())
    }

    fn unpacked(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.directory).context("list what is unpacked")?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Downloads with apt, and unpacks the packages into a directory of this name.
    fn fetch(&self, name: &str, step: &str, arguments: &[&str]) -> Result<()> {
        let archives = self.directory.join("cache/archives");
        remove_archives(&archives)?;
        self.apt(step, &format!("download {name}"), arguments)?;
        let partial = self.directory.join("partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).context("remove what was unpacked in part")?;
        }
        fs::create_dir_all(&partial).with_context(|| format!("make {}", partial.display()))?;
        let downloaded = archives_in(&archives)?;
        ensure!(!downloaded.is_empty(), "apt-get downloaded nothing for {name}");
        for archive in &downloaded {
            unpack(archive, &partial)?;
        }
        let root = self.directory.join(name);
        // Last, so that a partly unpacked directory is never mistaken for a complete one.
        fs::rename(&partial, &root).with_context(|| format!("rename to {}", root.display()))?;
        remove_archives(&archives)
    }

    fn apt(&self, step: &str, what: &str, arguments: &[&str]) -> Result<()> {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").env("LC_ALL", "C");
        command.arg("-q").args(self.options()).args(arguments);
        // `apt-get download` writes to the working directory.
        command.current_dir(self.directory.join("cache/archives"));
        self.steps.run(&format!("apt-{step}"), what, &mut command)
    }

    /// A separate state, so that neither root nor apt's lock is needed; the sources and the list of
    /// installed packages are the machine's.
    fn options(&self) -> [String; 9] {
        let place = |name: &str| self.directory.join(name).display().to_string();
        [
            ("Dir::State", place("state")),
            ("Dir::State::status", "/var/lib/dpkg/status".to_owned()),
            ("Dir::Cache", place("cache")),
            ("Debug::NoLocking", "true".to_owned()),
            // The user `_apt` may not write to the directory.
            ("APT::Sandbox::User", "root".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("Acquire::Retries", "3".to_owned()),
            // Otherwise a missing list is only a warning.
            ("APT::Update::Error-Mode", "any".to_owned()),
            ("APT::Cmd::Disable-Script-Warning", "true".to_owned()),
        ]
        .map(|(key, value)| format!("-o{key}={value}"))
    }

    fn stamp(&self) -> PathBuf {
        self.directory.join("asked")
    }

    fn is_fresh(&self) -> bool {
        let asked = fs::metadata(self.stamp()).and_then(|metadata| metadata.modified());
        asked.is_ok_and(|asked| {
            SystemTime::now().duration_since(asked).is_ok_and(|age| age < LISTS_AGE_MAX)
        })
    }
}

impl Kernel {
    /// The file of a module, compressed or not.
    pub(crate) fn module(&self, name: &str) -> Result<PathBuf> {
        let names = [format!("{name}.ko"), format!("{name}.ko.xz"), format!("{name}.ko.zst")];
        find(&self.modules, &names)
            .with_context(|| format!("Linux {} has no module {name}", self.release))
    }
}

/// The prefix of the names of a series' kernels, and of no others.
fn prefix(series: &str) -> String {
    format!("linux-image-{series}.")
}

/// The highest version among the kernels with this prefix.
fn newest(packages: Vec<String>, prefix: &str) -> Option<String> {
    let kernels = packages.into_iter().filter_map(|package| {
        let version = package.strip_prefix(prefix)?.strip_suffix(FLAVOUR)?;
        let numbers: Vec<u64> = version
            .split(|c: char| !c.is_ascii_digit())
            .filter_map(|number| number.parse().ok())
            .collect();
        Some((numbers, package))
    });
    kernels.max().map(|(_, package)| package)
}

fn find(directory: &Path, names: &[String]) -> Option<PathBuf> {
    let entries: Vec<PathBuf> =
        fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path()).collect();
    let wanted = |path: &&PathBuf| {
        path.file_name().is_some_and(|file| names.iter().any(|name| file == &**name))
    };
    let here = entries.iter().find(wanted).cloned();
    here.or_else(|| entries.iter().filter(|path| path.is_dir()).find_map(|path| find(path, names)))
}

fn archives_in(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    let paths = entries.flatten().map(|entry| entry.path());
    Ok(paths.filter(|path| path.extension() == Some(OsStr::new("deb"))).collect())
}

fn remove_archives(directory: &Path) -> Result<()> {
    for archive in archives_in(directory)? {
        fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
    }
    Ok(())
}

fn unpack(archive: &Path, root: &Path) -> Result<()> {
    let mut dpkg = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(archive)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start dpkg-deb")?;
    let files = dpkg.stdout.take().context("dpkg-deb has no output")?;
    let tar = Command::new("tar")
        .args(["-x", "--no-same-owner", "--keep-directory-symlink", "-C"])
        .arg(root)
        .args(UNNEEDED.map(|path| format!("--exclude={path}")))
        .stdin(files)
        .status()
        .context("start tar")?;
    let dpkg = dpkg.wait().context("wait for dpkg-deb")?;
    ensure!(tar.success() && dpkg.success(), "unpack {}: {dpkg}, {tar}", archive.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process;

    use super::*;

    fn newest_of(series: &str, packages: &[&str]) -> Option<String> {
        let packages = packages.iter().map(|package| (*package).to_owned()).collect();
        newest(packages, &prefix(series))
    }

    #[test]
    fn the_newest_is_so_by_number() {
        let packages = [
            "linux-image-6.1.0-9-cloud-amd64",
            "linux-image-6.1.0-56-cloud-amd64",
            "linux-image-6.1.0-57-cloud-amd64-dbg",
            "linux-image-6.1.0-58-cloud-amd64-unsigned",
            "linux-image-6.1.0-59-amd64",
            "linux-image-6.12.107+deb12-cloud-amd64",
            "linux-image-6.12.90+deb13-cloud-amd64",
            "linux-image-6.12-cloud-amd64",
        ];
        assert_eq!(newest_of("6.1", &packages).unwrap(), "linux-image-6.1.0-56-cloud-amd64");
        assert_eq!(newest_of("6.12", &packages).unwrap(), "linux-image-6.12.107+deb12-cloud-amd64");
        assert_eq!(newest_of("6.6", &packages), None);
    }

    #[test]
    fn a_module_is_found_where_it_is() {
        let modules = env::temp_dir().join(format!("xtask-modules-{}", process::id()));
        let net = modules.join("drivers/net");
        fs::create_dir_all(&net).unwrap();
        fs::write(net.join("veth.ko.xz"), "").unwrap();
        let kernel = Kernel {
            series: String::new(),
            release: String::new(),
            image: PathBuf::new(),
            modules: modules.clone(),
        };
        assert_eq!(kernel.module("veth").unwrap(), net.join("veth.ko.xz"));
        assert!(kernel.module("bridge").is_err());
        fs::remove_dir_all(&modules).unwrap();
    }
}
