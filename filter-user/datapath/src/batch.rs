//! Reads many entries of a map at once, with a few calls instead of one or two for each entry (bpf(2),
//! `BPF_MAP_LOOKUP_BATCH`, Linux 5.6, and 5.13 for a map of each CPU), so that reading all known peers or all
//! counters delays nothing.

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

impl Attributes {
    /// Those of a map. Everything else is zero.
    fn of(map: &impl AsFd) -> io::Result<Self> {
        let map_fd = u32::try_from(map.as_fd().as_raw_fd()).map_err(io::Error::other)?;
        let (in_batch, out_batch, keys, values) = (0, 0, 0, 0);
        let (count, elem_flags, flags) = (0, 0, 0);
        Ok(Self { in_batch, out_batch, keys, values, count, map_fd, elem_flags, flags })
    }

    /// Reads what is there, and sets `count` to its number. Returns the error, which at the end of the map is
    /// `ENOENT`.
    ///
    /// # Safety
    ///
    /// It must point to a cursor, and to room for `count` keys and values of the sizes that the map has.
    unsafe fn call(&mut self) -> Option<Errno> {
        // SAFETY: this is the structure that the command reads and writes, of the size that is passed, and the
        // caller answers for what it points to.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, std::ptr::from_mut(self), size_of::<Self>())
        };
        (result < 0).then(Errno::last)
    }
}

/// The values of `count` neighbours in an array of each CPU (`BPF_MAP_TYPE_PERCPU_ARRAY`): those of the first on all
/// CPUs, then those of the next. `cpus` is the number of CPUs that are possible.
///
/// # Errors
///
/// If the kernel refuses, or the array is shorter.
pub fn of_each_cpu<V: Pod>(
    map: &impl AsFd,
    first: u32,
    count: u32,
    cpus: usize,
) -> io::Result<Vec<V>> {
    // The kernel rounds the size up.
    const { assert!(size_of::<V>().is_multiple_of(8), "the values of CPUs are not neighbours") };
    let room = usize::try_from(count).map_err(io::Error::other)?;
    let mut keys: Vec<u32> = vec![0; room];
    let mut values: Vec<MaybeUninit<V>> = Vec::with_capacity(room * cpus);
    // The kernel goes on after the key before.
    let (mut before, mut reached) = (first.wrapping_sub(1), 0_u32);
    let mut attributes = Attributes {
        in_batch: if first == 0 { 0 } else { std::ptr::from_mut(&mut before) as u64 },
        out_batch: std::ptr::from_mut(&mut reached) as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        ..Attributes::of(map)?
    };
    // SAFETY: it points to `count` keys of an array, as many values for each CPU, and a cursor, which for an array is
    // a key. All of these outlive the call.
    match unsafe { attributes.call() } {
        // The array ends here.
        Some(Errno::ENOENT) | None => {}
        Some(errno) => return Err(errno.into()),
    }
    if attributes.count != count {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // SAFETY: the kernel has written `count` values for each CPU, and any bytes are valid for their type.
    unsafe { values.set_len(room * cpus) };
    // SAFETY: the same.
    Ok(values.iter().map(|value| unsafe { value.assume_init_read() }).collect())
}

/// All entries of a hash map (`BPF_MAP_TYPE_HASH`) with keys and values of these types. Entries that
/// change meanwhile may or may not be included.
///
/// # Errors
///
/// If the kernel refuses, or lacks this call.
pub fn entries<K: Pod, V: Pod>(map: &impl AsFd) -> io::Result<Vec<(K, V)>> {
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
            ..Attributes::of(map)?
        };
        // SAFETY: it points to `room` keys and values of the map's sizes and to a cursor of at least four bytes, all
        // of which outlive the call.
        let errno = unsafe { attributes.call() };
        if errno == Some(Errno::ENOSPC) && room < AT_ONCE_MAX {
            room *= 2;
            continue;
        }
        if let Some(errno) = errno
            && errno != Errno::ENOENT
        {
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
        if errno.is_some() {
            return Ok(all);
        }
        (from, is_first) = (to, false);
    }
}
