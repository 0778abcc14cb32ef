//! Connects the tasks that fetch the lists of feeds with the controller, and answers requests about feeds.

use std::time::Duration;

use api::{Answer, ErrorId, FeedRow, FeedState, Feeds as Rows, Refusal, Reply, Request};
use jiff::Timestamp;
use log::info;
use tokio::sync::mpsc::error::TrySendError;

use super::inbox::Question;
use crate::clock::Rfc3339;
use crate::config::Config;
use crate::controller::{Controller, FeedHealth};
use crate::datapath::Datapath;
use crate::feeds::{self, Confirm, News, Report, Running};
use crate::log_budget::MANUAL;

/// The feeds of the configuration.
pub(super) struct Feeds {
    running: Running,
    reports: Vec<Report>,
}

impl Feeds {
    /// Starts to fetch them.
    pub(super) fn start(config: &Config) -> Self {
        let running = feeds::start(config);
        let reports = vec![Report::default(); running.feeds.len()];
        Self { running, reports }
    }

    /// Uses other settings of the same feeds.
    pub(super) fn follow(&mut self, config: &Config) {
        for place in self.running.change(config) {
            if let Some(report) = self.reports.get_mut(usize::from(place)) {
                *report = Report::default();
            }
        }
    }

    /// Waits for news. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<News> {
        self.running.news.recv().await
    }

    /// Takes news of a feed.
    pub(super) fn take<D: Datapath>(&mut self, controller: &mut Controller<D>, news: News) {
        let News { feed, report, update } = news;
        if let Some(last) = self.reports.get_mut(usize::from(feed)) {
            let Report { state, problem, fetched, entries, .. } = report.clone();
            let fetched = (fetched > 0).then(|| Duration::from_secs(fetched));
            controller.note_feed(feed, FeedHealth { state, problem, fetched, entries });
            *last = report;
        }
        if let Some(update) = update {
            controller.take_feed(update);
        }
    }

    /// Answers a question about feeds; other questions come back.
    pub(super) fn answer_for<D: Datapath>(
        &self,
        question: Question,
        controller: &mut Controller<D>,
    ) -> Option<Question> {
        if question.request == Request::Feeds {
            let feeds = (0..).zip(&self.running.feeds).zip(&self.reports);
            let feeds = feeds.map(|((place, handle), report)| {
                shown(handle.row.clone(), report, controller, place)
            });
            let enforcing = controller.enforcing();
            let answer = Answer::Feeds(Rows { feeds: feeds.collect(), enforcing });
            question.reply.send(Reply::Ok(answer)).ok();
            return None;
        }
        let Request::FeedsConfirm { name } = &question.request else { return Some(question) };
        let name = name.clone();
        self.confirm(&name, question, controller);
        None
    }

    fn confirm<D: Datapath>(&self, name: &str, question: Question, controller: &mut Controller<D>) {
        let Question { who, reply, .. } = question;
        let name = name.strip_prefix("feed:").unwrap_or(name);
        let mut feeds = (0..).zip(&self.running.feeds);
        let Some((place, handle)) = feeds.find(|(_, handle)| handle.row.name == name) else {
            let names: Vec<&str> = self.running.feeds.iter().map(|feed| &*feed.row.name).collect();
            let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            let error = format!(
                "there is no feed `{}`; there are: {names}",
                crate::report::shown_text(name)
            );
            reply.send(Reply::Error(Refusal::new(ErrorId::NotFound, error))).ok();
            return;
        };
        let (tell, told) = tokio::sync::oneshot::channel();
        let was_paused = controller.feed_counts(place).is_paused;
        match handle.confirm.try_send(Confirm { was_paused, reply: tell }) {
            Ok(()) => {
                controller.resume_feed(place);
                if was_paused {
                    info!(target: MANUAL, "{who} has the feed {name} ban again");
                }
                let action = format!("confirm the feed {name}");
                controller.note_change(None, &who, action, crate::clock::now());
            }
            Err(TrySendError::Full(_) | TrySendError::Closed(_)) => {
                let error = "another request to confirm it is in progress; try again later";
                reply.send(Reply::Error(error.into())).ok();
                return;
            }
        }
        let name = name.to_owned();
        tokio::spawn(async move {
            let answer = match told.await {
                Ok(Ok(done)) => {
                    let entries = done.entries;
                    info!(target: MANUAL, "{who} confirmed the list of the feed {name}: {entries} entries");
                    Reply::Ok(Answer::FeedConfirmed(done))
                }
                Ok(Err(why)) => Reply::Error(why.into()),
                Err(_) => {
                    Reply::Error(Refusal::new(ErrorId::Unavailable, "the daemon is stopping"))
                }
            };
            reply.send(answer).ok();
        });
    }
}

/// A feed's row.
fn shown<D: Datapath>(
    row: FeedRow,
    report: &Report,
    controller: &Controller<D>,
    place: u8,
) -> FeedRow {
    let counts = controller.feed_counts(place);
    let time = |seconds: u64| {
        let time = i64::try_from(seconds).ok().and_then(|at| Timestamp::from_second(at).ok());
        time.filter(|_| seconds > 0).map(|time| Rfc3339(time).to_string())
    };
    let Report { state, problem, entries, left_out, unread, fetched, next, until } = report.clone();
    let (state, problem) = if counts.is_paused {
        let text =
            format!("its bans were lifted; `ringfence feeds confirm {}` bans again", row.name);
        (FeedState::Paused, Some(text))
    } else {
        (state, problem)
    };
    FeedRow {
        state,
        problem,
        entries,
        banned: counts.banned,
        spared: counts.spared,
        left_out,
        unread,
        packets: counts.packets,
        fetched: time(fetched),
        next: time(next),
        until: time(until),
        ..row
    }
}
