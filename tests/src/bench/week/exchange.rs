//! A request and its retransmissions (RFC 3261 section 17.1.2.2) over a network that loses one packet in a
//! thousand.

use std::time::Duration;

use filter_common::decision::Reason;
use filter_user::clock::KernelTime;

use super::host::{Fate, Host};
use super::registrar::{Reply, Request};
use crate::chance::Chance;

/// Timer E at first and at most, and timer F.
const TIMER_E: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(4));
const TIMER_F: Duration = Duration::from_secs(32);

/// What a client needs to send something.
pub(super) struct Network<'a> {
    pub(super) host: &'a mut Host,
    pub(super) chance: &'a mut Chance,
    pub(super) now: KernelTime,
}

impl Network<'_> {
    fn loses(&mut self) -> bool {
        self.chance.below(1000) == 0
    }
}

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) request: Request,
    begun: KernelTime,
    sent: u32,
    /// The answer, if the request has arrived.
    reply: Option<Reply>,
}

/// What comes next.
pub(super) enum Step {
    /// The answer has come.
    Got(Reply),
    /// The request is to be sent again at this time.
    Wait(u64),
    /// There is no answer.
    Lost,
}

impl Exchange {
    pub(super) fn new(request: Request, begun: KernelTime) -> Self {
        Self { request, begun, sent: 0, reply: None }
    }

    /// Lets it begin later.
    pub(super) fn delay(&mut self, time: Duration) {
        self.begun = self.begun.after(time);
    }

    /// Sends the request. Returns also why the packet was dropped, if it was.
    pub(super) fn step(&mut self, network: &mut Network<'_>) -> (Step, Option<Reason>) {
        self.sent += 1;
        let mut dropped = None;
        if !network.loses() {
            match network.host.take(&self.request, self.reply.as_ref(), network.now) {
                Fate::Dropped(reason) => dropped = Some(reason),
                Fate::Answered(reply) => {
                    if !network.loses() {
                        return (Step::Got(reply), None);
                    }
                    self.reply = Some(reply);
                }
            }
        }
        if network.now.since(self.begun) >= TIMER_F {
            return (Step::Lost, dropped);
        }
        let (first, most) = TIMER_E;
        let wait = (first * (1 << (self.sent - 1).min(3))).min(most);
        (Step::Wait(network.now.after(wait).0), dropped)
    }
}
