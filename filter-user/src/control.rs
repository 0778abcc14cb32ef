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
    /// Some of the bans in force: as many as the daemon can list without a pause that is felt.
    Bans {
        /// Only those of this jail.
        jail: Option<String>,
        /// Those behind the last one of the page before; `None`: from the first one on.
        #[serde(default)]
        after: Option<BanPlace>,
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
        /// Whether no more of them will come.
        #[serde(default)]
        last: bool,
    },
    /// Close SIP for maintenance, open it again, or say how it is.
    Maintenance(Maintenance),
    /// Lift bans, and forget the failures behind them.
    Unban(Unban),
}

/// A ban's place in the list of all, to go on behind it. The list is by network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanPlace {
    /// The address or network.
    pub network: IpNet,
    /// The number of whoever decided it.
    pub origin: u8,
    /// The number of its scope.
    pub scope: u8,
}

/// A page of the bans in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BansPage {
    /// The bans, by network.
    pub bans: Vec<BanRow>,
    /// Whether they drop anything, or this is a dry run.
    pub enforcing: bool,
    /// Where the next page begins; `None`: this is the last one.
    pub next: Option<BanPlace>,
}

/// A ban, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BanRow {
    /// The address, or the network in CIDR notation.
    pub network: String,
    /// Addresses and networks inside it that it leaves out.
    #[serde(default)]
    pub except: Vec<String>,
    /// The jail that decided it, or `manual`, `escalation`, `flood`.
    pub jail: String,
    /// The name of the scope that it closes.
    pub scope: String,
    /// When it began, in UTC (RFC 3339, to the second).
    pub since: String,
    /// The same in milliseconds since 1970.
    pub since_ms: i64,
    /// When it ends by itself, in UTC; `None`: never.
    pub until: Option<String>,
    /// Packets that it has matched.
    pub packets: u64,
    /// Why.
    pub reason: String,
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
        /// Those of addresses and networks inside it as well.
        #[serde(default)]
        inside: bool,
    },
    /// All of a jail.
    Jail {
        /// The jail.
        jail: String,
    },
    /// All.
    All,
}

/// Who asks, as far as only the client knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct By {
    /// The user that `sudo` was called by.
    #[serde(default)]
    pub sudo_user: Option<String>,
    /// Where the session comes from, if it came over ssh.
    #[serde(default)]
    pub from: Option<IpAddr>,
}

/// The key of [`By`] beside those of a request.
const BY: &str = "by";

impl Request {
    /// Whether it may change what is in force.
    pub fn changes(&self) -> bool {
        match self {
            Self::Ban { .. } | Self::TakeOver { .. } | Self::Unban(_) => true,
            Self::Maintenance(what) => *what != Maintenance::Status,
            Self::Status | Self::Bans { .. } | Self::Jails | Self::Why { .. } => false,
        }
    }

    /// As a line for the daemon, without its end.
    ///
    /// # Errors
    ///
    /// Never: all of it can be written as JSON.
    pub fn to_line(&self, by: &By) -> serde_json::Result<Vec<u8>> {
        let mut value = serde_json::to_value(self)?;
        if self.changes() {
            value[BY] = serde_json::to_value(by)?;
        }
        serde_json::to_vec(&value)
    }

    /// The inverse of [`to_line`](Self::to_line).
    ///
    /// # Errors
    ///
    /// When it is no request.
    pub fn from_line(line: &[u8]) -> serde_json::Result<(Self, By)> {
        let mut value: Value = serde_json::from_slice(line)?;
        let by = value.as_object_mut().and_then(|object| object.remove(BY));
        let by = by.map(serde_json::from_value).transpose()?.unwrap_or_default();
        Ok((serde_json::from_value(value)?, by))
    }
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
            Request::Bans { jail: Some("asterisk-wazo".to_owned()), after: None },
            Request::Bans {
                jail: None,
                after: Some(BanPlace {
                    network: "2001:db8::/64".parse().unwrap(),
                    origin: 255,
                    scope: 7,
                }),
            },
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
                last: true,
            },
            Request::Maintenance(Maintenance::On { seconds: 600, closed_to_known: true }),
            Request::Maintenance(Maintenance::Off),
            Request::Maintenance(Maintenance::Status),
            Request::Unban(Unban::Network {
                network: "192.0.2.1/32".parse().unwrap(),
                inside: true,
            }),
            Request::Unban(Unban::All),
        ];
        let by = By { sudo_user: Some("alice".to_owned()), from: Some([192, 0, 2, 9].into()) };
        for request in requests {
            let line = request.to_line(&by).unwrap();
            let who = if request.changes() { by.clone() } else { By::default() };
            let text = String::from_utf8_lossy(&line);
            assert_eq!(Request::from_line(&line).unwrap(), (request, who), "{text}");
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
        let request = Request::TakeOver { bans, from: "fail2ban".to_owned(), last: false };
        let by = By { sudo_user: Some("x".repeat(64)), from: Some("2001:db8::1".parse().unwrap()) };
        let length = request.to_line(&by).unwrap().len();
        assert!((length as u64) < REQUEST_MAX, "{length}");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "{}", "{\"command\":\"reboot\"}", "{\"command\":\"why\"}", "[]"] {
            assert!(Request::from_line(text.as_bytes()).is_err(), "{text}");
        }
    }
}
