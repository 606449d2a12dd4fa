//! Driving the leader's machine.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use defim_full::{
    AggregateBuilder,
    leader::{Counts, Input, Leader, Outcome as ReportOutcome, Output, Proposal},
};
use defim_protocol::{
    CommitteeIndex, NodeId, Reason, ReportId, RoundNumber, TaskId,
    batch::SignedBatch,
    wire::{self, Progress, Request, Response},
};
use defim_store::{BatchKey, ClosedBatch, Outcome as Stored, RoundState};

use super::full::{FullNode, LeaderStatus, Led, Served, key};
use crate::{
    clock,
    failure::{Failure, Outcome},
};

const TICK: Duration = Duration::from_millis(200);
const TELL: Duration = Duration::from_secs(2);
const TELL_DEADLINE: Duration = Duration::from_secs(5);

/// What the names of a round's proposals begin with in the store.
pub(super) fn proposals(task: &TaskId, round: RoundNumber) -> String {
    format!("proposal/{task}/{round}/")
}

fn proposal_key(led: &Led, round: RoundNumber) -> String {
    let committee = led.committee.index();
    proposals(&led.committee.task(), round) + &committee.to_string()
}

impl FullNode {
    /// Lead a committee's rounds, one after another, for as long as the node runs.
    pub(super) async fn lead(self, served: Arc<Served>, index: CommitteeIndex) {
        let Some(led) = served.led.get(&index) else {
            return;
        };
        loop {
            if let Err(failure) = self.lead_round(&served, led).await {
                tracing::error!(node = self.name(), task = served.manifest.name, %failure, "the round halts and is tried again");
            }
            let _ = tokio::time::timeout(TICK, led.wake.notified()).await;
        }
    }

    async fn lead_round(&self, served: &Served, led: &Led) -> Outcome {
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
        if store
            .batch(key(task, number, led.committee.index()))
            .await?
            .is_some()
        {
            return Ok(());
        }
        let mut machine = Leader::new(led.committee.clone(), round, self.inner.secrets.clone())
            .map_err(|reason| Failure::Other(reason.to_string()))?;
        let mut trouble = BTreeMap::new();
        let mut input = Input::Tick;
        loop {
            tokio::task::block_in_place(|| machine.handle(clock::now(), input));
            while let Some(output) = machine.poll() {
                if let Some(next) = self
                    .perform(served, led, number, output, &mut trouble)
                    .await?
                {
                    tokio::task::block_in_place(|| machine.handle(clock::now(), next));
                }
            }
            led.set_status(LeaderStatus {
                round: number,
                accepts: machine.accepts_reports(clock::now()),
            });
            if machine.is_done() || served.round().is_none_or(|open| open.round != number) {
                return Ok(());
            }
            let woken = tokio::time::timeout(TICK, led.wake.notified())
                .await
                .is_ok();
            if served.is_closing(number) {
                tokio::task::block_in_place(|| machine.handle(clock::now(), Input::Close));
            }
            // A stored report changes the counts, which only the store knows.
            input = if woken {
                self.state(led, number).await?
            } else {
                Input::Tick
            };
        }
    }

