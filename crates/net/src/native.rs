//! A native node's endpoint: WebRTC-direct, QUIC and TCP on one swarm, driven by one task.
#![allow(clippy::disallowed_methods, reason = "a driver reads the clock")]

use std::{
    collections::{HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

pub use defim_webrtc_direct::native::Counts as WebRtcCounts;
use defim_webrtc_direct::native::{self as webrtc, Certificate};
use futures::{AsyncWriteExt as _, StreamExt as _};
pub use libp2p::Stream;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, Transport as _, connection_limits,
    core::{muxing::StreamMuxerBox, transport::ListenerId},
    identity::{Keypair, PublicKey, ed25519},
    multiaddr::Protocol,
    noise, ping,
    swarm::{
        NetworkBehaviour, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
    tcp, yamux,
};
use libp2p_stream::Control;
use tokio::sync::{mpsc, oneshot};

use crate::{Frame, FrameError, read_frame, write_frame};

const IDLE: Duration = Duration::from_secs(60);
const PING: Duration = Duration::from_secs(5);
const ANSWER_BYTES: usize = 256 * 1024 * 1024;

/// What an endpoint listens on and how much it takes.
#[derive(Debug, Clone, Default)]
pub struct EndpointConfig {
    /// The node's ed25519 secret; its peer id follows.
    pub identity_seed: [u8; 32],
    /// QUIC (UDP).
    pub quic: Option<SocketAddr>,
    /// TCP.
    pub tcp: Option<SocketAddr>,
    /// WebRTC-direct (UDP).
    pub webrtc: Option<SocketAddr>,
    /// Certificate and key of WebRTC-direct; part of the address, so keep it. Made if there is none.
    pub webrtc_certificate_pem: Option<String>,
    /// Bounds.
    pub limits: Limits,
}

/// Bounds on what others may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections in all.
    pub connections: u32,
    /// Connections of one peer.
    pub connections_per_peer: u32,
    /// Handshakes in progress.
    pub pending: u32,
    /// What browsers may take of the WebRTC listener.
    pub webrtc: webrtc::Limits,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_peer: 8,
            pending: 1024,
            webrtc: webrtc::Limits::default(),
        }
    }
}

/// What can go wrong between nodes.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// An address cannot be used.
    #[error("the address {0} cannot be used")]
    Address(String),
    /// Listening failed.
    #[error("cannot listen on {address}: {why}; stop what uses the port, or choose another")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        why: String,
    },
    /// The certificate cannot be read.
    #[error(
        "the WebRTC certificate cannot be used: {0}; remove it to make a new one (the node's address changes)"
    )]
    Certificate(String),
    /// The other node cannot be reached.
    #[error("no connection to {addresses}: {why}")]
    Unreachable {
        /// Its addresses.
        addresses: String,
        /// Why.
        why: String,
    },
    /// The other node does not answer in time.
    #[error("no answer within {0:?}")]
    Deadline(Duration),
    /// The stream failed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The endpoint is stopped.
    #[error("the endpoint has stopped")]
    Stopped,
}

#[derive(NetworkBehaviour)]
struct Behaviour {
    streams: libp2p_stream::Behaviour,
    ping: ping::Behaviour,
    limits: connection_limits::Behaviour,
}

struct Dial {
    peer: PeerId,
    addresses: Vec<Multiaddr>,
    done: oneshot::Sender<Result<(), String>>,
}

enum Command {
    Dial(Dial),
    Close(PeerId),
}

/// A handle on the endpoint; clones share it.
#[derive(Clone)]
pub struct Endpoint {
    control: Control,
    commands: mpsc::Sender<Command>,
    addresses: Arc<Vec<String>>,
    certificate: Option<Arc<String>>,
    webrtc: Arc<WebRtcCounts>,
    key: [u8; 32],
}

/// Streams that others open.
pub struct Incoming(libp2p_stream::IncomingStreams);

impl Incoming {
    /// The next stream, with the ed25519 key of who opened it.
    pub async fn next(&mut self) -> Option<([u8; 32], Stream)> {
        loop {
            let (peer, stream) = self.0.next().await?;
            if let Some(key) = peer_key(&peer) {
                return Some((key, stream));
            }
        }
    }
}

