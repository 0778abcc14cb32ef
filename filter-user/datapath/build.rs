//! Builds the XDP program that the library embeds.
//!
//! The BPF target needs its own compiler and linker. `cargo xtask setup` chooses them and writes their
//! names to `<target>/toolchain/ebpf.env`.

#![expect(clippy::disallowed_methods, reason = "the crate's walls are not those of its build")]

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

const OBJECT: &str = "ringfence-ebpf";
const TARGET: &str = "bpfel-unknown-none";
const PROFILE: &str = "ebpf";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            for line in why.lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("../..");
    let settings_file = settings_file(&out)?;
    for watched in ["filter-ebpf", "filter-common", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", workspace.join(watched).display());
    }
    println!("cargo::rerun-if-changed={}", settings_file.display());
    println!("cargo::rerun-if-changed=build.rs");

    let settings = read_settings(&settings_file)?;
    let setting = |key: &str| {
        settings.get(key).ok_or_else(|| {
            format!("{} has no {key}; run `cargo xtask setup` again", settings_file.display())
        })
    };
    let linker = setting("LINKER")?;
    println!("cargo::rerun-if-changed={linker}");

    // One directory for all profiles, so that `core` is built once.
    let target_dir = settings_file.ancestors().nth(2).unwrap_or(&out).join("ebpf");
    let mut flags = vec![
        format!("-Clinker={linker}"),
        "-Clink-arg=--btf".to_owned(),
        "-Cdebuginfo=2".to_owned(),
        // Atomic compare-and-exchange and 32-bit jumps, which Linux supports since 5.12.
        "-Ctarget-cpu=v3".to_owned(),
        // The kernel structures that aya-ebpf uses.
        format!("--cfg=bpf_target_arch=\"{}\"", variable("CARGO_CFG_TARGET_ARCH")?),
    ];
    flags.extend(path_flags(&workspace, Path::new(setting("RUSTC")?))?);
    let mut cargo = Command::new(setting("CARGO")?);
    // The variables that cargo has set for this script concern the host's compiler.
    for (key, _) in env::vars_os() {
        let key = key.to_string_lossy();
        if key.starts_with("CARGO") && key != "CARGO_HOME" || key.starts_with("RUST") {
            cargo.env_remove(&*key);
        }
    }
    if let Some(home) = env::var_os("RUSTUP_HOME") {
        cargo.env("RUSTUP_HOME", home);
    }
    for (key, value) in &settings {
        if !matches!(key.as_str(), "CARGO" | "LINKER") {
            cargo.env(key, value);
        }
    }
    cargo
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .current_dir(&workspace)
        .args(["build", "--package", "filter-ebpf", "--profile", PROFILE, "--target", TARGET])
        .args(["-Z", "build-std=core", "--locked", "--target-dir"])
        .arg(&target_dir);
    if env::var_os("CARGO_FEATURE_TRACE").is_some() {
        cargo.args(["--features", "trace"]);
    }
    let status = cargo.status().map_err(|e| format!("{}: {e}", setting_path(&cargo)))?;
    if !status.success() {
        return Err(format!("the XDP program does not build ({status}); its errors are above"));
    }
    // A copy for this build, because another one may have other features.
    let built = target_dir.join(TARGET).join(PROFILE).join(OBJECT);
    let object = out.join(OBJECT);
    strip(Path::new(setting("RUSTC")?), &built, &object)?;
    println!("cargo::rustc-env=RINGFENCE_EBPF_OBJECT={}", object.display());
    Ok(())
}

/// Copies the object without DWARF: the kernel and aya read only BTF, and DWARF would be most of it.
fn strip(rustc: &Path, built: &Path, object: &Path) -> Result<(), String> {
    let host = variable("HOST")?;
    let sysroot = rustc.ancestors().nth(2).unwrap_or(rustc);
    let objcopy = sysroot.join("lib/rustlib").join(host).join("bin/rust-objcopy");
    let status = Command::new(&objcopy)
        .arg("--strip-debug")
        .args([built, object])
        .status()
        .map_err(|e| format!("{}: {e}; run `cargo xtask setup` again", objcopy.display()))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} cannot strip {} ({status})", objcopy.display(), built.display()))
    }
}

/// Flags by which the object has the same bytes wherever it is built. The workspace becomes `.`, where the
/// linker runs, so that it still finds the source lines that the verifier quotes.
fn path_flags(workspace: &Path, rustc: &Path) -> Result<Vec<String>, String> {
    let root = workspace.canonicalize().map_err(|e| format!("{}: {e}", workspace.display()))?;
    let sysroot = rustc.ancestors().nth(2).unwrap_or(rustc);
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let registries = home.and_then(|home| fs::read_dir(home.join("registry/src")).ok());
    // The name of a registry's directory depends on where its crates were downloaded from.
    let registries = registries.into_iter().flatten().flatten().map(|entry| entry.path());
    let paths = registries.map(|registry| (registry, "crates"));
    let paths = paths.chain([(sysroot.to_owned(), "rust"), (root, ".")]);
    Ok(paths.map(|(from, to)| format!("--remap-path-prefix={}={to}", from.display())).collect())
}

/// `<target>/toolchain/ebpf.env`, whatever the name of the target directory is: the script's own output
/// is below it.
fn settings_file(out: &Path) -> Result<PathBuf, String> {
    out.ancestors()
        .map(|dir| dir.join("toolchain/ebpf.env"))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            "the compiler for the XDP program has not been set up; \
             run `cargo xtask setup` (once) and build again"
                .to_owned()
        })
}

fn read_settings(file: &Path) -> Result<BTreeMap<String, String>, String> {
    let text = fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    Ok(pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect())
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|e| format!("{name}: {e}"))
}

fn setting_path(cargo: &Command) -> String {
    cargo.get_program().to_string_lossy().into_owned()
}
