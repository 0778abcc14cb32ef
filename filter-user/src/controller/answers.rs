//! Requests: each is answered now, or begun.

use std::collections::BTreeSet;
use std::time::Duration;

use api::{
    Answer, Attacked, Guessing, HistoryPage, JailReport, Jails, Lifted, Reply, Request, Unban,
};
use ipnet::IpNet;
use log::info;

use super::bans::lifting::{self, NAMED, Ticket, Which};
use super::{Controller, Wish, is_address, past, show};
use crate::ban::{Origin, RESERVED};
use crate::clock::KernelTime;
use crate::config::Weights;
use crate::datapath::Datapath;
use crate::duration;
use crate::escalation::Pardon;
use crate::jail::Jail;
use crate::log_budget::MANUAL;

/// Bans inside a network that are counted when it is lifted and they are not.
const INSIDE_COUNTED: usize = 1000;

/// How a request is answered.
#[derive(Debug)]
pub enum Answered {
    /// With this.
    Now(Reply),
    /// With what [`lift_more`](Controller::lift_more) returns with this ticket.
    Later(Ticket),
}

impl<D: Datapath> Controller<D> {
    /// Answers a request of root's, whatever that takes.
    pub fn answer(&mut self, request: Request, now: KernelTime) -> Reply {
        let ticket = match self.answer_to(request, "root", now) {
            Answered::Now(reply) => return reply,
            Answered::Later(ticket) => ticket,
        };
        loop {
            match self.lift_more(now) {
                Some((done, reply)) if done == ticket => return reply,
                Some(_) | None => {}
            }
        }
    }

    /// Answers a request, or begins to. The log says `who` had it change anything.
    pub fn answer_to(&mut self, request: Request, who: &str, now: KernelTime) -> Answered {
        let actions = past::actions(&request);
        let answer = match request {
            Request::Status => self.status(now).map(|status| Answer::Status(Box::new(status))),
            Request::Bans(query) => self.bans_page(&query, now).map(Answer::Bans),
            Request::Jails => Ok(Answer::Jails(self.jails_report())),
            Request::Why { address } => Ok(Answer::Why(Box::new(self.why(address, now)))),
            Request::Ban { network, seconds, scope, except, reason, force } => {
                let time = seconds.map(Duration::from_secs);
                let origin = Origin::Manual;
                let wish = Wish { network, except, time, scope, reason, force, origin };
                self.ban_manually(wish, who, now).map(|banned| Answer::Banned(Box::new(banned)))
            }
            Request::BanMany { bans, force } => {
                self.ban_many(bans, force, who, now).map(Answer::BannedMany)
            }
            Request::Allow { network, seconds, comment } => {
                self.allow(network, (seconds, comment), who, now).map(Answer::AllowChanged)
            }
            Request::Disallow { network } => self.disallow(network, who).map(Answer::AllowChanged),
            Request::Allows => Ok(Answer::Allows(self.allows())),
            Request::Set { jail, setting, value } => {
                self.tune((jail, setting, value), who, now).map(Answer::TuneChanged)
            }
            Request::Peers { inside, after } => {
                Ok(Answer::Peers(self.peers_page(inside, after, now)))
            }
            // The store has it.
            Request::History(_) => Ok(Answer::History(HistoryPage::default())),
            Request::TakeOver { bans, from, last } => {
                self.take_over_bans(&bans, &from, last, who, now).map(Answer::TakenOver)
            }
            Request::Maintenance(what) => self.maintain(what, who, now).map(Answer::Maintenance),
            // It takes the files, which the loop around this reads.
            Request::Reload { .. } => Err("there is no configuration to reload here".to_owned()),
            // The loop around this confirms it.
            Request::Confirm => Err("there is nothing to confirm here".to_owned()),
            // Nothing is inside an address.
            Request::Unban(Unban::Network { network, inside })
                if !inside || is_address(network) =>
            {
                self.unban(network, who, now).map(Answer::Lifted)
            }
            Request::Unban(Unban::Networks { networks }) => {
                self.unban_several(&networks, who, now).map(Answer::Lifted)
            }
            Request::Unban(which) => match self.unban_many(which, who, now) {
                Ok(ticket) => {
                    for (network, action) in actions {
                        self.note_change(network, who, action, now);
                    }
                    return Answered::Later(ticket);
                }
                Err(why) => Err(why),
            },
        };
        let reply = match answer {
            Ok(answer) => Reply::Ok(answer),
            Err(why) => Reply::Error(why),
        };
        self.note_changes(actions, &reply, who, now);
        Answered::Now(reply)
    }

    pub(super) fn banned_by(&self, origin: Origin) -> u64 {
        self.bans.ledger().count(origin) as u64
    }

    /// Who is behind the bans of a jail, or of `manual`, as `bans` names it.
    pub(super) fn origin(&self, name: &str) -> Result<Origin, String> {
        self.roster.origin(name).ok_or_else(|| {
            let names = self.roster.names().join(", ");
            format!("there is no jail `{name}`; there are {names}, {}", RESERVED.join(", "))
        })
    }

