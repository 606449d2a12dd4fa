//! A receipt: that a report is counted in a finished round.

use serde::{Deserialize, Serialize};

use crate::{
    CommitteeIndex, Digest, ProofError, ReportId, RoundNumber, RoundSlot, Stage, State, StateProof,
    TaskId, codec::Canonical, limits, merkle,
};

use super::FinalHeader;

/// That a report is counted in a finished round. It is checked under any final header from the one that finished
/// the round until the round's rewards run out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// The committee that checked the report.
    pub committee: CommitteeIndex,
    /// The report's place in its batch.
    pub path: merkle::Path,
    /// What the ledger knows of the round.
    pub record: StateProof,
}

/// What a receipt shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// The block under which it was checked.
    pub height: u64,
    /// The model that the report is in.
    pub model: Digest,
    /// Reports of the batch, of which this is one.
    pub accepted: u64,
    /// What it earns, if it is claimed in time.
    pub reward: u64,
}

/// Why a receipt is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiptError {
    /// The record is not that of the final state.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The ledger has no such round, or no longer.
    #[error("the ledger does not have this round, or no longer")]
    NoRound,
    /// The round has no result.
    #[error("the round is not finished, or was voided: no report of it is counted")]
    NotFinished,
    /// The committee has no batch in the round's total.
    #[error("the committee's batch is not in the round's total")]
    NoBatch,
    /// The report is not in the batch.
    #[error("the report is not in the committee's batch at this place")]
    NotInBatch,
}

impl Receipt {
    /// Make the receipt of a report from a state, and its path in its batch ([`crate::report_path`]).
    pub fn new(
        state: &State,
        task: TaskId,
        round: RoundNumber,
        committee: CommitteeIndex,
        path: merkle::Path,
    ) -> Self {
        Self {
            task,
            round,
            committee,
            path,
            record: state.prove(&RoundSlot(task, round)),
        }
    }

    /// Check under a final header that the report is counted.
    ///
    /// # Errors
    ///
    /// [`ReceiptError`] with what does not hold.
    pub fn verify(&self, under: &FinalHeader, report: &ReportId) -> Result<Counted, ReceiptError> {
        let round = under
            .state(&RoundSlot(self.task, self.round), &self.record)?
            .ok_or(ReceiptError::NoRound)?;
        let Stage::Finished {
            model, per_report, ..
        } = round.stage
        else {
            return Err(ReceiptError::NotFinished);
        };
        let batch = round
            .batches
            .get(&self.committee)
            .ok_or(ReceiptError::NoBatch)?;
        let leaf = merkle::leaf_hash(&report.0);
        if !self.path.holds(leaf, batch.accepted, &batch.root) {
            return Err(ReceiptError::NotInBatch);
        }
        Ok(Counted {
            height: under.header().height,
            model,
            accepted: batch.accepted,
            reward: per_report,
        })
    }
}

impl Canonical for Receipt {
    const MOST_BYTES: usize = limits::PROOF_BYTES;
}
