//! A validation node: it agrees on blocks with the others, and votes on every proposed round.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use defim_ledger::{
    Block, Body, Digest, Evidence as Shown, Genesis, NodeId, NodeKey, NodeSlot, NodeStatus,
    Role as LedgerRole, Round, RoundNumber, RoundOpened, RoundSlot, SignedTx, Stage, State, TaskId,
    Tx, Vote,
};
use defim_net::http::HttpClient;
use defim_protocol::record::RoundRecord;
use defim_validation::{Config, Ledger, Node, NodeHandle, Refused, Stored, judge::Judged};

use super::{
    casting::UnderWay,
    shown::{self, Signed},
    unvoted,
    vote::{Docket, Key, Proposed, Source, patiently, unavailable},
};
use crate::{
    clock,
    config::{Directory, Role, load_or_make_seed},
    failure::{Failure, Outcome},
};

/// How often it looks for rounds to vote on.
const LOOK: Duration = Duration::from_millis(200);
/// How long the bytes of a round may be missing before the validator complains.
const PATIENCE: Duration = Duration::from_secs(30);
/// The word for a transaction that does not wait here, though no rule of the ledger is against it.
pub const BUSY: &str = "busy";
/// What a transaction is answered whose number is another one's, or has others missing before it: its sender takes the next.
const OTHER_NUMBER: &str = "other-number";
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
    /// Who takes part in tasks, after the block of this height.
    lights: Mutex<(u64, BTreeMap<TaskId, Arc<[NodeId]>>)>,
}

/// What was found of a round.
struct Found {
    judged: Judged,
    /// Who has signed what an honest node never does, and what shows it.
    shown: Vec<(NodeId, Shown)>,
}

/// What is sent to the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cast {
    Vote(Key),
    Slash(NodeId),
}

fn other(error: impl std::fmt::Display) -> Failure {
    Failure::Other(error.to_string())
}

/// What the engine is started with, from a node's folder.
fn config(folder: &Path, genesis: &Genesis, listen: SocketAddr) -> Outcome<Config> {
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
    Ok(Config::new(
        ledger,
        defim_validation::Deep::rules_only(),
        seed,
        listen,
        others,
        folder.join("consensus"),
    ))
}

