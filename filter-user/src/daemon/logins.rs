//! Logins to the page: links that root makes, each valid once, and what a browser gets for one.
//!
//! Must never outlive the daemon, or be stored: a file with them would be worth stealing.

use std::collections::VecDeque;
use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use api::PageLink;

use crate::config::Loopback;

/// How long a link is valid.
const LINK: Duration = Duration::from_mins(5);

/// How long a login is valid.
pub(super) const LOGIN: Duration = Duration::from_hours(12);

/// The most links and logins at a time. The oldest goes first.
const KEYS_MAX: usize = 16;

/// The length of a key in random bytes.
const KEY: usize = 32;

/// A secret that nobody can guess, in hexadecimal.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key(String);

impl Key {
    fn random() -> Result<Self, getrandom::Error> {
        let mut bytes = [0; KEY];
        getrandom::fill(&mut bytes)?;
        let mut text = String::with_capacity(2 * KEY);
        for byte in bytes {
            let _infallible = write!(text, "{byte:02x}");
        }
        Ok(Self(text))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Without the key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }
}

/// Keys that end, the oldest first.
#[derive(Default)]
struct Keys(VecDeque<(Key, Instant)>);

impl Keys {
    fn add(&mut self, key: Key, until: Instant) {
        if self.0.len() >= KEYS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((key, until));
    }

    fn place(&self, key: &str, now: Instant) -> Option<usize> {
        self.0.iter().position(|(known, until)| known.0 == key && now < *until)
    }
}

#[derive(Default)]
struct State {
    links: Keys,
    logins: Keys,
}

/// The logins to the page.
pub(super) struct Logins {
    at: Loopback,
    state: Mutex<State>,
}

impl Logins {
    /// For the page at this address.
    pub(super) fn new(at: Loopback) -> Self {
        Self { at, state: Mutex::default() }
    }

    fn with<T>(&self, then: impl FnOnce(&mut State) -> T) -> T {
        then(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a link.
    pub(super) fn link(&self, now: Instant) -> Result<PageLink, getrandom::Error> {
        let key = Key::random()?;
        let url = format!("http://{}/login?key={}", self.at, key.as_str());
        self.with(|state| state.links.add(key, now + LINK));
        Ok(PageLink { url, valid_seconds: LINK.as_secs() })
    }

    /// Makes a login of the key in a link, which ends the link. `None` if there is no such link.
    pub(super) fn log_in(&self, key: &str, now: Instant) -> Option<Key> {
        let login = Key::random().ok()?;
        self.with(|state| {
            let place = state.links.place(key, now)?;
            state.links.0.remove(place);
            state.logins.add(login.clone(), now + LOGIN);
            Some(login)
        })
    }

    /// Whether this is the key of a login.
    pub(super) fn is_login(&self, key: &str, now: Instant) -> bool {
        self.with(|state| state.logins.place(key, now).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logins() -> Logins {
        Logins::new("127.0.0.1:9510".parse().unwrap())
    }

    fn key(link: &PageLink) -> &str {
        link.url.split_once("/login?key=").unwrap().1
    }

    #[test]
    fn a_link_is_valid_once_and_for_a_while() {
        let (logins, now) = (logins(), Instant::now());
        let link = logins.link(now).unwrap();
        assert!(link.url.starts_with("http://127.0.0.1:9510/login?key="), "{}", link.url);
        assert_eq!(key(&link).len(), 64);
        assert!(!logins.is_login(key(&link), now));
        let login = logins.log_in(key(&link), now).unwrap();
        assert_eq!(logins.log_in(key(&link), now), None);
        assert!(
            logins.is_login(login.as_str(), now + LOGIN.saturating_sub(Duration::from_secs(1)))
        );
        assert!(!logins.is_login(login.as_str(), now + LOGIN));
        assert!(!logins.is_login("", now));
        let link = logins.link(now).unwrap();
        assert_eq!(logins.log_in(key(&link), now + LINK), None);
    }

    #[test]
    fn there_is_a_bound_and_the_oldest_goes_first() {
        let (logins, now) = (logins(), Instant::now());
        let links: Vec<_> = (0..=KEYS_MAX).map(|_| logins.link(now).unwrap()).collect();
        assert_eq!(logins.log_in(key(&links[0]), now), None);
        let made: Vec<_> = links[1..].iter().map(|link| logins.log_in(key(link), now)).collect();
        assert!(made.iter().all(Option::is_some));
        let last = logins.log_in(key(&logins.link(now).unwrap()), now).unwrap();
        assert!(logins.is_login(last.as_str(), now));
        assert!(!logins.is_login(made[0].as_ref().unwrap().as_str(), now));
    }
}
