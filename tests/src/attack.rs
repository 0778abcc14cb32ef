//! Attackers: the tools that real attackers use. Each runs in a namespace, from a chosen address, with a
//! bounded number of calls and a time limit.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use tempfile::TempDir;

use crate::child::Running;
use crate::netns::Netns;
use crate::scratch;

/// The most calls that `sipp` is asked to make.
const COUNT_MAX: u32 = 200_000;
/// The longest run.
const TIME_MAX: Duration = Duration::from_mins(2);
const GRACE: Duration = Duration::from_secs(3);

/// The programs that the lab runs, with their Debian packages.
const TOOLS: [(&str, &str); 3] =
    [("ip", "iproute2"), ("sipp", "sip-tester"), ("svcrack", "sipvicious")];

/// The method of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `svcrack` with a list of passwords for account 1001. It waits for each answer, so its rate depends
    /// on the server.
    Svcrack,
    /// `sipp`: a REGISTER, and an answer to the challenge with a wrong password for account 1001.
    Guess,
    /// `sipp`: the same over one TCP connection.
    GuessTcp,
    /// `sipp`: REGISTER for accounts that do not exist, without credentials.
    Scan,
    /// `sipp`: the same, with credentials.
    ScanWithCredentials,
    /// `sipp`: REGISTER for account 1002 without credentials, without waiting for answers.
    Flood,
}

impl Method {
    /// The program that implements it.
    pub fn tool(self) -> &'static str {
        match self {
            Self::Svcrack => "svcrack",
            Self::Guess | Self::GuessTcp | Self::Scan | Self::ScanWithCredentials | Self::Flood => {
                "sipp"
            }
        }
    }

    /// How much longer than planned it may run. `sipp` stops after its number of calls, and waits for
    /// those that are dropped; `svcrack` continues until it is stopped.
    fn grace(self) -> Duration {
        match self {
            Self::Svcrack => Duration::ZERO,
            Self::Guess | Self::GuessTcp | Self::Scan | Self::ScanWithCredentials | Self::Flood => {
                GRACE
            }
        }
    }

    fn scenario(self) -> &'static str {
        match self {
            Self::Svcrack => "",
            Self::Guess | Self::GuessTcp | Self::ScanWithCredentials => {
                include_str!("../lab/attack/guess.xml")
            }
            Self::Scan => include_str!("../lab/attack/scan.xml"),
            Self::Flood => include_str!("../lab/attack/flood.xml"),
        }
    }

    fn accounts(self) -> &'static str {
        match self {
            Self::Guess | Self::GuessTcp => include_str!("../lab/attack/guess.csv"),
            Self::ScanWithCredentials => include_str!("../lab/attack/scan.csv"),
            Self::Svcrack | Self::Scan | Self::Flood => "",
        }
    }
}

/// One attack.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// The method.
    pub method: Method,
    /// The source address, one of the namespace's own.
    pub source: IpAddr,
    /// The PBX.
    pub target: IpAddr,
    /// Calls per second; `svcrack` ignores it.
    pub rate: u32,
    /// The duration.
    pub duration: Duration,
}

impl Plan {
    /// The number of calls after which it stops.
    pub fn count(&self) -> u32 {
        let whole = u32::try_from(self.duration.as_secs()).unwrap_or(u32::MAX);
        self.rate.saturating_mul(whole.max(1)).min(COUNT_MAX)
    }
}

/// A running attacker, killed on drop.
#[derive(Debug)]
pub struct Attacker {
    process: Running,
    deadline: Instant,
    directory: TempDir,
}

