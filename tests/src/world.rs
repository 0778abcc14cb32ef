//! The environment of the end-to-end tests: a PBX, a phone and an attacker with several addresses on a
//! switch. The PBX has the filter and either a real Asterisk or ports that only echo.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use crate::asterisk::{self, Asterisk};
use crate::attack::{self, Attacker, Method, Plan};
use crate::netns::{self, Lan, Netns};
use crate::notice::Notices;
use crate::phone::{Account, Phone};
use crate::ringfence::{self, BPFFS, Config, Ringfence};
use crate::tap::Tap;
use crate::{guesser, scratch, screen};

/// The PBX.
pub const PBX: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
/// Its IPv6 address.
pub const PBX6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10));
/// The phone.
pub const PHONE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 20));
/// The attacker's addresses.
pub const ATTACKERS: [IpAddr; 7] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 67)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 68)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 69)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 70)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 71)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 72)),
];
/// The attacker's IPv6 addresses.
pub const ATTACKERS6: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x66)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x67)),
];

/// A port of the PBX that is not in the filter's configuration.
pub const OTHER_PORT: u16 = 5999;
/// The SIP port.
pub const SIP_PORT: u16 = 5060;

/// The hosts.
#[derive(Debug)]
pub struct Hosts {
    /// With [`PBX`] and [`PBX6`].
    pub pbx: Netns,
    /// With [`PHONE`].
    pub phone: Netns,
    /// With [`ATTACKERS`] and [`ATTACKERS6`].
    pub attacker: Netns,
    /// The network that connects them.
    pub lan: Lan,
}

impl Hosts {
    /// Creates them, after it has removed leftovers of killed runs.
    ///
    /// # Errors
    ///
    /// If they cannot be created (this needs root).
    pub fn new() -> anyhow::Result<Self> {
        netns::sweep().context("remove what an earlier run left behind")?;
        let mut lan = Lan::new()?;
        let all: Vec<IpAddr> = ATTACKERS.into_iter().chain(ATTACKERS6).collect();
        Ok(Self {
            pbx: lan.host("pbx", &[PBX, PBX6])?,
            phone: lan.host("phone", &[PHONE])?,
            attacker: lan.host("attacker", &all)?,
            lan,
        })
    }

    /// The number of frames that the switch has delivered to the PBX's interface.
    ///
    /// # Errors
    ///
    /// If `ip` does not report it.
    pub fn delivered(&self) -> anyhow::Result<u64> {
        let port = self.pbx.switch_port().context("the PBX is not plugged in")?;
        let mut ip = self.lan.switch().command("ip");
        let said = ip.args(["-s", "-j", "link", "show", "dev", port]).output().context("run ip")?;
        let links: serde_json::Value =
            serde_json::from_slice(&said.stdout).context("read the link's counters")?;
        links[0]["stats64"]["tx"]["packets"].as_u64().context("the link has no counters")
    }
}

/// The hosts with a real Asterisk and the filter. Processes are dropped before their namespaces.
#[derive(Debug)]
pub struct World {
    /// The filter.
    pub ringfence: Ringfence,
    /// The packets that arrive at the PBX behind the filter.
    pub arrived: Tap,
    /// The packets that are sent to the PBX.
    pub sent: Tap,
    /// Asterisk.
    pub asterisk: Asterisk,
    /// The hosts.
    pub hosts: Hosts,
}

impl World {
    /// Starts everything; the filter has the configuration of a Wazo host, changed by `adjust`.
    ///
    /// # Errors
    ///
    /// If something does not start.
    pub fn new(adjust: impl FnOnce(&mut Config)) -> anyhow::Result<Self> {
        Self::with(&asterisk::Options::default(), adjust)
    }

    /// The row of a source in `status`.
    ///
    /// # Errors
    ///
    /// If the daemon does not answer, or has no such source.
    pub fn source(&self, name: &str) -> anyhow::Result<serde_json::Value> {
        let status: serde_json::Value = self.ringfence.client().ask(&["status"])?;
        let sources = status["sources"].as_array().context("status has no sources")?;
        let source = sources.iter().find(|source| source["name"] == name);
        source.cloned().with_context(|| format!("no source {name} in {status}"))
    }

    /// The same with these options for Asterisk. If it has the AMI user `ringfence`, the filter uses AMI.
    ///
    /// # Errors
    ///
    /// If something does not start.
    /// When something does not start.
    pub fn with(
        options: &asterisk::Options,
        adjust: impl FnOnce(&mut Config),
    ) -> anyhow::Result<Self> {
        attack::check_tools()?;
        let binary = ringfence::built()?;
        let hosts = Hosts::new()?;
        let root = Asterisk::ensure_root(&cache()?, &mut |_progress| ())?;
        let arrived = Tap::start(&hosts.pbx, "eth0")?;
        let port = hosts.pbx.switch_port().context("the PBX is not plugged in")?;
        let sent = Tap::start(hosts.lan.switch(), port)?;
        let asterisk = Asterisk::start(&hosts.pbx, &root, options)?;
        let mut config = Config::new(&asterisk.notice_log());
        config.ami_secret = options.ami_secret.as_ref().map(|_secret| asterisk.ami_secret());
        config.security_log = options.security_log.map(|_form| asterisk.security_log());
        adjust(&mut config);
        let ringfence = Ringfence::start(&hosts.pbx, &binary, &config)?;
        Ok(Self { ringfence, arrived, sent, asterisk, hosts })
    }

    /// A phone that registers repeatedly.
    ///
    /// # Errors
    ///
    /// If its socket cannot be created.
    pub fn phone(&self, interval: Duration) -> anyhow::Result<Phone> {
        let endpoints = asterisk::Options::default().endpoints;
        let (name, password) = endpoints.into_iter().next().context("no endpoint")?;
        let registrar = SocketAddr::new(PBX, SIP_PORT);
        Phone::start(
            &self.hosts.phone,
            Account { name, password, local: PHONE, registrar },
            interval,
        )
    }

