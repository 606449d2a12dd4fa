//! Opening the total of a batch: the one place where shares are put together, and only sums come here.

use defim_protocol::{
    NodeId, RoundNumber, VerifiedManifest,
    batch::{AgreedBatch, BatchError, BatchSummary},
    vdaf::AggregateShare,
    wire::Submission,
};
use prio::{codec::ParameterizedDecode as _, vdaf::Collector as _};

/// Why a total is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The batch breaks a rule.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A member's share is missing, or two speak of different batches.
    #[error("the total needs one aggregate share of every committee member over one batch")]
    Incomplete,
    /// A share does not decode.
    #[error("the aggregate share of node {0} does not decode; the round ends without a result")]
    DamagedShare(NodeId),
    /// The VDAF refuses.
    #[error("the total cannot be opened: {0}")]
    Vdaf(String),
}

/// The sum over all reports of a batch that the whole committee signed.
#[derive(Debug, Clone)]
pub struct OpenedTotal {
    summary: BatchSummary,
    sum: Vec<f64>,
}

impl OpenedTotal {
    /// Open the total from one submission of each member.
    ///
    /// # Errors
    ///
    /// [`OpenError`] with the rule that is broken; nothing is opened then.
    pub fn open(
        task: &VerifiedManifest,
        round: RoundNumber,
        submissions: &[(NodeId, Submission)],
    ) -> Result<Self, OpenError> {
        let vdaf = task
            .vdaf
            .instance()
            .map_err(|e| OpenError::Vdaf(e.to_string()))?;
        let mut agreed: Option<AgreedBatch> = None;
        let mut shares = Vec::with_capacity(task.members.len());
        for member in &task.members {
            let mut of_member = submissions.iter().filter(|(node, _)| *node == member.node);
            let (Some((node, submission)), None) = (of_member.next(), of_member.next()) else {
                return Err(OpenError::Incomplete);
            };
            let batch = AgreedBatch::verify(task, round, submission.signatures.clone())?;
            // Two batches that differ in one report would show that report by subtraction.
            if agreed
                .as_ref()
                .is_some_and(|first| first.summary() != batch.summary())
            {
                return Err(OpenError::Incomplete);
            }
            agreed = Some(batch);
            let share = AggregateShare::get_decoded_with_param(&(&vdaf, &()), &submission.share)
                .map_err(|_| OpenError::DamagedShare(*node))?;
            shares.push(share);
        }
        let summary = agreed.ok_or(OpenError::Incomplete)?.summary().clone();
        let reports = usize::try_from(summary.accepted).map_err(|_| OpenError::Incomplete)?;
        let sum = vdaf
            .unshard(&(), shares, reports)
            .map_err(|e| OpenError::Vdaf(e.to_string()))?;
        Ok(Self { summary, sum })
    }

    /// The batch it is the total of.
    pub fn summary(&self) -> &BatchSummary {
        &self.summary
    }

    /// The sum of all updates, `[d]`, in units of the norm bound.
    pub fn sum(&self) -> &[f64] {
        &self.sum
    }
}
