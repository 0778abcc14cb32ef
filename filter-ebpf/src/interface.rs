//! The interface to which this copy of the program is attached.

use aya_ebpf::Global;

/// Its slot, set when the program is loaded.
#[unsafe(no_mangle)]
pub(crate) static INTERFACE_SLOT: Global<u32> = Global::new(0);

/// Whether it is the loopback interface; also set when the program is loaded.
#[unsafe(no_mangle)]
pub(crate) static LOOPBACK: Global<u32> = Global::new(0);
