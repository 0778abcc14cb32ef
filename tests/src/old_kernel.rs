//! A library that makes a program believe that the kernel is Debian 12's, Linux 6.1: by its version, and
//! without the generic netlink of later kernels. It cannot hide other differences.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use tempfile::TempDir;

use crate::child::{self, OnSignal};
use crate::scratch;

const SOURCE: &str = include_str!("old_kernel.c");

/// The library, removed on drop.
#[derive(Debug)]
pub struct OldKernel {
    directory: TempDir,
}

impl OldKernel {
    /// Builds it with the compiler that links Rust programs.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn new() -> anyhow::Result<Self> {
        let directory = scratch::directory("kernel")?;
        let (source, library) = (directory.path().join("old.c"), directory.path().join("old.so"));
        fs::write(&source, SOURCE).context("write the library's source")?;
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).arg("-ldl");
        child::finish("cc", &mut command, Duration::from_secs(30), OnSignal::Stop)?
            .success("cc")?;
        Ok(Self { directory })
    }

    /// Its path, for [`crate::ringfence::Config::preload`].
    pub fn library(&self) -> PathBuf {
        self.directory.path().join("old.so")
    }
}
