//! Requests to the daemon.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use ipnet::IpNet;
#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BanPlace, Tunable};

/// The longest request, in bytes.
pub const REQUEST_MAX: u64 = 16 * 1024;

/// The maximum length of a page of bans.
pub const BANS_MAX: u16 = 256;

/// The most exceptions that a ban may have.
pub const EXCEPT_MAX: usize = 64;

/// The most bans in one request to import them; each takes at most 150 bytes.
pub const TAKE_OVER_MAX: usize = 100;

/// The most addresses that one request may ban or unban. A network counts as [`NETWORK_WEIGHT`]
/// addresses.
pub const ORDERS_MAX: usize = 64;

/// The number of addresses that a network counts as, because the known peers in it must be counted.
pub const NETWORK_WEIGHT: usize = 8;

/// The longest reason or comment, in bytes.
pub const TEXT_MAX: usize = 256;

/// The longest maintenance, so that SIP does not stay closed if it is forgotten.
pub const MAINTENANCE_MAX: Duration = Duration::from_hours(24);

/// A request with its author: a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Line {
    /// The request.
    #[serde(flatten)]
    pub request: Request,
    /// The author, for the log of changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
}

impl Line {
    /// A request, with its author if it is logged.
    pub fn new(request: Request, by: By) -> Self {
        let by = request.changes().then_some(by);
        Self { request, by }
    }
}

/// What only the client knows about its author.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct By {
    /// The user who called `sudo`.
    #[serde(default)]
    pub sudo_user: Option<String>,
    /// The address from which the ssh session came, if there is one.
    #[serde(default)]
    pub from: Option<IpAddr>,
    /// The port of the host to which that session is connected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ssh_port: Option<u16>,
}

/// A request to the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(tag = "command", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Shows what the daemon protects, sees and drops. The answer is `Status`.
    Status,
    /// Lists a page of the bans in force. The answer is `BansPage`.
    Bans(BansQuery),
    /// Lists the settings of each jail, and how many sources it watches and has banned. The answer is
    /// `Jails`.
    Jails,
    /// Shows what is known about an address. The answer is `Why`.
    Why {
        /// The address.
        address: IpAddr,
    },
    /// Bans an address or a network. The answer is `Banned`.
    Ban {
        /// The address or network, with its prefix length: `192.0.2.66/32`.
        #[cfg_attr(test, schemars(with = "String"))]
        network: IpNet,
        /// How long, in seconds; null for a ban that lasts until it is lifted.
        seconds: Option<u64>,
        /// The ports to close: `sip`, `all`, or a name under `ports` in the configuration.
        scope: String,
        /// Networks inside it to which the ban does not apply; at most 64.
        #[serde(default)]
        #[cfg_attr(test, schemars(with = "Vec<String>", length(max = 64)))]
        except: Vec<IpNet>,
        /// The reason to show in `bans` and `why`.
        reason: Option<String>,
        /// Whether to ban even a known peer.
        #[serde(default)]
        force: bool,
    },
    /// Bans several addresses and networks, each like `Ban`. The answer is `BannedMany`.
    BanMany {
        /// The bans, at most 64 in one request; a network counts as 8 addresses.
        #[cfg_attr(test, schemars(length(max = 64)))]
        bans: Vec<Order>,
        /// Whether to ban even known peers.
        #[serde(default)]
        force: bool,
    },
    /// Imports bans by jails of another program. The answer is `TakenOver`.
    TakeOver {
        /// The bans, at most 100 in one request.
        #[cfg_attr(test, schemars(length(max = 100)))]
        bans: Vec<Decided>,
        /// The name of that program, which becomes part of the reason.
        from: String,
        /// Whether this is the last request with bans from it.
        #[serde(default)]
        last: bool,
    },
    /// Closes or opens SIP for maintenance, or shows whether it is closed. The answer is
    /// `MaintenanceState`.
    Maintenance(Maintenance),
    /// Lifts bans, and forgets the failures behind them. The answer is `Lifted`.
    Unban(Unban),
    /// Confirms that the host can still be reached after the daemon's first start. The answer is
    /// `Confirmed`.
    Confirm,
    /// Trusts a network until it is disallowed, or for a given time. The answer is `AllowChanged`.
    Allow {
        /// The address or network, with its prefix length: `192.0.2.66/32`.
        #[cfg_attr(test, schemars(with = "String"))]
        network: IpNet,
        /// How long, in seconds; null for until it is disallowed.
        seconds: Option<u64>,
        /// Its purpose, at most 256 bytes.
        comment: Option<String>,
    },
    /// Ends an `Allow` of exactly this network. The answer is `AllowChanged`.
    Disallow {
        /// The address or network, with its prefix length.
        #[cfg_attr(test, schemars(with = "String"))]
        network: IpNet,
    },
    /// Lists the allowed networks. The answer is `Allows`.
    Allows,
    /// Changes a setting of a jail until it is set again. The answer is `TuneChanged`.
    Set {
        /// The jail.
        jail: String,
        /// The setting.
        setting: Tunable,
        /// Its value, as in the configuration; null for the configured value.
        value: Option<String>,
    },
    /// Lists a page of the known peers. The answer is `PeersPage`.
    Peers {
        /// Only those in this network; null for all.
        #[serde(default)]
        #[cfg_attr(test, schemars(with = "Option<String>"))]
        inside: Option<IpNet>,
        /// `next` of the previous page; null for the first page.
        #[serde(default)]
        after: Option<IpAddr>,
    },
    /// Lists a page of the events of the last 90 days. The answer is `HistoryPage`.
    History(HistoryQuery),
    /// Reads the configuration again and applies it, as a whole or not at all. The answer is `Reloaded`.
    Reload {
        /// Whether only to show what would change.
        #[serde(default)]
        dry_run: bool,
        /// Whether to apply it despite objections.
        #[serde(default)]
        force: bool,
    },
}

