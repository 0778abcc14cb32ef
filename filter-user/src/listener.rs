//! Checks in the kernel's tables of TCP sockets whether the right user owns the other end of a connection
//! on this host.
//!
//! Any local user can listen on a free port and pretend to be another program. As Asterisk, they would
//! receive the digest of the AMI user's secret, and could have any address banned or made known; as
//! wazo-confgend, they could exempt addresses from bans.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;

use nix::unistd::{Uid, User};
use tokio::task::spawn_blocking;

/// The TCP sockets of this process's network namespace (`proc(5)`).
const TABLES: [&str; 2] = ["/proc/self/net/tcp", "/proc/self/net/tcp6"];

/// `TCP_LISTEN` of `include/net/tcp_states.h`.
const LISTEN: u8 = 10;

/// How often the tables are read before a socket counts as missing. Sockets come and go during a reading,
/// and the kernel may skip one.
const READINGS: usize = 3;

/// The first number of a person's account (Debian Policy 9.2.2).
const PEOPLE: u32 = 1000;

/// The users that, besides root, may own a socket.
#[derive(Clone, Debug)]
pub(crate) enum Owner {
    /// Asterisk's user, as configured.
    Asterisk {
        /// Its name or number.
        name: String,
        /// Its number, if the host has it.
        uid: Option<u32>,
    },
    /// The user of any service, but no person.
    Service,
}

/// Where the other end of a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// On this host, owned by the right user.
    Here,
    /// On another host, or in another network namespace.
    Elsewhere,
}

impl Owner {
    /// Asterisk's user, by its name or number.
    ///
    /// # Errors
    ///
    /// If the users of this host cannot be read.
    pub(crate) fn of(name: &str) -> Result<Self, String> {
        let uid = match name.parse() {
            Ok(uid) => Some(uid),
            Err(_no_number) => User::from_name(name)
                .map_err(|error| format!("cannot look up the user `{name}`: {error}"))?
                .map(|user| user.uid.as_raw()),
        };
        Ok(Self::Asterisk { name: name.to_owned(), uid })
    }

    fn is(&self, uid: u32) -> bool {
        match self {
            Self::Asterisk { uid: own, .. } => uid == 0 || Some(uid) == *own,
            Self::Service => uid < PEOPLE,
        }
    }

    fn refuse(&self, uid: u32) -> String {
        let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
        let who =
            known.map_or_else(|| format!("the user {uid}"), |user| format!("`{}`", user.name));
        let Self::Asterisk { name, uid: own } = self else {
            return format!(
                "{who} listens there, not root or a service; nothing is sent. `ss -ltnp` shows the \
                process"
            );
        };
        let missing = if own.is_some() { "" } else { ", which this host does not have" };
        format!(
            "{who} listens there, not root or `{name}`{missing}; nothing is sent. `ss -ltnp` shows \
            the process; if it is Asterisk, set its user: `sources: {{asterisk: {{ami: {{listener: \
            USER}}}}}}`"
        )
    }

    /// Whether the right user listens at an address of this host, so that nobody else can meanwhile. Blocks.
    ///
    /// # Errors
    ///
    /// If another user listens, or the listener is unknown.
    pub(crate) fn listens(&self, at: SocketAddr) -> Result<bool, String> {
        let listeners = sockets(|socket| socket.listens_at(at).is_some())?;
        self.check_listeners(&listeners, at).map(|()| !listeners.is_empty())
    }

    /// Requires that the right user listens at one of these addresses of this host, and nobody else at the others.
    ///
    /// # Errors
    ///
    /// If nobody does, and as [`listens`](Self::listens).
    pub(crate) async fn require(&self, at: Vec<SocketAddr>) -> Result<(), String> {
        let listens = move |owner: &Self| {
            at.iter().try_fold(false, |found, at| Ok(found | owner.listens(*at)?))
        };
        if self.ask(listens).await? { Ok(()) } else { Err("nobody listens there".to_owned()) }
    }

