//! Where the controller hears of attempts: bytes enter from files, processes and connections,
//! attempts leave through a channel.
//!
//! Sources do the waiting and the bookkeeping. They must never decide what a failure leads to, and
//! never end because their input is away for a while.

pub mod ami;
mod budget;
pub mod journal;
pub mod lane;
pub mod log_file;
pub mod log_patterns;
pub mod log_tail;

use tokio::sync::mpsc::{self, error::TrySendError};

pub use self::budget::Strain;
use crate::failure::Attempt;
use crate::hearing::Unparsed;

/// So many attempts are enough for one message, so that the controller can turn to others soon. One
/// line more may tell of [`TIMES_MAX`](crate::failure::TIMES_MAX).
pub const ATTEMPTS_ENOUGH: usize = 256;

/// What a source sends: attempts in the order in which they were read, and how it is.
#[derive(Debug)]
pub struct Heard {
    /// What the lines said.
    pub attempts: Vec<Attempt>,
    /// How many lines or events were read for it.
    pub lines: u64,
    /// Which of them look like failures and match no rule.
    pub unparsed: Unparsed,
    /// How many events or lines were lost meanwhile: too long, too many, or gone before they were read.
    pub lost: u64,
    /// What it leads to that reading costs more than it may, if it does.
    pub strain: Option<Strain>,
    /// How the source is now.
    pub state: SourceState,
    /// Where it stands then, to go on from there after a restart.
    pub place: Option<String>,
}

/// How a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// It reads.
    Ok,
    /// There is nothing to read from yet, for this reason.
    Waiting(String),
    /// It cannot read, for this reason; it goes on trying.
    Failed(String),
}

impl Heard {
    /// Nothing but how the source is.
    pub fn state(state: SourceState) -> Self {
        Self {
            attempts: Vec::new(),
            lines: 0,
            unparsed: Unparsed::default(),
            lost: 0,
            strain: None,
            state,
            place: None,
        }
    }
}

/// A source's way to the controller, which knows it by a number.
#[derive(Clone, Debug)]
pub struct Outlet {
    source: usize,
    channel: mpsc::Sender<(usize, Heard)>,
}

impl Outlet {
    /// The way of the source with this number.
    pub fn new(source: usize, channel: mpsc::Sender<(usize, Heard)>) -> Self {
        Self { source, channel }
    }

    /// Whether nobody listens any more.
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// Sends, and waits while the controller has enough to do. Whether anybody listens.
    pub async fn send(&self, heard: Heard) -> bool {
        self.channel.send((self.source, heard)).await.is_ok()
    }

    /// Sends if there is room; what could not be sent, and nothing if nobody listens.
    fn try_send(&self, heard: Heard) -> Result<(), Option<Box<Heard>>> {
        self.channel.try_send((self.source, heard)).map_err(|error| match error {
            TrySendError::Full((_, heard)) => Some(Box::new(heard)),
            TrySendError::Closed(_) => None,
        })
    }

    /// Waits until something can be sent at once; `None` when nobody listens.
    async fn ready(&self) -> Option<Ready<'_>> {
        let permit = self.channel.reserve().await.ok()?;
        Some(Ready { source: self.source, permit })
    }
}

/// Room for one message.
struct Ready<'a> {
    source: usize,
    permit: mpsc::Permit<'a, (usize, Heard)>,
}

impl Ready<'_> {
    fn send(self, heard: Heard) {
        self.permit.send((self.source, heard));
    }
}
