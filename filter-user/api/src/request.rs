//! Requests to the daemon.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::time::Duration;

use ipnet::IpNet;
#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ActiveQuery, BanPlace, FleetAllow, FleetBans, FleetReport, TrafficQuery, Tunable};

/// The longest body of a request, in bytes.
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

/// What only the client knows about the author of a change, for the log. Each value has a header of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct By {
    /// The user who called `sudo`.
    pub sudo_user: Option<String>,
    /// The address from which the ssh session came, if there is one.
    pub from: Option<IpAddr>,
    /// The port of the host to which that session is connected.
    pub ssh_port: Option<u16>,
}

impl By {
    /// The header with the user who called `sudo`.
    pub const SUDO_USER: &str = "ringfence-sudo-user";

    /// The header with the address from which the ssh session came.
    pub const FROM: &str = "ringfence-from";

    /// The header with the port to which that session is connected.
    pub const SSH_PORT: &str = "ringfence-ssh-port";

    /// The headers that have a value.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let user = self
            .sudo_user
            .as_deref()
            .map(|name| name.chars().filter(char::is_ascii_graphic).collect());
        [
            (Self::SUDO_USER, user),
            (Self::FROM, self.from.map(|from| from.to_string())),
            (Self::SSH_PORT, self.ssh_port.map(|port| port.to_string())),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    /// Reads the headers. What cannot be read is left out, because it is only for the log.
    pub fn of_headers<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Self {
        Self {
            sudo_user: header(Self::SUDO_USER).map(str::to_owned),
            from: header(Self::FROM).and_then(|text| text.parse().ok()),
            ssh_port: header(Self::SSH_PORT).and_then(|text| text.parse().ok()),
        }
    }
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
    /// Lists the sources that attack now. The answer is `ActivePage`.
    Active(ActiveQuery),
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
    /// Lists the feeds. The answer is `Feeds`.
    Feeds,
    /// Uses a list that was refused because it has changed so much, or bans again what a feed lists after its bans
    /// were lifted. The answer is `FeedConfirmed`.
    FeedsConfirm {
        /// The feed.
        name: String,
    },
    /// Lists the alerts and actions. The answer is `Alerts`.
    Alerts,
    /// Sends a test message. The answer is `AlertsTested`.
    AlertsTest {
        /// The alert or action; null for all.
        #[serde(default)]
        name: Option<String>,
    },
    /// Shows what is known about the fleet. The answer is `Fleet`.
    Fleet,
    /// A report of the agent of the fleet. The answer is `FleetSettings`.
    FleetReport(FleetReport),
    /// Bans and lifts what other hosts of the fleet have banned and lifted; for the agent. The answer is
    /// `FleetTaken`.
    FleetBans(FleetBans),
    /// Trusts these networks and no other for the fleet; for the agent. The answer is `Allows`.
    FleetAllows {
        /// The networks, at most 64.
        #[cfg_attr(test, schemars(length(max = 64)))]
        allows: Vec<FleetAllow>,
    },
    /// Lifts the bans by a host of the fleet, and accepts none until it may join again. The answer is `FleetChanged`.
    FleetCut {
        /// Its name, or `all`.
        host: String,
    },
    /// Accepts the bans of a host of the fleet again. The answer is `FleetChanged`.
    FleetJoin {
        /// Its name, or `all`.
        host: String,
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
    /// Lists the packets of the past, by time and reason. The answer is `TrafficPage`.
    Traffic(TrafficQuery),
    /// Makes a link for logging in to the page, which is valid once and for five minutes. The answer is `PageLink`.
    PageLink,
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
    /// Whether the agent of the fleet may send it, besides root.
    pub fn is_for_agent(&self) -> bool {
        matches!(self, Self::FleetReport(_) | Self::FleetBans(_) | Self::FleetAllows { .. })
    }

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
            | Self::FeedsConfirm { .. }
            | Self::PageLink
            | Self::AlertsTest { .. }
            | Self::FleetReport(_)
            | Self::FleetBans(_)
            | Self::FleetAllows { .. }
            | Self::FleetCut { .. }
            | Self::FleetJoin { .. }
            | Self::Confirm => true,
            Self::Maintenance(what) => *what != Maintenance::Status,
            Self::Reload { dry_run, .. } => !dry_run,
            Self::Status
            | Self::Bans(_)
            | Self::Active(_)
            | Self::Jails
            | Self::Allows
            | Self::Feeds
            | Self::Alerts
            | Self::Fleet
            | Self::Peers { .. }
            | Self::History(_)
            | Self::Traffic(_)
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
#[serde(tag = "maintenance", rename_all = "kebab-case", deny_unknown_fields)]
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
#[serde(tag = "which", rename_all = "kebab-case", deny_unknown_fields)]
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
    /// The manual ban of this address or network, if it was made for this reason. Other bans and the failures behind
    /// them stay. It is no error if there is none.
    Manual {
        /// The address or network, with its prefix length: `192.0.2.66/32`.
        #[cfg_attr(test, schemars(with = "String"))]
        network: IpNet,
        /// The reason, exactly as it was given.
        reason: String,
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
    use crate::{Call, FleetBan, FleetHost, Method, ROUTES, find};

    fn requests() -> Vec<Request> {
        let mut all = vec![
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
            Request::Active(ActiveQuery {
                limit: NonZeroU16::new(20),
                packets: vec!["192.0.2.1/32".parse().unwrap()],
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
            Request::Unban(Unban::Manual {
                network: "192.0.2.1/32".parse().unwrap(),
                reason: "fail2ban".to_owned(),
            }),
            Request::Unban(Unban::Jail { jail: "sshd".to_owned() }),
            Request::Unban(Unban::All),
            Request::Allow {
                network: "192.0.2.0/24".parse().unwrap(),
                seconds: Some(60),
                comment: None,
            },
            Request::Disallow { network: "192.0.2.0/24".parse().unwrap() },
            Request::Allows,
            Request::Feeds,
            Request::FeedsConfirm { name: "drop".to_owned() },
            Request::Alerts,
            Request::AlertsTest { name: Some("ops".to_owned()) },
            Request::Peers { inside: None, after: Some([192, 0, 2, 1].into()) },
            Request::Set { jail: "sshd".to_owned(), setting: Tunable::Maxretry, value: None },
            Request::History(HistoryQuery {
                network: Some("192.0.2.0/24".parse().unwrap()),
                ..HistoryQuery::default()
            }),
            Request::Confirm,
            Request::Traffic(TrafficQuery { since_seconds: Some(60), ..TrafficQuery::default() }),
            Request::PageLink,
            Request::Reload { dry_run: false, force: true },
        ];
        all.extend(of_fleet());
        all
    }

    fn of_fleet() -> Vec<Request> {
        vec![
            Request::Fleet,
            Request::FleetReport(FleetReport {
                host: "pbx-1".to_owned(),
                ..FleetReport::default()
            }),
            Request::FleetBans(FleetBans {
                bans: vec![ban_of_fleet("sshd")],
                lift: vec!["192.0.2.1/32".parse().unwrap()],
                round: 1,
                is_last: true,
            }),
            Request::FleetAllows {
                allows: vec![FleetAllow {
                    network: "192.0.2.0/24".parse().unwrap(),
                    comment: "office".to_owned(),
                    seconds: None,
                }],
            },
            Request::FleetCut { host: "pbx-2".to_owned() },
            Request::FleetJoin { host: "all".to_owned() },
        ]
    }

    fn ban_of_fleet(jail: &str) -> FleetBan {
        FleetBan {
            network: "192.0.2.1/32".parse().unwrap(),
            host: "pbx-2".to_owned(),
            jail: jail.to_owned(),
            proven: true,
            hosts: 1,
            seconds: 60,
        }
    }

    /// Each request with its method, its path and its body.
    #[test]
    fn requests_there_and_back() {
        let expected = include_str!("request/calls.txt");
        let calls: Vec<String> = requests()
            .into_iter()
            .map(|request| {
                let call = Call::of(&request).unwrap();
                let body = call.body.clone().unwrap_or_default();
                let (route, found) =
                    find(call.method.as_str(), &call.target, body.as_bytes()).unwrap();
                assert_eq!(found, request, "{call:?}");
                assert_eq!(route, request.route());
                assert!(ROUTES.contains(&route), "{route:?}");
                assert_eq!(call.method == Method::Get, !request.changes(), "{call:?}");
                format!("{} {} {body}", call.method, call.target).trim_end().to_owned()
            })
            .collect();
        assert_eq!(calls, expected.lines().collect::<Vec<_>>());
        for route in ROUTES {
            let has = requests().iter().any(|request| request.route() == route);
            assert!(has, "no request of {} {}", route.method, route.path);
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
        let length = Call::of(&request).unwrap().body.unwrap().len();
        assert!((length as u64) < REQUEST_MAX, "{length}");
    }

    #[test]
    fn what_the_agent_sends_at_once_fits_into_a_request() {
        let network: IpNet = "2001:db8:ffff:ffff:ffff:ffff:ffff:fff0/124".parse().unwrap();
        let longest = FleetBan {
            network,
            host: "h".repeat(48),
            seconds: u64::MAX,
            ..ban_of_fleet(&"j".repeat(64))
        };
        let bans = vec![longest; crate::FLEET_BANS_MAX];
        let lift = vec![network; crate::FLEET_BANS_MAX];
        let bans = FleetBans { bans, lift, round: u32::MAX, is_last: true };
        let allow = FleetAllow { network, comment: "c".repeat(128), seconds: Some(u64::MAX) };
        let counts = |host: &FleetHost, reasons: [&str; 7]| FleetHost {
            refused: reasons.iter().map(|why| ((*why).to_owned(), u64::MAX)).collect(),
            ..host.clone()
        };
        let host = FleetHost {
            host: "h".repeat(48),
            bans: u64::MAX,
            last: Some("2026-11-29T04:40:05Z".to_owned()),
            clock_ms: Some(i64::MIN),
            version: Some("v".repeat(128)),
            closed_until: Some("2026-11-29T04:40:05Z".to_owned()),
            ..FleetHost::default()
        };
        let reasons = ["unproven", "rate", "most", "cut", "network", "newer", "broken"];
        let hosts = vec![counts(&host, reasons); crate::FLEET_HOSTS_MAX];
        let report =
            FleetReport { hosts, problem: Some("p".repeat(2048)), ..FleetReport::default() };
        for request in [
            Request::FleetBans(bans),
            Request::FleetReport(report),
            Request::FleetAllows { allows: vec![allow; crate::FLEET_ALLOWS_MAX] },
        ] {
            let length = Call::of(&request).unwrap().body.unwrap().len();
            assert!((length as u64) < REQUEST_MAX, "{length}");
            assert!(request.is_for_agent());
        }
    }

    #[test]
    fn the_author_of_a_change_is_in_headers() {
        let by = By {
            sudo_user: Some("alice".to_owned()),
            from: Some([192, 0, 2, 9].into()),
            ssh_port: Some(2222),
        };
        let headers: Vec<_> = by.headers().collect();
        let header = |name: &str| {
            headers.iter().find(|(other, _)| *other == name).map(|(_, value)| &**value)
        };
        assert_eq!(By::of_headers(header), by);
        assert_eq!(By::default().headers().count(), 0);
        let crooked = By { sudo_user: Some("a\r\nb: c".to_owned()), ..By::default() };
        assert_eq!(crooked.headers().next().unwrap().1, "ab:c");
        let nonsense = By::of_headers(|_| Some("x"));
        assert_eq!((nonsense.from, nonsense.ssh_port), (None, None));
    }
}
