//! Follows one name over time: from the answers it computes the addresses and the time of the next
//! lookup. It uses neither a socket nor a clock.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

/// The shortest time for which an answer is used, whatever its TTL, because lookups are not free.
pub const TTL_MIN: Duration = Duration::from_secs(10);

/// The longest time for which an answer is used, so that a host with a new address soon gets in.
pub const TTL_MAX: Duration = Duration::from_mins(10);

/// The pause after the first failure. Each later pause is twice as long, up to [`TTL_MAX`].
pub const RETRY: Duration = Duration::from_secs(5);

/// The most addresses of one name, of each family.
pub const ADDRESSES_MAX: usize = 64;

/// The answer of the DNS for one address family of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) addresses: Vec<IpAddr>,
    /// How long it is valid.
    pub(super) ttl: Duration,
    /// Why some of it is missing, if any is.
    pub(super) missing: Option<String>,
}

impl Answer {
    /// Adds the result for one of several hosts.
    pub(super) fn add(&mut self, host: &str, found: Result<Self, String>) {
        match found {
            Ok(found) => {
                self.addresses.extend(found.addresses);
                self.ttl = self.ttl.min(found.ttl);
            }
            Err(why) => {
                self.missing.get_or_insert(format!("{host} {why}"));
            }
        }
    }
}

/// A name's addresses and the success of its lookups.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The addresses of the last good answers.
    pub all: BTreeSet<IpAddr>,
    /// How many further addresses are not used.
    pub left_out: usize,
    /// Why the last lookup failed, if it did.
    pub failed: Option<String>,
}

/// A name that is followed.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// The last good answers for IPv4 and IPv6.
    good: [Usable; 2],
    backoff: Option<Duration>,
}

impl Followed {
    /// Takes the answers for IPv4 and IPv6. After a failure the last good answer stays in use. Also returns
    /// how long to wait before the next lookup.
    pub(super) fn take(&mut self, answers: [Result<Answer, String>; 2]) -> (Addresses, Duration) {
        let mut wait = TTL_MAX;
        let mut failed = None;
        for (good, answer) in self.good.iter_mut().zip(answers) {
            let answer = answer.and_then(|answer| Ok((usable(&answer.addresses)?, answer)));
            match answer {
                Ok((addresses, Answer { ttl, missing: None, .. })) => {
                    wait = wait.min(ttl);
                    *good = addresses;
                }
                // The missing part may have been in the last good answer.
                Ok((mut addresses, Answer { missing: Some(why), .. })) => {
                    addresses.taken.extend(&good.taken);
                    while addresses.taken.len() > ADDRESSES_MAX {
                        addresses.taken.pop_last();
                    }
                    *good = addresses;
                    failed = failed.or(Some(why));
                }
                Err(why) => failed = failed.or(Some(why)),
            }
        }
        let all: BTreeSet<IpAddr> =
            self.good.iter().flat_map(|good| &good.taken).copied().collect();
        let left_out = self.good.iter().map(|good| good.left_out).sum();
        if failed.is_some() {
            wait = self.backoff.map_or(RETRY, |last| (last * 2).min(TTL_MAX));
            self.backoff = Some(wait);
        } else {
            self.backoff = None;
            wait = wait.clamp(TTL_MIN, TTL_MAX);
            if all.is_empty() {
                failed = Some("it has neither an address nor an SRV record for SIP".to_owned());
            }
        }
        (Addresses { all, left_out, failed }, wait)
    }
}

/// The part of an answer that is used.
#[derive(Clone, Debug, Default)]
struct Usable {
    taken: BTreeSet<IpAddr>,
    left_out: usize,
}

/// The addresses in an answer that can belong to another host. A DNS filter answers with `0.0.0.0` or
/// loopback instead.
fn usable(answer: &[IpAddr]) -> Result<Usable, String> {
    let canonical = answer.iter().map(IpAddr::to_canonical);
    let addresses: BTreeSet<IpAddr> = canonical.filter(|address| is_elsewhere(*address)).collect();
    match answer.first() {
        Some(first) if addresses.is_empty() => {
            Err(format!("the answer {first} is not the address of a host"))
        }
        Some(_) | None => Ok(Usable {
            left_out: addresses.len().saturating_sub(ADDRESSES_MAX),
            taken: addresses.into_iter().take(ADDRESSES_MAX).collect(),
        }),
    }
}

