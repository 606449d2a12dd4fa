//! A stream from somebody unknown that must keep coming: one that only sits there holds a place.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep};

/// A stream whose reader gives up when too little comes in a while.
pub struct Paced<S> {
    inner: S,
    within: Duration,
    least: usize,
    come: usize,
    until: Pin<Box<Sleep>>,
}

impl<S> Paced<S> {
    /// At least `least` bytes, or the end, must come in each `within`.
    pub fn new(inner: S, least: usize, within: Duration) -> Self {
        Self {
            inner,
            within,
            least,
            come: 0,
            until: Box::pin(tokio::time::sleep(within)),
        }
    }

    fn again(&mut self) {
        self.come = 0;
        let next = Instant::now()
            .checked_add(self.within)
            .unwrap_or_else(Instant::now);
        self.until.as_mut().reset(next);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let Poll::Ready(Ok(length)) = &read {
            self.come = self.come.saturating_add(*length);
            if *length == 0 || self.come >= self.least {
                self.again();
                return read;
            }
        }
        if matches!(read, Poll::Ready(Err(_))) || self.until.as_mut().poll(cx).is_pending() {
            return read;
        }
        Poll::Ready(Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the other side sends nothing, or next to nothing",
        )))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        // What this side does in between is no fault of the other.
        self.again();
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

#[cfg(test)]
mod tests {
    use futures::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio_util::compat::TokioAsyncReadCompatExt as _;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_ended_and_a_stream_is_not() {
        for (piece, good) in [(1, false), (64, true)] {
            let (mut ours, theirs) = tokio::io::duplex(1024);
            let mut paced = Paced::new(theirs.compat(), 100, Duration::from_secs(30));
            tokio::spawn(async move {
                for _ in 0..20 {
                    tokio::time::sleep(Duration::from_secs(10)).await;
                    ours.write_all(&vec![7; piece]).await.unwrap();
                }
            });
            let mut all = Vec::new();
            let read = paced.read_to_end(&mut all).await;
            assert_eq!(read.is_ok(), good, "{piece} bytes at a time: {read:?}");
        }
    }
}
