//! The aggregation node's driver: tasks it runs, rounds it announces, models it publishes.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use defim_aggregation::coordinator::{Coordinator, Input, Output, Restored};
use defim_learn::{
    BUILTIN_NAMES, DataLimits, Features, LearningSpec, Samples, builtin, builtin_csv,
};
use defim_protocol::{
    Digest, Manifest, Member, NodeId, NodeKey, RoundNumber, Schedule, SignedText, TaskId,
    VerifiedManifest,
    vdaf::{Scheme, VdafSpec},
    wire::{self, Request, Response, Submission},
};
use defim_store::{CompletedRound, RoundState, WorkStore};
use serde_json::value::RawValue;
use tokio::sync::broadcast;

use super::Link;
use crate::{
    clock,
    config::{Peer, Role},
    failure::{Failure, Outcome},
};

/// Decides which rows of a built-in task are held out for evaluation; the rest serve as samples.
pub const HOLDOUT_SEED: u64 = 1;
const TICK: Duration = Duration::from_millis(500);
const HELLO: Duration = Duration::from_secs(2);
const HELLO_DEADLINE: Duration = Duration::from_secs(3);

/// A running aggregation node.
#[derive(Clone)]
pub struct AggregationNode {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    key: Arc<NodeKey>,
    store: WorkStore,
    link: Link,
    tasks: Mutex<BTreeMap<TaskId, Arc<Run>>>,
    changes: broadcast::Sender<TaskId>,
    members: Mutex<BTreeMap<NodeId, Health>>,
}

/// What is known of a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether it answered the last time it was asked.
    pub reachable: bool,
    /// Its multiaddresses, as it last told them.
    pub addresses: Vec<String>,
}

/// One task.
pub struct Run {
    /// The machine. Held over storing, so that what is shown is what is stored.
    pub machine: tokio::sync::Mutex<Coordinator>,
    /// The machine is ahead of the store, because something could not be stored.
    stale: AtomicBool,
    /// What members have acknowledged: the round, and whether the task is paused.
    told: Mutex<BTreeMap<NodeId, (RoundNumber, bool)>>,
}

impl Run {
    /// Whether a member has acknowledged this round.
    pub fn has_taken_up(&self, member: &NodeId, round: RoundNumber) -> bool {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.get(member).is_some_and(|(known, _)| *known == round)
    }
}

/// A task to create.
pub struct NewTask {
    /// Its name on this mesh.
    pub name: String,
    /// One line.
    pub title: String,
    /// In plain words.
    pub summary: String,
    /// What is learnt.
    pub spec: LearningSpec,
    /// When rounds close.
    pub schedule: Schedule,
    /// What updates are shared and proven with.
    pub scheme: Scheme,
}

impl AggregationNode {
    /// Start from what the store holds.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store cannot be opened.
    pub async fn start(name: String, folder: &Path, key: NodeKey, link: Link) -> Outcome<Self> {
        let store = WorkStore::open(folder.join("work.db")).await?;
        let node = Self {
            inner: Arc::new(Inner {
                name,
                key: Arc::new(key),
                store,
                link,
                tasks: Mutex::default(),
                changes: broadcast::channel(256).0,
                members: Mutex::default(),
            }),
        };
        for peer in node.inner.link.peers().cloned() {
            tokio::spawn(node.clone().watch(peer));
        }
        for (task, text) in node.inner.store.tasks().await? {
            let restored = serde_json::from_slice::<SignedText>(&text)
                .map_err(|e| e.to_string())
                .and_then(|signed| {
                    VerifiedManifest::verify(signed, Some(TaskId(task))).map_err(|e| e.to_string())
                });
            match restored {
                Ok(manifest) => node.run(manifest).await?,
                Err(why) => {
                    tracing::error!(task = %TaskId(task), why, "a stored task cannot be run")
                }
            }
        }
        Ok(node)
    }

