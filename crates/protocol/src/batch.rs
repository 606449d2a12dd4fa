//! The batch a committee signs: which reports, how many, and how many were refused for what.

pub use defim_ledger::{BatchError, BatchSummary, merkle_root};

use crate::{Committee, Context, Digest, NodeId, RoundNumber, SignedText};

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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{
        NodeKey, ReportId, VerifiedManifest,
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
            let summary = BatchSummary::new(
                task.task(),
                1,
                Digest([5; 32]),
                index,
                &ids(n),
                BTreeMap::new(),
            )
            .unwrap();
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
        let summary =
            BatchSummary::new(task.task(), 1, Digest([5; 32]), 0, &ids(2), BTreeMap::new())
                .unwrap();
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
}
