//! The batch a committee signs: which reports, how many, and how many were refused for what.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    CommitteeIndex, Context, Digest, NodeKey, ReportId, RoundNumber, SignatureError, SignedText,
    TaskId, merkle_root,
};

/// What all members of a committee sign when a round closes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchSummary {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// The round's opening, by what it decides ([`crate::round_randomness`]): a batch of one opening is none of another under
    /// the same number.
    pub opening: Digest,
    /// The committee.
    pub committee: CommitteeIndex,
    /// Merkle root over the accepted report ids in ascending order.
    pub root: Digest,
    /// How many reports were accepted.
    pub accepted: u64,
    /// How many were refused, by the reason's word.
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
        opening: Digest,
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
            opening,
            committee,
            root: merkle_root(&sorted),
            accepted: ids.len() as u64,
            rejected,
            extra_weight: 0,
        })
    }

    /// The same where accepted reports count this much more than once each.
    #[must_use]
    pub fn weighed(self, extra_weight: u64) -> Self {
        Self {
            extra_weight,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(n: u8) -> Vec<ReportId> {
        (0..n).map(|i| ReportId([i; 16])).collect()
    }

    #[test]
    fn a_report_cannot_be_listed_twice_and_the_root_names_each() {
        let (task, opening) = (TaskId([0; 32]), Digest([1; 32]));
        let twice = [ReportId([1; 16]), ReportId([1; 16])];
        assert_eq!(
            BatchSummary::new(task, 1, opening, 0, &twice, BTreeMap::new()),
            Err(BatchError::WrongIds)
        );
        let mut roots: Vec<_> = (0..20).map(|n| merkle_root(&ids(n))).collect();
        roots.sort_unstable();
        roots.dedup();
        assert_eq!(roots.len(), 20);
        let mut reversed = ids(7);
        reversed.reverse();
        assert_eq!(
            BatchSummary::new(task, 1, opening, 0, &reversed, BTreeMap::new())
                .unwrap()
                .root,
            merkle_root(&ids(7))
        );
    }
}