    /// Ask a member again and again whether it is there.
    async fn watch(self, peer: Peer) {
        loop {
            let answer = self
                .inner
                .link
                .ask_within(&peer.node, &Request::Hello, HELLO_DEADLINE)
                .await;
            let health = match answer {
                Ok(Response::Here(addresses)) => Health {
                    reachable: true,
                    addresses,
                },
                _ => Health {
                    reachable: false,
                    addresses: self.health(&peer.node).addresses,
                },
            };
            let changed = {
                let mut members = self
                    .inner
                    .members
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                members.insert(peer.node, health.clone()) != Some(health)
            };
            if changed {
                for (task, _) in self.tasks() {
                    let _ = self.inner.changes.send(task);
                }
            }
            tokio::time::sleep(HELLO).await;
        }
    }

    /// What is known of a member.
    pub fn health(&self, node: &NodeId) -> Health {
        let members = self
            .inner
            .members
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        members.get(node).cloned().unwrap_or_default()
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The node's id.
    pub fn id(&self) -> NodeId {
        self.inner.key.id()
    }

    /// The store.
    pub fn store(&self) -> &WorkStore {
        &self.inner.store
    }

    /// Its connections.
    pub fn link(&self) -> &Link {
        &self.inner.link
    }

    /// Told whenever a task changes.
    pub fn changes(&self) -> broadcast::Receiver<TaskId> {
        self.inner.changes.subscribe()
    }

    /// All tasks.
    pub fn tasks(&self) -> Vec<(TaskId, Arc<Run>)> {
        let tasks = self
            .inner
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        tasks.iter().map(|(id, run)| (*id, run.clone())).collect()
    }

    /// A task by id or name.
    pub async fn find(&self, text: &str) -> Option<(TaskId, Arc<Run>)> {
        for (id, run) in self.tasks() {
            if id.to_string() == text || run.machine.lock().await.task().name == text {
                return Some((id, run));
            }
        }
        None
    }

    /// Create a task; its committee are the first two full nodes of the configuration.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] if the name is taken or a value is out of range.
    pub async fn create(&self, new: NewTask) -> Outcome<TaskId> {
        if self.find(&new.name).await.is_some() {
            return Err(Failure::Input(format!(
                "a task named \"{}\" exists already; choose another name",
                new.name
            )));
        }
        new.spec
            .validate()
            .map_err(|e| Failure::Input(e.to_string()))?;
        let members: Vec<Member> = self
            .inner
            .link
            .peers()
            .filter(|peer| peer.role == Role::Full)
            .filter_map(|peer| {
                Some(Member {
                    node: peer.node,
                    name: peer.name.clone(),
                    hpke: peer.hpke.clone()?,
                })
            })
            .collect();
        // By name: the directory's order is that of the keys.
        let mut members = members;
        members.sort_by(|a, b| a.name.cmp(&b.name));
        members.truncate(2);
        let learning = serde_json::to_string(&new.spec)
            .and_then(RawValue::from_string)
            .map_err(|e| Failure::Other(e.to_string()))?;
        let manifest = Manifest {
            name: new.name,
            title: new.title,
            summary: new.summary,
            aggregation: self.id(),
            members,
            vdaf: VdafSpec {
                scheme: new.scheme,
                dimension: new.spec.dimension(),
                frac_bits: new.spec.frac_bits,
            },
            schedule: new.schedule,
            created_ms: clock::now(),
            learning,
        };
        let signed = manifest
            .sign(&self.inner.key)
            .map_err(|e| Failure::Input(e.to_string()))?;
        let manifest =
            VerifiedManifest::verify(signed, None).map_err(|e| Failure::Input(e.to_string()))?;
        let text =
            serde_json::to_vec(manifest.signed()).map_err(|e| Failure::Other(e.to_string()))?;
        let task = manifest.task();
        self.inner
            .store
            .put_task(task.0, &text, clock::now())
            .await?;
        self.run(manifest).await?;
        Ok(task)
    }

    /// A task's machine, from what the store holds.
    async fn restore(&self, manifest: VerifiedManifest) -> Outcome<Coordinator> {
        let task = manifest.task();
        let store = &self.inner.store;
        let mut restored = Restored {
            rounds_done: store
                .history(task.0)
                .await?
                .iter()
                .filter(|r| r.model.is_some())
                .count() as u64,
            model: store.latest_model(task.0).await?,
            paused: store.is_task_paused(task.0).await?,
            ..Restored::default()
        };
        if let Some(round) = store.current_round(task.0).await? {
            let signed =
                serde_json::from_slice(&round.signed).map_err(|e| Failure::Other(e.to_string()))?;
            restored.round = Some((signed, round.state != RoundState::Open));
            for share in store.aggregate_shares(task.0, round.round).await? {
                if let Ok(submission) = wire::decode::<Submission>(&share.submission) {
                    restored
                        .submissions
                        .push((NodeId(share.member), submission));
                }
            }
        }
        let holdout = holdout(&manifest);
        let machine = Coordinator::new(manifest, self.inner.key.clone(), holdout, restored)
            .map_err(|e| Failure::Integrity(e.to_string()))?;
        let (digest, model) = machine.model();
        store.put_model(digest.0, model).await?;
        Ok(machine)
    }

    async fn run(&self, manifest: VerifiedManifest) -> Outcome {
        let task = manifest.task();
        let machine = self.restore(manifest).await?;
        let run = Arc::new(Run {
            machine: tokio::sync::Mutex::new(machine),
            stale: AtomicBool::new(false),
            told: Mutex::default(),
        });
        self.inner
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(task, run.clone());
        tokio::spawn(self.clone().tick(task, run));
        Ok(())
    }

    async fn tick(self, task: TaskId, run: Arc<Run>) {
        loop {
            if let Err(failure) = self.handle(&run, Input::Tick).await {
                tracing::error!(%task, %failure, "the task halts and is tried again");
            }
            self.announce(&run).await;
            tokio::time::sleep(TICK).await;
        }
    }

    /// Feed a task's machine and carry out what it says.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails.
    pub async fn handle(&self, run: &Run, input: Input) -> Outcome<Option<Response>> {
        let mut machine = run.machine.lock().await;
        // What an input led to and could not be stored must not be built upon.
        if run.stale.load(Ordering::Relaxed) {
            *machine = self.restore(machine.task().clone()).await?;
            run.stale.store(false, Ordering::Relaxed);
        }
        tokio::task::block_in_place(|| machine.handle(clock::now(), input));
        let mut answer = None;
        while let Some(output) = machine.poll() {
            match output {
                Output::Answer(response) => answer = Some(response),
                output => {
                    let stored = self.store_output(&machine, output).await;
                    run.stale.store(stored.is_err(), Ordering::Relaxed);
                    stored?;
                }
            }
        }
        Ok(answer)
    }

    /// Make what a machine says last.
    async fn store_output(&self, machine: &Coordinator, output: Output) -> Outcome {
        let task = machine.task().task();
        let store = &self.inner.store;
        match output {
            Output::Open { signed, opened } => {
                let (digest, model) = machine.model();
                store.put_model(digest.0, model).await?;
                let text =
                    serde_json::to_vec(&signed).map_err(|e| Failure::Other(e.to_string()))?;
                store
                    .put_round(task.0, opened.round, &text, opened.opened_ms)
                    .await?;
                tracing::info!(
                    task = machine.task().name,
                    round = opened.round,
                    "round opened"
                );
            }
            Output::StoreShare(member, submission) => {
                let bytes = wire::encode(&submission).map_err(|e| Failure::Other(e.to_string()))?;
                store
                    .put_aggregate_share(task.0, submission.round, member.0, &bytes)
                    .await?;
            }
            // Answers go to whoever asked.
            Output::Answer(_) => {}
            Output::Complete(done) => {
                tracing::info!(
                    task = machine.task().name,
                    round = done.round,
                    reports = done.reports,
                    accuracy = done.metrics.accuracy,
                    r2 = done.metrics.r2,
                    "new model"
                );
                let json = |value: serde_json::Result<String>| {
                    value.map_err(|e| Failure::Other(e.to_string()))
                };
                store
                    .complete_round(CompletedRound {
                        task: task.0,
                        round: done.round,
                        model: done.digest.0,
                        model_bytes: done.model,
                        optimiser: done.optimiser,
                        metrics: json(serde_json::to_string(&done.metrics))?,
                        reports: done.reports,
                        rejected: json(serde_json::to_string(&done.rejected))?,
                        finished: done.finished_ms,
                    })
                    .await?;
            }
            Output::Void { round, reason } => {
                tracing::info!(task = machine.task().name, round, reason, "round voided");
                store
                    .void_aggregation_round(task.0, round, &reason, clock::now())
                    .await?;
            }
            Output::Changed => {
                // Nobody watching is no error.
                let _ = self.inner.changes.send(task);
            }
        }
        Ok(())
    }

    /// Tell members what they have not acknowledged yet.
    async fn announce(&self, run: &Run) {
        let (manifest, open, paused) = {
            let machine = run.machine.lock().await;
            // A round that is not stored is nobody's business.
            if run.stale.load(Ordering::Relaxed) {
                return;
            }
            (
                machine.task().clone(),
                machine.open_round().cloned(),
                machine.paused(),
            )
        };
        let task = manifest.task();
        let round = open.as_ref().map_or(0, |round| round.round);
        for member in &manifest.members {
            let told = run
                .told
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(&member.node)
                .copied();
            if told == Some((round, paused)) {
                continue;
            }
            let mut requests = vec![Request::ServeTask(manifest.signed().clone())];
            if let Some(open) = &open {
                requests.push(Request::OpenRound {
                    task,
                    round: open.signed().clone(),
                });
            }
            // A member that was told before this node started may still hold the task paused.
            if told.is_none_or(|(_, before)| before != paused) {
                requests.push(Request::Pause { task, paused });
            }
            let mut done = true;
            for request in requests {
                match self.inner.link.ask(&member.node, &request).await {
                    Ok(Response::Done) => {}
                    Ok(other) => {
                        tracing::warn!(
                            member = member.name,
                            ?other,
                            "a member does not take the round"
                        );
                        done = false;
                    }
                    Err(why) => {
                        tracing::debug!(member = member.name, why, "a member does not answer");
                        done = false;
                        break;
                    }
                }
            }
            if done {
                run.told
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(member.node, (round, paused));
                let _ = self.inner.changes.send(task);
            }
        }
    }

    /// Answer another server.
    pub async fn answer(&self, from: NodeId, request: Request) -> Response {
        let (task, input) = match request {
            Request::Submit(submission) => (submission.task, Input::Submitted(from, submission)),
            Request::Progress(progress) => (progress.task, Input::Progress(from, progress)),
            _ => return Response::Refused("an aggregation node does not answer that".into()),
        };
        let run = self
            .inner
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&task)
            .cloned();
        let Some(run) = run else {
            return Response::Refused("unknown task".into());
        };
        match self.handle(&run, input).await {
            Ok(answer) => answer.unwrap_or(Response::Done),
            Err(failure) => {
                tracing::error!(%task, %failure, "a request could not be answered");
                Response::Later(failure.to_string())
            }
        }
    }

