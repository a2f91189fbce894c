//! A connection whose client takes nothing for too long is closed; what waits for the client, in
//! buffers and in whoever writes to it, goes with it. So is one that sends heads without end when all
//! heads that are not whole hold too much.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use super::connections::Connection;

/// A stream that fails when nothing could be written to it for too long.
pub(super) struct Impatient<S> {
    stream: S,
    patience: Duration,
    connection: Arc<Connection>,
    /// Whether anything came.
    began: bool,
    /// Runs while the client takes nothing.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Impatient<S> {
    /// A client of `stream` may take nothing for so long.
    pub(super) fn new(stream: S, patience: Duration, connection: Arc<Connection>) -> Self {
        Self { stream, patience, connection, began: false, stalled: None }
    }

    fn watch(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let patience = self.patience;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        ready!(stalled.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        let came = buffer.filled().get(before..).unwrap_or_default();
        if !self.began && !came.is_empty() {
            self.began = true;
            self.connection.began(came);
        }
        if self.connection.came((buffer.filled().len() - before) as u64) {
            return Poll::Ready(Ok(()));
        }
        tracing::debug!("a head that does not end was cut off: all heads hold too much");
        Poll::Ready(Err(io::ErrorKind::OutOfMemory.into()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
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

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_client_that_takes_nothing_is_given_up() {
        let (ours, _theirs) = tokio::io::duplex(10);
        let mut stream = Impatient::new(ours, Duration::from_millis(20), Connection::for_tests());
        let error = stream.write_all(&[7; 50]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn time_counts_anew_when_a_client_takes_something() {
        let (ours, mut theirs) = tokio::io::duplex(10);
        let mut stream = Impatient::new(ours, Duration::from_secs(3_600), Connection::for_tests());
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut write = |stream: &mut Impatient<_>| Pin::new(stream).poll_write(&mut context, &[7; 10]);
        assert!(write(&mut stream).is_ready() && stream.stalled.is_none());
        assert!(write(&mut stream).is_pending() && stream.stalled.is_some());
        theirs.read_exact(&mut [0; 10]).await.unwrap();
        assert!(write(&mut stream).is_ready() && stream.stalled.is_none());
    }
}
