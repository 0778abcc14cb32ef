//! A small separate network: hosts with one `eth0` each on a switch, each of them a network namespace.
//! There is no default route, so no packet can leave.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use nix::libc;
use nix::mount::{MntFlags, umount2};
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::child::{self, OnSignal};
use crate::{packet_builder, scratch};

const RUN_NETNS: &str = "/run/netns";

/// A switch and the hosts that are connected to it.
#[derive(Debug)]
pub struct Lan {
    prefix: String,
    ports: u32,
    switch: Netns,
}

impl Lan {
    /// A switch without hosts.
    ///
    /// # Errors
    ///
    /// If `ip` (iproute2) is missing or the namespace cannot be created.
    pub fn new() -> anyhow::Result<Self> {
        let prefix = scratch::prefix();
        let switch = Netns::create(&format!("{prefix}-switch"), None)?;
        let name = &switch.name;
        ip(&format!("-n {name} link set lo up"))?;
        ip(&format!("-n {name} link add br0 type bridge"))?;
        ip(&format!("-n {name} link set br0 up"))?;
        Ok(Self { prefix, ports: 0, switch })
    }

    /// Connects a host. Its `eth0` has all of `addresses`, an IPv4 address with the prefix length 24 and
    /// an IPv6 address with 64.
    ///
    /// # Errors
    ///
    /// If the namespace or its interface cannot be created.
    pub fn host(&mut self, name: &str, addresses: &[IpAddr]) -> anyhow::Result<Netns> {
        let port = format!("p{}", self.ports);
        let host = Netns::create(&format!("{}-{name}", self.prefix), Some(port))?;
        host.ip("link set lo up")?;
        self.plug(&host, "eth0", addresses)?;
        Ok(host)
    }

    /// Connects a host, which may be one of another switch, with a further interface.
    ///
    /// # Errors
    ///
    /// If the interface cannot be created.
    pub fn plug(
        &mut self,
        host: &Netns,
        interface: &str,
        addresses: &[IpAddr],
    ) -> anyhow::Result<()> {
        let port = format!("p{}", self.ports);
        self.ports += 1;
        let ns = &host.name;
        self.switch.ip(&format!("link add {port} type veth peer name {interface} netns {ns}"))?;
        self.switch.ip(&format!("link set {port} master br0 up"))?;
        for address in addresses {
            host.ip(&match address {
                IpAddr::V4(v4) => format!("addr add {v4}/24 dev {interface}"),
                IpAddr::V6(v6) => format!("addr add {v6}/64 dev {interface} nodad"),
            })?;
        }
        host.ip(&format!("link set {interface} up"))
    }

    /// The namespace with the bridge. Every frame to a host leaves it through that host's
    /// [`Netns::switch_port`], before it reaches the host.
    pub fn switch(&self) -> &Netns {
        &self.switch
    }
}

/// Two hosts connected by a cable, without a switch: frames that leave one `eth0` arrive at the other.
#[derive(Debug)]
pub struct Cable {
    /// One end, without an address.
    pub near: Netns,
    /// The other end, to which fixture frames are addressed: it has the addresses of their target.
    pub far: Netns,
}

impl Cable {
    /// Creates it.
    ///
    /// # Errors
    ///
    /// If `ip` (iproute2) is missing or a namespace cannot be created.
    pub fn new() -> anyhow::Result<Self> {
        let prefix = scratch::prefix();
        let near = Netns::create(&format!("{prefix}-near"), None)?;
        let far = Netns::create(&format!("{prefix}-far"), None)?;
        let (n, f) = (&near.name, &far.name);
        let [m0, m1, m2, m3, m4, m5] = packet_builder::TARGET_MAC;
        for line in [
            format!(
                "-n {n} link add eth0 type veth peer name eth0 netns {f} \
                 address {m0:x}:{m1:x}:{m2:x}:{m3:x}:{m4:x}:{m5:x}"
            ),
            format!("-n {f} addr add {}/24 dev eth0", packet_builder::TARGET_V4),
            format!("-n {f} addr add {}/64 dev eth0 nodad", packet_builder::TARGET_V6),
            format!("-n {f} link set lo up"),
            format!("-n {f} link set eth0 up"),
            format!("-n {n} link set eth0 up"),
        ] {
            ip(&line)?;
        }
        Ok(Self { near, far })
    }

