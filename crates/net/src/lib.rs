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
//! - What failed on the way of a page to a node is one [`Failure`] for the page, the log and metrics.
//! - Every wait of the native side has a deadline.
//!
//! # Deviations
//!
//! WebRTC-direct is that of `defim-webrtc-direct`: pages dial version 2, nodes take versions 1 and 2.
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
pub mod score;
pub mod speed;
pub mod upload;

pub use defim_webrtc_direct::Failure;
pub use frame::{Frame, FrameError, HEADER_BYTES, read_frame, write_frame};
