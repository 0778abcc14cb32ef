//! Runs commands of the system and waits for their effects.

use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

/// A long limit, because everything is slow here.
pub(crate) const LIMIT: Duration = Duration::from_mins(3);
pub(crate) const POLL: Duration = Duration::from_millis(200);

pub(crate) fn apt(arguments: &[&str]) -> Result<()> {
    let mut all = vec!["--yes", "-o", "APT::Sandbox::User=root"];
    all.extend(arguments);
    must("apt-get", &all)
}

/// Waits until the service is active, which it is once it has reported that it is ready.
pub(crate) fn service_is_active() -> Result<()> {
    until("the service is active", || run_quietly("systemctl", &["is-active", "ringfence"]))
}

/// Waits until the service is active and protects the host.
pub(crate) fn service_is_up() -> Result<()> {
    service_is_active()?;
    until("status --check reports protection", || {
        let mut check = command("ringfence", &["status", "--check"]);
        let status = check.stdout(Stdio::null()).status().context("run ringfence status")?;
        // A system that is not a real PBX gets a warning, which is accepted.
        Ok(status.code().is_some_and(|code| code < 2))
    })
}

/// Parses the output of a command as JSON.
pub(crate) fn json(line: &str) -> Result<Value> {
    let mut words: Vec<&str> = line.split(' ').collect();
    words.push("--json");
    serde_json::from_str(&output("ringfence", &words)?).with_context(|| format!("read {line}"))
}

/// The number of packets dropped because of a ban.
pub(crate) fn dropped() -> Result<u64> {
    let status = json("status")?;
    // An address with a ban and a throttle is a network of one address.
    ["/reasons/banned/packets", "/reasons/banned-network/packets"].into_iter().try_fold(
        0,
        |sum, reason| {
            let packets = status.pointer(reason).and_then(Value::as_u64);
            Ok(sum + packets.context("no such counter")?)
        },
    )
}

pub(crate) fn until(what: &str, condition: impl Fn() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        match condition() {
            Ok(true) => return Ok(()),
            Ok(false) | Err(_) if Instant::now() < end => thread::sleep(POLL),
            Ok(false) => bail!("not within {} s: {what}{}", LIMIT.as_secs(), journal()),
            Err(why) => return Err(why).with_context(|| format!("{what}{}", journal())),
        }
    }
}

/// The end of the service's log, for an error message.
fn journal() -> String {
    let log = output("journalctl", &["-u", "ringfence", "-n", "12", "-o", "cat", "--no-pager"]);
    log.map(|log| format!("\n{log}")).unwrap_or_default()
}

pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command
}

pub(crate) fn must(program: &str, arguments: &[&str]) -> Result<()> {
    output(program, arguments).map(drop)
}

/// Whether a command succeeds.
pub(crate) fn run_quietly(program: &str, arguments: &[&str]) -> Result<bool> {
    let mut command = command(program, arguments);
    let output = command.output().with_context(|| format!("run {program}"))?;
    Ok(output.status.success())
}

/// The output of a command, whether it succeeds or not.
pub(crate) fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = command(program, arguments).output().with_context(|| format!("run {program}"))?;
    let (said, errors) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Ok(format!("{said}{errors}"))
}

pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String> {
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

/// Runs `ip` with the arguments in a line.
pub(crate) fn ip(line: &str) -> Result<()> {
    must("ip", &line.split(' ').collect::<Vec<_>>())
}
