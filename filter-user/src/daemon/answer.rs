//! Answers that wait for the store: what they report must be durable, and some of it is only in the
//! store.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::server::Question;
use crate::control::{Reply, Request};
use crate::controller::{Answer, Controller, Ticket, show};
use crate::datapath::Kernel;
use crate::store::{Found, Offences, Store};

/// The clients that wait for an answer.
#[derive(Default)]
pub(super) struct Answers(HashMap<Ticket, oneshot::Sender<Reply>>);

impl Answers {
    /// Answers a request, now or as soon as the store has everything that the answer reports. A request that
    /// changes nothing is dropped if its client has gone.
    pub(super) fn answer(&mut self, controller: &mut Controller<Kernel>, question: Question) {
        let Question { request, who, reply } = question;
        if reply.is_closed() && !request.changes() {
            return;
        }
        let address = if let Request::Why { address } = &request { Some(*address) } else { None };
        let says_whether =
            matches!(request, Request::Ban { .. } | Request::TakeOver { .. } | Request::Unban(_));
        let waits = says_whether || matches!(request, Request::Bans { .. } | Request::Why { .. });
        let clock = crate::clock::read();
        let now = clock.kernel;
        controller.set_clock(clock);
        let answer = match controller.answer_to(request, &who, now) {
            Answer::Now(answer) => answer,
            Answer::Later(ticket) => {
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
            if let (Reply::Ok(value), Some((address, source))) = (&mut answer, of) {
                explain(value, store.look_up(address, source).await.unwrap_or_default());
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
        if let Reply::Ok(value) = &mut answer {
            value["durable"] = settled.is_ok().into();
            value["why"] = settled.err().into();
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
fn explain(value: &mut Value, found: Found) {
    let mut failures = Vec::new();
    for kept in found.evidence {
        let network = show(kept.network);
        let unexplained = value["bans"].as_array_mut().into_iter().flatten().find(|ban| {
            ban["network"] == *network
                && ban["jail"] == *kept.jail
                && ban["scope"] == *kept.scope
                && ban["evidence"] == 0
        });
        if let Some(ban) = unexplained {
            ban["evidence"] = kept.failures.len().into();
            failures.extend(kept.failures);
        }
    }
    if let Some(evidence) = value["evidence"].as_array_mut() {
        evidence.splice(0..0, failures);
    }
    value["history"] = history(&found.offences);
}

/// The earlier bans, in total and by jail.
fn history(offences: &[Offences]) -> Value {
    let sum = |count: fn(&Offences) -> u64| offences.iter().map(count).sum::<u64>();
    let jails: Vec<Value> = offences
        .iter()
        .map(|by| {
            let jail = Some(&by.jail).filter(|jail| !jail.is_empty());
            json!({"jail": jail, "bans": by.bans, "proven": by.proven, "last": by.last})
        })
        .collect();
    // RFC 3339 in UTC: the greatest text is the latest time.
    offences.iter().map(|by| &by.last).max().map_or(Value::Null, |last| {
        let (bans, proven) = (sum(|by| by.bans), sum(|by| by.proven));
        json!({"bans": bans, "proven": proven, "last": last, "jails": jails})
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::KeptEvidence;

    #[test]
    fn evidence_is_added_where_there_is_none() {
        let kept = |jail: &str, class: &str| KeptEvidence {
            network: "192.0.2.1/32".parse().unwrap(),
            jail: jail.to_owned(),
            scope: "sip".to_owned(),
            failures: vec![json!({"class": class})],
        };
        let ban = |jail: &str, evidence: usize| json!({"network": "192.0.2.1", "jail": jail, "scope": "sip", "evidence": evidence});
        let past = |jail: &str, bans, last: &str| {
            let (jail, last) = (jail.to_owned(), last.to_owned());
            Offences { jail, bans, proven: bans - 1, last }
        };
        let mut value = json!({
            "address": "192.0.2.1",
            "bans": [ban("one", 0), ban("two", 1)],
            "evidence": [{"class": "acl"}],
        });
        let found = Found {
            evidence: vec![kept("one", "login"), kept("two", "acl"), kept("three", "login")],
            offences: vec![past("one", 3, "2026-01-02T00:00:00.000Z"), past("", 1, "2025")],
        };
        explain(&mut value, found);
        assert_eq!(value["evidence"], json!([{"class": "login"}, {"class": "acl"}]));
        assert_eq!(value["bans"][0]["evidence"], 1);
        assert_eq!(
            value["history"],
            json!({"bans": 4, "proven": 2, "last": "2026-01-02T00:00:00.000Z", "jails": [
                {"jail": "one", "bans": 3, "proven": 2, "last": "2026-01-02T00:00:00.000Z"},
                {"jail": null, "bans": 1, "proven": 0, "last": "2025"},
            ]})
        );
        explain(&mut value, Found::default());
        assert_eq!(value["history"], Value::Null);
    }
}