/// The ed25519 key that a peer id carries.
fn peer_key(peer: &PeerId) -> Option<[u8; 32]> {
    let bytes = peer.to_bytes();
    // An ed25519 peer id is the identity multihash (0x00) of the key's protobuf.
    let protobuf = bytes.get(2..)?;
    Some(
        PublicKey::try_decode_protobuf(protobuf)
            .ok()?
            .try_into_ed25519()
            .ok()?
            .to_bytes(),
    )
}

fn peer_id(key: &[u8; 32]) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(key).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The addresses of a node with this seed that listens there with QUIC and TCP.
///
/// # Errors
///
/// [`NetError`] if the seed gives no key.
pub fn address_of(
    seed: &[u8; 32],
    quic: SocketAddr,
    tcp: SocketAddr,
) -> Result<Vec<String>, NetError> {
    let mut seed = *seed;
    let keypair =
        Keypair::ed25519_from_bytes(&mut seed).map_err(|e| NetError::Address(e.to_string()))?;
    let peer = Protocol::P2p(keypair.public().to_peer_id());
    Ok(vec![
        listen_address(quic, true, &[Protocol::QuicV1, peer.clone()]).to_string(),
        listen_address(tcp, false, &[peer]).to_string(),
    ])
}

/// What an error says, or what is behind it: transports wrap the system's word in errors that say
/// nothing themselves.
fn reason(error: &dyn std::error::Error) -> String {
    let mut at = Some(error);
    while let Some(error) = at {
        let text = error.to_string();
        if !text.is_empty() {
            return text;
        }
        at = error.source();
    }
    format!("{error:?}")
}

