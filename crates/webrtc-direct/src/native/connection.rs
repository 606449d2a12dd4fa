//! A connection: streams over the data channels of one SCTP association.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, Fuse},
    stream::FuturesUnordered,
};
use libp2p_core::muxing::{StreamMuxer, StreamMuxerEvent};
use tokio::runtime::Handle;
use webrtc_data::data_channel::{Config as ChannelConfig, DataChannel};
use webrtc_sctp::{association::Association, stream::Stream as SctpStream};

use super::{
    channel::{Counted, SctpChannel},
    driver::Driver,
    handshake::Identity,
    limits::{Counts, Limits},
    link::Link,
};
use crate::{failure::Failure, stream::Stream};

/// How long closing may take; the other side may be gone.
const CLOSING: Duration = Duration::from_secs(2);
/// Highest stream identifier (RFC 8832, section 6).
const LAST: u16 = 65_534;

/// A connection to a peer.
pub struct Connection {
    association: Arc<Association>,
    link: Arc<Link>,
    limits: Limits,
    counts: Arc<Counts>,
    streams: Arc<()>,
    next: u16,
    accepting: Option<BoxFuture<'static, Option<Arc<SctpStream>>>>,
    opening: FuturesUnordered<BoxFuture<'static, Option<DataChannel>>>,
    outbound: Option<BoxFuture<'static, Result<DataChannel, Failure>>>,
    ending: Fuse<BoxFuture<'static, Failure>>,
    closing: Option<BoxFuture<'static, ()>>,
    runtime: Handle,
    driver: Driver,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("remote", &self.link.remote())
            .field("streams", &Counted::number(&self.streams))
            .finish_non_exhaustive()
    }
}

impl Connection {
    pub(crate) fn new(
        association: Arc<Association>,
        link: Arc<Link>,
        identity: &Identity,
        is_client: bool,
        runtime: Handle,
    ) -> Self {
        let ending = {
            let link = link.clone();
            async move { link.ended().await }.boxed().fuse()
        };
        Self {
            association,
            link,
            limits: identity.limits,
            counts: identity.counts.clone(),
            streams: Arc::new(()),
            // The DTLS client opens even streams, the server odd ones; 0 was the handshake's.
            next: if is_client { 2 } else { 1 },
            accepting: None,
            opening: FuturesUnordered::new(),
            outbound: None,
            ending,
            closing: None,
            runtime,
            driver: identity.driver.clone(),
        }
    }

    pub(crate) fn streams(&self) -> Arc<()> {
        self.streams.clone()
    }

    fn stream(&self, channel: DataChannel) -> Stream<SctpChannel> {
        let counted = Counted::new(self.counts.clone(), self.streams.clone());
        Stream::new(SctpChannel::new(channel, counted, self.runtime.clone()))
    }

    /// Takes in streams of the other side that say nothing yet.
    fn poll_accept(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        loop {
            let association = &self.association;
            let accepting = self.accepting.get_or_insert_with(|| {
                let association = association.clone();
                async move { association.accept_stream().await }.boxed()
            });
            let stream = ready!(accepting.as_mut().poll(cx));
            self.accepting = None;
            let Some(stream) = stream else {
                return Poll::Ready(Failure::Closed);
            };
            let open = Counted::number(&self.streams) + self.opening.len();
            if open >= self.limits.streams_per_connection {
                Counts::add(&self.counts.refused_streams);
                self.runtime.spawn(async move {
                    let _ = stream.shutdown(std::net::Shutdown::Both).await;
                });
                continue;
            }
            let (time, counts) = (self.limits.opening_time, self.counts.clone());
            self.opening.push(
                async move {
                    let opening = DataChannel::server(stream.clone(), ChannelConfig::default());
                    match tokio::time::timeout(time, opening).await {
                        Ok(Ok(channel)) => Some(channel),
                        _ => {
                            Counts::add(&counts.refused_streams);
                            let _ = stream.shutdown(std::net::Shutdown::Both).await;
                            None
                        }
                    }
                }
                .boxed(),
            );
        }
    }

    fn poll_outbound_channel(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<DataChannel, Failure>> {
        let (association, next) = (&self.association, &mut self.next);
        let outbound = self.outbound.get_or_insert_with(|| {
            let association = association.clone();
            let first = *next;
            async move {
                let mut id = first;
                loop {
                    match DataChannel::dial(&association, id, ChannelConfig::default()).await {
                        Ok(channel) => return Ok(channel),
                        // One that was opened long ago and is open still, or being closed.
                        Err(webrtc_data::Error::Sctp(
                            webrtc_sctp::Error::ErrStreamAlreadyExist,
                        )) => {
                            id = after(id);
                            if id == first {
                                let why = "no stream identifier is free";
                                return Err(Failure::System(why.to_owned()));
                            }
                        }
                        Err(error) => return Err(Failure::Protocol(error.to_string())),
                    }
                }
            }
            .boxed()
        });
        let result = ready!(outbound.as_mut().poll(cx));
        self.outbound = None;
        if let Ok(channel) = &result {
            self.next = after(channel.stream_identifier());
        }
        Poll::Ready(result)
    }
}

fn after(id: u16) -> u16 {
    // Identifier 0 is the handshake's and is not used again.
    if id >= LAST - 1 { 2 - id % 2 } else { id + 2 }
}

async fn close(association: Arc<Association>, link: Arc<Link>) {
    // Closes DTLS first, which tells the other side.
    if tokio::time::timeout(CLOSING, association.close())
        .await
        .is_err()
    {
        tracing::debug!("a connection took too long to close");
    }
    link.end(Failure::Closed);
}

impl StreamMuxer for Connection {
    type Substream = Stream<SctpChannel>;
    type Error = Failure;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream<SctpChannel>, Failure>> {
        loop {
            if let Poll::Ready(why) = self.poll_accept(cx) {
                return Poll::Ready(Err(why));
            }
            match self.opening.poll_next_unpin(cx) {
                Poll::Ready(Some(Some(channel))) => {
                    return Poll::Ready(Ok(self.stream(channel)));
                }
                Poll::Ready(Some(None)) => {}
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Stream<SctpChannel>, Failure>> {
        let channel = ready!(self.poll_outbound_channel(cx))?;
        Poll::Ready(Ok(self.stream(channel)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        let (association, link) = (self.association.clone(), self.link.clone());
        let closing = self
            .closing
            .get_or_insert_with(|| close(association, link).boxed());
        ready!(closing.as_mut().poll(cx));
        Poll::Ready(Ok(()))
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Failure>> {
        Poll::Ready(Err(ready!(self.ending.poll_unpin(cx))))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.counts
            .failed(&self.link.why().unwrap_or(Failure::Closed));
        // Held until that is done, or the thread may end before.
        let driver = self.driver.clone();
        let closing = close(self.association.clone(), self.link.clone());
        self.runtime.spawn(async move {
            closing.await;
            drop(driver);
        });
    }
}
