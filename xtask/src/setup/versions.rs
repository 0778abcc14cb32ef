//! Every version and package that set-up chooses, and nowhere else.

use std::ops::RangeInclusive;

/// The nightly that is installed where none is there: dated, so that everybody builds the program
/// with the same one, and so that nobody's own `nightly` is updated behind their back.
pub(super) const NIGHTLY: &str = "nightly-2026-10-30";

/// The least Rust whose standard library the program's dependencies build with.
pub(super) const RUST_MIN: (u32, u32) = (1, 95);

/// The version of bpf-linker, and the LLVM majors that it has a feature for.
pub(super) const BPF_LINKER: &str = "0.13.0";
pub(super) const BPF_LINKER_LLVM: RangeInclusive<u32> = 21..=23;

/// Debian's compiler with its library's source, and what bpf-linker needs to be linked to its
/// LLVM. The oldest Debian that has them.
pub(super) const DEBIAN_MIN: u32 = 12;
pub(super) const DEBIAN_LLVM: u32 = 22;
pub(super) const DEBIAN_COMPILER: [&str; 7] = [
    "rustc-web",
    "cargo-web",
    "rust-web-src",
    "llvm-22-dev",
    "libpolly-22-dev",
    "libzstd-dev",
    "zlib1g-dev",
];

/// A Debian package, and a program by which it is known on other systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) package: &'static str,
    pub(super) program: &'static str,
}

/// What the tests and the lab start.
pub(super) const TEST_TOOLS: [Tool; 4] = [
    Tool { package: "iproute2", program: "ip" },
    Tool { package: "openssh-client", program: "ssh" },
    Tool { package: "sip-tester", program: "sipp" },
    Tool { package: "sipvicious", program: "svcrack" },
];

/// What builds and checks the packages.
pub(super) const PACKAGING_TOOLS: [Tool; 3] = [
    Tool { package: "dpkg-dev", program: "dpkg-shlibdeps" },
    Tool { package: "binutils", program: "objcopy" },
    Tool { package: "lintian", program: "lintian" },
];

/// What makes the systems that the package is tried on.
pub(super) const IMAGE_TOOLS: [Tool; 2] = [
    Tool { package: "mmdebstrap", program: "mmdebstrap" },
    Tool { package: "e2fsprogs", program: "mke2fs" },
];

/// What builds libFuzzer, besides what building takes.
pub(super) const FUZZ_TOOLS: [Tool; 1] = [Tool { package: "g++", program: "c++" }];

/// What the measurements start besides.
pub(super) const BENCH_TOOLS: [Tool; 5] = [
    Tool { package: FAIL2BAN, program: "fail2ban-server" },
    // Without it fail2ban polls the log and is slower than where it was installed with what it
    // recommends. A module, so elsewhere it is not looked for apart from fail2ban itself.
    Tool { package: "python3-pyinotify", program: "fail2ban-server" },
    Tool { package: "iptables", program: "iptables" },
    Tool { package: "nftables", program: "nft" },
    Tool { package: "ipset", program: "ipset" },
];

/// The package whose service Debian starts as soon as it is installed.
pub(super) const FAIL2BAN: &str = "fail2ban";
