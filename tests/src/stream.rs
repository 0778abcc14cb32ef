//! A source that sends SIP to the PBX all the while, at a bounded rate, and counts what is answered. The [`Echo`] there
//! answers each packet that the filter lets through.
//!
//! [`Echo`]: crate::world::Echo

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::netns::Netns;

/// The running source; it ends when dropped.
#[derive(Debug)]
pub struct Stream {
    counts: Arc<Counts>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Counts {
    stop: AtomicBool,
    sent: AtomicU64,
    answered: AtomicU64,
}

impl Stream {
    /// Starts to send from `source` on `host`, so many packets a second.
    ///
    /// # Errors
    ///
    /// If it cannot send.
    pub fn start(
        host: &Netns,
        source: IpAddr,
        target: SocketAddr,
        rate: u32,
    ) -> anyhow::Result<Self> {
        let socket = host.run_in(|| {
            let socket = UdpSocket::bind((source, 0)).context("bind a socket")?;
            socket.connect(target).context("connect a socket")?;
            Ok(socket)
        })?;
        socket.set_nonblocking(true).context("make a socket nonblocking")?;
        let counts = Arc::new(Counts::default());
        let shared = Arc::clone(&counts);
        let thread = thread::spawn(move || send(&socket, rate, &shared));
        Ok(Self { counts, thread: Some(thread) })
    }

    /// How many packets were sent, and how many of them answered.
    pub fn counts(&self) -> (u64, u64) {
        let Counts { sent, answered, .. } = &*self.counts;
        (sent.load(Ordering::Acquire), answered.load(Ordering::Acquire))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.counts.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed; a drop cannot return an error.
            thread.join().ok();
        }
    }
}

/// A thread that was not scheduled for a while does not catch up: that would be a flood.
fn send(socket: &UdpSocket, rate: u32, counts: &Counts) {
    let between = Duration::from_secs(1) / rate.max(1);
    let mut next = Instant::now();
    while !counts.stop.load(Ordering::Relaxed) {
        loop {
            match socket.recv(&mut [0; 64]) {
                Ok(_) => {
                    counts.answered.fetch_add(1, Ordering::Release);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // A port that is still closed.
                Err(_) => {}
            }
        }
        if socket.send(b"OPTIONS sip:a SIP/2.0\r\n\r\n").is_ok() {
            counts.sent.fetch_add(1, Ordering::Release);
        }
        next = (next + between).max(Instant::now());
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
