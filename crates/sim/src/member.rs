//! A full node's store in memory, with the rules of the one on disk.

use std::collections::BTreeMap;

use defim_full::{
    AggregateBuilder, ReleaseError,
    helper::{self, Agreement, Prepared, Proposed},
    leader::{Counts, Proposal},
};
use defim_protocol::{
    Digest, Reason, ReportId, SignedText, VerifiedManifest, VerifiedRound,
    batch::AgreedBatch,
    wire::{PrepareAnswer, PrepareInit, PrepareRequest, Response, Submission},
};

/// One member's store.
#[derive(Debug, Default)]
pub struct Shelf {
    /// Digest of every report ever taken.
    pub seen: BTreeMap<ReportId, Digest>,
    /// Stored, not yet prepared.
    pub pending: BTreeMap<ReportId, Vec<u8>>,
    /// Shares that both members verified.
    pub verified: BTreeMap<ReportId, Vec<u8>>,
    /// Refused, by reason.
    pub rejected: BTreeMap<u16, u64>,
    /// What the leader has proposed.
    pub proposal: Option<Proposal>,
    /// The helper's answers, which must not change.
    answers: BTreeMap<ReportId, PrepareAnswer>,
    verify_key: Option<[u8; defim_protocol::vdaf::VERIFY_KEY_BYTES]>,
}

impl Shelf {
    /// What the machine needs to know.
    pub fn counts(&self) -> Counts {
        Counts {
            pending: self.pending.len() as u64,
            verified: self.verified.len() as u64,
            rejected: self.rejected.clone(),
        }
    }

    /// A new round: nothing of the last one stays but the replay cache.
    pub fn next_round(&mut self) {
        self.pending.clear();
        self.verified.clear();
        self.rejected.clear();
        self.proposal = None;
        self.answers.clear();
    }

    /// Count a refusal.
    pub fn reject(&mut self, reason: Reason) {
        *self.rejected.entry(reason.code()).or_default() += 1;
    }

    /// Refuse verified reports that the other member does not have.
    pub fn disown(&mut self, ids: &[ReportId]) {
        for id in ids {
            if self.verified.remove(id).is_some() {
                self.reject(Reason::MemberDisagrees);
            }
        }
    }

    /// Add the shares of an agreed batch and let the sum go.
    pub fn release(
        &self,
        task: &VerifiedManifest,
        batch: AgreedBatch,
        ids: &[ReportId],
    ) -> Result<Submission, ReleaseError> {
        let mut builder = AggregateBuilder::new(task)?;
        for id in ids {
            builder.add(
                *id,
                self.verified.get(id).map(Vec::as_slice).unwrap_or_default(),
            )?;
        }
        builder.release(batch)?.into_submission()
    }
}

/// The helper's answers.
pub struct Helper<'a> {
    pub task: &'a VerifiedManifest,
    pub round: &'a VerifiedRound,
    pub secrets: &'a defim_full::Secrets,
    pub shelf: &'a mut Shelf,
}

impl Helper<'_> {
    pub fn prepare(&mut self, request: &PrepareRequest) -> Response {
        if request.round != self.round.round {
            return Response::Later(format!("round {} is not open here", request.round));
        }
        if *self.shelf.verify_key.get_or_insert(request.verify_key) != request.verify_key {
            return Response::Refused("the task's verification key was changed".into());
        }
        Response::Prepared(
            request
                .reports
                .iter()
                .map(|init| self.answer(request, init))
                .collect(),
        )
    }

    fn answer(&mut self, request: &PrepareRequest, init: &PrepareInit) -> PrepareAnswer {
        let digest = Digest::of(&[init.public_share.as_slice(), &init.sealed].concat());
        match self.shelf.seen.get(&init.id) {
            Some(first) if *first != digest => return PrepareAnswer::Rejected(Reason::Replayed),
            Some(_) => {
                return self
                    .shelf
                    .answers
                    .get(&init.id)
                    .cloned()
                    .unwrap_or(PrepareAnswer::Rejected(Reason::Replayed));
            }
            None => {}
        }
        self.shelf.seen.insert(init.id, digest);
        let Prepared { answer, share } = helper::prepare(
            self.task,
            self.round,
            self.secrets,
            &request.verify_key,
            init,
        );
        if let Some(bytes) = share.and_then(|share| share.to_bytes().ok()) {
            self.shelf.verified.insert(init.id, bytes);
        }
        self.shelf.answers.insert(init.id, answer.clone());
        answer
    }

    /// Sign the batch and release this member's sum.
    pub fn close(
        &mut self,
        summary: SignedText,
        ids: &[ReportId],
        refused: &[ReportId],
    ) -> Result<(Response, Option<Submission>), ReleaseError> {
        let verified: Vec<_> = self.shelf.verified.keys().copied().collect();
        let proposed = Proposed {
            summary,
            ids,
            refused,
        };
        match helper::agree(self.task, self.round, self.secrets, proposed, &verified) {
            Ok(Agreement::Agreed(batch, signature)) => {
                self.shelf.disown(refused);
                let submission = self.shelf.release(self.task, *batch, ids)?;
                Ok((Response::Agreed(signature), Some(submission)))
            }
            Ok(Agreement::Differs { missing, unknown }) => {
                Ok((Response::Differs { missing, unknown }, None))
            }
            Err(error) => Ok((Response::Refused(error.to_string()), None)),
        }
    }
}
