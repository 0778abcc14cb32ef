//! `cargo xtask disasm`: the instructions of the XDP program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};

use crate::setup;
use crate::step::succeed;
use crate::workspace::{Workspace, find_program};

const OBJECT: &str = "ringfence-ebpf";
const DIRECTORY: &str = "bpfel-unknown-none/ebpf";
/// `target/<profile>/build/<package>/out/<target dir>/bpfel-unknown-none/ebpf` and room to spare.
const DEPTH_MAX: usize = 10;

/// Prints the newest object's instructions, with source lines if it has debug information.
pub(crate) fn run() -> Result<()> {
    let workspace = Workspace::find()?;
    let Some(object) = newest_object(workspace.target()) else {
        bail!("no {OBJECT} under {}: run `cargo xtask build`", workspace.target().display());
    };
    let objdump = objdump(&workspace)?;
    eprintln!("xtask: {} by {}", object.display(), objdump.display());
    succeed(
        Command::new(objdump).args(["--disassemble", "--source", "--no-show-raw-insn"]).arg(object),
    )
}

fn objdump(workspace: &Workspace) -> Result<PathBuf> {
    let major = setup::llvm_major(workspace)?;
    let of_debian = PathBuf::from(format!("/usr/lib/llvm-{major}/bin/llvm-objdump"));
    Some(of_debian)
        .filter(|path| path.is_file())
        .or_else(|| find_program(&format!("llvm-objdump-{major}")))
        .or_else(|| find_program("llvm-objdump"))
        .with_context(|| format!("no llvm-objdump: install LLVM {major}'s tools"))
}

fn newest_object(target: &Path) -> Option<PathBuf> {
    let mut found = Vec::new();
    collect(target, DEPTH_MAX, &mut found);
    found.into_iter().max_by_key(|(modified, _)| *modified).map(|(_, path)| path)
}

/// Adds every object below `directory`; a directory that cannot be read has none.
fn collect(directory: &Path, depth: usize, found: &mut Vec<(SystemTime, PathBuf)>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return;
    };
    if directory.ends_with(DIRECTORY) {
        let object = directory.join(OBJECT);
        if let Ok(modified) = fs::metadata(&object).and_then(|metadata| metadata.modified()) {
            found.push((modified, object));
        }
        return;
    }
    if depth == 0 {
        return;
    }
    for entry in entries.flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), depth - 1, found);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process;
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_newest_object_is_found_at_any_depth() {
        let target = env::temp_dir().join(format!("xtask-disasm-{}", process::id()));
        let old = target.join("debug/build/filter-user-1/out").join(DIRECTORY);
        let new = target.join("release/build/filter-user-2/out/x").join(DIRECTORY);
        for directory in [&old, &new] {
            fs::create_dir_all(directory).unwrap();
            fs::write(directory.join(OBJECT), "").unwrap();
        }
        let before = SystemTime::now() - Duration::from_mins(1);
        fs::File::open(old.join(OBJECT)).unwrap().set_modified(before).unwrap();
        assert_eq!(newest_object(&target), Some(new.join(OBJECT)));
        fs::remove_dir_all(&target).unwrap();
        assert_eq!(newest_object(&target), None);
    }
}
