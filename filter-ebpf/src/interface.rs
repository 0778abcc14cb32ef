//! The interface that this copy of the program serves.

use aya_ebpf::Global;

/// Its slot, set when the program is loaded.
#[unsafe(no_mangle)]
pub(crate) static INTERFACE_SLOT: Global<u32> = Global::new(0);

/// Whether it is the loopback interface, set as well.
#[unsafe(no_mangle)]
pub(crate) static LOOPBACK: Global<u32> = Global::new(0);
