//! Builds the shipped binary for an architecture, with the same bytes in any directory.
//!
//! Paths that would make the bytes depend on the directory are replaced: those of the workspace, the
//! crates and the compilers. `filter-user/datapath/build.rs` does the same for the XDP program.

use std::env;
use std::env::consts::ARCH;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use clap::ValueEnum;

use crate::step::{output, succeed};
use crate::workspace::{Workspace, cargo, find_program};

/// The directory of the sources in the debug information. A debugger can map it to any directory.
const SOURCES: &str = "/usr/src/ringfence";
/// The same for the sources of the dependencies.
const CRATES: &str = "/usr/src/crates";

/// An architecture. The names are Debian's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Architecture {
    /// `x86_64`
    Amd64,
    /// `aarch64`
    Arm64,
}

impl Architecture {
    /// The architecture of this machine.
    pub(crate) fn native() -> Result<Self> {
        match ARCH {
            "x86_64" => Ok(Self::Amd64),
            "aarch64" => Ok(Self::Arm64),
            other => bail!("there are packages for x86_64 and aarch64, and this is {other}"),
        }
    }

    pub(crate) fn is_native(self) -> bool {
        Self::native().is_ok_and(|native| native == self)
    }

    pub(crate) fn debian(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    fn rust(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// Rust's target name.
    pub(crate) fn target(self) -> String {
        format!("{}-unknown-linux-gnu", self.rust())
    }

    /// The directory of the libraries of Debian's cross compiler.
    pub(crate) fn cross_libraries(self) -> PathBuf {
        format!("/usr/{}-linux-gnu/lib", self.rust()).into()
    }

    /// The name of a binutils program for this architecture.
    pub(crate) fn tool(self, name: &str) -> String {
        if self.is_native() { name.to_owned() } else { format!("{}-linux-gnu-{name}", self.rust()) }
    }

    /// Fails if this machine cannot build for it. The error says what to install.
    pub(crate) fn require(self) -> Result<()> {
        if self.is_native() {
            return Ok(());
        }
        let (debian, linker, target) = (self.debian(), self.tool("gcc"), self.target());
        ensure!(
            find_program(&linker).is_some() && self.cross_libraries().join("libc.so.6").exists(),
            "the linker {linker} or its libraries are missing, so there is no package for {debian}: \
             apt install gcc-{rust}-linux-gnu libc6-dev-{debian}-cross",
            rust = self.rust().replace('_', "-"),
        );
        let library = sysroot()?.join("lib/rustlib").join(&target).join("lib");
        ensure!(
            library.is_dir(),
            "Rust's standard library for {debian} is missing: rustup target add {target}"
        );
        Ok(())
    }
}

/// Saves 0.7 MB: relocations as a bitmap, which glibc reads since 2.36, that of Debian 12.
const PACKED_RELOCATIONS: &str = "-Clink-arg=-Wl,-z,pack-relative-relocs";

/// The package of `ringfence`, and its binary.
pub(crate) const PRODUCT: (&str, &str) = ("filter-user", "ringfence");

/// The same of the agent of a fleet. It has a command of its own, because features that only it needs would otherwise
/// become part of `ringfence`.
pub(crate) const AGENT: (&str, &str) = ("fleet-agent", "ringfence-fleet");

/// Builds a binary below `target` and returns its path. `root` is the workspace or a copy of it.
pub(crate) fn build(
    (package, binary): (&str, &str),
    (root, target): (&Path, &Path),
    architecture: Architecture,
    epoch: &str,
) -> Result<PathBuf> {
    architecture.require()?;
    let triple = architecture.target();
    let paths = replaced_paths(root, target)?;
    let flags = |option: &str| -> Vec<String> {
        paths.iter().map(|(from, to)| format!("{option}={}={to}", from.display())).collect()
    };
    let mut rustflags = flags("--remap-path-prefix");
    rustflags.push(PACKED_RELOCATIONS.to_owned());
    let mut command = Command::new(cargo());
    command
        .args(["build", "--locked", "--profile", "shipped", "--target", &triple])
        .args(["--package", package, "--bin", binary])
        .current_dir(root)
        .env("CARGO_TARGET_DIR", target)
        .env("CARGO_ENCODED_RUSTFLAGS", rustflags.join("\x1f"))
        // For the C code of SQLite.
        .env(format!("CFLAGS_{}", triple.replace('-', "_")), flags("-ffile-prefix-map").join(" "))
        .env("SOURCE_DATE_EPOCH", epoch);
    if !architecture.is_native() {
        let variable = triple.to_uppercase().replace('-', "_");
        command.env(format!("CARGO_TARGET_{variable}_LINKER"), architecture.tool("gcc"));
    }
    succeed(&mut command)?;
    Ok(target.join(triple).join("shipped").join(binary))
}

/// Paths that would be in the binary, and their replacements. The last match applies.
fn replaced_paths(root: &Path, target: &Path) -> Result<Vec<(PathBuf, String)>> {
    let rustc = output(Command::new(rustc()).arg("-vV"))?;
    let commit = rustc.lines().find_map(|line| line.strip_prefix("commit-hash: "));
    // The path that the library itself reports. With the component `rust-src`, rustc replaces it.
    let library = format!("/rustc/{}", commit.unwrap_or("unknown"));
    let mut paths = vec![
        (target.to_owned(), format!("{SOURCES}/target")),
        (root.to_owned(), SOURCES.to_owned()),
        (sysroot()?.join("lib/rustlib/src/rust"), library),
    ];
    // The name of this directory depends on the source of the crates.
    let sources = cargo_home()?.join("registry/src");
    for entry in fs::read_dir(&sources).with_context(|| format!("list {}", sources.display()))? {
        paths.push((entry.context("list the crates' sources")?.path(), CRATES.to_owned()));
    }
    Ok(paths)
}

fn rustc() -> OsString {
    env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"))
}

fn sysroot() -> Result<PathBuf> {
    Ok(PathBuf::from(output(Command::new(rustc()).args(["--print", "sysroot"]))?))
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(PathBuf::from(home));
    }
    let home = env::var_os("HOME").context("neither CARGO_HOME nor HOME is set")?;
    Ok(PathBuf::from(home).join(".cargo"))
}

/// The time of everything that is shipped, in seconds since 1970: the time of the last commit.
pub(crate) fn epoch(workspace: &Workspace) -> Result<String> {
    match env::var("SOURCE_DATE_EPOCH") {
        Ok(epoch) => Ok(epoch),
        Err(_unset) => {
            let mut git = Command::new("git");
            output(git.args(["log", "-1", "--format=%ct"]).current_dir(workspace.root()))
                .context("set SOURCE_DATE_EPOCH where there is no git repository")
        }
    }
}

/// Copies the sources to another directory: all files that git knows, with their present content.
pub(crate) fn copy_sources(workspace: &Workspace, to: &Path) -> Result<()> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    let files = output(git.current_dir(workspace.root())).context("list the sources")?;
    for file in files.lines() {
        let (from, to) = (workspace.root().join(file), to.join(file));
        // git still lists deleted files.
        if !from.is_file() {
            continue;
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        }
        fs::copy(&from, &to).with_context(|| format!("copy {}", from.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_architecture_has_one_name_in_each_language() {
        let arm = Architecture::Arm64;
        assert_eq!((arm.debian(), &*arm.target()), ("arm64", "aarch64-unknown-linux-gnu"));
        let native = Architecture::native().unwrap();
        assert_eq!(native.tool("objcopy"), "objcopy");
        for other in [Architecture::Amd64, arm].into_iter().filter(|other| *other != native) {
            assert!(other.tool("objcopy").ends_with("-linux-gnu-objcopy"));
        }
    }

    #[test]
    fn no_path_of_this_machine_is_kept() {
        let paths = replaced_paths(Path::new("/src"), Path::new("/src/target")).unwrap();
        let to = |from: &str| {
            paths.iter().find(|(path, _)| path == Path::new(from)).map(|(_, to)| to.as_str())
        };
        assert_eq!(to("/src"), Some("/usr/src/ringfence"));
        assert!(paths.iter().any(|(_, to)| to == CRATES), "{paths:?}");
        assert!(
            paths.iter().all(|(_, to)| to.starts_with("/usr/src/") || to.starts_with("/rustc/"))
        );
    }
}