impl Request {
    /// Whether it may change bans, settings or the like.
    pub fn changes(&self) -> bool {
        match self {
            Self::Ban { .. }
            | Self::BanMany { .. }
            | Self::TakeOver { .. }
            | Self::Unban(_)
            | Self::Allow { .. }
            | Self::Disallow { .. }
            | Self::Set { .. }
            | Self::Confirm => true,
            Self::Maintenance(what) => *what != Maintenance::Status,
            Self::Reload { dry_run, .. } => !dry_run,
            Self::Status
            | Self::Bans(_)
            | Self::Jails
            | Self::Allows
            | Self::Peers { .. }
            | Self::History(_)
            | Self::Why { .. } => false,
        }
    }
}

/// The bans to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct BansQuery {
    /// Only the bans by this jail, or of `manual`, `escalation` or `flood`; null for all.
    #[serde(default)]
    pub jail: Option<String>,
    /// Only the bans that close this scope; null for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// Only the bans of this network, and of addresses and networks inside it; null for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub inside: Option<IpNet>,
    /// Only the bans that began at most this many seconds ago; null for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<u64>,
    /// `next` of the previous page; null for the first page.
    #[serde(default)]
    pub after: Option<BanPlace>,
    /// The most bans on the page; null for as many as fit. A page never has more than 256. It may have
    /// fewer, or even none, although others follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<NonZeroU16>,
    /// Which bans are wanted; null for all, by network. With an order, a page has only the first `limit` of
    /// the part of the list that it covers. So the first of all bans are among those of all pages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<BanOrder>,
}

/// An order of bans. Bans of equal rank are in the order of their networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum BanOrder {
    /// The newest first, by `since_ms`.
    Newest,
    /// The one that ends first, by `until`.
    End,
    /// The one with the most packets first.
    Packets,
}

/// The part of the history to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HistoryQuery {
    /// Only entries about this network, something in it, or a network around it; null for all.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub network: Option<IpNet>,
    /// Only entries of at most this many seconds ago; null for all.
    #[serde(default)]
    pub since_seconds: Option<u64>,
    /// `next` of the previous page; null for the newest page.
    #[serde(default)]
    pub before: Option<i64>,
}

/// A ban to make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Order {
    /// The address or network, with its prefix length: `192.0.2.66/32`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub network: IpNet,
    /// How long, in seconds; null for a ban that lasts until it is lifted.
    pub seconds: Option<u64>,
    /// The ports to close: `sip`, `all`, or a name under `ports` in the configuration.
    pub scope: String,
    /// Networks inside it to which the ban does not apply; at most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>", length(max = 64)))]
    pub except: Vec<IpNet>,
    /// The reason to show in `bans` and `why`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The jail that the ban belongs to; null or an unknown jail means `manual`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jail: Option<String>,
}

