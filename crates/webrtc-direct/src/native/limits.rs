//! What strangers may take.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crate::failure::Failure;

/// Bounds on what others may take of a listener.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections, those in their handshake included.
    pub connections: usize,
    /// Connections from one IP address, those in their handshake included.
    pub connections_per_address: usize,
    /// Handshakes in progress. One more ends the one that began first.
    pub handshakes: usize,
    /// Handshakes in progress from one IP address. One more ends that address's first.
    pub handshakes_per_address: usize,
    /// How long a handshake may take.
    pub handshake_time: Duration,
    /// Streams open on one connection, and streams that are being opened on it.
    pub streams_per_connection: usize,
    /// How long a data channel may be open without saying what it is.
    pub opening_time: Duration,
    /// Bytes of one connection that are received and not read; the sender waits.
    pub bytes_per_connection: u32,
    /// How long a connection may be silent, our own questions unanswered.
    pub silence: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 4096,
            connections_per_address: 1024,
            handshakes: 512,
            handshakes_per_address: 128,
            handshake_time: Duration::from_secs(10),
            streams_per_connection: 256,
            opening_time: Duration::from_secs(10),
            bytes_per_connection: 1024 * 1024,
            silence: Duration::from_millis(4_500),
        }
    }
}

/// What a listener has seen; each number only grows, but for the two that say what is there now.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections whose handshake began.
    pub begun: AtomicU64,
    /// Connections whose handshake ended well.
    pub established: AtomicU64,
    /// Packets that were refused: no STUN, no credentials, a version that is not known.
    pub refused_packets: AtomicU64,
    /// Connections that were refused for their number.
    pub refused_connections: AtomicU64,
    /// Streams that were refused for their number, or because nothing followed their opening.
    pub refused_streams: AtomicU64,
    /// Connections there are, those in their handshake included.
    pub connections: AtomicU64,
    /// Streams there are.
    pub streams: AtomicU64,
    failures: [AtomicU64; Failure::CODES.len()],
}

impl Counts {
    pub(crate) fn add(number: &AtomicU64) {
        number.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn sub(number: &AtomicU64) {
        number.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn failed(&self, why: &Failure) {
        let code = why.code();
        for (count, name) in self.failures.iter().zip(Failure::CODES) {
            if name == code {
                Self::add(count);
            }
        }
    }

    /// How many connections ended for each reason, handshakes that failed included.
    pub fn failures(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Failure::CODES.into_iter().zip(
            self.failures
                .iter()
                .map(|count| count.load(Ordering::Relaxed)),
        )
    }
}
