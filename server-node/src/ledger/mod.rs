//! The ledger at this node: a validation node's engine and votes, and what other roles ask of the validators.

pub mod clerk;
pub mod client;
pub mod codec;
pub mod roll;
pub mod setup;
pub mod validator;
pub mod view;
mod vote;
