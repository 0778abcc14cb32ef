//! Manual bans and unbans.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use api::{
    Banned, Durability, EXCEPT_MAX, ErrorId, Lifted, NO_REASON, Refusal, Replaced, TEXT_MAX, Unban,
};
use ipnet::IpNet;
use log::info;

use super::bans::lifting::{self, NAMED, Ticket, Which};
use super::of_source::is_address;
use super::width::{WIDEST, is_too_wide};
use super::{Controller, show};
use crate::ban::{Ban, Entry, Origin};
use crate::clock::KernelTime;
use crate::config::Scope;
use crate::datapath::Datapath;
use crate::duration;
use crate::escalation::Pardon;
use crate::log_budget::MANUAL;
use crate::report::shown_text;

/// The most bans inside a network that are counted when only the network's own ban is lifted.
const INSIDE_COUNTED: usize = 1000;

/// The administrator who sent a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asker<'a> {
    /// The name to log.
    pub name: &'a str,
    /// The source of the administrator's session, if it is an SSH session.
    pub from: Option<IpAddr>,
}

impl<'a> From<&'a str> for Asker<'a> {
    fn from(name: &'a str) -> Self {
        Self { name, from: None }
    }
}

/// A request for a manual ban.
pub(super) struct Wish {
    pub(super) network: IpNet,
    pub(super) except: Vec<IpNet>,
    pub(super) time: Option<Duration>,
    pub(super) scope: String,
    pub(super) reason: Option<String>,
    pub(super) force: bool,
    pub(super) origin: Origin,
}

impl<D: Datapath> Controller<D> {
    /// Makes a ban that an administrator asks for.
    pub(super) fn ban_manually(
        &mut self,
        wish: Wish,
        asker: Asker<'_>,
        now: KernelTime,
    ) -> Result<Banned, Refusal> {
        let who = asker.name;
        let network = wish.network.trunc();
        let scope = self.ports.scope(&wish.scope)?;
        may_be_kept("reason", wish.reason.as_deref().unwrap_or_default())?;
        let except: Vec<IpNet> = wish.except.iter().map(IpNet::trunc).collect();
        self.may_be_banned_manually(network, &except)?;
        let until = wish.time.map(|time| now.after(time));
        let ban = Ban { network, scope, origin: wish.origin, since: now.into(), until };
        let known = self.known_inside(network, &except, now);
        if known > 0 && ban.address().is_some() && !wish.force {
            let is = "a known peer, probably a registered phone";
            return Err(conflict(format!("{} is {is}; `--force` bans it anyway", show(network))));
        }
        if !wish.force {
            self.is_not_needed(network, &except, scope, asker.from)?;
        }
        let entry = Entry::new(ban, "").with_except(except);
        let replaced = self.bans.ledger().replaced_by(&entry).into_iter().next();
        // A ban that replaces another keeps a reason that was given earlier.
        let reason = wish.reason.or_else(|| replaced.as_ref().map(|old| old.reason.to_string()));
        let reason = reason.unwrap_or_else(|| NO_REASON.to_owned());
        let time = wish
            .time
            .map_or("forever".to_owned(), |time| format!("for {}", duration::format(time)));
        let except: Vec<String> = entry.except().iter().map(|part| show(*part)).collect();
        let except = match &except[..] {
            [] => String::new(),
            some => format!(" except {}", some.join(", ")),
        };
        let for_what = match &*reason {
            NO_REASON => String::new(),
            reason => format!(": {}", shown_text(reason)),
        };
        let says = format!(
            "{who} banned {}{except} {time}, scope {}{for_what}{}",
            show(network),
            self.ports.name(scope),
            self.dry()
        );
        let entry = Entry::new(ban, &*reason).with_except(entry.except().to_vec());
        self.enter(&entry, Some(says)).map_err(|why| failed(&why))?;
        self.forget_lifted(network);
        let longer =
            |old: &Entry| (old.ban.until.is_none(), old.ban.until) > (until.is_none(), until);
        let shortened = replaced.as_ref().is_some_and(longer);
        let replaced = replaced.map(|old| Replaced {
            until: old.ban.until.map(|until| self.started.show(until)),
            scope: self.ports.name(old.ban.scope).to_owned(),
            reason: old.reason.to_string(),
        });
        Ok(Banned {
            banned: show(network),
            until: until.map(|until| self.started.show(until)),
            scope: self.ports.name(scope).to_owned(),
            reason,
            enforcing: self.enforcing(),
            replaced,
            shortened,
            known_peers: known as u64,
            durability: Durability::default(),
        })
    }

