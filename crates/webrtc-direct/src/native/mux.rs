//! One UDP socket for all connections, and the lite ICE agent that answers on it.
//!
//! A binding request is answered without keeping more than who asked: an address, and credentials of
//! a few hundred bytes, for ten seconds and within a bound. A connection begins with the first DTLS
//! packet from such an address, so that requests alone, from whatever addresses, cost next to nothing.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::{BuildHasher as _, RandomState},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::UdpSocket,
    runtime::Handle,
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    limits::{Counts, Limits},
    link::Link,
    stun::{self, Stun},
};
use crate::{credentials::Credentials, failure::Failure};

const RECEIVE: usize = 2048;
/// Addresses that have asked and not begun.
const ASKERS: usize = 8192;
const ASKER_TIME: Duration = Duration::from_secs(10);
/// Addresses one connection may have used.
const ADDRESSES: usize = 8;
/// Connections that ended whose other side is not answered, so that it notices: ICE asks on for as long.
const GONE: usize = 4096;
const GONE_TIME: Duration = Duration::from_secs(60);
/// Connections that wait to be taken by the transport.
const ARRIVALS: usize = 64;
const TICK: Duration = Duration::from_millis(250);
/// How long a connection has to show that it is still at an address from which another client checks: a
/// system gives the port of a page that was closed to the next one.
const CONTEST: Duration = Duration::from_secs(1);
/// A connection that was silent for so long is asked, and asked again after as long.
const ASK: Duration = Duration::from_millis(1_500);

/// A connection that begins.
pub(crate) struct Arrival {
    pub(crate) remote: SocketAddr,
    pub(crate) link: Arc<Link>,
}

struct Connection {
    link: Arc<Link>,
    addresses: Vec<SocketAddr>,
    begun: Instant,
    heard: Instant,
    asked: Instant,
    /// Since when somebody else says to be at its address.
    contested: Option<Instant>,
}

impl Connection {
    /// The other side has shown that it knows the credentials.
    fn proven(&mut self) {
        self.heard = Instant::now();
        self.contested = None;
    }
}

struct Asker {
    credentials: Credentials,
    heard: Instant,
}

/// The socket's state; [`run`] drives it.
struct Mux {
    socket: Arc<UdpSocket>,
    limits: Limits,
    counts: Arc<Counts>,
    arrivals: mpsc::Sender<Arrival>,
    connections: HashMap<Credentials, Connection>,
    routes: HashMap<SocketAddr, Credentials>,
    askers: HashMap<SocketAddr, Asker>,
    /// Askers, the one that came first in front.
    queue: VecDeque<SocketAddr>,
    gone: Gone,
}

/// Credentials of connections that ended, hashed; a new connection has others.
#[derive(Default)]
struct Gone {
    hasher: RandomState,
    all: HashSet<u64>,
    queue: VecDeque<(u64, Instant)>,
}

impl Gone {
    fn contains(&self, credentials: &Credentials) -> bool {
        self.all.contains(&self.hasher.hash_one(credentials))
    }

    fn insert(&mut self, credentials: &Credentials) {
        let hash = self.hasher.hash_one(credentials);
        if self.all.insert(hash) {
            self.queue.push_back((hash, Instant::now()));
        }
        self.forget(|number, _| number > GONE);
    }

    fn forget(&mut self, is_over: impl Fn(usize, Duration) -> bool) {
        while let Some((hash, since)) = self.queue.front()
            && is_over(self.queue.len(), since.elapsed())
        {
            self.all.remove(hash);
            self.queue.pop_front();
        }
    }
}

/// Drives a socket until `stop` is dropped.
pub(crate) fn run(
    socket: UdpSocket,
    limits: Limits,
    counts: Arc<Counts>,
    stop: watch::Receiver<()>,
    runtime: &Handle,
) -> mpsc::Receiver<Arrival> {
    let (arrivals, taken) = mpsc::channel(ARRIVALS);
    let mux = Mux {
        socket: Arc::new(socket),
        limits,
        counts,
        arrivals,
        connections: HashMap::new(),
        routes: HashMap::new(),
        askers: HashMap::new(),
        queue: VecDeque::new(),
        gone: Gone::default(),
    };
    runtime.spawn(mux.drive(stop));
    taken
}

