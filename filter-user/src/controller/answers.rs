//! The answers to what can be asked over the control socket: the JSON of `INTERFACE`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use filter_common::decision::{Reason, Verdict};
use ipnet::IpNet;
use log::info;
use serde_json::{Value, json};

use super::lifting::{self, NAMED, Ticket, Which};
use super::{Controller, Wish, hearing, is_address, show};
use crate::ban::{Entry, Origin, RESERVED, last_to_end};
use crate::clock::{KernelTime, Now};
use crate::config::{Limit, Limits};
use crate::control::{Reply, Request, Unban};
use crate::datapath::{Count, Datapath};
use crate::duration;
use crate::escalation::Pardon;
use crate::hearing::Ear;
use crate::jail::{Evidence, Jail, Standing};
use crate::log_budget::BY_HAND;
use crate::logging;
use crate::source::Strain;

/// How long after its last event a source counts as over a limit.
const LIMITED_FOR: Duration = Duration::from_secs(2);

/// Bans inside a network that are counted when it is lifted and they are not.
const INSIDE_COUNTED: usize = 1000;

/// What a request is answered.
#[derive(Debug)]
pub enum Answer {
    /// This.
    Now(Reply),
    /// What [`lift_more`](Controller::lift_more) returns with this ticket.
    Later(Ticket),
}

/// How a source of failures is.
#[derive(Clone, Debug)]
pub struct SourceReport {
    /// Its name.
    pub name: &'static str,
    /// `file`, `journal`, `ami` or `wire`.
    pub kind: &'static str,
    /// What it reads.
    pub place: String,
    /// `ok`, `waiting` or `failed`, and why.
    pub state: (&'static str, Option<String>),
    /// Lines or events that it read.
    pub events: u64,
    /// Failures among them.
    pub failures: u64,
    /// Failures of addresses from which no packet came: forged, or read long after they were.
    pub unwitnessed: u64,
    /// Failures without a packet since the last one that had one.
    pub unseen: u64,
    /// Events or lines that were lost: too long, too many, or gone before they were read.
    pub lost: u64,
    /// What it leads to that reading costs more than it may, if it does.
    pub strain: Option<Strain>,
    /// When the last of them came that meant something.
    pub last_event: Option<KernelTime>,
    /// The jail that hears it.
    pub jail: &'static str,
    /// What it has heard, to tell whether it hears.
    pub ear: Ear,
    /// Whether what it read is gone, and it with it.
    pub is_gone: bool,
}

impl SourceReport {
    /// A source that has not been heard of yet.
    pub fn new(name: &'static str, kind: &'static str, place: String) -> Self {
        Self {
            name,
            kind,
            place,
            state: ("waiting", Some("not looked at yet".to_owned())),
            events: 0,
            failures: 0,
            unwitnessed: 0,
            unseen: 0,
            lost: 0,
            strain: None,
            last_event: None,
            jail: "",
            ear: Ear::default(),
            is_gone: false,
        }
    }

    /// The same for a jail, by a parser with these rules.
    #[must_use]
    pub fn heard_by(self, jail: &'static str, rules: &'static [&'static str]) -> Self {
        Self { jail, ear: Ear::new(rules), ..self }
    }
}

impl<D: Datapath> Controller<D> {
    /// Answers a request of root's, whatever that takes.
    pub fn answer(&mut self, request: Request, now: KernelTime) -> Reply {
        let ticket = match self.answer_to(request, "root", now) {
            Answer::Now(reply) => return reply,
            Answer::Later(ticket) => ticket,
        };
        loop {
            match self.lift_more(now) {
                Some((done, reply)) if done == ticket => return reply,
                Some(_) | None => {}
            }
        }
    }

