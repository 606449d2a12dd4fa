//! One task at the aggregation node: its machine, and the store it must agree with.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use defim_aggregation::coordinator::{
    Completed, Coordinator, Input, Output, Restored, RestoredRound,
};
use defim_learn::Features;
use defim_protocol::{
    NodeId, NodeKey, RoundNumber, TaskId, VerifiedManifest,
    wire::{self, Response, Submission},
};
use defim_store::{Artefact, CompletedRound, RoundState, WorkStore};
use tokio::sync::{MappedMutexGuard, MutexGuard, Notify};

use super::artefact;
use crate::{
    clock,
    failure::{Failure, Outcome},
    http::VotesView,
    ledger::clerk::Standing,
};

/// Names of an open round's statements in the store; a committee's has its number behind.
const SELECTION: &str = "selection";
const OPENING: &str = "opening";
const CLOSED: &str = "closed/";

/// One task.
pub struct Run {
    manifest: VerifiedManifest,
    key: Arc<NodeKey>,
    holdout: Option<Features>,
    store: WorkStore,
    /// Whether rounds wait for a ledger.
    on_ledger: bool,
    held: tokio::sync::Mutex<Held>,
    /// Something may have to be told to members.
    pub(super) news: Notify,
    /// What members have acknowledged: the round, and whether the task is paused.
    told: Mutex<BTreeMap<NodeId, (RoundNumber, bool)>>,
    /// What the ledger says, if there is one.
    standing: Mutex<Option<Standing>>,
}

struct Held {
    machine: Coordinator,
    /// An output of the machine may not be stored: what the store holds is the truth, and the
    /// machine is made anew from it before it is used or shown again.
    stale: bool,
}

/// What came of an input.
#[derive(Debug, Default)]
pub struct Handled {
    /// For the sender of the input.
    pub answer: Option<Response>,
    /// Whether those who watch the task have something new to see.
    pub changed: bool,
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

impl Run {
    /// Take up a task from what the store holds of it.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails, or holds what cannot be used.
    pub async fn restore(
        manifest: VerifiedManifest,
        key: Arc<NodeKey>,
        holdout: Option<Features>,
        store: WorkStore,
        on_ledger: bool,
    ) -> Outcome<Self> {
        let machine = restored(&store, &manifest, &key, &holdout, on_ledger).await?;
        let (digest, model) = machine.model();
        store.put_model(digest.0, model).await?;
        Ok(Self {
            manifest,
            key,
            holdout,
            store,
            on_ledger,
            held: tokio::sync::Mutex::new(Held {
                machine,
                stale: false,
            }),
            news: Notify::new(),
            told: Mutex::default(),
            standing: Mutex::default(),
        })
    }

    /// The task.
    pub fn manifest(&self) -> &VerifiedManifest {
        &self.manifest
    }

    /// The machine, as the store has it.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the two differ and the store cannot be read.
    pub async fn machine(&self) -> Outcome<MappedMutexGuard<'_, Coordinator>> {
        Ok(MutexGuard::map(self.held().await?, |held| {
            &mut held.machine
        }))
    }

