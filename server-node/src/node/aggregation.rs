//! The aggregation node's driver: tasks it runs, rounds it announces, models it publishes.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use defim_aggregation::coordinator::Input;
use defim_learn::{
    BUILTIN_NAMES, DataLimits, Features, LearningSpec, Samples, builtin, builtin_csv,
};
use defim_protocol::{
    AdmissionRule, Digest, LedgerTerms, Member, NodeId, NodeKey, RoundNumber, Schedule, SignedText,
    TaskId, VerifiedManifest, VerifiedRound,
    vdaf::Scheme,
    wire::{Request, Response},
};
use defim_store::WorkStore;
use tokio::sync::broadcast;

use super::{Link, artefact::Published, run::Run, task::PrivacyRequest};
use crate::{
    clock,
    config::{Peer, Role},
    failure::{Failure, Outcome},
};

/// Decides which rows of a built-in task are held out for evaluation; the rest serve as samples.
pub const HOLDOUT_SEED: u64 = 1;
const TICK: Duration = Duration::from_millis(500);
const ANNOUNCE: Duration = Duration::from_millis(300);
const HOUSEKEEPING: Duration = Duration::from_secs(15);
const HELLO: Duration = Duration::from_secs(2);
const HELLO_DEADLINE: Duration = Duration::from_secs(3);
/// How long a full node may take to encrypt or to answer for keys.
const ASK_DEADLINE: Duration = Duration::from_secs(30);

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
    published: tokio::sync::Mutex<Published>,
    on_ledger: bool,
}

/// What is known of a member.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Health {
    /// Whether it answered the last time it was asked.
    pub reachable: bool,
    /// Its multiaddresses, as it last told them.
    pub addresses: Vec<String>,
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
    /// Epsilon and delta that the task promises for all of its rounds.
    pub privacy: Option<PrivacyRequest>,
    /// How often the report of a full node's silo may count.
    pub max_weight: u8,
    /// How light nodes are enrolled; none: anybody contributes.
    pub admission: Option<AdmissionRule>,
    /// Shares of a report.
    pub shares: u8,
    /// Bins of private votes on the model; 0: there are none.
    pub votes: u8,
    /// What the ledger pays and bears.
    pub ledger: LedgerTerms,
}

