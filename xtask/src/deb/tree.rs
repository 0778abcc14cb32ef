//! The files of a package, with one mode for each kind and the same time for all.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::step::{output, succeed};

/// A package's files, and its control files in `DEBIAN`.
pub(super) struct Tree(pub(super) PathBuf);

impl Tree {
    pub(super) fn new(root: PathBuf) -> Result<Self> {
        fs::create_dir_all(root.join("DEBIAN"))
            .with_context(|| format!("make {}", root.display()))?;
        Ok(Self(root))
    }

    pub(super) fn path(&self, relative: &str) -> PathBuf {
        self.0.join(relative)
    }

    pub(super) fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let to = self.path(to);
        make_parent(&to)?;
        fs::copy(from, &to).with_context(|| format!("copy {}", from.display()))?;
        set_mode(&to, mode)
    }

    pub(super) fn write(&self, to: &str, text: &str, mode: u32) -> Result<()> {
        let to = self.path(to);
        make_parent(&to)?;
        fs::write(&to, text).with_context(|| format!("write {}", to.display()))?;
        set_mode(&to, mode)
    }

    /// Gives every file the same time and every directory Debian's usual mode.
    pub(super) fn set_times(&self, time: &str) -> Result<()> {
        let find = || {
            let mut find = Command::new("find");
            find.arg(&self.0);
            find
        };
        succeed(find().args(["-type", "d", "-exec", "chmod", "0755", "{}", "+"]))?;
        succeed(find().args(["-exec", "touch", "--no-dereference", "--date", time, "{}", "+"]))
    }
}

/// The sorted regular files below a directory, except those in `DEBIAN`.
pub(super) fn files(directory: &Path) -> Result<Vec<String>> {
    let mut find = Command::new("find");
    find.args(["-path", "./DEBIAN", "-prune", "-o", "-type", "f", "-printf", "%P\\n"]);
    let mut files: Vec<String> =
        output(find.current_dir(directory))?.lines().map(str::to_owned).collect();
    files.sort();
    Ok(files)
}

/// Compresses a file without storing its time and name.
pub(super) fn compress(file: &Path) -> Result<()> {
    succeed(Command::new("gzip").args(["-9", "-n"]).arg(file))
}

pub(crate) fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        fs::remove_dir_all(directory).with_context(|| format!("remove {}", directory.display()))?;
    }
    Ok(())
}

pub(super) fn make_parent(path: &Path) -> Result<()> {
    let parent = path.parent().context("a file without a directory")?;
    fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))
}

pub(super) fn set_mode(path: &Path, mode: u32) -> Result<()> {
    fs::set_permissions(path, Permissions::from_mode(mode))
        .with_context(|| format!("set the mode of {}", path.display()))
}