fn listen_address(at: SocketAddr, udp: bool, rest: &[Protocol<'static>]) -> Multiaddr {
    let ip = match at.ip() {
        IpAddr::V4(ip) => Protocol::Ip4(ip),
        IpAddr::V6(ip) => Protocol::Ip6(ip),
    };
    let port = if udp {
        Protocol::Udp(at.port())
    } else {
        Protocol::Tcp(at.port())
    };
    [ip, port].into_iter().chain(rest.iter().cloned()).collect()
}

impl Endpoint {
    /// Start listening; returns once every listener has its address.
    ///
    /// # Errors
    ///
    /// [`NetError`] if an address is taken or the certificate cannot be used.
    pub async fn start(config: EndpointConfig) -> Result<Self, NetError> {
        // WebRTC's DTLS asks for the process's provider; two are linked, so that rustls cannot choose.
        // An error means that one is set already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut seed = config.identity_seed;
        let keypair =
            Keypair::ed25519_from_bytes(&mut seed).map_err(|e| NetError::Address(e.to_string()))?;
        let key = keypair
            .public()
            .try_into_ed25519()
            .map_err(|e| NetError::Address(e.to_string()))?
            .to_bytes();
        let own = keypair.public().to_peer_id();
        let certificate = match &config.webrtc_certificate_pem {
            Some(pem) => {
                Certificate::from_pem(pem).map_err(|e| NetError::Certificate(e.to_string()))?
            }
            None => Certificate::generate().map_err(|e| NetError::Certificate(e.to_string()))?,
        };
        let pem = config.webrtc.map(|_| Arc::new(certificate.to_pem()));
        let limits = config.limits;
        let transport = webrtc::Transport::new(keypair.clone(), certificate, limits.webrtc)
            .map_err(|e| NetError::Address(e.to_string()))?;
        let webrtc = transport.counts();
        let mut swarm = build(keypair, transport, limits)?;
        let mut wanted = HashMap::<ListenerId, String>::new();
        let addresses = [
            config
                .quic
                .map(|at| listen_address(at, true, &[Protocol::QuicV1])),
            config.tcp.map(|at| listen_address(at, false, &[])),
            config
                .webrtc
                .map(|at| listen_address(at, true, &[Protocol::WebRTCDirect])),
        ];
        for address in addresses.into_iter().flatten() {
            let text = address.to_string();
            let id = swarm.listen_on(address).map_err(|e| NetError::Listen {
                address: text.clone(),
                why: reason(&e),
            })?;
            wanted.insert(id, text);
        }
        let mut found = Vec::new();
        while !wanted.is_empty() {
            match swarm.select_next_some().await {
                SwarmEvent::NewListenAddr {
                    listener_id,
                    address,
                } => {
                    wanted.remove(&listener_id);
                    found.push(address.with(Protocol::P2p(own)).to_string());
                }
                SwarmEvent::ListenerError { listener_id, error } => {
                    let address = wanted.remove(&listener_id).unwrap_or_default();
                    return Err(NetError::Listen {
                        address,
                        why: reason(&error),
                    });
                }
                SwarmEvent::ListenerClosed {
                    listener_id,
                    reason,
                    ..
                } => {
                    let address = wanted.remove(&listener_id).unwrap_or_default();
                    return Err(NetError::Listen {
                        address,
                        why: match reason {
                            Ok(()) => "it was closed at once".to_owned(),
                            Err(error) => self::reason(&error),
                        },
                    });
                }
                _ => {}
            }
        }
        let control = swarm.behaviour().streams.new_control();
        let (commands, inbox) = mpsc::channel(64);
        tokio::spawn(drive(swarm, inbox));
        Ok(Self {
            control,
            commands,
            addresses: Arc::new(found),
            certificate: pem,
            webrtc,
            key,
        })
    }

    /// Where this endpoint listens, peer id and certificate hash included.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The WebRTC certificate with its key, to be kept.
    pub fn webrtc_certificate_pem(&self) -> Option<&str> {
        self.certificate.as_ref().map(|pem| pem.as_str())
    }

    /// What the WebRTC listener has seen.
    pub fn webrtc_counts(&self) -> &WebRtcCounts {
        &self.webrtc
    }

    /// This node's ed25519 key.
    pub fn node_key(&self) -> [u8; 32] {
        self.key
    }

    /// Take streams of this protocol.
    ///
    /// # Errors
    ///
    /// [`NetError::Stopped`] if the protocol is taken already.
    pub fn accept(&self, protocol: &'static str) -> Result<Incoming, NetError> {
        let mut control = self.control.clone();
        control
            .accept(StreamProtocol::new(protocol))
            .map(Incoming)
            .map_err(|_| NetError::Stopped)
    }

    /// Open a stream to a node, over a connection that is there or a new one.
    ///
    /// # Errors
    ///
    /// [`NetError::Unreachable`] with the addresses and the reason, [`NetError::Deadline`].
    pub async fn open(
        &self,
        node: [u8; 32],
        addresses: &[String],
        protocol: &'static str,
        deadline: Duration,
    ) -> Result<Stream, NetError> {
        let peer = peer_id(&node).ok_or_else(|| NetError::Address(addresses.join(", ")))?;
        let unreachable = |why: String| NetError::Unreachable {
            addresses: addresses.join(", "),
            why,
        };
        let work = async {
            self.dial(peer, addresses).await?;
            let mut control = self.control.clone();
            match control
                .open_stream(peer, StreamProtocol::new(protocol))
                .await
            {
                Ok(stream) => Ok(stream),
                Err(first) => {
                    // The connection may be that of a process that is gone: drop it and dial anew.
                    tracing::debug!(%first, "stream failed, dialling again");
                    self.commands
                        .send(Command::Close(peer))
                        .await
                        .map_err(|_| NetError::Stopped)?;
                    self.dial(peer, addresses).await?;
                    control
                        .open_stream(peer, StreamProtocol::new(protocol))
                        .await
                        .map_err(|e| unreachable(e.to_string()))
                }
            }
        };
        tokio::time::timeout(deadline, work)
            .await
            .map_err(|_| NetError::Deadline(deadline))?
    }

    async fn dial(&self, peer: PeerId, addresses: &[String]) -> Result<(), NetError> {
        let parsed = addresses
            .iter()
            .map(|text| text.parse().map_err(|_| NetError::Address(text.clone())))
            .collect::<Result<Vec<Multiaddr>, _>>()?;
        let (done, answer) = oneshot::channel();
        self.commands
            .send(Command::Dial(Dial {
                peer,
                addresses: parsed,
                done,
            }))
            .await
            .map_err(|_| NetError::Stopped)?;
        answer
            .await
            .map_err(|_| NetError::Stopped)?
            .map_err(|why| NetError::Unreachable {
                addresses: addresses.join(", "),
                why,
            })
    }

    /// Ask another node: one frame out, one frame back.
    ///
    /// # Errors
    ///
    /// [`NetError`].
    pub async fn request(
        &self,
        node: [u8; 32],
        addresses: &[String],
        protocol: &'static str,
        frame: Frame,
        deadline: Duration,
    ) -> Result<Frame, NetError> {
        let work = async {
            let mut stream = self.open(node, addresses, protocol, deadline).await?;
            write_frame(&mut stream, &frame).await?;
            let answer = read_frame(&mut stream, |_| Some(ANSWER_BYTES)).await?;
            let _ = stream.close().await;
            Ok(answer)
        };
        tokio::time::timeout(deadline, work)
            .await
            .map_err(|_| NetError::Deadline(deadline))?
    }
}

fn build(
    keypair: Keypair,
    webrtc: webrtc::Transport,
    limits: Limits,
) -> Result<Swarm<Behaviour>, NetError> {
    let failed = |e: &dyn std::fmt::Display| NetError::Address(e.to_string());
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_established(Some(limits.connections))
        .with_max_established_per_peer(Some(limits.connections_per_peer))
        .with_max_pending_incoming(Some(limits.pending));
    let builder = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(
            tcp::Config::default().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )
        .map_err(|e| failed(&e))?
        .with_quic()
        .with_other_transport(|_| {
            webrtc.map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
        })
        .map_err(|e| failed(&e))?
        .with_behaviour(|_| Behaviour {
            streams: libp2p_stream::Behaviour::new(),
            ping: ping::Behaviour::new(ping::Config::new().with_interval(PING).with_timeout(PING)),
            limits: connection_limits::Behaviour::new(limits),
        })
        .map_err(|e| failed(&e))?;
    Ok(builder
        .with_swarm_config(|config| config.with_idle_connection_timeout(IDLE))
        .build())
}

async fn drive(mut swarm: Swarm<Behaviour>, mut inbox: mpsc::Receiver<Command>) {
    let mut waiting: HashMap<PeerId, Vec<oneshot::Sender<Result<(), String>>>> = HashMap::new();
    let connected: Mutex<HashSet<PeerId>> = Mutex::default();
    let connected = || connected.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        tokio::select! {
            command = inbox.recv() => match command {
                None => return,
                Some(Command::Close(peer)) => {
                    let _ = swarm.disconnect_peer_id(peer);
                    connected().remove(&peer);
                }
                Some(Command::Dial(Dial { peer, addresses, done })) => {
                    if connected().contains(&peer) {
                        let _ = done.send(Ok(()));
                        continue;
                    }
                    let options = DialOpts::peer_id(peer).condition(PeerCondition::NotDialing).addresses(addresses).build();
                    match swarm.dial(options) {
                        Ok(()) | Err(libp2p::swarm::DialError::DialPeerConditionFalse(_)) => {
                            waiting.entry(peer).or_default().push(done);
                        }
                        Err(error) => { let _ = done.send(Err(error.to_string())); }
                    }
                }
            },
            event = swarm.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } => {
                    connected().insert(peer_id);
                    for done in waiting.remove(&peer_id).unwrap_or_default() {
                        let _ = done.send(Ok(()));
                    }
                }
                SwarmEvent::ConnectionClosed { peer_id, num_established: 0, .. } => {
                    connected().remove(&peer_id);
                }
                SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                    for done in waiting.remove(&peer).unwrap_or_default() {
                        let _ = done.send(Err(error.to_string()));
                    }
                }
                // A peer without the ping protocol is not a peer that is gone.
                SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event { peer, result: Err(failure), .. }))
                    if !matches!(failure, ping::Failure::Unsupported) =>
                {
                    tracing::debug!(%peer, %failure, "no answer to a ping");
                    let _ = swarm.disconnect_peer_id(peer);
                }
                _ => {}
            },
        }
    }
}
