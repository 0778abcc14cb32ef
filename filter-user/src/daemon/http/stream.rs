//! A connection to a client, over the control socket or TCP, on which the client must not be slow.

use std::future::Future as _;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::rt::{Read, ReadBufCursor, Write};
use nix::sys::socket::{Shutdown, shutdown};
use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Sleep, sleep};

use super::PATIENCE;

/// A connection.
#[derive(Debug)]
pub enum Stream {
    /// To the control socket.
    Unix(UnixStream),
    /// Over TCP.
    Tcp(TcpStream),
}

impl From<UnixStream> for Stream {
    fn from(stream: UnixStream) -> Self {
        Self::Unix(stream)
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

impl AsRawFd for Stream {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(stream) => stream.as_fd(),
            Self::Tcp(stream) => stream.as_fd(),
        }
    }
}

/// The methods that both kinds of connections have.
impl Stream {
    pub(super) async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Unix(stream) => stream.readable().await,
            Self::Tcp(stream) => stream.readable().await,
        }
    }

    pub(super) async fn when_readable<T>(
        &self,
        then: impl FnMut() -> io::Result<T>,
    ) -> io::Result<T> {
        match self {
            Self::Unix(stream) => stream.async_io(Interest::READABLE, then).await,
            Self::Tcp(stream) => stream.async_io(Interest::READABLE, then).await,
        }
    }

    pub(super) fn try_read(&self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_read(into),
            Self::Tcp(stream) => stream.try_read(into),
        }
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Unix(stream) => stream.try_write(bytes),
            Self::Tcp(stream) => stream.try_write(bytes),
        }
    }

    fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(stream) => stream.poll_read_ready(context),
            Self::Tcp(stream) => stream.poll_read_ready(context),
        }
    }

    fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Unix(stream) => stream.poll_write_ready(context),
            Self::Tcp(stream) => stream.poll_write_ready(context),
        }
    }
}

/// A connection on which a client must not be slow.
pub(super) struct Socket {
    stream: Arc<Stream>,
    /// Whether the request has arrived. Until then `reading` is the deadline for it.
    has_request: Arc<AtomicBool>,
    reading: Pin<Box<Sleep>>,
    /// The deadline for the client to take something of the reply.
    writing: Option<Pin<Box<Sleep>>>,
}

impl Socket {
    pub(super) fn new(stream: Arc<Stream>, has_request: Arc<AtomicBool>) -> Self {
        Self { stream, has_request, reading: Box::pin(sleep(PATIENCE)), writing: None }
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut into: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; 4096];
        let room = into.remaining().min(bytes.len());
        loop {
            if self.stream.poll_read_ready(context)?.is_pending() {
                if !self.has_request.load(Ordering::Relaxed) {
                    ready!(self.reading.as_mut().poll(context));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                return Poll::Pending;
            }
            match self.stream.try_read(&mut bytes[..room]) {
                Ok(length) => {
                    into.put_slice(&bytes[..length]);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl Write for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.stream.poll_write_ready(context)?.is_pending() {
                let deadline = self.writing.get_or_insert_with(|| Box::pin(sleep(PATIENCE)));
                ready!(deadline.as_mut().poll(context));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            match self.stream.try_write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => {
                    self.writing = None;
                    return Poll::Ready(done);
                }
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(shutdown(self.stream.as_raw_fd(), Shutdown::Write)?))
    }
}
