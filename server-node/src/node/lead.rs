//! Driving the leader's machine.

use std::{sync::Arc, time::Duration};

use defim_full::{
    AggregateBuilder,
    leader::{Counts, Input, Leader, Outcome as ReportOutcome, Output, Proposal},
};
use defim_protocol::{
    Reason, ReportId, RoundNumber, TaskId,
    wire::{self, Progress, Request, Response},
};
use defim_store::{ClosedBatch, Outcome as Stored, RoundState};

use super::full::{FullNode, LeaderStatus, Served};
use crate::{
    clock,
    failure::{Failure, Outcome},
};

const TICK: Duration = Duration::from_millis(200);
const TELL: Duration = Duration::from_secs(2);
const TELL_DEADLINE: Duration = Duration::from_secs(5);

fn proposal_key(task: &TaskId, round: RoundNumber) -> String {
    format!("proposal/{task}/{round}")
}

impl FullNode {
    /// Lead a task's rounds, one after another, for as long as the node runs.
    pub(super) async fn lead(self, served: Arc<Served>) {
        loop {
            if let Err(failure) = self.lead_round(&served).await {
                tracing::error!(node = self.name(), task = served.manifest.name, %failure, "the round halts and is tried again");
            }
            let _ = tokio::time::timeout(TICK, served.wake.notified()).await;
        }
    }

    async fn lead_round(&self, served: &Arc<Served>) -> Outcome {
        let Some(round) = served.round() else {
            return Ok(());
        };
        let task = served.manifest.task();
        let store = &self.inner.store;
        if store
            .current_round(task.0)
            .await?
            .is_none_or(|stored| stored.state != RoundState::Open)
        {
            return Ok(());
        }
        let number = round.round;
        let mut machine = Leader::new(served.manifest.clone(), round, self.inner.secrets.clone())
            .map_err(|reason| Failure::Other(reason.to_string()))?;
        let mut trouble = None;
        let mut input = Input::Tick;
        loop {
            tokio::task::block_in_place(|| machine.handle(clock::now(), input));
            while let Some(output) = machine.poll() {
                if let Some(next) = self.perform(served, number, output, &mut trouble).await? {
                    tokio::task::block_in_place(|| machine.handle(clock::now(), next));
                }
            }
            served.set_status(LeaderStatus {
                round: number,
                accepts: machine.accepts_reports(clock::now()),
            });
            if machine.is_done() || served.round().is_none_or(|open| open.round != number) {
                return Ok(());
            }
            let woken = tokio::time::timeout(TICK, served.wake.notified())
                .await
                .is_ok();
            // A stored report changes the counts, which only the store knows.
            input = if woken {
                self.state(task, number).await?
            } else {
                Input::Tick
            };
        }
    }

    async fn state(&self, task: TaskId, round: RoundNumber) -> Outcome<Input> {
        let stored = self.inner.store.report_counts(task.0, round).await?;
        let proposal = match self
            .inner
            .store
            .setting(&proposal_key(&task, round))
            .await?
        {
            None => None,
            Some(bytes) => wire::decode(&bytes)
                .map(|(summary, ids, refused)| Proposal {
                    summary,
                    ids,
                    refused,
                })
                .ok(),
        };
        let counts = Counts {
            pending: stored.pending,
            verified: stored.verified,
            rejected: stored.rejected_by_reason.into_iter().collect(),
        };
        Ok(Input::State { counts, proposal })
    }

