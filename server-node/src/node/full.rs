//! The full node's driver: tasks it serves, uploads it takes, sums it encrypts and opens with others.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use defim_full::Secrets;
use defim_net::{http::HttpClient, native::WebRtcCounts};
use defim_protocol::{
    Committee, CommitteeIndex, Digest, NodeId, Reason, ReportId, RoundNumber, SignedText, TaskId,
    VerifiedManifest, VerifiedRound, limits,
    wire::{self, ClosedBatch, Here, Progress, Request, Response},
};
use defim_store::{BatchKey, WorkStore};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};

use super::{Link, score::Desk};
use crate::{
    clock,
    config::Role,
    failure::{Failure, Outcome},
    ledger::{client::LedgerClient, roll},
};

const HOUSEKEEPING: Duration = Duration::from_secs(15);
/// How long an unfinished upload of which nothing comes is kept, in milliseconds.
const PARTIAL_MS: u64 = 3 * 60 * 1000;
/// What a committee's reports and batch are stored under.
pub(super) fn key(task: TaskId, round: RoundNumber, committee: CommitteeIndex) -> BatchKey {
    BatchKey {
        task: task.0,
        round,
        committee,
    }
}

/// What a leader's machine last said of its round.
#[derive(Debug, Clone)]
pub struct LeaderStatus {
    /// The round.
    pub round: u64,
    /// Whether it takes reports; the deadline is checked apart.
    pub accepts: Result<(), Reason>,
}

/// A task this node serves.
pub struct Served {
    /// Its manifest.
    pub manifest: VerifiedManifest,
    /// Whether an admin has paused it.
    pub paused: AtomicBool,
    /// The open round.
    round: RwLock<Option<VerifiedRound>>,
    /// The committees that this node leads.
    pub led: BTreeMap<CommitteeIndex, Led>,
    /// The round that the aggregation node has closed, if it is the open one; zero before.
    closing: AtomicU64,
    /// Reports of a round that were refused before they were stored: strangers write this number, so
    /// it is kept in memory, shown as a metric, and signed by nobody.
    refusals: Mutex<(RoundNumber, BTreeMap<u16, u64>)>,
    /// Most bytes of a report of this task.
    pub report_bytes: usize,
    /// Rows of this node's silo for this task; zero until they were read.
    pub(super) silo_rows: AtomicU64,
    /// One preparation at a time: a repeated request must find the first one's answers.
    pub preparing: tokio::sync::Mutex<()>,
    /// One selection at a time: what is encrypted or opened first is on disk before another is looked at, and no round begins
    /// in between.
    pub(super) opening: tokio::sync::Mutex<()>,
}

/// A committee that this node leads.
pub struct Led {
    /// The committee.
    pub committee: Committee,
    status: RwLock<Option<LeaderStatus>>,
    /// Where its round stands, for the aggregation node.
    pub(super) progress: watch::Sender<Option<Progress>>,
    /// Something happened: a report, a round. Only the task that leads waits for it.
    pub wake: Notify,
}

impl Led {
    fn new(committee: Committee) -> Self {
        Self {
            committee,
            status: RwLock::new(None),
            progress: watch::channel(None).0,
            wake: Notify::new(),
        }
    }

    /// What the leader last said.
    pub fn status(&self) -> Option<LeaderStatus> {
        self.status
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_status(&self, status: LeaderStatus) {
        *self.status.write().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }
}

impl Served {
    /// The open round.
    pub fn round(&self) -> Option<VerifiedRound> {
        self.round
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the aggregation node has closed this round.
    pub(super) fn is_closing(&self, round: RoundNumber) -> bool {
        self.closing.load(Ordering::Relaxed) == round
    }

    /// Wake all machines of this task.
    fn wake_all(&self) {
        for led in self.led.values() {
            led.wake.notify_one();
        }
    }

    /// Count a report that was refused before it was stored.
    pub(super) fn count_refusal(&self, round: RoundNumber, reason: Reason) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        if refusals.0 != round {
            *refusals = (round, BTreeMap::new());
        }
        *refusals.1.entry(reason.code()).or_default() += 1;
    }

