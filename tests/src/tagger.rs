//! A switch that puts a host into VLAN tags: what the host sends gets a tag on its way, and what it gets has none.
//!
//! It copies frames itself, because not every kernel that runs the tests has VLAN interfaces. The tag is of VLAN 0, a
//! priority alone, which Linux takes without such an interface.

use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, send, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use crate::netns::Netns;
use crate::packet_builder::{ETHERNET_LEN, VLAN};
use crate::tap;

/// The hardware addresses at the start of a frame.
const ADDRESSES: usize = 12;

/// The copying between two interfaces, which ends when it is dropped.
#[derive(Debug)]
pub struct Tagger {
    stop: Arc<AtomicBool>,
    tagged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Tagger {
    /// Copies between the interfaces `inside` and `outside` of `place`. What comes from inside gets a tag.
    ///
    /// # Errors
    ///
    /// If there are no such interfaces, or root is missing.
    pub fn start(place: &Netns, inside: &str, outside: &str) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let tagged = Arc::new(AtomicU64::new(0));
        let mut threads = Vec::new();
        for (from, to, count) in [(inside, outside, Some(&tagged)), (outside, inside, None)] {
            let sockets = place.run_in(|| Ok((open(from)?, open(to)?)))?;
            let (stop, count) = (Arc::clone(&stop), count.map(Arc::clone));
            let thread = thread::Builder::new().name("tagger".to_owned());
            let copy = move || copy(&sockets, count.as_deref(), &stop);
            threads.push(thread.spawn(copy).context("start a thread")?);
        }
        Ok(Self { stop, tagged, threads })
    }

    /// How many frames have got a tag.
    pub fn tagged(&self) -> u64 {
        self.tagged.load(Ordering::Relaxed)
    }
}

impl Drop for Tagger {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic in the thread has been printed; a drop cannot return an error.
            thread.join().ok();
        }
    }
}

fn open(interface: &str) -> anyhow::Result<OwnedFd> {
    let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
        .context("make a packet socket")?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100)).context("timeout")?;
    tap::bind_to(&socket, if_nametoindex(interface).context("find the interface")?)?;
    Ok(socket)
}

fn copy((from, to): &(OwnedFd, OwnedFd), tagged: Option<&AtomicU64>, stop: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let Ok(Some(length)) = receive(from, &mut buffer) else { continue };
        let Some(frame) = buffer.get_mut(..length) else { continue };
        without_checksum(frame);
        let mut frame = frame.to_vec();
        if tagged.is_some() {
            let tag = [VLAN.to_be_bytes(), [0, 0]].concat();
            frame.splice(ADDRESSES..ADDRESSES, tag);
        }
        if send(to.as_raw_fd(), &frame, MsgFlags::empty()).is_ok()
            && let Some(tagged) = tagged
        {
            tagged.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The next frame that arrives at an interface; `None` for one that leaves it.
fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<Option<usize>> {
    // SAFETY: sockaddr_ll is plain data, for which all zeros is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&address)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and the pointers and lengths describe locals and `buffer`, which live through
    // the call.
    let received = unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut address).cast(),
            &raw mut length,
        )
    };
    let received = usize::try_from(Errno::result(received)?).map_err(io::Error::other)?;
    let is_incoming = address.sll_pkttype != libc::PACKET_OUTGOING && received > ETHERNET_LEN;
    Ok(is_incoming.then_some(received))
}

/// Says of a UDP datagram over IPv4 that it has no checksum. A virtual cable leaves the checksum to the receiver, so
/// that of a copy would be wrong.
fn without_checksum(frame: &mut [u8]) {
    const UDP: u8 = 17;
    let Some(packet) = frame.get_mut(ETHERNET_LEN..) else { return };
    let Some(first) = packet.first().copied() else { return };
    let header = usize::from(first & 0xf) * 4;
    // Behind three flags.
    let offset = packet.get(6..8).map(|field| u16::from_be_bytes([field[0], field[1]]) << 3);
    let is_udp = first >> 4 == 4 && packet.get(9) == Some(&UDP);
    if is_udp
        && offset == Some(0)
        && let Some(sum) = packet.get_mut(header + 6..header + 8)
    {
        sum.fill(0);
    }
}
