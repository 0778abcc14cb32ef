//! `ringfence-vm-init`: the first process of the virtual machine that `cargo xtask test-vm` boots.
//!
//! It uses the kernel as an administrator's host would, reports each finding as a line on the serial
//! port, and switches the machine off. `xtask/src/vm/findings.rs` reads these lines.

#![expect(clippy::print_stdout, reason = "what it prints is its answer")]

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::kmod::{ModuleInitFlags, finit_module};
use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use ringfence_tests::netns::{Lan, Netns};
use ringfence_tests::ringfence::{Config, Ringfence};

const RINGFENCE: &str = "/ringfence";
const MODULES: &str = "/modules";
const TESTS: &str = "/tests";
/// How many of its million generated packets `kernel_agreement` runs here, where everything is slow.
const PACKETS: &str = "50000";

const PBX: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PHONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 8);
const ATTACKER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);
const SIP: u16 = 5060;
/// The number of datagrams in a round.
const ROUND: u64 = 5;
/// The longest time until a datagram arrives; everything is slow here.
const ARRIVAL: Duration = Duration::from_secs(5);

/// `MODULE_INIT_COMPRESSED_FILE` (`include/uapi/linux/module.h`, Linux 5.17).
const COMPRESSED: ModuleInitFlags = ModuleInitFlags::from_bits_retain(4);
const ELF: [u8; 4] = *b"\x7fELF";

fn main() -> anyhow::Result<()> {
    let done = run();
    if let Err(error) = &done {
        say("failed", Instant::now(), "the start", Some(error));
    }
    println!("vm: end");
    // If this fails, the end of the first process is a panic, which ends the machine too.
    reboot(RebootMode::RB_POWER_OFF).context("switch off")?;
    done
}

fn run() -> anyhow::Result<()> {
    mount_all()?;
    load_modules()?;

    let mut world = None;
    check("loads, and attaches in the driver", || {
        world = Some(World::new("native")?);
        Ok(())
    });
    if let Some(mut world) = world.take() {
        match verified(world.ringfence.id()) {
            Ok(count) => println!("vm: verified {count}"),
            Err(error) => say("failed", Instant::now(), "the verifier's count", Some(&error)),
        }
        check("a manual ban drops only its source", || world.ban());
        check("a ban outlives kill -9, and the next start takes it over", || world.outlive());
        check("detach takes it off", || world.detach());
    }
    check("attaches in the network stack, and drops there", || {
        let mut world = World::new("generic")?;
        world.ban()?;
        world.detach()
    });
    let mut tests: Vec<_> =
        fs::read_dir(TESTS).context("list the tests")?.collect::<io::Result<_>>()?;
    tests.sort_by_key(fs::DirEntry::file_name);
    for test in tests {
        let name = test.file_name().to_string_lossy().into_owned();
        check(&format!("the tests of {name}"), || run_tests(&test.path()));
    }
    Ok(())
}

fn check(name: &str, work: impl FnOnce() -> anyhow::Result<()>) {
    let start = Instant::now();
    match work() {
        Ok(()) => say("ok", start, name, None),
        Err(error) => say("failed", start, name, Some(&error)),
    }
}

fn say(word: &str, start: Instant, name: &str, error: Option<&anyhow::Error>) {
    let seconds = start.elapsed().as_secs_f64();
    let why = error.map(|error| format!(": {error:#}")).unwrap_or_default();
    // The whole text, because a verifier's log is long; the first line again, for the table.
    if why.contains('\n') {
        println!("{why}");
    }
    println!("vm: {word} {seconds:.1} {name}{}", why.lines().next().unwrap_or_default());
}

