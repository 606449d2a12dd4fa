//! The native side.
#![allow(clippy::disallowed_methods, reason = "a driver reads the clock")]

mod certificate;
mod channel;
mod connection;
mod dial;
mod driver;
mod guard;
mod handshake;
mod limits;
mod link;
mod mux;
mod stun;
mod transport;

pub use certificate::{Certificate, CertificateError};
pub use connection::Connection;
pub use driver::Tasks;
pub use limits::{Counts, Limits};
pub use transport::Transport;
