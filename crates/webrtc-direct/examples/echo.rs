//! Two nodes in one process: one sends back what it gets, the other says something.
//!
//! `cargo run --release --package defim-webrtc-direct --example echo`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{error::Error, time::Duration};

use defim_webrtc_direct::native::{Certificate, Limits, Transport};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _, io};
use libp2p::{
    Multiaddr, StreamProtocol, Swarm, SwarmBuilder, Transport as _, core::muxing::StreamMuxerBox,
    swarm::SwarmEvent,
};
use libp2p_stream::Behaviour;

const ECHO: StreamProtocol = StreamProtocol::new("/example/echo/1");

fn swarm() -> Result<Swarm<Behaviour>, Box<dyn Error + Send + Sync>> {
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_other_transport(|key| {
            // Keep a node's certificate: its hash is part of the address.
            let certificate = Certificate::generate()?;
            let transport = Transport::new(key.clone(), certificate, Limits::default())?;
            let muxed = transport.map(|(peer, c), _| (peer, StreamMuxerBox::new(c)));
            Ok::<_, Box<dyn Error + Send + Sync>>(muxed)
        })?
        .with_behaviour(|_| Behaviour::new())?
        .with_swarm_config(|c| c.with_idle_connection_timeout(Duration::from_secs(30)))
        .build())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut node = swarm()?;
    let id = *node.local_peer_id();
    let mut streams = node.behaviour().new_control().accept(ECHO)?;
    node.listen_on("/ip4/127.0.0.1/udp/0/webrtc-direct".parse()?)?;
    let address: Multiaddr = loop {
        if let SwarmEvent::NewListenAddr { address, .. } = node.select_next_some().await {
            break address.with_p2p(id).expect("an address without a peer");
        }
    };
    println!("{address}");
    tokio::spawn(async move { node.for_each(|_| async {}).await });
    tokio::spawn(async move {
        while let Some((_, stream)) = streams.next().await {
            let (from, mut to) = stream.split();
            let _ = io::copy(from, &mut to).await;
            let _ = to.close().await;
        }
    });

    let mut dialer = swarm()?;
    let mut control = dialer.behaviour().new_control();
    dialer.dial(address)?;
    while !matches!(
        dialer.select_next_some().await,
        SwarmEvent::ConnectionEstablished { .. }
    ) {}
    tokio::spawn(async move { dialer.for_each(|_| async {}).await });
    let mut stream = control.open_stream(id, ECHO).await?;
    stream.write_all(b"who is there?").await?;
    stream.close().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{answer}");
    assert_eq!(answer, "who is there?");
    Ok(())
}
