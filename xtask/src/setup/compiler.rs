//! The compiler of the XDP program: one with the source of its standard library, from rustup or Debian.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::apt;
use super::versions::{BPF_LINKER_LLVM, DEBIAN_COMPILER, DEBIAN_LLVM, NIGHTLY, RUST_MIN};
use crate::step::{Progress, Steps, read_lossy};

/// How long rustup may take until it begins to download. Without a network it only waits and retries.
const RUSTUP_BEGIN: Duration = Duration::from_secs(4);
/// How long it may take in total.
const RUSTUP_END: Duration = Duration::from_mins(5);

/// A compiler that can build `core` for the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Compiler {
    pub(super) cargo: PathBuf,
    pub(super) rustc: PathBuf,
    pub(super) rustup_toolchain: Option<String>,
    pub(super) version: Version,
    /// A directory whose `lib` contains the `libLLVM.so` for bpf-linker.
    pub(super) llvm_prefix: PathBuf,
}

/// The output of `rustc -vV`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The version, such as `1.96.0`.
    pub(super) release: String,
    /// The major version of its LLVM.
    pub(super) llvm: u32,
}

impl Version {
    /// Runs the compiler.
    pub(super) fn of(rustc: &Path) -> Result<Self> {
        let output =
            version_command(rustc).output().with_context(|| format!("run {}", rustc.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        Self::parse(&text).with_context(|| format!("{} -vV prints no version", rustc.display()))
    }

    fn parse(rustc_vv: &str) -> Option<Self> {
        let value = |key: &str| rustc_vv.lines().find_map(|line| line.strip_prefix(key));
        let llvm = value("LLVM version: ")?.split('.').next()?.trim().parse().ok()?;
        Some(Self { release: value("release: ")?.trim().to_owned(), llvm })
    }

    /// Why the program cannot be built with it.
    fn refusal(&self) -> Option<String> {
        if !BPF_LINKER_LLVM.contains(&self.llvm) {
            return Some(format!("has LLVM {}, which bpf-linker cannot link", self.llvm));
        }
        let mut numbers = self.release.split('.').map(|number| number.parse::<u32>().ok());
        let (major, minor) = (numbers.next().flatten(), numbers.next().flatten());
        if (major?, minor?) < RUST_MIN {
            return Some(format!("is {}, older than {}.{}", self.release, RUST_MIN.0, RUST_MIN.1));
        }
        None
    }
}

fn version_command(rustc: &Path) -> Command {
    let mut command = Command::new(rustc);
    // Cargo's own library path would be searched before the compiler's.
    command.arg("-vV").env_remove("LD_LIBRARY_PATH");
    command
}

/// Whether the source of the standard library is where `rustc` looks for it.
pub(super) fn has_library_source(rustc: &Path) -> bool {
    let sysroot = rustc.parent().and_then(Path::parent);
    sysroot.is_some_and(|sysroot| {
        sysroot.join("lib/rustlib/src/rust/library/core/src/lib.rs").is_file()
    })
}

/// A nightly from rustup: an installed one with the source of its library, or a new one.
pub(super) fn from_rustup(steps: &Steps, toolchain: &Path) -> Result<Compiler> {
    if let Some(compiler) = installed_nightly(toolchain)? {
        return Ok(compiler);
    }
    let what = format!("rustup toolchain install {NIGHTLY} with rust-src");
    let mut command = rustup();
    command.args(["toolchain", "install", NIGHTLY, "--profile", "minimal"]).args([
        "--component",
        "rust-src",
        "--no-self-update",
    ]);
    steps.run_while("rustup", &what, &mut command, rustup_gets_on)?;
    installed_nightly(toolchain)?.with_context(|| format!("rustup installed no usable {NIGHTLY}"))
}

fn rustup_gets_on(progress: &Progress) -> Result<()> {
    if progress.elapsed > RUSTUP_END {
        bail!("rustup took more than {} s", RUSTUP_END.as_secs());
    }
    if progress.elapsed > RUSTUP_BEGIN && !read_lossy(progress.log).contains("info: downloading") {
        bail!("rustup did not begin a download within {} s", RUSTUP_BEGIN.as_secs());
    }
    Ok(())
}

fn installed_nightly(toolchain: &Path) -> Result<Option<Compiler>> {
    let output = rustup().args(["toolchain", "list"]).output().context("run rustup")?;
    let list = String::from_utf8_lossy(&output.stdout);
    for name in nightlies(&list) {
        let Some(sysroot) = sysroot(name)? else {
            continue;
        };
        let rustc = sysroot.join("bin/rustc");
        if !has_library_source(&rustc) {
            continue;
        }
        let version = Version::of(&rustc)?;
        if let Some(refusal) = version.refusal() {
            eprintln!("setup: rustup's {name} {refusal}");
            continue;
        }
        return Ok(Some(Compiler {
            cargo: sysroot.join("bin/cargo"),
            rustc,
            rustup_toolchain: Some(name.to_owned()),
            version,
            llvm_prefix: prefix_of_rustup(&sysroot, toolchain)?,
        }));
    }
    Ok(None)
}

/// The nightlies in `rustup toolchain list`, ours first.
fn nightlies(list: &str) -> Vec<&str> {
    let mut names: Vec<&str> = list
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with("nightly"))
        .collect();
    names.sort_by_key(|name| !name.starts_with(NIGHTLY));
    names
}

fn sysroot(toolchain: &str) -> Result<Option<PathBuf>> {
    let output = rustup()
        .args(["run", toolchain, "rustc", "--print", "sysroot"])
        .stderr(Stdio::null())
        .output()
        .context("run rustup")?;
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok((output.status.success() && !sysroot.is_empty()).then(|| sysroot.into()))
}

/// Rustup's compiler contains its LLVM as a shared library, but not under the name that a linker looks
/// for. A bpf-linker that uses this very library cannot be of another version.
fn prefix_of_rustup(sysroot: &Path, toolchain: &Path) -> Result<PathBuf> {
    let library = shared_llvm(&sysroot.join("lib"))
        .with_context(|| format!("{} has no libLLVM", sysroot.display()))?;
    let prefix = toolchain.join("llvm");
    let lib = prefix.join("lib");
    if lib.exists() {
        fs::remove_dir_all(&lib).with_context(|| format!("empty {}", lib.display()))?;
    }
    fs::create_dir_all(&lib).with_context(|| format!("create {}", lib.display()))?;
    // The first name is used when bpf-linker is built, the second when it runs.
    let names = [OsStr::new("libLLVM.so"), library.file_name().unwrap_or_default()];
    for name in names {
        symlink(&library, lib.join(name)).with_context(|| format!("link {}", library.display()))?;
    }
    Ok(prefix)
}

fn shared_llvm(lib: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(lib).ok()?;
    entries
        .flatten()
        .find(|entry| entry.file_name().to_string_lossy().starts_with("libLLVM.so."))
        .map(|entry| entry.path())
}

fn rustup() -> Command {
    let mut command = Command::new("rustup");
    // Inside `cargo run` this contains the toolchain with which xtask itself was built.
    command.env_remove("RUSTUP_TOOLCHAIN").env("RUST_BACKTRACE", "0");
    command
}

/// Debian's compiler; installs it if it is missing.
pub(super) fn from_debian(steps: &Steps) -> Result<Compiler> {
    let missing = apt::missing(&DEBIAN_COMPILER)?;
    if !missing.is_empty() {
        apt::install(steps, &missing)?;
    }
    let rustc = PathBuf::from("/usr/bin/rustc");
    let version = Version::of(&rustc)?;
    if version.llvm != DEBIAN_LLVM {
        bail!(
            "Debian's rustc {} has LLVM {}, but the packages are of LLVM {DEBIAN_LLVM}: a linker \
             of another LLVM cannot read what it compiles",
            version.release,
            version.llvm
        );
    }
    Ok(Compiler {
        cargo: "/usr/bin/cargo".into(),
        rustc,
        rustup_toolchain: None,
        version,
        llvm_prefix: format!("/usr/lib/llvm-{DEBIAN_LLVM}").into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STABLE: &str = "rustc 1.96.0 (ac68faa20 2026-05-25) (built from a source tarball)\n\
        binary: rustc\ncommit-date: 2026-05-25\nhost: x86_64-unknown-linux-gnu\n\
        release: 1.96.0\nLLVM version: 22.1.8\n";

    fn version(release: &str, llvm: u32) -> Version {
        Version { release: release.into(), llvm }
    }

    #[test]
    fn reads_release_and_llvm() {
        assert_eq!(Version::parse(STABLE), Some(version("1.96.0", 22)));
        assert_eq!(
            Version::parse("release: 1.101.0-nightly\nLLVM version: 23.1.4\n"),
            Some(version("1.101.0-nightly", 23))
        );
        assert_eq!(Version::parse("release: 1.96.0\n"), None);
        assert_eq!(Version::parse("command not found"), None);
    }

    #[test]
    fn refuses_what_cannot_build_the_program() {
        assert_eq!(version("1.96.0", 22).refusal(), None);
        assert_eq!(version("1.101.0-nightly", 23).refusal(), None);
        assert!(version("1.94.0-nightly", 21).refusal().unwrap().contains("older than 1.95"));
        assert!(version("1.110.0-nightly", 24).refusal().unwrap().contains("LLVM 24"));
    }

    #[test]
    fn our_nightly_comes_first() {
        let list = format!(
            "stable-x86_64-unknown-linux-gnu (active, default)\n\
             nightly-x86_64-unknown-linux-gnu\n{NIGHTLY}-x86_64-unknown-linux-gnu\n"
        );
        assert_eq!(
            nightlies(&list),
            [&format!("{NIGHTLY}-x86_64-unknown-linux-gnu"), "nightly-x86_64-unknown-linux-gnu"]
        );
        assert_eq!(nightlies("no installed toolchains\n"), [""; 0]);
    }
}