fn mount_all() -> anyhow::Result<()> {
    for (kind, place) in
        [("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("bpf", "/sys/fs/bpf")]
    {
        mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)
            .with_context(|| format!("mount {place}"))?;
    }
    Ok(())
}

fn load_modules() -> anyhow::Result<()> {
    let order = fs::read_to_string(format!("{MODULES}/order")).context("read which modules")?;
    for name in order.lines() {
        let load = || -> anyhow::Result<()> {
            let file = File::open(format!("{MODULES}/{name}"))?;
            let mut magic = [0; 4];
            (&file).read_exact(&mut magic)?;
            let flags = if magic == ELF { ModuleInitFlags::empty() } else { COMPRESSED };
            Ok(finit_module(&file, c"", flags)?)
        };
        load().with_context(|| format!("load the module {name}"))?;
    }
    Ok(())
}

/// A protected PBX, and a host that sends to it from two addresses: a phone and an attacker.
struct World {
    ringfence: Ringfence,
    inbox: UdpSocket,
    phone: UdpSocket,
    attacker: UdpSocket,
    pbx: Netns,
    mode: &'static str,
    _sender: Netns,
    _lan: Lan,
}

impl World {
    fn new(mode: &'static str) -> anyhow::Result<Self> {
        let mut lan = Lan::new()?;
        let pbx = lan.host("pbx", &[PBX.into()])?;
        let sender = lan.host("sender", &[PHONE.into(), ATTACKER.into()])?;
        let bind = |host: &Netns, address: Ipv4Addr, port: u16| {
            host.run_in(|| UdpSocket::bind((address, port)).context("bind a socket"))
        };
        let (phone, attacker) = (bind(&sender, PHONE, 0)?, bind(&sender, ATTACKER, 0)?);
        let inbox = bind(&pbx, PBX, SIP)?;
        inbox.set_read_timeout(Some(ARRIVAL)).context("read timeout")?;
        let mut config = Config::new(Path::new("/tmp/notice.log"));
        mode.clone_into(&mut config.mode);
        let ringfence = Ringfence::start(&pbx, Path::new(RINGFENCE), &config)?;
        let world =
            Self { ringfence, inbox, phone, attacker, pbx, mode, _sender: sender, _lan: lan };
        world.expect_mode()?;
        ensure!(world.attackers_of_round()? == ROUND, "it drops a source that is not banned");
        Ok(world)
    }

    fn ban(&mut self) -> anyhow::Result<()> {
        let name = "ringfence ban";
        self.ringfence.client().run(&["ban", &ATTACKER.to_string()], false)?.success(name)?;
        ensure!(self.attackers_of_round()? == 0, "a banned source got through");
        self.expect_dropped(ROUND)
    }

    fn outlive(&mut self) -> anyhow::Result<()> {
        self.ringfence.kill()?;
        ensure!(self.attackers_of_round()? == 0, "a banned source got through without controller");
        self.ringfence.restart(&self.pbx)?;
        ensure!(
            self.ringfence.log().contains("replaced the program on eth0"),
            "it did not replace the attached program: {}",
            self.ringfence.log()
        );
        self.expect_mode()?;
        ensure!(self.attackers_of_round()? == 0, "a banned source got through after the restart");
        self.expect_dropped(3 * ROUND)
    }

    fn detach(&mut self) -> anyhow::Result<()> {
        self.ringfence.stop()?;
        ensure!(self.attackers_of_round()? == 0, "the ban went with the controller");
        let mut command = self.pbx.command(RINGFENCE);
        let status = command.arg("-c").arg(self.ringfence.config_file()).arg("detach").status();
        let status = status.context("run ringfence detach")?;
        ensure!(status.success(), "ringfence detach failed ({status})");
        ensure!(self.attackers_of_round()? == ROUND, "it still drops");
        Ok(())
    }

    /// Sends from both, the attacker first; returns how many of the attacker's datagrams arrived. Fails
    /// if one of the phone's did not.
    fn attackers_of_round(&self) -> anyhow::Result<u64> {
        for _ in 0..ROUND {
            for sender in [&self.attacker, &self.phone] {
                sender.send_to(b"OPTIONS sip:192.0.2.1 SIP/2.0\r\n", (PBX, SIP)).context("send")?;
            }
        }
        let (mut phone, mut attacker) = (0, 0);
        while phone < ROUND {
            match self.inbox.recv_from(&mut [0; 64]) {
                Ok((_, SocketAddr::V4(from))) if *from.ip() == PHONE => phone += 1,
                Ok(_) => attacker += 1,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    bail!("of {ROUND} datagrams of the phone, {phone} arrived");
                }
                Err(error) => return Err(error).context("receive"),
            }
        }
        Ok(attacker)
    }

    fn expect_mode(&self) -> anyhow::Result<()> {
        let status = self.ringfence.status()?;
        let modes: Vec<&str> = status.interfaces.iter().map(|i| i.mode.as_str()).collect();
        ensure!(modes == [self.mode], "it is attached as {modes:?}, not {}", self.mode);
        Ok(())
    }

    /// Checks that `status` and `bans` count the dropped packets, and that `status` adds up.
    fn expect_dropped(&self, expected: u64) -> anyhow::Result<()> {
        let status = self.ringfence.status()?;
        let dropped = status.reasons.get("banned").map_or(0, |reason| reason.packets);
        ensure!(dropped == expected, "status has {dropped} dropped, not {expected}");
        for interface in &status.interfaces {
            ensure!(
                interface.received == interface.passed + interface.dropped,
                "status does not add up: {interface:?}"
            );
        }
        let bans = self.ringfence.bans()?;
        let ban = bans.iter().find(|ban| ban.address() == Some(IpAddr::V4(ATTACKER)));
        let packets = ban.context("the ban is not listed")?.packets;
        ensure!(packets == expected, "the ban has {packets} packets, not {expected}");
        Ok(())
    }
}

/// The number of instructions that the verifier followed for the program that a process has open.
fn verified(process: u32) -> anyhow::Result<u64> {
    let files = fs::read_dir(format!("/proc/{process}/fdinfo")).context("list open files")?;
    let counts = files.flatten().filter_map(|file| {
        let info = fs::read_to_string(file.path()).ok()?;
        let count = info.lines().find_map(|line| line.strip_prefix("verified_insns:"))?;
        count.trim().parse().ok()
    });
    counts.max().context("it holds no program open")
}

/// Runs a test executable's privileged tests; fails if one of them fails, or if there is none.
fn run_tests(executable: &Path) -> anyhow::Result<()> {
    let mut tests = Command::new(executable)
        .args(["--ignored", "--test-threads=1", "--nocapture"])
        .env("RINGFENCE_PACKETS", PACKETS)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start the tests")?;
    let output = tests.stdout.take().context("the tests have no output")?;
    let (mut passed, mut failed, mut lists_failed) = (false, Vec::new(), false);
    for line in BufReader::new(output).lines() {
        let line = line.context("read what the tests say")?;
        println!("{line}");
        passed |= line.starts_with("test result: ok. ") && !line.contains(" 0 passed");
        match line.strip_prefix("    ") {
            Some(name) if lists_failed => failed.push(name.to_owned()),
            _ => lists_failed = line == "failures:" || lists_failed && line.is_empty(),
        }
    }
    let status = tests.wait().context("wait for the tests")?;
    ensure!(status.success(), "failed ({status}): {}", failed.join(", "));
    ensure!(passed, "not one ran");
    Ok(())
}
