//! `ringfence audit`: gathers facts about the host for the crate `audit`, which assesses them. It changes
//! nothing, and runs only on the command line as root, never in the daemon.
//!
//! A fact that cannot be read is recorded ([`Unread`]), and makes the audit incomplete.
//!
//! Must never run in the daemon, change anything else, put a secret on a command line, or silently
//! leave out facts that it cannot read.

mod accounts;
mod asterisk;
mod curl;
pub mod devices;
mod exposure;
mod firewall;
mod processes;
mod program;
mod provd;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use ::audit::facts::{Facts, Interface, Socket};
use anyhow::{Context as _, Result};
use api::{
    Attacked, Audit, AuditFinding, AuditPart, ExposureSuggestion, JailReport, Status, Transport,
    Unread,
};
use jiff::Timestamp;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::if_nameindex;

use crate::config::{Config, ConfigErrors, Loaded};
use crate::datapath::{self, Network};
use crate::{doctor, whole_file};

pub use ::audit::report::exit_status;
pub use ::audit::{html, suggest, text};

/// The longest file that is read, in bytes: a baseline, or the list of users.
const FILE_MAX: u64 = 16 << 20;

/// Files that only a Wazo host has.
const OF_WAZO: [&str; 3] = ["/usr/bin/wazo-service", "/etc/wazo-confd", "/usr/share/wazo-upgrade"];

/// The parts of a whole audit.
pub const WHOLE: [AuditPart; 4] =
    [AuditPart::Ports, AuditPart::Accounts, AuditPart::Doctor, AuditPart::Filter];

/// The inputs of an audit.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// The configuration.
    pub loaded: &'a Loaded,
    /// What is wrong with it.
    pub wrong: &'a ConfigErrors,
    /// The daemon's answer to `status`, or why there is none.
    pub status: &'a Result<Status, String>,
    /// Its answer to `jails`; empty if there is none.
    pub jails: &'a [JailReport],
    /// Asterisk's directory of configuration.
    pub asterisk: &'a Path,
    /// The findings about telephones, or why there are none; `None` if they are not a part of the audit.
    pub devices: Option<&'a Result<Vec<AuditFinding>>>,
}

/// The audit of these parts of the host.
pub fn audit(host: Host<'_>, parts: &[AuditPart]) -> Audit {
    let mut facts = facts(host, parts);
    let mut findings: Vec<AuditFinding> = Vec::new();
    let config = &host.loaded.config;
    if parts.contains(&AuditPart::Filter) {
        facts.filter = Some(state::filter(host.status, &facts.interfaces));
    }
    if parts.contains(&AuditPart::Accounts) {
        let runs = facts.sockets.iter().any(is_asterisk);
        let mut missing = Missing::default();
        let accounts = accounts::read(host.asterisk, runs, &mut missing);
        let attacked: Vec<Attacked> =
            host.jails.iter().flat_map(|jail| jail.attacked.iter().cloned()).collect();
        findings.extend(::audit::accounts::findings(&accounts, &attacked));
        facts.unread.append(&mut missing.0);
    }
    match host.devices {
        Some(Ok(found)) => findings.extend(found.iter().cloned()),
        Some(Err(why)) => {
            let (what, why) = ("the telephones of wazo-provd".to_owned(), format!("{why:#}"));
            facts.unread.push(Unread { what, why });
        }
        None => {}
    }
    if parts.contains(&AuditPart::Doctor) {
        let graded = doctor::graded(config, host.status, &doctor::Host::new(host.asterisk));
        findings
            .extend(state::findings(&doctor::of_configuration(host.loaded, host.wrong), &graded));
    }
    ::audit::report::report(facts, parts, findings)
}

/// Suggests which services to close.
pub fn suggest(host: Host<'_>) -> ExposureSuggestion {
    ::audit::suggest::suggest(&facts(host, &[AuditPart::Ports]))
}

/// Reads an earlier audit.
///
/// # Errors
///
/// If the file cannot be read, or has none.
pub fn baseline(file: &Path) -> Result<Audit> {
    let bytes = bounded(file).with_context(|| format!("read {}", file.display()))?;
    ::audit::baseline::parse(&bytes)
        .map_err(anyhow::Error::msg)
        .with_context(|| format!("read {}", file.display()))
}

/// The file in the directory of the state with the last audit.
const LAST: &str = "audit.json";

/// Keeps an audit for the page, if the daemon has been started on this host.
///
/// # Errors
///
/// If it cannot be written.
pub fn keep(state: &Path, audit: &Audit) -> Result<()> {
    if !state.is_dir() {
        return Ok(());
    }
    Ok(whole_file::replace_for_owner(&state.join(LAST), &serde_json::to_vec(audit)?)?)
}

/// The last audit, if there is one.
///
/// # Errors
///
/// If it cannot be read.
pub fn kept(state: &Path) -> Result<Option<Audit>> {
    let file = state.join(LAST);
    if file.exists() { baseline(&file).map(Some) } else { Ok(None) }
}

/// Leaves out what the earlier audit has.
pub fn leave_out(audit: &mut Audit, earlier: &Audit) {
    ::audit::baseline::leave_out(audit, earlier);
}

/// Collects the facts that cannot be read.
#[derive(Debug, Default)]
struct Missing(Vec<Unread>);

impl Missing {
    fn add(&mut self, what: impl Into<String>, why: impl std::fmt::Display) {
        self.0.push(Unread { what: what.into(), why: why.to_string() });
    }

    /// A value, or its default and why it cannot be read.
    fn or_default<T: Default>(&mut self, what: &str, read: Result<T>) -> T {
        read.unwrap_or_else(|why| {
            self.add(what, format!("{why:#}"));
            T::default()
        })
    }
}

