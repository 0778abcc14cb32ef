//! Answers requests about alerts and actions.

use api::{Answer, ErrorId, Refusal, Reply, Request};
use log::info;

use super::inbox::Question;
use crate::controller::Controller;
use crate::datapath::Datapath;
use crate::log_budget::MANUAL;

/// Answers a question about alerts; other questions come back.
pub(super) fn answer_for<D: Datapath>(
    question: Question,
    controller: &Controller<D>,
) -> Option<Question> {
    let Some(alerts) = controller.alerts() else { return Some(question) };
    if question.request == Request::Alerts {
        question.reply.send(Reply::Ok(Answer::Alerts(alerts.rows()))).ok();
        return None;
    }
    let Request::AlertsTest { name } = &question.request else { return Some(question) };
    let name = name.clone();
    let Question { who, reply, .. } = question;
    match alerts.test(name) {
        Ok(result) => {
            info!(target: MANUAL, "{who} tests alerts or actions");
            tokio::spawn(async move {
                let answer = match result.await {
                    Ok(Ok(tested)) => Reply::Ok(Answer::AlertsTested(tested)),
                    Ok(Err(why)) => Reply::Error(Refusal::new(ErrorId::NotFound, why)),
                    Err(_) => {
                        Reply::Error(Refusal::new(ErrorId::Unavailable, "the daemon is stopping"))
                    }
                };
                reply.send(answer).ok();
            });
        }
        Err(why) => drop(reply.send(Reply::Error(why.into()))),
    }
    None
}
