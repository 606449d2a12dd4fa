//! The light node: trains locally, splits its update into sealed shares, uploads them once.
//!
//! # Where in the flow
//!
//! Steps 2 to 5 of a round, in the browser, in an edge worker and natively. Each step consumes the
//! one before it, so none can be skipped:
//! [`JoinedTask`] (manifest verified) → [`OpenRound`] (opening signed) → [`ReadyRound`] (opening final on the
//! ledger) → [`Training`] (model's digest verified) → `Samples` → `Features` → `LocalUpdate` → [`Quantised`] → [`Split`] →
//! [`SealedReport`]. [`delivery::Delivery`] then decides how the report reaches its leader.
//!
//! [`chain::Follower`] follows the mesh's ledger: it checks certificates, and what is proven under final blocks.
//!
//! After a round, [`Audit`] adds a few random blocks of its encrypted sum up again, and proves it if they are wrong.
//! Where participants are known, [`enrolment`] makes the transactions with which a light node enrols its key, and is paid.
//! Apart from rounds, [`Scoring`] asks a full node's model about rows that only this device can read.
//!
//! # Invariants
//!
//! - It trains only on a model whose digest the task's aggregation node signed, and, where the mesh keeps a ledger, only
//!   in a round whose opening a quorum of its validators has made final.
//! - Data and update leave this crate only as a [`SealedReport`]; rows to ask about only encrypted, as a [`Question`].
//! - Nothing here reads a clock, opens a socket or touches a disk. The shares' randomness is drawn
//!   by the VDAF library from the system's or the browser's generator.
//!
//! # Example
//!
//! ```
//! use defim_light::delivery::{Delivery, Input, Output, Path};
//!
//! let mut delivery = Delivery::new("full-1", true);
//! delivery.handle(0, Input::Tick);
//! assert_eq!(delivery.poll(), Some(Output::Try { path: Path::Webrtc, because: None }));
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

mod audit;
pub mod chain;
pub mod delivery;
pub mod enrolment;
mod error;
mod join;
mod scoring;
mod split;
mod training;

pub use audit::{AUDIT_BLOCKS, Audit, Verdict};
pub use error::LightError;
pub use join::{JoinedTask, OpenRound, ReadyRound};
pub use scoring::{Question, Scoring};
pub use split::{Content, SealedReport, Split};
pub use training::{Quantised, Training};
