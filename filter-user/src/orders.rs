//! `ban` and `unban` of many addresses: sends the orders to the daemon in parts, and reports the result
//! of each.
//!
//! Orders are read as needed, and only a part of them is in memory.
//!
//! Must never keep a whole file in memory.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use api::{BannedMany, Durability, Lifted, ORDERS_MAX, Order, Refused, weight};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use crate::ban_list::{Ban, End};
use crate::prefix::show;

/// The most bytes of the orders in one request.
const BYTES_MAX: usize = 12 * 1024;

/// The most refused orders that the JSON document lists. All are reported on standard error.
const LISTED_MAX: usize = 1000;

/// One line that was read.
#[derive(Debug)]
pub enum Read<T> {
    /// An order.
    Order(T),
    /// A ban that has ended.
    Ended,
    /// An order that is refused without asking the daemon, with the reason.
    Refused(Option<IpNet>, String),
}

/// An order for the daemon.
pub trait Ask {
    /// The address or network.
    fn network(&self) -> IpNet;

    /// Its length in a request, at most.
    fn bytes(&self) -> usize;
}

impl Ask for Order {
    fn network(&self) -> IpNet {
        self.network
    }

    fn bytes(&self) -> usize {
        serde_json::to_vec(self).map_or(BYTES_MAX, |text| text.len() + 1)
    }
}

impl Ask for IpNet {
    fn network(&self) -> IpNet {
        *self
    }

    fn bytes(&self) -> usize {
        64
    }
}

/// The result of a part of the orders.
#[derive(Debug)]
pub struct Answer {
    done: u64,
    refused: Vec<Refused>,
    known_peers: u64,
    enforcing: bool,
    durability: Durability,
}

impl From<BannedMany> for Answer {
    fn from(many: BannedMany) -> Self {
        let BannedMany { banned: done, refused, known_peers, enforcing, durability } = many;
        Self { done, refused, known_peers, enforcing, durability }
    }
}

impl From<Lifted> for Answer {
    fn from(lifted: Lifted) -> Self {
        let Lifted { lifted: done, refused, durability, .. } = lifted;
        Self { done, refused, known_peers: 0, enforcing: true, durability }
    }
}

/// The result of all orders.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Bans that were made or lifted.
    pub done: u64,
    /// Bans that had ended before they were read.
    pub ended: u64,
    /// How many orders were refused.
    pub refused_count: u64,
    /// The first 1000 of them.
    pub refused: Vec<RefusedOrder>,
    /// Known peers that the bans cut off.
    pub known_peers: u64,
    /// Whether bans drop packets; false in a dry run.
    pub enforcing: bool,
    /// Whether it is stored.
    #[serde(flatten)]
    pub durability: Durability,
}

/// An order that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusedOrder {
    /// The number of its line; null if it was on the command line.
    pub line: Option<u64>,
    /// The address or network; null if the line has none.
    pub network: Option<String>,
    /// The reason, as text.
    pub error: String,
}

/// The order in a line; missing values are taken from `default`. `session` is the address of this
/// session, if the order must not shut it out.
pub fn order(ban: Ban, default: &Order, session: Option<IpAddr>, now: Timestamp) -> Read<Order> {
    let Ban { network, end, scope, jail, except, reason } = ban;
    let shuts_out = |from: &IpAddr| {
        network.contains(from) && !except.iter().any(|exception| exception.contains(from))
    };
    if let Some(session) = session.filter(shuts_out) {
        return Read::Refused(Some(network), shut_out(session));
    }
    let seconds = match end {
        None => default.seconds,
        Some(End::Never) => None,
        Some(End::After(time)) => Some(time.as_secs().max(1)),
        Some(End::At(until)) => match u64::try_from(until.duration_since(now).as_secs()) {
            Ok(left) if left > 0 => Some(left),
            Ok(_) | Err(_) => return Read::Ended,
        },
    };
    let scope = scope.unwrap_or_else(|| default.scope.clone());
    let reason = reason.or_else(|| default.reason.clone());
    Read::Order(Order { network, seconds, scope, except, reason, jail })
}

