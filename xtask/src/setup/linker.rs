//! `bpf-linker`, built with the LLVM of the compiler whose output it links.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::compiler::Compiler;
use super::versions::BPF_LINKER;
use crate::step::Steps;
use crate::workspace::cargo;

/// The linker's path after its installation.
pub(super) fn path(toolchain: &Path) -> PathBuf {
    toolchain.join("bin/bpf-linker")
}

/// Fails unless the linker exists, has the right version, uses LLVM `llvm`, and starts.
pub(super) fn check(toolchain: &Path, llvm: u32) -> Result<()> {
    // Cargo's record of the programs that it has installed below this root.
    let record = fs::read_to_string(toolchain.join(".crates2.json")).unwrap_or_default();
    if !is_recorded(&record, llvm) {
        bail!("bpf-linker {BPF_LINKER} for LLVM {llvm} is not installed");
    }
    let starts = Command::new(path(toolchain))
        .arg("--version")
        .env_remove("LD_LIBRARY_PATH")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !starts {
        bail!("{} does not start", path(toolchain).display());
    }
    Ok(())
}

fn is_recorded(crates2: &str, llvm: u32) -> bool {
    crates2.contains(&format!("\"bpf-linker {BPF_LINKER} "))
        && crates2.contains(&format!("\"features\":[\"llvm-{llvm}\"]"))
}

/// Builds the linker for `compiler`.
pub(super) fn install(steps: &Steps, toolchain: &Path, compiler: &Compiler) -> Result<()> {
    let llvm = compiler.version.llvm;
    let build = toolchain.join("build");
    let mut command = Command::new(cargo());
    command
        // Optimised, it saves half a second for each link, and takes half a minute more to build.
        .args(["install", "bpf-linker", "--locked", "--force", "--debug", "--version", BPF_LINKER])
        .args(["--no-default-features", "--features", &format!("llvm-{llvm}")])
        .arg("--root")
        .arg(toolchain)
        .env("CARGO_PROFILE_DEV_DEBUG", "none")
        .env("LLVM_PREFIX", &compiler.llvm_prefix)
        .env("CARGO_TARGET_DIR", &build);
    let what = format!("cargo install bpf-linker {BPF_LINKER} for LLVM {llvm} (a minute)");
    steps.run("bpf-linker", &what, &mut command)?;
    fs::remove_dir_all(&build).with_context(|| format!("remove {}", build.display()))?;
    check(toolchain, llvm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_must_name_version_and_llvm() {
        let record = format!(
            "{{\"installs\":{{\"bpf-linker {BPF_LINKER} (registry+index)\":{{\"bins\":\
             [\"bpf-linker\"],\"features\":[\"llvm-22\"],\"all_features\":false}}}}}}"
        );
        assert!(is_recorded(&record, 22));
        assert!(!is_recorded(&record, 23));
        assert!(!is_recorded(&record.replace(BPF_LINKER, "0.9.0"), 22));
        assert!(!is_recorded("", 22));
    }
}
