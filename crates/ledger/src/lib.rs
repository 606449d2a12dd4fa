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
mod block;
mod body;
mod codec;
mod committee;
mod evidence;
mod genesis;
mod id;
pub mod light;
pub mod limits;
pub mod merkle;
mod reject;
pub mod rewards;
mod round;
mod signed;
mod state;
mod terms;
mod transition;
mod trie;
mod tx;

pub use batch::{BatchError, BatchSummary};
pub use block::{Block, BlockError, Header, Proposal, Roots, TxProof, apply, propose, verify};
pub use body::{
    Admission, Body, Claim, CreateTask, Fault, ModelUpdated, Opened, Role, Verdict, Vote,
};
pub use codec::{Canonical, CodecError};
pub use committee::{CommitteeIndex, committee_count, committee_of_report, committee_seats};
pub use evidence::{Evidence, Shown};
pub use genesis::{FirstValidator, Genesis, GenesisError, Params, consensus_namespace};
pub use id::{Digest, NodeId, ParseIdError, ReportId, TaskId};
pub use merkle::{merkle_root, report_path};
pub use reject::Reject;
pub use round::{
    Millis, RoundError, RoundNumber, RoundOpened, light_report_id, round_randomness, signed_digest,
};
pub use signed::{Context, NodeKey, Signature, SignatureError, SignedText};
pub use state::{
    Account, AccountSlot, AdminsSlot, Batch, Chain, ChainSlot, Head, HeadSlot, InviteSlot, Light,
    LightSlot, NodeEntry, NodeSlot, NodeStatus, ProofError, Round, RoundSlot, Slot, SnapshotError,
    Stage, State, StateProof, Supply, Task, TaskSlot, TaskStatus, Validators, ValidatorsSlot, Void,
    VotedSlot,
};
pub use terms::{AdmissionRule, Invite, Split, TaskTerms};
pub use transition::{check, execute};
pub use tx::{SignedTx, Tx};