    /// Reports of this round that were refused before they were stored, by reason code.
    pub fn refusals(&self, round: RoundNumber) -> BTreeMap<u16, u64> {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        match refusals.0 == round {
            true => refusals.1.clone(),
            false => BTreeMap::new(),
        }
    }
}

/// A running full node.
#[derive(Clone)]
pub struct FullNode {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub name: String,
    pub secrets: Arc<Secrets>,
    pub store: WorkStore,
    pub link: Link,
    pub silo: Option<PathBuf>,
    pub desk: Desk,
    http: HttpClient,
    tasks: Mutex<BTreeMap<TaskId, Arc<Served>>>,
    /// Light nodes that are enrolled, as far as this node has heard.
    enrolled: Mutex<BTreeMap<TaskId, Arc<BTreeSet<NodeId>>>>,
    /// The mesh's ledger, if it has one; nothing before that is known.
    ledger: watch::Sender<Option<Option<LedgerClient>>>,
}

impl FullNode {
    /// Start from what the store holds.
    ///
    /// # Errors
    ///
    /// [`crate::failure::Failure`] if the store cannot be opened or is damaged.
    pub async fn start(
        name: String,
        folder: &Path,
        secrets: Secrets,
        link: Link,
        silo: Option<PathBuf>,
    ) -> Outcome<Self> {
        let store = WorkStore::open(folder.join("work.db")).await?;
        let node = Self {
            inner: Arc::new(Inner {
                name,
                secrets: Arc::new(secrets),
                store,
                link,
                silo,
                desk: Desk::default(),
                http: HttpClient::new().map_err(|e| Failure::Other(e.to_string()))?,
                tasks: Mutex::default(),
                enrolled: Mutex::default(),
                ledger: watch::Sender::new(None),
            }),
        };
        for (task, text) in node.inner.store.tasks().await? {
            let restored = serde_json::from_slice::<SignedText>(&text)
                .map_err(|e| e.to_string())
                .and_then(|signed| {
                    VerifiedManifest::verify(signed, Some(TaskId(task))).map_err(|e| e.to_string())
                });
            match restored {
                Ok(manifest) => node.serve(manifest).await?,
                Err(why) => {
                    tracing::error!(task = %TaskId(task), why, "a stored task cannot be served")
                }
            }
        }
        tokio::spawn(node.clone().keep_house());
        Ok(node)
    }