    /// Who is behind the bans of a jail.
    pub(super) fn origin_of(&self, jail: &str) -> Origin {
        self.roster.origin(jail).unwrap_or(Origin::UNKNOWN)
    }

    pub(super) fn jail_name(&self, origin: Origin) -> &'static str {
        self.roster.name(origin)
    }

    fn jails_report(&self) -> Jails {
        Jails {
            jails: self.jails.iter().map(|jail| self.jail(jail)).collect(),
            enforcing: self.enforcing(),
        }
    }

    fn jail(&self, jail: &Jail) -> JailReport {
        let settings = jail.settings();
        let attacked = jail.attacked();
        let attacked = attacked.iter().map(|attacked| Attacked {
            account: attacked.account.to_string(),
            failures: attacked.failures.into(),
            sources: attacked.sources as u64,
            last: self.started.show(attacked.last),
        });
        let weights = settings.weights.as_ref();
        let named = |weights: &Weights| {
            weights.iter().map(|(class, weight)| (class.as_str().to_owned(), weight)).collect()
        };
        JailReport {
            name: jail.name().to_owned(),
            enabled: settings.enabled,
            maxretry: settings.maxretry,
            maxaccounts: settings.maxaccounts,
            guessing: Guessing {
                findtime: duration::format(settings.guessing.findtime),
                maxretry: settings.guessing.maxretry,
                sources: settings.guessing.sources,
                each: settings.guessing.each,
                maxaccounts: settings.guessing.maxaccounts,
            },
            attacked: attacked.collect(),
            weights: weights.map(named),
            findtime: duration::format(settings.findtime),
            bantime: duration::format(settings.bantime),
            increment: settings.increment.enabled,
            scope: self.ports.name(settings.scope).to_owned(),
            unproven_scope: settings.unproven_scope.map(|scope| self.ports.name(scope).to_owned()),
            ignoreip: settings.ignoreip.iter().map(|ip| show(*ip)).collect(),
            ignored_names: self.protected.names().report(&settings.ignore_names),
            tuned: self.tuning.report(jail.name()),
            watched: jail.watched() as u64,
            forgotten: jail.forgotten(),
            banned: self.banned_by(self.origin_of(jail.name())),
        }
    }

    /// Begins to lift bans of which there may be many.
    fn unban_many(&mut self, which: Unban, who: &str, now: KernelTime) -> Result<Ticket, String> {
        let (which, pardon) = match which {
            Unban::All => (Which::All, Some(Pardon { network: None, jail: None })),
            Unban::Jail { jail } => {
                let origin = self.origin(&jail)?;
                let pardon = match origin {
                    Origin::Jail(number) => Some(Pardon { network: None, jail: Some(number) }),
                    Origin::Manual | Origin::Escalation | Origin::Flood => None,
                };
                (Which::Of(origin, jail), pardon)
            }
            Unban::Networks { .. } => return Err("they are not that many".to_owned()),
            Unban::Network { network, .. } => {
                let pardon = Pardon { network: Some(self.pardoned(network, now)), jail: None };
                self.forget(network, now);
                (Which::Inside(network.trunc()), Some(pardon))
            }
        };
        let ticket = self.begin_to_lift(which, who, now)?;
        if let Some(pardon) = pardon {
            self.pardon(pardon);
        }
        Ok(ticket)
    }

    /// What an `unban` of a network makes good: of an address, its source.
    fn pardoned(&self, network: IpNet, now: KernelTime) -> IpNet {
        let network = network.trunc();
        if is_address(network) { self.source_of(network.addr(), now) } else { network }
    }

    fn pardon(&mut self, pardon: Pardon) {
        self.escalation.pardon(pardon);
        self.bans.store().pardon(pardon);
    }

    /// Lifts the bans of exactly this network; of an address, those by jails of its source too.
    pub(super) fn unban(
        &mut self,
        network: IpNet,
        who: &str,
        now: KernelTime,
    ) -> Result<Lifted, String> {
        let around = if is_address(network) {
            self.by_jails_around(network.addr(), now)
        } else {
            Vec::new()
        };
        self.pardon(Pardon { network: Some(self.pardoned(network, now)), jail: None });
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

    /// Why nothing was lifted.
    pub(super) fn not_banned(&self, network: IpNet, bans: usize, inside: &[String]) -> String {
        let name = show(network);
        let around = self.bans.ledger().of(network.addr());
        let around =
            around.iter().map(|entry| entry.ban.network).find(|net| net.contains(&network));
        if let Some(around) = around {
            return format!("{name} is banned as part of {0}: unban {0}", show(around));
        }
        if bans > 0 {
            let more = if bans > inside.len() { " and others" } else { "" };
            return format!(
                "{name} is not banned as a whole, and what is banned in it stays banned: {}{more}; \
                 `--inside` lifts that too",
                inside.join(", ")
            );
        }
        format!("{name} is not banned; its failures are forgotten")
    }
}