    /// Fails if a manual ban of a network would block an essential address or the administrator's own session.
    fn is_not_needed(
        &self,
        network: IpNet,
        except: &[IpNet],
        scope: Scope,
        session: Option<IpAddr>,
    ) -> Result<(), Refusal> {
        let essentials = self.protected.essentials();
        if let Some(kind) = essentials.of(network, scope) {
            let is = kind.as_str();
            return Err(conflict(format!("{} is {is}; `--force` bans it anyway", show(network))));
        }
        let own = session.map(IpNet::from).filter(|own| network.contains(own));
        let own =
            own.filter(|own| !scope.is_sip() && !except.iter().any(|part| part.contains(own)));
        let own = own.map(|own| (own, "the source of your SSH session"));
        let inside = essentials.inside(network, except, scope);
        let Some((inside, is)) = own.or(inside.map(|(one, kind)| (one, kind.as_str()))) else {
            return Ok(());
        };
        Err(conflict(format!(
            "{} contains {1}, {is}: `--except {1}` spares it, and `--force` bans it too",
            show(network),
            show(inside)
        )))
    }

    fn may_be_banned_manually(&self, network: IpNet, except: &[IpNet]) -> Result<(), Refusal> {
        if let Some(who) = self.protected.reason(network) {
            return Err(conflict(format!("{} is never banned: it is {who}", show(network))));
        }
        if is_too_wide(network) {
            let why = "is too wide; the widest network that can be banned is a";
            return Err(format!("{network} {why} /{WIDEST}").into());
        }
        if let Some(outside) = except.iter().find(|e| !network.contains(*e) || **e == network) {
            let why = format!(
                "{} is not inside {}; `--except` takes addresses and networks inside it",
                show(*outside),
                show(network)
            );
            return Err(why.into());
        }
        if except.len() > EXCEPT_MAX {
            let why = format!("{} exceptions; at most {EXCEPT_MAX} are possible", except.len());
            return Err(why.into());
        }
        Ok(())
    }

    /// Lifts the bans of exactly this network, all or those of one origin. Returns how many it lifted.
    pub(super) fn lift(
        &mut self,
        network: IpNet,
        origin: Option<Origin>,
        now: KernelTime,
    ) -> Result<usize, Refusal> {
        self.forget(network, now);
        let wanted = |entry: &&Entry| origin.is_none_or(|origin| entry.ban.origin == origin);
        let bans: Vec<Entry> =
            self.bans.ledger().of_network(network).filter(wanted).cloned().collect();
        for ban in &bans {
            self.bans.strike(&mut self.datapath, ban).map_err(|why| failed(&why))?;
            self.note_end(ban, true, now);
        }
        if bans.is_empty() && network.prefix_len() == network.max_prefix_len() {
            // The kernel may have banned it for a flood without an event.
            self.datapath.unban(network.addr()).map_err(|why| failed(&why))?;
        }
        Ok(bans.len())
    }

    /// Begins to lift bans of which there may be many.
    pub(super) fn unban_many(
        &mut self,
        which: Unban,
        who: &str,
        now: KernelTime,
    ) -> Result<Ticket, Refusal> {
        let (which, pardon) = match which {
            Unban::All => {
                self.pause_feeds(None);
                self.cut_fleet(who);
                (Which::All, Some(Pardon { network: None, jail: None }))
            }
            Unban::Jail { jail } => {
                let origin = self.origin(&jail)?;
                let pardon = match origin {
                    Origin::Jail(number) => Some(Pardon { network: None, jail: Some(number) }),
                    Origin::Manual
                    | Origin::Escalation
                    | Origin::Flood
                    | Origin::Feed(_)
                    | Origin::Fleet => None,
                };
                if let Origin::Feed(place) = origin {
                    self.pause_feeds(Some(place));
                }
                if origin == Origin::Fleet {
                    self.cut_jail(&jail, who);
                }
                (Which::Of(origin, jail), pardon)
            }
            Unban::Networks { .. } | Unban::Manual { .. } => {
                return Err("they are not that many".into());
            }
            Unban::Network { network, .. } => {
                let pardon = Pardon { network: Some(self.pardoned(network, now)), jail: None };
                self.forget(network, now);
                self.keep_lifted(network, true);
                (Which::Inside(network.trunc()), Some(pardon))
            }
        };
        let ticket = self.begin_to_lift(which, who, now)?;
        if let Some(pardon) = pardon {
            self.pardon(pardon);
        }
        Ok(ticket)
    }

