//! What DTLS and SCTP are not shown: packets that cost their receiver more than their sender.
//!
//! Both implementations keep, or work through, some things without a bound: fragments of handshake messages, records of
//! a later epoch, jumps of the transmission sequence number, chunks without data. None of them is in what a libp2p node
//! or a browser sends.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use webrtc_util::{Conn, Result};

/// Handshake messages and fragments of them that a handshake may have, both sides' retransmissions included.
const MESSAGES: usize = 256;
/// Bytes of all records of a handshake.
const HANDSHAKE_BYTES: usize = 128 * 1024;
/// Bytes of records of the new epoch that may come before everything is established: what a quick client sends at once.
const EARLY_BYTES: usize = 2 * 1024 * 1024;
/// Longest handshake message; certificates are below 1 KiB.
const MESSAGE_BYTES: usize = 16 * 1024;

/// DTLS 1.2 record header (RFC 6347, section 4.1).
const RECORD_HEADER: usize = 13;
/// DTLS handshake header (section 4.2.2).
const MESSAGE_HEADER: usize = 12;

const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;

fn number(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .fold(0, |n, byte| (n << 8) | usize::from(*byte))
}

/// What has come of a connection's handshake.
#[derive(Debug, Default)]
pub(crate) struct Records {
    messages: usize,
    bytes: usize,
    early: usize,
}

impl Records {
    /// Whether DTLS may see this packet.
    pub(crate) fn admit(&mut self, packet: &[u8], established: bool) -> bool {
        let mut rest = packet;
        while !rest.is_empty() {
            let Some((header, after)) = rest.split_at_checked(RECORD_HEADER) else {
                return false;
            };
            let (kind, epoch, length) = match header {
                [kind, _, _, e1, e0, .., l1, l0] => {
                    (*kind, number(&[*e1, *e0]), number(&[*l1, *l0]))
                }
                _ => return false,
            };
            let Some((content, after)) = after.split_at_checked(length) else {
                return false;
            };
            let admitted = match (established, epoch) {
                // The keys never change again. What is not encrypted anybody could have sent.
                (true, 1) => matches!(kind, ALERT | APPLICATION_DATA),
                (true, _) => false,
                (false, 0) => self.admit_handshake(kind, content),
                (false, 1) => {
                    self.early += RECORD_HEADER + content.len();
                    self.early <= EARLY_BYTES
                }
                (false, _) => false,
            };
            if !admitted {
                return false;
            }
            rest = after;
        }
        true
    }

    fn admit_handshake(&mut self, kind: u8, content: &[u8]) -> bool {
        self.bytes += RECORD_HEADER + content.len();
        if self.bytes > HANDSHAKE_BYTES {
            return false;
        }
        match kind {
            CHANGE_CIPHER_SPEC | ALERT => {
                self.messages += 1;
                self.messages <= MESSAGES
            }
            HANDSHAKE => self.admit_messages(content),
            _ => false,
        }
    }

    fn admit_messages(&mut self, content: &[u8]) -> bool {
        let mut rest = content;
        while !rest.is_empty() {
            self.messages += 1;
            let Some((header, after)) = rest.split_at_checked(MESSAGE_HEADER) else {
                return false;
            };
            let (Some(whole), Some(offset), Some(part)) =
                (header.get(1..4), header.get(6..9), header.get(9..12))
            else {
                return false;
            };
            let (whole, offset, part) = (number(whole), number(offset), number(part));
            // A fragment of nothing is kept as any other, and says nothing.
            let empty = part == 0 && whole != 0;
            if self.messages > MESSAGES
                || whole > MESSAGE_BYTES
                || offset + part > whole
                || empty
                || after.len() < part
            {
                return false;
            }
            rest = after.get(part..).unwrap_or_default();
        }
        true
    }
}

/// SCTP common header (RFC 9260, section 3.1).
const SCTP_HEADER: usize = 12;
const CHUNK_HEADER: usize = 4;
/// Of a DATA chunk, before its data.
const DATA_HEADER: usize = 16;
const DATA: u8 = 0;
const UNORDERED: u8 = 0b100;
/// FORWARD-TSN and I-FORWARD-TSN (RFC 3758, RFC 8260): only unreliable channels have them.
const FORWARD_TSN: [u8; 2] = [192, 194];

/// Whether SCTP may see this packet.
fn admit_chunks(packet: &[u8]) -> bool {
    let Some(mut rest) = packet.get(SCTP_HEADER..) else {
        return false;
    };
    while !rest.is_empty() {
        let (kind, flags, length) = match rest {
            [kind, flags, l1, l0, ..] => (*kind, *flags, number(&[*l1, *l0])),
            _ => return false,
        };
        let bad_data = kind == DATA && (length <= DATA_HEADER || flags & UNORDERED != 0);
        if length < CHUNK_HEADER || length > rest.len() || bad_data || FORWARD_TSN.contains(&kind) {
            return false;
        }
        // Chunks are padded to four bytes; the last one need not be.
        let padded = length.next_multiple_of(4).min(rest.len());
        rest = rest.get(padded..).unwrap_or_default();
    }
    true
}

/// DTLS as SCTP sees it: without what SCTP is not shown.
pub(crate) struct Guarded(pub(crate) Arc<dyn Conn + Send + Sync>);

#[async_trait]
impl Conn for Guarded {
    async fn connect(&self, remote: SocketAddr) -> Result<()> {
        self.0.connect(remote).await
    }

