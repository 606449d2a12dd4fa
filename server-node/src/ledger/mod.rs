//! The ledger at this node: a validation node's engine and votes, and what other roles ask of the validators.

mod casting;
pub mod clerk;
pub mod client;
pub mod codec;
#[cfg(test)]
pub mod fake;
pub mod roll;
pub mod setup;
mod shown;
mod turns;
mod unvoted;
pub mod validator;
pub mod view;
mod vote;
