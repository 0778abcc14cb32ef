//! Whether the host has the TCP connection to which a segment belongs.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{
    bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
};
use aya_ebpf::helpers::generated::{bpf_sk_lookup_tcp, bpf_sk_release};
use aya_ebpf::programs::XdpContext;
use filter_common::packet::{Headers, Layer4, Packet as _};

use crate::packet::XdpPacket;

/// `BPF_F_CURRENT_NETNS` of `include/uapi/linux/bpf.h`.
const CURRENT_NETNS: u64 = u64::MAX;

/// `BPF_TCP_ESTABLISHED` of the same file.
const ESTABLISHED: u32 = 1;

/// Whether there is an established connection with the addresses and ports of this segment: its sender
/// has answered the host, or knows the source's port as well as its address.
#[inline(always)]
pub(crate) fn connected(ctx: &XdpContext, headers: &Headers) -> bool {
    let Layer4::Tcp { start, .. } = headers.layer4 else {
        return false;
    };
    let packet = XdpPacket::new(ctx);
    let Some([s0, s1, d0, d1]) = packet.array(start) else {
        return false;
    };
    let (sport, dport) = (u16::from_ne_bytes([s0, s1]), u16::from_ne_bytes([d0, d1]));
    // SAFETY: all zeros is a valid tuple.
    let mut tuple: bpf_sock_tuple = unsafe { core::mem::zeroed() };
    let length = if let Some(saddr) = headers.source.v4_word() {
        let Some(destination) = packet.array(headers.network + 16) else {
            return false;
        };
        tuple.__bindgen_anon_1.ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr,
            daddr: u32::from_ne_bytes(destination),
            sport,
            dport,
        };
        size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1>()
    } else {
        let Some(destination) = packet.array::<16>(headers.network + 24) else {
            return false;
        };
        let [first, second] = headers.source.words();
        let halves = |word: u64| [word as u32, (word >> 32) as u32];
        let ([a, b], [c, d]) = (halves(first), halves(second));
        // SAFETY: both are 16 bytes.
        let daddr = unsafe { core::mem::transmute::<[u8; 16], [u32; 4]>(destination) };
        tuple.__bindgen_anon_1.ipv6 =
            bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 { saddr: [a, b, c, d], daddr, sport, dport };
        size_of::<bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2>()
    };
    // SAFETY: the context is the one the kernel passed in, and the length is that of the tuple.
    let socket = unsafe {
        bpf_sk_lookup_tcp(ctx.as_ptr().cast(), &raw mut tuple, length as u32, CURRENT_NETNS, 0)
    };
    if socket.is_null() {
        return false;
    }
    // SAFETY: not null, and not released yet.
    let state = unsafe { (*socket).state };
    // SAFETY: the kernel requires this release of the reference.
    unsafe { bpf_sk_release(socket.cast()) };
    state == ESTABLISHED
}
