//! Statements of a round's end: which batches are added, who encrypted what, what is opened.
//!
//! | step | who signs | says |
//! |---|---|---|
//! | 1 | all members of a committee | [`BatchSummary`]: which reports |
//! | 2 | aggregation node | [`Selection`]: which batches are added |
//! | 3 | each full node of a selected committee | [`EncryptedSum`]: its ciphertext and key shares |
//! | 4 | aggregation node | [`SumOpening`]: which ciphertexts are opened together |
//!
//! Each full node checks the steps before it by itself: nothing here needs the aggregation node to be honest.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    CommitteeIndex, Context, Digest, NodeId, NodeKey, RoundNumber, SignatureError, SignedText,
    TaskId, VerifiedManifest,
    batch::{AgreedBatch, BatchError, BatchSummary},
};

/// Which batches of a round are added, as the aggregation node signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// From 1; a later one leaves out what a node that has gone was part of.
    pub attempt: u32,
    /// Digest of each selected committee's agreed summary.
    pub batches: BTreeMap<CommitteeIndex, Digest>,
}

/// What one full node encrypted, as it signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EncryptedSum {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// Digest of the selection's text.
    pub selection: Digest,
    /// Merkle root over the ciphertext's blocks.
    pub ciphertext: Digest,
    /// Digest of the sealed share of the key for each full node of the task, in the manifest's order.
    pub key_shares: Vec<Digest>,
}

/// Which ciphertexts are opened together, as the aggregation node signed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SumOpening {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// Digest of the selection's text.
    pub selection: Digest,
    /// The set in its one encoding, hex; read by those that encrypt and open.
    pub set: String,
}

/// Why a statement is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SumError {
    /// Not readable.
    #[error("the statement cannot be read: {0}")]
    Malformed(String),
    /// Not signed by who must.
    #[error("the statement is not to be trusted: {0}")]
    Signature(#[from] SignatureError),
    /// Of another task, round or selection.
    #[error("the statement belongs to another task, round or selection")]
    Elsewhere,
    /// A selected batch breaks a rule.
    #[error("committee {committee}: {why}")]
    Batch {
        /// The committee.
        committee: CommitteeIndex,
        /// What is wrong.
        why: BatchError,
    },
    /// The batches are not those that the selection names.
    #[error("the batches are not those that the selection names")]
    OtherBatches,
    /// Too few reports: opening their total would show too much of each.
    #[error("the selection has {have} reports; below {need} a total is never opened")]
    BelowMinBatch {
        /// Accepted reports.
        have: u64,
        /// The task's least.
        need: u64,
    },
    /// More reports than the field has room for.
    #[error("the selection has {0} reports; their total could wrap around the field")]
    TooMany(u64),
}

impl Selection {
    /// Sign the selection.
    ///
    /// # Errors
    ///
    /// [`SumError::Malformed`] if it cannot be written as JSON.
    pub fn sign(&self, key: &NodeKey) -> Result<SignedText, SumError> {
        sign(self, Context::Selection, key)
    }
}

impl EncryptedSum {
    /// Sign the statement.
    ///
    /// # Errors
    ///
    /// [`SumError::Malformed`] if it cannot be written as JSON.
    pub fn sign(&self, key: &NodeKey) -> Result<SignedText, SumError> {
        sign(self, Context::EncryptedSum, key)
    }

    /// Read a statement that `node` signed for this selection.
    ///
    /// # Errors
    ///
    /// [`SumError`] if it is another's, or for something else.
    pub fn verify(
        signed: &SignedText,
        node: &NodeId,
        selection: &VerifiedSelection,
    ) -> Result<Self, SumError> {
        signed.verify(Context::EncryptedSum, node)?;
        let read: Self = read(signed)?;
        let ours = read.task == selection.task
            && read.round == selection.round
            && read.selection == selection.digest();
        match ours && read.key_shares.len() == selection.members {
            true => Ok(read),
            false => Err(SumError::Elsewhere),
        }
    }
}

impl SumOpening {
    /// Sign the statement.
    ///
    /// # Errors
    ///
    /// [`SumError::Malformed`] if it cannot be written as JSON.
    pub fn sign(&self, key: &NodeKey) -> Result<SignedText, SumError> {
        sign(self, Context::SumOpening, key)
    }

    /// Read a statement that the task's aggregation node signed for this selection.
    ///
    /// # Errors
    ///
    /// [`SumError`] if it is another's, or for something else.
    pub fn verify(
        signed: &SignedText,
        task: &VerifiedManifest,
        selection: &VerifiedSelection,
    ) -> Result<Self, SumError> {
        signed.verify(Context::SumOpening, &task.aggregation)?;
        let read: Self = read(signed)?;
        let ours = read.task == task.task()
            && read.round == selection.round
            && read.selection == selection.digest();
        match ours {
            true => Ok(read),
            false => Err(SumError::Elsewhere),
        }
    }
}

fn sign<T: Serialize>(
    statement: &T,
    context: Context,
    key: &NodeKey,
) -> Result<SignedText, SumError> {
    let text = serde_json::to_string(statement).map_err(|e| SumError::Malformed(e.to_string()))?;
    Ok(SignedText::sign(context, text, key))
}

