//! What a leader checks before it says that a report is stored.

use std::io::Cursor;

use crate::{OpenedShare, Secrets};
use defim_protocol::{
    CommitteeIndex, Digest, Enrolled, Millis, Reason, ReportId, VerifiedManifest, VerifiedRound,
    limits,
    report::{Metadata, SealedShares},
    seal::Seat,
};
use prio::codec::Decode as _;

/// A report whose form, time, round and leader share are in order; its proof is still to be checked.
#[derive(Debug, Clone)]
pub struct AcceptedReport {
    /// Its id.
    pub id: ReportId,
    /// The committee that checks it, which this node leads.
    pub committee: CommitteeIndex,
    /// Digest of its bytes, by which a repeated upload is told from a replayed id.
    pub digest: Digest,
    /// When it was made, seconds since 1970.
    pub time_s: u64,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// The id that a report says it has; nothing of it is checked.
pub fn claimed_id(bytes: &[u8]) -> Option<ReportId> {
    let metadata = Metadata::decode(&mut Cursor::new(bytes)).ok()?;
    Some(metadata.id)
}

/// Check an uploaded report against the open round. `known` are the light nodes that are enrolled for the task; without a
/// rule of admission in its manifest it is not asked.
///
/// # Errors
///
/// The [`Reason`] for which it is refused, at once, while the person is still there.
pub fn accept_upload(
    task: &VerifiedManifest,
    round: &VerifiedRound,
    secrets: &Secrets,
    known: &dyn Enrolled,
    now: Millis,
    bytes: Vec<u8>,
) -> Result<AcceptedReport, Reason> {
    // The leader can open its own share only; without the exact bound the others could be anything.
    let most = task
        .vdaf
        .most_report_bytes()
        .map_err(|_| Reason::UnknownTask)?;
    if bytes.len() > most.min(limits::REPORT_BYTES) {
        return Err(Reason::TooLarge);
    }
    if now > round.deadline_ms {
        return Err(Reason::TooLate);
    }
    let shares = task.vdaf.shares;
    let report = SealedShares::get_decoded(shares, &bytes).map_err(|_| Reason::Malformed)?;
    if report.metadata.time_s.saturating_mul(1000) > now.saturating_add(limits::CLOCK_SKEW_MS) {
        return Err(Reason::TooEarly);
    }
    let SealedShares {
        metadata,
        public_share,
        sealed,
    } = &report;
    let leader = sealed.first().ok_or(Reason::Malformed)?;
    let open = |round| {
        OpenedShare::open(
            task,
            round,
            Seat::of(0, shares.into()),
            &secrets.sealing,
            metadata,
            public_share,
            leader,
        )
    };
    let opened = open(round.round).map_err(|reason| match reason {
        // Whoever made it was told of the next round before this node: it is to come again.
        Reason::WrongRound if open(round.round.saturating_add(1)).is_ok() => Reason::Unavailable,
        reason => reason,
    });
    opened?.authentic(round, public_share)?.enrolled(known)?;
    // After the seal: a report of an earlier round is told that, and not that its committee changed.
    let committee = task.committee_of(round, &metadata.id);
    if committee.leader().node != secrets.node.id() {
        return Err(Reason::WrongCommittee);
    }
    Ok(AcceptedReport {
        id: metadata.id,
        committee: committee.index(),
        digest: Digest::of(&bytes),
        time_s: metadata.time_s,
        bytes,
    })
}
