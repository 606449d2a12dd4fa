//! Validators in virtual time, with faults: the engine as it runs on a server, on commonware's
//! deterministic runtime and simulated network, with a ledger that only counts; or, for a whole mesh that plays its
//! rounds beside them ([`Work`]), with DeFim's own ([`run_whole`]).
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
mod whole;
mod work;
mod world;

pub use counter::{Counter, CounterBlock, CounterState, CounterTx};
pub use scenario::{Outcome, Scenario, run};
pub use whole::{Trouble, run_whole};
pub use work::Work;
