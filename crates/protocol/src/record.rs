//! The public record of a finished round: what anybody needs to repeat its public steps.
//!
//! | step | repeated with |
//! |---|---|
//! | which reports | the batches, signed by their committees |
//! | which ciphertexts | the statements of the full nodes, with the roots of their ciphertexts |
//! | their sum | the ciphertexts; [`RoundRecord::sum`] is its root |
//! | the total | the opened key, whose digest is [`RoundRecord::key`] |
//! | the new model | the state before, [`RoundRecord::before`], and after, [`RoundRecord::after`] |
//! | the votes, if there are any | the total, whose last coordinates they are; [`RoundRecord::votes`] |
//!
//! The record is small and signed by the aggregation node. What it names by a digest is fetched apart, by whoever
//! wants to repeat that step.

use serde::{Deserialize, Serialize};

use crate::{
    Context, Digest, NodeId, NodeKey, RoundError, RoundNumber, SignatureError, SignedText, TaskId,
    VerifiedManifest, VerifiedRound,
    sum::{EncryptedSum, SumError, SumOpening, VerifiedSelection},
};

/// A model and the state of its optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelState {
    /// Digest of the model, safetensors.
    pub model: Digest,
    /// Digest of the optimiser's state.
    pub optimiser: Digest,
}

/// All that is public and small of a finished round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundRecord {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// The signed [`crate::RoundOpened`].
    pub opened: SignedText,
    /// The signed [`crate::sum::Selection`].
    pub selection: SignedText,
    /// Both members' signatures of each selected batch, in the order of the committees.
    pub batches: Vec<Vec<SignedText>>,
    /// The signed [`EncryptedSum`] of each full node that encrypted, ascending by node.
    pub sums: Vec<SignedText>,
    /// The signed [`SumOpening`].
    pub opening: SignedText,
    /// Merkle root over the blocks of the sum of the ciphertexts.
    pub sum: Digest,
    /// Digest of the opened sum of keys.
    pub key: Digest,
    /// What the round started from.
    pub before: ModelState,
    /// What it made of it.
    pub after: ModelState,
    /// In a task with private votes, how many there are in each bin, rounded ([`crate::vote::Tally`]): on the model that the round
    /// started from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub votes: Vec<i64>,
}

/// Why a record is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Not readable.
    #[error("the round's record cannot be read: {0}")]
    Malformed(String),
    /// Not signed by the task's aggregation node.
    #[error("the round's record is not to be trusted: {0}")]
    Signature(#[from] SignatureError),
    /// Another round's.
    #[error("the record is of task {task}, round {round}, which is not asked for")]
    Elsewhere {
        /// Its task.
        task: TaskId,
        /// Its round.
        round: RoundNumber,
    },
    /// Its opening breaks a rule.
    #[error(transparent)]
    Round(#[from] RoundError),
    /// A statement in it breaks a rule.
    #[error(transparent)]
    Statement(#[from] SumError),
    /// A full node that encrypted has no statement, or one that did not has one.
    #[error("the record has the statements of other full nodes than those of its batches")]
    OtherNodes,
    /// The round did not start from the model that it was opened for.
    #[error("the round was opened for another model than the record starts from")]
    OtherModel,
}

impl RoundRecord {
    /// Sign the record.
    ///
    /// # Errors
    ///
    /// [`RecordError::Malformed`] if it cannot be written as JSON.
    pub fn sign(&self, key: &NodeKey) -> Result<SignedText, RecordError> {
        let text =
            serde_json::to_string(self).map_err(|e| RecordError::Malformed(e.to_string()))?;
        Ok(SignedText::sign(Context::Record, text, key))
    }
}

/// A record whose every statement was signed by who must, for this round, with enough reports in its batches.
///
/// That its numbers are right is another question, which the bytes that it names answer.
#[derive(Debug, Clone)]
pub struct VerifiedRecord {
    signed: SignedText,
    record: RoundRecord,
    opened: VerifiedRound,
    selection: VerifiedSelection,
    ciphertexts: Vec<(NodeId, Digest)>,
    opening: SumOpening,
}

impl VerifiedRecord {
    /// Check a record against its task. `round` is the one that is asked for.
    ///
    /// # Errors
    ///
    /// [`RecordError`] with the first rule that is broken.
    pub fn verify(
        signed: SignedText,
        task: &VerifiedManifest,
        round: RoundNumber,
    ) -> Result<Self, RecordError> {
        signed.verify(Context::Record, &task.aggregation)?;
        let record: RoundRecord = serde_json::from_str(&signed.payload)
            .map_err(|e| RecordError::Malformed(e.to_string()))?;
        if record.task != task.task() || record.round != round {
            return Err(RecordError::Elsewhere {
                task: record.task,
                round: record.round,
            });
        }
        let opened = VerifiedRound::verify(record.opened.clone(), task)?;
        if opened.round != round {
            return Err(RecordError::Elsewhere {
                task: opened.task,
                round: opened.round,
            });
        }
        if opened.base_model != record.before.model {
            return Err(RecordError::OtherModel);
        }
        let selection = VerifiedSelection::verify(
            task,
            round,
            record.selection.clone(),
            record.batches.clone(),
        )?;
        if selection.nodes().len() != record.sums.len() {
            return Err(RecordError::OtherNodes);
        }
        let mut ciphertexts = Vec::with_capacity(record.sums.len());
        for (node, statement) in selection.nodes().iter().zip(&record.sums) {
            let sum = EncryptedSum::verify(statement, node, &selection)?;
            ciphertexts.push((*node, sum.ciphertext));
        }
        let opening = SumOpening::verify(&record.opening, task, &selection)?;
        Ok(Self {
            signed,
            record,
            opened,
            selection,
            ciphertexts,
            opening,
        })
    }

    /// The text and signature that were verified.
    pub fn signed(&self) -> &SignedText {
        &self.signed
    }

    /// Digest of the signed text: what a ledger names.
    pub fn digest(&self) -> Digest {
        Digest::of(self.signed.payload.as_bytes())
    }

    /// The round's opening.
    pub fn opened(&self) -> &VerifiedRound {
        &self.opened
    }

    /// The selected batches.
    pub fn selection(&self) -> &VerifiedSelection {
        &self.selection
    }

    /// Merkle root of each full node's ciphertext, ascending by node.
    pub fn ciphertexts(&self) -> &[(NodeId, Digest)] {
        &self.ciphertexts
    }

    /// Which ciphertexts were opened together, in the encoding of those that encrypt. Nothing if it is no hex.
    pub fn opened_set(&self) -> Option<Vec<u8>> {
        hex::decode(&self.opening.set).ok()
    }
}

impl std::ops::Deref for VerifiedRecord {
    type Target = RoundRecord;

    fn deref(&self) -> &RoundRecord {
        &self.record
    }
}
