//! Reads all entries of a hash map at once, with a few calls instead of two for each entry (bpf(2),
//! `BPF_MAP_LOOKUP_BATCH`, Linux 5.6), so that reading all known peers delays nothing.

use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd as _};

use aya::Pod;
use nix::errno::Errno;
use nix::libc;

/// Entries that one call reads at first; more if a bucket has more.
const AT_ONCE: usize = 4096;

/// The limit: no bucket of a hash map with 32,768 entries is larger.
const AT_ONCE_MAX: usize = 65_536;

/// `BPF_MAP_LOOKUP_BATCH` of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const LOOKUP_BATCH: libc::c_long = 24;

/// The part of `union bpf_attr` that the command reads and writes.
#[repr(C)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// All entries of a hash map (`BPF_MAP_TYPE_HASH`) with keys and values of these types. Entries that
/// change meanwhile may or may not be included.
///
/// # Errors
///
/// If the kernel refuses, or lacks this call.
pub fn entries<K: Pod, V: Pod>(map: &impl AsFd) -> io::Result<Vec<(K, V)>> {
    let descriptor = u32::try_from(map.as_fd().as_raw_fd()).map_err(io::Error::other)?;
    let (mut room, mut all) = (AT_ONCE, Vec::new());
    // The kernel's cursor, which only the kernel interprets.
    let (mut from, mut to) = ([0_u64; 2], [0_u64; 2]);
    let mut is_first = true;
    loop {
        let mut keys: Vec<MaybeUninit<K>> = Vec::with_capacity(room);
        let mut values: Vec<MaybeUninit<V>> = Vec::with_capacity(room);
        let mut attributes = Attributes {
            in_batch: if is_first { 0 } else { from.as_mut_ptr() as u64 },
            out_batch: to.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            count: u32::try_from(room).map_err(io::Error::other)?,
            map_fd: descriptor,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: `attributes` is the structure that the command reads and writes, of the size that is
        // passed. It points to `room` keys and values of the map's sizes and to a cursor of at least four
        // bytes, all of which outlive the call.
        let result = unsafe {
            libc::syscall(
                libc::SYS_bpf,
                LOOKUP_BATCH,
                std::ptr::from_mut(&mut attributes),
                size_of::<Attributes>(),
            )
        };
        let errno = if result < 0 { Errno::last() } else { Errno::UnknownErrno };
        if errno == Errno::ENOSPC && room < AT_ONCE_MAX {
            room *= 2;
            continue;
        }
        if result < 0 && errno != Errno::ENOENT {
            return Err(errno.into());
        }
        let count = usize::try_from(attributes.count).map_err(io::Error::other)?.min(room);
        // SAFETY: the kernel has written this many keys and values, no more than there was room for, and
        // any bytes are valid for their types.
        unsafe {
            keys.set_len(count);
            values.set_len(count);
            let pairs = keys.iter().zip(&values);
            all.extend(
                pairs.map(|(key, value)| (key.assume_init_read(), value.assume_init_read())),
            );
        }
        if errno == Errno::ENOENT {
            return Ok(all);
        }
        (from, is_first) = (to, false);
    }
}
