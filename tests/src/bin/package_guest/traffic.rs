//! The Internet: a phone, a stranger and attackers, and counters of what the filter lets through.
//!
//! It is a namespace on a virtual cable. A process sends, counts the packets to the SIP port that reach
//! the system, and writes the counts to a file. It starts before the network does.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use ringfence_tests::client::Client;
use ringfence_tests::guesser::Guesser;
use ringfence_tests::netns::Netns;
use ringfence_tests::phone::{Account, Phone};

use crate::asterisk::ACCOUNT;
use crate::system::{POLL, ip, until};

pub(crate) const PBX: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// It registers with the right password.
pub(crate) const PHONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 8);
/// It sends keep-alives and never registers. Requests would be challenged, and answering none is a scan.
pub(crate) const STRANGER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);
/// It sends guesses that answer no challenge, so that the sender may be forged.
pub(crate) const ATTACKER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);
/// It answers challenges with wrong passwords.
pub(crate) const GUESSER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 67);
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 254);
const SIP: u16 = 5060;
/// Packets per second of the attacker and of the stranger.
pub(crate) const ATTACK_RATE: u32 = 1_000;
const STRANGER_RATE: u32 = 5;
/// The phone registers this often.
const REGISTERS: Duration = Duration::from_millis(500);
/// A guesser ends after this many guesses without an answer in succession, or this many guesses.
const SILENT_MAX: u32 = 3;
const GUESSES_MAX: u32 = 60;
/// The namespace of the Internet, and the interface towards it.
const OUTSIDE: &str = "outside";
pub(crate) const WAN: &str = "wan0";
/// A fixed MAC address, which the outside knows, so that packets arrive as soon as the interface is up.
const WAN_MAC: &str = "02:00:00:00:00:01";
const COUNTS: &str = "/run/package-test-counts";
/// The interval at which the counts are written.
const WRITTEN: Duration = Duration::from_millis(50);
/// While this file exists, the attacker sends nothing.
const PAUSED: &str = "/run/package-test-paused";
static IS_PAUSED: AtomicBool = AtomicBool::new(false);
/// Room for several seconds of the attack.
const RECEIVE_BUFFER: usize = 16 << 20;
/// Names of the counts that are not addresses.
const REGISTERED: &str = "registered";
const NOT_REGISTERED: &str = "not-registered";
const CAUGHT_UP: &str = "caught-up";

/// Connects the Internet by a virtual cable. The interface on this side stays down.
pub(crate) fn lay_cable() -> Result<()> {
    let outside = |arguments: &str| ip(&format!("-n {OUTSIDE} {arguments}"));
    ip(&format!("netns add {OUTSIDE}"))?;
    ip(&format!("link add {WAN} address {WAN_MAC} type veth peer name eth0 netns {OUTSIDE}"))?;
    for address in [GATEWAY, PHONE, STRANGER, ATTACKER, GUESSER] {
        outside(&format!("address add {address}/24 dev eth0"))?;
    }
    outside("link set eth0 up")?;
    outside(&format!("neighbour replace {PBX} lladdr {WAN_MAC} dev eth0 nud permanent"))
}

/// Enables the interface, with a default route as on an Internet-facing host.
pub(crate) fn bring_up() -> Result<()> {
    ip(&format!("address add {PBX}/24 dev {WAN}"))?;
    ip(&format!("link set {WAN} up"))?;
    ip(&format!("route add default via {GATEWAY}"))
}

