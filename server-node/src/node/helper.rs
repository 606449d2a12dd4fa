//! Driving the helper's side: its own replay cache, and answers that stay the same.

use std::sync::Arc;

use defim_full::helper::{self, Agreement, Prepared, Proposed};
use defim_protocol::{
    Committee, CommitteeIndex, Digest, NodeId, Reason, ReportId, SignedText, TaskId,
    batch::BatchSummary,
    wire::{PrepareAnswer, PrepareInit, PrepareRequest, Response},
};
use defim_store::{ClaimReport, Outcome as Stored};

use super::full::{FullNode, Served, key};
use crate::failure::Outcome;

impl FullNode {
    fn served_by_leader(
        &self,
        from: NodeId,
        task: &TaskId,
        index: CommitteeIndex,
    ) -> Result<(Arc<Served>, Committee), Response> {
        let refused = |why: &str| Response::Refused(why.to_owned());
        let served = self
            .served(task)
            .ok_or_else(|| Response::Later("this node does not serve that task yet".into()))?;
        let committee = served
            .manifest
            .committee(index)
            .ok_or_else(|| refused("the task has no such committee"))?;
        if committee.leader().node != from {
            return Err(refused("only the committee's leader may ask this"));
        }
        if committee.helper().node != self.inner.secrets.node.id() {
            return Err(refused("this node is not the committee's helper"));
        }
        Ok((served, committee))
    }

    pub(super) async fn prepare(&self, from: NodeId, request: PrepareRequest) -> Outcome<Response> {
        let (served, committee) =
            match self.served_by_leader(from, &request.task, request.committee) {
                Ok(served) => served,
                Err(response) => return Ok(response),
            };
        let Some(round) = served.round().filter(|round| round.round == request.round) else {
            return Ok(Response::Later(format!(
                "round {} is not open here",
                request.round
            )));
        };
        let store = &self.inner.store;
        let task = request.task;
        let key = key(task, round.round, request.committee);
        let _one_at_a_time = served.preparing.lock().await;
        if store.batch(key).await?.is_some() {
            return Ok(Response::Refused(format!(
                "round {} is closed",
                round.round
            )));
        }
        // A leader that could change the key after it saw the reports could choose the challenges.
        let pin = format!("verify-key/{task}/{}", request.committee);
        match store.setting(&pin).await? {
            Some(pinned) if pinned != request.verify_key => {
                return Ok(Response::Refused(
                    "the committee's verification key was changed".into(),
                ));
            }
            Some(_) => {}
            None => store.put_setting(&pin, &request.verify_key).await?,
        }
        let mut answers: Vec<Option<PrepareAnswer>> = Vec::with_capacity(request.reports.len());
        let mut fresh = Vec::new();
        for init in &request.reports {
            let digest = digest_of(init);
            answers.push(
                match store.claim_helper_report(key, init.id.0, digest).await? {
                    ClaimReport::Conflict => Some(PrepareAnswer::Rejected(Reason::Replayed)),
                    ClaimReport::New => {
                        fresh.push(init);
                        None
                    }
                    ClaimReport::Same => match store.outcome(task.0, init.id.0).await? {
                        Some(Stored::Verified { response, .. }) => {
                            Some(PrepareAnswer::Verified(response))
                        }
                        Some(Stored::Rejected { reason }) => Some(PrepareAnswer::Rejected(
                            Reason::from_code(reason).unwrap_or(Reason::InvalidProof),
                        )),
                        None => {
                            fresh.push(init);
                            None
                        }
                    },
                },
            );
        }
        let secrets = &self.inner.secrets;
        let known = self.enrolled(&task);
        let prepared: Vec<Prepared> = tokio::task::block_in_place(|| {
            fresh
                .iter()
                .map(|init| {
                    let verify_key = &request.verify_key;
                    helper::prepare(&committee, &round, secrets, &known, verify_key, init)
                })
                .collect()
        });
        let mut outcomes = Vec::with_capacity(prepared.len());
        let mut new_answers = Vec::with_capacity(prepared.len());
        for (init, prepared) in fresh.iter().zip(prepared) {
            let for_good = prepared.is_outcome();
            let (outcome, answer) = settle(prepared);
            if for_good {
                outcomes.push((init.id.0, outcome));
            }
            new_answers.push(answer);
        }
        // Stored before it is said: the leader may count what it is told.
        store.record_outcomes(key, &outcomes).await?;
        let mut new_answers = new_answers.into_iter();
        let answers = answers
            .into_iter()
            .map(|answer| {
                answer
                    .or_else(|| new_answers.next())
                    .unwrap_or(PrepareAnswer::Rejected(Reason::MemberDisagrees))
            })
            .collect();
        Ok(Response::Prepared(answers))
    }

