//! Ids, units, limits, the signed task manifest, wire messages, sealing, reject reasons and the round state machine.
//!
//! # Where in the flow
//!
//! Every role speaks through this crate. A light node verifies a [`SignedText`] manifest and round,
//! splits its update with the task's VDAF ([`vdaf`]), seals each share ([`seal`]) and sends one
//! report ([`report`]). Full nodes exchange the messages of [`wire`], agree on a
//! [`batch::BatchSummary`] and sign it. Nothing here does I/O, reads a clock or draws randomness by
//! itself.
//!
//! # Invariants
//!
//! - A task id is the SHA-256 of the exact manifest text, so two parties that name the same id mean
//!   the same members, keys, limits and schema.
//! - A signature covers a context string, so that a signed round can never pass for a signed batch.
//! - Every length is checked against [`limits`] before memory is taken for it.
//! - Types that hold shares or keys print nothing of them in `Debug`.
//!
//! # Deviations
//!
//! Reports are those of the Distributed Aggregation Protocol, draft 09 (DAP-09), section 4.4. One
//! private-use extension, [`report::ROUND_EXTENSION`], binds a report to one round; see
//! `docs/decisions/0003-round-extension.md`. DAP-09 has two aggregators; reports of tasks with three shares are
//! [`report::SealedShares`], of our own media type: see `docs/decisions/0014-three-shares.md`.
//!
//! # Example
//!
//! ```
//! use defim_protocol::{Context, NodeKey, SignedText};
//!
//! let key = NodeKey::from_seed([7; 32]);
//! let signed = SignedText::sign(Context::Round, "{\"round\":1}".to_owned(), &key);
//! assert!(signed.verify(Context::Round, &key.id()).is_ok());
//! assert!(signed.verify(Context::Batch, &key.id()).is_err());
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

pub mod batch;
mod committee;
mod credential;
pub mod limits;
mod manifest;
mod privacy;
mod reason;
pub mod record;
pub mod report;
mod round;
pub mod seal;
mod size;
pub mod sum;
pub mod vdaf;
pub mod vote;
pub mod wire;

pub use committee::{Committee, CommitteeIndex};
pub use credential::{Credential, Enrolled};
pub use defim_ledger::{
    AdmissionRule, Context, Digest, NodeId, NodeKey, ParseIdError, ReportId, Signature,
    SignatureError, SignedText, TaskId,
};
pub use manifest::{LedgerTerms, Manifest, ManifestError, Member, Schedule, VerifiedManifest};
pub use privacy::Privacy;
pub use reason::Reason;
pub use round::{Millis, RoundError, RoundNumber, RoundOpened, RoundPhase, VerifiedRound};