    /// Reads the kernel's tables, which may be long, on a thread for blocking work.
    ///
    /// # Errors
    ///
    /// Those of the question.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Self) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let owner = self.clone();
        let asked = spawn_blocking(move || question(&owner)).await;
        asked.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn check_listeners(&self, listeners: &[Socket], at: SocketAddr) -> Result<(), String> {
        // A connection goes to the most specific listener.
        let first = listeners.iter().filter_map(|socket| socket.listens_at(at)).min();
        let mut first = listeners.iter().filter(|socket| socket.listens_at(at) == first);
        let other = first.find(|socket| !self.is(socket.uid));
        other.map_or(Ok(()), |other| Err(self.refuse(other.uid)))
    }

    /// Checks the owner of the other end of a connection from `own` to `peer`. Something must have been read
    /// from it: before a connection is accepted, nobody owns its socket.
    ///
    /// # Errors
    ///
    /// If another user owns it, or the owner is unknown.
    pub(crate) fn check_peer(&self, own: SocketAddr, peer: SocketAddr) -> Result<Place, String> {
        for _reading in 0..READINGS {
            let ends =
                sockets(|socket| is_same(socket.local, peer) && is_same(socket.remote, own))?;
            if let Some(place) = self.place(&ends)? {
                return Ok(place);
            }
        }
        if peer.ip().to_canonical().is_loopback() {
            return Err(
                "the kernel does not show which user listens there; nothing is sent".to_owned()
            );
        }
        Ok(Place::Elsewhere)
    }

    /// The place of the other end, given all its sockets; `None` if it is not among them.
    fn place(&self, ends: &[Socket]) -> Result<Option<Place>, String> {
        match ends {
            [] => Ok(None),
            [end, ..] if end.inode == 0 => Err("it closed the connection".to_owned()),
            // The kernel may show a socket twice, as it may skip one.
            ends => match ends.iter().find(|end| !self.is(end.uid)) {
                Some(end) => Err(self.refuse(end.uid)),
                None => Ok(Some(Place::Here)),
            },
        }
    }
}

/// A row of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Socket {
    local: SocketAddr,
    remote: SocketAddr,
    state: u8,
    uid: u32,
    /// 0 if no process owns it: not accepted yet, or closed.
    inode: u64,
}

impl Socket {
    /// The order in which the kernel tries this listener for a connection to an address: first one for that
    /// address, then one for the family, then one for both families. `None` if it does not match.
    fn listens_at(&self, address: SocketAddr) -> Option<u8> {
        if self.state != LISTEN || self.local.port() != address.port() {
            return None;
        }
        let wanted = address.ip().to_canonical();
        match self.local.ip().to_canonical() {
            local if local == wanted => Some(0),
            IpAddr::V4(any) if any.is_unspecified() && wanted.is_ipv4() => Some(1),
            IpAddr::V6(any) if any.is_unspecified() => Some(2),
            IpAddr::V4(_) | IpAddr::V6(_) => None,
        }
    }

    /// Reads a row; `None` for the headings and anything unknown.
    fn parse(row: &str) -> Option<Self> {
        let mut columns = row.split_ascii_whitespace();
        // sl, local_address, rem_address, st, queues, timer, retrnsmt, uid, timeout, inode
        let (local, remote) = (columns.nth(1)?, columns.next()?);
        let state = u8::from_str_radix(columns.next()?, 16).ok()?;
        let uid = columns.nth(3)?.parse().ok()?;
        let inode = columns.nth(1)?.parse().ok()?;
        Some(Self { local: address(local)?, remote: address(remote)?, state, uid, inode })
    }
}

