//! A page's endpoint: WebRTC-direct to full nodes, one swarm for the life of the page.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use futures::{
    FutureExt as _, SinkExt as _, StreamExt as _,
    channel::{mpsc, oneshot},
    select,
};
use gloo_timers::future::TimeoutFuture;
pub use libp2p::Stream;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, SwarmBuilder, Transport as _,
    core::muxing::StreamMuxerBox,
    multiaddr::Protocol,
    ping,
    swarm::{
        NetworkBehaviour, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use libp2p_stream::Control;
use libp2p_webrtc_websys::{Config, Transport};

const DEADLINE_MS: u32 = 5_000;

#[derive(NetworkBehaviour)]
struct Behaviour {
    streams: libp2p_stream::Behaviour,
    ping: ping::Behaviour,
}

/// A page could not connect.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// This browser, or this context, has no WebRTC.
    #[error("this browser has no WebRTC")]
    NoWebRtc,
    /// The browser does not allow what WebRTC-direct does.
    #[error("this browser does not allow the peer-to-peer connection ({0})")]
    RefusedByBrowser(String),
    /// Nothing came back.
    #[error("no answer over WebRTC within 5 s; UDP seems blocked on this network")]
    TimedOut,
    /// Not an address.
    #[error("the node's address cannot be used: {0}")]
    BadAddress(String),
    /// Anything else.
    #[error("no WebRTC connection: {0}")]
    Unreachable(String),
}

impl DialError {
    /// A stable word.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoWebRtc => "no-webrtc",
            Self::RefusedByBrowser(_) => "refused-by-browser",
            Self::TimedOut => "timed-out",
            Self::BadAddress(_) => "bad-address",
            Self::Unreachable(_) => "unreachable",
        }
    }

    fn sort(text: String) -> Self {
        let has = |word: &str| text.contains(word);
        if has("SDP is modified")
            || has("InvalidModificationError")
            || has("Firefox does not support")
        {
            Self::RefusedByBrowser(text)
        } else if has("RTCPeerConnection is not defined") {
            Self::NoWebRtc
        } else {
            Self::Unreachable(text)
        }
    }
}

enum Command {
    Dial(PeerId, Multiaddr, oneshot::Sender<Result<(), String>>),
    Close(PeerId),
}

/// The page's endpoint.
#[derive(Clone)]
pub struct BrowserEndpoint {
    control: Control,
    commands: Rc<RefCell<mpsc::Sender<Command>>>,
}

impl BrowserEndpoint {
    /// Start. Call it once for a page: callbacks of a dropped swarm may still fire.
    ///
    /// # Errors
    ///
    /// [`DialError`] if the swarm cannot be made.
    pub fn new() -> Result<Self, DialError> {
        let failed = |e: String| DialError::Unreachable(e);
        let swarm = SwarmBuilder::with_new_identity()
            .with_wasm_bindgen()
            .with_other_transport(|key| {
                Transport::new(Config::new(key))
                    .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
            })
            .map_err(|e| failed(e.to_string()))?
            // Full nodes ping, and close a connection that does not answer.
            .with_behaviour(|_| Behaviour {
                streams: libp2p_stream::Behaviour::new(),
                ping: ping::Behaviour::default(),
            })
            .map_err(|e| failed(e.to_string()))?
            .with_swarm_config(|config| {
                config.with_idle_connection_timeout(std::time::Duration::from_secs(20))
            })
            .build();
        let control = swarm.behaviour().streams.new_control();
        let (commands, inbox) = mpsc::channel(16);
        wasm_bindgen_futures::spawn_local(drive(swarm, inbox));
        Ok(Self {
            control,
            commands: Rc::new(RefCell::new(commands)),
        })
    }

    /// Open a stream to the node at this WebRTC-direct address, within five seconds.
    ///
    /// # Errors
    ///
    /// [`DialError`] with the reason in plain words.
    pub async fn open(&self, address: &str, protocol: &'static str) -> Result<Stream, DialError> {
        let (peer, address) = parse(address)?;
        let work = async {
            let (done, answer) = oneshot::channel();
            let mut commands = self.commands.borrow().clone();
            let stopped = || DialError::Unreachable("the endpoint has stopped".into());
            commands
                .send(Command::Dial(peer, address, done))
                .await
                .map_err(|_| stopped())?;
            answer
                .await
                .map_err(|_| stopped())?
                .map_err(DialError::sort)?;
            let mut control = self.control.clone();
            control
                .open_stream(peer, StreamProtocol::new(protocol))
                .await
                .map_err(|e| DialError::Unreachable(e.to_string()))
        };
        select! {
            result = work.fuse() => result,
            () = TimeoutFuture::new(DEADLINE_MS).fuse() => {
                self.close_peer(peer).await;
                Err(DialError::TimedOut)
            }
        }
    }

    /// Close the connection to the node at this address.
    pub async fn close(&self, address: &str) {
        if let Ok((peer, _)) = parse(address) {
            self.close_peer(peer).await;
        }
    }

    async fn close_peer(&self, peer: PeerId) {
        let mut commands = self.commands.borrow().clone();
        let _ = commands.send(Command::Close(peer)).await;
    }
}

fn parse(address: &str) -> Result<(PeerId, Multiaddr), DialError> {
    let bad = || DialError::BadAddress(address.chars().take(200).collect());
    let parsed: Multiaddr = address.parse().map_err(|_| bad())?;
    let peer = parsed.iter().find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    });
    Ok((peer.ok_or_else(bad)?, parsed))
}

async fn drive(mut swarm: Swarm<Behaviour>, mut inbox: mpsc::Receiver<Command>) {
    let mut waiting: HashMap<PeerId, Vec<oneshot::Sender<Result<(), String>>>> = HashMap::new();
    loop {
        select! {
            command = inbox.next() => match command {
                None => return,
                Some(Command::Close(peer)) => { let _ = swarm.disconnect_peer_id(peer); }
                Some(Command::Dial(peer, address, done)) => {
                    if swarm.is_connected(&peer) {
                        let _ = done.send(Ok(()));
                        continue;
                    }
                    let options = DialOpts::peer_id(peer)
                        .condition(PeerCondition::NotDialing)
                        .addresses(vec![address])
                        .build();
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
                    for done in waiting.remove(&peer_id).unwrap_or_default() {
                        let _ = done.send(Ok(()));
                    }
                }
                SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                    for done in waiting.remove(&peer).unwrap_or_default() {
                        let _ = done.send(Err(format!("{error:?}")));
                    }
                }
                _ => {}
            },
        }
    }
}
