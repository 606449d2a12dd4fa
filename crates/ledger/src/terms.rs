//! The terms of a task, as they are on the ledger: who serves it, who may contribute, what is paid.

use serde::{Deserialize, Serialize};

use crate::{Millis, NodeId, limits};

/// How a round's budget is shared out, in parts of 10,000 that sum to 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// To light nodes, the same for each accepted report.
    pub light: u16,
    /// To committee members, by verified reports.
    pub committee: u16,
    /// To the aggregation node, for the opening.
    pub aggregation: u16,
    /// To validators, the same for each vote that finished the round.
    pub validators: u16,
}

impl Split {
    /// What the parts sum to.
    pub const WHOLE: u16 = 10_000;

    /// Whether the parts sum to the whole.
    pub fn is_whole(&self) -> bool {
        [
            self.light,
            self.committee,
            self.aggregation,
            self.validators,
        ]
        .into_iter()
        .map(u32::from)
        .sum::<u32>()
            == u32::from(Self::WHOLE)
    }
}

/// How a light node comes to take part in a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AdmissionRule {
    /// Anybody enrols a key.
    Open,
    /// Whoever knows an invite's code enrols a key.
    Invite,
    /// An admin enrols keys.
    Approved,
}

/// The terms of a task. They repeat what the ledger's rules need of the manifest, and add what is paid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskTerms {
    /// The node that opens rounds and publishes models.
    pub aggregation: NodeId,
    /// The full nodes in the manifest's order, which numbers the committees.
    pub members: Vec<NodeId>,
    /// Shares of a report: 2, or 3. So many full nodes are a committee.
    pub shares: u8,
    /// Fewest accepted reports that a total may be opened of, over all committees.
    pub min_batch: u32,
    /// How many rounds are finished at most.
    pub rounds: u64,
    /// How often the report of a full node's silo may count.
    pub max_weight: u8,
    /// Who may enrol a light node. An admin always may.
    pub admission: AdmissionRule,
    /// What a finished round pays. A round opens only if the task has as much.
    pub budget_per_round: u64,
    /// Whom it pays.
    pub split: Split,
    /// By how much a model's loss on a validator's hold-out rows may rise before it complains, in parts per
    /// million of the loss before.
    pub tolerance_ppm: u32,
    /// How far a group's accuracy may lie behind the whole before a validator complains, in parts per million.
    pub fairness_gap_ppm: u32,
}

impl TaskTerms {
    /// Whether the numbers make sense: between 2 and 32 different members, no fewer than shares, of which there are 2 or
    /// 3, at least one report and round, a whole split.
    pub fn is_usable(&self) -> bool {
        let mut members = self.members.clone();
        members.sort_unstable();
        members.dedup();
        members.len() == self.members.len()
            && (2..=limits::MEMBERS).contains(&members.len())
            && !members.contains(&self.aggregation)
            && limits::SHARES.contains(&self.shares)
            && usize::from(self.shares) <= members.len()
            && self.min_batch > 0
            && self.rounds > 0
            && self.max_weight > 0
            && self.split.is_whole()
    }
}

/// An invite, as it stands on the ledger. Its key follows from the code that a person types
/// ([`crate::InviteCode`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invite {
    /// How many light nodes it still admits.
    pub uses: u32,
    /// It admits nobody after this.
    pub until_ms: Millis,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_split_that_is_not_whole_is_seen() {
        let split = Split {
            light: 5000,
            committee: 3000,
            aggregation: 1000,
            validators: 1000,
        };
        assert!(split.is_whole());
        assert!(
            !Split {
                light: 5001,
                ..split
            }
            .is_whole()
        );
        // Four of the largest parts sum to more than 16 bits hold.
        let most = u16::MAX;
        let wrapped = Split {
            light: most,
            committee: most,
            aggregation: most,
            validators: most,
        };
        assert!(!wrapped.is_whole());
    }
}
