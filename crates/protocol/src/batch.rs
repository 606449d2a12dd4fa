//! The batch a committee signs: which reports, how many, and how many were refused for what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{
    Committee, CommitteeIndex, Context, Digest, NodeId, NodeKey, ReportId, RoundNumber,
    SignatureError, SignedText, TaskId, VerifiedRound,
};

/// What all members of a committee sign when a round closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchSummary {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// The committee.
    pub committee: CommitteeIndex,
    /// Merkle root over the accepted report ids in ascending order.
    pub root: Digest,
    /// How many reports were accepted.
    pub accepted: u64,
    /// How many were refused, by [`crate::Reason::slug`].
    pub rejected: BTreeMap<String, u64>,
    /// By how much accepted reports count more than once each ([`crate::RoundOpened::weights`]).
    #[serde(default, skip_serializing_if = "is_zero")]
    pub extra_weight: u64,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(weight: &u64) -> bool {
    *weight == 0
}

/// Why a batch is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Not readable.
    #[error("the batch summary cannot be read: {0}")]
    Malformed(String),
    /// A signature is missing or broken.
    #[error("the batch is not signed by its committee: {0}")]
    Signature(#[from] SignatureError),
    /// Not as many signatures as members, or over different texts.
    #[error("the batch needs the signature of every member over one text")]
    Incomplete,
    /// For something else.
    #[error(
        "the batch belongs to task {task}, round {round}, committee {committee}, which is not asked for"
    )]
    Elsewhere {
        /// Its task.
        task: TaskId,
        /// Its round.
        round: RoundNumber,
        /// Its committee.
        committee: CommitteeIndex,
    },
    /// There is nothing to add.
    #[error("the batch has no reports")]
    Empty,
    /// The ids are not those of the root.
    #[error("the batch's report ids are not those of its root")]
    WrongIds,
    /// The leader leaves out reports without counting them as refused.
    #[error("{refused} verified reports are left out, but only {counted} are counted as refused")]
    Uncounted {
        /// Left out.
        refused: u64,
        /// Refused by the summary.
        counted: u64,
    },
}

impl BatchSummary {
    /// The summary of these accepted reports. Order of `ids` does not matter; an id twice is refused.
    ///
    /// # Errors
    ///
    /// [`BatchError::WrongIds`] if an id comes twice: its report would be counted twice.
    pub fn new(
        task: TaskId,
        round: RoundNumber,
        committee: CommitteeIndex,
        ids: &[ReportId],
        rejected: BTreeMap<String, u64>,
    ) -> Result<Self, BatchError> {
        let mut sorted = ids.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() != ids.len() {
            return Err(BatchError::WrongIds);
        }
        Ok(Self {
            task,
            round,
            committee,
            root: merkle_root(&sorted),
            accepted: ids.len() as u64,
            rejected,
            extra_weight: 0,
        })
    }

    /// The same with the weights of a round's reports.
    #[must_use]
    pub fn weighed(self, round: &VerifiedRound, ids: &[ReportId]) -> Self {
        Self {
            extra_weight: round.extra_weight(ids),
            ..self
        }
    }

    /// Sign the summary as a member.
    ///
    /// # Errors
    ///
    /// [`BatchError::Malformed`] if it cannot be written as JSON.
    pub fn sign(&self, key: &NodeKey) -> Result<SignedText, BatchError> {
        let text = serde_json::to_string(self).map_err(|e| BatchError::Malformed(e.to_string()))?;
        Ok(SignedText::sign(Context::Batch, text, key))
    }

    /// Read a summary's text.
    ///
    /// # Errors
    ///
    /// [`BatchError::Malformed`].
    pub fn read(text: &str) -> Result<Self, BatchError> {
        serde_json::from_str(text).map_err(|e| BatchError::Malformed(e.to_string()))
    }
}

/// A summary that all members of its committee signed, over one text, with at least one report.
///
/// There is no other way to make one, and only sums of such batches are ever encrypted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgreedBatch {
    summary: BatchSummary,
    signatures: Vec<SignedText>,
}