/// Reads `0100007F:13AE`: words in memory order, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(at * 8..at * 8 + 8)?, 16).ok();
    let bytes = |at| word(at).map(u32::to_ne_bytes);
    let ip = match ip.len() {
        8 => IpAddr::from(Ipv4Addr::from(bytes(0)?)),
        32 => {
            let words = [bytes(0)?, bytes(1)?, bytes(2)?, bytes(3)?];
            let all: [u8; 16] = words.as_flattened().try_into().ok()?;
            IpAddr::from(Ipv6Addr::from(all))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Whether both are the same address: IPv4 over an IPv6 socket is IPv4.
fn is_same(one: SocketAddr, other: SocketAddr) -> bool {
    (one.ip().to_canonical(), one.port()) == (other.ip().to_canonical(), other.port())
}

/// The wanted sockets of both families.
fn sockets(wanted: impl Fn(&Socket) -> bool) -> Result<Vec<Socket>, String> {
    let mut found = Vec::new();
    for table in TABLES {
        match read(Path::new(table), &wanted, &mut found) {
            // A kernel without IPv6.
            Err(error) if error.kind() == io::ErrorKind::NotFound && table != TABLES[0] => {}
            result => result.map_err(|error| {
                format!("cannot check who listens there: {table}: {error}; nothing is sent")
            })?,
        }
    }
    Ok(found)
}

fn read(
    table: &Path,
    wanted: &impl Fn(&Socket) -> bool,
    found: &mut Vec<Socket>,
) -> io::Result<()> {
    // Row by row: there may be a million.
    for row in BufReader::new(File::open(table)?).lines() {
        found.extend(Socket::parse(&row?).filter(wanted));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    use proptest::prelude::*;

    use super::*;

    const HEADINGS: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when \
                            retrnsmt   uid  timeout inode";

    /// As Linux 6.1 writes them.
    const LISTENS: &str = "   0: 0100007F:13AE 00000000:0000 0A 00000000:00000000 00:00000000 \
                           00000000   112        0 20331 1 0000000000000000 100 0 0 10 0";
    const ACCEPTED: &str = "   1: 0100007F:13AE 0100007F:C350 01 00000000:00000000 00:00000000 \
                            00000000   112        0 20340 2 0000000000000000 20 4 30 10 -1";
    const WAITS: &str = "   2: 0100007F:13AE 0100007F:C350 01 00000000:00000000 00:00000000 \
                         00000000     0        0 0 1 0000000000000000 20 0 0 10 -1";
    const MAPPED: &str = "   3: 0000000000000000FFFF00000100007F:13AE \
                          0000000000000000FFFF00000100007F:C350 01 00000000:00000000 00:00000000 \
                          00000000   112        0 20341 2 0000000000000000 20 4 30 10 -1";
    const ANY: &str = "   4: 00000000000000000000000000000000:13AE \
                       00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 \
                       00000000   112        0 20342 1 0000000000000000 100 0 0 10 0";

    fn owner(uid: Option<u32>) -> Owner {
        Owner::Asterisk { name: "asterisk".to_owned(), uid }
    }

    fn rows(rows: &[&str]) -> Vec<Socket> {
        rows.iter().filter_map(|row| Socket::parse(row)).collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn rows_are_read_as_the_kernel_writes_them() {
        let [own, peer]: [SocketAddr; 2] =
            ["127.0.0.1:50000", "127.0.0.1:5038"].map(|text| text.parse().unwrap());
        assert_eq!(rows(&[HEADINGS, "", "   0: x"]), []);
        for row in [ACCEPTED, MAPPED] {
            let socket = Socket::parse(row).unwrap();
            assert!(is_same(socket.local, peer) && is_same(socket.remote, own), "{row}");
            assert_eq!((socket.state, socket.uid, socket.inode > 0), (1, 112, true));
        }
        for (row, at, listens) in [
            (LISTENS, "127.0.0.1:5038", Some(0)),
            (LISTENS, "127.0.0.2:5038", None),
            (LISTENS, "127.0.0.1:5039", None),
            (&*LISTENS.replace("0100007F", "00000000"), "127.0.0.1:5038", Some(1)),
            (&*LISTENS.replace("0100007F", "00000000"), "[::1]:5038", None),
            (ANY, "127.0.0.1:5038", Some(2)),
            (ANY, "[::1]:5038", Some(2)),
            (ACCEPTED, "127.0.0.1:5038", None),
        ] {
            let socket = Socket::parse(row).unwrap();
            assert_eq!(socket.listens_at(at.parse().unwrap()), listens, "{row} {at}");
        }
        assert_eq!(
            address("B80D0120000000000000000001000000:0001").unwrap().to_string(),
            "[2001:db8::1]:1"
        );
    }

    #[test]
    fn root_and_asterisk_may_have_the_socket_and_nobody_else() {
        let at = "127.0.0.1:5038".parse().unwrap();
        for (uid, is) in [(Some(112), true), (Some(113), false), (None, false)] {
            let owner = owner(uid);
            assert_eq!(owner.check_listeners(&rows(&[LISTENS]), at).is_ok(), is, "{uid:?}");
            assert_eq!(owner.place(&rows(&[ACCEPTED])).is_ok(), is, "{uid:?}");
        }
        for shown in [&[ACCEPTED][..], &[ACCEPTED, ACCEPTED]] {
            assert_eq!(owner(Some(112)).place(&rows(shown)), Ok(Some(Place::Here)));
        }
        let of_another = ACCEPTED.replace(" 112 ", " 113 ");
        assert!(owner(Some(112)).place(&rows(&[ACCEPTED, &of_another])).is_err());
        let of_root = LISTENS.replace(" 112 ", " 0 ");
        assert!(owner(None).check_listeners(&rows(&[&of_root]), at).is_ok());
        // One wrong listener of two that share the port is enough.
        assert!(owner(None).check_listeners(&rows(&[&of_root, LISTENS]), at).is_err());
        // A listener for IPv6 does not matter where there is one for IPv4.
        assert!(owner(None).check_listeners(&rows(&[&of_root, ANY]), at).is_ok());
        assert!(owner(None).check_listeners(&rows(&[ANY]), at).is_err());
        let why = owner(None).check_listeners(&rows(&[LISTENS]), at).unwrap_err();
        assert!(why.contains("listener: USER") && why.contains("does not have"), "{why}");
    }

    #[test]
    fn a_service_may_have_the_socket_and_no_person() {
        let at = "127.0.0.1:5038".parse().unwrap();
        for (uid, is) in
            [("0", true), ("112", true), ("999", true), ("1000", false), ("65534", false)]
        {
            let row = LISTENS.replace(" 112 ", &format!(" {uid} "));
            let checked = Owner::Service.check_listeners(&rows(&[&row]), at);
            assert_eq!(checked.is_ok(), is, "{uid}: {checked:?}");
        }
    }

    /// The kernel shows a socket as root's until it is accepted.
    #[test]
    fn a_socket_that_nobody_has_accepted_is_nobodys() {
        assert!(owner(Some(112)).place(&rows(&[WAITS])).is_err());
        assert_eq!(owner(Some(112)).place(&[]), Ok(None));
    }

    #[test]
    fn the_owner_of_a_real_connection_is_found() {
        let me = Owner::of(&nix::unistd::getuid().to_string()).unwrap();
        for address in ["127.0.0.1:0", "[::1]:0", "[::]:0"] {
            // A host may have no IPv6.
            let Ok(listener) = TcpListener::bind(address) else { continue };
            let port = listener.local_addr().unwrap().port();
            let host =
                if address == "[::]:0" { "127.0.0.1" } else { &address[..address.len() - 2] };
            let to: SocketAddr = format!("{host}:{port}").parse().unwrap();
            assert_eq!(me.listens(to), Ok(true), "{address}");
            let client = TcpStream::connect(to).unwrap();
            let own = client.local_addr().unwrap();
            assert!(me.check_peer(own, to).is_err(), "{address}: not accepted yet");
            let (mut server, _) = listener.accept().unwrap();
            server.write_all(b"x").unwrap();
            assert_eq!(me.check_peer(own, to), Ok(Place::Here), "{address}");
            drop((server, listener));
        }
        let [nobody, away] = ["127.0.0.1:1", "192.0.2.1:1"].map(|text| text.parse().unwrap());
        assert_eq!(me.listens(nobody), Ok(false));
        assert!(me.check_peer(away, nobody).is_err());
        assert_eq!(me.check_peer(nobody, away), Ok(Place::Elsewhere));
    }

    proptest! {
        #[test]
        fn any_row_is_read(row in "\\PC{0,200}", cut in 0..ANY.len(), letter in any::<char>()) {
            Socket::parse(&row);
            let mut damaged = ANY.to_owned();
            damaged.replace_range(cut..=cut, &letter.to_string());
            Socket::parse(&damaged);
        }
    }
}
