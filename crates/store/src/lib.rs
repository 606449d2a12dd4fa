//! The work store: tasks, rounds, reports, batches, models and the replay cache on SQLite.
//!
//! # Where in the flow
//!
//! Beside every server role. A full node keeps tasks, rounds, sealed reports, its own shares of
//! verified reports, closed batches and what it has opened here; an aggregation node keeps rounds, encrypted
//! sums and models. Nothing but bytes and numbers is known here; roles give them meaning.
//!
//! # Invariants
//!
//! - A method that returned `Ok` has changed the disk: the journal is synchronous, every change is
//!   one transaction. The one exception is unfinished uploads, which a crash may shorten.
//! - A report id is used once for a task, for ever: [`WorkStore::put_report`] and
//!   [`WorkStore::claim_helper_report`] remember ids after everything else of a report is gone.
//! - Closing a batch and dropping the reports and shares it was made of is one transaction; so is
//!   storing a model and dropping the encrypted sums it was made of.
//! - Time is an argument.
//!
//! # Example
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), defim_store::StoreError> {
//! use defim_store::{NewReport, PutReport, WorkStore};
//!
//! let store = WorkStore::open_in_memory().await?;
//! store.put_task([1; 32], b"manifest", 0).await?;
//! store.put_round([1; 32], 1, b"round", 0).await?;
//! let report = NewReport { task: [1; 32], round: 1, committee: 0, id: [2; 16], digest: [3; 32], bytes: vec![4], time: 0, received: 0 };
//! assert_eq!(store.put_report(report.clone()).await?, PutReport::Stored);
//! assert_eq!(store.put_report(report).await?, PutReport::Same);
//! # Ok(())
//! # }
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

mod aggregation;
mod batch;
mod encrypted;
mod error;
mod open;
mod partial;
mod report;
mod row;
mod task;

pub use aggregation::{Artefact, CompletedRound, RoundRecord};
pub use batch::{ClosedBatch, StoredBatch};
pub use encrypted::EncryptedLast;
pub use error::StoreError;
pub use open::WorkStore;
pub use partial::PartialKey;
pub use report::{
    BegunReport, ClaimReport, NewReport, Outcome, PendingReport, PutReport, ReportCounts,
    ReportStatus,
};
pub use task::{RoundState, StoredRound};

/// A task id.
pub type TaskKey = [u8; 32];
/// A report id.
pub type ReportKey = [u8; 16];
/// A SHA-256 digest.
pub type DigestKey = [u8; 32];
/// A node's public key.
pub type NodeKey = [u8; 32];

/// What a batch, and each report that is to go into it, belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchKey {
    /// The task.
    pub task: TaskKey,
    /// The round.
    pub round: u64,
    /// The committee.
    pub committee: u32,
}
