//! Transports between nodes: libp2p over WebRTC-direct, QUIC and TCP, framing, resumable upload and the HTTPS client.
//!
//! # Where in the flow
//!
//! Between every two nodes. A browser reaches a full node over WebRTC-direct, a native light node
//! over QUIC or TCP, both with the one [`upload`] protocol; servers ask each other over QUIC or TCP
//! with one request and one answer a stream. Where none of that passes, a report goes over HTTPS.
//!
//! # Invariants
//!
//! - A length is checked against its limit before memory is taken for it.
//! - What goes into a stream that may be WebRTC goes in pieces of at most [`PIECE_BYTES`], each
//!   flushed before the next: a longer data-channel message ends the stream at the native side.
//! - Every wait of the native side has a deadline.
//!
//! # Deviations
//!
//! WebRTC-direct is version 1 of the libp2p specification.
//!
//! # Example
//!
//! ```
//! use defim_net::{Frame, read_frame, write_frame};
//! use futures::{executor::block_on, io::Cursor};
//!
//! let mut bytes = Cursor::new(Vec::new());
//! block_on(write_frame(&mut bytes, &Frame { kind: 1, payload: vec![7; 20_000] }))?;
//! let bytes = bytes.into_inner();
//! let frame = block_on(read_frame(&mut Cursor::new(&bytes), |_| Some(30_000)))?;
//! assert_eq!(frame.payload.len(), 20_000);
//! assert!(block_on(read_frame(&mut Cursor::new(&bytes), |_| Some(10_000))).is_err());
//! # Ok::<(), defim_net::FrameError>(())
//! ```
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

#[cfg(target_arch = "wasm32")]
pub mod browser;
mod frame;
#[cfg(not(target_arch = "wasm32"))]
pub mod http;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
mod pieces;
pub mod upload;

pub use frame::{Frame, FrameError, HEADER_BYTES, read_frame, write_frame};
pub use pieces::{PIECE_BYTES, Pieces, write_pieces};
