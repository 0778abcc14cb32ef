//! Finds where Asterisk listens on this host: its sockets, from `/proc`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::config::SipPorts;

/// The UDP ports of Asterisk's other protocols: MGCP, `DUNDi`, IAX2, Unistim.
const OTHER_UDP: [u16; 4] = [2727, 4520, 4569, 5000];

/// The TCP ports of Asterisk's other protocols: SCCP, AMI, its web server.
const OTHER_TCP: [u16; 5] = [2000, 5038, 5039, 8088, 8089];

/// The first port for media, as Asterisk is shipped.
const MEDIA: u16 = 10_000;

/// The lowest port that can be SIP: privileged ports are not.
const LOWEST: u16 = 1024;

/// How many bytes are read of one table of sockets. Listening sockets come first.
const TABLE_MAX: u64 = 4 << 20;

/// A running Asterisk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asterisk {
    /// Its process ID.
    pub process: u32,
    /// Whether it is in another network namespace, as in a container.
    pub is_elsewhere: bool,
    /// The UDP ports that it may use for SIP.
    pub udp: BTreeSet<u16>,
    /// The TCP ports that it may use for SIP.
    pub tcp: BTreeSet<u16>,
}

impl Asterisk {
    /// Finds Asterisk, preferably in the daemon's network namespace. Examines every process.
    pub fn find() -> Option<Self> {
        let mut all: Vec<Self> = processes().filter_map(look).collect();
        all.sort_by_key(|one| (one.is_elsewhere, one.process));
        all.into_iter().next()
    }

    /// The UDP and TCP ports that the configured SIP ports do not include.
    pub(super) fn unknown(&self, sip: &SipPorts) -> (Vec<u16>, Vec<u16>) {
        let not_in = |ports: &BTreeSet<u16>, known: &[crate::config::PortRange]| {
            let unknown = ports.iter().filter(|port| !known.iter().any(|r| r.contains(**port)));
            unknown.copied().collect()
        };
        (not_in(&self.udp, &sip.udp), not_in(&self.tcp, &sip.tcp))
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|process: &u32| {
        let name = fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default();
        name.trim() == "asterisk"
    })
}

fn look(process: u32) -> Option<Asterisk> {
    let directory = format!("/proc/{process}");
    let status = fs::read_to_string(format!("{directory}/status")).ok()?;
    let user = effective_user(&status)?;
    // The network files of a process are readable even if the rest is not, and have an inode of their own
    // in each namespace.
    let namespace = |of: &str| fs::metadata(format!("{of}/net/dev")).map(|file| file.ino()).ok();
    let sockets = |table: &str, state: &str| {
        let path = format!("{directory}/net/{table}");
        let mut text = String::new();
        let read = File::open(Path::new(&path)).map(|file| file.take(TABLE_MAX));
        // A table that cannot be read shows no sockets.
        let _shorter = read.map(|mut file| file.read_to_string(&mut text));
        ports(&text, user, state)
    };
    let all = |[v4, v6]: [&str; 2], state: &str, others: &[u16], below: u16| {
        let ports = sockets(v4, state).into_iter().chain(sockets(v6, state));
        ports.filter(|port| !others.contains(port) && (LOWEST..below).contains(port)).collect()
    };
    Some(Asterisk {
        process,
        is_elsewhere: namespace(&directory) != namespace("/proc/thread-self"),
        udp: all(["udp", "udp6"], "07", &OTHER_UDP, MEDIA),
        tcp: all(["tcp", "tcp6"], "0A", &OTHER_TCP, u16::MAX),
    })
}

fn effective_user(status: &str) -> Option<u32> {
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

/// The ports in a table of sockets that a user has in a state, without those on loopback.
fn ports(table: &str, user: u32, state: &str) -> Vec<u16> {
    let port = |line: &str| {
        // sl local remote state queues timer retransmissions user ...
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, local, _, is, _, _, _, of, ..] = fields[..] else { return None };
        let (address, port) = local.split_once(':')?;
        let is_loopback = matches!(address.len(), 8) && address.ends_with("7F")
            || address == "00000000000000000000000001000000";
        let wanted = is == state && of.parse() == Ok(user) && !is_loopback;
        u16::from_str_radix(port, 16).ok().filter(|_| wanted)
    };
    table.lines().skip(1).filter_map(port).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  100: 00000000:13C4 00000000:0000 07 00000000:00000000 00:00000000 00000000   106        0 23456 2 0000000000000000 0
  101: 00000000:1428 00000000:0000 07 00000000:00000000 00:00000000 00000000   106        0 23457 2 0000000000000000 0
  102: 0100007F:1429 00000000:0000 07 00000000:00000000 00:00000000 00000000   106        0 23458 2 0000000000000000 0
  103: 00000000:14E9 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 23459 2 0000000000000000 0
  104: 0A0A0A0A:14EA 01010101:0035 01 00000000:00000000 00:00000000 00000000   106        0 23460 2 0000000000000000 0
";

    #[test]
    fn the_ports_of_a_user() {
        assert_eq!(ports(UDP, 106, "07"), [5060, 5160]);
        assert_eq!(ports(UDP, 0, "07"), [5353]);
        assert_eq!(ports("", 0, "07"), [0; 0]);
        for length in 0..UDP.len() {
            let _any = ports(&UDP[..length], 106, "07");
        }
        assert_eq!(effective_user("Name:\tasterisk\nUid:\t106\t107\t106\t106\n"), Some(107));
    }

    #[test]
    fn those_that_are_not_in_sip() {
        let asterisk = Asterisk {
            udp: BTreeSet::from([5060, 5160]),
            tcp: BTreeSet::from([5161]),
            ..Asterisk::default()
        };
        let sip = crate::config::Config::default().sip;
        assert_eq!(asterisk.unknown(&sip), (vec![5160], vec![5161]));
    }
}
