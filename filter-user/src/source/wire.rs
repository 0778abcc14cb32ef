//! The responses that leave the host as a source, which the kernel reads.

use detection::wire::Responses as Counted;
use log::error;

use super::{ATTEMPTS_ENOUGH, Heard, Outlet, SourceState};
use crate::datapath::Responses;
use crate::failure::Attempt;
use crate::register::WIRE;

/// What it reads.
pub const PLACE: &str = "SIP responses";

/// Reads responses until the receiver is dropped.
pub async fn follow(mut responses: Responses, outlet: Outlet) {
    let mut counted = Counted::default();
    if !outlet.send(Heard::state(SourceState::Ok)).await {
        return;
    }
    loop {
        let mut heard = Heard::state(SourceState::Ok);
        let read = responses.next_batch(ATTEMPTS_ENOUGH, |response| {
            heard.lines += 1;
            heard.attempts.extend(counted.attempt(&response).into_iter().flat_map(Attempt::each));
        });
        if let Err(why) = read.await {
            error!("{WIRE}: {PLACE} are no longer read: {why}");
            outlet.send(Heard::state(SourceState::Failed(why.to_string()))).await;
            return;
        }
        if heard.lines > 0 && !outlet.send(heard).await {
            return;
        }
    }
}
