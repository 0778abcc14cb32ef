//! Frames as they are, onto the wire: what no socket of the kernel's would send.

use std::fs;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, ensure};
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, send, socket};

use crate::netns::Netns;
use crate::tap;

/// A host's `eth0`, to send frames by.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// The wire of `host`.
    ///
    /// # Errors
    ///
    /// When it has no `eth0` (this needs root).
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
    /// When the kernel does not take it whole.
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
/// When it has none.
pub fn hardware_address(host: &Netns) -> anyhow::Result<[u8; 6]> {
    // A thread's own view of `/sys` is of the namespace in which that was mounted.
    let said = host.command("ip").args(["-j", "link", "show", "dev", "eth0"]).output();
    let links: serde_json::Value =
        serde_json::from_slice(&said.context("run ip")?.stdout).context("read the link")?;
    let text = links[0]["address"].as_str().context("eth0 has no address")?;
    let octets: Result<Vec<u8>, _> =
        text.split(':').map(|octet| u8::from_str_radix(octet, 16)).collect();
    octets.context("read the address")?.try_into().ok().context("an address of another length")
}

/// Has a host take packets that come in on an interface on which it would not answer them: otherwise
/// the kernel drops some that the filter is to be tried with.
///
/// # Errors
///
/// When it cannot be set.
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
