//! The control protocol: one request a connection, a line of JSON each way.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The longest request, in bytes.
pub const REQUEST_MAX: u64 = 16 * 1024;

/// The most networks that one ban leaves out.
pub const EXCEPT_MAX: usize = 64;

/// The most bans that one request takes over: each has at most 150 bytes.
pub const TAKE_OVER_MAX: usize = 100;

/// The longest maintenance: who forgets to end one is not closed for good.
pub const MAINTENANCE_MAX: Duration = Duration::from_hours(24);

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
        /// Networks inside it that are left out; at most [`EXCEPT_MAX`].
        #[serde(default)]
        except: Vec<IpNet>,
        /// Why, for those who read it later.
        reason: Option<String>,
        /// Even if it is a known peer.
        #[serde(default)]
        force: bool,
    },
    /// Take over bans of jails from another program.
    TakeOver {
        /// The bans, at most [`TAKE_OVER_MAX`].
        bans: Vec<Decided>,
        /// Where they come from, for those who read it later.
        from: String,
    },
    /// Close SIP for maintenance, open it again, or say how it is.
    Maintenance(Maintenance),
    /// Lift bans, and forget the failures behind them.
    Unban(Unban),
}

/// A ban that another program has decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The address.
    pub address: IpAddr,
    /// The jail, by its name here.
    pub jail: String,
    /// For how many seconds yet; `None`: without end.
    pub seconds: Option<u64>,
}

/// What to do about SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "maintenance", rename_all = "kebab-case")]
pub enum Maintenance {
    /// Close it to all but trusted networks.
    On {
        /// For how many seconds, at most [`MAINTENANCE_MAX`].
        seconds: u64,
        /// To known peers as well.
        closed_to_known: bool,
    },
    /// Open it.
    Off,
    /// Say how it is.
    Status,
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
                except: vec!["2001:db8::7/128".parse().unwrap()],
                reason: None,
                force: true,
            },
            Request::TakeOver {
                bans: vec![Decided {
                    address: IpAddr::from([192, 0, 2, 1]),
                    jail: "sshd".to_owned(),
                    seconds: None,
                }],
                from: "fail2ban".to_owned(),
            },
            Request::Maintenance(Maintenance::On { seconds: 600, closed_to_known: true }),
            Request::Maintenance(Maintenance::Off),
            Request::Maintenance(Maintenance::Status),
            Request::Unban(Unban::Network { network: "192.0.2.1/32".parse().unwrap() }),
            Request::Unban(Unban::All),
        ];
        for request in requests {
            let text = serde_json::to_string(&request).unwrap();
            assert_eq!(serde_json::from_str::<Request>(&text).unwrap(), request, "{text}");
        }
    }

    #[test]
    fn the_longest_that_is_taken_over_at_once_fits_into_a_request() {
        let longest = Decided {
            address: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
            jail: "x".repeat(48),
            seconds: Some(u64::MAX),
        };
        let bans = vec![longest; TAKE_OVER_MAX];
        let request = Request::TakeOver { bans, from: "fail2ban".to_owned() };
        let length = serde_json::to_string(&request).unwrap().len();
        assert!((length as u64) < REQUEST_MAX, "{length}");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "{}", "{\"command\":\"reboot\"}", "{\"command\":\"why\"}", "[]"] {
            assert!(serde_json::from_str::<Request>(text).is_err(), "{text}");
        }
    }
}
