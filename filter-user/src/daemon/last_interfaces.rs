//! Remembers the protected interfaces over a reboot, so that the filter is attached before the network has
//! a default route.

use std::fs;
use std::path::Path;

use filter_common::limits::INTERFACES;
use log::warn;

use crate::datapath::Interface;
use crate::whole_file;

/// The file, in the directory of the state.
const FILE: &str = "interfaces";

/// The longest file that is read. The kernel's names have at most 15 bytes.
const LENGTH_MAX: usize = INTERFACES * 16;

/// Saves the names of the interfaces that have the program.
pub(super) fn remember(state: &Path, interfaces: &[Interface]) {
    let protected = interfaces.iter().filter(|interface| interface.unprotected.is_none());
    let names = protected.map(|interface| interface.name.as_str()).collect::<Vec<_>>().join("\n");
    let file = state.join(FILE);
    if names.is_empty() || fs::read_to_string(&file).is_ok_and(|old| old == names) {
        return;
    }
    if let Err(why) = whole_file::replace(&file, names.as_bytes()) {
        warn!("cannot save which interfaces are protected: {why}");
    }
}

/// The names that were saved last; none if the file cannot be read.
pub(super) fn recall(state: &Path) -> Vec<String> {
    let names = fs::read_to_string(state.join(FILE)).unwrap_or_default();
    if names.len() > LENGTH_MAX {
        return Vec::new();
    }
    names.lines().filter(|name| !name.is_empty()).take(INTERFACES).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_recalled_from_a_missing_or_a_huge_file() {
        let state = tempfile::tempdir().unwrap();
        assert!(recall(state.path()).is_empty());
        fs::write(state.path().join(FILE), "eth0\neth1\n").unwrap();
        assert_eq!(recall(state.path()), ["eth0", "eth1"]);
        fs::write(state.path().join(FILE), "eth0\n".repeat(LENGTH_MAX)).unwrap();
        assert!(recall(state.path()).is_empty());
        remember(state.path(), &[]);
        assert!(state.path().join(FILE).exists());
    }
}