impl Mux {
    async fn drive(mut self, mut stop: watch::Receiver<()>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let socket = self.socket.clone();
        let mut buffer = [0; RECEIVE];
        loop {
            tokio::select! {
                received = socket.recv_from(&mut buffer) => match received {
                    Ok((n, from)) => self.packet(buffer.get(..n).unwrap_or_default(), from),
                    // On some systems an ICMP answer to what was sent comes out here.
                    Err(error) => tracing::trace!(%error, "a datagram was not received"),
                },
                _ = ticks.tick() => self.tick(),
                _ = stop.changed() => {
                    for connection in self.connections.values() {
                        connection.link.end(Failure::Closed);
                    }
                    return;
                }
            }
        }
    }

    fn packet(&mut self, packet: &[u8], from: SocketAddr) {
        // RFC 7983: the first byte says whose packet it is.
        match packet.first() {
            Some(0..=3) => self.stun(packet, from),
            Some(20..=63) => self.dtls(packet, from),
            _ => Counts::add(&self.counts.refused_packets),
        }
    }

    fn stun(&mut self, packet: &[u8], from: SocketAddr) {
        match stun::at_server(packet, from) {
            Ok(Stun::Check {
                credentials,
                answer,
            }) => {
                if self.gone.contains(&credentials) {
                    return;
                }
                // A full buffer loses an answer, as the network might; the client asks again.
                let _ = self.socket.try_send_to(&answer, from);
                if let Some(connection) = self.connections.get_mut(&credentials) {
                    connection.proven();
                    if connection.addresses.contains(&from) {
                        return;
                    }
                } else {
                    self.contest(from);
                }
                self.remember(from, credentials);
            }
            Ok(Stun::Success) => {
                if let Some((credentials, connection)) = self.at(from)
                    && stun::is_from_client(packet, credentials)
                {
                    connection.proven();
                }
            }
            Ok(Stun::Other) => {}
            Err(error) => {
                Counts::add(&self.counts.refused_packets);
                tracing::trace!(%from, %error, "a packet was refused");
            }
        }
    }

    /// The connection that an address belongs to.
    fn at(&mut self, address: SocketAddr) -> Option<(&Credentials, &mut Connection)> {
        let credentials = self.routes.get(&address)?;
        Some((credentials, self.connections.get_mut(credentials)?))
    }

    /// Another client checks from a connection's address, or makes believe to: the connection is asked.
    fn contest(&mut self, address: SocketAddr) {
        let socket = self.socket.clone();
        if let Some((credentials, connection)) = self.at(address)
            && connection.contested.is_none()
        {
            connection.contested = Some(Instant::now());
            if let Ok(probe) = stun::probe(credentials) {
                let _ = socket.try_send_to(&probe, address);
            }
        }
    }

    fn remember(&mut self, from: SocketAddr, credentials: Credentials) {
        let heard = Instant::now();
        let asker = Asker { credentials, heard };
        if self.askers.insert(from, asker).is_none() {
            self.queue.push_back(from);
            if self.queue.len() > ASKERS
                && let Some(first) = self.queue.pop_front()
            {
                self.askers.remove(&first);
            }
        }
    }

    fn dtls(&mut self, packet: &[u8], from: SocketAddr) {
        if !self.routes.contains_key(&from) && !self.begin(from) {
            return;
        }
        if let Some((_, connection)) = self.at(from) {
            if !connection.link.deliver(packet) {
                Counts::add(&self.counts.refused_packets);
                return;
            }
            // Whose packets these are shows when DTLS opens them; a contested address is nobody's sign.
            if connection.contested.is_none() {
                connection.heard = Instant::now();
            }
        }
    }

