//! Checks the requirements before anything is changed, so that the error names the missing feature or
//! right and the remedy, not a map that could not be created.

use std::path::Path;
use std::{fs, io};

use anyhow::{Result, bail};
use aya::maps::MapType;
use aya::programs::{ProgramError, ProgramType};
use aya::sys::{BpfHelper, SyscallError, is_helper_supported, is_map_supported};
use nix::errno::Errno;
use nix::sys::utsname::uname;

// include/uapi/linux/capability.h
const NEEDED: [(&str, u32); 3] = [("CAP_NET_ADMIN", 12), ("CAP_PERFMON", 38), ("CAP_BPF", 39)];
const CAP_SYS_ADMIN: u32 = 21;

/// Features of BPF that the programs need, and the kernels that introduced them.
const FEATURES: [(Feature, &str, &str); 4] = [
    (Feature::Map(MapType::RingBuf), "ring buffers", "5.8"),
    (Feature::Helper(ProgramType::Xdp, BpfHelper::BPF_FUNC_loop), "bpf_loop", "5.17"),
    (
        Feature::Helper(ProgramType::Xdp, BpfHelper::BPF_FUNC_xdp_load_bytes),
        "bpf_xdp_load_bytes",
        "5.18",
    ),
    (
        Feature::Helper(ProgramType::SchedClassifier, BpfHelper::BPF_FUNC_skb_load_bytes),
        "classifiers",
        "4.5",
    ),
];

#[derive(Clone, Copy)]
enum Feature {
    Map(MapType),
    Helper(ProgramType, BpfHelper),
}

/// The facts about the kernel and the process.
#[derive(Clone, Debug)]
struct Facts {
    /// The kernel's release.
    release: String,
    /// `/proc/self/uid_map`.
    users: String,
    /// `/proc/self/status`.
    status: String,
    /// `/sys/kernel/security/lockdown`.
    lockdown: String,
    /// Whether the kernel has type information; also true if this cannot be read.
    has_btf: bool,
    /// The result of probing each of [`FEATURES`].
    features: [Probe; FEATURES.len()],
}

/// The result of probing a feature of BPF.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Has,
    Lacks,
    Refused(Errno),
}

/// Fails if a requirement of loading and attaching is missing.
pub(super) fn check() -> Result<()> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let mut facts = Facts {
        release: uname()?.release().to_string_lossy().into_owned(),
        users: read("/proc/self/uid_map"),
        status: read("/proc/self/status"),
        lockdown: read("/sys/kernel/security/lockdown"),
        has_btf: Path::new("/sys/kernel/btf/vmlinux").exists()
            || !Path::new("/sys/kernel").exists(),
        features: [Probe::Has; FEATURES.len()],
    };
    // Only with these rights does the kernel report its features correctly.
    if facts.refusal().is_none() {
        facts.features = FEATURES.map(|(feature, ..)| probe(feature));
    }
    match facts.refusal() {
        Some(refusal) => bail!(refusal),
        None => Ok(()),
    }
}

fn probe(feature: Feature) -> Probe {
    let said = match feature {
        Feature::Map(kind) => is_map_supported(kind).map_err(|error| error.io_error),
        Feature::Helper(program, helper) => is_helper_supported(program, helper).map_err(|error| {
            if let ProgramError::SyscallError(SyscallError { io_error, .. }) = error {
                io_error
            } else {
                io::Error::other(error)
            }
        }),
    };
    match said {
        Ok(true) => Probe::Has,
        Ok(false) => Probe::Lacks,
        Err(error) => Probe::Refused(Errno::from_raw(error.raw_os_error().unwrap_or(0))),
    }
}

impl Facts {
    /// The missing requirement, with the remedy.
    fn refusal(&self) -> Option<String> {
        self.container()
            .or_else(|| self.capabilities())
            .or_else(|| self.refused())
            .or_else(|| self.kernel())
    }

    fn container(&self) -> Option<String> {
        // Root in a container may have every capability, but none that the kernel accepts here.
        is_nested(&self.users).then(|| {
            "this is an unprivileged container (its users are mapped: /proc/self/uid_map), in \
             which the kernel does not allow BPF; run Ringfence on the host and name the interface \
             on which the container's packets arrive, or make the container privileged"
                .to_owned()
        })
    }

    fn capabilities(&self) -> Option<String> {
        let missing = missing(effective(&self.status)?);
        (!missing.is_empty()).then(|| {
            format!(
                "this needs root, or the capabilities CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON; \
                 missing: {}",
                missing.join(", ")
            )
        })
    }

    /// Obstacles because of which the kernel would refuse any request.
    fn refused(&self) -> Option<String> {
        let refused =
            |probe: &Probe| if let Probe::Refused(why) = probe { Some(*why) } else { None };
        let why = self.features.iter().find_map(refused)?;
        let release = &self.release;
        Some(if why == Errno::ENOSYS {
            format!(
                "this kernel ({release}) is built without BPF (CONFIG_BPF_SYSCALL); boot a \
                 distribution kernel, Linux 6.1 or later"
            )
        } else if why != Errno::EPERM && why != Errno::EACCES {
            format!("the kernel ({release}) refuses BPF: {why}")
        } else if let Some(mode) = self.lockdown() {
            format!(
                "the kernel is locked down (`{mode}`, /sys/kernel/security/lockdown) and refuses \
                 to load BPF; boot it without `lockdown=`, or without Secure Boot if that causes \
                 the lockdown"
            )
        } else {
            format!(
                "bpf(2) is refused to this process ({why}) although it has the capabilities, by \
                 the seccomp profile of a container or a service, or by a security module such as \
                 SELinux (see its log); allow bpf(2), or run Ringfence on the host"
            )
        })
    }

