//! Faults that two signatures show by themselves.

use serde::{Deserialize, Serialize};

use crate::{
    BatchSummary, CommitteeIndex, ConsensusVote, Context, Digest, NodeId, Reject, RoundNumber,
    RoundOpened, SignedText, TaskId, consensus_namespace, limits, signed_digest,
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
    /// A validator voted twice in one view of consensus: with enough others it could have made two blocks final.
    TwoVotes {
        /// A vote.
        first: ConsensusVote,
        /// One that excludes it.
        second: ConsensusVote,
    },
}

/// What evidence shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown {
    /// A fault in a round.
    Round {
        /// The harmed task.
        task: TaskId,
        /// The round.
        round: RoundNumber,
        /// The committee, if a helper of it is at fault; otherwise it is the aggregation node.
        committee: Option<CommitteeIndex>,
    },
    /// A fault against the chain.
    Consensus {
        /// The epoch.
        epoch: u64,
        /// The view in it.
        view: u64,
    },
}

impl Evidence {
    /// Check from the bytes alone that `node` has signed both statements on this chain, and that they exclude each other.
    ///
    /// Whether it had the seat to sign them is for the ledger to say ([`crate::check`]).
    ///
    /// # Errors
    ///
    /// [`Reject::NoFault`] if they do not.
    pub fn verify(&self, node: &NodeId, chain: &Digest) -> Result<Shown, Reject> {
        let shown = match self {
            Self::TwoOpenings { first, second } => {
                signed(Context::Round, node, [first, second])?;
                two_openings(first, second)
            }
            Self::TwoBatches { first, second } => {
                signed(Context::Batch, node, [first, second])?;
                two_batches(first, second)
            }
            Self::TwoVotes { first, second } => {
                let namespace = consensus_namespace(chain);
                let signed = [first, second].map(|vote| vote.is_of(node, &namespace));
                let (epoch, view) = (first.epoch, first.view);
                (signed == [true, true] && first.excludes(second))
                    .then_some(Shown::Consensus { epoch, view })
            }
        };
        shown.ok_or(Reject::NoFault)
    }
}

fn signed(context: Context, node: &NodeId, statements: [&SignedText; 2]) -> Result<(), Reject> {
    for statement in statements {
        if statement.payload.len() > limits::STATEMENT_BYTES {
            return Err(Reject::TooLarge);
        }
        statement
            .verify(context, node)
            .map_err(|_| Reject::NoFault)?;
    }
    Ok(())
}

fn two_openings(first: &SignedText, second: &SignedText) -> Option<Shown> {
    let read = |text: &SignedText| {
        let opened = RoundOpened::read(&text.payload).ok()?;
        Some((opened.task, opened.round))
    };
    let (task, round) = read(first)?;
    // A second signature over one text gives the round other randomness.
    let differ = signed_digest(first) != signed_digest(second);
    (differ && read(second) == Some((task, round))).then_some(Shown::Round {
        task,
        round,
        committee: None,
    })
}

fn two_batches(first: &SignedText, second: &SignedText) -> Option<Shown> {
    let read = |text: &SignedText| {
        let summary = BatchSummary::read(&text.payload).ok()?;
        let of = (summary.task, summary.round, summary.committee);
        // An aggregation node that opens a round twice gets two honest batches.
        Some((of, summary.opening))
    };
    let known = read(first)?;
    let (task, round, committee) = known.0;
    (first.payload != second.payload && read(second) == Some(known)).then_some(Shown::Round {
        task,
        round,
        committee: Some(committee),
    })
}