    /// A new address of a connection, or a new connection; false if it cannot be.
    fn begin(&mut self, from: SocketAddr) -> bool {
        let Some(asker) = self.askers.remove(&from) else {
            Counts::add(&self.counts.refused_packets);
            return false;
        };
        self.queue.retain(|address| *address != from);
        let credentials = asker.credentials;
        if let Some(connection) = self.connections.get_mut(&credentials) {
            if connection.link.has_ended() || connection.addresses.len() >= ADDRESSES {
                return false;
            }
            // The client has chosen another of its addresses, or its network gave it one.
            connection.addresses.push(from);
            connection.link.moved(from);
            self.routes.insert(from, credentials);
            return true;
        }
        if !self.make_room(from.ip()) {
            Counts::add(&self.counts.refused_connections);
            return false;
        }
        let Ok(place) = self.arrivals.try_reserve() else {
            Counts::add(&self.counts.refused_connections);
            return false;
        };
        let link = Arc::new(Link::new(self.socket.clone(), from));
        place.send(Arrival {
            remote: from,
            link: link.clone(),
        });
        let now = Instant::now();
        self.connections.insert(
            credentials.clone(),
            Connection {
                link,
                addresses: vec![from],
                begun: now,
                heard: now,
                asked: now,
                contested: None,
            },
        );
        self.routes.insert(from, credentials);
        Counts::add(&self.counts.begun);
        Counts::add(&self.counts.connections);
        true
    }

    /// Sees to the limits, where handshakes give way to younger ones; false if there is no room.
    fn make_room(&mut self, ip: IpAddr) -> bool {
        self.sweep();
        let of =
            |connection: &Connection| connection.addresses.first().is_some_and(|a| a.ip() == ip);
        let all = self.connections.values();
        if self.connections.len() >= self.limits.connections
            || all.clone().filter(|c| of(c)).count() >= self.limits.connections_per_address
        {
            return false;
        }
        let shaking = all.filter(|c| !c.link.is_established());
        let here = shaking.clone().filter(|c| of(c));
        let first = if here.clone().count() >= self.limits.handshakes_per_address {
            here.min_by_key(|c| c.begun)
        } else if shaking.clone().count() >= self.limits.handshakes {
            shaking.min_by_key(|c| c.begun)
        } else {
            return true;
        };
        if let Some(first) = first {
            first.link.end(Failure::Crowded);
        }
        self.sweep();
        true
    }

    fn tick(&mut self) {
        let now = Instant::now();
        let silence = self.limits.silence;
        for (credentials, connection) in &mut self.connections {
            let quiet = now.duration_since(connection.heard);
            let lost = |since| now.duration_since(since) >= CONTEST;
            if quiet >= silence || connection.contested.is_some_and(lost) {
                connection.link.end(Failure::PeerGone);
            } else if quiet >= ASK && now.duration_since(connection.asked) >= ASK {
                connection.asked = now;
                if let Ok(probe) = stun::probe(credentials) {
                    let _ = self.socket.try_send_to(&probe, connection.link.remote());
                }
            }
            if !connection.link.is_established()
                && now.duration_since(connection.begun) >= self.limits.handshake_time
            {
                connection.link.end(Failure::HandshakeTimedOut);
            }
        }
        self.sweep();
        self.gone.forget(|_, time| time >= GONE_TIME);
        while let Some(first) = self.queue.front().copied() {
            match self.askers.get(&first) {
                Some(asker) if now.duration_since(asker.heard) < ASKER_TIME => break,
                _ => {
                    self.askers.remove(&first);
                    self.queue.pop_front();
                }
            }
        }
    }

    /// Forgets what has ended.
    fn sweep(&mut self) {
        let (routes, counts, gone) = (&mut self.routes, &self.counts, &mut self.gone);
        self.connections.retain(|credentials, connection| {
            let stays = !connection.link.has_ended();
            if !stays {
                for address in &connection.addresses {
                    routes.remove(address);
                }
                gone.insert(credentials);
                Counts::sub(&counts.connections);
            }
            stays
        });
    }
}