    async fn perform(
        &self,
        served: &Arc<Served>,
        round: RoundNumber,
        output: Output,
        trouble: &mut Option<String>,
    ) -> Outcome<Option<Input>> {
        let task = served.manifest.task();
        let store = &self.inner.store;
        Ok(match output {
            Output::LoadState => Some(self.state(task, round).await?),
            Output::LoadPending { reports, bytes } => {
                let pending = store
                    .pending_reports(task.0, round, reports as u64, bytes as u64)
                    .await?
                    .into_iter()
                    .map(|report| (ReportId(report.id), report.bytes))
                    .collect();
                Some(Input::Pending(pending))
            }
            Output::Ask(request) => {
                let answer = self
                    .inner
                    .link
                    .ask(&served.manifest.helper().node, &request)
                    .await;
                let now = trouble_of(&answer);
                if let Some(why) = now.as_ref().filter(|_| now != *trouble) {
                    tracing::warn!(
                        node = self.name(),
                        task = served.manifest.name,
                        round,
                        helper = served.manifest.helper().name,
                        why,
                        "the helper does not do its part"
                    );
                }
                *trouble = now;
                Some(Input::Answer(answer.ok()))
            }
            Output::Record(outcomes) => {
                let outcomes: Vec<_> = outcomes
                    .into_iter()
                    .map(|(id, outcome)| (id.0, stored_outcome(outcome)))
                    .collect();
                store.record_outcomes(task.0, round, &outcomes).await?;
                Some(self.state(task, round).await?)
            }
            Output::Disown(ids) => {
                let ids: Vec<_> = ids.into_iter().map(|id| id.0).collect();
                store
                    .disown_reports(task.0, round, &ids, Reason::MemberDisagrees.code())
                    .await?;
                Some(self.state(task, round).await?)
            }
            Output::LoadVerified => {
                let ids = store.verified_ids(task.0, round).await?;
                Some(Input::Verified(ids.into_iter().map(ReportId).collect()))
            }
            Output::Propose(proposal) => {
                let bytes = wire::encode(&(proposal.summary, proposal.ids, proposal.refused))
                    .map_err(|e| Failure::Other(e.to_string()))?;
                store
                    .put_setting(&proposal_key(&task, round), &bytes)
                    .await?;
                None
            }
            Output::Release { batch, ids } => {
                self.release(served, round, batch, ids).await?;
                Some(Input::Released)
            }
            Output::Void(reason) => {
                tracing::info!(
                    node = self.name(),
                    task = served.manifest.name,
                    round,
                    reason,
                    "round voided"
                );
                store.void_round(task.0, round, &reason).await?;
                None
            }
            Output::Phase(phase, counts) => {
                served.progress.send_replace(Some(Progress {
                    task,
                    round,
                    phase,
                    pending: counts.pending,
                    verified: counts.verified,
                    rejected: counts.rejected.into_iter().collect(),
                    at_ms: clock::now(),
                }));
                None
            }
        })
    }

    /// Tell the aggregation node where the led round stands: at each change, and again and again,
    /// because it may have missed it or begun anew. Apart from leading, which must not wait for it.
    pub(super) async fn tell_progress(self, served: Arc<Served>) {
        let mut progress = served.progress.subscribe();
        loop {
            // Its sender lives as long as the task.
            let _ = tokio::time::timeout(TELL, progress.changed()).await;
            let Some(now) = progress.borrow_and_update().clone() else {
                continue;
            };
            let told = self
                .inner
                .link
                .ask_within(
                    &served.manifest.aggregation,
                    &Request::Progress(now),
                    TELL_DEADLINE,
                )
                .await;
            if let Err(why) = told {
                tracing::debug!(node = self.name(), why, "progress is told again");
            }
        }
    }

    /// Add the shares of an agreed batch, store the sum, drop what it was made of, deliver it.
    pub(super) async fn release(
        &self,
        served: &Served,
        round: RoundNumber,
        batch: defim_protocol::batch::AgreedBatch,
        ids: Vec<ReportId>,
    ) -> Outcome {
        let task = served.manifest.task();
        let failed = |e: &dyn std::fmt::Display| Failure::Integrity(e.to_string());
        let mut builder = AggregateBuilder::new(&served.manifest).map_err(|e| failed(&e))?;
        let keys: Vec<_> = ids.iter().map(|id| id.0).collect();
        self.inner
            .store
            .fold_out_shares(task.0, round, &keys, |id, share| {
                builder.add(ReportId(*id), share)
            })
            .await
            .map_err(|e| failed(&e))?;
        let reports = ids.len();
        let summary = batch
            .signatures()
            .first()
            .map(|s| s.payload.clone())
            .unwrap_or_default();
        let submission = builder
            .release(batch)
            .and_then(defim_full::ReleasableAggregate::into_submission)
            .map_err(|e| failed(&e))?;
        let signatures = wire::encode(&submission.signatures).map_err(|e| failed(&e))?;
        self.inner
            .store
            .close_batch(
                task.0,
                round,
                ClosedBatch {
                    summary: summary.into_bytes(),
                    signatures,
                    aggregate_share: submission.share,
                    report_ids: keys,
                },
            )
            .await?;
        tracing::info!(
            node = self.name(),
            task = served.manifest.name,
            round,
            reports,
            "batch released"
        );
        self.inner.deliver.notify_one();
        Ok(())
    }
}

/// What is wrong with the helper's answer, for the log.
fn trouble_of(answer: &Result<Response, String>) -> Option<String> {
    match answer {
        Ok(Response::Refused(why)) => Some(format!("it refuses: {why}")),
        Ok(Response::Later(why)) => Some(format!("not now: {why}")),
        Ok(Response::Differs { missing, unknown }) => Some(format!(
            "it has verified {} reports that the batch does not have, and lacks {} that it has",
            missing.len(),
            unknown.len()
        )),
        Ok(_) => None,
        Err(why) => Some(why.clone()),
    }
}

fn stored_outcome(outcome: ReportOutcome) -> Stored {
    match outcome {
        ReportOutcome::Verified(out_share) => Stored::Verified {
            out_share,
            response: Vec::new(),
        },
        ReportOutcome::Rejected(reason) => Stored::Rejected {
            reason: reason.code(),
        },
    }
}
