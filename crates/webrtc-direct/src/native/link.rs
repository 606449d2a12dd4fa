//! One remote's packets, as the connection that DTLS runs over.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
};
use webrtc_util::{Conn, Error, Result};

use super::guard::Records;
use crate::failure::Failure;

/// Packets that wait for DTLS; more are dropped, as a network drops them.
const INBOUND: usize = 512;

/// A remote, seen from the socket that it shares with others.
pub(crate) struct Link {
    socket: Arc<UdpSocket>,
    remote: Mutex<SocketAddr>,
    deliver: mpsc::Sender<Bytes>,
    inbound: tokio::sync::Mutex<mpsc::Receiver<Bytes>>,
    end: watch::Sender<Option<Failure>>,
    established: AtomicBool,
    records: Mutex<Records>,
}

impl Link {
    pub(crate) fn new(socket: Arc<UdpSocket>, remote: SocketAddr) -> Self {
        let (deliver, inbound) = mpsc::channel(INBOUND);
        Self {
            socket,
            deliver,
            remote: Mutex::new(remote),
            inbound: tokio::sync::Mutex::new(inbound),
            end: watch::Sender::new(None),
            established: AtomicBool::new(false),
            records: Mutex::default(),
        }
    }

    /// A packet has come from the other side, or from somebody who sends from its address; false if DTLS does not
    /// get to see it.
    pub(crate) fn deliver(&self, packet: &[u8]) -> bool {
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        let admitted = records.admit(packet, self.is_established());
        if admitted {
            let _ = self.deliver.try_send(Bytes::copy_from_slice(packet));
        }
        admitted
    }

    /// Where the remote sends from.
    pub(crate) fn remote(&self) -> SocketAddr {
        *self.remote.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The remote sends from there now.
    pub(crate) fn moved(&self, remote: SocketAddr) {
        *self.remote.lock().unwrap_or_else(PoisonError::into_inner) = remote;
    }

    /// The handshake is done.
    pub(crate) fn establish(&self) {
        self.established.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_established(&self) -> bool {
        self.established.load(Ordering::Relaxed)
    }

    /// Ends the link; the first reason stays.
    pub(crate) fn end(&self, why: Failure) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            if first {
                *end = Some(why);
            }
            first
        });
    }

    /// Why it has ended, if it has.
    pub(crate) fn why(&self) -> Option<Failure> {
        self.end.borrow().clone()
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.end.borrow().is_some()
    }

    /// Waits for the end and says why.
    pub(crate) async fn ended(&self) -> Failure {
        let mut end = self.end.subscribe();
        let why = end.wait_for(Option::is_some).await;
        why.ok()
            .and_then(|why| why.clone())
            .unwrap_or(Failure::Closed)
    }
}

#[async_trait]
impl Conn for Link {
    async fn connect(&self, _: SocketAddr) -> Result<()> {
        Err(Error::Other("a link is connected".to_owned()))
    }

    async fn recv(&self, buf: &mut [u8]) -> Result<usize> {
        // Waits for ever after the end: the DTLS reader takes an error for a bad packet and asks again
        // at once; it is ended by whoever saw the link end.
        let Some(packet) = self.inbound.lock().await.recv().await else {
            return std::future::pending().await;
        };
        let n = buf.len().min(packet.len());
        if let (Some(to), Some(from)) = (buf.get_mut(..n), packet.get(..n)) {
            to.copy_from_slice(from);
        }
        Ok(n)
    }

    async fn recv_from(&self, buf: &mut [u8]) -> Result<(usize, SocketAddr)> {
        Ok((self.recv(buf).await?, self.remote()))
    }

    async fn send(&self, buf: &[u8]) -> Result<usize> {
        Ok(self.socket.send_to(buf, self.remote()).await?)
    }

    async fn send_to(&self, buf: &[u8], _: SocketAddr) -> Result<usize> {
        self.send(buf).await
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.socket.local_addr()?)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        Some(self.remote())
    }

    async fn close(&self) -> Result<()> {
        self.end(Failure::Closed);
        Ok(())
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}