impl Attacker {
    /// Starts the attack from `host`.
    ///
    /// # Errors
    ///
    /// If the tool is missing or its files cannot be written.
    pub fn start(host: &Netns, plan: &Plan) -> anyhow::Result<Self> {
        ensure!(plan.duration <= TIME_MAX, "an attack lasts {} s at most", TIME_MAX.as_secs());
        let directory = scratch::directory(plan.method.tool())?;
        let mut command = match plan.method {
            Method::Svcrack => {
                host.send_from(plan.source, plan.target)?;
                svcrack(host, plan, directory.path())?
            }
            Method::Guess
            | Method::GuessTcp
            | Method::Scan
            | Method::ScanWithCredentials
            | Method::Flood => sipp(host, plan, directory.path())?,
        };
        let output = fs::File::create(directory.path().join("output")).context("output file")?;
        command
            .current_dir(directory.path())
            .env("HOME", directory.path())
            .env("TERM", "dumb")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output);
        let process = Running::spawn(plan.method.tool(), &mut command)?;
        Ok(Self {
            process,
            deadline: Instant::now() + plan.duration + plan.method.grace(),
            directory,
        })
    }

    /// Its exit status, if it has ended. If its time is up, it is stopped here.
    ///
    /// # Errors
    ///
    /// If the kernel does not return the status.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        if Instant::now() >= self.deadline {
            return self.process.kill().map(Some);
        }
        self.process.ended()
    }

    /// Its output on standard error.
    pub fn output(&self) -> String {
        let bytes = fs::read(self.directory.path().join("output")).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// Checks that the programs that the lab runs are installed.
///
/// # Errors
///
/// If one is missing; the text names the package to install.
pub fn check_tools() -> anyhow::Result<()> {
    require("the lab", &TOOLS)
}

/// Checks that the programs that `who` needs are installed; each is given with its Debian package.
pub(crate) fn require(who: &str, tools: &[(&str, &str)]) -> anyhow::Result<()> {
    let missing: Vec<_> = tools.iter().filter(|(tool, _package)| !on_path(tool)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let tools: Vec<_> = missing.iter().map(|(tool, _package)| *tool).collect();
    let mut packages: Vec<_> = missing.iter().map(|(_tool, package)| *package).collect();
    packages.dedup();
    bail!(
        "{who} needs {}, which this machine does not have; on Debian: \
         apt-get install --no-install-recommends {}",
        tools.join(", "),
        packages.join(" ")
    );
}

fn on_path(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(tool).is_file())
}

fn svcrack(host: &Netns, plan: &Plan, directory: &Path) -> anyhow::Result<Command> {
    let words = directory.join("passwords.txt");
    // Long enough that it outlasts the attack.
    let list = include_str!("../lab/attack/passwords.txt").repeat(200);
    fs::write(&words, list).context("write the list of passwords")?;
    let mut command = host.command("svcrack");
    command
        .args(["-u", "1001", "-d"])
        .arg(words)
        .args(["-x", &plan.source.to_string(), "-p", "5060"])
        .arg(plan.target.to_string());
    Ok(command)
}

fn sipp(host: &Netns, plan: &Plan, directory: &Path) -> anyhow::Result<Command> {
    let scenario = directory.join("scenario.xml");
    fs::write(&scenario, plan.method.scenario()).context("write the scenario")?;
    let mut command = host.command("sipp");
    command.arg("-sf").arg(&scenario);
    if !plan.method.accounts().is_empty() {
        let accounts = directory.join("accounts.csv");
        fs::write(&accounts, plan.method.accounts()).context("write the accounts")?;
        command.arg("-inf").arg(accounts);
    }
    if plan.method == Method::GuessTcp {
        command.args(["-t", "t1"]);
    }
    let source = plan.source.to_string();
    command
        .args(["-i", &source, "-bind_local"])
        .args(["-r", &plan.rate.to_string()])
        .args(["-m", &plan.count().to_string()])
        // Calls whose packets are dropped stay open until they time out; they must not delay the next
        // ones.
        .args(["-l", "20000"])
        // It ends by its number of calls; the time limit is for dropped packets.
        .args(["-timeout", &format!("{}s", (plan.duration + GRACE).as_secs())])
        .args(["-nr", "-nd", "-nostdin"])
        .args(["-deadcall_wait", "0"])
        .arg(match plan.target {
            IpAddr::V4(v4) => format!("{v4}:5060"),
            IpAddr::V6(v6) => format!("[{v6}]:5060"),
        });
    Ok(command)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn plan(rate: u32, seconds: u64) -> Plan {
        Plan {
            method: Method::Flood,
            source: Ipv4Addr::LOCALHOST.into(),
            target: Ipv4Addr::LOCALHOST.into(),
            rate,
            duration: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn counts_are_bounded() {
        assert_eq!(plan(500, 6).count(), 3000);
        assert_eq!(plan(u32::MAX, 60).count(), COUNT_MAX);
        assert_eq!(plan(10, 0).count(), 10);
    }

    #[test]
    fn the_right_password_is_not_in_the_lists() {
        let lists =
            [include_str!("../lab/attack/passwords.txt"), include_str!("../lab/attack/guess.csv")];
        for (_name, password) in crate::asterisk::Options::default().endpoints {
            assert!(lists.iter().all(|list| !list.contains(&password)));
        }
    }

    #[test]
    fn a_tool_that_does_not_exist_is_missed() {
        assert!(on_path("sh"));
        assert!(!on_path("no-such-tool"));
        let tools = [("sh", "dash"), ("no-such-tool", "nosuch"), ("nor-this", "nosuch")];
        let error = require("nobody", &tools).unwrap_err().to_string();
        assert!(error.contains("nobody needs no-such-tool, nor-this,"), "{error}");
        assert!(error.ends_with("recommends nosuch"), "{error}");
    }
}
