//! The side of a page.

mod channel;
mod connection;
mod transport;

pub use connection::Connection;
pub use transport::Transport;