/// How much a ban or an unban of a network counts towards [`ORDERS_MAX`].
pub fn weight(network: IpNet) -> usize {
    if network.prefix_len() == network.max_prefix_len() { 1 } else { NETWORK_WEIGHT }
}

/// A ban by another program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Decided {
    /// The address.
    pub address: IpAddr,
    /// The jail, by its name in Ringfence.
    pub jail: String,
    /// The remaining time in seconds; null if the ban has no end.
    pub seconds: Option<u64>,
}

/// An action on SIP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(tag = "maintenance", rename_all = "kebab-case")]
pub enum Maintenance {
    /// Closes it to everybody except trusted networks and known peers.
    On {
        /// How long, in seconds: from 1 second to 24 hours.
        #[cfg_attr(test, schemars(range(min = 1, max = 86_400)))]
        seconds: u64,
        /// Whether to close it to known peers too.
        closed_to_known: bool,
    },
    /// Opens it.
    Off,
    /// Shows whether it is closed.
    Status,
}

/// The bans to lift.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(tag = "which", rename_all = "kebab-case")]
pub enum Unban {
    /// The ban of this address or network.
    Network {
        /// The address or network, with its prefix length: `192.0.2.66/32`.
        #[cfg_attr(test, schemars(with = "String"))]
        network: IpNet,
        /// Whether to lift the bans of addresses and networks inside it too.
        #[serde(default)]
        inside: bool,
    },
    /// The bans of several addresses and networks.
    Networks {
        /// The addresses and networks, at most 64 in one request; a network counts as 8 addresses.
        #[cfg_attr(test, schemars(with = "Vec<String>", length(max = 64)))]
        networks: Vec<IpNet>,
    },
    /// All bans by a jail, or of `manual`, `escalation` or `flood`.
    Jail {
        /// The jail.
        jail: String,
    },
    /// All bans.
    All,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<Request> {
        vec![
            Request::Status,
            Request::Jails,
            Request::Bans(BansQuery {
                jail: Some("asterisk-wazo".to_owned()),
                ..BansQuery::default()
            }),
            Request::Bans(BansQuery {
                jail: None,
                after: Some(BanPlace {
                    network: "2001:db8::/64".parse().unwrap(),
                    origin: 255,
                    scope: 7,
                }),
                limit: NonZeroU16::new(BANS_MAX),
                ..BansQuery::default()
            }),
            Request::Bans(BansQuery {
                scope: Some("ssh".to_owned()),
                inside: Some("192.0.2.0/24".parse().unwrap()),
                since_seconds: Some(3600),
                ..BansQuery::default()
            }),
            Request::Bans(BansQuery {
                limit: NonZeroU16::new(20),
                first: Some(BanOrder::Newest),
                ..BansQuery::default()
            }),
            Request::Why { address: IpAddr::from([192, 0, 2, 1]) },
            Request::Ban {
                network: "2001:db8::/64".parse().unwrap(),
                seconds: Some(60),
                scope: "ssh".to_owned(),
                except: vec!["2001:db8::7/128".parse().unwrap()],
                reason: None,
                force: true,
            },
            Request::BanMany {
                bans: vec![Order {
                    network: "192.0.2.1/32".parse().unwrap(),
                    seconds: None,
                    scope: "sip".to_owned(),
                    except: Vec::new(),
                    reason: Some("abuse".to_owned()),
                    jail: Some("sshd".to_owned()),
                }],
                force: false,
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
            Request::Unban(Unban::Networks { networks: vec!["192.0.2.1/32".parse().unwrap()] }),
            Request::Unban(Unban::Jail { jail: "sshd".to_owned() }),
            Request::Unban(Unban::All),
            Request::Allow {
                network: "192.0.2.0/24".parse().unwrap(),
                seconds: Some(60),
                comment: None,
            },
            Request::Disallow { network: "192.0.2.0/24".parse().unwrap() },
            Request::Allows,
            Request::Peers { inside: None, after: Some([192, 0, 2, 1].into()) },
            Request::Set { jail: "sshd".to_owned(), setting: Tunable::Maxretry, value: None },
            Request::History(HistoryQuery {
                network: Some("192.0.2.0/24".parse().unwrap()),
                ..HistoryQuery::default()
            }),
        ]
    }

    #[test]
    fn requests_there_and_back() {
        let by = By {
            sudo_user: Some("alice".to_owned()),
            from: Some([192, 0, 2, 9].into()),
            ssh_port: Some(2222),
        };
        for request in requests() {
            let line = Line::new(request, by.clone());
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(line.by.is_some(), line.request.changes(), "{text}");
            assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line, "{text}");
        }
    }