    /// Features that the kernel lacks.
    fn kernel(&self) -> Option<String> {
        let features = FEATURES.iter().zip(&self.features);
        let lacking = features.filter(|(_, probe)| **probe == Probe::Lacks);
        let lacking: Vec<String> =
            lacking.map(|((_, name, since), _)| format!("{name} (Linux {since})")).collect();
        let release = &self.release;
        if !lacking.is_empty() {
            return Some(format!(
                "this kernel ({release}) is too old: it has no {}; Ringfence needs Linux 6.1 or \
                 later, as in Debian 12; install and boot a newer kernel",
                lacking.join(", ")
            ));
        }
        (!self.has_btf).then(|| {
            format!(
                "this kernel ({release}) has no type information (/sys/kernel/btf/vmlinux), which \
                 its verifier needs; boot a distribution kernel, or build this one with \
                 CONFIG_DEBUG_INFO_BTF=y"
            )
        })
    }

    /// The active mode of lockdown, as the kernel marks it.
    fn lockdown(&self) -> Option<&str> {
        let (_, rest) = self.lockdown.split_once('[')?;
        let (mode, _) = rest.split_once(']')?;
        (mode != "none").then_some(mode)
    }
}

/// Whether a user map is that of a separate user namespace.
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
    fn capabilities_that_are_missing_are_named() {
        assert_eq!(missing(u64::MAX), Vec::<&str>::new());
        assert_eq!(missing(1 << 39 | 1 << 12), ["CAP_PERFMON"]);
        assert_eq!(missing(1 << 21), ["CAP_NET_ADMIN"]);
        assert_eq!(effective("Name:\tx\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective(""), None);
    }

    /// A host that meets all requirements.
    fn debian_12() -> Facts {
        Facts {
            release: "6.1.0-40-amd64".to_owned(),
            users: "0 0 4294967295\n".to_owned(),
            status: "CapEff:\t000001ffffffffff\n".to_owned(),
            lockdown: "[none] integrity confidentiality\n".to_owned(),
            has_btf: true,
            features: [Probe::Has; FEATURES.len()],
        }
    }

    #[test]
    fn each_lack_has_one_message_that_says_what_to_do() {
        let old = |release: &str, lacking: &[usize]| {
            let mut facts = Facts { release: release.to_owned(), ..debian_12() };
            for place in lacking {
                facts.features[*place] = Probe::Lacks;
            }
            facts
        };
        let refused = |why: Errno| Facts { features: [Probe::Refused(why); 4], ..debian_12() };
        let locked = |mode: &str| Facts { lockdown: mode.to_owned(), ..refused(Errno::EPERM) };
        // The facts, and the texts that the message must contain.
        let table: [(&str, Facts, &[&str]); 11] = [
            (
                "Debian 10",
                old("4.19.0-27-amd64", &[0, 1, 2]),
                &[
                    "(4.19.0-27-amd64) is too old",
                    "ring buffers (Linux 5.8), bpf_loop (Linux 5.17), ",
                    "boot a newer",
                ],
            ),
            (
                "Debian 11",
                old("5.10.0-35-amd64", &[1, 2]),
                &[
                    "it has no bpf_loop (Linux 5.17), bpf_xdp_load_bytes (Linux 5.18);",
                    "Linux 6.1 or later",
                ],
            ),
            ("5.17", old("5.17.1", &[2]), &["it has no bpf_xdp_load_bytes (Linux 5.18);"]),
            ("no classifiers", old("6.1.0", &[3]), &["it has no classifiers"]),
            (
                "no BPF",
                refused(Errno::ENOSYS),
                &["CONFIG_BPF_SYSCALL", "boot a distribution kernel"],
            ),
            (
                "no BTF",
                Facts { has_btf: false, ..debian_12() },
                &["/sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF=y"],
            ),
            (
                "LXC",
                Facts { users: "0 100000 65536\n".to_owned(), ..refused(Errno::EPERM) },
                &["unprivileged container", "run Ringfence on the host"],
            ),
            (
                "no root",
                Facts { status: "CapEff:\t0000000000000000\n".to_owned(), ..refused(Errno::EPERM) },
                &["needs root", "missing: CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF"],
            ),
            (
                "lockdown",
                locked("none integrity [confidentiality]\n"),
                &["locked down (`confidentiality`", "without `lockdown=`"],
            ),
            (
                "seccomp",
                locked("[none] integrity confidentiality\n"),
                &["EPERM", "seccomp", "allow bpf(2)"],
            ),
            ("no memory", refused(Errno::ENOMEM), &["refuses BPF: ENOMEM"]),
        ];
        assert_eq!(debian_12().refusal(), None);
        for (name, facts, says) in table {
            let said = facts.refusal().unwrap_or_default();
            for part in says {
                assert!(said.contains(part), "{name}: {said}");
            }
            assert!(!said.contains('\n') && said.len() < 300, "{name}: {said}");
        }
    }

    /// The machine that runs the tests meets the requirements; without the rights, the message says so.
    #[test]
    fn this_kernel_is_asked() {
        let said = check().err().map(|error| error.to_string());
        let is_right =
            said.as_ref().is_none_or(|said| said.contains("root") || said.contains("container"));
        assert!(is_right, "{said:?}");
    }
}
