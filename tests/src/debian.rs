//! Packages of Debian that tests use without installing them.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use crate::child::{self, OnSignal};
use crate::scratch;

const DOWNLOAD_LIMIT: Duration = Duration::from_mins(2);

/// A package unpacked below `cache`; downloaded from the machine's mirror on first use. Nothing is installed.
///
/// # Errors
///
/// If it cannot be downloaded.
pub fn unpacked(cache: &Path, name: &str) -> anyhow::Result<PathBuf> {
    let root = cache.join(name);
    if root.is_dir() {
        return Ok(root);
    }
    fs::create_dir_all(cache).with_context(|| format!("make {}", cache.display()))?;
    let download = scratch::directory(&format!("{name}-package"))?;
    let mut get = Command::new("apt-get");
    // The user `_apt` may not write there.
    get.args(["-q", "-oAPT::Sandbox::User=root", "download", name]);
    get.current_dir(download.path());
    child::finish("apt-get download", &mut get, DOWNLOAD_LIMIT, OnSignal::Stop)?
        .success(&format!("apt-get download {name}"))
        .context("check that `apt-get update` works on this machine, then run this again")?;
    let entries = fs::read_dir(download.path()).context("read what was downloaded")?;
    let package = entries.flatten().map(|entry| entry.path()).next();
    // Tests of two binaries may unpack it at the same time.
    let partial = cache.join(format!("{name}.{}.partial", std::process::id()));
    let mut unpack = Command::new("dpkg-deb");
    unpack.arg("-x").arg(package.context("apt-get downloaded nothing")?).arg(&partial);
    child::finish("dpkg-deb", &mut unpack, DOWNLOAD_LIMIT, OnSignal::Stop)?.success("dpkg-deb")?;
    if let Err(why) = fs::rename(&partial, &root) {
        fs::remove_dir_all(&partial).with_context(|| format!("remove {}", partial.display()))?;
        if !root.is_dir() {
            return Err(why).with_context(|| format!("rename to {}", root.display()));
        }
    }
    Ok(root)
}

/// The directories of the libraries in these packages, as `LD_LIBRARY_PATH` has them; see [`unpacked`].
///
/// # Errors
///
/// If a package cannot be downloaded or has no libraries.
pub fn libraries(cache: &Path, packages: &[&str]) -> anyhow::Result<OsString> {
    let mut directories = Vec::new();
    for package in packages {
        // Below it is the directory of the architecture.
        let lib = unpacked(cache, package)?.join("usr/lib");
        let entries = fs::read_dir(&lib).with_context(|| format!("list {}", lib.display()))?;
        directories.extend(entries.flatten().map(|entry| entry.path()));
    }
    env::join_paths(directories).context("a directory of libraries has a colon in its name")
}
