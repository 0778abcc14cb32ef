//! Answers that wait for the store: what they report must be durable, and some of it is only in the
//! store.

use std::collections::HashMap;
use std::time::Duration;

use api::{
    Answer, ErrorId, Evidence, HISTORY_PAGE_MAX, History, HistoryPage, HistoryQuery, HistoryRow,
    JailHistory, Refusal, Reply, Request, Why,
};
use jiff::Timestamp;
use tokio::sync::oneshot;

use super::inbox::Question;
use crate::clock::Rfc3339;
use crate::controller::{Answered, Asker, Controller, Ticket, show};
use crate::datapath::Kernel;
use crate::store::{self, Found, Offences, Past, Store};

/// The clients that wait for an answer.
#[derive(Default)]
pub(super) struct Answers(HashMap<Ticket, oneshot::Sender<Reply>>);

impl Answers {
    /// Answers a request, now or as soon as the store has everything that the answer reports. A request that
    /// changes nothing is dropped if its client has gone.
    pub(super) fn answer(&mut self, controller: &mut Controller<Kernel>, question: Question) {
        let Question { request, who, from, reply, .. } = question;
        if reply.is_closed() && !request.changes() {
            return;
        }
        let address = if let Request::Why { address } = &request { Some(*address) } else { None };
        let says_whether = matches!(
            request,
            Request::Ban { .. }
                | Request::BanMany { .. }
                | Request::TakeOver { .. }
                | Request::Unban(_)
                | Request::Allow { .. }
                | Request::Disallow { .. }
                | Request::FleetCut { .. }
                | Request::FleetJoin { .. }
                | Request::Set { .. }
        );
        let waits = says_whether
            || matches!(request, Request::Bans(_) | Request::Why { .. } | Request::History(_));
        let past = if let Request::History(query) = &request { Some(query.clone()) } else { None };
        let clock = crate::clock::read();
        let now = clock.kernel;
        controller.set_clock(clock);
        let answer = match controller.answer_to(request, Asker { name: &who, from }, now) {
            Answered::Now(answer) => answer,
            Answered::Later(ticket) => {
                self.0.insert(ticket, reply);
                return;
            }
        };
        let of = address.map(|address| (address, controller.source_of(address, now)));
        let store = controller.store();
        if !waits {
            send(reply, answer);
            return;
        }
        if says_whether {
            send_durable(store, reply, answer);
            return;
        }
        let (settled, store) = (store.settled(), store.clone());
        tokio::spawn(async move {
            let _failed = settled.await;
            let mut answer = answer;
            if let (Reply::Ok(Answer::Why(why)), Some((address, source))) = (&mut answer, of) {
                explain(why, store.look_up(address, source).await.unwrap_or_default());
            }
            if let Some(query) = past {
                answer = history_page(&store, &query).await;
            }
            send(reply, answer);
        });
    }

    /// Sends an answer that has become ready.
    pub(super) fn done(&mut self, store: &Store, (ticket, answer): (Ticket, Reply)) {
        if let Some(reply) = self.0.remove(&ticket) {
            send_durable(store, reply, answer);
        }
    }
}

/// Sends an answer once the change that it reports is durable or cannot be made so for now. The answer
/// says which.
fn send_durable(store: &Store, reply: oneshot::Sender<Reply>, answer: Reply) {
    let settled = store.settled();
    tokio::spawn(async move {
        let settled = settled.await;
        let mut answer = answer;
        if let Reply::Ok(answer) = &mut answer
            && let Some(durability) = answer.durability_mut()
        {
            durability.durable = settled.is_ok();
            durability.why = settled.err();
        }
        send(reply, answer);
    });
}

fn send(reply: oneshot::Sender<Reply>, answer: Reply) {
    if reply.send(answer).is_err() {
        log::debug!("a client disconnected before its answer");
    }
}

/// Adds to `why` what is only in the store: older evidence and earlier bans.
fn explain(why: &mut Why, found: Found) {
    let mut failures: Vec<Evidence> = Vec::new();
    for kept in found.evidence {
        let network = show(kept.network);
        let unexplained = why.bans.iter_mut().find(|ban| {
            ban.network == network
                && ban.jail == kept.jail
                && ban.scope == kept.scope
                && ban.evidence == 0
        });
        if let Some(ban) = unexplained {
            let kept =
                kept.failures.into_iter().filter_map(|kept| serde_json::from_value(kept).ok());
            let before = failures.len();
            failures.extend(kept);
            ban.evidence = (failures.len() - before) as u64;
        }
    }
    why.evidence.splice(0..0, failures);
    why.history = history(&found.offences);
}

