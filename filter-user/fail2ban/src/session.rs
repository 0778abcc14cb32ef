//! Lines of one connection: values of earlier lines are added to a later one with the same `<F-MLFID>`,
//! such as the address to a refusal without one.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use super::pattern::Groups;

/// How many connections are remembered; the least recently used is evicted first.
const SESSIONS_MAX: usize = 256;

/// How long one is remembered after its last line.
const REMEMBERED: Duration = Duration::from_mins(5);

/// How many users of one connection are distinguished.
const USERS_MAX: usize = 16;

/// The connections of recent lines.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    /// The most recently used is the last.
    sessions: VecDeque<Session>,
}

#[derive(Debug)]
struct Session {
    name: String,
    heard: Instant,
    groups: Groups,
    users: BTreeSet<String>,
    pending: bool,
}

/// A line combined with what is known about its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Merged {
    /// The groups of this line and of earlier lines.
    pub(super) groups: Groups,
    /// Whether it is not a failure: because of `<F-NOFAIL>`, or because its address is not known yet.
    pub(super) no_failure: bool,
}

impl Sessions {
    /// Adds a line of the connection `name`, read at `now`.
    pub(super) fn merge(
        &mut self,
        name: &str,
        mut line: Groups,
        has_address: fn(&Groups) -> bool,
        now: Instant,
    ) -> Merged {
        self.sessions.retain(|session| now.duration_since(session.heard) < REMEMBERED);
        let gained = line.remove("mlfgained").is_some_and(|text| !text.is_empty());
        let mut no_failure = line.remove("nofail").is_some_and(|text| !text.is_empty()) || gained;
        let forget = line.remove("mlfforget").is_some_and(|text| !text.is_empty());

        let at = self.sessions.iter().position(|session| session.name == name);
        let known = at.and_then(|at| self.sessions.remove(at));
        let mut session = known.unwrap_or_else(|| Session {
            name: name.to_owned(),
            heard: now,
            groups: Groups::new(),
            users: BTreeSet::new(),
            pending: false,
        });
        session.heard = now;
        if gained {
            session.pending = false;
        }
        if let Some(user) = line.get("user").filter(|user| !user.is_empty())
            && session.users.len() < USERS_MAX
        {
            session.users.insert(user.clone());
        }
        session.groups.extend(line);
        // A client that tried several names, or failed before its address was known, has failed, whatever
        // this line says.
        if std::mem::take(&mut session.pending) || session.users.len() > 1 {
            no_failure = false;
        }
        if !no_failure && !has_address(&session.groups) {
            session.pending = true;
            no_failure = true;
        }
        let merged = Merged { groups: session.groups.clone(), no_failure };
        if !forget {
            if self.sessions.len() >= SESSIONS_MAX {
                self.sessions.pop_front();
            }
            self.sessions.push_back(session);
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups(text: &str) -> Groups {
        let words = text.split_whitespace().filter_map(|word| word.split_once('='));
        words.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// For each line, its address if it is a failure.
    fn said(lines: &[(&str, &str)]) -> Vec<Option<String>> {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        let has_address: fn(&Groups) -> bool = |groups| groups.contains_key("ip4");
        let merged = lines.iter().map(|(name, line)| {
            let merged = sessions.merge(name, groups(line), has_address, now);
            (!merged.no_failure).then(|| merged.groups["ip4"].clone())
        });
        merged.collect()
    }

    #[test]
    fn an_address_is_taken_from_an_earlier_line_of_the_same_connection() {
        let lines =
            [("a", "nofail=x ip4=1"), ("b", "nofail=x ip4=2"), ("a", "user=u"), ("c", "user=u")];
        assert_eq!(said(&lines), [None, None, Some("1".to_owned()), None]);
    }

    #[test]
    fn a_failure_without_an_address_counts_when_one_is_known() {
        let lines = [("a", "user=u"), ("a", "nofail=x ip4=1 mlfforget=x"), ("a", "user=u")];
        assert_eq!(said(&lines), [None, Some("1".to_owned()), None]);
    }

    #[test]
    fn who_gets_in_at_last_has_not_failed_unless_with_several_names() {
        let lines = [("a", "user=u"), ("a", "mlfgained=x user=u ip4=1")];
        assert_eq!(said(&lines), [None, None]);
        let lines = [("a", "user=u ip4=1"), ("a", "mlfgained=x user=w ip4=1")];
        assert_eq!(said(&lines), [Some("1".to_owned()), Some("1".to_owned())]);
    }

    #[test]
    fn memory_and_time_are_bounded() {
        let mut sessions = Sessions::default();
        let (start, has_address): (_, fn(&Groups) -> bool) = (Instant::now(), |_| true);
        for n in 0..SESSIONS_MAX * 2 {
            sessions.merge(&n.to_string(), groups("ip4=1"), has_address, start);
            for user in 0..USERS_MAX * 2 {
                sessions.merge("x", groups(&format!("user={user}")), has_address, start);
            }
        }
        assert_eq!(sessions.sessions.len(), SESSIONS_MAX);
        assert!(sessions.sessions.iter().all(|session| session.users.len() <= USERS_MAX));
        sessions.merge("y", groups("ip4=1"), has_address, start + REMEMBERED);
        assert_eq!(sessions.sessions.len(), 1);
    }
}