/// The reason for refusing a ban of this session's address.
pub fn shut_out(session: IpAddr) -> String {
    format!(
        "you are logged in from {session}, so this ban would lock you out; `--force` bans it anyway"
    )
}

/// Carries out all orders, each given with the number of its line. `ask` sends a part of them to the
/// daemon, and `report` receives refused orders as soon as they are known.
///
/// # Errors
///
/// If an order cannot be read or the daemon does not answer. The orders before it have been carried out.
pub fn carry_out<T: Ask>(
    orders: impl Iterator<Item = Result<(Option<u64>, Read<T>)>>,
    mut report: impl FnMut(&RefusedOrder),
    mut ask: impl FnMut(Vec<T>) -> Result<Answer>,
) -> Result<Outcome> {
    let mut outcome = Outcome { enforcing: true, ..Outcome::default() };
    outcome.durability.durable = true;
    let (mut part, mut lines, mut load, mut bytes) = (Vec::new(), Vec::new(), 0, 0);
    let mut refuse = |outcome: &mut Outcome, line, network: Option<String>, error| {
        let refused = RefusedOrder { line, network, error };
        report(&refused);
        outcome.refused_count += 1;
        if outcome.refused.len() < LISTED_MAX {
            outcome.refused.push(refused);
        }
    };
    for next in orders.map(Some).chain([None]) {
        let next = next.transpose()?;
        let (line, order) = match next {
            None => (None, None),
            Some((line, Read::Order(order))) => (line, Some(order)),
            Some((_, Read::Ended)) => {
                outcome.ended += 1;
                continue;
            }
            Some((line, Read::Refused(network, error))) => {
                refuse(&mut outcome, line, network.map(show), error);
                continue;
            }
        };
        let added = order.as_ref().map_or((0, 0), |order| (weight(order.network()), order.bytes()));
        let is_full = load + added.0 > ORDERS_MAX || bytes + added.1 > BYTES_MAX;
        if (is_full || order.is_none()) && !part.is_empty() {
            let first: Option<u64> = lines.first().copied().flatten();
            let answer = ask(std::mem::take(&mut part)).with_context(|| match first {
                Some(line) => format!("the lines from {line} on have not been processed"),
                None => "not all addresses have been processed".to_owned(),
            })?;
            outcome.done += answer.done;
            outcome.known_peers += answer.known_peers;
            outcome.enforcing &= answer.enforcing;
            if outcome.durability.durable {
                outcome.durability = answer.durability;
            }
            for Refused { place, network, error } in answer.refused {
                let line = usize::try_from(place).ok().and_then(|place| lines.get(place));
                refuse(&mut outcome, line.copied().flatten(), Some(network), error);
            }
            lines.clear();
            (load, bytes) = (0, 0);
        }
        if let Some(order) = order {
            (load, bytes) = (load + added.0, bytes + added.1);
            part.push(order);
            lines.push(line);
        }
    }
    Ok(outcome)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;
    use crate::ban_list;

    fn default() -> Order {
        Order {
            network: "0.0.0.0/0".parse().unwrap(),
            seconds: Some(3600),
            scope: "all".to_owned(),
            except: Vec::new(),
            reason: Some("list".to_owned()),
            jail: None,
        }
    }

    fn read(line: &str) -> Read<Order> {
        let now = "2026-11-29T00:00:00Z".parse().unwrap();
        let session = Some([198, 51, 100, 7].into());
        order(ban_list::parse(line).unwrap().unwrap(), &default(), session, now)
    }

    #[test]
    fn a_line_is_filled_up_from_the_options() {
        let Read::Order(plain) = read("192.0.2.7") else { panic!() };
        assert_eq!(plain, Order { network: plain.network, ..default() });
        let line = "192.0.2.7 until=2026-11-29T00:10:00Z scope=sip jail=sshd reason=x";
        let Read::Order(whole) = read(line) else { panic!() };
        let (scope, jail) = ("sip".to_owned(), Some("sshd".to_owned()));
        let reason = Some("x".to_owned());
        assert_eq!(
            whole,
            Order { seconds: Some(600), scope, jail, reason, network: plain.network, ..default() }
        );
        let Read::Order(forever) = read("192.0.2.7 until=never") else { panic!() };
        assert_eq!(forever.seconds, None);
        assert!(matches!(read("192.0.2.7 until=2026-11-28T00:00:00Z"), Read::Ended));
        assert!(matches!(read("198.51.100.0/24"), Read::Refused(Some(_), _)));
        assert!(matches!(read("198.51.100.0/24 except=198.51.100.7"), Read::Order(_)));
    }

    /// Orders for this many addresses, of which the daemon refuses every tenth.
    fn asked(addresses: u32, network: &str) -> (Outcome, Vec<usize>, Vec<Option<u64>>) {
        let network: IpNet = network.parse().unwrap();
        let orders = (0..addresses).map(|n| Ok((Some(u64::from(n) + 1), Read::Order(network))));
        let (mut sizes, mut reported, mut number) = (Vec::new(), Vec::new(), 0);
        let ask = |part: Vec<IpNet>| {
            sizes.push(part.len());
            let (mut done, mut refused) = (0, Vec::new());
            for place in 0..part.len() as u64 {
                number += 1;
                if number % 10 == 0 {
                    let error = "no".to_owned();
                    refused.push(Refused { place, network: String::new(), error });
                } else {
                    done += 1;
                }
            }
            let durability = Durability { durable: true, why: None };
            Ok(Answer { done, refused, known_peers: 0, enforcing: true, durability })
        };
        let outcome = carry_out(orders, |refused| reported.push(refused.line), ask).unwrap();
        (outcome, sizes, reported)
    }

    #[test]
    fn every_order_is_asked_for_once_and_every_refusal_has_its_line() {
        for addresses in [0, 1, 63, 64, 65, 128, 1000, 20_000] {
            let (outcome, sizes, reported) = asked(addresses, "192.0.2.7/32");
            assert_eq!(sizes.iter().sum::<usize>(), addresses as usize);
            assert!(sizes.iter().all(|size| (1..=ORDERS_MAX).contains(size)), "{sizes:?}");
            let tenths: Vec<_> = (1..=u64::from(addresses) / 10).map(|n| Some(n * 10)).collect();
            assert_eq!(reported, tenths);
            assert_eq!(outcome.done + outcome.refused_count, u64::from(addresses));
            assert_eq!(outcome.refused.len(), tenths.len().min(LISTED_MAX));
        }
        let (_, sizes, _) = asked(20, "192.0.2.0/24");
        assert_eq!(sizes, [8, 8, 4]);
    }

    #[test]
    fn a_daemon_that_goes_away_leaves_a_line_to_begin_again() {
        let network: IpNet = "192.0.2.7/32".parse().unwrap();
        let orders = (1..=100).map(|line| Ok((Some(line), Read::Order(network))));
        let mut parts = 0;
        let ask = |_part| {
            parts += 1;
            if parts == 2 {
                bail!("it is gone");
            }
            Ok(Lifted::into(api_lifted(64)))
        };
        let why = format!("{:#}", carry_out(orders, |_| {}, ask).unwrap_err());
        assert!(why.contains("from 65 on") && why.contains("it is gone"), "{why}");
    }

    fn api_lifted(lifted: u64) -> Lifted {
        Lifted {
            lifted,
            network: None,
            networks: Vec::new(),
            inside: Vec::new(),
            inside_banned: 0,
            refused: Vec::new(),
            durability: Durability::default(),
        }
    }
}
