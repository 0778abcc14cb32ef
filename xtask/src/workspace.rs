//! The paths of the workspace, and `cargo` as this workspace calls it.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The workspace and cargo's target directory.
pub(crate) struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// Runs cargo, so that `CARGO_TARGET_DIR` and cargo's configuration apply.
    pub(crate) fn find() -> Result<Self> {
        let manifest_dir = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = manifest_dir.parent().context("xtask lies in no workspace")?.to_path_buf();
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--offline", "--format-version", "1"])
            .arg("--manifest-path")
            .arg(root.join("Cargo.toml"))
            .stderr(Stdio::inherit())
            .output()
            .context("run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata failed: {}", output.status);
        }
        let metadata = String::from_utf8(output.stdout).context("cargo metadata is not UTF-8")?;
        let target = json_string(&metadata, "target_directory")
            .context("cargo metadata names no target_directory")?;
        Ok(Self { root, target: PathBuf::from(target) })
    }

    /// The workspace's root.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// Cargo's target directory.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    /// The directory of the XDP program's linker and `ebpf.env`.
    pub(crate) fn toolchain(&self) -> PathBuf {
        self.target.join("toolchain")
    }

    /// The directory that the lab keeps between runs.
    pub(crate) fn lab_cache(&self) -> PathBuf {
        self.target.join("lab")
    }

    /// The path of a release binary, whether it exists or not.
    pub(crate) fn release_binary(&self, name: &str) -> PathBuf {
        self.target.join("release").join(name)
    }

    /// The path of a binary of the `dev` profile, whether it exists or not.
    pub(crate) fn debug_binary(&self, name: &str) -> PathBuf {
        self.target.join("debug").join(name)
    }

    /// `cargo VERB` at the workspace's root.
    pub(crate) fn cargo(&self, verb: &str) -> Command {
        let mut command = Command::new(cargo());
        command.arg(verb).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.target);
        // `cargo xtask` has set these for xtask. With them, cargo would build again what depends on them and was
        // built without: a build script of `ring` asks for them, and most tests depend on it.
        for (key, _) in env::vars_os() {
            if is_of_package(&key.to_string_lossy()) {
                command.env_remove(key);
            }
        }
        command
    }
}

/// Whether cargo sets this variable for the package that it runs.
fn is_of_package(key: &str) -> bool {
    ["CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|start| key.starts_with(start))
}

/// The cargo that runs this, or the one in `PATH`.
pub(crate) fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"))
}

/// A program in `PATH`, or in Debian's directories for administrators' programs, which are not in an
/// ordinary user's `PATH`.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

/// The value of a string key in JSON text, for a key that occurs once.
pub(crate) fn json_string(json: &str, key: &str) -> Option<String> {
    let (_, rest) = json.split_once(&format!("\"{key}\":\""))?;
    let mut value = String::new();
    let mut chars = rest.chars();
    loop {
        match chars.next()? {
            '"' => return Some(value),
            '\\' => value.push(chars.next()?),
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_target_directory_out_of_cargo_metadata() {
        let json = r#"{"resolve":null,"target_directory":"/src/a \"b\"/target","version":1}"#;
        assert_eq!(json_string(json, "target_directory").unwrap(), r#"/src/a "b"/target"#);
    }

    #[test]
    fn a_missing_or_cut_key_is_none() {
        assert_eq!(json_string("{}", "target_directory"), None);
        assert_eq!(json_string(r#"{"target_directory":"/sr"#, "target_directory"), None);
    }

    #[test]
    fn finds_a_shell_and_no_nonsense() {
        assert!(find_program("sh").is_some());
        assert_eq!(find_program("no-such-program-anywhere"), None);
    }
}
