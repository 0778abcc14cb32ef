//! All versions and packages that the set-up installs.

use std::ops::RangeInclusive;

/// The nightly to install if there is none. It is dated, so that everybody builds the program with the
/// same one, and no developer's own `nightly` is updated.
pub(super) const NIGHTLY: &str = "nightly-2026-10-30";

/// The oldest Rust whose standard library builds with the program's dependencies.
pub(super) const RUST_MIN: (u32, u32) = (1, 95);

/// The version of bpf-linker, and the LLVM versions for which it has a feature.
pub(super) const BPF_LINKER: &str = "0.13.0";
pub(super) const BPF_LINKER_LLVM: RangeInclusive<u32> = 21..=23;

/// Debian's compiler with the source of its library, and the packages that bpf-linker needs for its LLVM.
/// The oldest Debian that has them.
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

/// A Debian package, and a program that identifies it on other systems.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tool {
    pub(super) package: &'static str,
    pub(super) program: &'static str,
}

/// The programs that the lab starts.
pub(super) const LAB_TOOLS: [Tool; 5] = [
    Tool { package: "iproute2", program: "ip" },
    Tool { package: "openssl", program: "openssl" },
    Tool { package: "sip-tester", program: "sipp" },
    Tool { package: "sipvicious", program: "svcrack" },
    Tool { package: "tmux", program: "tmux" },
];

/// The additional programs of the tests.
pub(super) const TEST_TOOLS: [Tool; 6] = [
    Tool { package: "chromium", program: "chromium" },
    Tool { package: "chromium-driver", program: "chromedriver" },
    Tool { package: "curl", program: "curl" },
    Tool { package: "nftables", program: "nft" },
    Tool { package: "openssh-client", program: "ssh" },
    Tool { package: "tcpdump", program: "tcpdump" },
];

/// The programs that build and check the packages.
pub(super) const PACKAGING_TOOLS: [Tool; 3] = [
    Tool { package: "dpkg-dev", program: "dpkg-shlibdeps" },
    Tool { package: "binutils", program: "objcopy" },
    Tool { package: "lintian", program: "lintian" },
];

/// The tools that build the packages for arm64 on another machine. Set-up only lists them, because few
/// developers need them.
pub(super) const CROSS_TOOLS: [Tool; 2] = [
    Tool { package: "gcc-aarch64-linux-gnu", program: "aarch64-linux-gnu-gcc" },
    Tool { package: "qemu-user", program: "qemu-aarch64" },
];

/// The programs that create the systems on which the package is tested.
pub(super) const IMAGE_TOOLS: [Tool; 2] = [
    Tool { package: "mmdebstrap", program: "mmdebstrap" },
    Tool { package: "e2fsprogs", program: "mke2fs" },
];

/// What libFuzzer needs in addition to the build tools.
pub(super) const FUZZ_TOOLS: [Tool; 1] = [Tool { package: "g++", program: "c++" }];

/// The additional programs of the measurements.
pub(super) const BENCH_TOOLS: [Tool; 4] = [
    Tool { package: FAIL2BAN, program: "fail2ban-server" },
    // Without it fail2ban polls the log, which is slower than an installation with the recommended
    // packages. It is a module, so on other systems only fail2ban itself is looked for.
    Tool { package: "python3-pyinotify", program: "fail2ban-server" },
    Tool { package: "iptables", program: "iptables" },
    Tool { package: "ipset", program: "ipset" },
];

/// A package whose service Debian starts as soon as it is installed.
pub(super) const FAIL2BAN: &str = "fail2ban";
