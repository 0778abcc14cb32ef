//! `ringfence-package-guest`: what `cargo xtask test-package` runs inside a Debian system that has just
//! booted.
//!
//! Does to the package what an administrator would, while an attacker sends; says on the serial line what
//! it finds, a line each. `xtask/src/vm/findings.rs` reads what it says.

#![expect(clippy::print_stdout, reason = "what it prints is its answer")]

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

const PBX: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PHONE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 8);
const ATTACKER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 66);
const SIP: u16 = 5060;
/// What the attacker and the phone send, in packets a second.
const ATTACK_RATE: u32 = 1_000;
const PHONE_RATE: u32 = 5;
/// The namespace that is the Internet, and the interface towards it.
const OUTSIDE: &str = "outside";
const WAN: &str = "wan0";
const NOTICE_LOG: &str = "/var/log/asterisk/fail2ban";
/// Everything is slow here.
const LIMIT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(200);
/// What a purge must not leave.
const TRACES: [&str; 6] = [
    "/etc/ringfence",
    "/var/lib/ringfence",
    "/run/ringfence",
    "/sys/fs/bpf/ringfence",
    "/etc/systemd/system/multi-user.target.wants/ringfence.service",
    "/etc/asterisk/manager.d/ringfence.conf",
];

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().collect();
    if let [_, verb, source, rate] = &arguments[..]
        && verb == "send"
    {
        return send(source.parse().context("the source")?, rate.parse().context("the rate")?);
    }
    let done = run();
    if let Err(error) = &done {
        say("failed", Instant::now(), "the start", Some(error));
    }
    println!("vm: end");
    done
}

fn run() -> Result<()> {
    let payload = env::current_exe().context("find the payload")?;
    let payload = payload.parent().context("find the payload")?;
    let package = |name: &str| payload.join(name).display().to_string();
    connect()?;
    let inbox = Inbox::open()?;
    let phone = Sender::start(PHONE, PHONE_RATE)?;
    let attacker = Sender::start(ATTACKER, ATTACK_RATE)?;
    inbox.hears(ATTACKER, "before the installation")?;

    check("apt installs the package, and the service is up", || {
        apt(&["install", &package("old.deb")])?;
        service_is_up()?;
        let status = output("ringfence", &["status", "--json"])?;
        ensure!(status.contains(WAN), "{WAN} is not protected: {status}");
        Ok(())
    });
    check("the service manager knows what it does", || {
        let text = output("systemctl", &["show", "-P", "StatusText", "ringfence"])?;
        ensure!(text.contains("protects wan0"), "systemctl shows: {text}");
        Ok(())
    });
    check("failures that Asterisk logs ban their source", || {
        let end = Instant::now() + LIMIT;
        while output("ringfence", &["bans", "--jail", "asterisk-wazo"])?
            .lines()
            .all(|l| !l.contains(&ATTACKER.to_string()))
        {
            ensure!(Instant::now() < end, "no ban within {} s", LIMIT.as_secs());
            log_failures()?;
            thread::sleep(POLL);
        }
        inbox.hears_only_the_phone(Duration::from_secs(2))
    });
    check("an upgrade under attack lets no packet through", || {
        inbox.hears_only_the_phone_during(|| {
            let before = dropped()?;
            apt(&["install", &package("new.deb")])?;
            service_is_up()?;
            is_attacked(before)
        })
    });
    check("a reload with a broken configuration changes nothing", || {
        let broken = Path::new("/etc/ringfence/conf.d/broken.yml");
        fs::create_dir_all("/etc/ringfence/conf.d").context("make conf.d")?;
        fs::write(broken, "jails: [").context("write a broken configuration")?;
        let reloaded = inbox.hears_only_the_phone_during(|| {
            ensure!(
                !run_quietly("systemctl", &["reload", "ringfence"])?,
                "systemctl reload succeeded with a broken configuration"
            );
            service_is_up()
        });
        fs::remove_file(broken).context("remove the broken configuration")?;
        reloaded?;
        must("systemctl", &["reload", "ringfence"])
    });
    check("a daemon that hangs is started again, and its bans hold", || {
        let restarts = || output("systemctl", &["show", "-P", "NRestarts", "ringfence"]);
        let before = restarts()?;
        inbox.hears_only_the_phone_during(|| {
            must("systemctl", &["kill", "--signal=STOP", "ringfence"])?;
            until("systemd restarts the service", || Ok(restarts()? != before))?;
            service_is_up()
        })
    });
    check("it starts while Wazo is disabled", || {
        fs::create_dir_all("/var/lib/wazo").context("make /var/lib/wazo")?;
        fs::write("/var/lib/wazo/disabled", "").context("disable Wazo")?;
        must("systemctl", &["restart", "ringfence"])?;
        service_is_up()?;
        fs::remove_dir_all("/var/lib/wazo").context("enable Wazo")
    });
    check("removing it lets all packets pass", || {
        apt(&["remove", "ringfence"])?;
        inbox.hears(ATTACKER, "after the removal")
    });
    check("a purge leaves nothing", || {
        apt(&["purge", "ringfence"])?;
        let left: Vec<_> = TRACES.into_iter().filter(|path| Path::new(path).exists()).collect();
        ensure!(left.is_empty(), "these are left: {left:?}");
        let named = output("find", &["/etc", "/usr", "/var/lib", "/run", "-name", "*ringfence*"])?;
        ensure!(named.is_empty(), "these are left: {named}");
        let link = output("ip", &["link", "show", WAN])?;
        ensure!(!link.contains("xdp"), "the program is still attached: {link}");
        Ok(())
    });
    phone.end()?;
    attacker.end()
}

