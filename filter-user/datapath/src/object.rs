//! The XDP program.

/// Its object, as `build.rs` built it.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("RINGFENCE_EBPF_OBJECT"));