    /// Gives the near end an address.
    ///
    /// # Errors
    ///
    /// If `ip` fails.
    pub fn near_address(&self, address: Ipv4Addr) -> anyhow::Result<()> {
        ip(&format!("-n {} link set lo up", self.near.name))?;
        ip(&format!("-n {} addr add {address}/24 dev eth0", self.near.name))
    }

    /// Gives the near end another interface, without a peer.
    ///
    /// # Errors
    ///
    /// If `ip` fails.
    pub fn near_link(&self, name: &str) -> anyhow::Result<()> {
        ip(&format!("-n {} link add {name} type veth peer name {name}-end", self.near.name))
    }

    /// Routes all traffic of the far end to `gateway` at the near end, where it is lost.
    ///
    /// # Errors
    ///
    /// If `ip` fails.
    pub fn far_default_route(&self, gateway: Ipv4Addr) -> anyhow::Result<()> {
        ip(&format!("-n {} route add default via {gateway} dev eth0", self.far.name))
    }

    /// Makes the far end accept frames that an XDP program redirects to it, even if it has no program
    /// itself: veth has a queue for them only with a program or with GRO.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn far_takes_frames(&self) -> anyhow::Result<()> {
        self.far.run_in(|| switch_gro_on("eth0"))
    }
}

fn switch_gro_on(interface: &str) -> anyhow::Result<()> {
    // `ETHTOOL_SGRO` in include/uapi/linux/ethtool.h.
    const SET_GRO: u32 = 0x2c;
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .context("make a socket")?;
    let mut value = Value { command: SET_GRO, data: 1 };
    // SAFETY: an ifreq is plain data, and all zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(interface.bytes()) {
        *to = libc::c_char::try_from(from).context("name of an interface")?;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads the name and the value, both of which live through the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL, &raw mut request) };
    ensure!(result == 0, "switch GRO on: {}", io::Error::last_os_error());
    Ok(())
}

/// Access to a network namespace, which does not keep its name alive.
#[derive(Clone, Debug)]
pub struct Entry {
    file: Arc<File>,
}

impl Entry {
    /// Moves the calling thread into it, permanently.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn enter(&self) -> anyhow::Result<()> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET).context("enter a namespace")
    }

    /// A command that runs in this network namespace but otherwise in our environment: `ip netns exec`
    /// would mount a fresh `/sys` over the one that contains bpffs.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let file = Arc::clone(&self.file);
        // SAFETY: setns is a system call and async-signal-safe; the closure allocates nothing.
        unsafe {
            command.pre_exec(move || Ok(setns(&*file, CloneFlags::CLONE_NEWNET)?));
        }
        command
    }
}

/// What has passed an interface since it was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Packets that it has received.
    pub packets_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Bytes that it has sent.
    pub bytes_sent: u64,
}

/// A network namespace, deleted when dropped if it was created here.
#[derive(Debug)]
pub struct Netns {
    name: String,
    port: Option<String>,
    entry: Entry,
    is_own: bool,
}

impl Netns {
    fn create(name: &str, port: Option<String>) -> anyhow::Result<Self> {
        ip(&format!("netns add {name}"))?;
        let mut netns = Self::open(name)?;
        netns.port = port;
        netns.is_own = true;
        Ok(netns)
    }

    /// One that exists, and stays.
    ///
    /// # Errors
    ///
    /// If it does not exist.
    pub fn open(name: &str) -> anyhow::Result<Self> {
        let file = File::open(path(name)).with_context(|| format!("open the namespace {name}"))?;
        let entry = Entry { file: Arc::new(file) };
        Ok(Self { name: name.to_owned(), port: None, entry, is_own: false })
    }

    /// Its name for `ip netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The switch's interface to which this host is connected.
    pub fn switch_port(&self) -> Option<&str> {
        self.port.as_deref()
    }

    /// Access for the owner of a process there that cannot borrow this value.
    pub fn entry(&self) -> Entry {
        self.entry.clone()
    }

