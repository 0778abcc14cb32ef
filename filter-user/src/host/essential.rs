//! The addresses that the host depends on: its gateways, its name servers, and the sources of its users'
//! SSH sessions.
//!
//! Files that cannot be read are ignored.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::net::IpAddr;
use std::path::Path;

use super::Network;

/// The files with name servers: that of the C library, and that of systemd-resolved.
const RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The directory in which systemd-logind keeps a file for each session.
const SESSIONS: &str = "/run/systemd/sessions";

/// The maximum number of addresses of each kind.
const ADDRESSES_MAX: usize = 64;

/// The maximum number of session files, and the maximum size of any file in bytes.
const FILES_MAX: usize = 1024;
const FILE_MAX: u64 = 64 * 1024;

/// The addresses that the host depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Essential {
    /// The gateways of its default routes.
    pub gateways: BTreeSet<IpAddr>,
    /// Its name servers.
    pub name_servers: BTreeSet<IpAddr>,
    /// The sources of its SSH sessions.
    pub sessions: BTreeSet<IpAddr>,
}

impl Essential {
    /// Reads the current state.
    pub fn read(network: &Network) -> Self {
        let texts = RESOLV_CONF.iter().filter_map(|file| read(Path::new(file)));
        Self {
            gateways: network.gateways().into_iter().take(ADDRESSES_MAX).collect(),
            name_servers: texts.flat_map(|text| name_servers(&text)).take(ADDRESSES_MAX).collect(),
            sessions: sessions(Path::new(SESSIONS)),
        }
    }
}

fn read(file: &Path) -> Option<String> {
    let mut text = Vec::new();
    File::open(file).ok()?.take(FILE_MAX).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The name servers in a `resolv.conf` (`resolv.conf(5)`), except loopback addresses.
fn name_servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let address = words.next().filter(|word| *word == "nameserver").and(words.next())?;
        let address: IpAddr = address.split('%').next()?.parse().ok()?;
        Some(address.to_canonical()).filter(|address| !address.is_loopback())
    };
    text.lines().filter_map(server).collect()
}

/// The sources of the SSH sessions in this directory.
fn sessions(directory: &Path) -> BTreeSet<IpAddr> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    // The directory may also contain pipes.
    let files = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_file()));
    let texts = files.take(FILES_MAX).filter_map(|file| read(&file.path()));
    texts.filter_map(|text| session(&text)).take(ADDRESSES_MAX).collect()
}

/// The source of a session, if it is an SSH session and has not ended.
fn session(text: &str) -> Option<IpAddr> {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let address: IpAddr = value("REMOTE_HOST")?.parse().ok()?;
    let is_ssh = value("SERVICE") == Some("sshd") && value("STATE") != Some("closing");
    Some(address.to_canonical()).filter(|address| is_ssh && !address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(addresses: impl IntoIterator<Item = IpAddr>) -> Vec<String> {
        addresses.into_iter().map(|address| address.to_string()).collect()
    }

    #[test]
    fn name_servers_are_those_of_other_hosts() {
        let text = "# nameserver 192.0.2.9\n; x\ndomain example\nnameserver 127.0.0.53\n\
                    nameserver\t192.0.2.53 # one\nnameserver fe80::1%eth0\nnameserver ::1\n\
                    nameserver ns.example\noptions edns0\nnameserver ::ffff:192.0.2.54\n";
        assert_eq!(shown(name_servers(text)), ["192.0.2.53", "fe80::1", "192.0.2.54"]);
    }

    #[test]
    fn sessions_are_those_over_ssh_that_are_open() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        let session = |host: &str, service: &str, state: &str| {
            format!(
                "# This is private data. Do not parse.\nUID=0\nUSER=root\nACTIVE=1\nSTATE={state}\n\
                 REMOTE=1\nREMOTE_HOST={host}\nSERVICE={service}\n"
            )
        };
        write("1", &session("192.0.2.9", "sshd", "active"));
        write("2", &session("2001:db8::9", "sshd", "online"));
        write("3", &session("192.0.2.10", "sshd", "closing"));
        write("4", &session("192.0.2.11", "vsftpd", "active"));
        write("5", &session("office.example", "sshd", "active"));
        write("6", "STATE=active\nSERVICE=login\n");
        write("7", "\u{0}");
        fs::create_dir(directory.path().join("8")).unwrap();
        assert_eq!(shown(sessions(directory.path())), ["192.0.2.9", "2001:db8::9"]);
        assert!(sessions(Path::new("/nonexistent")).is_empty());
    }

    #[test]
    fn there_is_a_bound() {
        let directory = tempfile::tempdir().unwrap();
        for n in 0..200 {
            let text = format!("REMOTE_HOST=192.0.2.{n}\nSERVICE=sshd\n");
            fs::write(directory.path().join(n.to_string()), text).unwrap();
        }
        assert_eq!(sessions(directory.path()).len(), ADDRESSES_MAX);
    }
}
