//! Validators in virtual time, with faults: the engine as it runs on a server, on commonware's
//! deterministic runtime and simulated network, with a ledger that only counts.
//!
//! A run is its seed: the same seed and scenario give the same messages, the same blocks and the same
//! trace hash. What is asserted: no two honest validators ever take different blocks for final at one
//! height, over all their lives; no final block is lost; and where enough validators are there, blocks go
//! on.

mod counter;
mod liar;
mod plan;
mod record;
mod scenario;
mod twins;
mod world;

pub use counter::{Counter, CounterBlock, CounterState, CounterTx};
pub use scenario::{Outcome, Scenario, run};
