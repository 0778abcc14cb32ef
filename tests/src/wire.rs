//! Sends raw frames that no socket of the kernel would send.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, ensure};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket};

use crate::netns::Netns;
use crate::tap;

/// A host's `eth0`, as the interface for frames.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// The interface of `host`.
    ///
    /// # Errors
    ///
    /// If it has no `eth0` (this needs root).
    pub fn of(host: &Netns) -> anyhow::Result<Self> {
        let socket = host.run_in(|| {
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)
                .context("make a packet socket")?;
            tap::bind_to(&socket, if_nametoindex("eth0").context("find eth0")?)?;
            Ok(socket)
        })?;
        Ok(Self { socket })
    }

    /// Sends a frame.
    ///
    /// # Errors
    ///
    /// If the kernel does not accept the whole frame.
    pub fn send(&self, frame: &[u8]) -> anyhow::Result<()> {
        let sent =
            send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).context("send a frame")?;
        ensure!(sent == frame.len(), "{sent} bytes of {} were sent", frame.len());
        Ok(())
    }
}

/// The hardware address of a host's `eth0`.
///
/// # Errors
///
/// If it has none.
pub fn hardware_address(host: &Netns) -> anyhow::Result<[u8; 6]> {
    // A thread's view of `/sys` belongs to the namespace in which it was mounted.
    let said = host.command("ip").args(["-j", "link", "show", "dev", "eth0"]).output();
    let links: serde_json::Value =
        serde_json::from_slice(&said.context("run ip")?.stdout).context("read the link")?;
    let text = links[0]["address"].as_str().context("eth0 has no address")?;
    let octets: Result<Vec<u8>, _> =
        text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect();
    octets.context("read the address")?.try_into().ok().context("an address of another length")
}

/// Makes a host accept packets on an interface other than the one on which it would reply. Otherwise the
/// kernel drops some packets that the tests need.
///
/// # Errors
///
/// If it cannot be set.
pub fn take_all_sources(host: &Netns) -> anyhow::Result<()> {
    host.run_in(|| {
        for (setting, value) in [
            ("net/ipv4/conf/all/rp_filter", "0"),
            ("net/ipv4/conf/eth0/rp_filter", "0"),
            ("net/ipv4/conf/all/accept_local", "1"),
            ("net/ipv4/conf/all/route_localnet", "1"),
        ] {
            let path = format!("/proc/sys/{setting}");
            fs::write(&path, value).with_context(|| format!("write {path}"))?;
        }
        Ok(())
    })
}