fn is_elsewhere(address: IpAddr) -> bool {
    let is_broadcast = |address| matches!(address, IpAddr::V4(v4) if v4.is_broadcast());
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || is_broadcast(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::unnecessary_wraps, reason = "what the DNS says may be an error too")]
    fn answer(addresses: &[&str], ttl: u64) -> Result<Answer, String> {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Ok(Answer { addresses, ttl: Duration::from_secs(ttl), missing: None })
    }

    fn failure() -> Result<Answer, String> {
        Err("no server answers".to_owned())
    }

    fn texts(addresses: &Addresses) -> Vec<String> {
        addresses.all.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_shorter_ttl_holds_within_bounds() {
        let mut name = Followed::default();
        let (addresses, wait) =
            name.take([answer(&["192.0.2.7"], 60), answer(&["2001:db8::7"], 30)]);
        assert_eq!(texts(&addresses), ["192.0.2.7", "2001:db8::7"]);
        assert_eq!((addresses.failed, wait), (None, Duration::from_secs(30)));
        let (addresses, wait) = name.take([answer(&["192.0.2.8"], 0), answer(&[], 900)]);
        assert_eq!((texts(&addresses), wait), (vec!["192.0.2.8".to_owned()], TTL_MIN));
        let (_, wait) = name.take([answer(&["192.0.2.8"], 86_400), answer(&[], 86_400)]);
        assert_eq!(wait, TTL_MAX);
    }

    #[test]
    fn the_last_good_answer_stays() {
        let mut name = Followed::default();
        name.take([answer(&["192.0.2.7"], 60), answer(&["2001:db8::7"], 60)]);
        let waits: Vec<Duration> = (0..9)
            .map(|_| {
                let (addresses, wait) = name.take([failure(), failure()]);
                assert_eq!(texts(&addresses), ["192.0.2.7", "2001:db8::7"]);
                assert_eq!(addresses.failed.as_deref(), Some("no server answers"));
                wait
            })
            .collect();
        assert_eq!(waits[..3], [RETRY, RETRY * 2, RETRY * 4]);
        assert_eq!(waits[8], TTL_MAX);
        // One family answers, the other does not.
        let (addresses, _) = name.take([answer(&["192.0.2.8"], 60), failure()]);
        assert_eq!(texts(&addresses), ["192.0.2.8", "2001:db8::7"]);
        let (addresses, _) = name.take([answer(&["192.0.2.8"], 60), answer(&[], 60)]);
        assert_eq!((texts(&addresses), addresses.failed), (vec!["192.0.2.8".to_owned()], None));
        assert_eq!(name.take([failure(), failure()]).1, RETRY);
    }

    #[test]
    fn a_name_without_an_address_has_lost_it() {
        let mut name = Followed::default();
        name.take([answer(&["192.0.2.7"], 60), answer(&[], 60)]);
        let (addresses, wait) = name.take([answer(&[], 60), answer(&[], 60)]);
        assert_eq!((addresses.all.len(), wait), (0, Duration::from_mins(1)));
        assert!(addresses.failed.unwrap().starts_with("it has neither an address"));
    }

    #[test]
    fn answers_that_are_no_host_are_refused() {
        let mut name = Followed::default();
        name.take([answer(&["192.0.2.7"], 60), answer(&[], 60)]);
        for wrong in [
            "0.0.0.0",
            "127.0.0.1",
            "255.255.255.255",
            "224.0.0.1",
            "::",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            let (addresses, _) = name.take([answer(&[wrong], 60), answer(&[], 60)]);
            assert_eq!(texts(&addresses), ["192.0.2.7"], "{wrong}");
            assert!(addresses.failed.unwrap().contains(wrong), "{wrong}");
        }
        let (addresses, _) = name.take([answer(&["0.0.0.0", "192.0.2.8"], 60), answer(&[], 60)]);
        assert_eq!((texts(&addresses), addresses.failed), (vec!["192.0.2.8".to_owned()], None));
        let (addresses, _) = name.take([answer(&[], 60), answer(&["::ffff:192.0.2.9"], 60)]);
        assert_eq!(texts(&addresses), ["192.0.2.9"]);
    }

    #[test]
    fn addresses_are_bounded() {
        let many: Vec<String> = (0..100).map(|n| format!("192.0.2.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let (addresses, _) = Followed::default().take([answer(&many, 60), answer(&[], 60)]);
        assert_eq!((addresses.all.len(), addresses.left_out), (ADDRESSES_MAX, 100 - ADDRESSES_MAX));
    }

    #[test]
    fn what_is_missing_of_an_answer_stays_as_it_was() {
        let mut name = Followed::default();
        name.take([answer(&["192.0.2.7", "192.0.2.8"], 60), answer(&[], 60)]);
        let mut partly = answer(&["192.0.2.7"], 60).unwrap();
        partly.add("b.example.", failure());
        let (addresses, wait) = name.take([Ok(partly), answer(&[], 60)]);
        assert_eq!(texts(&addresses), ["192.0.2.7", "192.0.2.8"]);
        assert_eq!(addresses.failed.as_deref(), Some("b.example. no server answers"));
        assert_eq!(wait, RETRY);
        let (addresses, _) = name.take([answer(&["192.0.2.7"], 60), answer(&[], 60)]);
        assert_eq!((texts(&addresses), addresses.failed), (vec!["192.0.2.7".to_owned()], None));
    }
}