    /// Answers a request, or begins to. The log says `who` had it change anything.
    pub fn answer_to(&mut self, request: Request, who: &str, now: KernelTime) -> Answer {
        let answer = match request {
            Request::Status => self.status(now),
            Request::Bans { jail, after } => self
                .bans_page(jail.as_deref(), after, now)
                .and_then(|page| serde_json::to_value(page).map_err(|why| why.to_string())),
            Request::Jails => Ok(self.jails_report()),
            Request::Why { address } => Ok(self.why(address, now)),
            Request::Ban { network, seconds, scope, except, reason, force } => {
                let time = seconds.map(Duration::from_secs);
                let wish = Wish { network, except, time, scope, reason, force };
                self.ban_by_hand(wish, who, now)
            }
            Request::TakeOver { bans, from, last } => {
                self.take_over_bans(&bans, &from, last, who, now)
            }
            Request::Maintenance(what) => self.maintain(what, who, now),
            // Nothing is inside an address.
            Request::Unban(Unban::Network { network, inside })
                if !inside || is_address(network) =>
            {
                self.unban(network, who, now)
            }
            Request::Unban(which) => match self.unban_many(which, who, now) {
                Ok(ticket) => return Answer::Later(ticket),
                Err(why) => Err(why),
            },
        };
        Answer::Now(match answer {
            Ok(value) => Reply::Ok(value),
            Err(why) => Reply::Error(why),
        })
    }

    fn status(&self, now: KernelTime) -> Result<Value, String> {
        let counters = self.datapath.counters().map_err(|why| format!("{why:#}"))?;
        let learning = self.datapath.learning();
        let mut reasons: BTreeMap<&str, (Verdict, Count)> = BTreeMap::new();
        let mut would_drop: BTreeMap<&str, Count> = BTreeMap::new();
        let mut interfaces = Vec::new();
        for counted in &counters {
            let mut sums = [Count::default(); 2];
            for (reason, count) in &counted.reasons {
                let sum = &mut sums[usize::from(reason.verdict() == Verdict::Drop)];
                *sum = sum.plus(*count);
                let none = (reason.verdict(), Count::default());
                let (_, total) = reasons.entry(reason.as_str()).or_insert(none);
                *total = total.plus(*count);
            }
            for (reason, count) in &counted.would_drop {
                let total = would_drop.entry(reason.as_str()).or_default();
                *total = total.plus(*count);
            }
            let [passed, dropped] = sums;
            interfaces.push(json!({
                "name": counted.interface.name,
                "mode": counted.interface.mode.as_str(),
                "attached": counted.interface.unprotected.is_none(),
                "protected": counted.interface.unprotected.is_none(),
                "why": counted.interface.unprotected,
                "learning": counted.interface.not_learning.is_none(),
                "not_learning": counted.interface.not_learning,
                "fallback": counted.interface.fallback,
                "received": passed.plus(dropped).packets,
                "passed": passed.packets,
                "dropped": dropped.packets,
            }));
        }
        let reasons: BTreeMap<&str, Value> = reasons
            .into_iter()
            .map(|(name, (verdict, count))| {
                let Count { packets, bytes } = count;
                (name, json!({"verdict": verdict.as_str(), "packets": packets, "bytes": bytes}))
            })
            .collect();
        let would_drop: BTreeMap<&str, u64> =
            would_drop.into_iter().map(|(name, count)| (name, count.packets)).collect();
        Ok(json!({
            "version": env!("CARGO_PKG_VERSION"),
            "uptime_seconds": now.since(self.started.kernel).as_secs(),
            "enforcing": self.enforcing,
            "interfaces": interfaces,
            "reasons": reasons,
            "would_drop": would_drop,
            "bans": {
                "active": self.ledger.len(),
                "capacity": self.datapath.capacity(),
                "capacity_ipv6": self.capacity_ipv6,
            },
            "peers": {
                "known": self.datapath.known_count(),
                "spared": self.spared,
                "learned": learning.learned,
                "no_room": learning.full,
            },
            "maintenance": self.maintenance(now),
            "store": self.store_report(),
            "log": logging::report(),
            "trusted_names": self.names.report_trusted(),
            "signatures": self.datapath.signatures().iter().map(|(agent, packets)| {
                json!({"user_agent": agent, "packets": packets})
            }).collect::<Vec<_>>(),
            "sources": self.sources.iter().filter(|source| !source.is_gone).map(|source| json!({
                "name": source.name,
                "kind": source.kind,
                "jail": source.jail,
                "place": source.place,
                "state": source.state.0,
                "why": source.state.1.clone().or(source.strain.map(|strain| strain.to_string())),
                "events": source.events,
                "failures": source.failures,
                "unwitnessed": source.unwitnessed,
                "lost": source.lost,
                "left_out": source.strain.map_or(0, |strain| strain.left_out),
                "last_event": source.last_event.map(|at| self.started.show(at)),
                "rules": hearing::rules(&source.ear, |at| self.heard_at(at, now)),
                "unparsed": hearing::unparsed(&source.ear, |at| self.heard_at(at, now)),
            })).collect::<Vec<_>>(),
            "hearing": self.hearing_findings(now),
            "exposure": self.exposures,
            "escalation": {
                "enabled": self.escalation.networks().settings().enabled,
                "offenders": self.escalation.networks().len(),
                "banned": self.banned_by(Origin::Escalation),
            },
            "jails": self.jails.iter().map(|jail| json!({
                "name": jail.name(),
                "watched": jail.watched(),
                "banned": self.banned_by(self.origin_of(jail.name())),
            })).collect::<Vec<_>>(),
        }))
    }

