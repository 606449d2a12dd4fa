//! A validation node: it agrees on blocks with the others, and votes on every proposed round.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use defim_ledger::{
    Block, Body, Digest, Genesis, NodeId, NodeKey, RoundNumber, RoundOpened, RoundSlot, SignedTx,
    Stage, State, TaskId, Tx, Vote,
};
use defim_net::http::HttpClient;
use defim_validation::{Config, Ledger, Node, NodeHandle, Refused, judge::Judged};

use super::vote::Source;
use crate::{
    clock,
    config::{Directory, Role, load_or_make_seed},
    failure::{Failure, Outcome},
};

/// How often it looks for rounds to vote on.
const LOOK: Duration = Duration::from_millis(200);
/// How long a vote may take to come into a block before it is sent again.
const AGAIN_MS: u64 = 5_000;
/// How long the bytes of a round may be missing before the validator complains.
const PATIENCE_MS: u64 = 30_000;
/// Blocks that are looked through for openings at a start.
const LOOK_BACK: u64 = 4_096;

/// A running validation node. Clones are the same one.
#[derive(Clone)]
pub struct Validator {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    key: NodeKey,
    handle: NodeHandle<Ledger>,
    genesis: Genesis,
    http: HttpClient,
    aggregation: BTreeMap<NodeId, String>,
    evidence: PathBuf,
    /// Heights of the blocks that opened rounds.
    openings: Mutex<BTreeMap<(TaskId, RoundNumber), u64>>,
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

impl Validator {
    /// Start from its folder.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the node is no validator of the ledger and cannot follow it, or its files cannot be used.
    pub async fn start(
        name: String,
        folder: &Path,
        genesis: Genesis,
        listen: SocketAddr,
        peers: &Directory,
    ) -> Outcome<Self> {
        let seed = load_or_make_seed(folder)?;
        let ledger = Ledger::new(genesis.clone()).map_err(other)?;
        let mut others = Vec::new();
        for first in &genesis.validators {
            let at = first.address.parse::<SocketAddr>().map_err(|_| {
                Failure::Input(format!(
                    "the genesis names \"{}\" as address of {}, which is none; it looks like 127.0.0.1:9000",
                    first.address, first.name
                ))
            })?;
            others.push((first.node.0, at));
        }
        let config = Config::new(
            ledger,
            defim_validation::Deep::rules_only(),
            seed,
            listen,
            others,
            folder.join("consensus"),
        );
        let handle = Node::start(config)
            .await
            .map_err(|e| Failure::Other(format!("{name} cannot start: {e}")))?;
        let aggregation = peers
            .values()
            .filter(|peer| peer.role == Role::Aggregation)
            .map(|peer| (peer.node, peer.http.clone()))
            .collect();
        let validator = Self {
            inner: Arc::new(Inner {
                name,
                key: NodeKey::from_seed(seed),
                handle,
                genesis,
                http: HttpClient::new().map_err(other)?,
                aggregation,
                evidence: folder.join("evidence"),
                openings: Mutex::default(),
            }),
        };
        tokio::spawn(validator.clone().index());
        tokio::spawn(validator.clone().vote());
        Ok(validator)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// The genesis.
    pub fn genesis(&self) -> &Genesis {
        &self.inner.genesis
    }

    /// The engine.
    pub fn handle(&self) -> &NodeHandle<Ledger> {
        &self.inner.handle
    }

    /// A final block and its certificate, if it has one of its own.
    ///
    /// # Errors
    ///
    /// [`Failure::Integrity`] if the stored block cannot be read.
    pub async fn block(&self, height: u64) -> Outcome<Option<(Block, Option<Vec<u8>>)>> {
        if height == 0 {
            let first = Block::genesis(&self.inner.genesis).map_err(other)?;
            return Ok(Some((first, None)));
        }
        let Some(stored) = self.inner.handle.block(height).await else {
            return Ok(None);
        };
        let block = Block::from_bytes(&stored.block)
            .map_err(|e| Failure::Integrity(format!("block {height} of the store: {e}")))?;
        Ok(Some((block, stored.certificate.map(|c| c.to_vec()))))
    }

    /// Take a transaction.
    ///
    /// # Errors
    ///
    /// Why not: the ledger's reason and its word.
    pub async fn submit(&self, tx: SignedTx) -> Result<Digest, (&'static str, String)> {
        let id = tx.id();
        match self.inner.handle.submit(tx).await {
            Ok(_) | Err(Refused::Known) => Ok(id),
            Err(Refused::Ledger(reject)) => Err((reject.slug(), reject.text().to_owned())),
            Err(error) => Err(("busy", error.to_string())),
        }
    }

    /// Height of the block that opened a round.
    pub fn opening(&self, task: TaskId, round: RoundNumber) -> Option<u64> {
        let openings = self
            .inner
            .openings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        openings.get(&(task, round)).copied()
    }

    fn note(&self, block: &Block) {
        let height = block.header().height;
        let mut openings = self
            .inner
            .openings
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for tx in block.txs() {
            if let Body::RoundOpened { statement } = &tx.tx.body
                && let Ok(opened) = serde_json::from_str::<RoundOpened>(&statement.payload)
            {
                openings.insert((opened.task, opened.round), height);
            }
        }
    }

    /// Keep in mind which block opened which round.
    async fn index(self) {
        let mut events = self.inner.handle.events();
        let head = self.inner.handle.head().borrow().height;
        let mut seen = head.saturating_sub(LOOK_BACK);
        loop {
            // Blocks that came before it listened, or while it was behind.
            let newest = self.inner.handle.settled().block.header().height;
            while seen < newest {
                seen += 1;
                if let Ok(Some((block, _))) = self.block(seen).await {
                    self.note(&block);
                }
            }
            match events.recv().await {
                Ok(_) | Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                Err(tokio::sync::broadcast::error::RecvError::Closed) => return,
            }
        }
    }

    /// Bytes that show a fault.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the file cannot be read.
    pub async fn evidence(&self, digest: &Digest) -> Outcome<Option<Vec<u8>>> {
        match tokio::fs::read(self.inner.evidence.join(digest.to_string())).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(other(error)),
        }
    }

