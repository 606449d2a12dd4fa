//! WebRTC-direct for libp2p, versions 1 and 2: browsers dial native nodes over UDP, without signalling and without a certificate authority.
//!
//! # Where it stands
//!
//! Below a libp2p `Swarm`, as a transport that is its own multiplexer. A page dials
//! `/ip4/…/udp/…/webrtc-direct/certhash/…/p2p/…` with `browser::Transport`; a node listens, and dials other
//! nodes, with `native::Transport`. ICE finds the way, DTLS encrypts it, Noise over data channel 0 proves who
//! the other side is, and every further data channel is a stream. Failures are one list, [`Failure`], on both
//! sides.
//!
//! # What holds
//!
//! - A browser's offer is sent back to it unchanged. Version 1 has the page rewrite the ICE credentials in its
//!   own offer, which Chrome is switching off; in version 2 the page keeps the browser's, and the *server's*
//!   username fragment is `libp2p+webrtc+v2/` and the browser's ICE password. A server reads from the STUN
//!   USERNAME which version it is and what the password is ([`Credentials`]). Pages dial version 2; a node
//!   takes both on one port.
//! - Credentials are checked, characters and lengths, before anything is done with them; a version that is not
//!   known is never taken for another.
//! - A STUN request is answered without keeping more than its sender, within a bound; a connection begins with
//!   its first DTLS packet. Connections, handshakes, streams and bytes have bounds (`native::Limits`), all and
//!   for each address. A handshake over the bound ends the oldest one.
//! - A message on a data channel has at most 16 KiB ([specification][spec], "Multiplexing") and is read whole. A
//!   native reader's sender waits for SCTP's window. A browser cannot make its sender wait, so it grants
//!   credit, by a field of the stream's messages that others skip: a slow page loses nothing.
//! - A stream ends with FIN and FIN_ACK, or with a reset; then its data channel is closed on both sides.
//! - Who is silent for 4.5 seconds, our own questions included, is gone, and everything of theirs is freed.
//!
//! # What differs from the specification
//!
//! - Version 2 is libp2p/specs#715, which is not merged. Version 1 is the [specification][spec].
//! - The field `credit` (1017) of a stream's messages is our own.
//! - Both versions show their password to whoever sees the STUN packets, so ICE proves nothing about who
//!   answers: on the way, an attacker can answer for the server or move a connection to another address. DTLS
//!   (by the certificate hash) and Noise then fail, or the packets cannot be read; it is a denial of
//!   service, for somebody who could drop the packets as well. Packets that are not encrypted are not looked at once
//!   a connection is established. While it begins, somebody who forges its client's address can end it.
//! - SCTP's unreliable channels (FORWARD-TSN) and unordered data are refused: no libp2p stream has them.
//! - A native node dials from one socket, with one candidate, and without certificate roots.
//!
//! # Example
//!
//! A node that sends back what it gets and another that talks to it: `examples/echo.rs`. The addresses and
//! credentials of both versions:
//!
//! ```
//! use defim_webrtc_direct::{Credentials, Version};
//!
//! // What a browser has of its own; in a page it is read from the offer.
//! let client = Credentials::v2("Zk+/", "Tg0rZcWUK3zlEhNZPyWlqxyG")?;
//! assert_eq!(client.server(), "libp2p+webrtc+v2/Tg0rZcWUK3zlEhNZPyWlqxyG");
//!
//! // What a node reads from the browser's first packet.
//! let server = Credentials::from_username(b"libp2p+webrtc+v2/Tg0rZcWUK3zlEhNZPyWlqxyG:Zk+/")?;
//! assert_eq!((server.version(), &server), (Version::V2, &client));
//! assert!(Credentials::from_username(b"libp2p+webrtc+v3/Tg0rZcWUK3zlEhNZPyWlqxyG:Zk+/").is_err());
//! # Ok::<(), defim_webrtc_direct::CredentialError>(())
//! ```
//!
//! [spec]: https://github.com/libp2p/specs/blob/master/webrtc/webrtc-direct.md
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
mod channel;
mod credentials;
mod failure;
#[cfg(all(test, not(target_arch = "wasm32")))]
#[allow(clippy::disallowed_methods, reason = "a fuzzer reads the clock")]
mod fuzz;
mod message;
#[cfg(not(target_arch = "wasm32"))]
pub mod native;
#[cfg(any(test, target_arch = "wasm32"))]
mod sdp;
mod stream;

pub use credentials::{CredentialError, Credentials, PREFIX_V1, PREFIX_V2, Version};
pub use failure::Failure;
pub use stream::Stream;
