//! A libp2p stream over a data channel: half-close, reset, and downloads that wait for their reader.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use futures::{
    AsyncRead, AsyncWrite,
    future::{Either, poll_fn, select},
    task::AtomicWaker,
};
use futures_timer::Delay;

use crate::{
    channel::Channel,
    message::{Flag, MAX_PAYLOAD, Message},
};

/// How long a stream that was dropped waits for the other side to have read it all.
const FINISH: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    Finished,
    Reset,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Writing {
    Open,
    /// FIN is sent.
    Finished,
    /// The other side reads no more.
    Stopped,
    Reset,
}

/// Reader and writer may be two tasks, and a channel wakes only who asked last: it wakes both.
#[derive(Default)]
struct Halves {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wake for Halves {
    fn wake(self: Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

/// A stream; dropping one that was not closed resets it. The data channel is closed with it, at once
/// after a reset, otherwise as soon as both sides have read to the end.
pub struct Stream<C: Channel>(Option<Inner<C>>);

struct Inner<C> {
    channel: C,
    /// Bytes of messages that are not complete.
    arriving: BytesMut,
    /// Payload that is not read.
    payload: Bytes,
    reading: Reading,
    writing: Writing,
    fin_acked: bool,
    /// A message without payload that waits for room.
    owed: Option<Flag>,
    /// What the other side said it takes; a side that says nothing takes anything.
    credit: Option<u64>,
    /// What was read since the other side was last given credit.
    read: u64,
    granted: bool,
    ended: bool,
    halves: Arc<Halves>,
    both: Waker,
}

fn reset() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the stream was reset by the other side",
    )
}

fn stopped() -> io::Error {
    io::Error::new(
        io::ErrorKind::BrokenPipe,
        "the other side reads no more from this stream",
    )
}

impl<C: Channel> Inner<C> {
    /// Sends what is owed: an acknowledgement, credit. Ready when nothing is.
    fn poll_owed(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let window = self
                .channel
                .window()
                .filter(|_| self.reading == Reading::Open);
            let grant = window.and_then(|window| match self.granted {
                false => Some(window),
                true => (self.read >= window / 4).then_some(self.read),
            });
            if grant.is_none() && self.owed.is_none() {
                // Under way, even if nothing else is written.
                let _ = self.channel.poll_flush(cx)?;
                return Poll::Ready(Ok(()));
            }
            ready!(self.channel.poll_ready(cx))?;
            self.channel.send(
                Message {
                    flag: self.owed.take().map(Into::into),
                    credit: grant,
                    payload: None,
                }
                .to_bytes(),
            )?;
            if grant.is_some() {
                self.granted = true;
                self.read = 0;
            }
        }
    }

