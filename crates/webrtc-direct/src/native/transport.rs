//! The libp2p transport of native nodes.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use futures::{FutureExt as _, Stream as _, future::BoxFuture};
use if_watch::{IfEvent, tokio::IfWatcher};
use libp2p_core::{
    Multiaddr,
    multiaddr::Protocol,
    transport::{DialOpts, ListenerId, TransportError, TransportEvent},
};
use libp2p_identity::{Keypair, PeerId};
use libp2p_webrtc_utils::{Fingerprint, parse_webrtc_dial_addr};
use socket2::SockRef;
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
};

use super::{
    certificate::Certificate,
    connection::Connection,
    driver::{Driver, Tasks},
    handshake::{Identity, Way, upgrade},
    limits::{Counts, Limits},
    mux::{self, Arrival},
};
use crate::{credentials::Version, failure::Failure};

/// WebRTC-direct over UDP. Needs a Tokio runtime.
pub struct Transport {
    identity: Identity,
    version: Version,
    listeners: Vec<Listener>,
    events: VecDeque<Event>,
    waker: Option<Waker>,
}

type Output = (PeerId, Connection);
type Upgrade = BoxFuture<'static, Result<Output, Failure>>;
type Event = TransportEvent<Upgrade, Failure>;

impl Transport {
    /// A transport for the holder of `keypair`, which shows `certificate` to everybody.
    ///
    /// # Errors
    ///
    /// Those of the system, if it gives no thread.
    pub fn new(keypair: Keypair, certificate: Certificate, limits: Limits) -> io::Result<Self> {
        Ok(Self {
            identity: Identity {
                keypair,
                certificate,
                limits,
                counts: Arc::default(),
                driver: Driver::start()?,
            },
            version: Version::default(),
            listeners: Vec::new(),
            events: VecDeque::new(),
            waker: None,
        })
    }

    /// Dials with this version; listeners take both.
    #[must_use]
    pub fn dialing(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// What this transport has seen.
    pub fn counts(&self) -> Arc<Counts> {
        self.identity.counts.clone()
    }

    /// The tasks that serve its connections.
    pub fn tasks(&self) -> Tasks {
        Tasks::of(&self.identity.driver)
    }

    fn tell(&mut self, event: Event) {
        self.events.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl libp2p_core::Transport for Transport {
    type Output = Output;
    type Error = Failure;
    type ListenerUpgrade = Upgrade;
    type Dial = Upgrade;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Failure>> {
        let at = listen_address(&address).ok_or(TransportError::MultiaddrNotSupported(address))?;
        let listener = Listener::start(id, at, &self.identity)
            .map_err(|e| TransportError::Other(Failure::from(e)))?;
        if !listener.local.ip().is_unspecified() {
            let listen_addr = listener.address(listener.local.ip());
            self.tell(TransportEvent::NewAddress {
                listener_id: id,
                listen_addr,
            });
        }
        self.listeners.push(listener);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        let before = self.listeners.len();
        self.listeners.retain(|listener| listener.id != id);
        let removed = self.listeners.len() < before;
        if removed {
            self.tell(TransportEvent::ListenerClosed {
                listener_id: id,
                reason: Ok(()),
            });
        }
        removed
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Upgrade, TransportError<Failure>> {
        let Some((at, server)) = parse_webrtc_dial_addr(&address)
            .filter(|(at, _)| at.port() != 0 && !at.ip().is_unspecified())
            .filter(|_| !options.role.is_listener())
        else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let (identity, version) = (self.identity.clone(), self.version);
        let way = Way::Dial {
            at,
            version,
            server,
        };
        Ok(upgrade(way, identity).boxed())
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Event> {
        if let Some(event) = self.events.pop_front() {
            return Poll::Ready(event);
        }
        let this = &mut *self;
        for listener in &mut this.listeners {
            if let Poll::Ready(event) = listener.poll(&this.identity, cx) {
                return Poll::Ready(event);
            }
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

/// Bytes of packets that wait to be read from a listener's socket.
const RECEIVE_BUFFER: usize = 4 << 20;

struct Listener {
    id: ListenerId,
    local: SocketAddr,
    fingerprint: Fingerprint,
    arrivals: mpsc::Receiver<Arrival>,
    /// Of all interfaces, where the socket listens on all.
    interfaces: Option<IfWatcher>,
    _stop: watch::Sender<()>,
}

impl Listener {
    fn start(id: ListenerId, at: SocketAddr, identity: &Identity) -> io::Result<Self> {
        let socket = std::net::UdpSocket::bind(at)?;
        socket.set_nonblocking(true)?;
        // As much as the system gives: all connections' packets come through here.
        SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER)?;
        let runtime = identity.driver.next();
        let socket = {
            let _inside = runtime.enter();
            UdpSocket::from_std(socket)?
        };
        let local = socket.local_addr()?;
        let interfaces = if local.ip().is_unspecified() {
            Some(IfWatcher::new()?)
        } else {
            None
        };
        let (stop, stopped) = watch::channel(());
        let arrivals = mux::run(
            socket,
            identity.limits,
            identity.counts.clone(),
            stopped,
            &runtime,
        );
        Ok(Self {
            id,
            local,
            fingerprint: identity.certificate.fingerprint(),
            arrivals,
            interfaces,
            _stop: stop,
        })
    }

    fn address(&self, ip: IpAddr) -> Multiaddr {
        multiaddress(SocketAddr::new(ip, self.local.port()))
            .with(Protocol::Certhash(self.fingerprint.to_multihash()))
    }

    fn poll(&mut self, identity: &Identity, cx: &mut Context<'_>) -> Poll<Event> {
        while let Some(interfaces) = &mut self.interfaces {
            let Poll::Ready(Some(event)) = Pin::new(interfaces).poll_next(cx) else {
                break;
            };
            let listener_id = self.id;
            let same = |ip: IpAddr| ip.is_ipv4() == self.local.is_ipv4();
            return Poll::Ready(match event {
                Ok(IfEvent::Up(net)) if same(net.addr()) => TransportEvent::NewAddress {
                    listener_id,
                    listen_addr: self.address(net.addr()),
                },
                Ok(IfEvent::Down(net)) if same(net.addr()) => TransportEvent::AddressExpired {
                    listener_id,
                    listen_addr: self.address(net.addr()),
                },
                Ok(_) => continue,
                Err(error) => TransportEvent::ListenerError {
                    listener_id,
                    error: error.into(),
                },
            });
        }
        let Poll::Ready(arrival) = self.arrivals.poll_recv(cx) else {
            return Poll::Pending;
        };
        // The socket's task ends with the listener.
        let Some(Arrival { remote, link }) = arrival else {
            return Poll::Pending;
        };
        Poll::Ready(TransportEvent::Incoming {
            listener_id: self.id,
            upgrade: upgrade(Way::Arrived(link), identity.clone()).boxed(),
            local_addr: self.address(self.local.ip()),
            send_back_addr: multiaddress(remote),
        })
    }
}

fn multiaddress(at: SocketAddr) -> Multiaddr {
    Multiaddr::empty()
        .with(at.ip().into())
        .with(Protocol::Udp(at.port()))
        .with(Protocol::WebRTCDirect)
}

fn listen_address(address: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::from(ip),
        Protocol::Ip6(ip) => IpAddr::from(ip),
        _ => return None,
    };
    let Protocol::Udp(port) = parts.next()? else {
        return None;
    };
    if parts.next()? != Protocol::WebRTCDirect || parts.next().is_some() {
        return None;
    }
    Some(SocketAddr::new(ip, port))
}
