//! What the coordinator is told, and what it says.

use std::collections::{BTreeMap, BTreeSet};

use defim_learn::Metrics;
use defim_protocol::{
    CommitteeIndex, Digest, Millis, NodeId, ReportId, RoundNumber, RoundOpened, RoundPhase,
    SignedText,
    vote::Tally,
    wire::{ClosedBatch, Progress, Response, Submission},
};
use serde::{Deserialize, Serialize};

use crate::round::RestoredRound;

/// A finished round.
#[derive(Debug, Clone)]
pub struct Completed {
    /// The round.
    pub round: RoundNumber,
    /// Digest of the new model.
    pub digest: Digest,
    /// The new model, safetensors.
    pub model: Vec<u8>,
    /// The optimiser's state.
    pub optimiser: Vec<u8>,
    /// The new model on the task's hold-out rows.
    pub metrics: Metrics,
    /// Reports in the batch.
    pub reports: u64,
    /// Their private votes on the model before the round, if the task has votes.
    pub tally: Option<Tally>,
    /// Refused reports, by reason.
    pub rejected: BTreeMap<String, u64>,
    /// When.
    pub finished_ms: Millis,
    /// Selections that full nodes were asked to encrypt in it.
    pub spent: u64,
    /// The signed [`defim_protocol::record::RoundRecord`].
    pub record: SignedText,
    /// The sum of keys that opened the total.
    pub key: Vec<u8>,
    /// The ciphertexts that were added, ascending by node.
    pub ciphertexts: Vec<(NodeId, Vec<u8>)>,
    /// The optimiser's state before the round.
    pub optimiser_before: Vec<u8>,
    /// The accepted reports of each committee whose batch was added, both ascending.
    pub ids: Vec<(CommitteeIndex, Vec<ReportId>)>,
}

/// What the store holds of a task.
#[derive(Debug, Default)]
pub struct Restored {
    /// The last round that was opened, with whether it is over.
    pub round: Option<(SignedText, bool)>,
    /// Rounds that ended with a model.
    pub rounds_done: u64,
    /// Selections that full nodes were asked to encrypt, in the rounds that are over.
    pub spent: u64,
    /// The current model and optimiser state, if any round finished.
    pub model: Option<(Vec<u8>, Vec<u8>)>,
    /// What has come in of the open round.
    pub open: RestoredRound,
    /// Whether an admin has paused the task.
    pub paused: bool,
    /// Whether the next round waits for a ledger.
    pub held: bool,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// Time has passed.
    Tick,
    /// A full node's answer to what [`Coordinator::question`](crate::coordinator::Coordinator::question) asks it.
    Answered(NodeId, Response),
    /// A leader's word on the round; the node is the authenticated sender.
    Progress(NodeId, Progress),
    /// A full node says how many rows its silo has for this task. It counts from the next round on.
    SiloRows(NodeId, u64),
    /// An admin pauses the task or lets it go on.
    Pause(bool),
    /// The next round waits, or no longer: the ledger has not settled the one before.
    Hold(bool),
    /// These full nodes take no part on the ledger, which refuses the batches of their committees: a round that has not
    /// selected its batches leaves them out, and so do later ones.
    Absent(BTreeSet<NodeId>),
    /// An admin gives this round up, if it is the open one.
    Void {
        /// The round.
        round: RoundNumber,
        /// Why, for people.
        reason: String,
    },
}

/// What to do.
#[derive(Debug)]
pub enum Output {
    /// Store and announce this round.
    Open {
        /// The signed opening.
        signed: SignedText,
        /// The same, read.
        opened: RoundOpened,
    },
    /// Store how a committee's round ended.
    StoreClosed(RoundNumber, ClosedBatch),
    /// Store which batches are added; what was encrypted for an earlier selection goes.
    StoreSelection(RoundNumber, SignedText),
    /// Store an encrypted sum.
    StoreSum(RoundNumber, NodeId, Box<Submission>),
    /// Store which ciphertexts are opened.
    StoreOpening(RoundNumber, SignedText),
    /// Answer the sender of the input.
    Answer(Response),
    /// Store the new model and end the round, in one step.
    Complete(Box<Completed>),
    /// End the round without a result.
    Void {
        /// The round.
        round: RoundNumber,
        /// Why.
        reason: String,
        /// Selections that full nodes were asked to encrypt in it: each has cost privacy, opened or not.
        spent: u64,
    },
    /// Tell whoever watches.
    Changed,
}

/// Why a task cannot be run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CoordinatorError {
    /// This node does not run the task.
    #[error("task {0} is run by another aggregation node")]
    NotOurs(defim_protocol::TaskId),
    /// The learning specification is unusable.
    #[error("the task's learning specification is unusable: {0}")]
    Spec(String),
    /// What the store holds cannot be used.
    #[error("the stored state of task {task} cannot be used: {what}")]
    Damaged {
        /// The task.
        task: defim_protocol::TaskId,
        /// What is wrong.
        what: String,
    },
}

/// Progress of the open round as the leaders last told it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenRoundView {
    /// The round.
    pub opened: RoundOpened,
    /// Where it stands.
    pub phase: RoundPhase,
    /// Stored, not yet prepared.
    pub pending: u64,
    /// Verified.
    pub verified: u64,
    /// Refused, by reason.
    pub rejected: BTreeMap<String, u64>,
}
