//! `ebpf.env`, which `filter-user/datapath/build.rs` reads to build the XDP program.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// The file's name in the toolchain's directory.
const NAME: &str = "ebpf.env";

/// The compiler and linker of the XDP program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EbpfEnv {
    /// The cargo of that compiler.
    pub(super) cargo: PathBuf,
    /// The compiler.
    pub(super) rustc: PathBuf,
    /// Its name in rustup. A compiler without one is stable, and accepts nightly features only with
    /// `RUSTC_BOOTSTRAP`.
    pub(super) rustup_toolchain: Option<String>,
    /// `bpf-linker`.
    pub(super) linker: PathBuf,
}

impl EbpfEnv {
    /// Reads the file, if it exists.
    pub(super) fn read(toolchain: &Path) -> Result<Self> {
        let path = toolchain.join(NAME);
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("read {}", path.display()))
    }

    /// Writes the file; an unchanged file keeps its time, so that nothing is rebuilt.
    pub(super) fn write(&self, toolchain: &Path) -> Result<()> {
        let path = toolchain.join(NAME);
        let text = self.to_text();
        if fs::read_to_string(&path).is_ok_and(|old| old == text) {
            return Ok(());
        }
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))
    }

    fn to_text(&self) -> String {
        let nightly = match &self.rustup_toolchain {
            Some(name) => format!("RUSTUP_TOOLCHAIN={name}"),
            None => "RUSTC_BOOTSTRAP=1".to_owned(),
        };
        format!(
            "CARGO={}\nRUSTC={}\n{nightly}\nLINKER={}\n",
            self.cargo.display(),
            self.rustc.display(),
            self.linker.display()
        )
    }

    fn parse(text: &str) -> Result<Self> {
        let value =
            |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        let required = |key: &str| value(key).with_context(|| format!("no {key}"));
        let rustup_toolchain = value("RUSTUP_TOOLCHAIN").map(str::to_owned);
        if rustup_toolchain.is_none() && value("RUSTC_BOOTSTRAP") != Some("1") {
            bail!("neither RUSTUP_TOOLCHAIN nor RUSTC_BOOTSTRAP");
        }
        Ok(Self {
            cargo: required("CARGO")?.into(),
            rustc: required("RUSTC")?.into(),
            rustup_toolchain,
            linker: required("LINKER")?.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_debian() -> EbpfEnv {
        EbpfEnv {
            cargo: "/usr/bin/cargo".into(),
            rustc: "/usr/bin/rustc".into(),
            rustup_toolchain: None,
            linker: "/src/target/toolchain/bin/bpf-linker".into(),
        }
    }

    #[test]
    fn a_stable_compiler_is_told_to_bootstrap() {
        assert_eq!(
            of_debian().to_text(),
            "CARGO=/usr/bin/cargo\nRUSTC=/usr/bin/rustc\nRUSTC_BOOTSTRAP=1\n\
             LINKER=/src/target/toolchain/bin/bpf-linker\n"
        );
    }

    #[test]
    fn a_nightly_is_named() {
        let env = EbpfEnv { rustup_toolchain: Some("nightly-x".into()), ..of_debian() };
        assert!(env.to_text().contains("RUSTUP_TOOLCHAIN=nightly-x\n"));
        assert!(!env.to_text().contains("BOOTSTRAP"));
    }

    #[test]
    fn what_was_written_is_read() {
        let nightly = EbpfEnv { rustup_toolchain: Some("nightly-x".into()), ..of_debian() };
        for env in [of_debian(), nightly] {
            assert_eq!(EbpfEnv::parse(&env.to_text()).unwrap(), env);
        }
    }

    #[test]
    fn a_cut_file_is_refused() {
        assert!(EbpfEnv::parse("CARGO=/usr/bin/cargo\nRUSTC=/usr/bin/rustc\n").is_err());
        assert!(EbpfEnv::parse("CARGO=/c\nRUSTC=/r\nRUSTC_BOOTSTRAP=1\n").is_err());
    }
}