    async fn recv(&self, buf: &mut [u8]) -> Result<usize> {
        loop {
            let n = self.0.recv(buf).await?;
            let packet = buf.get(..n).unwrap_or_default();
            // An empty packet is the end of DTLS.
            if packet.is_empty() || admit_chunks(packet) {
                return Ok(n);
            }
            tracing::trace!(bytes = n, "an SCTP packet was refused");
        }
    }

    async fn recv_from(&self, buf: &mut [u8]) -> Result<(usize, SocketAddr)> {
        self.0.recv_from(buf).await
    }

    async fn send(&self, buf: &[u8]) -> Result<usize> {
        self.0.send(buf).await
    }

    async fn send_to(&self, buf: &[u8], remote: SocketAddr) -> Result<usize> {
        self.0.send_to(buf, remote).await
    }

    fn local_addr(&self) -> Result<SocketAddr> {
        self.0.local_addr()
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        self.0.remote_addr()
    }

    async fn close(&self) -> Result<()> {
        self.0.close().await
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: u8, epoch: u16, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 254, 253];
        bytes.extend(epoch.to_be_bytes());
        bytes.extend([0; 6]);
        bytes.extend((content.len() as u16).to_be_bytes());
        bytes.extend(content);
        bytes
    }

    fn message(whole: u32, offset: u32, part: &[u8]) -> Vec<u8> {
        let three = |n: u32| n.to_be_bytes()[1..].to_vec();
        let mut bytes = vec![1];
        bytes.extend(three(whole));
        bytes.extend([0, 0]);
        bytes.extend(three(offset));
        bytes.extend(three(part.len() as u32));
        bytes.extend(part);
        bytes
    }

    #[test]
    fn fragments_are_counted_and_empty_ones_refused() {
        let mut records = Records::default();
        assert!(records.admit(&record(HANDSHAKE, 0, &message(300, 0, &[7; 200])), false));
        assert!(records.admit(&record(HANDSHAKE, 0, &message(300, 200, &[7; 100])), false));
        // ServerHelloDone has no content.
        assert!(records.admit(&record(HANDSHAKE, 0, &message(0, 0, &[])), false));
        for bad in [
            message(60_000, 1, &[]),
            message(300, 200, &[7; 101]),
            message(1 << 20, 0, &[7; 10]),
            message(300, 0, &[7; 200])[..100].to_vec(),
        ] {
            assert!(!Records::default().admit(&record(HANDSHAKE, 0, &bad), false));
        }
        // As many as fit a packet, again and again.
        let many: Vec<u8> = (0..100).flat_map(|n| message(16_000, n, &[7])).collect();
        let packet = record(HANDSHAKE, 0, &many);
        let admitted = (0..50).filter(|_| records.admit(&packet, false)).count();
        assert_eq!(admitted, 2, "the third goes over {MESSAGES}");
    }

    #[test]
    fn once_established_only_what_is_encrypted_counts() {
        let mut records = Records::default();
        assert!(records.admit(&record(APPLICATION_DATA, 1, &[9; 1200]), true));
        assert!(records.admit(&record(ALERT, 1, &[9; 30]), true));
        for forged in [
            record(ALERT, 0, &[1, 0]),
            record(APPLICATION_DATA, 0, b"plain"),
            record(APPLICATION_DATA, 2, &[9; 1200]),
            record(HANDSHAKE, 0, &message(0, 0, &[])),
            record(HANDSHAKE, 1, &[9; 40]),
            record(99, 1, &[9; 40]),
            vec![23, 254, 253, 0, 1],
        ] {
            assert!(!records.admit(&forged, true), "{forged:?}");
        }
        // One bad record and the packet is not seen.
        let both = [
            record(APPLICATION_DATA, 1, &[9; 12]),
            record(ALERT, 0, &[1, 0]),
        ];
        assert!(!records.admit(&both.concat(), true));
    }

    #[test]
    fn a_later_epoch_is_kept_only_so_long() {
        let mut records = Records::default();
        let packet = record(APPLICATION_DATA, 1, &[9; 1200]);
        let admitted = (0..10_000)
            .filter(|_| records.admit(&packet, false))
            .count();
        assert_eq!(admitted, EARLY_BYTES / packet.len());
        assert!(!Records::default().admit(&record(APPLICATION_DATA, 2, &[9; 12]), false));
    }

    fn chunk(kind: u8, flags: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, flags];
        bytes.extend((content.len() as u16 + 4).to_be_bytes());
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn jumps_and_data_without_data_are_not_shown_to_sctp() {
        let packet = |chunks: &[Vec<u8>]| [vec![0; SCTP_HEADER], chunks.concat()].concat();
        let data = |n: usize| chunk(DATA, 3, &vec![7; 12 + n]);
        assert!(admit_chunks(&packet(&[chunk(3, 0, &[0; 12]), data(5)])));
        assert!(admit_chunks(&packet(&[])));
        for bad in [
            packet(&[chunk(192, 0, &[0; 8])]),
            packet(&[data(5), chunk(194, 0, &[0; 8])]),
            packet(&[data(0)]),
            packet(&[chunk(DATA, 3 | UNORDERED, &[7; 20])]),
            [vec![0; SCTP_HEADER], vec![3, 0, 0, 3]].concat(),
            [vec![0; SCTP_HEADER], vec![3, 0, 0, 40]].concat(),
            vec![0; 5],
        ] {
            assert!(!admit_chunks(&bad), "{bad:?}");
        }
    }
}
