//! A helper's side: answering the leader. Pure; the driver keeps the replay cache and the answers.

use std::collections::BTreeSet;

use defim_protocol::{
    Committee, Context, Enrolled, Reason, ReportId, SignedText, VerifiedRound,
    batch::{BatchError, BatchSummary, SignedBatch},
    report::{Ciphertext, Metadata},
    vdaf::VERIFY_KEY_BYTES,
    wire::{FinishWith, PrepareAnswer, PrepareInit},
};
use prio::codec::Decode as _;

use crate::{BegunShare, OpenedShare, Secrets, VerifiedShare};

/// What became of one report at the helper.
#[derive(Debug)]
pub struct Prepared {
    /// The answer for the leader.
    pub answer: PrepareAnswer,
    /// The share to keep, if the proof held.
    pub share: Option<VerifiedShare>,
    /// Whether this is the answer for good: its share was opened, and its id is to be claimed and the answer stored before it
    /// is said. Of what does not open nothing is stored: anybody who leads a committee can ask about somebody else's id, with
    /// bytes of their own.
    pub is_outcome: bool,
}

/// Check one report of two shares with the leader's message. `known` are the light nodes that are enrolled for the task.
///
/// A refusal as [`Reason::NotEnrolled`] is no outcome either, and the leader asks again until the round
/// closes: it has found the key enrolled, and this node's ledger may be a moment behind.
pub fn prepare(
    task: &Committee,
    round: &VerifiedRound,
    secrets: &Secrets,
    known: &dyn Enrolled,
    verify_key: &[u8; VERIFY_KEY_BYTES],
    init: &PrepareInit,
) -> Prepared {
    let opened = open(task, round, secrets, known, init);
    let is_outcome = opened.is_ok();
    let (answer, share) = match opened.and_then(|share| share.answer(verify_key, &init.message)) {
        Ok((share, answer)) => (PrepareAnswer::Verified(answer), Some(share)),
        Err(reason) => (PrepareAnswer::Rejected(reason), None),
    };
    Prepared {
        answer,
        share,
        is_outcome,
    }
}

/// What a helper keeps of a report of three shares that it has begun, and what it answers. What is kept must be on disk
/// before the answer leaves.
pub struct Collected {
    /// What to keep until the report is finished.
    pub state: Vec<u8>,
    /// The prepare share for the leader.
    pub share: Vec<u8>,
}

impl std::fmt::Debug for Collected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Collected(redacted)")
    }
}

/// Why a report of three shares is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotBegun {
    /// Why it is refused.
    pub reason: Reason,
    /// As [`Prepared::is_outcome`].
    pub is_outcome: bool,
}

/// Begin one report of three shares. `known` are the light nodes that are enrolled for the task.
///
/// # Errors
///
/// [`NotBegun`] if the report is refused.
pub fn collect(
    task: &Committee,
    round: &VerifiedRound,
    secrets: &Secrets,
    known: &dyn Enrolled,
    verify_key: &[u8; VERIFY_KEY_BYTES],
    init: &PrepareInit,
) -> Result<Collected, NotBegun> {
    let refused = |is_outcome| move |reason| NotBegun { reason, is_outcome };
    let opened = open(task, round, secrets, known, init).map_err(refused(false))?;
    let (begun, share) = opened.collect(verify_key).map_err(refused(true))?;
    Ok(Collected {
        state: begun.to_bytes().map_err(refused(true))?,
        share,
    })
}

/// Finish one report of three shares, of which `state` was kept.
///
/// # Errors
///
/// The [`Reason`] for which the report is refused.
pub fn finish(
    task: &Committee,
    id: ReportId,
    state: &[u8],
    with: &FinishWith,
) -> Result<VerifiedShare, Reason> {
    match with {
        FinishWith::Message(message) => BegunShare::from_bytes(task, id, state)?.finish(message),
        FinishWith::Refusal(reason) => Err(*reason),
    }
}

