//! Reports to listeners what happens. It never waits: a listener that does not keep up misses events, and learns
//! how many.
//!
//! Must never wait for a listener.

use std::time::Duration;

use api::Event;
use bytes::Bytes;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::mpsc;
use tokio::time::timeout;

/// The events that wait for the slowest listener. When there are more, it misses the oldest.
const WAITING: usize = 1024;

/// The events of one listener that wait for its connection.
const WRITTEN: usize = 16;

/// How often a listener gets a sign of life if nothing happens. It also shows which listeners have gone.
const SIGN_EVERY: Duration = Duration::from_secs(5);

/// A comment, which clients ignore.
const SIGN: &[u8] = b":\n\n";

/// Where events come together.
#[derive(Clone, Debug)]
pub struct Hub(broadcast::Sender<Bytes>);

impl Default for Hub {
    fn default() -> Self {
        Self(broadcast::channel(WAITING).0)
    }
}

impl Hub {
    /// Tells the listeners what has happened. If there are none, the event is not made.
    pub fn tell(&self, event: impl FnOnce() -> Event) {
        if self.listeners() > 0 {
            // The last listener may just have gone.
            drop(self.0.send(text(&event())));
        }
    }

    /// The number of listeners.
    pub fn listeners(&self) -> usize {
        self.0.receiver_count()
    }

    /// Listens, unless there are `most` listeners already. The events arrive as server-sent events.
    pub fn listen(&self, most: usize) -> Option<mpsc::Receiver<Bytes>> {
        if self.listeners() >= most {
            return None;
        }
        let (to, listener) = mpsc::channel(WRITTEN);
        tokio::spawn(pass_on(self.0.subscribe(), to));
        Some(listener)
    }
}

/// Passes events on until the listener has gone.
async fn pass_on(mut from: broadcast::Receiver<Bytes>, to: mpsc::Sender<Bytes>) {
    // Shows at once that the daemon listens.
    if to.send(Bytes::from_static(SIGN)).await.is_err() {
        return;
    }
    loop {
        let next = match timeout(SIGN_EVERY, from.recv()).await {
            Ok(Ok(event)) => event,
            Ok(Err(RecvError::Lagged(missed))) => text(&Event::Gap { missed }),
            Ok(Err(RecvError::Closed)) => return,
            Err(_nothing) => Bytes::from_static(SIGN),
        };
        if to.send(next).await.is_err() {
            return;
        }
    }
}

/// A server-sent event. JSON has no line breaks.
fn text(event: &Event) -> Bytes {
    let data = serde_json::to_string(event).unwrap_or_default();
    format!("event: {}\ndata: {data}\n\n", event.name()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn next(listener: &mut mpsc::Receiver<Bytes>) -> String {
        loop {
            let next = timeout(Duration::from_mins(1), listener.recv()).await.unwrap().unwrap();
            if next != SIGN {
                return String::from_utf8(next.to_vec()).unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_slow_listener_learns_how_much_it_has_missed() {
        let hub = Hub::default();
        hub.tell(|| panic!("nobody listens"));
        let mut slow = hub.listen(2).unwrap();
        let told = 10 * WAITING as u64;
        for _ in 0..told {
            hub.tell(|| Event::Enforcing { enforcing: true });
        }
        let (mut got, mut missed) = (0, 0);
        while got + missed < told {
            let event = next(&mut slow).await;
            let (name, data) = event.split_once('\n').unwrap();
            match name {
                "event: enforcing" => got += 1,
                other => {
                    assert_eq!(other, "event: gap");
                    let data = data.trim().strip_prefix("data: ").unwrap();
                    let Event::Gap { missed: more } = serde_json::from_str(data).unwrap() else {
                        panic!("{data}");
                    };
                    missed += more;
                }
            }
        }
        assert!(missed > 0 && got >= WAITING as u64, "{got} {missed}");
    }

    #[tokio::test]
    async fn the_number_of_listeners_is_bounded() {
        let hub = Hub::default();
        let one = hub.listen(1).unwrap();
        assert!(hub.listen(1).is_none());
        drop(one);
        let gone = async {
            while hub.listen(1).is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_mins(1), gone).await.expect("its place is free");
    }
}
