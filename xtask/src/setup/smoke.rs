//! A program of one instruction, to test whether compiler and linker are compatible.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::ebpf_env::EbpfEnv;
use crate::step::Steps;

/// Without `core`, which takes half a minute to build. The usual faults are that compiler and linker
/// disagree about LLVM's bitcode or BTF.
const PROGRAM: &str = r#"#![feature(no_core, lang_items)]
#![no_core]
#![no_main]
#[lang = "pointee_sized"]
trait PointeeSized {}
#[lang = "meta_sized"]
trait MetaSized: PointeeSized {}
#[lang = "sized"]
trait Sized: MetaSized {}
#[lang = "copy"]
trait Copy {}
#[unsafe(no_mangle)]
#[unsafe(link_section = "xdp")]
extern "C" fn smoke() {}
"#;

/// Builds the program; fails if the two do not match.
pub(super) fn build(steps: &Steps, toolchain: &Path, env: &EbpfEnv) -> Result<()> {
    let directory = toolchain.join("smoke");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let source = directory.join("smoke.rs");
    fs::write(&source, PROGRAM).with_context(|| format!("write {}", source.display()))?;
    let mut command = Command::new(&env.rustc);
    command
        .args(["--target", "bpfel-unknown-none", "--crate-type", "bin", "--edition", "2024"])
        .args(["-Copt-level=3", "-Cdebuginfo=2", "-Clink-arg=--btf", "-Cpanic=abort"])
        .arg(format!("-Clinker={}", env.linker.display()))
        .arg("-o")
        .arg(directory.join("smoke.o"))
        .arg(source)
        .env_remove("LD_LIBRARY_PATH");
    match &env.rustup_toolchain {
        Some(name) => command.env("RUSTUP_TOOLCHAIN", name),
        None => command.env("RUSTC_BOOTSTRAP", "1"),
    };
    steps.run("smoke", "build a program of one instruction with it", &mut command)
}
