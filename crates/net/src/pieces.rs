//! Writing to a WebRTC data channel without killing it.
//!
//! A native peer reads a data-channel message into 8,192 bytes and drops the stream if the message is
//! longer; the framing joins small writes into one message unless each is flushed. So: at most
//! [`PIECE_BYTES`], then a flush, then the next.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::{AsyncWrite, AsyncWriteExt};

/// Bytes between two flushes at most; leaves room for the framing of the data channel.
pub const PIECE_BYTES: usize = 8_000;

/// A writer that flushes its inner writer after every [`PIECE_BYTES`] at the latest.
#[derive(Debug)]
pub struct Pieces<W> {
    inner: W,
    unflushed: usize,
}

impl<W> Pieces<W> {
    /// Wrap a writer that has nothing unflushed.
    pub fn new(inner: W) -> Self {
        Self {
            inner,
            unflushed: 0,
        }
    }

    /// The writer inside; flush before.
    pub fn into_inner(self) -> W {
        self.inner
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Pieces<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.unflushed >= PIECE_BYTES {
            ready!(self.as_mut().poll_flush(cx))?;
        }
        let room = PIECE_BYTES - self.unflushed;
        let piece = buf.get(..room).unwrap_or(buf);
        let written = ready!(Pin::new(&mut self.inner).poll_write(cx, piece))?;
        self.unflushed += written;
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.unflushed = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}

/// Write and flush all bytes, in pieces.
///
/// # Errors
///
/// Those of the writer.
pub async fn write_pieces<W: AsyncWrite + Unpin>(writer: &mut W, bytes: &[u8]) -> io::Result<()> {
    let mut pieces = Pieces::new(writer);
    pieces.write_all(bytes).await?;
    pieces.flush().await
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;
    use crate::frame::write_parts;

    /// Joins everything between two flushes, as the data channel's framing does.
    #[derive(Default)]
    struct Channel {
        open: Vec<u8>,
        messages: Vec<Vec<u8>>,
    }

    impl AsyncWrite for Channel {
        fn poll_write(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &[u8],
        ) -> Poll<io::Result<usize>> {
            // Short writes happen.
            let taken = buf.len().min(3_001);
            self.open.extend_from_slice(&buf[..taken]);
            Poll::Ready(Ok(taken))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            let message = std::mem::take(&mut self.open);
            self.messages.push(message);
            Poll::Ready(Ok(()))
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[test]
    fn no_message_is_longer_than_a_piece() {
        let bytes: Vec<u8> = (0..100_003_u32).map(|i| i as u8).collect();
        let mut channel = Channel::default();
        block_on(write_pieces(&mut channel, &bytes)).unwrap();
        assert!(
            channel
                .messages
                .iter()
                .all(|message| message.len() <= PIECE_BYTES)
        );
        assert_eq!(channel.messages.concat(), bytes);
        assert!(channel.open.is_empty(), "all of it is flushed");
    }

    #[test]
    fn a_frame_through_pieces_is_cut_too() {
        let mut pieces = Pieces::new(Channel::default());
        block_on(write_parts(&mut pieces, 1, &vec![5; 65_536])).unwrap();
        let channel = pieces.into_inner();
        assert!(
            channel
                .messages
                .iter()
                .all(|message| message.len() <= PIECE_BYTES)
        );
        assert_eq!(channel.messages.concat().len(), 65_541);
    }
}