    /// The network whose failures an `unban` forgets: for an address, its source.
    fn pardoned(&self, network: IpNet, now: KernelTime) -> IpNet {
        let network = network.trunc();
        if is_address(network) { self.source_of(network.addr(), now) } else { network }
    }

    fn pardon(&mut self, pardon: Pardon) {
        self.escalation.pardon(pardon);
        self.bans.store().pardon(pardon);
    }

    /// Lifts the bans of exactly this network, and for an address also those by jails of its source.
    pub(super) fn unban(
        &mut self,
        network: IpNet,
        who: &str,
        now: KernelTime,
    ) -> Result<Lifted, Refusal> {
        let around = if is_address(network) {
            self.by_jails_around(network.addr(), now)
        } else {
            Vec::new()
        };
        self.pardon(Pardon { network: Some(self.pardoned(network, now)), jail: None });
        self.keep_lifted(network, false);
        let mut lifted = 0;
        let mut names: Vec<String> = Vec::new();
        let around_it = around.iter().map(|entry| (entry.ban.network, Some(entry.ban.origin)));
        for (network, origin) in std::iter::once((network.trunc(), None)).chain(around_it) {
            let bans = self.lift(network, origin, now)?;
            lifted += bans;
            if bans > 0 && names.len() < NAMED {
                names.push(show(network));
            }
        }
        if lifted > 0 {
            info!(target: MANUAL, "{}", lifting::line(who, lifted, "", &names));
        }
        let inside = self.bans.ledger().inside(network).take(INSIDE_COUNTED);
        let inside: BTreeSet<IpNet> = inside.map(|entry| entry.ban.network).collect();
        let inside_banned = inside.len();
        let inside: Vec<String> = inside.into_iter().take(NAMED).map(show).collect();
        if lifted == 0 {
            return Err(self.not_banned(network, inside_banned, &inside));
        }
        Ok(Lifted {
            network: around.first().map(|entry| show(entry.ban.network)),
            inside,
            inside_banned: inside_banned as u64,
            ..lifting::answer(lifted, names)
        })
    }

    /// Lifts the manual ban of exactly this network that was made for this reason, if there is one. Other bans, and the
    /// failures behind them, stay.
    pub(super) fn unban_manual(
        &mut self,
        network: IpNet,
        reason: &str,
        who: &str,
        now: KernelTime,
    ) -> Result<Lifted, Refusal> {
        let network = network.trunc();
        let is_it = |entry: &&Entry| entry.ban.origin == Origin::Manual && &*entry.reason == reason;
        let bans: Vec<Entry> =
            self.bans.ledger().of_network(network).filter(is_it).cloned().collect();
        for ban in &bans {
            self.bans.strike(&mut self.datapath, ban).map_err(|why| failed(&why))?;
            self.note_end(ban, true, now);
        }
        let names = if bans.is_empty() { Vec::new() } else { vec![show(network)] };
        if !bans.is_empty() {
            info!(target: MANUAL, "{}", lifting::line(who, bans.len(), "", &names));
        }
        Ok(lifting::answer(bans.len(), names))
    }

    /// The explanation if nothing was lifted.
    pub(super) fn not_banned(&self, network: IpNet, bans: usize, inside: &[String]) -> Refusal {
        Refusal::new(ErrorId::NotFound, self.why_not_banned(network, bans, inside))
    }

    fn why_not_banned(&self, network: IpNet, bans: usize, inside: &[String]) -> String {
        let name = show(network);
        let around = self.bans.ledger().of(network.addr());
        let around =
            around.iter().map(|entry| entry.ban.network).find(|net| net.contains(&network));
        if let Some(around) = around {
            return format!("{name} is banned as part of {0}; unban {0}", show(around));
        }
        if bans > 0 {
            let more = if bans > inside.len() { " and others" } else { "" };
            return format!(
                "{name} is not banned as a whole, and these bans inside it remain: {}{more}; \
                 `--inside` lifts them too",
                inside.join(", ")
            );
        }
        format!("{name} is not banned; its failures are forgotten")
    }
}

/// A refusal because of what an address is.
fn conflict(why: String) -> Refusal {
    Refusal::new(ErrorId::Conflict, why)
}

/// The kernel has refused.
fn failed(why: &anyhow::Error) -> Refusal {
    Refusal::new(ErrorId::Failed, format!("{why:#}"))
}

/// Whether a reason or a comment may be kept.
pub(super) fn may_be_kept(what: &str, text: &str) -> Result<(), String> {
    if text.len() > TEXT_MAX {
        return Err(format!(
            "the {what} has {} bytes; at most {TEXT_MAX} are possible",
            text.len()
        ));
    }
    Ok(())
}
