//! The ledger: transactions, blocks, state machine, roots, receipts, rewards and the checking of finality certificates.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod batch;
mod committee;
mod id;
mod round;
mod signed;

pub use batch::{BatchError, BatchSummary, merkle_root};
pub use committee::{CommitteeIndex, committee_count, committee_of_report, committee_seats};
pub use id::{Digest, NodeId, ParseIdError, ReportId, TaskId};
pub use round::{Millis, RoundError, RoundNumber, RoundOpened, light_report_id, round_randomness};
pub use signed::{Context, NodeKey, Signature, SignatureError, SignedText};
