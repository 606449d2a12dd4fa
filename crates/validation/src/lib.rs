//! The validation node: agrees with the other validators on every block of the ledger, and keeps it.
//!
//! # Where in the flow
//!
//! Anybody hands a signed transaction to a validator ([`NodeHandle::submit`]). It waits in the pools of all
//! of them; a leader makes a block of what waits, the others check it by the ledger's rules and by what else
//! they are told to ([`Checker`]), and vote. A block with the votes of a quorum is final: its certificate is what
//! `defim_ledger::light` verifies, in a browser too. Final blocks are applied in order, told to whoever listens
//! ([`NodeHandle::events`]), and kept.
//!
//! Agreement is not ours: it is commonware's simplex, with its marshal for the order, the files and the catching up, its
//! authenticated network, and its runtime. This crate puts them together behind a small surface:
//!
//! | part | does |
//! |---|---|
//! | [`Machine`], [`Chained`] | what the engine asks of a ledger; [`Ledger`] is DeFim's |
//! | `app` | proposes and judges blocks |
//! | `mempool` | what waits for a block, bounded in all and by account |
//! | `finaliser` | applies what is final; snapshots and recovery |
//! | `double` | who votes twice in one view |
//! | `epochs` | one consensus instance an epoch, with the set that the last block of the epoch before names |
//! | `engine` | one validator over any runtime and any network |
//! | [`Node`] | one validator on its own thread, with TCP |
//! | [`sim`] | validators in virtual time, with faults |
//!
//! # Invariants
//!
//! - With fewer than a third of an epoch's validators faulty, no two honest ones take different blocks for final at one
//!   height. The scenarios of [`sim`] look for that, one seed after the other.
//! - A final block is on disk before it is applied, and is applied once: its height is the key. A process may be
//!   killed anywhere.
//! - A vote is on disk before it is sent. So a validator's folder must never be copied, restored from a copy, or
//!   used by two processes: it would sign a second time. A validator whose disk is lost rejoins with a new key.
//! - Nothing that comes from outside ends a node. What is too long is refused before it is read, and before it
//!   is sent, since the network ends the process of who sends too much.
//! - An idle chain makes one empty block an idle time, and no view is left without a block: see `app` in the sources.
//!
//! # Deviations
//!
//! Validators run commonware's `Inline` order of checks: a vote to notarize follows the whole check of a block, since
//! DeFim's headers do not name the consensus round that the other order needs. A verifier that holds its vote for an
//! empty block until the block's time gives the view up when a transaction comes; simplex's documentation keeps
//! a negative answer for blocks that are wrong for ever. It moves nothing but the time of the next view.
//!
//! # Example
//!
//! ```
//! use defim_validation::sim::{Scenario, run};
//!
//! // Four validators, of which one is killed and starts again, six times over.
//! let outcome = run(7, Scenario::Restart);
//! assert!(outcome.violations.is_empty());
//! assert!(outcome.heights.iter().all(|height| *height > 5));
//! ```
mod app;
mod archives;
mod block;
mod config;
mod double;
mod engine;
mod epochs;
pub mod evidence;
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
pub use mempool::{Mempool, PoolLimits, Refused};
pub use node::{Config, Node, NodeHandle};
pub use shared::{Final, Head, Settled};