    #[test]
    fn requests_are_as_they_were() {
        let texts: Vec<String> = requests()
            .into_iter()
            .map(|request| {
                serde_json::to_value(Line::new(request, By::default())).unwrap().to_string()
            })
            .collect();
        let by = r#""by":{"from":null,"sudo_user":null}"#;
        assert_eq!(
            texts,
            [
                r#"{"command":"status"}"#,
                r#"{"command":"jails"}"#,
                r#"{"after":null,"command":"bans","jail":"asterisk-wazo"}"#,
                r#"{"after":{"network":"2001:db8::/64","origin":255,"scope":7},"command":"bans","jail":null,"limit":256}"#,
                r#"{"after":null,"command":"bans","inside":"192.0.2.0/24","jail":null,"scope":"ssh","since_seconds":3600}"#,
                r#"{"after":null,"command":"bans","first":"newest","jail":null,"limit":20}"#,
                r#"{"address":"192.0.2.1","command":"why"}"#,
                &format!(
                    r#"{{{by},"command":"ban","except":["2001:db8::7/128"],"force":true,"network":"2001:db8::/64","reason":null,"scope":"ssh","seconds":60}}"#
                ),
                &format!(
                    r#"{{"bans":[{{"jail":"sshd","network":"192.0.2.1/32","reason":"abuse","scope":"sip","seconds":null}}],{by},"command":"ban-many","force":false}}"#
                ),
                &format!(
                    r#"{{"bans":[{{"address":"192.0.2.1","jail":"sshd","seconds":null}}],{by},"command":"take-over","from":"fail2ban","last":true}}"#
                ),
                &format!(
                    r#"{{{by},"closed_to_known":true,"command":"maintenance","maintenance":"on","seconds":600}}"#
                ),
                &format!(r#"{{{by},"command":"maintenance","maintenance":"off"}}"#),
                r#"{"command":"maintenance","maintenance":"status"}"#,
                &format!(
                    r#"{{{by},"command":"unban","inside":true,"network":"192.0.2.1/32","which":"network"}}"#
                ),
                &format!(
                    r#"{{{by},"command":"unban","networks":["192.0.2.1/32"],"which":"networks"}}"#
                ),
                &format!(r#"{{{by},"command":"unban","jail":"sshd","which":"jail"}}"#),
                &format!(r#"{{{by},"command":"unban","which":"all"}}"#),
                &format!(
                    r#"{{{by},"command":"allow","comment":null,"network":"192.0.2.0/24","seconds":60}}"#
                ),
                &format!(r#"{{{by},"command":"disallow","network":"192.0.2.0/24"}}"#),
                r#"{"command":"allows"}"#,
                r#"{"after":"192.0.2.1","command":"peers","inside":null}"#,
                &format!(
                    r#"{{{by},"command":"set","jail":"sshd","setting":"maxretry","value":null}}"#
                ),
                r#"{"before":null,"command":"history","network":"192.0.2.0/24","since_seconds":null}"#,
            ]
        );
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
        let by = By {
            sudo_user: Some("x".repeat(64)),
            from: Some("2001:db8::1".parse().unwrap()),
            ssh_port: Some(u16::MAX),
        };
        let length = serde_json::to_string(&Line::new(request, by)).unwrap().len();
        assert!((length as u64) < REQUEST_MAX, "{length}");
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "{}",
            "[]",
            r#"{"command":"reboot"}"#,
            r#"{"command":"why"}"#,
            r#"{"command":"why","address":"192.0.2.1","adress":"192.0.2.2"}"#,
            r#"{"command":"bans","jail":null,"limit":0}"#,
            r#"{"command":"bans","limit":70000}"#,
            r#"{"command":"bans","jial":"sshd"}"#,
            r#"{"command":"unban","which":"most"}"#,
        ] {
            assert!(serde_json::from_str::<Line>(text).is_err(), "{text}");
        }
    }
}