    /// What the listener for browsers has seen.
    pub fn webrtc_counts(&self) -> &WebRtcCounts {
        self.inner.link.endpoint().webrtc_counts()
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The node's public sealing key.
    pub fn hpke(&self) -> defim_protocol::report::HpkeConfig {
        self.inner.secrets.sealing.config()
    }

    /// The store, for the HTTP side.
    pub fn store(&self) -> &WorkStore {
        &self.inner.store
    }

    /// A task this node serves.
    pub fn served(&self, task: &TaskId) -> Option<Arc<Served>> {
        self.inner
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(task)
            .cloned()
    }

    /// All tasks this node serves.
    pub fn all_served(&self) -> Vec<Arc<Served>> {
        self.inner
            .tasks
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// The mesh has this ledger, or none: who is enrolled is what it says, and a silo trains on no round that it does not have.
    /// To be said once; a silo waits for it.
    pub fn follow(&self, client: Option<LedgerClient>) {
        if let Some(client) = &client {
            tokio::spawn(roll::keep(self.clone(), client.clone()));
        }
        self.inner.ledger.send_replace(Some(client));
    }

    /// The mesh's ledger, if it has one, as soon as that is known.
    pub(super) async fn ledger(&self) -> Option<LedgerClient> {
        let mut known = self.inner.ledger.subscribe();
        let known = known.wait_for(Option::is_some).await;
        known.ok().and_then(|known| known.clone().flatten())
    }

    /// These light nodes are enrolled for a task, by the newest block that this node knows; all that were before, and are
    /// not among them, are no longer. The task need not be served yet.
    pub fn set_enrolled(&self, task: &TaskId, keys: BTreeSet<NodeId>) {
        let keys = Arc::new(keys);
        let mut all = self
            .inner
            .enrolled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.insert(*task, keys);
    }

    /// The light nodes that are enrolled for a task, as far as this node has heard: after a start, nobody.
    pub fn enrolled(&self, task: &TaskId) -> Arc<BTreeSet<NodeId>> {
        let all = self
            .inner
            .enrolled
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.get(task).cloned().unwrap_or_default()
    }

    /// The aggregation node's pages.
    fn pages(&self) -> Outcome<String> {
        let mut peers = self.inner.link.peers();
        let peer = peers.find(|peer| peer.role == Role::Aggregation && !peer.http.is_empty());
        let peer = peer.ok_or_else(|| {
            Failure::Input("no aggregation node with an HTTP address is configured".into())
        })?;
        Ok(format!("{}/api/v1", peer.http))
    }

    /// Something of the aggregation node's pages, as everybody gets it.
    pub(super) async fn fetch<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        let address = format!("{}/{path}", self.pages()?);
        let found = self.inner.http.get_json(&address).await;
        found.map_err(|e| Failure::Unreachable(e.to_string()))
    }

    /// A model as everybody gets it; its digest is for the caller to check.
    pub(super) async fn fetch_model(&self, digest: &Digest) -> Outcome<Vec<u8>> {
        let address = format!("{}/models/{digest}", self.pages()?);
        let model = self
            .inner
            .http
            .get_bytes(&address, limits::MODEL_BYTES)
            .await;
        model.map_err(|e| Failure::Unreachable(e.to_string()))
    }

    async fn serve(&self, manifest: VerifiedManifest) -> Outcome {
        let task = manifest.task();
        let round = match self.inner.store.current_round(task.0).await? {
            None => None,
            Some(stored) => serde_json::from_slice::<SignedText>(&stored.signed)
                .ok()
                .and_then(|signed| VerifiedRound::verify(signed, &manifest).ok()),
        };
        let paused = self.inner.store.is_task_paused(task.0).await?;
        let report_bytes = manifest
            .vdaf
            .most_report_bytes()
            .map_err(|e| Failure::Input(e.to_string()))?
            .min(limits::REPORT_BYTES);
        let own = self.inner.secrets.node.id();
        let led = manifest
            .committees()
            .filter(|committee| committee.leader().node == own)
            .map(|committee| (committee.index(), Led::new(committee)))
            .collect();
        let served = Arc::new(Served {
            manifest,
            led,
            closing: AtomicU64::new(0),
            refusals: Mutex::default(),
            report_bytes,
            silo_rows: AtomicU64::new(0),
            paused: AtomicBool::new(paused),
            round: RwLock::new(round),
            preparing: tokio::sync::Mutex::new(()),
            opening: tokio::sync::Mutex::new(()),
        });
        let new = {
            let mut tasks = self
                .inner
                .tasks
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            match tasks.entry(task) {
                Entry::Occupied(_) => false,
                Entry::Vacant(place) => {
                    place.insert(served.clone());
                    true
                }
            }
        };
        if new {
            if let Some(round) = served.round() {
                tokio::spawn(self.clone().contribute_silo(served.clone(), round));
            }
            for index in served.led.keys().copied() {
                tokio::spawn(self.clone().tell_progress(served.clone(), index));
                tokio::spawn(self.clone().lead(served.clone(), index));
            }
        }
        Ok(())
    }

    /// Answer another server.
    pub async fn answer(&self, from: NodeId, request: Request) -> Response {
        match self.try_answer(from, request).await {
            Ok(response) => response,
            Err(failure) => {
                tracing::error!(node = self.name(), %from, %failure, "a request could not be answered");
                Response::Later(failure.to_string())
            }
        }
    }

    async fn try_answer(&self, from: NodeId, request: Request) -> Outcome<Response> {
        let refused = |why: &str| Ok(Response::Refused(why.to_owned()));
        let Some(peer) = self.inner.link.peer(&from) else {
            return refused(
                "this node does not know you; its operator must add you to its configuration",
            );
        };
        let from_aggregation = peer.role == Role::Aggregation;
        match request {
            Request::ServeTask(signed) if from_aggregation => self.serve_task(from, signed).await,
            Request::OpenRound { task, round } if from_aggregation => {
                self.open_round(task, round).await
            }
            Request::Pause { task, paused } if from_aggregation => {
                let Some(served) = self.served(&task) else {
                    return refused("unknown task");
                };
                self.inner.store.set_task_paused(task.0, paused).await?;
                served.paused.store(paused, Ordering::Relaxed);
                Ok(Response::Done)
            }
            Request::Prepare(prepare) => self.prepare(from, prepare).await,
            Request::Close {
                summary,
                ids,
                refused,
            } => self.close(from, summary, ids, refused, true).await,
            Request::Collect(collect) => self.collect(from, collect).await,
            Request::Finish(finish) => self.finish(from, finish).await,
            Request::Check {
                summary,
                ids,
                refused,
            } => self.close(from, summary, ids, refused, false).await,
            Request::CloseRound { task, round } if from_aggregation => {
                self.close_round(task, round).await
            }
            Request::Encrypt(selected) if from_aggregation => self.encrypt(selected).await,
            Request::OpenSum(question) if from_aggregation => self.open_sum(question).await,
            Request::Hello if from_aggregation => Ok(Response::Here(self.here())),
            _ => refused("this node does not answer that to you"),
        }
    }

    fn here(&self) -> Here {
        let rows = |served: Arc<Served>| {
            let rows = served.silo_rows.load(Ordering::Relaxed);
            (rows > 0).then(|| (served.manifest.task(), rows))
        };
        Here {
            addresses: self.inner.link.endpoint().addresses().to_vec(),
            silo_rows: self.all_served().into_iter().filter_map(rows).collect(),
        }
    }

    async fn serve_task(&self, from: NodeId, signed: SignedText) -> Outcome<Response> {
        let manifest = match VerifiedManifest::verify(signed, None) {
            Ok(manifest) => manifest,
            Err(error) => return Ok(Response::Refused(error.to_string())),
        };
        let own = self.inner.secrets.node.id();
        let Some(seat) = manifest.members.iter().find(|m| m.node == own) else {
            return Ok(Response::Refused(
                "this node is not one of the task's full nodes".into(),
            ));
        };
        if manifest.aggregation != from || seat.hpke != self.hpke() {
            return Ok(Response::Refused(
                "the manifest names another aggregation node or another sealing key".into(),
            ));
        }
        let text = serde_json::to_vec(manifest.signed()).unwrap_or_default();
        self.inner
            .store
            .put_task(manifest.task().0, &text, clock::now())
            .await?;
        self.serve(manifest).await?;
        Ok(Response::Done)
    }

    async fn open_round(&self, task: TaskId, signed: SignedText) -> Outcome<Response> {
        let Some(served) = self.served(&task) else {
            return Ok(Response::Refused("unknown task".into()));
        };
        let round = match VerifiedRound::verify(signed, &served.manifest) {
            Ok(round) => round,
            Err(error) => return Ok(Response::Refused(error.to_string())),
        };
        // What is being verified, encrypted or opened belongs to the earlier round, and is done before that ends: a share that is
        // written down after it would stay.
        let _none_verifies = served.preparing.lock().await;
        let _none_opens = served.opening.lock().await;
        if let Some(current) = served.round() {
            if current.round == round.round {
                return Ok(Response::Done);
            }
            if current.round > round.round {
                return Ok(Response::Refused(format!(
                    "round {} is already open",
                    current.round
                )));
            }
            // The aggregation node has ended the earlier round; what was not opened never will be.
            self.inner.store.end_round(task.0, current.round).await?;
            let proposals = super::lead::proposals(&task, current.round);
            self.inner.store.drop_settings(&proposals).await?;
        }
        let text = serde_json::to_vec(round.signed()).unwrap_or_default();
        self.inner
            .store
            .put_round(task.0, round.round, &text, clock::now())
            .await?;
        self.inner.store.partial_drop_all(task.0).await?;
        tracing::info!(
            node = self.name(),
            task = served.manifest.name,
            round = round.round,
            "round open"
        );
        *served.round.write().unwrap_or_else(PoisonError::into_inner) = Some(round.clone());
        tokio::spawn(self.clone().contribute_silo(served.clone(), round));
        served.wake_all();
        Ok(Response::Done)
    }

    /// Close the committees that this node leads; those that are closed so far are told.
    async fn close_round(&self, task: TaskId, round: RoundNumber) -> Outcome<Response> {
        let Some(served) = self.served(&task) else {
            return Ok(Response::Refused("unknown task".into()));
        };
        if served.round().is_none_or(|open| open.round != round) {
            return Ok(Response::Later(format!("round {round} is not open here")));
        }
        if served.closing.swap(round, Ordering::Relaxed) != round {
            served.wake_all();
        }
        let store = &self.inner.store;
        let mut closed = Vec::new();
        for batch in store.batches(task.0, round).await? {
            if !served.led.contains_key(&batch.committee) {
                continue;
            }
            let key = key(task, round, batch.committee);
            let (signatures, rejected, ids) = match batch.signatures.is_empty() {
                true => {
                    let counts = store.report_counts(key).await?;
                    (Vec::new(), counts.rejected_by_reason, Vec::new())
                }
                false => {
                    let read = wire::decode(&batch.signatures);
                    let ids = store.counted_ids(key).await?;
                    (
                        read.map_err(|e| Failure::Integrity(e.to_string()))?,
                        Vec::new(),
                        ids.into_iter().map(ReportId).collect(),
                    )
                }
            };
            closed.push(ClosedBatch {
                committee: batch.committee,
                signatures,
                rejected,
                ids,
            });
        }
        Ok(Response::Closed(closed))
    }

    /// Drop what is over, and give its room back.
    async fn keep_house(self) {
        loop {
            tokio::time::sleep(HOUSEKEEPING).await;
            let before = clock::now().saturating_sub(PARTIAL_MS);
            let store = &self.inner.store;
            let done = async {
                store.partial_expire(before).await?;
                store.tidy().await
            };
            if let Err(error) = done.await {
                tracing::warn!(node = self.name(), %error, "the store is tidied later");
            }
        }
    }
}
