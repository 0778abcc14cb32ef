//! What the kernel asks of the process, asked before anything is changed.

use std::fs;

use anyhow::{Context as _, Result, bail};

// include/uapi/linux/capability.h
const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
const CAP_SYS_ADMIN: u32 = 21;

/// Fails when the process lacks a capability that loading and attaching take.
pub(super) fn check() -> Result<()> {
    // Root in a container may have every capability, and none that counts for the kernel.
    let users = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    if is_nested(&users) {
        bail!(
            "this is an unprivileged container (its users are mapped: /proc/self/uid_map), where the \
             kernel lets nobody load BPF; run Ringfence on the host and name the interface by which the \
             container's packets come in there, or make the container a privileged one"
        );
    }
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let Some(effective) = effective(&status) else { return Ok(()) };
    let missing = missing(effective);
    if !missing.is_empty() {
        bail!(
            "this takes root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; missing: {}",
            missing.join(", ")
        );
    }
    Ok(())
}

/// Whether a map of users is that of a user namespace of its own.
fn is_nested(users: &str) -> bool {
    let fields: Vec<&str> = users.split_ascii_whitespace().collect();
    !fields.is_empty() && fields != ["0", "0", "4294967295"]
}

fn effective(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn missing(effective: u64) -> Vec<&'static str> {
    let has = |bit: u32| effective >> bit & 1 != 0;
    // CAP_SYS_ADMIN includes CAP_BPF and CAP_PERFMON (capabilities(7)).
    let included = |name: &str| name != "CAP_NET_ADMIN" && has(CAP_SYS_ADMIN);
    NEEDED
        .iter()
        .filter(|(name, bit)| !has(*bit) && !included(name))
        .map(|(name, _)| *name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_of_mapped_users_is_told() {
        assert!(!is_nested("         0          0 4294967295\n"));
        assert!(is_nested("         0     100000      65536\n"));
        assert!(is_nested("0 1000 1\n1 100000 65536\n"));
        assert!(!is_nested(""), "a kernel without user namespaces");
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(missing(u64::MAX), Vec::<&str>::new());
        assert_eq!(missing(1 << 39 | 1 << 12), ["CAP_PERFMON"]);
        assert_eq!(missing(1 << 21), ["CAP_NET_ADMIN"]);
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective(""), None);
    }
}