    /// Takes in one message: `false` when the channel has ended.
    fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        loop {
            let message = Message::take(&mut self.arriving)
                .map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
            if let Some(message) = message {
                self.apply(message);
                return Poll::Ready(Ok(true));
            }
            if self.ended {
                return Poll::Ready(Ok(false));
            }
            match ready!(self.channel.poll_message(cx))? {
                Some(bytes) => self.arriving.extend_from_slice(&bytes),
                None => self.ended = true,
            }
        }
    }

    fn apply(&mut self, message: Message) {
        if let Some(credit) = message.credit {
            self.credit = Some(self.credit.unwrap_or(0).saturating_add(credit));
        }
        if let Some(payload) = message.payload
            && self.reading == Reading::Open
        {
            self.payload = payload;
        }
        // A flag that is not known says nothing.
        match message.flag.and_then(|flag| Flag::try_from(flag).ok()) {
            Some(Flag::Fin) if self.reading == Reading::Open => {
                self.reading = Reading::Finished;
                self.owed = Some(Flag::FinAck);
            }
            Some(Flag::FinAck) => self.fin_acked = true,
            Some(Flag::StopSending) if self.writing == Writing::Open => {
                self.writing = Writing::Stopped;
            }
            Some(Flag::Reset) => {
                self.payload = Bytes::new();
                self.reading = Reading::Reset;
                self.writing = Writing::Reset;
            }
            _ => {}
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        loop {
            // Credit goes out even while nothing comes in.
            if let Poll::Ready(Err(error)) = self.poll_owed(cx)
                && self.payload.is_empty()
                && self.reading == Reading::Open
            {
                return Poll::Ready(Err(error));
            }
            if !self.payload.is_empty() {
                let n = buf.len().min(self.payload.len());
                if let Some(part) = buf.get_mut(..n) {
                    self.payload.copy_to_slice(part);
                }
                self.read += n as u64;
                if self.payload.is_empty() && self.credit == Some(0) {
                    self.halves.writer.wake();
                }
                return Poll::Ready(Ok(n));
            }
            match self.reading {
                Reading::Finished => return Poll::Ready(Ok(0)),
                Reading::Reset => return Poll::Ready(Err(reset())),
                Reading::Open => {}
            }
            if !ready!(self.poll_take(cx))? {
                // Closed without FIN: what was sent may not all be there.
                self.reading = Reading::Reset;
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            match self.writing {
                Writing::Open => {}
                Writing::Finished => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Writing::Stopped => return Poll::Ready(Err(stopped())),
                Writing::Reset => return Poll::Ready(Err(reset())),
            }
            if buf.is_empty() {
                return Poll::Ready(Ok(0));
            }
            ready!(self.poll_owed(cx))?;
            if self.credit == Some(0) {
                // More credit is among what comes in; what is not read yet stays where it is.
                if !self.payload.is_empty() {
                    return Poll::Pending;
                }
                if !ready!(self.poll_take(cx))? {
                    self.writing = Writing::Reset;
                }
                continue;
            }
            ready!(self.channel.poll_ready(cx))?;
            let most = self.credit.unwrap_or(u64::MAX).min(MAX_PAYLOAD as u64) as usize;
            let part = buf.get(..buf.len().min(most)).unwrap_or(buf);
            self.channel.send(
                Message {
                    payload: Some(Bytes::copy_from_slice(part)),
                    ..Message::default()
                }
                .to_bytes(),
            )?;
            if let Some(credit) = &mut self.credit {
                *credit = credit.saturating_sub(part.len() as u64);
            }
            return Poll::Ready(Ok(part.len()));
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_owed(cx))?;
        self.channel.poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writing == Writing::Open {
            ready!(self.poll_owed(cx))?;
            ready!(self.channel.poll_ready(cx))?;
            self.channel.send(Message::of(Flag::Fin).to_bytes())?;
            self.writing = Writing::Finished;
        }
        match self.writing {
            Writing::Reset => Poll::Ready(Err(reset())),
            _ => self.channel.poll_flush(cx),
        }
    }

    /// What is left to do when nobody holds the stream: reset it unless both directions are done, see
    /// that the other side has read all, and close the channel.
    async fn finish(mut self) {
        let work = async {
            let gone = match (self.reading, self.writing) {
                (Reading::Reset, _) | (_, Writing::Reset) => true,
                (_, Writing::Open | Writing::Stopped) => {
                    self.owed = Some(Flag::Reset);
                    self.reading = Reading::Reset;
                    true
                }
                (Reading::Open, Writing::Finished) => {
                    // Half of a request and answer whose answer nobody wants.
                    self.owed = Some(Flag::StopSending);
                    false
                }
                (Reading::Finished, Writing::Finished) => false,
            };
            poll_fn(|cx| self.poll_owed(cx)).await?;
            poll_fn(|cx| self.channel.poll_flush(cx)).await?;
            while !gone && !self.fin_acked && self.reading != Reading::Reset {
                self.payload = Bytes::new();
                if !poll_fn(|cx| self.poll_take(cx)).await? {
                    break;
                }
                poll_fn(|cx| self.poll_owed(cx)).await?;
            }
            poll_fn(|cx| self.channel.poll_flush(cx)).await
        };
        match select(pin!(work), Delay::new(FINISH)).await {
            Either::Left((Ok(()), _)) => {}
            Either::Left((Err(error), _)) => tracing::trace!(%error, "a stream ended early"),
            Either::Right(_) => tracing::debug!("the other side left a stream open"),
        }
        self.channel.close();
    }
}

impl<C: Channel> Stream<C> {
    pub(crate) fn new(channel: C) -> Self {
        let halves = Arc::new(Halves::default());
        Self(Some(Inner {
            both: Waker::from(halves.clone()),
            halves,
            channel,
            arriving: BytesMut::new(),
            payload: Bytes::new(),
            reading: Reading::Open,
            writing: Writing::Open,
            fin_acked: false,
            owed: None,
            credit: None,
            read: 0,
            granted: false,
            ended: false,
        }))
    }

    fn reader<T>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Inner<C>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(inner) = &mut self.0 else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        inner.halves.reader.register(cx.waker());
        let both = inner.both.clone();
        poll(inner, &mut Context::from_waker(&both))
    }

    fn writer<T>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Inner<C>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let Some(inner) = &mut self.0 else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        inner.halves.writer.register(cx.waker());
        let both = inner.both.clone();
        poll(inner, &mut Context::from_waker(&both))
    }
}

impl<C: Channel> AsyncRead for Stream<C> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.reader(cx, |inner, cx| inner.poll_read(cx, buf))
    }
}

impl<C: Channel> AsyncWrite for Stream<C> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writer(cx, |inner, cx| inner.poll_write(cx, buf))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer(cx, Inner::poll_flush)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.writer(cx, Inner::poll_close)
    }
}

impl<C: Channel> Drop for Stream<C> {
    fn drop(&mut self) {
        if let Some(inner) = self.0.take() {
            C::finish(inner.channel.runtime(), inner.finish());
        }
    }
}

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests;