    /// An attack on the PBX's address of the same family.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn attack(
        &self,
        method: Method,
        source: IpAddr,
        rate: u32,
        duration: Duration,
    ) -> anyhow::Result<Attacker> {
        let target = if source.is_ipv4() { PBX } else { PBX6 };
        Attacker::start(&self.hosts.attacker, &Plan { method, source, target, rate, duration })
    }

    /// The failures of a source in Asterisk's log, including rotated files.
    ///
    /// # Errors
    ///
    /// If a file cannot be read.
    pub fn reported(&self, source: IpAddr) -> anyhow::Result<u64> {
        let mut sum = 0;
        for entry in std::fs::read_dir(self.asterisk.log_dir()).context("list Asterisk's logs")? {
            let path = entry.context("list Asterisk's logs")?.path();
            if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("fail2ban")) {
                let mut notices = Notices::new(&path);
                notices.update()?;
                sum += notices.of(source);
            }
        }
        Ok(sum)
    }

    /// Whether a source is banned.
    ///
    /// # Errors
    ///
    /// If the filter does not answer.
    pub fn is_banned(&self, source: IpAddr) -> anyhow::Result<bool> {
        Ok(self.ringfence.bans()?.iter().any(|ban| ban.covers(source)))
    }

    /// Removes everything, and checks that nothing is left.
    ///
    /// # Errors
    ///
    /// If something is left.
    pub fn end(self) -> anyhow::Result<()> {
        drop(self);
        nothing_is_left()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if thread::panicking() {
            screen::complain(&format!("what ringfence said:\n{}", self.ringfence.log().trim_end()));
        }
    }
}

/// Ports on a host that echo UDP datagrams and accept TCP connections: the SIP port and [`OTHER_PORT`],
/// for both families.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    /// Opens the ports on `host`.
    ///
    /// # Errors
    ///
    /// If one is in use.
    pub fn start(host: &Netns) -> anyhow::Result<Self> {
        let mut echo = Self { stop: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        for port in [SIP_PORT, OTHER_PORT] {
            let any = (Ipv6Addr::UNSPECIFIED, port);
            let (udp, tcp) = host.run_in(|| {
                let udp = UdpSocket::bind(any).context("open a UDP port")?;
                let tcp = TcpListener::bind(any).context("open a TCP port")?;
                Ok((udp, tcp))
            })?;
            udp.set_read_timeout(Some(Duration::from_millis(50))).context("set a timeout")?;
            // No code accepts the connections; the kernel establishes them nevertheless.
            let stop = Arc::clone(&echo.stop);
            echo.threads.push(thread::spawn(move || {
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = udp.recv_from(&mut buffer) {
                        // The client repeats a lost datagram.
                        udp.send_to(&buffer[..length], from).ok();
                    }
                }
                drop(tcp);
            }));
        }
        Ok(echo)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic there has been printed; a drop cannot return an error.
            thread.join().ok();
        }
    }
}

/// Whether a datagram from `source` is answered by the [`Echo`] at a port of the PBX.
///
/// # Errors
///
/// If it cannot be sent.
pub fn udp_reaches(host: &Netns, source: IpAddr, port: u16) -> anyhow::Result<bool> {
    let target = if source.is_ipv4() { PBX } else { PBX6 };
    let socket = host.run_in(|| {
        let socket = UdpSocket::bind((source, 0)).context("bind a socket")?;
        socket.connect((target, port)).context("connect a socket")?;
        Ok(socket)
    })?;
    socket.set_read_timeout(Some(Duration::from_millis(100))).context("set a timeout")?;
    for _try in 0..3 {
        socket.send(b"OPTIONS sip:a SIP/2.0\r\n\r\n").context("send")?;
        if socket.recv(&mut [0; 64]).is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether `source` gets a TCP connection to a port of the PBX.
pub fn tcp_reaches(host: &Netns, source: IpAddr, port: u16) -> bool {
    let target = if source.is_ipv4() { PBX } else { PBX6 };
    guesser::dial(host, source, SocketAddr::new(target, port)).is_ok()
}

/// Waits until a condition holds, at most for `limit`; returns whether it holds.
pub fn until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    /// Most conditions start a command, and other tests need the processor too.
    const LONGEST: Duration = Duration::from_millis(100);
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(20);
    while Instant::now() < deadline {
        if done() {
            return true;
        }
        thread::sleep(pause);
        pause = (pause * 5 / 4).min(LONGEST);
    }
    done()
}

/// Checks that this run has removed every namespace, pin and temporary file that it created.
///
/// # Errors
///
/// If something is left.
pub fn nothing_is_left() -> anyhow::Result<()> {
    let temporary = std::env::temp_dir();
    let places = [Path::new("/run/netns"), Path::new(BPFFS), &temporary];
    let left: Vec<PathBuf> = places.into_iter().flat_map(scratch::own).collect();
    ensure!(left.is_empty(), "left behind: {left:?}");
    Ok(())
}

/// The directory in which Asterisk is kept between runs: `RINGFENCE_LAB_CACHE`, or `lab` in cargo's
/// directory.
///
/// # Errors
///
/// If there is no such directory.
pub fn cache() -> anyhow::Result<PathBuf> {
    if let Some(cache) = std::env::var_os("RINGFENCE_LAB_CACHE") {
        return Ok(cache.into());
    }
    let own = std::env::current_exe().context("path of this executable")?;
    let target = own.ancestors().nth(3).context("this executable is not in a target directory")?;
    Ok(target.join("lab"))
}
