//! The whole mesh in one process without sockets: every real step of a round, timed.
//!
//! # Where in the flow
//!
//! All of it. [`Mesh`] drives the very machines that servers run (coordinator, leader, helpers) with
//! virtual time and stores in memory; [`run`] adds light nodes that train, split, seal and upload.
//! [`run_plain`] is the same learning without cryptography, to compare with. In [`whole`] validators agree on what it
//! comes to, with faults and lies.
//!
//! # Invariants
//!
//! - Nothing is skipped: every report is sealed, opened and checked by all members of its committee, its shares
//!   are added, the sums encrypted, and their total opened.
//! - The learning of a run depends on the seed alone.
//!
//! # Example
//!
//! ```
//! use defim_learn::builtin;
//! use defim_sim::{Setup, run};
//!
//! let task = builtin("diabetes", None).ok_or("no such task")?;
//! let csv = defim_learn::builtin_csv("diabetes").ok_or("no rows")?;
//! let rows = task.spec.schema.read_csv(csv, &defim_learn::DataLimits::default())?;
//! let setup = Setup { spec: task.spec, rows, light: 4, silos: 0, rounds: 1, seed: 1, scheme: Default::default(), full: Setup::FULL, shares: 2, votes: 0, fairness_gap_ppm: 1_000_000, vanishing: 0, privacy: None, max_weight: 1, enrolled: false, attack: None };
//! let summary = run(&setup, &|| std::time::Duration::ZERO, &mut |_| {})?;
//! assert_eq!(summary.reports, 4);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod attack;
mod error;
mod member;
mod mesh;
mod plain;
mod run;
mod steps;
pub mod whole;

pub use attack::{Attack, AttackKind};
pub use error::SimError;
pub use mesh::{Heard, Mesh, MeshSetup, RoundResult};
pub use plain::run_plain;
pub use run::{Party, Setup, contribute, run};
pub use steps::{Clock, RoundReport, Steps, Summary};
