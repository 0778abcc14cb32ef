//! The control protocol: one request a connection, a line of JSON each way.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest request, in bytes.
pub const REQUEST_MAX: u64 = 16 * 1024;

/// What the daemon can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// What it protects, sees and drops.
    Status,
    /// The bans in force.
    Bans {
        /// Only those of this jail.
        jail: Option<String>,
    },
    /// Each jail's settings, watched and banned sources.
    Jails,
    /// What is known of an address.
    Why {
        /// The address.
        address: IpAddr,
    },
    /// Ban by hand.
    Ban {
        /// An address or a network.
        network: IpNet,
        /// For how many seconds; `None`: without end.
        seconds: Option<u64>,
        /// What it closes: a name that the daemon's configuration knows.
        scope: String,
        /// Why, for those who read it later.
        reason: Option<String>,
    },
    /// Lift bans, and forget the failures behind them.
    Unban(Unban),
}

/// Which bans to lift.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "which", rename_all = "kebab-case")]
pub enum Unban {
    /// The ban of this address or network.
    Network {
        /// The address or network.
        network: IpNet,
    },
    /// All of a jail.
    Jail {
        /// The jail.
        jail: String,
    },
    /// All.
    All,
}

/// The daemon's answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// It is done, or this is known.
    Ok(Value),
    /// Why not, and what to do.
    Error(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_there_and_back() {
        let requests = [
            Request::Status,
            Request::Bans { jail: Some("asterisk-wazo".to_owned()) },
            Request::Why { address: IpAddr::from([192, 0, 2, 1]) },
            Request::Ban {
                network: "2001:db8::/64".parse().unwrap(),
                seconds: Some(60),
                scope: "ssh".to_owned(),
                reason: None,
            },
            Request::Unban(Unban::Network { network: "192.0.2.1/32".parse().unwrap() }),
            Request::Unban(Unban::All),
        ];
        for request in requests {
            let text = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request, "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "{}", "{\"command\":\"reboot\"}", "{\"command\":\"why\"}", "[]"] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }
}