    fn store_report(&self) -> Value {
        let status = self.store.status();
        json!({
            "state": if status.failed.is_some() { "failed" } else { "ok" },
            "why": status.failed,
            "path": status.path.display().to_string(),
            "pending": status.pending,
        })
    }

    fn banned_by(&self, origin: Origin) -> usize {
        self.ledger.count(origin)
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

    fn jails_report(&self) -> Value {
        let jails = self.jails.iter().map(|jail| {
            let settings = jail.settings();
            json!({
                "name": jail.name(),
                "enabled": settings.enabled,
                "maxretry": settings.maxretry,
                "maxaccounts": settings.maxaccounts,
                "guessing": {
                    "findtime": duration::format(settings.guessing.findtime),
                    "maxretry": settings.guessing.maxretry,
                    "sources": settings.guessing.sources,
                    "each": settings.guessing.each,
                    "maxaccounts": settings.guessing.maxaccounts,
                },
                "attacked": jail.attacked().iter().map(|attacked| json!({
                    "account": &*attacked.account,
                    "failures": attacked.failures,
                    "sources": attacked.sources,
                    "last": self.started.show(attacked.last),
                })).collect::<Vec<_>>(),
                "weights": settings.weights.as_ref().map(|weights| {
                    weights.iter().map(|(class, weight)| (class.as_str(), weight)).collect::<BTreeMap<_, _>>()
                }),
                "findtime": duration::format(settings.findtime),
                "bantime": duration::format(settings.bantime),
                "increment": settings.increment.enabled,
                "scope": self.ports.name(settings.scope),
                "unproven_scope": settings.unproven_scope.map(|scope| self.ports.name(scope)),
                "ignoreip": settings.ignoreip.iter().map(|ip| show(*ip)).collect::<Vec<_>>(),
                "ignored_names": self.names.report(&settings.ignore_names),
                "watched": jail.watched(),
                "forgotten": jail.forgotten(),
                "banned": self.banned_by(self.origin_of(jail.name())),
            })
        });
        json!({ "jails": jails.collect::<Vec<_>>(), "enforcing": self.enforcing })
    }

    fn why(&self, address: IpAddr, now: KernelTime) -> Value {
        let protected = self.protected.reason(address.into());
        let interfaces = self.datapath.interfaces();
        let bare: Vec<&str> = interfaces
            .iter()
            .filter(|interface| interface.unprotected.is_some())
            .map(|interface| &*interface.name)
            .collect();
        let all_bare = !bare.is_empty() && bare.len() == interfaces.len();
        let bans: Vec<&Entry> =
            self.ledger.of(address).into_iter().filter(|entry| entry.ban.in_force(now)).collect();
        // Of several the widest scope, and then the one that ends last, is shown first.
        let widest = bans.iter().map(|entry| entry.ban.scope).max();
        let of_widest = bans.iter().copied().filter(|entry| Some(entry.ban.scope) == widest);
        let entry = last_to_end(of_widest);
        let known = self.datapath.known(address).filter(|peer| now < peer.until);
        let closed = self
            .closed(now)
            .filter(|closed| !(closed.known_allowed && known.is_some()))
            .filter(|_| protected.is_none());
        let limited = self.limited.get(address);
        let over_limit = limited.filter(|last| now.since(last.at) < LIMITED_FOR);
        let mut evidence: Vec<Evidence> =
            bans.iter().flat_map(|entry| entry.evidence().iter().cloned()).collect();
        // A jail remembers what is behind a ban as long as it may be proven yet.
        let source = self.source_of(address, now);
        let counted = self.jails.iter().flat_map(|jail| jail.evidence(source.addr()));
        let behind_none: Vec<_> = counted.filter(|seen| !evidence.contains(seen)).collect();
        evidence.extend(behind_none);
        let evidence: Vec<Value> =
            evidence.iter().map(|evidence| show_evidence(evidence, self.started)).collect();
        let ignores = |jail: &&Jail| {
            jail.settings().ignoreip.iter().any(|ip| ip.contains(&address))
                || self.names.contain(&jail.settings().ignore_names, address)
        };
        let ignored_by: Vec<&str> = self.jails.iter().filter(ignores).map(Jail::name).collect();
        json!({
            "address": address,
            "source": show(source),
            "dropped": protected.is_none()
                && self.enforcing
                && !all_bare
                && (entry.is_some() || over_limit.is_some() || closed.is_some()),
            "enforcing": self.enforcing,
            "unprotected": bare,
            "near": self.near(source.addr(), now),
            "not_counted": self.uncounted.of(address).map(|uncounted| json!({
                "unwitnessed": uncounted.unwitnessed,
                "known": uncounted.known,
                "unproven": uncounted.unproven,
                "last": self.started.show(uncounted.last),
            })),
            "maintenance_until": closed.map(|closed| self.started.show(closed.until)),
            "network": entry.map(|entry| show(entry.ban.network)),
            "scope": entry.map(|entry| self.ports.name(entry.ban.scope)),
            "jail": entry.map(|entry| self.jail_name(entry.ban.origin)),
            "reason": entry.map(|entry| &*entry.reason),
            "until": entry.and_then(|entry| entry.ban.until).map(|until| self.started.show(until)),
            "trusted": protected.is_some(),
            "protected": protected,
            "ignored_by": ignored_by,
            "bans": bans.iter().map(|entry| json!({
                "network": show(entry.ban.network),
                "jail": self.jail_name(entry.ban.origin),
                "scope": self.ports.name(entry.ban.scope),
                "since": self.started.show(entry.ban.since),
                "until": entry.ban.until.map(|until| self.started.show(until)),
                "packets": self.datapath.packets(entry.ban.network),
                "reason": &*entry.reason,
                "evidence": entry.evidence().len(),
            })).collect::<Vec<_>>(),
            "known": known.is_some(),
            "known_until": known.map(|peer| self.started.show(peer.until)),
            "limit": limited.map(|last| json!({
                "reason": last.reason.as_str(),
                "setting": self.limit_of(last.reason).map(|(setting, _)| setting),
                "value": self.limit_of(last.reason).map(|(_, limit)| {
                    format!("{}, burst {}", limit.rate, limit.burst)
                }),
                "last": self.started.show(last.at),
            })),
            "evidence": evidence,
            "packets": {
                // Only those of known peers are counted one by one.
                "passed": known.map(|peer| peer.passed),
                "dropped": entry.map_or(0, |entry| self.datapath.packets(entry.ban.network)),
            },
        })
    }

    /// How near each jail is to banning an address.
    fn near(&self, source: IpAddr, now: KernelTime) -> Vec<Value> {
        let near = self.jails.iter().filter_map(|jail| {
            let Standing { failures, points, accounts } = jail.standing(source, now)?;
            let settings = jail.settings();
            Some(json!({
                "jail": jail.name(),
                "failures": failures,
                "points": points,
                "maxretry": settings.maxretry,
                "accounts": accounts,
                "maxaccounts": settings.maxaccounts,
                "findtime": duration::format(settings.findtime),
            }))
        });
        near.collect()
    }

    /// The setting of the limit that a source was over, and its value.
    fn limit_of(&self, reason: Reason) -> Option<(&'static str, Limit)> {
        let Limits { source, known, flood, .. } = &self.limits;
        let limits = [
            (Reason::RegisterLimit, "limits.register", source.register),
            (Reason::CredentialsLimit, "limits.register_credentials", source.register_credentials),
            (Reason::InviteLimit, "limits.invite", source.invite),
            (Reason::OptionsLimit, "limits.options", source.options),
            (Reason::SubscribeLimit, "limits.subscribe", source.subscribe),
            (Reason::OtherLimit, "limits.other", source.other),
            (Reason::SynLimit, "limits.syn", source.syn),
            (Reason::KnownLimit, "limits.known", *known),
            (Reason::Flooding, "limits.flood.after", flood.after),
        ];
        let limit = limits.into_iter().find(|(of, ..)| *of == reason);
        limit.map(|(_, setting, limit)| (setting, limit))
    }

    /// Begins to lift bans of which there may be many.
    fn unban_many(&mut self, which: Unban, who: &str, now: KernelTime) -> Result<Ticket, String> {
        let (which, pardon) = match which {
            Unban::All => (Which::All, Some(Pardon { network: None, jail: None })),
            Unban::Jail { jail } => {
                let origin = self.origin(&jail)?;
                let pardon = match origin {
                    Origin::Jail(number) => Some(Pardon { network: None, jail: Some(number) }),
                    Origin::Hand | Origin::Escalation | Origin::Flood => None,
                };
                (Which::Of(origin, jail), pardon)
            }
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
        self.store.pardon(pardon);
    }

    /// Lifts the bans of exactly this network; of an address, those by jails of its source too.
    fn unban(&mut self, network: IpNet, who: &str, now: KernelTime) -> Result<Value, String> {
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
            info!(target: BY_HAND, "{}", lifting::line(who, lifted, "", &names));
        }
        let inside = self.ledger.inside(network).take(INSIDE_COUNTED);
        let inside: BTreeSet<IpNet> = inside.map(|entry| entry.ban.network).collect();
        let inside_banned = inside.len();
        let inside: Vec<String> = inside.into_iter().take(NAMED).map(show).collect();
        if lifted == 0 {
            return Err(self.not_banned(network, inside_banned, &inside));
        }
        let mut answer = lifting::answer(lifted, &names);
        answer["network"] = around.first().map(|entry| show(entry.ban.network)).into();
        answer["inside"] = inside.into();
        answer["inside_banned"] = inside_banned.into();
        Ok(answer)
    }

    /// Why nothing was lifted.
    pub(super) fn not_banned(&self, network: IpNet, bans: usize, inside: &[String]) -> String {
        let name = show(network);
        let around = self.ledger.of(network.addr());
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

fn show_evidence(evidence: &Evidence, clock: Now) -> Value {
    json!({
        "time": clock.show(evidence.at),
        "source": evidence.source,
        "address": evidence.address,
        "class": evidence.class,
        "account": evidence.account,
        "proven": evidence.proven,
    })
}
