//! WebRTC-direct for libp2p, versions 1 and 2: browsers dial native nodes over UDP, without signalling and without a certificate authority.
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
