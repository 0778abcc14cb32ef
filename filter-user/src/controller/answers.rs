//! Requests: each is answered at once, or begun.

use std::time::Duration;

use api::{
    Answer, Attacked, ErrorId, Guessing, HistoryPage, JailReport, Jails, Refusal, Reply, Request,
    Unban,
};

use super::bans::lifting::Ticket;
use super::manual::{Asker, Wish};
use super::of_source::is_address;
use super::{Controller, past, show};
use crate::ban::Origin;
use crate::clock::KernelTime;
use crate::config::Weights;
use crate::datapath::Datapath;
use crate::duration;
use crate::jail::Jail;

/// The result of a request.
#[derive(Debug)]
pub enum Answered {
    /// The reply.
    Now(Reply),
    /// The reply will be returned by [`lift_more`](Controller::lift_more) with this ticket.
    Later(Ticket),
}

impl<D: Datapath> Controller<D> {
    /// Answers a request of root, however long it takes.
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

    /// Answers a request, or begins to. The log says who had it change anything.
    pub fn answer_to<'a>(
        &mut self,
        request: Request,
        asker: impl Into<Asker<'a>>,
        now: KernelTime,
    ) -> Answered {
        let asker = asker.into();
        let who = asker.name;
        let actions = past::actions(&request);
        let answer = match request {
            Request::Status => self
                .status(now)
                .map(|status| Answer::Status(Box::new(status)))
                .map_err(|why| Refusal::new(ErrorId::Failed, why)),
            Request::Bans(query) => self.bans_page(&query, now).map(Answer::Bans),
            Request::Active(query) => self.active_page(&query, now).map(Answer::Active),
            Request::Jails => Ok(Answer::Jails(self.jails_report())),
            Request::Why { address } => Ok(Answer::Why(Box::new(self.why(address, now)))),
            Request::Ban { network, seconds, scope, except, reason, force } => {
                let time = seconds.map(Duration::from_secs);
                let origin = Origin::Manual;
                let wish = Wish { network, except, time, scope, reason, force, origin };
                self.ban_manually(wish, asker, now).map(|banned| Answer::Banned(Box::new(banned)))
            }
            Request::BanMany { bans, force } => {
                let many = self.ban_many(bans, force, asker, now);
                many.map(Answer::BannedMany).map_err(Refusal::from)
            }
            Request::Allow { network, seconds, comment } => {
                let changed = self.allow(network, (seconds, comment), who, now);
                changed.map(Answer::AllowChanged).map_err(Refusal::from)
            }
            Request::Disallow { network } => self.disallow(network, who).map(Answer::AllowChanged),
            Request::Allows => Ok(Answer::Allows(self.allows())),
            Request::Set { jail, setting, value } => {
                self.tune((jail, setting, value), who, now).map(Answer::TuneChanged)
            }
            Request::Peers { inside, after } => {
                Ok(Answer::Peers(self.peers_page(inside, after, now)))
            }
            // The store answers this.
            Request::History(_) => Ok(Answer::History(HistoryPage::default())),
            Request::TakeOver { bans, from, last } => {
                let taken = self.take_over_bans(&bans, &from, last, who, now);
                taken.map(Answer::TakenOver).map_err(Refusal::from)
            }
            Request::Maintenance(what) => {
                let state = self.maintain(what, who, now);
                self.tell_changes(now);
                state.map(Answer::Maintenance).map_err(Refusal::from)
            }
            // This needs the files, which the daemon's loop reads.
            Request::Reload { .. } => Err("there is no configuration to reload here".into()),
            // The server knows the past.
            Request::Traffic(_) => Err("the traffic of the past is not recorded here".into()),
            // The server answers it if there is a page.
            Request::PageLink => {
                Err("there is no page: set `api.listen: 127.0.0.1:9510` in the configuration, and restart".into())
            }
            // The daemon's loop knows what was fetched.
            Request::Feeds | Request::FeedsConfirm { .. } => Err("there are no feeds here".into()),
            // Their task knows them.
            Request::Alerts | Request::AlertsTest { .. } => Err("there are no alerts here".into()),
            Request::Fleet => Ok(Answer::Fleet(Box::new(self.fleet_shown(now)))),
            Request::FleetReport(report) => self
                .take_fleet_report(report, now)
                .map(|settings| Answer::FleetSettings(Box::new(settings))),
            Request::FleetBans(bans) => self.take_fleet_bans(bans, now).map(Answer::FleetTaken),
            Request::FleetAllows { allows } => {
                self.take_fleet_allows(allows, now).map(Answer::Allows)
            }
            Request::FleetCut { host } => self.cut_off(&host, who).map(Answer::FleetChanged),
            Request::FleetJoin { host } => self.join(&host, who).map(Answer::FleetChanged),
            // The daemon's loop confirms it.
            Request::Confirm => Err("there is nothing to confirm here".into()),
            // An address contains no networks.
            Request::Unban(Unban::Network { network, inside })
                if !inside || is_address(network) =>
            {
                self.unban(network, who, now).map(Answer::Lifted)
            }
            Request::Unban(Unban::Manual { network, reason }) => {
                self.unban_manual(network, &reason, who, now).map(Answer::Lifted)
            }
            Request::Unban(Unban::Networks { networks }) => {
                self.unban_several(&networks, who, now).map(Answer::Lifted).map_err(Refusal::from)
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
        let (since_start, total) = self.totals.report(jail.name(), self.started);
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
            unproven_scope: settings
                .unproven_closes()
                .map(|scope| self.ports.name(scope).to_owned()),
            ignoreip: settings.ignoreip.iter().map(|ip| show(*ip)).collect(),
            ignored_names: self.protected.names().report(&settings.ignore_names),
            tuned: self.tuning.report(jail.name()),
            watched: jail.watched() as u64,
            forgotten: jail.forgotten(),
            banned: self.banned_by(self.origin_of(jail.name())),
            since_start,
            total,
        }
    }
}
