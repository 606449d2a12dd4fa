//! The validation node: agrees with the other validators on every block of the ledger, and keeps it.

mod app;
mod block;
mod config;
mod engine;
pub mod evidence;
mod epochs;
mod finaliser;
pub mod judge;
mod ledger;
mod machine;
mod mempool;
mod node;
mod shared;
pub mod sim;

pub use config::{Limits, Timing};
pub use engine::{Fatal, Running, Stored, key_of};
pub use ledger::Ledger;
pub use machine::{Chained, Checker, Deep, Digest, Key, Machine, RulesOnly, Turn};
pub use mempool::{PoolLimits, Refused};
pub use node::{Config, Node, NodeHandle};
pub use shared::{Final, Head, Settled};
