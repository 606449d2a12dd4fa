//! The client's side of a connection between native nodes: a socket of its own, one pair of candidates.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use rand::{Rng as _, distr::Alphanumeric};
use tokio::{
    net::UdpSocket,
    sync::oneshot,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    link::Link,
    stun::{self, Stun},
};
use crate::{
    credentials::{Credentials, Version},
    failure::Failure,
};

/// Between checks until one is answered.
const CHECK: Duration = Duration::from_millis(50);
/// Between checks that keep the server's consent (RFC 7675).
const CONSENT: Duration = Duration::from_secs(2);
/// How long the first answer may take.
const ANSWER: Duration = Duration::from_secs(5);
const RECEIVE: usize = 2048;

fn random(length: usize) -> String {
    let mut rng = rand::rng();
    (0..length)
        .map(|_| char::from(rng.sample(Alphanumeric)))
        .collect()
}

/// Credentials as a browser would have them.
fn credentials(version: Version) -> Result<Credentials, Failure> {
    match version {
        Version::V1 => Credentials::v1(&random(32)),
        Version::V2 => Credentials::v2(&random(8), &random(24)),
    }
    .map_err(|e| Failure::Protocol(e.to_string()))
}

/// Checks the way to a server; the link is ready for DTLS.
pub(crate) async fn reach(
    server: SocketAddr,
    version: Version,
    silence: Duration,
) -> Result<Arc<Link>, Failure> {
    let any: SocketAddr = if server.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = Arc::new(UdpSocket::bind(any).await?);
    let link = Arc::new(Link::new(socket.clone(), server));
    let (answered, answer) = oneshot::channel();
    let client = Client {
        socket,
        server,
        link: link.clone(),
        credentials: credentials(version)?,
        silence,
    };
    tokio::spawn(client.drive(answered));
    match tokio::time::timeout(ANSWER, answer).await {
        Ok(Ok(())) => Ok(link),
        _ => {
            link.end(Failure::NoAnswer);
            Err(Failure::NoAnswer)
        }
    }
}

struct Client {
    socket: Arc<UdpSocket>,
    server: SocketAddr,
    link: Arc<Link>,
    credentials: Credentials,
    silence: Duration,
}

/// Whoever waits for the first answer has stopped to.
async fn unwanted(answered: &mut Option<oneshot::Sender<()>>) {
    match answered {
        Some(answered) => answered.closed().await,
        None => std::future::pending().await,
    }
}

impl Client {
    async fn drive(self, answered: oneshot::Sender<()>) {
        let mut answered = Some(answered);
        let every = |period| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        };
        let (mut checks, mut consent) = (every(CHECK), every(CONSENT));
        let mut heard = Instant::now();
        let mut buffer = [0; RECEIVE];
        let ended = self.link.ended();
        tokio::pin!(ended);
        loop {
            let waits = answered.is_some();
            tokio::select! {
                _ = &mut ended => return,
                () = unwanted(&mut answered) => return,
                _ = checks.tick(), if waits => self.check().await,
                _ = consent.tick(), if !waits => {
                    if heard.elapsed() >= self.silence {
                        self.link.end(Failure::PeerGone);
                    }
                    self.check().await;
                }
                received = self.socket.recv_from(&mut buffer) => {
                    // An ICMP answer says that nobody listens there, for now.
                    let Ok((n, from)) = received else { continue };
                    if from != self.server {
                        continue;
                    }
                    let packet = buffer.get(..n).unwrap_or_default();
                    match packet.first() {
                        Some(20..=63) if self.link.deliver(packet) => heard = Instant::now(),
                        Some(0..=3) => match stun::at_client(packet, from, &self.credentials) {
                            Ok(Stun::Success) => {
                                heard = Instant::now();
                                if let Some(answered) = answered.take() {
                                    let _ = answered.send(());
                                }
                            }
                            Ok(Stun::Check { answer, .. }) => {
                                heard = Instant::now();
                                let _ = self.socket.try_send_to(&answer, from);
                            }
                            Ok(Stun::Other) => {}
                            Err(error) => tracing::trace!(%error, "a packet was refused"),
                        },
                        _ => {}
                    }
                }
            }
        }
    }

    async fn check(&self) {
        if let Ok(check) = stun::check(&self.credentials) {
            let _ = self.socket.send_to(&check, self.server).await;
        }
    }
}
