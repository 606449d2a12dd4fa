//! Validators in virtual time, with faults.

mod counter;

pub use counter::{Counter, CounterBlock, CounterState, CounterTx};
