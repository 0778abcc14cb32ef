//! Traffic from outside, and counters of what arrives.
//!
//! The Internet is a namespace on a virtual cable, with a phone and an attacker that send
//! continuously. A file has the number of packets from each source that arrive at the SIP port. The
//! senders and the counter run in another process and start before the network does.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::system::{POLL, ip, until};

pub(crate) const PBX: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub(crate) const PHONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 8);
pub(crate) const ATTACKER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);
const SIP: u16 = 5060;
/// Packets per second of the attacker and of the phone.
pub(crate) const ATTACK_RATE: u32 = 1_000;
const PHONE_RATE: u32 = 5;
/// The namespace of the Internet, and the interface towards it.
const OUTSIDE: &str = "outside";
pub(crate) const WAN: &str = "wan0";
/// A fixed MAC address, which the outside knows, so that packets arrive as soon as the interface is up.
const WAN_MAC: &str = "02:00:00:00:00:01";
const COUNTS: &str = "/run/package-test-counts";
/// The interval at which the counts are written.
const WRITTEN: Duration = Duration::from_millis(50);

/// Connects a phone and an attacker by a virtual cable. The interface on this side stays down.
pub(crate) fn lay_cable() -> Result<()> {
    let outside = |arguments: &str| ip(&format!("-n {OUTSIDE} {arguments}"));
    ip(&format!("netns add {OUTSIDE}"))?;
    ip(&format!("link add {WAN} address {WAN_MAC} type veth peer name eth0 netns {OUTSIDE}"))?;
    for address in [PHONE, ATTACKER] {
        outside(&format!("address add {address}/24 dev eth0"))?;
    }
    outside("link set eth0 up")?;
    outside(&format!("neighbour replace {PBX} lladdr {WAN_MAC} dev eth0 nud permanent"))
}

/// Enables the interface, with a default route as on an Internet-facing host.
pub(crate) fn bring_up() -> Result<()> {
    ip(&format!("address add {PBX}/24 dev {WAN}"))?;
    ip(&format!("link set {WAN} up"))?;
    ip(&format!("route add default via {PHONE}"))
}

/// Sends and counts until the process is ended.
pub(crate) fn run() -> Result<()> {
    let inbox = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SIP)).context("bind the SIP port")?;
    inbox.set_read_timeout(Some(WRITTEN)).context("set a timeout")?;
    let _phone = Sender::start(PHONE, PHONE_RATE)?;
    let _attacker = Sender::start(ATTACKER, ATTACK_RATE)?;
    let (mut counts, mut written) = (BTreeMap::<IpAddr, u64>::new(), Instant::now());
    loop {
        if let Ok((_, from)) = inbox.recv_from(&mut [0; 128]) {
            *counts.entry(from.ip()).or_insert(0) += 1;
        }
        if written.elapsed() >= WRITTEN {
            written = Instant::now();
            let line = |(source, count): (&IpAddr, &u64)| format!("{source} {count}\n");
            let text: String = counts.iter().map(line).collect();
            let new = format!("{COUNTS}.new");
            fs::write(&new, text).context("write the counts")?;
            fs::rename(&new, COUNTS).context("write the counts")?;
        }
    }
}

/// Sends to the PBX until the process is ended.
pub(crate) fn send(source: Ipv4Addr, rate: u32) -> Result<()> {
    let socket = UdpSocket::bind((source, 0)).context("bind the source")?;
    let every = Duration::from_secs(1).checked_div(rate).context("the rate is 0")?;
    let mut next = Instant::now();
    for number in 0u64.. {
        // Each is another request: a throttled source may retransmit one.
        let request = format!(
            "OPTIONS sip:{number:020}@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP {source};branch=z9hG4bK{number:020}\r\n"
        );
        // Sending fails while the interface or the receiver does not exist.
        let _may_fail = socket.send_to(request.as_bytes(), (PBX, SIP));
        next += every;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// A process that is ended when this is dropped.
pub(crate) struct Sender(Child);

impl Sender {
    fn start(source: Ipv4Addr, rate: u32) -> Result<Self> {
        let own = env::current_exe().context("find this program")?;
        let mut ip = Command::new("ip");
        ip.args(["netns", "exec", OUTSIDE]).arg(own);
        ip.args(["send", &source.to_string(), &rate.to_string()]);
        Ok(Self(ip.stdin(Stdio::null()).spawn().context("start a sender")?))
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _has_ended = self.0.kill();
        let _has_ended = self.0.wait();
    }
}

/// The packets that arrive at the PBX.
pub(crate) struct Inbox {
    /// The file with the counts.
    counts: &'static Path,
}

impl Inbox {
    /// Starts the senders and the counter as a service, so that they are not a child of this process.
    pub(crate) fn open() -> Result<Self> {
        let own = env::current_exe().context("find this program")?;
        let mut run = Command::new("systemd-run");
        run.args(["--unit=package-test-senders", "--quiet"]).arg(own).arg("traffic");
        let status = run.status().context("run systemd-run")?;
        ensure!(status.success(), "systemd-run failed ({status})");
        Ok(Self::after_the_reboot())
    }

    /// The one that has been started with the system.
    pub(crate) fn after_the_reboot() -> Self {
        Self { counts: Path::new(COUNTS) }
    }

    /// The number of packets that have arrived from this source.
    pub(crate) fn count(&self, source: Ipv4Addr) -> Result<u64> {
        // By then, packets that have arrived are written.
        thread::sleep(2 * WRITTEN);
        if !self.counts.exists() {
            return Ok(0);
        }
        let text = fs::read_to_string(self.counts).context("read the counts")?;
        let of = |line: &str| line.strip_prefix(&format!("{source} "))?.parse().ok();
        Ok(text.lines().find_map(of).unwrap_or(0))
    }

    /// Waits for a packet of this source.
    pub(crate) fn hears(&self, source: Ipv4Addr, when: &str) -> Result<()> {
        let before = self.count(source)?;
        until(&format!("{source} is heard {when}"), || Ok(self.count(source)? > before))
    }

    /// Fails if a packet of this source arrives within this time.
    pub(crate) fn hears_nothing_of(&self, source: Ipv4Addr, time: Duration) -> Result<()> {
        // First wait for packets that are still on their way.
        thread::sleep(POLL);
        let before = self.count(source)?;
        thread::sleep(time);
        let passed = self.count(source)? - before;
        ensure!(passed == 0, "{passed} packets of {source} arrived");
        Ok(())
    }

    /// Fails if more than one in a thousand packets of the attacker arrives within this time: of different
    /// requests, few are taken for a retransmission.
    pub(crate) fn hears_a_trickle_of(&self, source: Ipv4Addr, time: Duration) -> Result<()> {
        thread::sleep(POLL);
        let before = self.count(source)?;
        thread::sleep(time);
        let passed = self.count(source)? - before;
        let sent = u64::from(ATTACK_RATE) * time.as_secs();
        ensure!(passed <= sent / 1000, "{passed} packets of {source} arrived");
        Ok(())
    }

    /// Fails if a packet of the attacker, or none of the phone, arrives meanwhile.
    pub(crate) fn hears_only_the_phone_during(
        &self,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let before = self.count(ATTACKER)?;
        work()?;
        self.hears(PHONE, "meanwhile")?;
        let passed = self.count(ATTACKER)? - before;
        ensure!(passed == 0, "{passed} packets of a banned source arrived");
        Ok(())
    }
}
