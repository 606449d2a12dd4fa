//! A page's endpoint: WebRTC-direct to full nodes, one swarm for the life of the page.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use defim_webrtc_direct::{Failure, browser::Transport};
use futures::{
    FutureExt as _, SinkExt as _, StreamExt as _,
    channel::{mpsc, oneshot},
    select,
};
use gloo_timers::future::TimeoutFuture;
pub use libp2p::Stream;
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm, Transport as _,
    core::muxing::StreamMuxerBox,
    identity::Keypair,
    multiaddr::Protocol,
    ping,
    swarm::{
        NetworkBehaviour, SwarmEvent,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use libp2p_stream::Control;

const DEADLINE_MS: u32 = 5_000;
/// The transport gives up a little earlier, and says why.
const HANDSHAKE: std::time::Duration = std::time::Duration::from_millis(4_800);

#[derive(NetworkBehaviour)]
struct Behaviour {
    streams: libp2p_stream::Behaviour,
    ping: ping::Behaviour,
}

/// What failed, if a transport said so: it is inside of what the layers above make of it.
fn sort(error: &libp2p::swarm::DialError) -> Failure {
    use libp2p::{TransportError, swarm::DialError};
    match error {
        DialError::WrongPeerId { .. } => Failure::NotAuthentic("it has another key".to_owned()),
        DialError::Transport(tried) => tried
            .iter()
            .find_map(|(address, error)| match error {
                TransportError::MultiaddrNotSupported(_) => {
                    Some(Failure::BadAddress(address.to_string()))
                }
                TransportError::Other(error) => inside(error),
            })
            .unwrap_or_else(|| Failure::System(error.to_string())),
        other => Failure::System(other.to_string()),
    }
}

fn inside(error: &(dyn std::error::Error + 'static)) -> Option<Failure> {
    if let Some(failure) = error.downcast_ref::<Failure>() {
        return Some(failure.clone());
    }
    let within = match error.downcast_ref::<std::io::Error>() {
        Some(error) => error
            .get_ref()
            .map(|e| e as &(dyn std::error::Error + 'static)),
        None => error.source(),
    };
    inside(within?)
}

enum Command {
    Dial(PeerId, Multiaddr, oneshot::Sender<Result<(), Failure>>),
    Close(PeerId),
}

/// The page's endpoint.
#[derive(Clone)]
pub struct BrowserEndpoint {
    control: Control,
    commands: Rc<RefCell<mpsc::Sender<Command>>>,
}

impl BrowserEndpoint {
    /// Starts. Call it once for a page: callbacks of a dropped swarm may still fire.
    #[allow(clippy::new_without_default, reason = "it starts a task")]
    pub fn new() -> Self {
        let keypair = Keypair::generate_ed25519();
        let peer = keypair.public().to_peer_id();
        let transport = Transport::new(keypair)
            .within(HANDSHAKE)
            .map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
            .boxed();
        // Full nodes ping, and close a connection that does not answer.
        let behaviour = Behaviour {
            streams: libp2p_stream::Behaviour::new(),
            ping: ping::Behaviour::default(),
        };
        let config = libp2p::swarm::Config::with_wasm_executor()
            .with_idle_connection_timeout(std::time::Duration::from_secs(20));
        let swarm = Swarm::new(transport, behaviour, peer, config);
        let control = swarm.behaviour().streams.new_control();
        let (commands, inbox) = mpsc::channel(16);
        wasm_bindgen_futures::spawn_local(drive(swarm, inbox));
        Self {
            control,
            commands: Rc::new(RefCell::new(commands)),
        }
    }

    /// Open a stream to the node at this WebRTC-direct address, within five seconds.
    ///
    /// # Errors
    ///
    /// [`Failure`] with the reason in plain words.
    pub async fn open(&self, address: &str, protocol: &'static str) -> Result<Stream, Failure> {
        let (peer, address) = parse(address)?;
        let work = async {
            let (done, answer) = oneshot::channel();
            let mut commands = self.commands.borrow().clone();
            let stopped = || Failure::System("the endpoint has stopped".into());
            commands
                .send(Command::Dial(peer, address, done))
                .await
                .map_err(|_| stopped())?;
            answer.await.map_err(|_| stopped())??;
            let mut control = self.control.clone();
            control
                .open_stream(peer, StreamProtocol::new(protocol))
                .await
                .map_err(|e| Failure::System(e.to_string()))
        };
        select! {
            result = work.fuse() => result,
            () = TimeoutFuture::new(DEADLINE_MS).fuse() => {
                self.close_peer(peer).await;
                Err(Failure::NoAnswer)
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

fn parse(address: &str) -> Result<(PeerId, Multiaddr), Failure> {
    let bad = || Failure::BadAddress(address.chars().take(200).collect());
    let parsed: Multiaddr = address.parse().map_err(|_| bad())?;
    let peer = parsed.iter().find_map(|part| match part {
        Protocol::P2p(peer) => Some(peer),
        _ => None,
    });
    Ok((peer.ok_or_else(bad)?, parsed))
}

async fn drive(mut swarm: Swarm<Behaviour>, mut inbox: mpsc::Receiver<Command>) {
    let mut waiting: HashMap<PeerId, Vec<oneshot::Sender<Result<(), Failure>>>> = HashMap::new();
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
                        Err(error) => { let _ = done.send(Err(sort(&error))); }
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
                        let _ = done.send(Err(sort(&error)));
                    }
                }
                _ => {}
            },
        }
    }
}