    /// Vote on every round that waits for it.
    async fn vote(self) {
        let mut sent: BTreeMap<(TaskId, RoundNumber), u64> = BTreeMap::new();
        let mut missing: BTreeMap<(TaskId, RoundNumber), u64> = BTreeMap::new();
        let mut judged: BTreeMap<(TaskId, RoundNumber), Judged> = BTreeMap::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let state = self.inner.handle.state();
            let now = clock::now();
            let waiting = self.unvoted(&state);
            sent.retain(|key, _| waiting.contains(key));
            missing.retain(|key, _| waiting.contains(key));
            judged.retain(|key, _| waiting.contains(key));
            for key in waiting {
                if sent.get(&key).is_some_and(|at| now < at + AGAIN_MS) {
                    continue;
                }
                if let std::collections::btree_map::Entry::Vacant(place) = judged.entry(key) {
                    let since = *missing.entry(key).or_insert(now);
                    match self.judge(&state, key).await {
                        Ok(Some(found)) => {
                            place.insert(found);
                        }
                        Ok(None) => continue,
                        Err(failure) if now < since + PATIENCE_MS => {
                            tracing::debug!(validator = self.name(), %failure, "a round's bytes are asked for again");
                            continue;
                        }
                        Err(failure) => {
                            place.insert(unavailable(failure.to_string()));
                        }
                    }
                }
                if let Some(found) = judged.get(&key)
                    && let Err(failure) = self.cast(&state, key, found).await
                {
                    tracing::warn!(validator = self.name(), %failure, "a vote is cast again");
                    continue;
                }
                sent.insert(key, now);
            }
        }
    }

    /// Rounds with a proposed model that this validator has not voted on.
    fn unvoted(&self, state: &State) -> Vec<(TaskId, RoundNumber)> {
        let me = self.inner.key.id();
        let validators = state.validators();
        if validators.is_none_or(|set| set.current.place(&me).is_none()) {
            return Vec::new();
        }
        state
            .tasks()
            .into_iter()
            .filter(|(_, task)| task.unsettled)
            .filter_map(|(id, task)| {
                let round = state.get(&RoundSlot(id, task.round))?;
                let proposed = matches!(round.stage, Stage::Proposed(..));
                (proposed && !round.votes.contains_key(&me)).then_some((id, task.round))
            })
            .collect()
    }

    async fn judge(
        &self,
        state: &State,
        (id, number): (TaskId, RoundNumber),
    ) -> Outcome<Option<Judged>> {
        let (Some(task), Some(round)) = (state.task(&id), state.get(&RoundSlot(id, number))) else {
            return Ok(None);
        };
        if !matches!(round.stage, Stage::Proposed(..)) {
            return Ok(None);
        }
        let base = self
            .inner
            .aggregation
            .get(&task.terms.aggregation)
            .ok_or_else(|| {
                Failure::Unreachable(
                    "the task's aggregation node is not among this node's peers".into(),
                )
            })?;
        let source = Source {
            http: &self.inner.http,
            base,
        };
        let enrolled = state.lights(&id).into_keys().collect();
        let found = source.judge(id, number, &task, &round, &enrolled).await?;
        if let Some(why) = &found.why {
            tracing::warn!(validator = self.name(), task = %id, round = number, why, "a round is complained about");
        }
        if let Some(evidence) = &found.evidence {
            let path = self.inner.evidence.join(evidence.digest().to_string());
            tokio::fs::create_dir_all(&self.inner.evidence)
                .await
                .map_err(other)?;
            tokio::fs::write(path, evidence.to_bytes())
                .await
                .map_err(other)?;
        }
        Ok(Some(found))
    }

    async fn cast(
        &self,
        state: &State,
        (task, round): (TaskId, RoundNumber),
        found: &Judged,
    ) -> Outcome {
        let me = self.inner.key.id();
        let model = state
            .get(&RoundSlot(task, round))
            .and_then(|round| match round.stage {
                Stage::Proposed(_, proposed) => Some(proposed.model),
                _ => None,
            });
        let Some(model) = model else { return Ok(()) };
        let tx = Tx {
            from: me,
            nonce: self.inner.handle.state().account(&me).nonce,
            chain: self.inner.genesis.chain(),
            body: Body::Vote(Vote {
                task,
                round,
                model,
                verdict: found.verdict,
            }),
        };
        match self.submit(tx.sign(&self.inner.key)).await {
            Ok(_) => Ok(()),
            // Another vote of this validator has the number; it is the next one's turn soon.
            Err((_, why)) => Err(Failure::Other(why)),
        }
    }
}

fn unavailable(why: String) -> Judged {
    Judged {
        verdict: defim_ledger::Verdict::Complain {
            fault: defim_ledger::Fault::Unavailable,
            accused: None,
            evidence: Digest::of(why.as_bytes()),
        },
        why: Some(why),
        evidence: None,
    }
}
