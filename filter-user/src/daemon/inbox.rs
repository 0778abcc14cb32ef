//! What the daemon's loop receives from clients.

use std::net::IpAddr;

use api::{Reply, Request};
use filter_common::decision::Reason;
use tokio::sync::{mpsc, oneshot};

use crate::controller::Controller;
use crate::datapath::{Count, Datapath};
use crate::metrics::Snapshot;

/// What the loop receives from clients.
pub(super) struct Inbox {
    pub(super) questions: mpsc::Receiver<Question>,
    pub(super) scrapes: mpsc::Receiver<Scrape>,
}

/// A request, and where its reply goes.
pub(super) struct Question {
    pub(super) request: Request,
    /// The user that sent the request, for the log.
    pub(super) who: String,
    /// The source of that user's session, if it is an SSH session.
    pub(super) from: Option<IpAddr>,
    /// The port to which that session is connected.
    pub(super) ssh_port: Option<u16>,
    pub(super) reply: oneshot::Sender<Reply>,
}

/// Counts that are wanted, and where they go.
pub(super) enum Scrape {
    /// All of them, for the metrics.
    All(oneshot::Sender<Result<Snapshot, String>>),
    /// Only those of packets, for the history.
    Traffic(oneshot::Sender<Result<Vec<(Reason, Count)>, String>>),
}

impl Scrape {
    /// Sends them. The client may have gone.
    pub(super) fn answer<D: Datapath>(self, controller: &Controller<D>) {
        match self {
            Self::All(tell) => drop(tell.send(controller.metrics(crate::clock::now()))),
            Self::Traffic(tell) => drop(tell.send(controller.traffic())),
        }
    }
}