    pub(super) async fn close(
        &self,
        from: NodeId,
        summary: SignedText,
        ids: Vec<ReportId>,
        refused: Vec<ReportId>,
    ) -> Outcome<Response> {
        let (task, index) = match BatchSummary::read(&summary.payload) {
            Ok(read) => (read.task, read.committee),
            Err(error) => return Ok(Response::Refused(error.to_string())),
        };
        let (served, committee) = match self.served_by_leader(from, &task, index) {
            Ok(served) => served,
            Err(response) => return Ok(response),
        };
        let Some(round) = served.round() else {
            return Ok(Response::Later("no round is open here".into()));
        };
        let _one_at_a_time = served.preparing.lock().await;
        let store = &self.inner.store;
        let key = key(task, round.round, index);
        let verified: Vec<_> = match store.batch(key).await? {
            // Asked again after a lost answer: the same text gets the same signature, another gets none.
            Some(batch) if batch.summary == summary.payload.as_bytes() => {
                let key = &self.inner.secrets.node;
                let again = SignedText::sign(defim_protocol::Context::Batch, summary.payload, key);
                return Ok(Response::Agreed(again));
            }
            Some(_) => {
                return Ok(Response::Refused(
                    "another batch of this round is already signed".into(),
                ));
            }
            None => store
                .verified_ids(key)
                .await?
                .into_iter()
                .map(ReportId)
                .collect(),
        };
        let proposed = Proposed {
            summary,
            ids: &ids,
            refused: &refused,
        };
        let secrets = &self.inner.secrets;
        match helper::agree(&committee, &round, secrets, proposed, &verified) {
            Ok(Agreement::Agreed(batch, signature)) => {
                let refused: Vec<_> = refused.into_iter().map(|id| id.0).collect();
                store
                    .disown_reports(key, &refused, Reason::MemberDisagrees.code())
                    .await?;
                self.release(&served, key, *batch, ids).await?;
                Ok(Response::Agreed(signature))
            }
            Ok(Agreement::Differs { missing, unknown }) => {
                tracing::warn!(
                    node = self.name(),
                    task = served.manifest.name,
                    round = round.round,
                    missing = missing.len(),
                    unknown = unknown.len(),
                    "the leader's batch is not that of all verified reports"
                );
                Ok(Response::Differs { missing, unknown })
            }
            Err(error) => Ok(Response::Refused(error.to_string())),
        }
    }
}

fn digest_of(init: &PrepareInit) -> [u8; 32] {
    let mut bytes = init.time_s.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(init.public_share.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&init.public_share);
    bytes.extend_from_slice(&init.sealed);
    Digest::of(&bytes).0
}

fn settle(prepared: Prepared) -> (Stored, PrepareAnswer) {
    let rejected = |reason: Reason| {
        (
            Stored::Rejected {
                reason: reason.code(),
            },
            PrepareAnswer::Rejected(reason),
        )
    };
    match (prepared.answer, prepared.share) {
        (PrepareAnswer::Verified(response), Some(share)) => match share.to_bytes() {
            Ok(out_share) => (
                Stored::Verified {
                    out_share,
                    response: response.clone(),
                },
                PrepareAnswer::Verified(response),
            ),
            Err(reason) => rejected(reason),
        },
        (PrepareAnswer::Rejected(reason), _) => rejected(reason),
        (PrepareAnswer::Verified(_), None) => rejected(Reason::InvalidProof),
    }
}
