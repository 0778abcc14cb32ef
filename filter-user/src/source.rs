//! Sources of attempts. They read files, processes and connections, and send attempts over a channel.
//!
//! Sources do the waiting and the bookkeeping. They must never decide what a failure leads to, and never
//! end because their input is missing for a while.
//!
//! Must never delay another source, decide, end because its input is missing, or deliver a line twice.

pub mod ami;
mod budget;
mod feed;
pub mod journal;
pub mod lane;
pub mod log_file;
pub mod log_patterns;
pub mod log_tail;
pub mod wire;

use tokio::sync::mpsc::{self, error::TrySendError};

pub use self::budget::Strain;
pub use self::feed::{Feed, FoundFile};
use crate::clock::{self, KernelTime};
use crate::failure::Attempt;
use crate::hearing::Unparsed;

/// The number of attempts after which a message is sent, so that the controller can soon do other work.
/// The last line may add up to [`TIMES_MAX`](crate::failure::TIMES_MAX) more.
pub const ATTEMPTS_ENOUGH: usize = 256;

/// A message of a source: attempts in the order in which they were read, and its state.
#[derive(Debug)]
pub struct Heard {
    /// The attempts.
    pub attempts: Vec<Attempt>,
    /// How many lines or events were read.
    pub lines: u64,
    /// Those lines that look like failures and match no rule.
    pub unparsed: Unparsed,
    /// How many events or lines were lost meanwhile: too long, too many, or deleted before they were read.
    pub lost: u64,
    /// The effect on the source if reading costs more than its share.
    pub strain: Option<Strain>,
    /// The state of the source.
    pub state: SourceState,
    /// The position reached, from which to continue after a restart.
    pub place: Option<String>,
    /// When the last of them was read.
    pub read: KernelTime,
}

/// The state of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// It reads.
    Ok,
    /// There is nothing to read from yet, for this reason.
    Waiting(String),
    /// It cannot read, for this reason; it keeps trying.
    Failed(String),
}

impl Heard {
    /// A message with nothing but the source's state.
    pub fn state(state: SourceState) -> Self {
        Self {
            attempts: Vec::new(),
            lines: 0,
            unparsed: Unparsed::default(),
            lost: 0,
            strain: None,
            state,
            place: None,
            read: clock::now(),
        }
    }
}

/// A source's channel to the controller, which knows the source by a number.
#[derive(Clone, Debug)]
pub struct Outlet {
    source: usize,
    channel: mpsc::Sender<(usize, Heard)>,
}

impl Outlet {
    /// The outlet of the source with this number.
    pub fn new(source: usize, channel: mpsc::Sender<(usize, Heard)>) -> Self {
        Self { source, channel }
    }

    /// Whether the receiver has been dropped.
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }

    /// Sends, and waits while the channel is full. Returns whether the receiver still exists.
    pub async fn send(&self, heard: Heard) -> bool {
        self.channel.send((self.source, heard)).await.is_ok()
    }

    /// Sends if there is room. The error contains what could not be sent, or nothing if the receiver has been
    /// dropped.
    fn try_send(&self, heard: Heard) -> Result<(), Option<Box<Heard>>> {
        self.channel.try_send((self.source, heard)).map_err(|error| match error {
            TrySendError::Full((_, heard)) => Some(Box::new(heard)),
            TrySendError::Closed(_) => None,
        })
    }

    /// Waits for room for one message; `None` if the receiver has been dropped.
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