fn check(name: &str, work: impl FnOnce() -> Result<()>) {
    let start = Instant::now();
    match work() {
        Ok(()) => say("ok", start, name, None),
        Err(error) => say("failed", start, name, Some(&error)),
    }
}

fn say(word: &str, start: Instant, name: &str, error: Option<&anyhow::Error>) {
    let seconds = start.elapsed().as_secs_f64();
    let why = error.map(|error| format!(": {error:#}")).unwrap_or_default();
    println!("vm: {word} {seconds:.1} {name}{}", why.replace(['\n', '\r'], " | "));
}

/// A default route to a phone and an attacker, as on a host that faces the Internet.
fn connect() -> Result<()> {
    let outside = |arguments: &str| ip(&format!("-n {OUTSIDE} {arguments}"));
    ip(&format!("netns add {OUTSIDE}"))?;
    ip(&format!("link add {WAN} type veth peer name eth0 netns {OUTSIDE}"))?;
    for address in [PHONE, ATTACKER] {
        outside(&format!("address add {address}/24 dev eth0"))?;
    }
    outside("link set eth0 up")?;
    ip(&format!("address add {PBX}/24 dev {WAN}"))?;
    ip(&format!("link set {WAN} up"))?;
    ip(&format!("route add default via {PHONE}"))?;
    let directory = Path::new(NOTICE_LOG).parent().context("the log's directory")?;
    fs::create_dir_all(directory).context("make Asterisk's log directory")?;
    fs::write(NOTICE_LOG, "").context("make Asterisk's log")
}

fn ip(arguments: &str) -> Result<()> {
    must("ip", &arguments.split(' ').collect::<Vec<_>>())
}

/// What Asterisk logs about a wrong password.
fn log_failures() -> Result<()> {
    let time = output("date", &["+%F %T.0000"])?;
    let time = time.trim();
    let line = format!(
        "[{time}] NOTICE[1234] res_pjsip/pjsip_distributor.c: Request 'REGISTER' from \
         '\"1\" <sip:1@192.0.2.1>' failed for '{ATTACKER}:5060' (callid: abc) - Failed to authenticate\n"
    );
    let mut log = OpenOptions::new().append(true).open(NOTICE_LOG).context("open the log")?;
    log.write_all(line.repeat(5).as_bytes()).context("write the log")
}

fn apt(arguments: &[&str]) -> Result<()> {
    let mut all = vec!["--yes", "-o", "APT::Sandbox::User=root"];
    all.extend(arguments);
    must("apt-get", &all)
}

/// Waits until the service is active, which it is when it has said so itself.
fn service_is_up() -> Result<()> {
    until("the service is active", || run_quietly("systemctl", &["is-active", "ringfence"]))?;
    until("status --check reports protection", || {
        let mut check = command("ringfence", &["status", "--check"]);
        let status = check.stdout(Stdio::null()).status().context("run ringfence status")?;
        // Asterisk does not run here, which is worth a warning and no more.
        Ok(status.code().is_some_and(|code| code < 2))
    })
}

/// The packets that were dropped for a ban.
fn dropped() -> Result<u64> {
    let status: Value = serde_json::from_str(&output("ringfence", &["status", "--json"])?)
        .context("read the status")?;
    status.pointer("/reasons/banned/packets").and_then(Value::as_u64).context("no such counter")
}

/// Waits until the attack has been dropped for a second or more since `before`.
fn is_attacked(before: u64) -> Result<()> {
    until("the attack is dropped", || Ok(dropped()? >= before + u64::from(ATTACK_RATE)))?;
    println!("dropped meanwhile: {} packets", dropped()? - before);
    Ok(())
}