    /// Pause a task or let it go on.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails.
    pub async fn pause(&self, task: TaskId, run: &Run, paused: bool) -> Outcome {
        self.inner.store.set_task_paused(task.0, paused).await?;
        self.handle(run, Input::Pause(paused)).await?;
        self.announce(run).await;
        Ok(())
    }

    /// A model's bytes.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails.
    pub async fn model(&self, digest: Digest) -> Outcome<Option<Vec<u8>>> {
        Ok(self.inner.store.model(digest.0).await?)
    }
}

/// Rows to evaluate on: the held-out fifth of a built-in task with this very schema.
fn holdout(manifest: &VerifiedManifest) -> Option<Features> {
    let spec: LearningSpec = serde_json::from_str(manifest.learning.get()).ok()?;
    let (_, rows) = builtin_rows(&spec)?;
    Some(rows.features(&spec.schema))
}

fn builtin_of(spec: &LearningSpec) -> Option<&'static str> {
    BUILTIN_NAMES
        .iter()
        .copied()
        .find(|name| builtin(name, None).is_some_and(|b| b.spec.schema == spec.schema))
}

/// Whether there are rows of a built-in task with this schema.
pub fn has_builtin_rows(spec: &LearningSpec) -> bool {
    builtin_of(spec).is_some()
}

/// The rows of the built-in task with this schema: `(to train on, held out)`.
pub fn builtin_rows(spec: &LearningSpec) -> Option<(Samples, Samples)> {
    let csv = builtin_csv(builtin_of(spec)?)?;
    let samples = spec.schema.read_csv(csv, &DataLimits::default()).ok()?;
    Some(samples.split_holdout(5, HOLDOUT_SEED))
}