    async fn held(&self) -> Outcome<MutexGuard<'_, Held>> {
        let mut held = self.held.lock().await;
        if held.stale {
            held.machine = restored(
                &self.store,
                &self.manifest,
                &self.key,
                &self.holdout,
                self.on_ledger,
            )
            .await?;
            held.stale = false;
        }
        Ok(held)
    }

    /// Feed the machine and carry out what it says. The answer is for its sender only once all of
    /// it is stored.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails; the input then has had no effect, or will be found done when
    /// it comes again.
    pub async fn handle(&self, input: Input) -> Outcome<Handled> {
        let mut held = self.held().await?;
        let held = &mut *held;
        // Also if this future is dropped half-way: what was polled and not stored would be lost.
        held.stale = true;
        tokio::task::block_in_place(|| held.machine.handle(clock::now(), input));
        let mut handled = Handled::default();
        while let Some(output) = held.machine.poll() {
            match output {
                Output::Answer(response) => handled.answer = Some(response),
                Output::Changed => handled.changed = true,
                output => self.carry_out(&held.machine, output).await?,
            }
        }
        held.stale = false;
        Ok(handled)
    }

    async fn carry_out(&self, machine: &Coordinator, output: Output) -> Outcome {
        let (store, task) = (&self.store, self.manifest.task());
        let name = &self.manifest.name;
        match output {
            Output::Open { signed, opened } => {
                let (digest, model) = machine.model();
                store.put_model(digest.0, model).await?;
                let text = serde_json::to_vec(&signed).map_err(other)?;
                store
                    .put_round(task.0, opened.round, &text, opened.opened_ms)
                    .await?;
                tracing::info!(task = name, round = opened.round, "round opened");
            }
            Output::StoreClosed(round, batch) => {
                let bytes = wire::encode(&batch).map_err(other)?;
                let name = format!("{CLOSED}{}", batch.committee);
                store.put_statement(task.0, round, &name, &bytes).await?;
            }
            Output::StoreSelection(round, signed) => {
                let bytes = wire::encode(&signed).map_err(other)?;
                store.put_selection(task.0, round, &bytes).await?;
            }
            Output::StoreSum(round, node, submission) => {
                let bytes = wire::encode(&submission).map_err(other)?;
                store
                    .put_encrypted_sum(task.0, round, node.0, &bytes)
                    .await?;
            }
            Output::StoreOpening(round, signed) => {
                let bytes = wire::encode(&signed).map_err(other)?;
                store.put_statement(task.0, round, OPENING, &bytes).await?;
            }
            Output::Complete(done) => {
                let artefacts = artefacts(&done)?;
                store
                    .complete_round(CompletedRound {
                        artefacts,
                        task: task.0,
                        round: done.round,
                        model: done.digest.0,
                        model_bytes: done.model,
                        optimiser: done.optimiser,
                        metrics: serde_json::to_string(&done.metrics).map_err(other)?,
                        reports: done.reports,
                        rejected: serde_json::to_string(&done.rejected).map_err(other)?,
                        votes: done
                            .tally
                            .as_ref()
                            .map(|tally| serde_json::to_string(&VotesView::from(tally)))
                            .transpose()
                            .map_err(other)?,
                        finished: done.finished_ms,
                        spent: done.spent,
                    })
                    .await?;
                tracing::info!(
                    task = name,
                    round = done.round,
                    reports = done.reports,
                    accuracy = done.metrics.accuracy,
                    r2 = done.metrics.r2,
                    "new model"
                );
            }
            Output::Void {
                round,
                reason,
                spent,
            } => {
                store
                    .void_aggregation_round(task.0, round, &reason, spent, clock::now())
                    .await?;
                tracing::info!(task = name, round, reason, "round voided");
            }
            Output::Answer(_) | Output::Changed => {}
        }
        Ok(())
    }

    /// What the ledger says of the task, if there is one.
    pub fn standing(&self) -> Option<Standing> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.clone()
    }

    /// The ledger was asked.
    pub fn set_standing(&self, now: Standing) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        *standing = Some(now);
    }

    /// Make the machine anew from the store, which has changed under it.
    pub async fn restart(&self) {
        self.held.lock().await.stale = true;
    }

    /// Whether a member has acknowledged this round.
    pub fn has_taken_up(&self, member: &NodeId, round: RoundNumber) -> bool {
        self.told(member).is_some_and(|(known, _)| known == round)
    }

    /// What a member has acknowledged since this process began.
    pub fn told(&self, member: &NodeId) -> Option<(RoundNumber, bool)> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(member).copied()
    }

    /// A member has acknowledged this.
    pub fn set_told(&self, member: NodeId, what: (RoundNumber, bool)) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.insert(member, what);
    }
}

/// What is public of a finished round, under the names of [`artefact`].
fn artefacts(done: &Completed) -> Outcome<Vec<Artefact>> {
    let large = |name: String, bytes: &[u8]| Artefact {
        name,
        rounds: artefact::LARGE_ROUNDS,
        bytes: bytes.to_vec(),
    };
    let mut artefacts = vec![
        Artefact {
            name: artefact::RECORD.into(),
            rounds: artefact::RECORD_ROUNDS,
            bytes: serde_json::to_vec(&done.record).map_err(other)?,
        },
        large(artefact::KEY.into(), &done.key),
        large(artefact::OPTIMISER.into(), &done.optimiser_before),
    ];
    for (node, ciphertext) in &done.ciphertexts {
        artefacts.push(large(artefact::ciphertext(node), ciphertext));
    }
    for (committee, ids) in &done.ids {
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.0).collect();
        // As long as rewards can be claimed, and small.
        artefacts.push(Artefact {
            name: artefact::ids(*committee),
            rounds: artefact::RECORD_ROUNDS,
            bytes,
        });
    }
    Ok(artefacts)
}

async fn restored(
    store: &WorkStore,
    manifest: &VerifiedManifest,
    key: &Arc<NodeKey>,
    holdout: &Option<Features>,
    on_ledger: bool,
) -> Outcome<Coordinator> {
    let task = manifest.task();
    let mut restored = Restored {
        rounds_done: store.rounds_done(task.0).await?,
        spent: store.selections_asked(task.0).await?,
        model: store.latest_model(task.0).await?,
        paused: store.is_task_paused(task.0).await?,
        // Until the ledger's clerk says otherwise.
        held: on_ledger,
        ..Restored::default()
    };
    if let Some(round) = store.current_round(task.0).await? {
        let signed = serde_json::from_slice(&round.signed).map_err(other)?;
        restored.round = Some((signed, round.state != RoundState::Open));
        restored.open = restored_round(store, task, round.round).await?;
    }
    Coordinator::new(manifest.clone(), key.clone(), holdout.clone(), restored)
        .map_err(|e| Failure::Integrity(e.to_string()))
}

/// What the store holds of an open round; what cannot be read is asked for again.
async fn restored_round(
    store: &WorkStore,
    task: TaskId,
    round: RoundNumber,
) -> Outcome<RestoredRound> {
    let mut restored = RestoredRound::default();
    for (name, bytes) in store.statements(task.0, round).await? {
        match name.as_str() {
            SELECTION => restored.selection = wire::decode(&bytes).ok(),
            OPENING => restored.opening = wire::decode(&bytes).ok(),
            name if name.starts_with(CLOSED) => restored.closed.extend(wire::decode(&bytes).ok()),
            _ => {}
        }
    }
    for (node, bytes) in store.encrypted_sums(task.0, round).await? {
        if let Ok(submission) = wire::decode::<Submission>(&bytes) {
            restored.sums.push((NodeId(node), submission));
        }
    }
    Ok(restored)
}
