//! A port of this machine's loopback interface that leads to the page in the PBX's namespace.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::Context as _;

use crate::netns::{Entry, Netns};

/// The port, on both sides if it is free here.
pub(super) const PORT: u16 = 9510;

/// The most connections at a time.
const CONNECTIONS: usize = 64;

const POLL: Duration = Duration::from_millis(50);

/// How long a connection may be idle.
const IDLE: Duration = Duration::from_mins(1);

/// The door. When dropped, it is closed; what still passes through it ends with the daemon.
pub(super) struct Door {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Door {
    pub(super) fn open(pbx: &Netns) -> anyhow::Result<Self> {
        let at = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
        let listener = at(PORT).or_else(|_taken| at(0)).context("listen for a browser")?;
        let address = listener.local_addr().context("the port for a browser")?;
        listener.set_nonblocking(true).context("poll for a browser")?;
        let stop = Arc::<AtomicBool>::default();
        let (stopped, entry) = (Arc::clone(&stop), pbx.entry());
        let thread = thread::Builder::new()
            .name("door to the page".to_owned())
            .spawn(move || accept(&listener, &entry, &stopped))
            .context("start the thread that listens for a browser")?;
        Ok(Self { address, stop, thread: Some(thread) })
    }

    /// A link of `ringfence page`, as it is reached through the door.
    pub(super) fn link(&self, link: &str) -> String {
        link.trim().replacen(&format!("127.0.0.1:{PORT}"), &self.address.to_string(), 1)
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed; a drop cannot return an error.
            thread.join().ok();
        }
    }
}

fn accept(listener: &TcpListener, entry: &Entry, stop: &AtomicBool) {
    let open = Arc::<AtomicUsize>::default();
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((browser, _)) if open.load(Ordering::Relaxed) < CONNECTIONS => {
                open.fetch_add(1, Ordering::Relaxed);
                let (entry, open) = (entry.clone(), Arc::clone(&open));
                thread::spawn(move || {
                    // A browser shows what is wrong with its connection.
                    lead(&browser, &entry).ok();
                    open.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Ok(_one_too_many) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(POLL),
            Err(_) => thread::sleep(POLL),
        }
    }
}

/// Copies what a browser and the daemon send to each other, until one of them ends.
fn lead(browser: &TcpStream, entry: &Entry) -> anyhow::Result<()> {
    entry.enter()?;
    let daemon = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    browser.set_nonblocking(false)?;
    for stream in [browser, &daemon] {
        stream.set_read_timeout(Some(IDLE))?;
    }
    thread::scope(|scope| {
        scope.spawn(|| copy(browser, &daemon));
        copy(&daemon, browser).map(drop).context("answer a browser")
    })
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<u64> {
    let copied = io::copy(&mut from, &mut to);
    // The other direction ends too.
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
    copied
}