/// Open this member's share, of a report of somebody who may contribute.
fn open(
    task: &Committee,
    round: &VerifiedRound,
    secrets: &Secrets,
    known: &dyn Enrolled,
    init: &PrepareInit,
) -> Result<OpenedShare, Reason> {
    // No honest report has more.
    let fits = task
        .vdaf
        .most_helper_bytes()
        .is_ok_and(|most| init.sealed.len() <= most);
    if !fits {
        return Err(Reason::TooLarge);
    }
    let seat = task.seat_of(&secrets.node.id());
    let seat = seat.ok_or(Reason::WrongCommittee)?;
    if !is_ours(task, round, &init.id) {
        return Err(Reason::WrongCommittee);
    }
    let sealed = Ciphertext::get_decoded(&init.sealed).map_err(|_| Reason::Malformed)?;
    let metadata = Metadata {
        id: init.id,
        time_s: init.time_s,
    };
    OpenedShare::open(
        task,
        round.round,
        seat,
        &secrets.sealing,
        &metadata,
        &init.public_share,
        &sealed,
    )?
    .authentic(round, &init.public_share)?
    .enrolled(known)
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
    Agreed(Box<SignedBatch>, SignedText),
    /// The batch is not that of all reports verified here. Nothing is signed.
    Differs(Difference),
}

/// How a proposed batch differs from what was verified here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Verified here, and not in the proposal.
    pub missing: Vec<ReportId>,
    /// In the proposal, and not verified here.
    pub unknown: Vec<ReportId>,
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
    if let Some(difference) = compare(task, round, &proposed, verified)? {
        return Ok(Agreement::Differs(difference));
    }
    let leader = proposed.summary;
    let signature = SignedText::sign(Context::Batch, leader.payload.clone(), &secrets.node);
    let own = secrets.node.id();
    let batch = SignedBatch::verify(task, round.round, &own, [leader, signature.clone()])?;
    Ok(Agreement::Agreed(Box::new(batch), signature))
}

/// As [`agree`], without signing: none if the batch would be signed.
///
/// # Errors
///
/// [`BatchError`] if it never would be.
pub fn compare(
    task: &Committee,
    round: &VerifiedRound,
    proposed: &Proposed<'_>,
    verified: &[ReportId],
) -> Result<Option<Difference>, BatchError> {
    let Proposed {
        summary: leader,
        ids,
        refused,
    } = proposed;
    leader.verify(Context::Batch, &task.leader().node)?;
    let claimed = BatchSummary::read(&leader.payload)?;
    let ours = (task.task(), round.round, round.randomness(), task.index());
    if (
        claimed.task,
        claimed.round,
        claimed.opening,
        claimed.committee,
    ) != ours
    {
        return Err(BatchError::Elsewhere {
            task: claimed.task,
            round: claimed.round,
            committee: claimed.committee,
        });
    }
    if ids.is_empty() {
        return Err(BatchError::Empty);
    }
    let own = BatchSummary::new(
        claimed.task,
        claimed.round,
        claimed.opening,
        claimed.committee,
        ids,
        claimed.rejected.clone(),
    )?
    .weighed(round.extra_weight(*ids));
    let listed: BTreeSet<_> = ids.iter().chain(*refused).copied().collect();
    if own != claimed || listed.len() != ids.len() + refused.len() {
        return Err(BatchError::WrongIds);
    }
    let held: BTreeSet<_> = verified.iter().copied().collect();
    if listed != held {
        return Ok(Some(Difference {
            missing: held.difference(&listed).copied().collect(),
            unknown: listed.difference(&held).copied().collect(),
        }));
    }
    let counted = claimed
        .rejected
        .values()
        .fold(0_u64, |sum, count| sum.saturating_add(*count));
    match counted < refused.len() as u64 {
        true => Err(BatchError::Uncounted {
            refused: refused.len() as u64,
            counted,
        }),
        false => Ok(None),
    }
}
