//! The checks in their order: each one continues with the result of the previous one.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::asterisk;
use crate::say;
use crate::system::{
    apt, command, dropped, json, must, output, run_quietly, said, service_is_active, service_is_up,
    until,
};
use crate::traffic::{
    self, ATTACK_RATE, ATTACKER, GATEWAY, GUESSER, Inbox, PBX, STRANGER, WAN, bring_up, lay_cable,
};

/// Files that a purge must remove.
const TRACES: [&str; 7] = [
    "/etc/ringfence",
    "/var/lib/ringfence",
    "/run/ringfence",
    "/sys/fs/bpf/ringfence",
    "/etc/systemd/system/multi-user.target.wants/ringfence.service",
    "/etc/asterisk/manager.d/ringfence.conf",
    "/usr/share/wazo-upgrade",
];
/// As in `wazo-upgrade`, a failing script of `pre-stop` ends the upgrade; one of another hook does not.
const WAZO_UPGRADE: &str = "\
run() { for script in /usr/share/wazo-upgrade/$1.d/*; do [ -e \"$script\" ] || continue; \
$script; status=$?; if [ $status -ne 0 ] && [ $1 = pre-stop ]; then exit 1; fi; done; }; run ";
/// The drop-in that made the service run as root before it had its own user.
const AS_ROOT: &str = "/etc/systemd/system/ringfence.service.d/as-root.conf";
/// The jail of guesses at SIP passwords. After 15 failures it bans; a few more guesses may be on their way.
const GUESSES: &str = "asterisk-wazo";
const GUESSES_MAX: u32 = 20;
/// The time within which nothing unwanted may arrive.
const SILENCE: Duration = Duration::from_secs(2);

fn check(name: &str, work: impl FnOnce() -> Result<()>) {
    let start = Instant::now();
    match work() {
        Ok(()) => say("ok", start, name, None),
        Err(error) => say("failed", start, name, Some(&error)),
    }
}

/// All checks before the reboot.
pub(crate) fn from_the_start() -> Result<()> {
    let payload = env::current_exe().context("find the payload")?;
    let payload = payload.parent().context("find the payload")?;
    let package = |name: &str| payload.join(name).display().to_string();
    lay_cable()?;
    bring_up()?;
    let inbox = Inbox::open()?;
    inbox.hears(ATTACKER, "before the installation")?;

    check("without Asterisk it installs, starts and says what is missing", || {
        apt(&["install", &package("old.deb")])?;
        service_is_active()?;
        must("ringfence", &["confirm"])?;
        let status = output("ringfence", &["status", "--json"])?;
        ensure!(status.contains(WAN), "{WAN} is not protected: {status}");
        let doctor = said("ringfence", &["doctor"])?;
        ensure!(doctor.contains("asterisk-notice"), "doctor does not mention Asterisk: {doctor}");
        Ok(())
    });
    check("when Asterisk appears, dpkg-reconfigure completes it, and AMI is heard", || {
        asterisk::install()?;
        must("dpkg-reconfigure", &["ringfence"])?;
        asterisk::has_the_ami_user()?;
        service_is_up()?;
        ami_is_heard()?;
        inbox.registers("at the new Asterisk")
    });
    let not_registered = inbox.not_registered()?;
    check("the service manager knows what it does", || {
        let text = output("systemctl", &["show", "-P", "StatusText", "ringfence"])?;
        ensure!(text.contains("protects wan0"), "systemctl shows: {text}");
        Ok(())
    });
    check("it is confined, and runs as its own user", || {
        must("systemd-analyze", &["security", "--threshold=20", "--no-pager", "ringfence"])?;
        let process = output("systemctl", &["show", "-P", "MainPID", "ringfence"])?;
        let status = fs::read_to_string(format!("/proc/{}/status", process.trim()))
            .context("read the status of the process")?;
        let own = output("id", &["-u", "ringfence"])?;
        let expected = format!("Uid:\t{0}\t{0}\t{0}\t{0}", own.trim());
        ensure!(status.lines().any(|line| line == expected), "it runs as another: {status}");
        Ok(())
    });
    check("forged guesses throttle their source, and a phone registers", || throttles(&inbox));
    check("a guesser is banned, and Asterisk answers no more of its guesses", guesser_is_banned);
    check("a banned source is not heard, and a phone is", || {
        must("ringfence", &["ban", &ATTACKER.to_string(), "--for", "1d"])?;
        inbox.hears_nothing_of(ATTACKER, SILENCE)?;
        inbox.registers("meanwhile")
    });
    check("an upgrade from a service that ran as root lets no packet through", || {
        inbox.hears_only_the_phone_during(|| {
            run_as_root()?;
            let before = dropped()?;
            apt(&["install", &package("new.deb")])?;
            service_is_up()?;
            ensure!(is_banned(ATTACKER, &["--jail", "manual"])?, "the ban is gone");
            let status = json("status")?;
            let store = status.pointer("/store/state").and_then(Value::as_str);
            ensure!(store == Some("ok"), "the store is {store:?}");
            until("the attack is dropped", || Ok(dropped()? >= before + u64::from(ATTACK_RATE)))
        })
    });
    while_it_runs(&inbox);
    check("through all this, no registration of the phone failed", || {
        let failed = inbox.not_registered()? - not_registered;
        ensure!(failed == 0, "{failed} registrations failed");
        Ok(())
    });
    Ok(())
}