/// Sends and counts until the process is ended.
pub(crate) fn run() -> Result<()> {
    let arrivals = listen()?;
    let outside = Netns::open(OUTSIDE)?;
    let account = Account {
        name: ACCOUNT.0.to_owned(),
        password: ACCOUNT.1.to_owned(),
        local: PHONE.into(),
        registrar: SocketAddr::from((PBX, SIP)),
    };
    let phone = Phone::start(&outside, account, REGISTERS)?;
    send(&outside, STRANGER, STRANGER_RATE, keep_alive)?;
    send(&outside, ATTACKER, ATTACK_RATE, forged_guess)?;
    let (mut counts, mut written) = (BTreeMap::<Ipv4Addr, u64>::new(), Instant::now());
    let (mut buffer, mut caught_up) = ([0; 2048], 0_u64);
    loop {
        match recvfrom::<LinkAddr>(arrivals.as_raw_fd(), &mut buffer) {
            Ok((length, _)) => {
                if let Some(source) = buffer.get(..length).and_then(source_of) {
                    *counts.entry(source).or_insert(0) += 1;
                }
            }
            Err(Errno::EAGAIN) => caught_up += 1,
            Err(Errno::EINTR) => {}
            Err(error) => bail!("read what arrives: {error}"),
        }
        if written.elapsed() >= WRITTEN {
            written = Instant::now();
            IS_PAUSED.store(Path::new(PAUSED).exists(), Ordering::Relaxed);
            let report = phone.report();
            let registered = report.attempts - report.failures;
            let mut text =
                format!("{REGISTERED} {registered}\n{NOT_REGISTERED} {}\n", report.failures);
            writeln!(text, "{CAUGHT_UP} {caught_up}").context("write the counts")?;
            for (source, count) in &counts {
                writeln!(text, "{source} {count}").context("write the counts")?;
            }
            let new = format!("{COUNTS}.new");
            fs::write(&new, text).context("write the counts")?;
            fs::rename(&new, COUNTS).context("write the counts")?;
        }
    }
}

/// A socket that sees what the filter passes, since Asterisk has the SIP port.
fn listen() -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let all = SockProtocol::EthAll;
    let socket = socket(AddressFamily::Packet, SockType::Datagram, flags, all)
        .context("make a packet socket")?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).context("receive buffer")?;
    let wait = TimeVal::milliseconds(i64::try_from(WRITTEN.as_millis())?);
    setsockopt(&socket, sockopt::ReceiveTimeout, &wait).context("set a timeout")?;
    Ok(socket)
}

/// The source of a packet to the SIP port of the PBX.
fn source_of(packet: &[u8]) -> Option<Ipv4Addr> {
    let header: &[u8; 20] = packet.first_chunk()?;
    let address = |at: usize| Some(Ipv4Addr::from(*header.get(at..)?.first_chunk::<4>()?));
    let ports = packet.get(usize::from(header[0] & 0xf) * 4..)?;
    let is_udp = header[0] >> 4 == 4 && header[9] == 17;
    let is_sip = ports.get(2..4)? == SIP.to_be_bytes();
    (is_udp && is_sip && address(16)? == PBX).then(|| address(12))?
}

