//! Direct use of bpf(2), independent of the program under test: programs of a few instructions, test runs
//! of any program, and the links and maps that measurements need.
//!
//! Numbers and structures are those of `include/uapi/linux/bpf.h`.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, bail, ensure};
use nix::libc;

const LICENSE: &CStr = c"MIT";

const MAP_CREATE: libc::c_long = 0;
const PROG_LOAD: libc::c_long = 5;
const OBJ_GET: libc::c_long = 7;
const PROG_TEST_RUN: libc::c_long = 10;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const MAP_UPDATE_BATCH: libc::c_long = 26;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;
const LINK_DETACH: libc::c_long = 34;

const MAP_TYPE_HASH: u32 = 1;
const MAP_TYPE_ARRAY: u32 = 2;
const PROG_TYPE_SCHED_CLS: u32 = 3;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
const ATTACH_TCX_EGRESS: u32 = 47;
/// `BPF_F_BEFORE`: without another program or link, before all.
const BEFORE: u32 = 1 << 3;
/// `BPF_F_TEST_XDP_LIVE_FRAMES`: the verdict of the program is carried out on real frames.
const TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`: only in the driver.
const DRIVER_MODE: u32 = 1 << 2;

/// The number of frames in flight in a live run: the kernel's default.
const LIVE_BATCH: u32 = 64;

/// The length of a name in `union bpf_attr`, in bytes.
const NAME_LEN: usize = 16;

/// The return value of an XDP program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `XDP_DROP`.
    Drop,
    /// `XDP_PASS`.
    Pass,
    /// Any other value.
    Other(u32),
}

impl Action {
    fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Drop,
            2 => Self::Pass,
            other => Self::Other(other),
        }
    }
}

/// A loaded XDP program.
#[derive(Debug)]
pub struct Program {
    fd: OwnedFd,
}

/// An XDP program on an interface, which stays attached while this value or its pin exists.
#[derive(Debug)]
pub struct Link {
    fd: OwnedFd,
}

/// A map with one `u64`, initially zero, for a program's state.
#[derive(Debug)]
pub struct Word {
    fd: OwnedFd,
}

/// An array of cache lines, initially zero.
#[derive(Debug)]
pub struct Lines {
    fd: OwnedFd,
}

/// A hash map of `u32` keys and `u64` values, with preallocated memory.
#[derive(Debug)]
pub struct PlainHash {
    fd: OwnedFd,
}

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
    name: [u8; NAME_LEN],
    interface: u32,
    attach: u32,
}

#[repr(C)]
struct Get {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct Attach {
    program: u32,
    interface: u32,
    kind: u32,
    flags: u32,
}

#[repr(C)]
struct AttachFirst {
    attach: Attach,
    beside: u32,
    padding: u32,
    revision: u64,
}

#[repr(C)]
struct GetInfo {
    fd: u32,
    length: u32,
    info: u64,
}

/// The beginning of `struct bpf_link_info`.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
}

#[repr(C)]
struct Update {
    link: u32,
    program: u32,
    flags: u32,
    old: u32,
}

#[repr(C)]
#[derive(Default)]
struct Run {
    program: u32,
    result: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

#[repr(C)]
struct Batch {
    first: u64,
    next: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

impl Program {
    /// Loads instructions, each of eight bytes in the kernel's format.
    ///
    /// # Errors
    ///
    /// If the name is too long or the kernel refuses; the error contains the verifier's log.
    pub fn load(name: &str, code: &[u64]) -> anyhow::Result<Self> {
        Self::load_as(PROG_TYPE_XDP, ATTACH_XDP, name, code)
    }

    fn load_as(kind: u32, attach: u32, name: &str, code: &[u64]) -> anyhow::Result<Self> {
        ensure!(name.len() < NAME_LEN, "the name {name} is too long");
        let mut bytes = [0; NAME_LEN];
        bytes[..name.len()].copy_from_slice(name.as_bytes());
        let mut log = vec![0u8; 64 * 1024];
        let mut load = Load {
            kind,
            instructions: u32::try_from(code.len()).context("length of the program")?,
            code: address(code.as_ptr()),
            license: address(LICENSE.as_ptr()),
            log_level: 1,
            log_size: u32::try_from(log.len())?,
            log: address(log.as_mut_ptr()),
            kernel_version: 0,
            flags: 0,
            name: bytes,
            interface: 0,
            // Required for a program that is to replace another one in a link.
            attach,
        };
        match call_fd(PROG_LOAD, &mut load) {
            Ok(fd) => Ok(Self { fd }),
            Err(error) => {
                let said = String::from_utf8_lossy(&log);
                let said = said.trim_end_matches('\0').trim();
                Err(error).with_context(|| format!("load the program {name}: {said}"))
            }
        }
    }

    /// A program that only returns `XDP_DROP`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn drop_all() -> anyhow::Result<Self> {
        Self::load("bare_drop", &[0x0000_0001_0000_00b7, 0x95])
    }

    /// A program that only returns `XDP_PASS`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn pass_all() -> anyhow::Result<Self> {
        Self::load("bare_pass", &[0x0000_0002_0000_00b7, 0x95])
    }

    /// A classifier that leaves every packet to the next one: `TCX_NEXT`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn next_classifier() -> anyhow::Result<Self> {
        Self::load_as(PROG_TYPE_SCHED_CLS, 0, "bare_next", &[0xffff_ffff_0000_00b7, 0x95])
    }

    /// The program of a pinned link.
    ///
    /// # Errors
    ///
    /// If it does not exist.
    pub fn of_link(path: &Path) -> anyhow::Result<Self> {
        let link = open_pin(path)?;
        let mut link_info = LinkInfo::default();
        let mut get = GetInfo {
            fd: number(&link)?,
            length: u32::try_from(size_of_val(&link_info))?,
            info: address(&raw mut link_info),
        };
        call(OBJ_GET_INFO_BY_FD, &mut get).context("read about a link")?;
        let fd = call_fd(PROG_GET_FD_BY_ID, &mut [link_info.program, 0, 0]);
        Ok(Self { fd: fd.context("open a link's program")? })
    }

    /// A pinned program.
    ///
    /// # Errors
    ///
    /// If it does not exist.
    pub fn from_pin(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { fd: open_pin(path)? })
    }

    /// Runs the program `repeat` times over the same frame, and returns its last verdict.
    ///
    /// # Errors
    ///
    /// If the kernel refuses or a signal arrives.
    pub fn run(&self, frame: &[u8], repeat: u32) -> anyhow::Result<Action> {
        let mut run = self.test(frame, repeat)?;
        call(PROG_TEST_RUN, &mut run).context("run a program over a frame")?;
        Ok(Action::from_number(run.result))
    }

    /// The frame after the program has run over it, if it changes it in place.
    ///
    /// # Errors
    ///
    /// The same as for [`run`](Self::run).
    pub fn rewrite(&self, frame: &[u8]) -> anyhow::Result<Vec<u8>> {
        let mut out = vec![0u8; frame.len()];
        let mut run = self.test(frame, 1)?;
        run.data_out = address(out.as_mut_ptr());
        run.data_size_out = run.data_size_in;
        call(PROG_TEST_RUN, &mut run).context("run an XDP program over a frame")?;
        Ok(out)
    }

    /// Generates `count` real frames and carries out the program's verdict for each. The interfaces to
    /// which it redirects are those of the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// The same as for [`run`](Self::run).
    pub fn send(&self, frame: &[u8], count: u32) -> anyhow::Result<()> {
        let mut run = self.test(frame, count)?;
        run.flags = TEST_XDP_LIVE_FRAMES;
        run.batch = LIVE_BATCH;
        call(PROG_TEST_RUN, &mut run).context("send live frames (needs Linux 5.18)")?;
        Ok(())
    }

    fn test(&self, frame: &[u8], repeat: u32) -> anyhow::Result<Run> {
        Ok(Run {
            program: number(&self.fd)?,
            data_size_in: u32::try_from(frame.len()).context("length of the frame")?,
            data_in: address(frame.as_ptr()),
            repeat,
            ..Run::default()
        })
    }
}

/// A classifier before all others at the egress of an interface, which hides every packet from them.
#[derive(Debug)]
pub struct Curtain {
    _link: OwnedFd,
}

impl Curtain {
    /// Hides what leaves an interface in the calling thread's network namespace, until this is dropped.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; it needs Linux 6.6.
    pub fn draw(interface: u32) -> anyhow::Result<Self> {
        // `TCX_PASS`, which ends the chain.
        let code = [0x0000_0000_0000_00b7, 0x95];
        let program = Program::load_as(PROG_TYPE_SCHED_CLS, 0, "curtain", &code)?;
        let mut attach = AttachFirst {
            attach: Attach {
                program: number(&program.fd)?,
                interface,
                kind: ATTACH_TCX_EGRESS,
                flags: BEFORE,
            },
            beside: 0,
            padding: 0,
            revision: 0,
        };
        let link = call_fd(LINK_CREATE, &mut attach).context("attach a classifier")?;
        Ok(Self { _link: link })
    }
}

impl Link {
    /// Attaches a program to the driver of an interface in the calling thread's network namespace.
    ///
    /// # Errors
    ///
    /// If the kernel refuses: another program is attached, or the driver does not support it.
    pub fn attach(program: &Program, interface: u32) -> anyhow::Result<Self> {
        let mut attach = Attach {
            program: number(&program.fd)?,
            interface,
            kind: ATTACH_XDP,
            flags: DRIVER_MODE,
        };
        let fd = call_fd(LINK_CREATE, &mut attach).context("attach an XDP program")?;
        Ok(Self { fd })
    }

    /// A pinned link.
    ///
    /// # Errors
    ///
    /// If it does not exist.
    pub fn from_pin(path: &Path) -> anyhow::Result<Self> {
        Ok(Self { fd: open_pin(path)? })
    }

    /// Replaces the program that runs now with this one.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn replace(&self, program: &Program) -> anyhow::Result<()> {
        let mut update =
            Update { link: number(&self.fd)?, program: number(&program.fd)?, flags: 0, old: 0 };
        call(LINK_UPDATE, &mut update).context("replace an XDP program")?;
        Ok(())
    }
}

impl Word {
    /// A new one.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { fd: create(MAP_TYPE_ARRAY, 8, 1)? })
    }

    /// Its descriptor, for use in instructions.
    pub fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Lines {
    /// The length of a line in bytes.
    pub const LEN: u32 = 64;

    /// An array of this many lines.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn new(lines: u32) -> anyhow::Result<Self> {
        Ok(Self { fd: create(MAP_TYPE_ARRAY, Self::LEN, lines)? })
    }

    /// Its descriptor, for use in instructions.
    pub fn descriptor(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl PlainHash {
    /// A map with room for `entries`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn new(entries: u32) -> anyhow::Result<Self> {
        Ok(Self { fd: create(MAP_TYPE_HASH, 8, entries)? })
    }

    /// Enters all keys with their values in one call.
    ///
    /// # Errors
    ///
    /// If the lengths differ or the kernel refuses.
    pub fn insert_all(&self, keys: &[u32], values: &[u64]) -> anyhow::Result<()> {
        ensure!(keys.len() == values.len(), "every key has one value");
        let mut batch = Batch {
            first: 0,
            next: 0,
            keys: address(keys.as_ptr()),
            values: address(values.as_ptr()),
            count: u32::try_from(keys.len()).context("count of the keys")?,
            map: number(&self.fd)?,
            element_flags: 0,
            flags: 0,
        };
        call(MAP_UPDATE_BATCH, &mut batch).context("fill a hash")?;
        ensure!(usize::try_from(batch.count)? == keys.len(), "the kernel took {}", batch.count);
        Ok(())
    }
}

fn create(kind: u32, value_size: u32, entries: u32) -> anyhow::Result<OwnedFd> {
    let mut create = Create { kind, key_size: 4, value_size, entries, flags: 0 };
    call_fd(MAP_CREATE, &mut create).context("make a map")
}

fn open_pin(path: &Path) -> anyhow::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes()).context("path of a pin")?;
    let mut get = Get { path: address(name.as_ptr()), fd: 0, flags: 0 };
    call_fd(OBJ_GET, &mut get).with_context(|| format!("open {}", path.display()))
}

/// Detaches the program of a pinned link from its interface, whoever has attached it. The pin stays.
///
/// # Errors
///
/// If the pin does not exist, or the kernel refuses.
pub fn force_off(path: &Path) -> anyhow::Result<()> {
    let link = open_pin(path)?;
    call(LINK_DETACH, &mut number(&link)?).context("detach a link")?;
    Ok(())
}

fn number(fd: &OwnedFd) -> anyhow::Result<u32> {
    u32::try_from(fd.as_raw_fd()).context("descriptor")
}

fn address<T>(pointer: *const T) -> u64 {
    pointer.expose_provenance() as u64
}

fn call<T>(command: libc::c_long, attributes: &mut T) -> io::Result<libc::c_long> {
    // SAFETY: `attributes` is the plain head of `union bpf_attr` that the command reads and writes, of
    // the size that is passed. It outlives the call, and so does the memory to which it points.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn call_fd<T>(command: libc::c_long, attributes: &mut T) -> anyhow::Result<OwnedFd> {
    match RawFd::try_from(call(command, attributes)?) {
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(fd) => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(_) => bail!("the kernel gave no descriptor"),
    }
}
