//! The form of bans and their evidence in the tables.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use rusqlite::Row;
use serde::{Deserialize, Serialize};

use super::Names;
use super::times::Clock;
use detection::ban::{Entry, Key};
use detection::jail::Evidence;
use detection::settings::Scope;

/// The column of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NetworkBytes {
    bytes: [u8; 18],
    len: usize,
}

impl NetworkBytes {
    pub(super) fn new(network: IpNet) -> Self {
        let mut bytes = [0; 18];
        let mut len = 0;
        let mut push = |more: &[u8]| {
            for byte in more {
                if let Some(place) = bytes.get_mut(len) {
                    *place = *byte;
                    len += 1;
                }
            }
        };
        match network.addr() {
            IpAddr::V4(v4) => {
                push(&[4]);
                push(&v4.octets());
            }
            IpAddr::V6(v6) => {
                push(&[6]);
                push(&v6.octets());
            }
        }
        push(&[network.prefix_len()]);
        Self { bytes, len }
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// The inverse of [`NetworkBytes`]; `None` if the bytes are not a network.
pub(super) fn network(bytes: &[u8]) -> Option<IpNet> {
    let (length, rest) = bytes.split_last()?;
    let (family, address) = rest.split_first()?;
    let address = match family {
        4 => IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(address).ok()?)),
        6 => IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(address).ok()?)),
        _ => return None,
    };
    let network = IpNet::new(address, *length).ok()?;
    (network == network.trunc()).then_some(network)
}

/// The columns of a ban's key.
pub(super) struct KeyColumns<'a> {
    pub(super) network: NetworkBytes,
    pub(super) origin: &'static str,
    pub(super) scope: &'a str,
}

impl<'a> KeyColumns<'a> {
    pub(super) fn new((network, origin, scope): Key, names: &'a Names) -> Self {
        let network = NetworkBytes::new(network);
        Self { network, origin: names.jails.name(origin), scope: names.ports.name(scope) }
    }
}

/// Reads a scope's column; `None` for ports that the configuration no longer names.
pub(super) fn scope(name: &str, names: &Names) -> Option<Scope> {
    names.ports.scope(name).ok()
}

/// The column of a ban's exceptions; `None` if there are none.
pub(super) fn exceptions(entry: &Entry) -> Option<String> {
    let all: Vec<String> = entry.except().iter().map(ToString::to_string).collect();
    (!all.is_empty()).then(|| all.join(" "))
}

/// One failure in the column of the evidence.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct FailureColumn {
    at: i64,
    source: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<IpAddr>,
    class: String,
    account: Option<String>,
    proven: bool,
}

/// The column of the evidence; `None` if there is none.
pub(super) fn evidence_column(evidence: &[Evidence], clock: &Clock) -> Option<String> {
    let columns: Vec<FailureColumn> = evidence
        .iter()
        .map(|evidence| FailureColumn {
            at: clock.utc(evidence.at),
            source: evidence.source.to_owned(),
            address: evidence.address,
            class: evidence.class.as_str().to_owned(),
            account: evidence.account.as_deref().map(str::to_owned),
            proven: evidence.proven,
        })
        .collect();
    // Strings, numbers and truth values are JSON.
    (!columns.is_empty()).then(|| serde_json::to_string(&columns).unwrap_or_default())
}

/// The stored evidence of one ban.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptEvidence {
    /// The banned network.
    pub network: IpNet,
    /// The jail, by its name in `bans`.
    pub jail: String,
    /// The scope's name.
    pub scope: String,
    /// The failures in order, in the form of `why --json`.
    pub failures: Vec<serde_json::Value>,
}

impl KeptEvidence {
    /// Reads the columns, leaving out anything that cannot be read.
    pub(super) fn read(network: IpNet, jail: String, scope: String, column: &str) -> Self {
        let columns: Vec<FailureColumn> = serde_json::from_str(column).unwrap_or_default();
        let failures = columns.into_iter().map(|failure| {
            let FailureColumn { at, source, address, class, account, proven } = failure;
            serde_json::json!({
                "time": rfc3339(at),
                "source": source,
                "address": address,
                "class": class,
                "account": account,
                "proven": proven,
            })
        });
        Self { network, jail, scope, failures: failures.collect() }
    }
}

/// How often a jail has banned an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offences {
    /// The jail, by its name in `bans`; empty if it was not stored.
    pub jail: String,
    /// The number of bans.
    pub bans: u64,
    /// The number of bans for failures whose source cannot have been forged.
    pub proven: u64,
    /// When the last ban began: RFC 3339 in UTC.
    pub last: String,
}

impl Offences {
    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let count = |column| row.get(column).map(|count: i64| u64::try_from(count).unwrap_or(0));
        let (bans, proven) = (count(1)?, count(2)?);
        Ok(Self { jail: row.get(0)?, bans, proven, last: rfc3339(row.get(3)?) })
    }
}

fn rfc3339(utc: i64) -> String {
    let time = jiff::Timestamp::from_nanosecond(utc.into()).unwrap_or_default();
    detection::clock::Rfc3339(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_read_back_in_the_order_of_the_ledger() {
        let texts = [
            "0.0.0.0/8",
            "192.0.2.0/24",
            "192.0.2.0/32",
            "192.0.2.1/32",
            "::/1",
            "2001:db8::7/128",
        ];
        let networks: Vec<IpNet> = texts.iter().map(|text| text.parse().unwrap()).collect();
        assert!(networks.is_sorted());
        let columns: Vec<NetworkBytes> = networks.iter().copied().map(NetworkBytes::new).collect();
        assert!(columns.iter().map(NetworkBytes::as_slice).is_sorted());
        for (column, expected) in columns.iter().zip(networks) {
            assert_eq!(network(column.as_slice()), Some(expected));
        }
    }

    #[test]
    fn invalid_bytes_are_no_network() {
        for bytes in
            [&[][..], &[4], &[4, 1, 2, 3, 4], &[4, 1, 2, 3, 4, 33], &[4, 1, 2, 3, 4, 8], &[5; 6]]
        {
            assert_eq!(network(bytes), None, "{bytes:?}");
        }
    }
}
