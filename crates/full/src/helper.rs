//! The helper's side: answering the leader. Pure; the driver keeps the replay cache and the answers.

use defim_protocol::{
    Context, Reason, ReportId, SignedText, VerifiedManifest, VerifiedRound,
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

/// Check one report with the leader's message.
pub fn prepare(
    task: &VerifiedManifest,
    round: &VerifiedRound,
    secrets: &Secrets,
    verify_key: &[u8; defim_protocol::vdaf::VERIFY_KEY_BYTES],
    init: &PrepareInit,
) -> Prepared {
    let metadata = Metadata {
        id: init.id,
        time_s: init.time_s,
    };
    let result = Ciphertext::get_decoded(&init.sealed)
        .map_err(|_| Reason::Malformed)
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

/// Agree on a batch: every listed report was verified here, the text says what the leader signed,
/// and there are at least `min_batch`. `verified` are the ids verified at this node, ascending.
///
/// # Errors
///
/// [`BatchError`]; the helper then signs nothing and releases nothing.
pub fn agree(
    task: &VerifiedManifest,
    round: &VerifiedRound,
    secrets: &Secrets,
    leader: SignedText,
    ids: &[ReportId],
    verified: &[ReportId],
) -> Result<(AgreedBatch, SignedText), BatchError> {
    leader.verify(Context::Batch, &task.leader().node)?;
    let claimed = BatchSummary::read(&leader.payload)?;
    let own = BatchSummary::new(claimed.task, claimed.round, ids, claimed.rejected.clone())?;
    if own != claimed || ids.iter().any(|id| verified.binary_search(id).is_err()) {
        return Err(BatchError::WrongIds);
    }
    let signature = SignedText::sign(Context::Batch, leader.payload.clone(), &secrets.node);
    let batch = AgreedBatch::verify(task, round.round, vec![leader, signature.clone()])?;
    Ok((batch, signature))
}
