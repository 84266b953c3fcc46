//! A connection whose patience with a client that reads nothing ends. Reading has its limits elsewhere: the head's in
//! hyper, the body's in `http::body`.

use std::io;
use std::io::IoSlice;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::activity::Activity;
use crate::lifecycle::network_sleep;

/// Answers up to this length are sent in one piece: copying them is cheaper than having the kernel gather them.
const SMALL: usize = 2 * 1024;

/// A stream that fails when the other side takes nothing for too long.
pub(super) struct Patient {
    stream: TcpStream,
    limit: Duration,
    activity: Arc<Activity>,
    /// Ends when patience does; there only while something is to be sent and is not taken.
    stalled: Option<BoxFuture<'static, ()>>,
}

impl Patient {
    pub(super) const fn new(stream: TcpStream, limit: Duration, activity: Arc<Activity>) -> Self {
        Self { stream, limit, activity, stalled: None }
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

impl AsyncRead for Patient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
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