fn facts(host: Host<'_>, parts: &[AuditPart]) -> Facts {
    let config = &host.loaded.config;
    let mut missing = Missing::default();
    let facts = Facts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: small(Path::new("/proc/sys/kernel/hostname")).unwrap_or_default().trim().to_owned(),
        time: Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        wazo: OF_WAZO.iter().any(|file| Path::new(file).exists()),
        ..Facts::default()
    };
    if !parts.contains(&AuditPart::Ports) {
        // They show whether Asterisk runs.
        let is_needed = parts.contains(&AuditPart::Accounts);
        let sockets = if is_needed { sockets(&mut missing) } else { Vec::new() };
        return Facts { sockets, ..facts };
    }
    let interfaces = interfaces(config, host.status, &mut missing);
    let sockets = sockets(&mut missing);
    let runs = sockets.iter().any(is_asterisk);
    Facts {
        closed: exposure::closed(&config.paths.bpffs, &sockets, &mut missing),
        visits: exposure::visits(&config.paths.bpffs, &mut missing),
        exposure: config.exposure.clone(),
        trusted: config.trusted.clone(),
        users: missing.or_default("/etc/passwd", users()),
        ephemeral: ephemeral().unwrap_or((32_768, 60_999)),
        asterisk: asterisk::read(host.asterisk, runs, &mut missing),
        firewall: firewall::read(&mut missing),
        sip: config.sip.clone(),
        ports: config.ports.clone(),
        filter: None,
        interfaces,
        sockets,
        unread: missing.0,
        ..facts
    }
}

/// Whether a socket is Asterisk's.
fn is_asterisk(socket: &Socket) -> bool {
    socket.owner.as_ref().is_some_and(|owner| owner.process == asterisk::PROCESS)
}

/// Every socket that accepts packets from anybody, with its process.
fn sockets(missing: &mut Missing) -> Vec<Socket> {
    let names: BTreeMap<u32, String> = if_nameindex()
        .map(|all| {
            let name = |one: &nix::net::if_::Interface| one.name().to_string_lossy().into_owned();
            all.iter().map(|one| (one.index(), name(one))).collect()
        })
        .unwrap_or_default();
    let mut found = missing.or_default("the TCP sockets", datapath::listening(true));
    found.extend(missing.or_default("the UDP sockets", datapath::listening(false)));
    let wanted: BTreeSet<u32> = found.iter().map(|socket| socket.inode).collect();
    let owners = processes::owners(&wanted, missing);
    let socket = |one: datapath::Socket| Socket {
        transport: if one.is_tcp { Transport::Tcp } else { Transport::Udp },
        address: one.address,
        port: one.port,
        v6_only: one.v6_only,
        interface: (one.interface != 0).then(|| {
            names.get(&one.interface).cloned().unwrap_or_else(|| one.interface.to_string())
        }),
        inode: one.inode,
        uid: one.uid,
        owner: owners.get(&one.inode).cloned(),
    };
    found.into_iter().map(socket).collect()
}

/// The interfaces with addresses, and whether packets that arrive on each pass the filter.
fn interfaces(
    config: &Config,
    status: &Result<Status, String>,
    missing: &mut Missing,
) -> Vec<Interface> {
    let mut addresses: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    match getifaddrs() {
        Ok(all) => {
            for one in all {
                let of_name = addresses.entry(one.interface_name).or_default();
                let Some(address) = one.address else { continue };
                let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
                let v6 = address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip()));
                of_name.extend(v4.or(v6));
            }
        }
        Err(why) => missing.add("the addresses of the host", why),
    }
    let protected = match status {
        // A filter that only counts does not protect.
        Ok(status) if !status.enforcing => Vec::new(),
        Ok(status) => {
            let protected = status.interfaces.iter().filter(|one| one.protected);
            protected.map(|one| one.name.clone()).collect()
        }
        Err(_no_daemon) => missing.or_default(
            "which interfaces have the filter",
            datapath::protected(&config.paths.bpffs),
        ),
    };
    let is_protected = |name: &str| protected.iter().any(|one| one == name);
    let network = missing.or_default("the interfaces of the host", Network::read());
    let named = addresses.into_iter().filter(|(_, addresses)| !addresses.is_empty());
    named
        .map(|(name, addresses)| Interface {
            filtered: is_protected(&name) || network.is_covered(&name, &is_protected),
            addresses: addresses.into_iter().collect(),
            name,
        })
        .collect()
}

/// The names of the users in the host's own file. A directory service might be slow.
fn users() -> Result<BTreeMap<u32, String>> {
    let bytes = bounded(Path::new("/etc/passwd"))?;
    let text = String::from_utf8_lossy(&bytes);
    let user = |line: &str| {
        let mut fields = line.split(':');
        let (name, uid) = (fields.next()?, fields.nth(1)?);
        Some((uid.parse().ok()?, name.to_owned()))
    };
    Ok(text.lines().filter_map(user).collect())
}

fn ephemeral() -> Option<(u16, u16)> {
    let text = small(Path::new("/proc/sys/net/ipv4/ip_local_port_range"))?;
    let mut ports = text.split_whitespace().map(str::parse);
    Some((ports.next()?.ok()?, ports.next()?.ok()?))
}

/// A small file of the kernel.
fn small(file: &Path) -> Option<String> {
    let mut text = String::new();
    File::open(file).ok()?.take(4096).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A file that is not too long.
fn bounded(file: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(file)?.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    anyhow::ensure!(bytes.len() as u64 <= FILE_MAX, "it has more than {} MiB", FILE_MAX >> 20);
    Ok(bytes)
}

/// Writes a report into a file that only root can read, because it shows what could be attacked.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write(file: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let written = options.open(file).and_then(|mut file| file.write_all(text.as_bytes()));
    written.with_context(|| format!("write {}", file.display()))
}
