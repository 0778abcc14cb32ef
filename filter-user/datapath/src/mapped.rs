//! The values of a map in the controller's own memory: `BPF_F_MMAPABLE` arrays.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, Result, bail};
use aya::maps::{Map, MapData, MapInfo};
use nix::libc;

/// The values of an array of words, or of values that consist of words, while this exists.
#[derive(Debug)]
pub struct Memory {
    start: NonNull<AtomicU64>,
    words: usize,
    // Keeps the map open, although the mapping would also do so.
    _map: MapData,
}

// SAFETY: the memory is shared with the kernel and accessed only by atomic words, from any thread.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Maps all values of an array into memory.
    ///
    /// # Errors
    ///
    /// If it is not an array that can be mapped.
    pub fn of(map: MapData) -> Result<Self> {
        let (values, size) = {
            let info: MapInfo = map.info()?;
            (usize::try_from(info.max_entries())?, usize::try_from(info.value_size())?)
        };
        let bytes = values.checked_mul(size).context("the map is larger than memory")?;
        // SAFETY: a new mapping of an open descriptor; the kernel refuses anything that is not a mappable
        // array, or is shorter.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                map.fd().as_fd().as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error()).context("map the memory of a BPF map");
        }
        let start = NonNull::new(start.cast()).context("the kernel mapped a BPF map to zero")?;
        Ok(Self { start, words: bytes / size_of::<AtomicU64>(), _map: map })
    }
}

/// An array's data.
pub(super) fn data(map: Map) -> Result<MapData> {
    if let Map::Array(data) = map { Ok(data) } else { bail!("{map:?} is not an array") }
}

impl AsRef<[AtomicU64]> for Memory {
    fn as_ref(&self) -> &[AtomicU64] {
        // SAFETY: mapped while this exists, aligned to a page, and any bits are a valid word.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.words) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: `of` has mapped it, and nothing borrows from it any more.
        let _unmapped = unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.words * size_of::<AtomicU64>())
        };
    }
}