impl AgreedBatch {
    /// Check the members' signatures, leader first, and that the batch is not empty.
    ///
    /// # Errors
    ///
    /// [`BatchError`] with the first rule that is broken.
    pub fn verify(
        committee: &Committee,
        round: RoundNumber,
        signatures: Vec<SignedText>,
    ) -> Result<Self, BatchError> {
        let members: Vec<_> = committee.members().iter().map(|m| m.node).collect();
        Ok(Self {
            summary: signed_by(committee, round, &members, &signatures)?,
            signatures,
        })
    }

    /// What was agreed.
    pub fn summary(&self) -> &BatchSummary {
        &self.summary
    }

    /// Digest of the signed text.
    pub fn digest(&self) -> Digest {
        digest(&self.signatures)
    }

    /// All members' signatures, leader first.
    pub fn signatures(&self) -> &[SignedText] {
        &self.signatures
    }
}

/// A summary that the leader and one helper signed: what that helper adds its shares for. With two shares that is all of
/// the committee; with three it is of no use before the other helper has signed too, as only an [`AgreedBatch`] is ever
/// selected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBatch {
    summary: BatchSummary,
    signatures: Vec<SignedText>,
}

impl SignedBatch {
    /// Check both signatures, and that the batch is not empty.
    ///
    /// # Errors
    ///
    /// [`BatchError`] with the first rule that is broken.
    pub fn verify(
        committee: &Committee,
        round: RoundNumber,
        helper: &NodeId,
        signatures: [SignedText; 2],
    ) -> Result<Self, BatchError> {
        let members = [committee.leader().node, *helper];
        Ok(Self {
            summary: signed_by(committee, round, &members, &signatures)?,
            signatures: signatures.to_vec(),
        })
    }

    /// What was signed.
    pub fn summary(&self) -> &BatchSummary {
        &self.summary
    }

    /// Digest of the signed text.
    pub fn digest(&self) -> Digest {
        digest(&self.signatures)
    }

    /// The signatures that are known here, leader first.
    pub fn signatures(&self) -> &[SignedText] {
        &self.signatures
    }
}

impl From<AgreedBatch> for SignedBatch {
    fn from(batch: AgreedBatch) -> Self {
        Self {
            summary: batch.summary,
            signatures: batch.signatures,
        }
    }
}

fn digest(signatures: &[SignedText]) -> Digest {
    let text = signatures.first().map(|signed| signed.payload.as_bytes());
    Digest::of(text.unwrap_or_default())
}

/// The summary that these nodes signed, each over the same text.
fn signed_by(
    committee: &Committee,
    round: RoundNumber,
    nodes: &[NodeId],
    signatures: &[SignedText],
) -> Result<BatchSummary, BatchError> {
    let text = signatures.first().map(|s| &s.payload);
    let text = text.ok_or(BatchError::Incomplete)?;
    if signatures.len() != nodes.len() || signatures.iter().any(|s| s.payload != *text) {
        return Err(BatchError::Incomplete);
    }
    for (node, signature) in nodes.iter().zip(signatures) {
        signature.verify(Context::Batch, node)?;
    }
    let summary = BatchSummary::read(text)?;
    if summary.task != committee.task()
        || summary.round != round
        || summary.committee != committee.index()
    {
        return Err(BatchError::Elsewhere {
            task: summary.task,
            round: summary.round,
            committee: summary.committee,
        });
    }
    match summary.accepted {
        0 => Err(BatchError::Empty),
        _ => Ok(summary),
    }
}

