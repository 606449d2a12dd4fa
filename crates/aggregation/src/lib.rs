//! The aggregation node: opens rounds, adds the committees' aggregate shares, updates and evaluates the model.
//!
//! # Where in the flow
//!
//! Steps 1, 9 and 10 of a round. [`coordinator::Coordinator`] opens a round, takes one aggregate
//! share from each committee member, opens their sum ([`OpenedTotal`]), takes the server's
//! optimiser step and publishes the new model.
//!
//! # Invariants
//!
//! - Only sums arrive here. An [`OpenedTotal`] needs every member's signature over one batch of at
//!   least `min_batch` reports; there is no other way to make one.
//! - Aggregate shares are deleted in the step that stores the model they gave.
//! - The model step is a fixed-order reduction: the same shares give the same bytes anywhere.
//!
//! # Deviations
//!
//! Where the committees will encrypt their shares to one another, they now send them over the
//! node-to-node channel; this node therefore sees the aggregate share of each member.
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

pub use open::{OpenError, OpenedTotal};