fn until(what: &str, condition: impl Fn() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        match condition() {
            Ok(true) => return Ok(()),
            Ok(false) | Err(_) if Instant::now() < end => thread::sleep(POLL),
            Ok(false) => bail!("not within {} s: {what}{}", LIMIT.as_secs(), journal()),
            Err(why) => return Err(why).with_context(|| what.to_owned()),
        }
    }
}

/// The end of the service's log, for a failure.
fn journal() -> String {
    let log = output("journalctl", &["-u", "ringfence", "-n", "12", "-o", "cat", "--no-pager"]);
    log.map(|log| format!("\n{log}")).unwrap_or_default()
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

fn must(program: &str, arguments: &[&str]) -> Result<()> {
    output(program, arguments).map(drop)
}

/// Whether a command succeeds.
fn run_quietly(program: &str, arguments: &[&str]) -> Result<bool> {
    let mut command = command(program, arguments);
    let output = command.output().with_context(|| format!("run {program}"))?;
    Ok(output.status.success())
}

fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output = command(program, arguments).output().with_context(|| format!("run {program}"))?;
    let (said, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(
        output.status.success(),
        "{program} {} failed ({}): {said}{errors}",
        arguments.join(" "),
        output.status
    );
    Ok(said.into_owned())
}

/// Sends to the PBX until it is ended.
fn send(source: Ipv4Addr, rate: u32) -> Result<()> {
    let socket = UdpSocket::bind((source, 0)).context("bind the source")?;
    let every = Duration::from_secs(1).checked_div(rate).context("the rate is 0")?;
    let mut next = Instant::now();
    loop {
        // A receiver that is not there yet answers with an error for the next packet.
        match socket.send_to(b"OPTIONS sip:192.0.2.1 SIP/2.0\r\n", (PBX, SIP)) {
            Err(error) if error.kind() != ErrorKind::ConnectionRefused => {
                return Err(error).context("send");
            }
            Ok(_) | Err(_) => {}
        }
        next += every;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

/// A process that sends from the outside. It ends with this.
struct Sender(Child);

impl Sender {
    fn start(source: Ipv4Addr, rate: u32) -> Result<Self> {
        let own = env::current_exe().context("find this program")?;
        let mut ip = Command::new("ip");
        ip.args(["netns", "exec", OUTSIDE]).arg(own);
        ip.args(["send", &source.to_string(), &rate.to_string()]);
        Ok(Self(ip.stdin(Stdio::null()).spawn().context("start a sender")?))
    }

    /// Ends it. Fails if it has ended by itself: then it has sent too little.
    fn end(mut self) -> Result<()> {
        let ended = self.0.try_wait().context("look at a sender")?;
        if let Some(status) = ended {
            bail!("a sender ended early ({status})");
        }
        Ok(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        let _has_ended = self.0.kill();
        let _has_ended = self.0.wait();
    }
}

/// What arrives at the PBX, by source.
struct Inbox(Arc<Mutex<BTreeMap<IpAddr, u64>>>);

impl Inbox {
    fn open() -> Result<Self> {
        let socket = UdpSocket::bind((PBX, SIP)).context("bind the SIP port")?;
        let counts = Arc::new(Mutex::new(BTreeMap::new()));
        let shared = Arc::clone(&counts);
        thread::spawn(move || {
            while let Ok((_, from)) = socket.recv_from(&mut [0; 128]) {
                *shared
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .entry(from.ip())
                    .or_insert(0) += 1;
            }
        });
        Ok(Self(counts))
    }

    fn count(&self, source: Ipv4Addr) -> u64 {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(&IpAddr::V4(source)).copied().unwrap_or(0)
    }

    /// Waits for a packet of this source.
    fn hears(&self, source: Ipv4Addr, when: &str) -> Result<()> {
        let before = self.count(source);
        until(&format!("{source} is heard {when}"), || Ok(self.count(source) > before))
    }

    /// Fails if a packet of the attacker arrives within this time, or none of the phone.
    fn hears_only_the_phone(&self, time: Duration) -> Result<()> {
        // What was on its way when the ban was made.
        thread::sleep(POLL);
        self.hears_only_the_phone_during(|| {
            thread::sleep(time);
            Ok(())
        })
    }

    fn hears_only_the_phone_during(&self, work: impl FnOnce() -> Result<()>) -> Result<()> {
        let before = self.count(ATTACKER);
        work()?;
        self.hears(PHONE, "meanwhile")?;
        let passed = self.count(ATTACKER) - before;
        ensure!(passed == 0, "{passed} packets of a banned source arrived");
        Ok(())
    }
}