fn read<T: for<'a> Deserialize<'a>>(signed: &SignedText) -> Result<T, SumError> {
    serde_json::from_str(&signed.payload).map_err(|e| SumError::Malformed(e.to_string()))
}

/// A selection that the task's aggregation node signed, whose batches are all agreed by their committees and
/// have at least `min_batch` reports together.
///
/// There is no other way to make one, and only for one is a sum encrypted or opened.
#[derive(Debug, Clone)]
pub struct VerifiedSelection {
    signed: SignedText,
    selection: Selection,
    batches: BTreeMap<CommitteeIndex, AgreedBatch>,
    nodes: BTreeSet<NodeId>,
    members: usize,
}

impl VerifiedSelection {
    /// Check a selection with the signatures of its batches, in the order of the committees.
    ///
    /// # Errors
    ///
    /// [`SumError`] with the first rule that is broken.
    pub fn verify(
        task: &VerifiedManifest,
        round: RoundNumber,
        signed: SignedText,
        signatures: Vec<Vec<SignedText>>,
    ) -> Result<Self, SumError> {
        signed.verify(Context::Selection, &task.aggregation)?;
        let selection: Selection = read(&signed)?;
        if selection.task != task.task() || selection.round != round {
            return Err(SumError::Elsewhere);
        }
        if selection.batches.len() != signatures.len() {
            return Err(SumError::OtherBatches);
        }
        let (mut batches, mut nodes) = (BTreeMap::new(), BTreeSet::new());
        for ((index, digest), signatures) in selection.batches.iter().zip(signatures) {
            let committee = task.committee(*index).ok_or(SumError::OtherBatches)?;
            let batch = AgreedBatch::verify(&committee, round, signatures).map_err(|why| {
                SumError::Batch {
                    committee: *index,
                    why,
                }
            })?;
            if batch.digest() != *digest {
                return Err(SumError::OtherBatches);
            }
            nodes.extend(committee.members().iter().map(|member| member.node));
            batches.insert(*index, batch);
        }
        let this = Self {
            signed,
            selection,
            batches,
            nodes,
            members: task.members.len(),
        };
        let (have, need) = (this.accepted(), u64::from(task.schedule.min_batch));
        if have < need {
            return Err(SumError::BelowMinBatch { have, need });
        }
        let weight = this.weight();
        task.vdaf
            .check_batch(weight)
            .map_err(|_| SumError::TooMany(weight))?;
        // All members of a committee together can make weights up, but not more than the task allows.
        match weight - have <= task.most_extra_weight() {
            true => Ok(this),
            false => Err(SumError::TooMany(weight)),
        }
    }

    /// The text and signature that were verified.
    pub fn signed(&self) -> &SignedText {
        &self.signed
    }

    /// Digest of the signed text.
    pub fn digest(&self) -> Digest {
        Digest::of(self.signed.payload.as_bytes())
    }

    /// The selected batches.
    pub fn batches(&self) -> &BTreeMap<CommitteeIndex, AgreedBatch> {
        &self.batches
    }

    /// The signatures of the batches, in the order of the committees.
    pub fn signatures(&self) -> Vec<Vec<SignedText>> {
        let batches = self.batches.values();
        batches.map(|batch| batch.signatures().to_vec()).collect()
    }

    /// The full nodes that encrypt: the members of the selected committees, ascending.
    pub fn nodes(&self) -> &BTreeSet<NodeId> {
        &self.nodes
    }

    /// Reports in all batches.
    pub fn accepted(&self) -> u64 {
        let summaries = self.batches.values().map(AgreedBatch::summary);
        summaries.fold(0, |sum, summary| sum.saturating_add(summary.accepted))
    }

    /// How often the reports of all batches count together: what a mean is divided by.
    pub fn weight(&self) -> u64 {
        let summaries = self.batches.values().map(AgreedBatch::summary);
        let extra = summaries.fold(0_u64, |sum, s| sum.saturating_add(s.extra_weight));
        self.accepted().saturating_add(extra)
    }

    /// Reports that were refused, in all committees, by reason.
    pub fn rejected(&self) -> BTreeMap<String, u64> {
        let mut all = BTreeMap::<String, u64>::new();
        for BatchSummary { rejected, .. } in self.batches.values().map(AgreedBatch::summary) {
            for (reason, count) in rejected {
                let total = all.entry(reason.clone()).or_default();
                *total = total.saturating_add(*count);
            }
        }
        all
    }
}

impl std::ops::Deref for VerifiedSelection {
    type Target = Selection;

    fn deref(&self) -> &Selection {
        &self.selection
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ReportId, manifest::tests::manifest_of};

    struct World {
        key: NodeKey,
        task: VerifiedManifest,
    }

    fn world() -> World {
        let key = NodeKey::from_seed([9; 32]);
        let task = manifest_of(&key, 3).sign(&key).unwrap();
        let task = VerifiedManifest::verify(task, None).unwrap();
        World { key, task }
    }

