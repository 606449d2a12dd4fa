//! Faults that two signatures show by themselves.

use serde::{Deserialize, Serialize};

use crate::{
    BatchSummary, CommitteeIndex, Context, NodeId, Reject, RoundNumber, RoundOpened, SignedText,
    TaskId, limits, signed_digest,
};

/// Two statements that an honest node never signs both.
///
/// Two selections of one round are no fault: a later one leaves out what a node that has gone was part of. Nor are two
/// batches that a leader signed: it proposes another one when a helper has verified other reports, and a helper
/// that lies could collect both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// An aggregation node opened one round twice: it could choose which committees check which reports.
    TwoOpenings {
        /// A signed [`RoundOpened`].
        first: SignedText,
        /// Another one, or another signature of the same.
        second: SignedText,
    },
    /// A helper of a committee, without whose signature no proposal is a batch, signed two batches of one round.
    TwoBatches {
        /// A signed [`BatchSummary`].
        first: SignedText,
        /// Another one.
        second: SignedText,
    },
}

/// What evidence shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shown {
    /// The harmed task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// The committee, if a helper of it is at fault; otherwise it is the aggregation node.
    pub committee: Option<CommitteeIndex>,
}

impl Evidence {
    /// Check from the bytes alone that `node` has signed both statements, and that they exclude each other.
    ///
    /// Whether it had the seat to sign them is for the ledger to say ([`crate::check`]).
    ///
    /// # Errors
    ///
    /// [`Reject::NoFault`] if they do not.
    pub fn verify(&self, node: &NodeId) -> Result<Shown, Reject> {
        let (Self::TwoOpenings { first, second } | Self::TwoBatches { first, second }) = self;
        let context = match self {
            Self::TwoOpenings { .. } => Context::Round,
            Self::TwoBatches { .. } => Context::Batch,
        };
        for statement in [first, second] {
            if statement.payload.len() > limits::STATEMENT_BYTES {
                return Err(Reject::TooLarge);
            }
            statement
                .verify(context, node)
                .map_err(|_| Reject::NoFault)?;
        }
        let shown = match self {
            Self::TwoOpenings { .. } => {
                let read = |text| {
                    let opened = RoundOpened::read(text).ok()?;
                    Some((opened.task, opened.round, None))
                };
                // A second signature over one text gives the round other randomness.
                let differ = signed_digest(first) != signed_digest(second);
                (differ && read(&first.payload) == read(&second.payload))
                    .then(|| read(&first.payload))
                    .flatten()
            }
            Self::TwoBatches { .. } => {
                let read = |text| {
                    let summary = BatchSummary::read(text).ok()?;
                    let shown = (summary.task, summary.round, Some(summary.committee));
                    Some((shown, summary.opening))
                };
                // An aggregation node that opens a round twice gets two honest batches.
                (first.payload != second.payload && read(&first.payload) == read(&second.payload))
                    .then(|| read(&first.payload).map(|(shown, _)| shown))
                    .flatten()
            }
        };
        let (task, round, committee) = shown.ok_or(Reject::NoFault)?;
        Ok(Shown {
            task,
            round,
            committee,
        })
    }
}