    async fn state(&self, led: &Led, round: RoundNumber) -> Outcome<Input> {
        let (task, index) = (led.committee.task(), led.committee.index());
        let stored = self
            .inner
            .store
            .report_counts(key(task, round, index))
            .await?;
        let proposal = match self.inner.store.setting(&proposal_key(led, round)).await? {
            None => None,
            Some(bytes) => Proposal::from_bytes(&bytes, led.committee.helpers().len()).ok(),
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
        served: &Served,
        led: &Led,
        round: RoundNumber,
        output: Output,
        trouble: &mut BTreeMap<NodeId, String>,
    ) -> Outcome<Option<Input>> {
        let task = served.manifest.task();
        let key = key(task, round, led.committee.index());
        let store = &self.inner.store;
        Ok(match output {
            Output::LoadState => Some(self.state(led, round).await?),
            Output::LoadPending { reports, bytes } => {
                let pending = store
                    .pending_reports(key, reports as u64, bytes as u64)
                    .await?
                    .into_iter()
                    .map(|report| (ReportId(report.id), report.bytes))
                    .collect();
                Some(Input::Pending(pending))
            }
            Output::Ask(questions) => {
                let helpers = led.committee.helpers();
                let asked = helpers.iter().zip(&questions);
                let asked =
                    asked.map(|(helper, question)| self.inner.link.ask(&helper.node, question));
                let answers = futures::future::join_all(asked).await;
                for (helper, answer) in helpers.iter().zip(&answers) {
                    let Some(why) = trouble_of(answer) else {
                        trouble.remove(&helper.node);
                        continue;
                    };
                    if trouble.get(&helper.node) != Some(&why) {
                        tracing::warn!(
                            node = self.name(),
                            task = served.manifest.name,
                            round,
                            helper = helper.name,
                            why,
                            "the helper does not do its part"
                        );
                        trouble.insert(helper.node, why);
                    }
                }
                Some(Input::Answers(
                    answers.into_iter().map(Result::ok).collect(),
                ))
            }
            Output::Record(outcomes) => {
                let outcomes: Vec<_> = outcomes
                    .into_iter()
                    .map(|(id, outcome)| (id.0, stored_outcome(outcome)))
                    .collect();
                store.record_outcomes(key, &outcomes).await?;
                Some(self.state(led, round).await?)
            }
            Output::Disown(ids) => {
                let ids: Vec<_> = ids.into_iter().map(|id| id.0).collect();
                store
                    .disown_reports(key, &ids, Reason::MemberDisagrees.code())
                    .await?;
                Some(self.state(led, round).await?)
            }
            Output::LoadVerified => {
                let ids = store.verified_ids(key).await?;
                Some(Input::Verified(ids.into_iter().map(ReportId).collect()))
            }
            Output::Propose(proposal) => {
                let bytes = proposal
                    .to_bytes()
                    .map_err(|e| Failure::Other(e.to_string()))?;
                store.put_setting(&proposal_key(led, round), &bytes).await?;
                None
            }
            Output::Release { batch, ids } => {
                self.release(served, key, batch, ids).await?;
                Some(Input::Released)
            }
            Output::Without(reason) => {
                tracing::debug!(
                    node = self.name(),
                    task = served.manifest.name,
                    round,
                    committee = key.committee,
                    reason,
                    "a committee closes without a batch"
                );
                store.close_without_batch(key, &reason).await?;
                None
            }
            Output::Phase(phase, counts) => {
                led.progress.send_replace(Some(Progress {
                    task,
                    round,
                    committee: key.committee,
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
    pub(super) async fn tell_progress(self, served: Arc<Served>, index: CommitteeIndex) {
        let Some(led) = served.led.get(&index) else {
            return;
        };
        let mut progress = led.progress.subscribe();
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

    /// Add the shares of an agreed batch, store the sum, drop what it was made of.
    pub(super) async fn release(
        &self,
        served: &Served,
        key: BatchKey,
        batch: impl Into<SignedBatch>,
        ids: Vec<ReportId>,
    ) -> Outcome {
        let failed = |e: &dyn std::fmt::Display| Failure::Integrity(e.to_string());
        let round = served.round().filter(|round| round.round == key.round);
        let round = round.ok_or_else(|| Failure::Other(format!("round {} is over", key.round)))?;
        let mut builder =
            AggregateBuilder::new(&served.manifest, &round).map_err(|e| failed(&e))?;
        let report_ids: Vec<_> = ids.iter().map(|id| id.0).collect();
        self.inner
            .store
            .fold_out_shares(key, &report_ids, |id, share| {
                builder.add(ReportId(*id), share)
            })
            .await
            .map_err(|e| failed(&e))?;
        let released = builder.release(batch).map_err(|e| failed(&e))?;
        let signatures = released.batch().signatures();
        let summary = signatures.first().map(|s| s.payload.clone());
        self.inner
            .store
            .close_batch(
                key,
                ClosedBatch {
                    summary: summary.unwrap_or_default().into_bytes(),
                    signatures: wire::encode(&signatures).map_err(|e| failed(&e))?,
                    aggregate_share: released.to_bytes().map_err(|e| failed(&e))?,
                    report_ids,
                },
            )
            .await?;
        tracing::info!(
            node = self.name(),
            task = served.manifest.name,
            round = key.round,
            committee = key.committee,
            reports = ids.len(),
            "batch closed"
        );
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