impl AggregationNode {
    /// Start from what the store holds. With `on_ledger`, rounds wait for the ledger's word.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store cannot be opened.
    pub async fn start(
        name: String,
        folder: &Path,
        key: NodeKey,
        link: Link,
        on_ledger: bool,
    ) -> Outcome<Self> {
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
                published: tokio::sync::Mutex::default(),
                on_ledger,
            }),
        };
        for peer in node.inner.link.peers().cloned() {
            match peer.role {
                Role::Validation => drop(tokio::spawn(node.clone().watch_http(peer))),
                _ => drop(tokio::spawn(node.clone().watch(peer))),
            }
        }
        let store = node.inner.store.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(HOUSEKEEPING).await;
                if let Err(error) = store.tidy().await {
                    tracing::warn!(%error, "the store is tidied later");
                }
            }
        });
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

    /// Tell the tasks how many rows a member's silo has.
    async fn weigh(&self, node: NodeId, rows: Vec<(TaskId, u64)>) {
        for (task, run) in self.tasks() {
            let said = rows.iter().find(|(of, _)| *of == task);
            if let Some((_, rows)) = said
                && let Err(failure) = run.handle(Input::SiloRows(node, *rows)).await
            {
                tracing::warn!(%task, %failure, "a silo's rows are not taken");
            }
        }
    }

    /// Ask a validation node again and again whether it serves. One in this very process does as long as this one.
    async fn watch_http(self, peer: Peer) {
        let Ok(http) = defim_net::http::HttpClient::new() else {
            return;
        };
        loop {
            let health = Health {
                reachable: peer.http.starts_with('/')
                    || http
                        .get_bytes(&format!("{}/api/v1/health", peer.http), 4096)
                        .await
                        .is_ok(),
                addresses: Vec::new(),
            };
            self.inner
                .members
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(peer.node, health);
            tokio::time::sleep(HELLO).await;
        }
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
                Ok(Response::Here(here)) => {
                    self.weigh(peer.node, here.silo_rows).await;
                    Health {
                        reachable: true,
                        addresses: here.addresses,
                    }
                }
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

    /// The node's key.
    pub fn key(&self) -> Arc<NodeKey> {
        self.inner.key.clone()
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

    pub(super) fn published(&self) -> &tokio::sync::Mutex<Published> {
        &self.inner.published
    }

    /// Tell those who watch that a task has changed.
    pub(super) fn tell_changed(&self, task: TaskId) {
        // Nobody watching is no error.
        let _ = self.inner.changes.send(task);
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
            if id.to_string() == text || run.manifest().name == text {
                return Some((id, run));
            }
        }
        None
    }

    /// Create a task; all full nodes of the configuration serve it.
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
        let members = self
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
        let manifest = new.sign(&self.inner.key, members)?;
        let text =
            serde_json::to_vec(manifest.signed()).map_err(|e| Failure::Other(e.to_string()))?;
        let task = manifest.task();
        let run = self.restore(manifest).await?;
        // Last: a task that is stored is run, also after a restart.
        self.inner
            .store
            .put_task(task.0, &text, clock::now())
            .await?;
        self.start_run(run);
        Ok(task)
    }

    /// Run a task that the store holds.
    async fn run(&self, manifest: VerifiedManifest) -> Outcome {
        let run = self.restore(manifest).await?;
        self.start_run(run);
        Ok(())
    }

    async fn restore(&self, manifest: VerifiedManifest) -> Outcome<Run> {
        let holdout = holdout(&manifest);
        let (key, store) = (self.inner.key.clone(), self.inner.store.clone());
        Run::restore(manifest, key, holdout, store, self.inner.on_ledger).await
    }

    fn start_run(&self, run: Run) {
        let run = Arc::new(run);
        let task = run.manifest().task();
        self.inner
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(task, run.clone());
        // A member that does not answer must hold up neither the others nor the task.
        for member in &run.manifest().members {
            tokio::spawn(self.clone().announce(run.clone(), member.clone()));
        }
        tokio::spawn(self.clone().tick(task, run));
    }

    async fn tick(self, task: TaskId, run: Arc<Run>) {
        loop {
            if let Err(failure) = self.handle(&run, Input::Tick).await {
                tracing::error!(%task, %failure, "the task halts and is tried again");
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// Feed a task's machine, and tell those who watch.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails.
    pub async fn handle(&self, run: &Run, input: Input) -> Outcome<Option<Response>> {
        let handled = run.handle(input).await?;
        if handled.changed {
            run.news.notify_waiters();
            // Nobody watching is no error.
            let _ = self.inner.changes.send(run.manifest().task());
        }
        Ok(handled.answer)
    }

    /// Tell a member what it has not acknowledged yet.
    async fn announce(self, run: Arc<Run>, member: Member) {
        loop {
            let news = run.news.notified();
            let state = match run.machine().await {
                Ok(machine) => Some((machine.open_round().cloned(), machine.paused())),
                Err(_) => None,
            };
            let Some((open, paused)) = state else {
                tokio::time::sleep(ANNOUNCE).await;
                continue;
            };
            let now = (open.as_ref().map_or(0, |round| round.round), paused);
            if run.told(&member.node) != Some(now) && self.tell(&run, &member, open, paused).await {
                run.set_told(member.node, now);
                let _ = self.inner.changes.send(run.manifest().task());
            }
            // One answer may be what another question waits for.
            if run.told(&member.node) == Some(now) && self.ask(&run, &member).await {
                continue;
            }
            // Nothing new, or it is tried again.
            let _ = tokio::time::timeout(ANNOUNCE, news).await;
        }
    }

    async fn tell(
        &self,
        run: &Run,
        member: &Member,
        open: Option<VerifiedRound>,
        paused: bool,
    ) -> bool {
        let task = run.manifest().task();
        let mut requests = vec![Request::ServeTask(run.manifest().signed().clone())];
        if let Some(open) = open {
            requests.push(Request::OpenRound {
                task,
                round: open.signed().clone(),
            });
        }
        // Also when it is not paused: the member may remember a pause that this process never told.
        requests.push(Request::Pause { task, paused });
        let mut done = true;
        for request in requests {
            let answer = self
                .inner
                .link
                .ask_within(&member.node, &request, HELLO_DEADLINE)
                .await;
            match answer {
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
                    return false;
                }
            }
        }
        done
    }

    /// Ask a full node what the task's machine wants of it; true if it did its part.
    async fn ask(&self, run: &Run, member: &Member) -> bool {
        let question = match run.machine().await {
            Ok(machine) => machine.question(&member.node),
            Err(_) => None,
        };
        let Some(question) = question else {
            return false;
        };
        let answer = self
            .inner
            .link
            .ask_within(&member.node, &question, ASK_DEADLINE);
        let answer = match answer.await {
            Ok(answer) => answer,
            Err(why) => {
                tracing::debug!(member = member.name, why, "a full node does not answer");
                return false;
            }
        };
        let done = !matches!(answer, Response::Later(_) | Response::Refused(_))
            && !matches!(question, Request::CloseRound { .. });
        if let Response::Refused(why) = &answer {
            tracing::warn!(member = member.name, why, "a full node refuses its part");
        }
        let input = Input::Answered(member.node, answer);
        match self.handle(run, input).await {
            Ok(_) => done,
            Err(failure) => {
                tracing::error!(%failure, "an answer is asked for again");
                false
            }
        }
    }

    /// Answer another server.
    pub async fn answer(&self, from: NodeId, request: Request) -> Response {
        let (task, input) = match request {
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
        Ok(())
    }

    /// End the open round without a result. The next one opens at once, unless the task is paused.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] if that round is not open, [`Failure`] if the store fails.
    pub async fn void(&self, run: &Run, round: Option<RoundNumber>, why: &str) -> Outcome {
        let open = run.machine().await?.open_round().map(|open| open.round);
        let round = match (open, round) {
            (Some(open), None) => open,
            (Some(open), Some(asked)) if open == asked => open,
            (None, _) => return Err(Failure::Input("no round is open".into())),
            (Some(open), Some(asked)) => {
                return Err(Failure::Input(format!(
                    "round {asked} is not open; round {open} is"
                )));
            }
        };
        let reason = match why.trim() {
            "" => "an administrator ended it".to_owned(),
            why => format!("an administrator ended it: {why}"),
        };
        self.handle(run, Input::Void { round, reason }).await?;
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
