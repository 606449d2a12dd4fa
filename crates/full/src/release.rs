//! Adding the verified shares of a batch that was agreed on.

use defim_protocol::{
    ReportId, VerifiedManifest, VerifiedRound,
    batch::{SignedBatch, merkle_root},
    vdaf::{AggregateShare, OutputShare, UpdateVdaf, VdafSpec},
};
use prio::{
    codec::{Encode as _, ParameterizedDecode as _},
    vdaf::Aggregatable as _,
};

/// Why a sum is not released.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// The added shares are not those of the agreed batch.
    #[error(
        "the shares that were added are not those of the agreed batch: {added} added, {agreed} agreed"
    )]
    OtherReports {
        /// How many were added.
        added: usize,
        /// How many were agreed on.
        agreed: u64,
    },
    /// Ids must come in ascending order, each once.
    #[error("report {0} was added out of order or twice")]
    OutOfOrder(ReportId),
    /// A stored share does not decode.
    #[error(
        "the stored share of report {0} is damaged; restore this node's store from its last good state"
    )]
    DamagedShare(ReportId),
    /// The VDAF refuses.
    #[error("the sum cannot be made: {0}")]
    Vdaf(String),
}

/// A sum in the making.
#[derive(Debug)]
pub struct AggregateBuilder {
    vdaf: UpdateVdaf,
    spec: VdafSpec,
    round: VerifiedRound,
    ids: Vec<ReportId>,
    sum: Option<AggregateShare>,
}

impl AggregateBuilder {
    /// An empty sum for this task, with the weights of this round.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::Vdaf`] if the task's VDAF cannot be made.
    pub fn new(task: &VerifiedManifest, round: &VerifiedRound) -> Result<Self, ReleaseError> {
        let vdaf = task
            .vdaf
            .instance()
            .map_err(|e| ReleaseError::Vdaf(e.to_string()))?;
        Ok(Self {
            vdaf,
            spec: task.vdaf,
            round: round.clone(),
            ids: Vec::new(),
            sum: None,
        })
    }

    /// Add one verified share as often as its report counts, ids ascending.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::OutOfOrder`] for an id twice, [`ReleaseError::DamagedShare`].
    pub fn add(&mut self, id: ReportId, share: &[u8]) -> Result<(), ReleaseError> {
        if self.ids.last().is_some_and(|last| *last >= id) {
            return Err(ReleaseError::OutOfOrder(id));
        }
        let weight = self.round.weight_of(&id);
        let scaled = (weight > 1).then(|| self.spec.scaled(share, weight));
        let scaled = scaled
            .transpose()
            .map_err(|_| ReleaseError::DamagedShare(id))?;
        let share = scaled.as_deref().unwrap_or(share);
        let share = OutputShare::get_decoded_with_param(&(&self.vdaf, &()), share)
            .map_err(|_| ReleaseError::DamagedShare(id))?;
        match &mut self.sum {
            None => self.sum = Some(AggregateShare::from(share)),
            Some(sum) => sum
                .accumulate(&share)
                .map_err(|e| ReleaseError::Vdaf(e.to_string()))?,
        }
        self.ids.push(id);
        Ok(())
    }

    /// Release the sum of exactly the reports of a batch that this member has signed.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::OtherReports`] if one is missing or too many.
    pub fn release(
        self,
        batch: impl Into<SignedBatch>,
    ) -> Result<ReleasableAggregate, ReleaseError> {
        let batch = batch.into();
        let summary = batch.summary();
        let other = ReleaseError::OtherReports {
            added: self.ids.len(),
            agreed: summary.accepted,
        };
        if self.ids.len() as u64 != summary.accepted || merkle_root(&self.ids) != summary.root {
            return Err(other);
        }
        let share = self.sum.ok_or(other)?;
        Ok(ReleasableAggregate { batch, share })
    }
}

/// A member's aggregate share of a batch that it has signed. It never leaves the node: what does is
/// [encrypted](crate::sum::encrypt) over all batches of the round, and only of those that all of their members have signed.
pub struct ReleasableAggregate {
    batch: SignedBatch,
    share: AggregateShare,
}

impl std::fmt::Debug for ReleasableAggregate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "ReleasableAggregate({:?}, share redacted)",
            self.batch.summary()
        )
    }
}

impl ReleasableAggregate {
    /// The batch it is the sum of.
    pub fn batch(&self) -> &SignedBatch {
        &self.batch
    }

    /// The share for this node's own store, `[d]` field elements; random by itself.
    ///
    /// # Errors
    ///
    /// [`ReleaseError::Vdaf`] if it cannot be encoded.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ReleaseError> {
        let encoded = self.share.get_encoded();
        encoded.map_err(|e| ReleaseError::Vdaf(e.to_string()))
    }
}