/// Sends to the PBX, on a thread that ends with the process.
fn send(
    outside: &Netns,
    source: Ipv4Addr,
    rate: u32,
    request: fn(Ipv4Addr, u64) -> String,
) -> Result<()> {
    let socket = outside.run_in(|| UdpSocket::bind((source, 0)).context("bind a source"))?;
    let every = Duration::from_secs(1).checked_div(rate).context("the rate is 0")?;
    thread::spawn(move || {
        let mut next = Instant::now();
        for number in 0.. {
            if source != ATTACKER || !IS_PAUSED.load(Ordering::Relaxed) {
                // Sending fails while the interface does not exist.
                let _may_fail = socket.send_to(request(source, number).as_bytes(), (PBX, SIP));
            }
            next += every;
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    });
    Ok(())
}

/// As a phone behind NAT sends.
fn keep_alive(_source: Ipv4Addr, _number: u64) -> String {
    "\r\n\r\n".to_owned()
}

/// Of a user that does not exist, with a nonce that is not Asterisk's. Each is another request: a throttled source
/// may retransmit one.
fn forged_guess(source: Ipv4Addr, number: u64) -> String {
    format!(
        "REGISTER sip:{PBX} SIP/2.0\r\nVia: SIP/2.0/UDP {source};rport;branch=z9hG4bK{number:020}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:1@{PBX}>;tag={number}\r\nTo: <sip:1@{PBX}>\r\n\
         Call-ID: {number:020}-{source}\r\nCSeq: 1 REGISTER\r\nContact: <sip:1@{source}>\r\n\
         Authorization: Digest username=\"1\", realm=\"asterisk\", nonce=\"1/{number:032x}\", \
         uri=\"sip:{PBX}\", response=\"{number:032x}\", algorithm=MD5, qop=auth, nc=00000001, \
         cnonce=\"{number:08x}\"\r\nContent-Length: 0\r\n\r\n"
    )
}

/// Guesses the phone's password until nothing is answered any more; returns how many guesses were answered.
pub(crate) fn guess() -> Result<u32> {
    let outside = Netns::open(OUTSIDE)?;
    let mut client = Client::udp(&outside, GUESSER.into(), PBX.into())?;
    let (mut answered, mut silent) = (0, 0);
    for number in 0..GUESSES_MAX {
        let call_id = format!("guess-{}-{number}", client.local().port());
        match client.register(ACCOUNT.0, &format!("guess-{number}"), &call_id)? {
            Some(200) => bail!("a guess was right"),
            Some(_) => (answered, silent) = (answered + 1, 0),
            None => silent += 1,
        }
        if silent == SILENT_MAX {
            break;
        }
    }
    Ok(answered)
}

/// Sends a few forged guesses in the name of the gateway.
pub(crate) fn forge_guesses_of_the_gateway() -> Result<()> {
    let outside = Netns::open(OUTSIDE)?;
    let mut guesser = Guesser::udp(&outside, GATEWAY.into(), PBX.into())?;
    for _ in 0..5 {
        guesser.guess()?;
    }
    Ok(())
}

/// Runs something without the attack, which takes most of the machine where nothing drops it.
pub(crate) fn in_peace(work: impl FnOnce() -> Result<()>) -> Result<()> {
    fs::write(PAUSED, "").context("pause the attack")?;
    let done = work();
    fs::remove_file(PAUSED).context("resume the attack")?;
    done
}

/// What arrives at the PBX.
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
        self.value(&source.to_string())
    }

    /// The same, once all that has arrived is counted.
    fn settled_count(&self, source: Ipv4Addr) -> Result<u64> {
        thread::sleep(POLL);
        let before = self.value(CAUGHT_UP)?;
        until("all that has arrived is counted", || Ok(self.value(CAUGHT_UP)? > before))?;
        self.count(source)
    }

    /// The number of registrations of the phone that failed.
    pub(crate) fn not_registered(&self) -> Result<u64> {
        self.value(NOT_REGISTERED)
    }

    /// Waits until the phone has registered once more.
    pub(crate) fn registers(&self, when: &str) -> Result<()> {
        let before = self.value(REGISTERED)?;
        until(&format!("the phone registers {when}"), || Ok(self.value(REGISTERED)? > before))
    }

    fn value(&self, name: &str) -> Result<u64> {
        // By then, packets that have arrived are written.
        thread::sleep(2 * WRITTEN);
        if !self.counts.exists() {
            return Ok(0);
        }
        let text = fs::read_to_string(self.counts).context("read the counts")?;
        let of = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        Ok(text.lines().find_map(of).unwrap_or(0))
    }

    /// Waits for a packet of this source.
    pub(crate) fn hears(&self, source: Ipv4Addr, when: &str) -> Result<()> {
        let before = self.count(source)?;
        until(&format!("{source} is heard {when}"), || Ok(self.count(source)? > before))
    }

    /// Fails if a packet of this source arrives within this time.
    pub(crate) fn hears_nothing_of(&self, source: Ipv4Addr, time: Duration) -> Result<()> {
        let before = self.settled_count(source)?;
        thread::sleep(time);
        let passed = self.settled_count(source)? - before;
        ensure!(passed == 0, "{passed} packets of {source} arrived");
        Ok(())
    }

    /// Fails if more than one in a thousand packets of the attacker arrives within this time: of different
    /// requests, few are taken for a retransmission.
    pub(crate) fn hears_a_trickle_of(&self, source: Ipv4Addr, time: Duration) -> Result<()> {
        let before = self.settled_count(source)?;
        thread::sleep(time);
        let passed = self.settled_count(source)? - before;
        let sent = u64::from(ATTACK_RATE) * time.as_secs();
        ensure!(passed <= sent / 1000, "{passed} packets of {source} arrived");
        Ok(())
    }

    /// Fails if a packet of the attacker arrives meanwhile, or the phone cannot register.
    pub(crate) fn hears_only_the_phone_during(
        &self,
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let before = self.settled_count(ATTACKER)?;
        work()?;
        self.registers("meanwhile")?;
        let passed = self.settled_count(ATTACKER)? - before;
        ensure!(passed == 0, "{passed} packets of a banned source arrived");
        Ok(())
    }
}