/// What an administrator, Wazo and a fault do to the service.
fn while_it_runs(inbox: &Inbox) {
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
    check("wazo-upgrade's hooks close SIP and open it again", || {
        let hooks = |state: &str| must("sh", &["-c", &format!("{WAZO_UPGRADE}{state}")]);
        inbox.hears(STRANGER, "before the upgrade")?;
        hooks("pre-stop")?;
        inbox.hears_nothing_of(STRANGER, SILENCE)?;
        inbox.registers("although SIP is closed")?;
        hooks("post-start")?;
        inbox.hears(STRANGER, "after the upgrade")?;
        // Two upgrades at once: the first that finishes opens SIP. An aborted one has no `post-start`.
        hooks("pre-stop")?;
        hooks("pre-stop")?;
        let closed = json("maintenance status")?;
        let end = closed.pointer("/until").filter(|until| until.is_string());
        ensure!(end.is_some(), "an aborted upgrade would leave SIP closed: {closed}");
        inbox.hears_nothing_of(STRANGER, SILENCE)?;
        hooks("post-start")?;
        inbox.hears(STRANGER, "after two upgrades at once")?;
        must("systemctl", &["stop", "ringfence"])?;
        hooks("pre-stop").context("a hook without a daemon aborts the upgrade")?;
        hooks("post-start")?;
        must("systemctl", &["start", "ringfence"])?;
        service_is_up()
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
    check(
        "a command of an alert may do what the documents say, and no more",
        commands_are_confined,
    );
    shut_out(inbox);
    check("it starts while Wazo is disabled", || {
        fs::create_dir_all("/var/lib/wazo").context("make /var/lib/wazo")?;
        fs::write("/var/lib/wazo/disabled", "").context("disable Wazo")?;
        must("systemctl", &["restart", "ringfence"])?;
        service_is_up()?;
        fs::remove_dir_all("/var/lib/wazo").context("enable Wazo")
    });
}

/// A program of an alert, which writes down what it may do.
const PROBE: &str = "#!/bin/sh
cat > /var/lib/ringfence/probe.document
{
    echo \"user $(id -un), in $(pwd)\"
    grep -E '^(CapEff|CapPrm|CapAmb|NoNewPrivs):' /proc/self/status
    for at in /etc /usr/local /var/log /home /root /var/lib/ringfence /tmp; do
        touch $at/ringfence-probe 2>/dev/null && echo \"writes $at\"
    done
    ls /root > /dev/null 2>&1 && echo 'reads /root'
    mount -t tmpfs none /mnt 2>/dev/null && echo 'mounts'
    env | cut -d= -f1 | sort | tr '\\n' ' '
    command -v python3 > /dev/null && python3 -c 'import json; print(\"Python runs\")'
    true
} > /var/lib/ringfence/probe
";

/// Has an alert run a program in the sandbox of the service.
fn commands_are_confined() -> Result<()> {
    let (probe, config) =
        (Path::new("/usr/local/bin/probe"), Path::new("/etc/ringfence/conf.d/probe.yml"));
    fs::write(probe, PROBE).context("write a program")?;
    must("chmod", &["0755", "/usr/local/bin/probe"])?;
    fs::write(config, "alerts: {probe: {events: [capacity], command: [/usr/local/bin/probe]}}\n")
        .context("write a configuration")?;
    must("ringfence", &["reload"])?;
    let tested = must("ringfence", &["alerts", "test", "probe"]);
    let said = fs::read_to_string("/var/lib/ringfence/probe").unwrap_or_default();
    fs::remove_file(config).context("remove a configuration")?;
    must("ringfence", &["reload"])?;
    tested?;
    for line in [
        "user ringfence, in /",
        "CapEff:\t0000000000000000",
        "CapPrm:\t0000000000000000",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t1",
        "writes /var/lib/ringfence",
        "writes /tmp",
    ] {
        ensure!(said.lines().any(|one| one == line), "no line `{line}`: {said}");
    }
    let forbidden = said.lines().find(|line| {
        let is_state = ["writes /var/lib/ringfence", "writes /tmp"].contains(line);
        line.starts_with("writes ") && !is_state || *line == "reads /root" || *line == "mounts"
    });
    ensure!(forbidden.is_none(), "a program {forbidden:?}: {said}");
    let document = fs::read_to_string("/var/lib/ringfence/probe.document").unwrap_or_default();
    let document: Value = serde_json::from_str(&document).context("read the document")?;
    ensure!(document["kind"] == "test", "the program got {document}");
    for file in ["probe", "probe.document", "ringfence-probe"] {
        fs::remove_file(Path::new("/var/lib/ringfence").join(file)).context("remove a trace")?;
    }
    fs::remove_file(probe).context("remove the program")
}

/// What would shut out the host's network or its administrator.
fn shut_out(inbox: &Inbox) {
    check("a ban that would shut out the gateway, the host or a session is refused", || {
        let said = refused(&["ban", &GATEWAY.to_string()])?;
        ensure!(said.contains("is a default gateway"), "it said: {said}");
        inbox.hears_only_the_phone_during(|| {
            for network in [&*PBX.to_string(), "192.0.2.0/24", "127.0.0.1", "0.0.0.0/0"] {
                refused(&["ban", network])?;
            }
            let words = ["ban", "198.51.100.0/24"];
            let session = "198.51.100.7 50000 192.0.2.1 22";
            let mut ban = command("ringfence", &words);
            let ban = ban.env("SSH_CONNECTION", session).output().context("run ringfence")?;
            let said = String::from_utf8_lossy(&ban.stderr).into_owned();
            ensure!(!ban.status.success() && said.contains("198.51.100.7"), "it said: {said}");
            Ok(())
        })
    });
    check("failures in the name of the gateway do not ban it", || {
        until("a ban is prevented", || {
            traffic::forge_guesses_of_the_gateway()?;
            let status = json("status")?;
            let prevented = status.pointer("/essential/prevented").and_then(Value::as_u64);
            Ok(prevented.is_some_and(|prevented| prevented > 0))
        })?;
        ensure!(!is_banned(GATEWAY, &[])?, "the gateway is banned");
        Ok(())
    });
    check("a reload that would leave no trusted network is refused", || {
        let trusted = Path::new("/etc/ringfence/conf.d/trusted.yml");
        fs::write(trusted, "trusted: [198.51.100.7]\n").context("write a configuration")?;
        must("systemctl", &["reload", "ringfence"])?;
        fs::remove_file(trusted).context("remove a configuration")?;
        let said = refused(&["reload"])?;
        ensure!(said.contains("no trusted network would be left"), "it said: {said}");
        must("ringfence", &["reload", "--force"])
    });
    check("in a panic every packet passes, and no banned one after it", || {
        must("ringfence", &["panic", "--reason", "test"])?;
        inbox.hears(ATTACKER, "in a panic")?;
        must("ringfence", &["panic", "--off"])?;
        inbox.hears_nothing_of(ATTACKER, SILENCE)?;
        inbox.registers("after the panic")
    });
}

/// What the command says, which must fail.
fn refused(words: &[&str]) -> Result<String> {
    let output = command("ringfence", words).output().context("run ringfence")?;
    ensure!(!output.status.success(), "ringfence {} succeeded", words.join(" "));
    Ok(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Waits until AMI is heard.
fn ami_is_heard() -> Result<()> {
    until("AMI is heard", || {
        let status = json("status")?;
        let sources = status["sources"].as_array().context("status has no sources")?;
        Ok(sources.iter().any(|s| s["name"] == "asterisk-ami" && s["state"] == "ok"))
    })
}

/// All checks after the reboot.
pub(crate) fn after_the_reboot() {
    let inbox = Inbox::after_the_reboot();
    check("after a reboot no packet of a banned source arrives, from the first on", || {
        inbox.registers("after the reboot")?;
        service_is_active()?;
        ensure!(is_banned(ATTACKER, &["--jail", "manual"])?, "the ban is gone");
        until("the attack is dropped", || Ok(dropped()? > u64::from(ATTACK_RATE)))?;
        let passed = inbox.count(ATTACKER)?;
        ensure!(passed == 0, "{passed} packets of a banned source arrived since the boot");
        Ok(())
    });
    check("removing it lets all packets pass", || {
        apt(&["remove", "ringfence"])?;
        inbox.hears(ATTACKER, "after the removal")
    });
    check("a purge leaves nothing", || traffic::in_peace(purge));
    check("where Asterisk is set up, one command is enough", || {
        let package = env::current_exe().context("find the payload")?.with_file_name("new.deb");
        traffic::in_peace(|| {
            apt(&["install", &package.display().to_string()])?;
            service_is_up()
        })?;
        asterisk::has_the_ami_user()?;
        ami_is_heard()?;
        let doctor = said("ringfence", &["doctor"])?;
        ensure!(!doctor.contains("asterisk-"), "doctor finds: {doctor}");
        guesser_is_banned()?;
        throttles(&inbox)
    });
    check("a purge of a running service leaves nothing", || {
        traffic::in_peace(purge)?;
        inbox.hears(ATTACKER, "after the purge")
    });
}

/// Fails unless forged guesses lead to a throttle, because anybody could have sent them, and no more than a
/// trickle of them is heard, and the phone can register.
fn throttles(inbox: &Inbox) -> Result<()> {
    until("the attacker is throttled", || is_banned(ATTACKER, &["--jail", GUESSES]))?;
    inbox.hears_a_trickle_of(ATTACKER, SILENCE)?;
    inbox.registers("meanwhile")
}

/// Fails unless a guesser that answers challenges is banned after a few guesses.
fn guesser_is_banned() -> Result<()> {
    let answered = traffic::guess()?;
    until("the guesser is banned", || is_banned(GUESSER, &["--jail", GUESSES]))?;
    ensure!((1..=GUESSES_MAX).contains(&answered), "Asterisk answered {answered} guesses");
    Ok(())
}

/// Purges the package, and fails if something is left.
fn purge() -> Result<()> {
    apt(&["purge", "ringfence"])?;
    let left: Vec<_> = TRACES.into_iter().filter(|path| Path::new(path).exists()).collect();
    ensure!(left.is_empty(), "these are left: {left:?}");
    let named = output("find", &["/etc", "/usr", "/var/lib", "/run", "-name", "*ringfence*"])?;
    ensure!(named.is_empty(), "these are left: {named}");
    let link = output("ip", &["link", "show", WAN])?;
    ensure!(!link.contains("xdp"), "the program is still attached: {link}");
    asterisk::has_no_ami_user()
}

/// Whether there is a ban or a throttle of the address, among those that these options choose.
fn is_banned(address: Ipv4Addr, options: &[&str]) -> Result<bool> {
    let bans = output("ringfence", &[&["bans"], options].concat())?;
    Ok(bans.lines().any(|line| line.contains(&address.to_string())))
}

/// Makes the installed service run as root, with files that belong to root.
fn run_as_root() -> Result<()> {
    let unit = Path::new(AS_ROOT);
    let directory = unit.parent().context("a drop-in without a directory")?;
    fs::create_dir_all(directory).context("make the drop-in's directory")?;
    let text = "[Service]\nUser=root\nAmbientCapabilities=\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH\n\
                ExecStartPre=\nBindPaths=\nBindReadOnlyPaths=\nRuntimeDirectory=\nRuntimeDirectory=ringfence\n\
                ProtectKernelTunables=no\nReadWritePaths=/sys/fs/bpf\n";
    fs::write(unit, text).context("write the drop-in")?;
    must("systemctl", &["daemon-reload"])?;
    must("systemctl", &["stop", "ringfence"])?;
    must("chown", &["-R", "root:root", "/var/lib/ringfence", "/sys/fs/bpf/ringfence"])?;
    must("systemctl", &["start", "ringfence"])?;
    service_is_up()?;
    let user = output("systemctl", &["show", "-P", "MainPID", "ringfence"])?;
    let user = output("stat", &["--format=%U", &format!("/proc/{}", user.trim())])?;
    ensure!(user.trim() == "root", "the service runs as {user}");
    fs::remove_dir_all(directory).context("remove the drop-in")?;
    must("systemctl", &["daemon-reload"])
}