    impl World {
        fn batch(&self, committee: CommitteeIndex, reports: u8) -> Vec<SignedText> {
            let ids: Vec<_> = (0..reports)
                .map(|n| ReportId([n + 16 * committee as u8; 16]))
                .collect();
            let summary = BatchSummary::new(
                self.task.task(),
                1,
                Digest([5; 32]),
                committee,
                &ids,
                BTreeMap::new(),
            )
            .unwrap();
            let committee = self.task.committee(committee).unwrap();
            committee
                .members()
                .iter()
                .map(|member| {
                    let seed = (1..=3)
                        .find(|n| NodeKey::from_seed([*n; 32]).id() == member.node)
                        .unwrap();
                    summary.sign(&NodeKey::from_seed([seed; 32])).unwrap()
                })
                .collect()
        }

        fn selection(&self, batches: &[(CommitteeIndex, &Vec<SignedText>)]) -> SignedText {
            let batches = batches
                .iter()
                .map(|(index, signed)| (*index, Digest::of(signed[0].payload.as_bytes())))
                .collect();
            let selection = Selection {
                task: self.task.task(),
                round: 1,
                attempt: 1,
                batches,
            };
            selection.sign(&self.key).unwrap()
        }
    }

    #[test]
    fn a_selection_is_of_agreed_batches_with_enough_reports_and_names_who_encrypts() {
        let world = world();
        let (first, second) = (world.batch(0, 1), world.batch(1, 1));
        let signed = world.selection(&[(0, &first), (1, &second)]);
        let verify = |signed, batches| VerifiedSelection::verify(&world.task, 1, signed, batches);
        let both = verify(signed.clone(), vec![first.clone(), second.clone()]).unwrap();
        assert_eq!((both.accepted(), both.nodes().len()), (2, 3));
        // Another batch than the one that is named, and batches in part.
        let other = world.batch(1, 2);
        assert_eq!(
            verify(signed.clone(), vec![first.clone(), other]).unwrap_err(),
            SumError::OtherBatches
        );
        assert_eq!(
            verify(signed.clone(), vec![first.clone()]).unwrap_err(),
            SumError::OtherBatches
        );
        // Weights that the task does not allow, though both members signed them.
        let committee = world.task.committee(1).unwrap();
        let mut heavy = BatchSummary::read(&second[0].payload).unwrap();
        heavy.extra_weight = 1;
        let heavy: Vec<_> = committee
            .members()
            .iter()
            .map(|member| {
                let keys = (1..=3).map(|n| NodeKey::from_seed([n; 32]));
                let key = keys
                    .into_iter()
                    .find(|key| key.id() == member.node)
                    .unwrap();
                heavy.sign(&key).unwrap()
            })
            .collect();
        let weighed = world.selection(&[(0, &first), (1, &heavy)]);
        assert_eq!(
            verify(weighed, vec![first.clone(), heavy]).unwrap_err(),
            SumError::TooMany(3)
        );
        // One report is less than the task's two.
        let alone = world.selection(&[(0, &first)]);
        assert_eq!(
            verify(alone, vec![first.clone()]).unwrap_err(),
            SumError::BelowMinBatch { have: 1, need: 2 }
        );
        // A committee's word does not stand for another's.
        let moved = world.selection(&[(2, &first), (1, &second)]);
        assert!(matches!(
            verify(moved, vec![second.clone(), first.clone()]),
            Err(SumError::Batch { .. })
        ));
        let stranger = NodeKey::from_seed([7; 32]);
        let forged = both.selection.sign(&stranger).unwrap();
        assert!(matches!(
            verify(forged, vec![first, second]),
            Err(SumError::Signature(_))
        ));
    }

    #[test]
    fn what_was_encrypted_for_one_selection_is_not_taken_for_another() {
        let world = world();
        let (first, second) = (world.batch(0, 1), world.batch(1, 1));
        let signed = world.selection(&[(0, &first), (1, &second)]);
        let selection =
            VerifiedSelection::verify(&world.task, 1, signed, vec![first, second]).unwrap();
        let node = NodeKey::from_seed([1; 32]);
        let statement = EncryptedSum {
            task: world.task.task(),
            round: 1,
            selection: selection.digest(),
            ciphertext: Digest([1; 32]),
            key_shares: vec![Digest([2; 32]); 3],
        };
        let verify = |statement: &EncryptedSum, node: &NodeKey| {
            EncryptedSum::verify(&statement.sign(node).unwrap(), &node.id(), &selection)
        };
        assert_eq!(verify(&statement, &node), Ok(statement.clone()));
        for other in [
            EncryptedSum {
                selection: Digest([9; 32]),
                ..statement.clone()
            },
            EncryptedSum {
                round: 2,
                ..statement.clone()
            },
            EncryptedSum {
                key_shares: Vec::new(),
                ..statement.clone()
            },
        ] {
            assert_eq!(verify(&other, &node), Err(SumError::Elsewhere));
        }
        let signed = statement.sign(&node).unwrap();
        let claimed = EncryptedSum::verify(&signed, &NodeId([1; 32]), &selection);
        assert!(matches!(claimed, Err(SumError::Signature(_))));
    }
}
