//! Nodes in this process, on loopback.
#![allow(dead_code, reason = "each test file uses a part")]

use std::{sync::Arc, time::Duration};

use defim_webrtc_direct::{
    Version,
    native::{Certificate, Counts, Limits, Tasks, Transport},
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::{
    Multiaddr, PeerId, Stream, StreamProtocol, Swarm, SwarmBuilder, Transport as _,
    core::muxing::StreamMuxerBox,
    identity::Keypair,
    swarm::{SwarmEvent, dial_opts::DialOpts},
};
use tokio::{sync::mpsc, task::JoinHandle};

/// Sends back what it gets, until the end of it.
pub const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");
/// Takes all, answers with how many bytes that was.
pub const COUNT: StreamProtocol = StreamProtocol::new("/test/count/1");
/// Sends as many bytes as it is asked for.
pub const GIVE: StreamProtocol = StreamProtocol::new("/test/give/1");

pub struct Node {
    pub peer: PeerId,
    pub address: Option<Multiaddr>,
    pub counts: Arc<Counts>,
    pub control: libp2p_stream::Control,
    pub dial: mpsc::Sender<Multiaddr>,
    pub errors: mpsc::Receiver<String>,
    tasks: Tasks,
    task: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub async fn server(limits: Limits) -> Node {
    node(
        Some("/ip4/127.0.0.1/udp/0/webrtc-direct"),
        limits,
        Version::V2,
    )
    .await
}

pub async fn client(version: Version) -> Node {
    node(None, Limits::default(), version).await
}

pub async fn node(listen: Option<&str>, limits: Limits, version: Version) -> Node {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let keypair = Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    let mut counts = None;
    let mut swarm: Swarm<libp2p_stream::Behaviour> = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_other_transport(|key| {
            let certificate = Certificate::generate().unwrap();
            let transport = Transport::new(key.clone(), certificate, limits)
                .unwrap()
                .dialing(version);
            counts = Some((transport.counts(), transport.tasks()));
            transport.map(|(peer, connection), _| (peer, StreamMuxerBox::new(connection)))
        })
        .unwrap()
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .unwrap()
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(60)))
        .build();
    let mut address = None;
    if let Some(listen) = listen {
        swarm.listen_on(listen.parse().unwrap()).unwrap();
        while address.is_none() {
            if let SwarmEvent::NewListenAddr { address: a, .. } = swarm.select_next_some().await {
                address = Some(a.with_p2p(peer).unwrap());
            }
        }
    }
    let control = swarm.behaviour().new_control();
    serve(control.clone());
    let (dial, mut to_dial) = mpsc::channel::<Multiaddr>(16);
    let (tell, errors) = mpsc::channel(64);
    let task = tokio::spawn(async move {
        loop {
            tokio::select! {
                Some(address) = to_dial.recv() => {
                    swarm.dial(DialOpts::from(address)).unwrap();
                }
                event = swarm.select_next_some() => match event {
                    SwarmEvent::OutgoingConnectionError { error, .. } => {
                        let _ = tell.try_send(format!("{error:?}"));
                    }
                    SwarmEvent::ConnectionClosed { cause, .. } => {
                        let _ = tell.try_send(format!("closed: {cause:?}"));
                    }
                    _ => {}
                },
            }
        }
    });
    let (counts, tasks) = counts.unwrap();
    Node {
        peer,
        address,
        counts,
        tasks,
        control,
        dial,
        errors,
        task,
    }
}

fn serve(mut control: libp2p_stream::Control) {
    let mut echo = control.accept(ECHO).unwrap();
    let mut count = control.accept(COUNT).unwrap();
    let mut give = control.accept(GIVE).unwrap();
    tokio::spawn(async move {
        while let Some((_, stream)) = echo.next().await {
            tokio::spawn(async move {
                let (mut from, mut to) = stream.split();
                if futures::io::copy(&mut from, &mut to).await.is_ok() {
                    let _ = to.close().await;
                }
            });
        }
    });
    tokio::spawn(async move {
        while let Some((_, mut stream)) = count.next().await {
            tokio::spawn(async move {
                let n = futures::io::copy(&mut stream, &mut futures::io::sink()).await;
                if let Ok(n) = n {
                    let _ = stream.write_all(&n.to_be_bytes()).await;
                    let _ = stream.close().await;
                }
            });
        }
    });
    tokio::spawn(async move {
        while let Some((_, mut stream)) = give.next().await {
            tokio::spawn(async move {
                let mut wanted = [0; 8];
                if stream.read_exact(&mut wanted).await.is_ok() {
                    let data = vec![5; 64 * 1024];
                    let mut left = u64::from_be_bytes(wanted) as usize;
                    while left > 0 {
                        let n = left.min(data.len());
                        if stream.write_all(&data[..n]).await.is_err() {
                            return;
                        }
                        left -= n;
                    }
                    let _ = stream.close().await;
                }
            });
        }
    });
}

impl Node {
    pub fn tasks(&self) -> usize {
        self.tasks.number()
    }

    pub async fn open(&self, server: &Node, protocol: StreamProtocol) -> Result<Stream, String> {
        let mut control = self.control.clone();
        for _ in 0..500 {
            match control.open_stream(server.peer, protocol.clone()).await {
                Ok(stream) => return Ok(stream),
                Err(libp2p_stream::OpenStreamError::Io(_)) => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                Err(error) => return Err(error.to_string()),
            }
        }
        Err("no stream".into())
    }

    pub async fn connect(&self, server: &Node) {
        let address = server.address.clone().unwrap();
        self.dial.send(address).await.unwrap();
    }
}

/// Waits until something holds.
pub async fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    for _ in 0..limit.as_millis() / 20 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within {limit:?}: {what}");
}
