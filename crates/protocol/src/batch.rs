//! The batch a committee signs: which reports, how many, and how many were refused for what.

pub use defim_ledger::{BatchError, BatchSummary, merkle_root};

use crate::{Committee, Context, Digest, RoundNumber, SignedText};

/// A summary that both members of its committee signed, over one text, with at least one report.
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
        let text = signatures
            .first()
            .map(|s| s.payload.clone())
            .ok_or(BatchError::Incomplete)?;
        if signatures.len() != committee.members().len()
            || signatures.iter().any(|s| s.payload != text)
        {
            return Err(BatchError::Incomplete);
        }
        for (member, signature) in committee.members().iter().zip(&signatures) {
            signature.verify(Context::Batch, &member.node)?;
        }
        let summary = BatchSummary::read(&text)?;
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
        if summary.accepted == 0 {
            return Err(BatchError::Empty);
        }
        Ok(Self {
            summary,
            signatures,
        })
    }

    /// What was agreed.
    pub fn summary(&self) -> &BatchSummary {
        &self.summary
    }

    /// Digest of the signed text.
    pub fn digest(&self) -> Digest {
        let text = self
            .signatures
            .first()
            .map(|signed| signed.payload.as_bytes());
        Digest::of(text.unwrap_or_default())
    }

    /// Both members' signatures, leader first.
    pub fn signatures(&self) -> &[SignedText] {
        &self.signatures
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{NodeKey, ReportId, VerifiedManifest, manifest::tests::manifest};

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
}