/// A page of the history.
async fn history_page(store: &Store, query: &HistoryQuery) -> Reply {
    let query = store::HistoryQuery {
        network: query.network,
        since: query.since_seconds.map(Duration::from_secs),
        before: query.before,
        limit: HISTORY_PAGE_MAX,
    };
    let Ok(found) = store.history(query).await else {
        let why = "the store cannot be read now; `ringfence status` says why";
        return Reply::Error(Refusal::new(ErrorId::Failed, why));
    };
    let is_full = found.len() >= usize::from(HISTORY_PAGE_MAX);
    let next = found.last().map(|past| past.number).filter(|_| is_full);
    // Entries that this version cannot read are left out.
    let row = |past: Past| {
        let event = serde_json::from_str(&past.what).ok()?;
        let time = Rfc3339(Timestamp::from_second(past.at).ok()?).to_string();
        Some(HistoryRow { time, network: past.network.map(show), event })
    };
    let history = found.into_iter().filter_map(row).collect();
    Reply::Ok(Answer::History(HistoryPage { history, next }))
}

/// The earlier bans, in total and by jail.
fn history(offences: &[Offences]) -> Option<History> {
    let sum = |count: fn(&Offences) -> u64| offences.iter().map(count).sum::<u64>();
    let jails = offences.iter().map(|by| JailHistory {
        jail: Some(by.jail.clone()).filter(|jail| !jail.is_empty()),
        bans: by.bans,
        proven: by.proven,
        last: by.last.clone(),
    });
    // RFC 3339 in UTC: the greatest text is the latest time.
    let last = offences.iter().map(|by| &by.last).max()?.clone();
    let (bans, proven) = (sum(|by| by.bans), sum(|by| by.proven));
    Some(History { bans, proven, last, jails: jails.collect() })
}

#[cfg(test)]
mod tests {
    use api::BanOf;
    use serde_json::json;

    use super::*;
    use crate::store::KeptEvidence;

    #[test]
    fn evidence_is_added_where_there_is_none() {
        let failure = |class: &str| {
            json!({"time": "2026-01-01T00:00:00Z", "source": "sshd", "address": null, "class": class,
                "account": null, "proven": true})
        };
        let kept = |jail: &str, class: &str| KeptEvidence {
            network: "203.0.113.7/32".parse().unwrap(),
            jail: jail.to_owned(),
            scope: "sip".to_owned(),
            failures: vec![failure(class)],
        };
        let past = |jail: &str, bans, last: &str| {
            let (jail, last) = (jail.to_owned(), last.to_owned());
            Offences { jail, bans, proven: bans - 1, last }
        };
        let mut why: Why =
            serde_json::from_str(include_str!("../../../docs/api/examples/why-banned.json"))
                .unwrap();
        let [ban] = &why.bans[..] else { panic!("{:?}", why.bans) };
        let ban = |jail: &str, evidence| BanOf { jail: jail.to_owned(), evidence, ..ban.clone() };
        why.bans = vec![ban("one", 0), ban("two", 1)];
        why.evidence.truncate(1);
        let found = Found {
            evidence: vec![kept("one", "login"), kept("two", "acl"), kept("three", "login")],
            offences: vec![past("one", 3, "2026-01-02T00:00:00.000Z"), past("", 1, "2025")],
        };
        explain(&mut why, found);
        let classes: Vec<&str> = why.evidence.iter().map(|failure| &*failure.class).collect();
        assert_eq!((classes, why.bans[0].evidence), (vec!["login", "wrong-credential"], 1));
        assert_eq!(
            serde_json::to_value(&why.history).unwrap(),
            json!({"bans": 4, "proven": 2, "last": "2026-01-02T00:00:00.000Z", "jails": [
                {"jail": "one", "bans": 3, "proven": 2, "last": "2026-01-02T00:00:00.000Z"},
                {"jail": null, "bans": 1, "proven": 0, "last": "2025"},
            ]})
        );
        explain(&mut why, Found::default());
        assert_eq!(why.history, None);
    }
}
