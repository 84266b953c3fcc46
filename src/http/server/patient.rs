//! A connection whose patience with a client that reads nothing ends, and which notices that a client has gone while it is
//! held: a poll that waits, a stream. Whatever else was asked is answered, also to who closes its side for sending. Reading
//! has its limits elsewhere: the head's in `activity`, the body's in `http::body`.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use super::activity::Activity;
use crate::lifecycle::network_sleep;

/// Answers up to this length are sent in one piece: copying them is cheaper than having the kernel gather them.
const SMALL: usize = 2 * 1024;

/// What is read at most behind a request whose answer is held, bytes. Of who sends more it may not be noticed that it has
/// gone before its time is over.
const AHEAD: usize = 2 * 1024;

/// A stream that fails when the other side takes nothing for too long, or is gone while it is held.
pub(super) struct Patient {
    stream: TcpStream,
    limit: Duration,
    activity: Arc<Activity>,
    /// Ends when patience does; there only while something is to be sent and is not taken.
    stalled: Option<BoxFuture<'static, ()>>,
    /// Whether hyper waits for bytes: then it sees itself that none will come.
    reading: bool,
    /// What was read while an answer was held: hyper's, when it wants to read again.
    ahead: Vec<u8>,
}

impl Patient {
    pub(super) const fn new(stream: TcpStream, limit: Duration, activity: Arc<Activity>) -> Self {
        Self { stream, limit, activity, stalled: None, reading: false, ahead: Vec::new() }
    }

    fn judge<T>(&mut self, written: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.activity.note();
            self.stalled = None;
            return written;
        }
        let limit = self.limit;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(network_sleep(limit)));
        match stalled.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl Patient {
    /// Whether the client has closed its side. Wakes the task when it does.
    fn is_gone(&mut self, context: &mut Context<'_>) -> bool {
        // As long as there is something to read, nothing wakes: it is read, up to a limit.
        while self.stream.poll_read_ready(context).is_ready() {
            let mut piece = [0; AHEAD];
            let room = piece.get_mut(self.ahead.len()..).unwrap_or_default();
            if room.is_empty() {
                return self.is_read_closed();
            }
            match self.stream.try_read(room) {
                Ok(0) => return true,
                Ok(read) => self.ahead.extend(room.iter().take(read)),
                // Now it is known that nothing is there.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return true,
            }
        }
        false
    }

    /// Whether the client has closed its side, as far as the system has told that without being asked.
    fn is_read_closed(&self) -> bool {
        let now = pin!(self.stream.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop()));
        matches!(now, Poll::Ready(Ok(now)) if now.is_read_closed())
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.ahead.is_empty() {
            let taken = self.ahead.len().min(buffer.remaining());
            buffer.put_slice(self.ahead.get(..taken).unwrap_or_default());
            // Nothing is kept of it, not even the space, once all is taken.
            self.ahead = self.ahead.split_off(taken);
            self.reading = false;
            return Poll::Ready(Ok(()));
        }
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.reading = read.is_pending();
        read
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(written, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut piece = [0; SMALL];
        let written = match in_one(slices, &mut piece) {
            Some(piece) => Pin::new(&mut self.stream).poll_write(context, piece),
            None => Pin::new(&mut self.stream).poll_write_vectored(context, slices),
        };
        self.judge(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper comes here whenever it has done what it could; what was to be sent has been sent.
        if !self.reading && self.activity.held().is_any() && self.is_gone(context) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// What is in `slices`, if it fits into `piece`.
fn in_one<'a>(slices: &[IoSlice<'_>], piece: &'a mut [u8; SMALL]) -> Option<&'a [u8]> {
    let mut length = 0;
    for slice in slices {
        piece.get_mut(length..length + slice.len())?.copy_from_slice(slice);
        length += slice.len();
    }
    piece.get(..length)
}
