//! `unban` of a jail's bans, of all bans, or of those inside a network, a few at a time: a million must
//! delay nothing.

use std::collections::VecDeque;

use api::{Answer, Durability, ErrorId, Lifted, Refusal, Reply};
use ipnet::IpNet;
use log::{info, warn};

use super::super::Controller;
use super::super::of_host::is_of;
use super::show;
use crate::ban::{Entry, Key, Origin};
use crate::clock::{KernelTime, Moment};
use crate::datapath::Datapath;
use crate::log_budget::MANUAL;
use crate::report::count;

/// The most bans that are examined in one turn, whether or not they are lifted.
const AT_ONCE: usize = 64;

/// The most requests that wait for earlier ones.
const WAITING_MAX: usize = 16;

/// The most bans lifted together that are named.
pub(in crate::controller) const NAMED: usize = 10;

/// Stands for an answer that comes later.
pub type Ticket = u64;

/// The requests in progress, oldest first.
#[derive(Debug, Default)]
pub(in crate::controller) struct Lifting {
    waiting: VecDeque<Wanted>,
    next: Ticket,
}

/// Which bans to lift.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::controller) enum Which {
    All,
    /// Those of one origin, which has this name.
    Of(Origin, String),
    /// Those of a network, and of the addresses and networks inside it.
    Inside(IpNet),
}

#[derive(Debug)]
struct Wanted {
    ticket: Ticket,
    which: Which,
    who: String,
    /// Bans that began later are not lifted.
    asked: Moment,
    behind: Option<Key>,
    lifted: usize,
    named: Vec<String>,
    failed: Option<String>,
}

impl Lifting {
    pub(in crate::controller) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl<D: Datapath> Controller<D> {
    /// Begins to lift bans.
    pub(in crate::controller) fn begin_to_lift(
        &mut self,
        which: Which,
        who: &str,
        now: KernelTime,
    ) -> Result<Ticket, String> {
        if self.bans.lifting.waiting.len() >= WAITING_MAX {
            return Err(
                "too many requests to lift bans are in progress; try again later".to_owned()
            );
        }
        let ticket = self.bans.lifting.next;
        self.bans.lifting.next += 1;
        self.bans.lifting.waiting.push_back(Wanted {
            ticket,
            which,
            who: who.to_owned(),
            asked: now.into(),
            behind: None,
            lifted: 0,
            named: Vec::new(),
            failed: None,
        });
        Ok(ticket)
    }

    /// Whether [`lift_more`](Self::lift_more) has something to do.
    pub fn is_lifting(&self) -> bool {
        !self.bans.lifting.is_empty()
    }

    /// Lifts a few more bans if the store keeps up. Returns the answer to a request that is done.
    pub fn lift_more(&mut self, now: KernelTime) -> Option<(Ticket, Reply)> {
        if !self.bans.store.keeps_up() {
            return None;
        }
        let mut wanted = self.bans.lifting.waiting.pop_front()?;
        let _together = self.bans.store.hold();
        let behind = wanted.behind;
        let entries: Vec<Entry> = match wanted.which {
            Which::All | Which::Of(..) => {
                self.bans.ledger.after(behind, AT_ONCE).cloned().collect()
            }
            Which::Inside(network) => {
                self.bans.ledger.within(network, behind, AT_ONCE).cloned().collect()
            }
        };
        let is_last = entries.len() < AT_ONCE;
        for entry in entries {
            wanted.behind = Some(entry.key());
            let is_other = match &wanted.which {
                Which::Of(origin, jail) => entry.ban.origin != *origin || !is_of(&entry, jail),
                Which::All | Which::Inside(_) => false,
            };
            if is_other || entry.ban.since > wanted.asked {
                continue;
            }
            self.forget(entry.ban.network, now);
            match self.bans.strike(&mut self.datapath, &entry) {
                Ok(()) => {
                    self.note_end(&entry, true, now);
                    wanted.lifted += 1;
                    if wanted.named.len() < NAMED {
                        wanted.named.push(show(entry.ban.network));
                    }
                }
                Err(why) => drop(wanted.failed.get_or_insert(format!("{why:#}"))),
            }
        }
        if !is_last {
            self.bans.lifting.waiting.push_front(wanted);
            return None;
        }
        let (ticket, lifted) = (wanted.ticket, wanted.lifted);
        let reply = match wanted.which {
            Which::Inside(network) if lifted == 0 && wanted.failed.is_none() => {
                Reply::Error(self.not_banned(network, 0, &[]))
            }
            Which::All | Which::Of(..) | Which::Inside(_) => wanted.done(),
        };
        Some((ticket, reply))
    }

    /// Logs how far the unfinished requests have got, because the daemon stops.
    pub fn stop_lifting(&mut self) {
        for Wanted { who, lifted, .. } in self.bans.lifting.waiting.drain(..) {
            let bans = count(lifted, "ban");
            warn!(
                target: MANUAL,
                "{who} asked to lift more bans, but the daemon stops: {bans} lifted, the others remain"
            );
        }
    }
}

impl Wanted {
    /// The log's line, and the answer.
    fn done(self) -> Reply {
        let Self { which, lifted, named, who, failed, .. } = self;
        let of_which = match which {
            Which::All => String::new(),
            Which::Of(_, jail) => format!(" by {jail}"),
            Which::Inside(network) => format!(" in {}", show(network)),
        };
        if lifted > 0 {
            info!(target: MANUAL, "{}", line(&who, lifted, &of_which, &named));
        }
        match failed {
            None => Reply::Ok(Answer::Lifted(answer(lifted, named))),
            Some(why) => {
                let why = format!("{} lifted, but not all: {why}", count(lifted, "ban"));
                Reply::Error(Refusal::new(ErrorId::Failed, why))
            }
        }
    }
}

/// The log line for bans that were lifted.
pub(in crate::controller) fn line(
    who: &str,
    lifted: usize,
    of_which: &str,
    named: &[String],
) -> String {
    let more = if lifted > named.len() { " and others" } else { "" };
    format!("{who} lifted {}{of_which}: {}{more}", count(lifted, "ban"), named.join(", "))
}

/// The answer to an `unban` that leaves nothing inside and lifts nothing around.
pub(in crate::controller) fn answer(lifted: usize, named: Vec<String>) -> Lifted {
    Lifted {
        lifted: lifted as u64,
        network: None,
        networks: named,
        inside: Vec::new(),
        inside_banned: 0,
        refused: Vec::new(),
        durability: Durability::default(),
    }
}