/// Merkle root over sorted report ids, hashed as in RFC 6962 (a leaf can never pass for a node).
/// The root of no reports is the digest of nothing.
pub fn merkle_root(sorted: &[ReportId]) -> Digest {
    match sorted {
        [] => Digest::of(&[]),
        [id] => {
            let mut hash = Sha256::new_with_prefix([0]);
            hash.update(id.0);
            Digest(hash.finalize().into())
        }
        _ => {
            let (left, right) = sorted.split_at(sorted.len().next_power_of_two() / 2);
            let mut hash = Sha256::new_with_prefix([1]);
            hash.update(merkle_root(left).0);
            hash.update(merkle_root(right).0);
            Digest(hash.finalize().into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        VerifiedManifest,
        manifest::tests::{manifest, manifest_of},
    };

    fn ids(n: u8) -> Vec<ReportId> {
        (0..n).map(|i| ReportId([i; 16])).collect()
    }

    #[test]
    fn nothing_empty_and_nothing_half_signed_is_agreed() {
        let key = NodeKey::from_seed([9; 32]);
        let task = VerifiedManifest::verify(manifest(&key).sign(&key).unwrap(), None).unwrap();
        let committee = task.committee(0).unwrap();
        let keys = [NodeKey::from_seed([1; 32]), NodeKey::from_seed([2; 32])];
        let of = |index: u32, n: u8| {
            let summary =
                BatchSummary::new(task.task(), 1, index, &ids(n), BTreeMap::new()).unwrap();
            keys.iter()
                .map(|k| summary.sign(k).unwrap())
                .collect::<Vec<_>>()
        };
        let signed = |n: u8| of(0, n);
        assert!(AgreedBatch::verify(&committee, 1, signed(2)).is_ok());
        assert_eq!(
            AgreedBatch::verify(&committee, 1, signed(0)),
            Err(BatchError::Empty)
        );
        assert!(matches!(
            AgreedBatch::verify(&committee, 2, signed(2)),
            Err(BatchError::Elsewhere { .. })
        ));
        // The other committee has the same two members, in other seats.
        assert!(matches!(
            AgreedBatch::verify(&committee, 1, of(1, 2)),
            Err(BatchError::Elsewhere { .. })
        ));
        assert_eq!(
            AgreedBatch::verify(&committee, 1, signed(2)[..1].to_vec()),
            Err(BatchError::Incomplete)
        );
        let twice = vec![signed(2)[0].clone(), signed(2)[0].clone()];
        assert!(matches!(
            AgreedBatch::verify(&committee, 1, twice),
            Err(BatchError::Signature(_))
        ));
        let differing = vec![signed(2)[0].clone(), signed(3)[1].clone()];
        assert_eq!(
            AgreedBatch::verify(&committee, 1, differing),
            Err(BatchError::Incomplete)
        );
    }

    #[test]
    fn of_three_members_all_must_sign() {
        let key = NodeKey::from_seed([9; 32]);
        let mut manifest = manifest_of(&key, 3);
        manifest.vdaf.shares = 3;
        let task = VerifiedManifest::verify(manifest.sign(&key).unwrap(), None).unwrap();
        let committee = task.committee(0).unwrap();
        let keys = [1, 2, 3].map(|n| NodeKey::from_seed([n; 32]));
        let summary = BatchSummary::new(task.task(), 1, 0, &ids(2), BTreeMap::new()).unwrap();
        let [leader, first, second] = [0, 1, 2].map(|at: usize| summary.sign(&keys[at]).unwrap());
        let verify = |signed: &[&SignedText]| {
            let signed = signed.iter().map(|s| (*s).clone()).collect();
            AgreedBatch::verify(&committee, 1, signed)
        };
        let agreed = verify(&[&leader, &first, &second]).unwrap();
        for two in [[&leader, &first], [&leader, &second], [&first, &second]] {
            assert_eq!(verify(&two), Err(BatchError::Incomplete));
        }
        assert!(matches!(
            verify(&[&leader, &first, &first]),
            Err(BatchError::Signature(_))
        ));
        // A helper knows of itself and the leader only, and stands for the same text.
        let own = SignedBatch::verify(&committee, 1, &keys[2].id(), [leader.clone(), second]);
        assert_eq!(own.unwrap().digest(), agreed.digest());
        let other = SignedBatch::verify(&committee, 1, &keys[2].id(), [leader, first]);
        assert!(matches!(other, Err(BatchError::Signature(_))));
    }

    #[test]
    fn a_report_cannot_be_listed_twice_and_the_root_names_each() {
        let task = TaskId([0; 32]);
        let twice = [ReportId([1; 16]), ReportId([1; 16])];
        assert_eq!(
            BatchSummary::new(task, 1, 0, &twice, BTreeMap::new()),
            Err(BatchError::WrongIds)
        );
        let mut roots: Vec<_> = (0..20).map(|n| merkle_root(&ids(n))).collect();
        roots.sort_unstable();
        roots.dedup();
        assert_eq!(roots.len(), 20);
        let mut reversed = ids(7);
        reversed.reverse();
        assert_eq!(
            BatchSummary::new(task, 1, 0, &reversed, BTreeMap::new())
                .unwrap()
                .root,
            merkle_root(&ids(7))
        );
    }
}
