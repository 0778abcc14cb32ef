//! Somebody else's XDP program on an interface: two instructions that pass every packet.
//!
//! Straight through bpf(2), so that it has nothing in common with the program under test.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use anyhow::Context;
use nix::libc;
use nix::net::if_::if_nametoindex;

use crate::netns::Netns;

/// The program's name.
pub const NAME: &str = "somebody_else";

const LICENSE: &CStr = c"MIT";

// include/uapi/linux/bpf.h
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// `r0 = XDP_PASS; exit`, each opcode, registers, offset and immediate.
const PASS: [u64; 2] = [0x0000_0002_0000_00b7, 0x95];

/// The program, attached until it is dropped.
#[derive(Debug)]
pub struct Foreign {
    _program: OwnedFd,
    _link: OwnedFd,
}

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The head of `union bpf_attr` for `BPF_LINK_CREATE`.
#[repr(C)]
struct Link {
    program: u32,
    interface: u32,
    kind: u32,
    flags: u32,
}

impl Foreign {
    /// Attaches the program to `interface` of `host`.
    ///
    /// # Errors
    ///
    /// When the kernel refuses (this needs root).
    pub fn attach(host: &Netns, interface: &str) -> anyhow::Result<Self> {
        let mut name = [0; 16];
        name[..NAME.len()].copy_from_slice(NAME.as_bytes());
        let load = Load {
            kind: BPF_PROG_TYPE_XDP,
            instructions: u32::try_from(PASS.len()).context("length of the program")?,
            code: address(PASS.as_ptr().cast()),
            license: address(LICENSE.as_ptr().cast()),
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name,
        };
        let program = bpf(BPF_PROG_LOAD, &load).context("load somebody's XDP program")?;
        let link = host.run_in(|| {
            let interface = if_nametoindex(interface).context("find the interface")?;
            let number = u32::try_from(program.as_raw_fd()).context("descriptor")?;
            let link = Link { program: number, interface, kind: BPF_XDP, flags: 0 };
            bpf(BPF_LINK_CREATE, &link).context("attach somebody's XDP program")
        })?;
        Ok(Self { _program: program, _link: link })
    }
}

fn address(pointer: *const libc::c_void) -> u64 {
    pointer.expose_provenance() as u64
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: `attributes` is the plain head of `union bpf_attr` that the command reads, of the
    // size that is passed, and lives through the call, as what it points to does.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>())
    };
    match RawFd::try_from(fd) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}
