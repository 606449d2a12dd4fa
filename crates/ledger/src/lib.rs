//! The ledger: transactions, blocks, state machine, roots, receipts, rewards and the checking of finality certificates.
//!
//! # Where in the flow
//!
//! | who | does | with |
//! |---|---|---|
//! | every role | names things and signs statements | [`NodeId`], [`Digest`], [`SignedText`], [`RoundOpened`], [`BatchSummary`] |
//! | whoever wants something | signs a transaction | [`Tx`], [`Body`] |
//! | validators | take transactions, propose and check blocks, hold the state | [`check`], [`propose`], [`verify`], [`State`] |
//! | whoever audits | carries out all blocks again | [`apply`] |
//! | light nodes | follow the final headers, check receipts and balances, claim | [`light`] |
//!
//! A round on the ledger, in the order of its transactions:
//!
//! | transaction | by | then the round is |
//! |---|---|---|
//! | [`Body::RoundOpened`] | aggregation node | [`Stage::Open`]; its budget is set aside |
//! | [`Body::BatchClosed`], one for each committee | a member, or the aggregation node | |
//! | [`Body::Opened`] | aggregation node | [`Stage::Opened`] |
//! | [`Body::ModelUpdated`] | aggregation node | [`Stage::Proposed`] |
//! | [`Body::Vote`], one for each validator | validators | at the end of a block with a quorum of accepting votes [`Stage::Finished`]: everybody is paid, and the model is the task's; with more complaints than may be wrong [`Stage::Voided`] |
//! | [`Body::Claim`] | light nodes | |
//!
//! # Invariants
//!
//! - Nothing here does I/O, reads a clock or draws randomness. The same blocks give the same bytes on every target; there
//!   are no floats, and no map whose order is not that of its keys.
//! - Each value has one encoding ([`Canonical`]): what is read and written again is the same bytes.
//! - What was issued is on an account, in a task's budget or set aside for a round: the sum never changes
//!   ([`State::supply`]). A round's payouts sum to its budget ([`rewards`]).
//! - The state does not grow by history: of a task it has the newest [`Params::claim_rounds`] rounds. Nothing that is
//!   free adds to it without a bound.
//! - The state's root follows from its contents, not from how they came about. A copy is free, a change costs one
//!   path of hashes.
//! - A transaction is carried out once, on one chain, for its sender. It changes all that it says or nothing.
//! - A [`light::FinalHeader`] exists only where a quorum of the right epoch's validators has signed.
//! - Evidence is judged from its bytes alone ([`Evidence::verify`]). What takes more than bytes to judge slashes only by
//!   the complaints of a quorum of validators.
//!
//! # Deviations
//!
//! - Certificates have the format and the signature rule (ZIP 215) of commonware-consensus 2026.10.0, read and checked
//!   here without its code, which browsers cannot build; `vectors/engine.json` has what the engine wrote.
//! - The design lists `Genesis` and `Reward` as transactions. The genesis is a value of its own, whose digest is the
//!   chain's id, and rewards follow from votes.
//! - Validators are paid for votes up to the end of the block that finishes a round; later ones are not taken.
//! - Two openings of a round are a fault, two selections are none; of two batches of a committee only its helpers are at
//!   fault ([`Evidence`]).
//!
//! # Example
//!
//! ```
//! use defim_ledger::{
//!     AccountSlot, Block, Body, FirstValidator, Genesis, NodeKey, Params, State, Tx, propose, verify,
//! };
//!
//! let (admin, validator) = (NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32]));
//! let genesis = Genesis {
//!     name: "example".into(),
//!     timestamp_ms: 1_700_000_000_000,
//!     validators: vec![FirstValidator {
//!         node: validator.id(),
//!         name: "validator 1".into(),
//!         address: "127.0.0.1:9000".into(),
//!     }],
//!     admins: vec![admin.id()],
//!     treasury: admin.id(),
//!     supply: 1_000_000,
//!     params: Params::default(),
//! };
//! let (first, before) = (Block::genesis(&genesis)?, State::genesis(&genesis)?);
//!
//! let to = NodeKey::from_seed([3; 32]).id();
//! let transfer = Tx {
//!     from: admin.id(),
//!     nonce: 0,
//!     chain: genesis.chain(),
//!     body: Body::Transfer { to, amount: 250 },
//! };
//! let txs = [transfer.sign(&admin)];
//! let proposal = propose(&before, first.header(), &txs, 1_700_000_001_000, 1 << 20)?;
//!
//! // Every other validator, from bytes alone.
//! let block = Block::from_bytes(&proposal.block.to_bytes())?;
//! let after = verify(&before, first.header(), &block)?;
//!
//! // Whoever believes the header believes the balance.
//! let proof = after.prove(&AccountSlot(to));
//! let account = proof.verify(&block.header().state_root, &AccountSlot(to))?;
//! assert_eq!(account.map(|account| account.balance), Some(250));
//! # Ok::<_, Box<dyn std::error::Error>>(())
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

mod batch;
mod block;
mod body;
mod codec;
mod committee;
mod consensus;
mod evidence;
mod genesis;
mod id;
mod invite;
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
pub use consensus::{Choice, ConsensusVote, Proposed};
pub use evidence::{Evidence, Shown};
pub use genesis::{FirstValidator, Genesis, GenesisError, Params, consensus_namespace};
pub use id::{Digest, NodeId, ParseIdError, ReportId, TaskId};
pub use invite::{InviteCode, InviteCodeError};
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
