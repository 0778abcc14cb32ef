//! A flood at a steady rate, on a separate thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow};

use crate::bench::sender::{Family, Sender};
use crate::bench::sources::Choice;
use crate::netns::Cable;
use crate::packet_builder::Frame;

/// The interval at which all frames that are due are sent.
const TICK: Duration = Duration::from_millis(2);
/// The most frames at once, in case the thread was delayed.
const AT_ONCE: u64 = 20_000;
/// The longest flood, even if nothing ends it.
const TIME_MAX: Duration = Duration::from_mins(2);

/// The flood. It ends when this value is dropped.
#[derive(Debug)]
pub(super) struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<anyhow::Result<Sent>>>,
}

/// The packets that were sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) frames: u64,
    pub(super) time: Duration,
}

impl Flood {
    /// Sends `frame` from random sources over a cable at this rate per second.
    pub(super) fn start(cable: &Cable, frame: &Frame, rate: u32) -> anyhow::Result<Self> {
        let sender = Sender::on(cable, "sender", frame, Family::V4, Choice::Strangers(0))?;
        let entry = cable.near.entry();
        let stop = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("flood".to_owned())
            .spawn(move || {
                entry.enter()?;
                send(&sender, rate, &until)
            })
            .context("start the flood's thread")?;
        Ok(Self { stop, thread: Some(thread) })
    }

    /// Ends it, and returns what was sent.
    pub(super) fn finish(mut self) -> anyhow::Result<Sent> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("the flood has ended")?;
        thread.join().map_err(|_panic| anyhow!("the flood panicked"))?
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A drop cannot return an error.
            thread.join().ok();
        }
    }
}

fn send(sender: &Sender, rate: u32, stop: &AtomicBool) -> anyhow::Result<Sent> {
    let started = Instant::now();
    let mut due = started;
    let mut frames = 0;
    while !stop.load(Ordering::Relaxed) && started.elapsed() < TIME_MAX {
        let wanted = u128::from(rate) * started.elapsed().as_nanos() / 1_000_000_000;
        let wanted = u64::try_from(wanted).unwrap_or(u64::MAX);
        let count = wanted.saturating_sub(frames).min(AT_ONCE);
        if count > 0 {
            sender.send(u32::try_from(count)?)?;
            frames += count;
        }
        due += TICK;
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok(Sent { frames, time: started.elapsed() })
}
