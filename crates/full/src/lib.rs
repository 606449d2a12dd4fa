//! The full node: opens, verifies and adds its share of each contribution together with its committee.
//!
//! # Where in the flow
//!
//! Steps 5 to 8 of a round. A committee is a leader, which takes uploads and drives, and a helper,
//! which answers. Each opens only the share that is sealed for it
//! ([`OpenedShare`]); together they check the proof, exchanging one message each way
//! ([`LeaderPending`], [`VerifiedShare`]); they agree on the batch and sign it; each then adds its
//! own verified shares into a [`ReleasableAggregate`]. [`leader::Leader`] is the machine that
//! decides what to do next; [`helper`] answers.
//!
//! # Invariants
//!
//! - Neither member ever holds both shares of a report: the other's is sealed to another key.
//! - A [`ReleasableAggregate`] can only be made from an [`AgreedBatch`], which needs every member's
//!   signature and at least `min_batch` reports, and from exactly the reports it lists.
//! - A report counts once: ids are sorted and distinct under the batch's root, and the store's
//!   replay cache refuses an id for ever.
//!
//! # Deviations
//!
//! Preparation follows the ping-pong topology of the VDAF draft, section 5.8. Unlike DAP-09, the
//! helper sends its aggregate share to the aggregation node itself instead of through the leader.
//!
//! [`AgreedBatch`]: defim_protocol::batch::AgreedBatch
//!
//! # Example
//!
//! ```
//! use defim_full::leader::{Input, Leader, Output};
//! # use defim_protocol::{Manifest, Member, NodeKey, RoundOpened, Schedule, VerifiedManifest, VerifiedRound, Digest, seal::SealingKey, vdaf::{Scheme, VdafSpec}};
//! # let key = NodeKey::from_seed([9; 32]);
//! # let member = |n: u8| Member { node: NodeKey::from_seed([n; 32]).id(), name: format!("full-{n}"), hpke: SealingKey::from_seed(n, [n; 32]).config() };
//! # let manifest = Manifest { name: "digits".into(), title: String::new(), summary: String::new(), aggregation: key.id(), members: vec![member(1), member(2)],
//! #   vdaf: VdafSpec { scheme: Scheme::Pine64, dimension: 4, frac_bits: 15 }, schedule: Schedule { min_batch: 2, max_batch: 9, settle_ms: 0, round_ms: 1000, rounds: 1 }, created_ms: 0,
//! #   learning: serde_json::value::RawValue::from_string("{}".into()).unwrap() };
//! # let task = VerifiedManifest::verify(manifest.sign(&key).unwrap(), None).unwrap();
//! # let opened = RoundOpened { task: task.task(), round: 1, base_model: Digest([0; 32]), opened_ms: 0, deadline_ms: 1000 };
//! # let round = VerifiedRound::verify(opened.sign(&key).unwrap(), &task).unwrap();
//! let secrets = defim_full::Secrets::from_seed([1; 32]).into();
//! let mut leader = Leader::new(task, round, secrets).unwrap();
//! leader.handle(0, Input::Tick);
//! assert!(matches!(leader.poll(), Some(Output::LoadState)));
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

pub mod helper;
pub mod holder;
pub mod leader;
mod prepare;
mod release;
mod secrets;
pub mod sum;
mod upload;

pub use prepare::{LeaderPending, OpenedShare, VerifiedShare};
pub use release::{AggregateBuilder, ReleasableAggregate, ReleaseError};
pub use secrets::Secrets;
pub use upload::{AcceptedReport, accept_upload};