impl Validator {
    /// Put final blocks that were made elsewhere into a folder in which no node has been yet.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the folder cannot be used.
    pub fn fill(folder: &Path, genesis: Genesis, blocks: Vec<Stored>) -> Outcome {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = config(folder, &genesis, listen)?;
        Node::fill(&config, Box::new(blocks.into_iter())).map_err(other)
    }

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
        let config = config(folder, &genesis, listen)?;
        let key = NodeKey::from_seed(config.seed);
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
                key,
                handle,
                genesis,
                http: HttpClient::new().map_err(other)?,
                aggregation,
                evidence: folder.join("evidence"),
                openings: Mutex::default(),
                lights: Mutex::default(),
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
            Err(error @ (Refused::Taken(_) | Refused::Gap { .. })) => {
                Err((OTHER_NUMBER, error.to_string()))
            }
            Err(error) => Err((BUSY, error.to_string())),
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
        let mut known = Vec::new();
        loop {
            // Those who come are connected to before their first epoch, and who follows may follow.
            let now = peers_of(&self.inner.handle.state(), &self.inner.genesis);
            if now != known {
                self.inner.handle.set_peers(now.clone());
                known = now;
            }
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

    /// Keys of the light nodes that take part in a task, ascending. They are looked up in all of the state, once a block
    /// however often they are asked for.
    pub fn lights(&self, task: &TaskId) -> Arc<[NodeId]> {
        let settled = self.inner.handle.settled();
        if settled.state.task(task).is_none() {
            return Arc::default();
        }
        let height = settled.block.header().height;
        let mut known = self
            .inner
            .lights
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if known.0 != height {
            *known = (height, BTreeMap::new());
        }
        let found = known.1.entry(*task).or_insert_with(|| {
            let lights = settled.state.lights(task).into_iter();
            let active = lights.filter(|(_, light)| light.active);
            active.map(|(key, _)| key).collect()
        });
        found.clone()
    }

    /// The file of bytes that show a fault.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the file cannot be read.
    pub async fn evidence(&self, digest: &Digest) -> Outcome<Option<tokio::fs::File>> {
        let path = self.inner.evidence.join(digest.to_string());
        match tokio::fs::File::open(path).await {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(other(error)),
        }
    }

    /// Vote on every round that waits for it.
    async fn vote(self) {
        let mut docket = Docket::default();
        let mut under_way = UnderWay::default();
        let mut slashes: BTreeMap<NodeId, Shown> = BTreeMap::new();
        let mut refused: BTreeSet<NodeId> = BTreeSet::new();
        loop {
            tokio::time::sleep(LOOK).await;
            let state = self.inner.handle.state();
            let waiting = self.unvoted(&state);
            docket.tidy(&waiting).await;
            slashes.retain(|node, _| is_active(&state, node));
            under_way.retain(|cast| match cast {
                Cast::Vote(key) => waiting.contains(key),
                Cast::Slash(node) => slashes.contains_key(node),
            });
            for key in waiting {
                let Some(proposed) = unvoted::proposed(&state, key) else {
                    continue;
                };
                let model = proposed.model.model;
                let void = matches!(proposed.round.stage, Stage::Voided { .. });
                if unvoted::is_as_it_was(&state, key) {
                    let (aggregation, this) = (proposed.task.terms.aggregation, self.clone());
                    docket.begin(key, aggregation, || this.found(proposed));
                }
                let Some(found) = docket.done(&key) else {
                    continue;
                };
                if void && !unvoted::is_shown(&found.judged.verdict) {
                    continue;
                }
                let new = found
                    .shown
                    .iter()
                    .filter(|(node, _)| is_active(&state, node) && !refused.contains(node));
                slashes.extend(new.cloned());
                let body = Body::Vote(Vote {
                    task: key.0,
                    round: key.1,
                    model,
                    verdict: found.judged.verdict,
                });
                // Refused by the ledger, it may be good in a moment: the round is looked at again.
                self.cast(&state, &mut under_way, Cast::Vote(key), body)
                    .await;
            }
            for (node, [first, second]) in self.inner.handle.double_votes() {
                if is_active(&state, &node) && !refused.contains(&node) {
                    let evidence = Shown::TwoVotes { first, second };
                    slashes.entry(node).or_insert(evidence);
                }
            }
            for (node, evidence) in &slashes {
                let body = Body::Slash {
                    node: *node,
                    evidence: evidence.clone(),
                };
                let cast = Cast::Slash(*node);
                if !self.cast(&state, &mut under_way, cast, body).await {
                    refused.insert(*node);
                }
            }
            slashes.retain(|node, _| !refused.contains(node));
        }
    }

    /// Rounds with a proposed model that this validator has not voted on. One that is void, by others' complaints or because it
    /// was given up, may still be complained about, also when the next is open: fewer void than slash.
    fn unvoted(&self, state: &State) -> Vec<Key> {
        let me = self.inner.key.id();
        let validators = state.validators();
        if validators.is_none_or(|set| set.current.place(&me).is_none()) {
            return Vec::new();
        }
        unvoted::by(&me, state)
    }

    /// Judge a round, as long as there is patience for it.
    async fn found(self, proposed: Proposed) -> Found {
        let found = patiently(PATIENCE, || self.judge(&proposed)).await;
        let found = found.unwrap_or_else(|why| Found {
            judged: unavailable(why),
            shown: Vec::new(),
        });
        if let Some(why) = &found.judged.why {
            tracing::warn!(validator = self.name(), task = %proposed.id, round = proposed.opened.round, why, "a round is complained about");
        }
        found
    }

    async fn judge(&self, proposed: &Proposed) -> Outcome<Found> {
        let aggregation = &proposed.task.terms.aggregation;
        let base = self.inner.aggregation.get(aggregation).ok_or_else(|| {
            Failure::Unreachable(
                "the task's aggregation node is not among this node's peers".into(),
            )
        })?;
        let source = Source {
            http: self.inner.http.clone(),
            base: base.clone(),
        };
        // Once a round, and not each time that it is looked for: it goes through all of the state.
        let enrolled = self.inner.handle.state().lights(&proposed.id);
        let enrolled = enrolled.into_keys().collect();
        let (judged, record) = source.judge(proposed, &enrolled).await?;
        if let Some(evidence) = &judged.evidence {
            let path = self.inner.evidence.join(evidence.digest().to_string());
            tokio::fs::create_dir_all(&self.inner.evidence)
                .await
                .map_err(other)?;
            tokio::fs::write(path, evidence.to_bytes())
                .await
                .map_err(other)?;
        }
        let shown = match record {
            Some(record) => self.shown(proposed, &record).await,
            None => Vec::new(),
        };
        Ok(Found { judged, shown })
    }

    /// Who has signed other statements for the ledger than for the round's record.
    async fn shown(&self, proposed: &Proposed, record: &RoundRecord) -> Vec<(NodeId, Shown)> {
        let key = (proposed.id, proposed.opened.round);
        let settled = self.inner.handle.settled();
        let round: Option<Round> = settled.state.get(&RoundSlot(key.0, key.1));
        if !round.is_some_and(|round| shown::differs(&round, record)) {
            return Vec::new();
        }
        let Some(first) = self.opening(key.0, key.1) else {
            return Vec::new();
        };
        let mut signed = Signed::default();
        for height in first..=settled.block.header().height {
            if let Ok(Some((block, _))) = self.block(height).await {
                signed.read(&block, key);
            }
        }
        let chain = self.inner.genesis.chain();
        shown::shown(&chain, proposed.task.terms.aggregation, &signed, record)
    }

    /// Send something to the ledger, unless it is under way; false if the ledger refuses it.
    async fn cast(
        &self,
        state: &State,
        under_way: &mut UnderWay<Cast>,
        cast: Cast,
        body: Body,
    ) -> bool {
        let (me, now) = (self.inner.key.id(), clock::now());
        if under_way.has(&cast, now) {
            return true;
        }
        let nonce = under_way.number(state.account(&me).nonce, now);
        let tx = Tx {
            from: me,
            nonce,
            chain: self.inner.genesis.chain(),
            body,
        };
        match self.submit(tx.sign(&self.inner.key)).await {
            Ok(_) => {
                under_way.sent(cast, nonce, now);
                true
            }
            Err((code, why)) => {
                tracing::warn!(
                    validator = self.name(),
                    why,
                    "what was sent to the ledger is not taken"
                );
                matches!(code, BUSY | OTHER_NUMBER)
            }
        }
    }
}

fn is_active(state: &State, node: &NodeId) -> bool {
    let entry = state.get(&NodeSlot(*node));
    entry.is_some_and(|entry| entry.status == NodeStatus::Active)
}

/// Whom a validator connects to: the validators of this epoch, those who follow them, and other enrolled validation nodes, which
/// follow the chain and may be validators later. In this order: who comes last is left out first.
fn peers_of(state: &State, genesis: &Genesis) -> Vec<([u8; 32], SocketAddr)> {
    let nodes = state.nodes();
    let sets = state.validators();
    let current = sets.iter().flat_map(|sets| sets.current.keys());
    let next = sets.iter().flat_map(|sets| sets.next.iter());
    let next = next.flat_map(|(_, set)| set.keys());
    let enrolled = nodes.iter().filter(|(_, entry)| {
        entry.role == LedgerRole::Validation && entry.status == NodeStatus::Active
    });
    let mut peers: Vec<([u8; 32], SocketAddr)> = Vec::new();
    for node in current.chain(next).chain(enrolled.map(|(node, _)| node)) {
        let first = genesis.validators.iter().find(|first| first.node == *node);
        let said = nodes.get(node).map(|entry| entry.address.as_str());
        let mut addresses = said
            .into_iter()
            .chain(first.map(|first| first.address.as_str()));
        let Some(address) = addresses.find_map(|text| text.parse().ok()) else {
            tracing::warn!(%node, "a validation node's address on the ledger is none; it looks like 127.0.0.1:9000");
            continue;
        };
        if !peers.iter().any(|(known, _)| *known == node.0) {
            peers.push((node.0, address));
        }
    }
    peers
}

#[cfg(test)]
mod tests {
    use defim_ledger::{FirstValidator, Params, Role as On};

