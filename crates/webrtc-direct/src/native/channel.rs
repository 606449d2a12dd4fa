//! A data channel over SCTP.

use std::{
    io,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::runtime::Handle;
use webrtc_data::data_channel::DataChannel;

use super::limits::Counts;
use crate::channel::{Channel, MAX_MESSAGE};

/// One of a connection's streams; it counts as long as it lives.
pub struct SctpChannel {
    channel: Arc<DataChannel>,
    reading: Option<BoxFuture<'static, io::Result<Option<Bytes>>>>,
    writing: Option<BoxFuture<'static, io::Result<()>>>,
    _counted: Counted,
    runtime: Handle,
}

/// A place among the streams of a connection.
pub(crate) struct Counted {
    counts: Arc<Counts>,
    /// Held by every stream of the connection.
    of_connection: Arc<()>,
}

impl Counted {
    pub(crate) fn new(counts: Arc<Counts>, of_connection: Arc<()>) -> Self {
        Counts::add(&counts.streams);
        Self {
            counts,
            of_connection,
        }
    }

    /// How many there are, given the connection's own hold.
    pub(crate) fn number(of_connection: &Arc<()>) -> usize {
        Arc::strong_count(of_connection).saturating_sub(1)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        Counts::sub(&self.counts.streams);
        let _ = &self.of_connection;
    }
}

impl SctpChannel {
    pub(crate) fn new(channel: DataChannel, counted: Counted, runtime: Handle) -> Self {
        Self {
            runtime,
            channel: Arc::new(channel),
            reading: None,
            writing: None,
            _counted: counted,
        }
    }
}

fn failed(error: &webrtc_data::Error) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, error.to_string())
}

async fn read(channel: Arc<DataChannel>) -> io::Result<Option<Bytes>> {
    // A longer message is an error here: the most is part of the protocol.
    let mut buffer = vec![0; MAX_MESSAGE];
    let (n, _) = channel
        .read_data_channel(&mut buffer)
        .await
        .map_err(|e| failed(&e))?;
    buffer.truncate(n);
    // The end is told as an empty message; one sent says nothing, so it may end the stream too.
    Ok((n > 0).then(|| buffer.into()))
}

impl Channel for SctpChannel {
    fn window(&self) -> Option<u64> {
        // SCTP's own makes the sender wait.
        None
    }

    fn poll_message(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let reading = self
            .reading
            .get_or_insert_with(|| Box::pin(read(self.channel.clone())));
        let result = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        Poll::Ready(result)
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flush(cx)
    }

    fn send(&mut self, message: Bytes) -> io::Result<()> {
        let channel = self.channel.clone();
        self.writing = Some(Box::pin(async move {
            channel.write(&message).await.map_err(|e| failed(&e))?;
            Ok(())
        }));
        Ok(())
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(writing) = &mut self.writing {
            let result = ready!(writing.as_mut().poll(cx));
            self.writing = None;
            result?;
        }
        Poll::Ready(Ok(()))
    }

    fn close(&mut self) {
        let channel = self.channel.clone();
        self.runtime.spawn(async move {
            if let Err(error) = channel.close().await {
                tracing::trace!(%error, "a data channel was gone already");
            }
        });
    }

    type Runtime = Handle;

    fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    fn finish(runtime: Handle, work: impl Future<Output = ()> + Send + 'static) {
        runtime.spawn(work);
    }
}
