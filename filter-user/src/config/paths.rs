//! Where the daemon keeps its files.

use std::path::PathBuf;

use super::section::section;

section! {
    /// Where the daemon keeps its files.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Paths {
        state: PathBuf = "/var/lib/ringfence".into(),
            "The directory for the daemon's state: bans with their evidence, \
             earlier bans, and positions in logs.",
            Path();
        runtime: PathBuf = "/run/ringfence".into(),
            "The directory for the control socket.",
            Path();
        bpffs: PathBuf = "/sys/fs/bpf/ringfence".into(),
            "The directory on the BPF file system for the pinned filter and its maps. No other \
             program may use it.",
            Path();
    }
}

impl Paths {
    /// The socket that the commands use.
    pub fn control_socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }
}
