//! The aggregation node: opens rounds, adds the committees' aggregate shares, updates and evaluates the model.
//!
//! # Where in the flow
//!
//! Steps 1, 7 and 9 to 11 of a round. [`coordinator::Coordinator`] opens a round and closes it when the
//! committees have verified enough reports; it says which batches are added, takes one ciphertext from each full
//! node, has the full nodes open their sum ([`OpenedTotal`]), takes the server's optimiser step and publishes the
//! new model.
//!
//! # Invariants
//!
//! - Only ciphertexts arrive here. Their keys are shared among the full nodes, which open one total a round, of at
//!   least `min_batch` reports; this node never sees a subtotal, nor what would give one.
//! - Sealed key shares are deleted in the step that stores the model they gave. Ciphertexts, and the key that opened
//!   their total, are public for some rounds more: anybody can repeat the round ([`repeat`]).
//! - A full node that goes away costs the reports of its committees, and not the round, as long as two thirds of
//!   the full nodes are there and the others have enough reports.
//! - The model step is a fixed-order reduction: the same total gives the same bytes anywhere.
//!
//! # Example
//!
//! See `defim-sim`, which drives this machine through whole rounds.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod coordinator;
mod message;
mod open;
pub mod repeat;
mod round;

pub use open::{Encrypted, EncryptedSums, OpenError, OpenedTotal};