    /// A command that runs in this network namespace; see [`Entry::command`].
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        self.entry.command(program)
    }

    /// Runs `work` on a thread in this network namespace. A socket that it creates and returns stays
    /// there.
    ///
    /// # Errors
    ///
    /// If the namespace cannot be entered, or `work` fails or panics.
    pub fn run_in<T: Send>(
        &self,
        work: impl FnOnce() -> anyhow::Result<T> + Send,
    ) -> anyhow::Result<T> {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                setns(&*self.entry.file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("enter the namespace {}", self.name))?;
                work()
            });
            thread.join().map_err(|_panic| anyhow!("panicked in the namespace {}", self.name))?
        })
    }

    /// Runs `ip` in this network namespace with the words of `line`.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn ip(&self, line: &str) -> anyhow::Result<()> {
        ip(&format!("-n {} {line}", self.name))
    }

    /// Makes it a router that hides what is behind it: IPv4 packets that leave through `interface` get its
    /// address, and replies find back by conntrack.
    ///
    /// # Errors
    ///
    /// If the kernel or `nft` refuses.
    pub fn masquerade(&self, interface: &str) -> anyhow::Result<()> {
        self.run_in(|| fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("forward packets"))?;
        let mut nft = self.command("nft");
        nft.arg(format!(
            "table ip nat {{ chain post {{ type nat hook postrouting priority 100; \
             oifname \"{interface}\" masquerade; }}; }}"
        ));
        child::finish("nft", &mut nft, Duration::from_secs(10), OnSignal::Finish)?
            .success("nft")
            .map(drop)
    }

    /// What has passed an interface.
    ///
    /// # Errors
    ///
    /// If `ip` does not report it.
    pub fn traffic(&self, interface: &str) -> anyhow::Result<Traffic> {
        let mut ip = Command::new("ip");
        ip.args(["-n", &self.name, "-s", "-j", "link", "show", "dev", interface]);
        let said = child::finish("ip", &mut ip, Duration::from_secs(10), OnSignal::Finish)?;
        let links: serde_json::Value = serde_json::from_str(&said.success("ip")?.stdout)
            .context("read the link's counters")?;
        let of = |side: &str, what: &str| {
            links[0]["stats64"][side][what].as_u64().context("the link has no counters")
        };
        Ok(Traffic {
            packets_received: of("rx", "packets")?,
            bytes_received: of("rx", "bytes")?,
            bytes_sent: of("tx", "bytes")?,
        })
    }

    /// Makes `source` the source address of traffic to `destination`, for tools without such an option.
    ///
    /// # Errors
    ///
    /// If the route cannot be set.
    pub fn send_from(&self, source: IpAddr, destination: IpAddr) -> anyhow::Result<()> {
        ip(&format!("-n {} route replace {destination} dev eth0 src {source}", self.name))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if self.is_own {
            // A drop cannot return an error; the next run removes what remains.
            delete(&self.name).ok();
        }
    }
}

/// Removes leftovers of killed runs: namespaces, temporary directories and pins.
///
/// # Errors
///
/// If something cannot be removed.
pub fn sweep() -> anyhow::Result<()> {
    for name in scratch::leftovers(Path::new(RUN_NETNS))? {
        delete(&name)?;
    }
    scratch::sweep_directory(&std::env::temp_dir())?;
    scratch::sweep_directory(Path::new(crate::ringfence::BPFFS))
}

fn delete(name: &str) -> anyhow::Result<()> {
    let path = path(name);
    // A run that was killed between `open` and `mount` leaves only a file, which is not mounted.
    umount2(&path, MntFlags::MNT_DETACH).ok();
    fs::remove_file(&path).with_context(|| format!("delete the namespace {name}"))
}

fn path(name: &str) -> PathBuf {
    Path::new(RUN_NETNS).join(name)
}

/// Runs `ip` with the words of `line`. None of our names contains a space.
pub(crate) fn ip(line: &str) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    command.args(line.split_whitespace());
    child::finish(&format!("ip {line}"), &mut command, Duration::from_secs(10), OnSignal::Finish)?
        .success(&format!("ip {line}"))?;
    Ok(())
}
