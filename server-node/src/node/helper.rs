//! Driving the helper's side: its own replay cache, and answers that stay the same.
//!
//! An id is claimed once its share was opened, and never before: any leader can ask about any id.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use defim_full::helper::{self, Agreement, Collected, Difference, NotBegun, Prepared, Proposed};
use defim_protocol::{
    Committee, CommitteeIndex, Digest, NodeId, Reason, ReportId, RoundNumber, SignedText, TaskId,
    VerifiedRound,
    batch::BatchSummary,
    vdaf::VERIFY_KEY_BYTES,
    wire::{CollectAnswer, FinishRequest, PrepareAnswer, PrepareInit, PrepareRequest, Response},
};
use defim_store::{BegunReport, ClaimReport, Outcome as Stored};

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
        let own = self.inner.secrets.node.id();
        if committee.helpers().iter().all(|helper| helper.node != own) {
            return Err(refused("this node is not the committee's helper"));
        }
        Ok((served, committee))
    }

    /// The round that is open here, if its committee can prepare reports in it with this key.
    async fn ready(
        &self,
        served: &Served,
        number: RoundNumber,
        committee: &Committee,
        verify_key: Option<&[u8; VERIFY_KEY_BYTES]>,
    ) -> Outcome<Result<VerifiedRound, Response>> {
        let Some(round) = served.round().filter(|round| round.round == number) else {
            return Ok(Err(Response::Later(format!(
                "round {number} is not open here"
            ))));
        };
        let store = &self.inner.store;
        let task = committee.task();
        if store
            .batch(key(task, number, committee.index()))
            .await?
            .is_some()
        {
            return Ok(Err(Response::Refused(format!("round {number} is closed"))));
        }
        if let Some(verify_key) = verify_key {
            // A leader that could change the key after it saw the reports could choose the challenges.
            let pin = format!("verify-key/{task}/{}", committee.index());
            match store.setting(&pin).await? {
                Some(pinned) if pinned != verify_key => {
                    return Ok(Err(Response::Refused(
                        "the committee's verification key was changed".into(),
                    )));
                }
                Some(_) => {}
                None => store.put_setting(&pin, verify_key).await?,
            }
        }
        Ok(Ok(round))
    }

    /// Begin reports of three shares.
    pub(super) async fn collect(&self, from: NodeId, request: PrepareRequest) -> Outcome<Response> {
        let (served, committee) =
            match self.served_by_leader(from, &request.task, request.committee) {
                Ok(served) => served,
                Err(response) => return Ok(response),
            };
        if twice(request.reports.iter().map(|init| init.id)) {
            return Ok(Response::Refused(TWICE.into()));
        }
        if committee.helpers().len() < 2 {
            return Ok(Response::Refused("its reports have two shares".into()));
        }
        let _one_at_a_time = served.preparing.lock().await;
        let ready = self.ready(
            &served,
            request.round,
            &committee,
            Some(&request.verify_key),
        );
        let round = match ready.await? {
            Ok(round) => round,
            Err(response) => return Ok(response),
        };
        let store = &self.inner.store;
        let (task, key) = (
            request.task,
            key(request.task, round.round, request.committee),
        );
        let mut answers = BTreeMap::new();
        let mut fresh = BTreeMap::new();
        for init in &request.reports {
            let seen = store.helper_report(key, init.id.0, digest_of(init));
            let answer = match seen.await? {
                ClaimReport::Conflict => Some(CollectAnswer::Rejected(Reason::Replayed)),
                ClaimReport::New => None,
                // What was said is said again: two prepare shares of one report are one too many.
                ClaimReport::Same => match store.outcome(task.0, init.id.0).await? {
                    Some(Stored::Verified { response, .. }) => Some(CollectAnswer::Share(response)),
                    Some(Stored::Rejected { reason }) => Some(CollectAnswer::Rejected(
                        Reason::from_code(reason).unwrap_or(Reason::InvalidProof),
                    )),
                    None => {
                        let begun = store.begun(key, init.id.0).await?;
                        begun.map(|begun| CollectAnswer::Share(begun.response))
                    }
                },
            };
            match answer {
                Some(answer) => answers.insert(init.id, answer).map(drop),
                None => fresh.insert(init.id, init).map(drop),
            };
        }
        let secrets = &self.inner.secrets;
        let known = self.enrolled(&task);
        let collected: Vec<_> = tokio::task::block_in_place(|| {
            let each = fresh.values();
            each.map(|init| {
                let verify_key = &request.verify_key;
                let begun = helper::collect(&committee, &round, secrets, &known, verify_key, init);
                (init.id, begun)
            })
            .collect()
        });
        let (mut claims, mut begun, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
        for (id, collected) in collected {
            let answer = match collected {
                Ok(Collected { state, share }) => {
                    claims.push(id);
                    let response = share.clone();
                    begun.push((id.0, BegunReport { state, response }));
                    CollectAnswer::Share(share)
                }
                Err(NotBegun { reason, is_outcome }) => {
                    if is_outcome {
                        claims.push(id);
                        outcomes.push((id.0, rejected(reason).0));
                    }
                    CollectAnswer::Rejected(reason)
                }
            };
            answers.insert(id, answer);
        }
        for init in claims.iter().filter_map(|id| fresh.get(id)) {
            let digest = digest_of(init);
            store.claim_helper_report(key, init.id.0, digest).await?;
        }
        // Stored before it is said: the leader may go on with what it is told.
        store.record_begun(key, &begun).await?;
        store.record_outcomes(key, &outcomes).await?;
        let answer = |init: &PrepareInit| {
            let answer = answers.get(&init.id).cloned();
            answer.unwrap_or(CollectAnswer::Rejected(Reason::MemberDisagrees))
        };
        Ok(Response::Collected(
            request.reports.iter().map(answer).collect(),
        ))
    }

    /// Finish reports of three shares.
    pub(super) async fn finish(&self, from: NodeId, request: FinishRequest) -> Outcome<Response> {
        let (served, committee) =
            match self.served_by_leader(from, &request.task, request.committee) {
                Ok(served) => served,
                Err(response) => return Ok(response),
            };
        if twice(request.reports.iter().map(|(id, _)| *id)) {
            return Ok(Response::Refused(TWICE.into()));
        }
        let _one_at_a_time = served.preparing.lock().await;
        let ready = self.ready(&served, request.round, &committee, None);
        if let Err(response) = ready.await? {
            return Ok(response);
        }
        let store = &self.inner.store;
        let key = key(request.task, request.round, request.committee);
        let mut answers = Vec::with_capacity(request.reports.len());
        let mut outcomes = Vec::new();
        for (id, with) in &request.reports {
            if let Some(begun) = store.begun(key, id.0).await? {
                let finished = tokio::task::block_in_place(|| {
                    helper::finish(&committee, *id, &begun.state, with)
                        .and_then(|share| share.to_bytes())
                });
                let (outcome, answer) = match finished {
                    Ok(out_share) => (
                        Stored::Verified {
                            out_share,
                            response: begun.response,
                        },
                        PrepareAnswer::Verified(Vec::new()),
                    ),
                    Err(reason) => rejected(reason),
                };
                outcomes.push((id.0, outcome));
                answers.push(answer);
                continue;
            }
            answers.push(match store.outcome(request.task.0, id.0).await? {
                Some(Stored::Verified { .. }) => PrepareAnswer::Verified(Vec::new()),
                Some(Stored::Rejected { reason }) => PrepareAnswer::Rejected(
                    Reason::from_code(reason).unwrap_or(Reason::InvalidProof),
                ),
                None => PrepareAnswer::Rejected(Reason::MemberDisagrees),
            });
        }
        // Stored before it is said: the leader counts what it is told.
        store.record_outcomes(key, &outcomes).await?;
        Ok(Response::Prepared(answers))
    }

    /// Check reports of two shares.
    pub(super) async fn prepare(&self, from: NodeId, request: PrepareRequest) -> Outcome<Response> {
        let (served, committee) =
            match self.served_by_leader(from, &request.task, request.committee) {
                Ok(served) => served,
                Err(response) => return Ok(response),
            };
        if twice(request.reports.iter().map(|init| init.id)) {
            return Ok(Response::Refused(TWICE.into()));
        }
        if committee.helpers().len() > 1 {
            return Ok(Response::Refused("its reports have three shares".into()));
        }
        let _one_at_a_time = served.preparing.lock().await;
        let ready = self.ready(
            &served,
            request.round,
            &committee,
            Some(&request.verify_key),
        );
        let round = match ready.await? {
            Ok(round) => round,
            Err(response) => return Ok(response),
        };
        let store = &self.inner.store;
        let task = request.task;
        let key = key(task, round.round, request.committee);
        let mut answers: Vec<Option<PrepareAnswer>> = Vec::with_capacity(request.reports.len());
        let mut fresh = Vec::new();
        for init in &request.reports {
            let digest = digest_of(init);
            answers.push(match store.helper_report(key, init.id.0, digest).await? {
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
            });
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
            let is_outcome = prepared.is_outcome;
            let (outcome, answer) = settle(prepared);
            if is_outcome {
                let digest = digest_of(init);
                store.claim_helper_report(key, init.id.0, digest).await?;
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

    /// Sign a batch, or only say whether it would be signed.
    pub(super) async fn close(
        &self,
        from: NodeId,
        summary: SignedText,
        ids: Vec<ReportId>,
        refused: Vec<ReportId>,
        sign: bool,
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
                if !sign {
                    return Ok(Response::WouldAgree);
                }
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
        let agreement = match sign {
            true => helper::agree(&committee, &round, secrets, proposed, &verified),
            false => match helper::compare(&committee, &round, &proposed, &verified) {
                Ok(None) => return Ok(Response::WouldAgree),
                Ok(Some(difference)) => Ok(Agreement::Differs(difference)),
                Err(error) => Err(error),
            },
        };
        match agreement {
            Ok(Agreement::Agreed(batch, signature)) => {
                let refused: Vec<_> = refused.into_iter().map(|id| id.0).collect();
                store
                    .disown_reports(key, &refused, Reason::MemberDisagrees.code())
                    .await?;
                self.release(&served, key, *batch, ids).await?;
                Ok(Response::Agreed(signature))
            }
            Ok(Agreement::Differs(Difference { missing, unknown })) => {
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

const TWICE: &str = "the request has a report twice";

/// Whether an id comes twice. A report that is checked with two messages gives two answers, and one is what is stored.
fn twice(mut ids: impl Iterator<Item = ReportId>) -> bool {
    let mut seen = BTreeSet::new();
    ids.any(|id| !seen.insert(id))
}

fn digest_of(init: &PrepareInit) -> [u8; 32] {
    let mut bytes = init.time_s.to_be_bytes().to_vec();
    bytes.extend_from_slice(&(init.public_share.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&init.public_share);
    bytes.extend_from_slice(&init.sealed);
    Digest::of(&bytes).0
}

fn rejected(reason: Reason) -> (Stored, PrepareAnswer) {
    (
        Stored::Rejected {
            reason: reason.code(),
        },
        PrepareAnswer::Rejected(reason),
    )
}

fn settle(prepared: Prepared) -> (Stored, PrepareAnswer) {
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
