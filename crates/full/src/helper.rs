//! The helper's side: answering the leader. Pure; the driver keeps the replay cache and the answers.

use std::collections::BTreeSet;

use defim_protocol::{
    Committee, Context, Enrolled, Reason, ReportId, SignedText, VerifiedRound,
    batch::{AgreedBatch, BatchError, BatchSummary},
    report::{Ciphertext, Metadata},
    seal::Seat,
    wire::{PrepareAnswer, PrepareInit},
};
use prio::codec::Decode as _;

use crate::{OpenedShare, Secrets, VerifiedShare};

/// What became of one report at the helper.
#[derive(Debug)]
pub struct Prepared {
    /// The answer for the leader.
    pub answer: PrepareAnswer,
    /// The share to keep, if the proof held.
    pub share: Option<VerifiedShare>,
}

impl Prepared {
    /// Whether this is the answer for good, to be stored before it is said.
    pub fn is_outcome(&self) -> bool {
        self.answer != PrepareAnswer::Rejected(Reason::NotEnrolled)
    }
}

/// Check one report with the leader's message. `known` are the light nodes that are enrolled for the task.
///
/// A refusal as [`Reason::NotEnrolled`] is no outcome: nothing of it is stored, and the leader asks again until the round
/// closes. The leader has found the key enrolled, and this node's ledger may be a moment behind.
pub fn prepare(
    task: &Committee,
    round: &VerifiedRound,
    secrets: &Secrets,
    known: &dyn Enrolled,
    verify_key: &[u8; defim_protocol::vdaf::VERIFY_KEY_BYTES],
    init: &PrepareInit,
) -> Prepared {
    let metadata = Metadata {
        id: init.id,
        time_s: init.time_s,
    };
    // A claim that is kept for ever must not be made with bytes that no honest report has.
    let fits = task
        .vdaf
        .most_helper_bytes()
        .is_ok_and(|most| init.sealed.len() <= most);
    let result = fits
        .then_some(&init.sealed)
        .ok_or(Reason::TooLarge)
        .and_then(|sealed| match is_ours(task, round, &init.id) {
            true => Ok(sealed),
            false => Err(Reason::WrongCommittee),
        })
        .and_then(|sealed| Ciphertext::get_decoded(sealed).map_err(|_| Reason::Malformed))
        .and_then(|sealed| {
            OpenedShare::open(
                task,
                round.round,
                Seat::Helper,
                &secrets.sealing,
                &metadata,
                &init.public_share,
                &sealed,
            )
        })
        .and_then(|share| share.authentic(round, &init.public_share))
        .and_then(|share| share.enrolled(known))
        .and_then(|share| share.answer(verify_key, &init.message));
    match result {
        Ok((share, answer)) => Prepared {
            answer: PrepareAnswer::Verified(answer),
            share: Some(share),
        },
        Err(reason) => Prepared {
            answer: PrepareAnswer::Rejected(reason),
            share: None,
        },
    }
}

/// Whether this committee is the one that checks the report.
pub(crate) fn is_ours(task: &Committee, round: &VerifiedRound, report: &ReportId) -> bool {
    task.committee_of(round, report).index() == task.index()
}

/// A batch as the leader proposes it.
#[derive(Debug)]
pub struct Proposed<'a> {
    /// The leader's signed summary.
    pub summary: SignedText,
    /// The accepted ids, ascending.
    pub ids: &'a [ReportId],
    /// Ids that were verified here and that the leader refused, ascending.
    pub refused: &'a [ReportId],
}

/// The helper's word on a batch.
#[derive(Debug)]
pub enum Agreement {
    /// Signed.
    Agreed(Box<AgreedBatch>, SignedText),
    /// The batch is not that of all reports verified here. Nothing is signed.
    Differs {
        /// Verified here, and not in the proposal.
        missing: Vec<ReportId>,
        /// In the proposal, and not verified here.
        unknown: Vec<ReportId>,
    },
}

/// Agree on a batch: its reports are all that were verified here, but for those that the leader
/// counts as refused; the text says what the leader signed, and there is at least one.
/// `verified` are the ids verified at this node, ascending.
///
/// A leader that could choose among verified reports could put one person's report into a batch of
/// its own making. It can still refuse a report; then the signed counts show it.
///
/// # Errors
///
/// [`BatchError`]; the helper then signs nothing and releases nothing.
pub fn agree(
    task: &Committee,
    round: &VerifiedRound,
    secrets: &Secrets,
    proposed: Proposed<'_>,
    verified: &[ReportId],
) -> Result<Agreement, BatchError> {
    let Proposed {
        summary: leader,
        ids,
        refused,
    } = proposed;
    leader.verify(Context::Batch, &task.leader().node)?;
    let claimed = BatchSummary::read(&leader.payload)?;
    let own = BatchSummary::new(
        claimed.task,
        claimed.round,
        claimed.committee,
        ids,
        claimed.rejected.clone(),
    )?
    .weighed(round.extra_weight(ids));
    let listed: BTreeSet<_> = ids.iter().chain(refused).copied().collect();
    if own != claimed || listed.len() != ids.len() + refused.len() {
        return Err(BatchError::WrongIds);
    }
    let held: BTreeSet<_> = verified.iter().copied().collect();
    if listed != held {
        return Ok(Agreement::Differs {
            missing: held.difference(&listed).copied().collect(),
            unknown: listed.difference(&held).copied().collect(),
        });
    }
    let counted = claimed
        .rejected
        .values()
        .fold(0_u64, |sum, count| sum.saturating_add(*count));
    if counted < refused.len() as u64 {
        return Err(BatchError::Uncounted {
            refused: refused.len() as u64,
            counted,
        });
    }
    let signature = SignedText::sign(Context::Batch, leader.payload.clone(), &secrets.node);
    let batch = AgreedBatch::verify(task, round.round, vec![leader, signature.clone()])?;
    Ok(Agreement::Agreed(Box::new(batch), signature))
}