    use super::*;
    use crate::{clock, ledger::fake::admin};

    fn free() -> SocketAddr {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_validator_that_joins_is_connected_to_and_agrees_on_blocks() {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let ids = folders.each_ref().map(|folder| {
            let seed = load_or_make_seed(folder.path()).unwrap();
            NodeKey::from_seed(seed).id()
        });
        let at = [free(), free()];
        let genesis = Genesis {
            name: "test".into(),
            timestamp_ms: clock::now(),
            validators: vec![FirstValidator {
                node: ids[0],
                name: "first".into(),
                address: at[0].to_string(),
            }],
            admins: vec![admin().id()],
            treasury: admin().id(),
            supply: 1000,
            params: Params {
                epoch_blocks: 5,
                ..Params::default()
            },
        };
        let mut validators = Vec::new();
        for (folder, at) in folders.iter().zip(at) {
            let (folder, peers) = (folder.path(), Directory::new());
            let started = Validator::start("v".into(), folder, genesis.clone(), at, &peers).await;
            validators.push(started.unwrap());
        }
        let mut set = ids.to_vec();
        set.sort_unstable();
        let mut bodies = vec![
            Body::EnrolNode {
                node: ids[1],
                role: On::Validation,
                name: "second".into(),
                address: at[1].to_string(),
            },
            Body::SetValidators { set, from_epoch: 2 },
        ];
        let to = ids[0];
        bodies.extend((0..12).map(|_| Body::Transfer { to, amount: 1 }));
        // One block each: the last ones are final only if both have signed.
        for (nonce, body) in (0..).zip(bodies) {
            let tx = Tx {
                from: admin().id(),
                nonce,
                chain: genesis.chain(),
                body,
            };
            validators[0].submit(tx.sign(&admin())).await.unwrap();
            let carried_out = async {
                while validators[0].handle().state().account(&admin().id()).nonce <= nonce {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            let done = tokio::time::timeout(Duration::from_secs(60), carried_out).await;
            assert!(done.is_ok(), "transaction {nonce} is in no block");
        }
        let state = validators[0].handle().state();
        assert!(state.head().unwrap().height >= 12);
        assert_eq!(state.validators().unwrap().current.len(), 2);
        for validator in validators {
            let _ = validator.handle().stop().await;
        }
    }
}
