//! Asking the validators, and believing only what a quorum of them has signed.
//!
//! Up to a third of the validators may lie. An answer counts if it can be checked; what cannot be checked counts if so many say
//! it that one of them is honest. Who answers wrongly, late or not at all is asked last for a while.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use defim_ledger::{
    Account, AccountSlot, Body, Canonical as _, Digest, Genesis, Header, NodeId, NodeKey,
    ProofError, Round, RoundNumber, RoundSlot, SignedTx, Slot, StateProof, TaskId, Tx,
    light::{FinalHeader, LightChain},
    limits,
};
use defim_net::http::{HttpClient, HttpError};
use futures::stream::{FuturesUnordered, StreamExt as _};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{sync::mpsc, time::Instant};

use super::{
    codec::{LIGHTS_PAGE, Place, Sealed, read},
    turns::Turns,
};
use crate::failure::{Failure, Outcome};

/// How long one validator may take for an answer before the next one is asked.
const PATIENCE: Duration = Duration::from_secs(6);
/// How often all are asked again if what they say is older than what was seen, and how long that waits.
const AGAIN: (usize, Duration) = (8, Duration::from_millis(250));

/// The validators of a ledger, by the addresses of their HTTP sides. Clones share what is known of the chain.
#[derive(Clone)]
pub struct LedgerClient {
    http: HttpClient,
    bases: Arc<[String]>,
    turns: Arc<Mutex<Turns>>,
    genesis: Arc<Genesis>,
    chain: Arc<Mutex<Known>>,
    /// Height of the newest final block that was seen.
    seen: Arc<AtomicU64>,
    /// Height of the newest state that was proven: whoever answers with an older one would take everybody back.
    floor: Arc<AtomicU64>,
}

/// What is known of the chain.
struct Known {
    chain: LightChain,
    /// The last header that was checked: when it ends an epoch, its validators are no longer those of the chain.
    last: Option<FinalHeader>,
}

/// A place in the state with its proof.
#[derive(Debug, Deserialize)]
struct Stated {
    #[serde(flatten)]
    sealed: Sealed,
    proof: String,
}

/// A place in the state that was proven.
struct Proven<R> {
    sealed: Sealed,
    proof: StateProof,
    header: FinalHeader,
    entry: R,
}

#[derive(Debug, Deserialize)]
struct Taken {
    id: Digest,
}

/// What the validators answered to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It waits for a block, or so they say: only the state shows that it was carried out.
    Waiting(Digest),
    /// The ledger refuses it, in words.
    Refused(String),
}

/// Why a validator's answer is not taken.
enum NotTaken {
    /// It has nothing of the kind.
    Nothing(String),
    /// It is genuine, and older than what was seen.
    Behind,
    /// It does not answer, or not with what can be checked.
    Failed(Failure),
}

/// What validators said to one transaction.
#[derive(Default)]
struct Said {
    taken: usize,
    refused: Vec<String>,
    failed: Option<String>,
}

impl Said {
    fn is_decided(&self, needed: usize) -> bool {
        self.taken >= needed || self.refused.len() >= needed
    }

    /// The refusal that most of them give.
    fn why(&self) -> Option<&String> {
        let times = |why: &String| self.refused.iter().filter(|other| *other == why).count();
        self.refused.iter().rev().max_by_key(|why| times(why))
    }
}

fn lies(e: &dyn std::fmt::Display) -> Failure {
    Failure::Integrity(format!("a validator's answer is refused: {e}"))
}

impl LedgerClient {
    /// A client of the ledger with this genesis. `bases` end before `/ledger`.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the genesis is none, or nobody can be asked.
    pub fn new(genesis: Genesis, bases: Vec<String>) -> Outcome<Self> {
        if bases.is_empty() {
            return Err(Failure::Input(
                "no validation node is named that could be asked about the ledger".into(),
            ));
        }
        let chain = LightChain::begin(&genesis, &genesis.chain())
            .map_err(|e| Failure::Input(format!("the genesis cannot be used: {e}")))?;
        Ok(Self {
            http: HttpClient::new().map_err(|e| Failure::Other(e.to_string()))?,
            turns: Arc::new(Mutex::new(Turns::new(bases.len()))),
            bases: bases.into(),
            genesis: Arc::new(genesis),
            chain: Arc::new(Mutex::new(Known { chain, last: None })),
            seen: Arc::default(),
            floor: Arc::default(),
        })
    }

    /// The genesis.
    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// Height of the newest final block that was seen.
    pub fn height(&self) -> u64 {
        self.seen.load(Ordering::Relaxed)
    }

    /// Height of the newest state that was proven.
    pub fn proven_height(&self) -> u64 {
        self.floor.load(Ordering::Relaxed)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The epoch of the next block.
    pub fn epoch(&self) -> u64 {
        self.known().chain.epoch()
    }

    /// The validators in the order in which they are to be asked now, by their places.
    pub fn in_turn(&self) -> Vec<(usize, String)> {
        let order = self.turns().order(Instant::now());
        let bases = order
            .into_iter()
            .filter_map(|at| Some((at, self.bases.get(at)?.clone())));
        bases.collect()
    }

    /// This one answered wrongly, or not at all: it is asked last for a while.
    pub fn failed(&self, at: usize) {
        self.turns().failed(at, Instant::now());
    }

    /// How many must say the same, so that one of them is honest.
    fn needed(&self) -> usize {
        let one_honest = self.known().chain.validators().most_faulty() + 1;
        one_honest.min(self.bases.len())
    }

    async fn get_from<T: DeserializeOwned>(
        &self,
        (at, base): &(usize, String),
        path: &str,
    ) -> Result<T, NotTaken> {
        let url = format!("{base}/ledger{path}");
        let answer = tokio::time::timeout(PATIENCE, self.http.get_json(&url)).await;
        let failed = |why: String| {
            self.failed(*at);
            let why = format!("no validation node answers: {why}");
            Err(NotTaken::Failed(Failure::Unreachable(why)))
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(HttpError::Status {
                status: 404, body, ..
            })) => Err(NotTaken::Nothing(body)),
            Ok(Err(error)) => failed(error.to_string()),
            Err(_) => failed(format!("{url} takes too long")),
        }
    }

    /// Go on to this epoch, by the hand-overs of those before it.
    async fn hand_over(&self, epoch: u64) -> Outcome {
        loop {
            let before = self.epoch();
            if epoch <= before {
                return Ok(());
            }
            let mut last = Failure::Integrity(format!(
                "the head is in epoch {epoch}, but nobody shows how the validators of epoch {before} were followed"
            ));
            let path = format!("/handovers?from={before}");
            for base in self.in_turn() {
                match self.get_from::<Vec<Sealed>>(&base, &path).await {
                    Ok(handovers) => {
                        if let Err(failure) = self.handed_over(&handovers) {
                            self.failed(base.0);
                            last = failure;
                        }
                    }
                    Err(NotTaken::Failed(failure)) => last = failure,
                    Err(_) => {}
                }
                if self.epoch() > before {
                    break;
                }
            }
            if self.epoch() == before {
                return Err(last);
            }
        }
    }

    fn handed_over(&self, handovers: &[Sealed]) -> Outcome {
        for handover in handovers {
            let (header, certificate) = handover.certified()?;
            let mut known = self.known();
            // Another answer may have been quicker.
            if header.epoch >= known.chain.epoch() {
                let done = known.chain.advance(header, &certificate);
                done.map_err(|e| lies(&e))?;
            }
        }
        Ok(())
    }

    /// Check that a header is final: over the hand-overs of the epochs before it, if there are new ones.
    ///
    /// # Errors
    ///
    /// [`Failure::Integrity`] if it is not.
    pub async fn follow(&self, sealed: &Sealed) -> Outcome<FinalHeader> {
        let (header, certificate) = sealed.certified()?;
        self.hand_over(header.epoch).await?;
        let mut found = {
            let mut known = self.known();
            let Known { chain, last } = &mut *known;
            let same = last.clone().filter(|last| *last.header() == header);
            match same {
                Some(same) => same,
                None if header.height > chain.height() => {
                    let found = chain.advance(header, &certificate).map_err(|e| lies(&e))?;
                    *last = Some(found.clone());
                    self.seen
                        .fetch_max(found.header().height, Ordering::Relaxed);
                    found
                }
                None => chain.check(header, &certificate).map_err(|e| lies(&e))?,
            }
        };
        for below in &sealed.below {
            found = found.parent(read::<Header>(below)?).map_err(|e| lies(&e))?;
        }
        match found.header().height == sealed.height {
            true => Ok(found),
            false => Err(lies(&"another height than was asked for")),
        }
    }

    /// One validator's word on a place, checked, and not older than `floor`.
    async fn proven_by<R>(
        &self,
        base: &(usize, String),
        path: &str,
        floor: u64,
        entry: &impl Fn(&FinalHeader, &StateProof) -> Result<R, ProofError>,
    ) -> Result<Proven<R>, NotTaken> {
        let Stated { sealed, proof } = self.get_from(base, path).await?;
        // A genuine state of some time ago proves genuine things that are no longer so.
        if sealed.height < floor {
            return Err(NotTaken::Behind);
        }
        let checked = async {
            let header = self.follow(&sealed).await?;
            let proof: StateProof = read(&proof)?;
            let entry = entry(&header, &proof).map_err(|e| lies(&e))?;
            Ok((header, proof, entry))
        };
        match checked.await {
            Ok((header, proof, entry)) => Ok(Proven {
                sealed,
                proof,
                header,
                entry,
            }),
            Err(failure) => {
                self.failed(base.0);
                Err(NotTaken::Failed(failure))
            }
        }
    }

    /// What stands at a place, from the first validator whose answer holds.
    async fn proven<R>(
        &self,
        place: Place,
        entry: impl Fn(&FinalHeader, &StateProof) -> Result<R, ProofError>,
    ) -> Outcome<Proven<R>> {
        let path = format!("/state/{place}");
        // What was known when it was asked: an answer that another one overtakes is as good.
        let floor = self.proven_height();
        let (times, pause) = AGAIN;
        for _ in 0..times {
            let (mut nothing, mut behind, mut last) = (Vec::new(), false, None);
            for base in self.in_turn() {
                match self.proven_by(&base, &path, floor, &entry).await {
                    Ok(proven) => {
                        self.turns().answered(base.0);
                        let height = proven.header.header().height;
                        self.floor.fetch_max(height, Ordering::Relaxed);
                        return Ok(proven);
                    }
                    Err(NotTaken::Nothing(why)) => nothing.push(why),
                    Err(NotTaken::Behind) => behind = true,
                    Err(NotTaken::Failed(failure)) => {
                        if !matches!(last, Some(Failure::Integrity(_))) {
                            last = Some(failure);
                        }
                    }
                }
            }
            if behind {
                tokio::time::sleep(pause).await;
                continue;
            }
            return Err(match (nothing.len() >= self.needed(), last) {
                (true, _) => Failure::Input(nothing.pop().unwrap_or_default()),
                (false, Some(failure)) => failure,
                (false, None) => Failure::Unreachable("no validation node is known".into()),
            });
        }
        Err(Failure::Unreachable(format!(
            "the validation nodes that answer are behind block {floor}, which was final before; try again"
        )))
    }

    /// What stands at a place in the newest final state; `None` is proven too. Never older than what was seen before.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn at<S: Slot>(
        &self,
        place: Place,
        slot: &S,
    ) -> Outcome<(FinalHeader, Option<S::Entry>)> {
        let proven = self.proven(place, |header, proof| header.state(slot, proof));
        let proven = proven.await?;
        Ok((proven.header, proven.entry))
    }

    /// A place in the newest final state with its proof, as it is passed on to others, who check it themselves; and the same
    /// for people.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn stated(&self, place: Place) -> Outcome<(Sealed, StateProof, serde_json::Value)> {
        let proven = self.proven(place, |header, proof| place.read(header, proof));
        let proven = proven.await?;
        Ok((proven.sealed, proven.proof, proven.entry))
    }

    /// The light nodes of a task that take part, as so many validators say that one of them is honest. A quorum's answers are
    /// waited for, and no more: one that does not answer holds nobody up.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreachable`] if too few answer.
    pub async fn lights(&self, task: TaskId) -> Outcome<BTreeSet<NodeId>> {
        let (needed, most) = (self.needed(), self.bases.len());
        let wrong = self.known().chain.validators().most_faulty();
        let enough = most.saturating_sub(wrong).max(needed);
        let order = self.in_turn();
        let mut asked: FuturesUnordered<_> = order
            .iter()
            .map(|base| self.lights_of(base, task))
            .collect();
        let (mut answers, mut said) = (0, BTreeMap::<NodeId, usize>::new());
        while answers < enough
            && let Some(answer) = asked.next().await
        {
            let Ok(keys) = answer else { continue };
            answers += 1;
            for key in keys {
                *said.entry(key).or_default() += 1;
            }
        }
        if answers < needed {
            return Err(Failure::Unreachable(format!(
                "{answers} validation nodes say who is enrolled, {needed} must say the same"
            )));
        }
        let agreed = said.into_iter().filter(|(_, times)| *times >= needed);
        Ok(agreed.map(|(key, _)| key).collect())
    }

    /// The same as one validator says it, page by page.
    async fn lights_of(
        &self,
        base: &(usize, String),
        task: TaskId,
    ) -> Result<BTreeSet<NodeId>, NotTaken> {
        let mut all = BTreeSet::new();
        let mut path = format!("/lights/{task}");
        loop {
            let page: BTreeSet<NodeId> = self.get_from(base, &path).await?;
            let (is_full, before) = (page.len() >= LIGHTS_PAGE, all.len());
            all.extend(page);
            // One that lies may give the same page without end.
            let may_go_on = all.len() > before && (all.len() as u64) < limits::LIGHTS;
            match all.last() {
                Some(last) if is_full && may_go_on => {
                    path = format!("/lights/{task}?after={last}");
                }
                _ => return Ok(all),
            }
        }
    }

    /// One of a task's newest rounds.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn round(&self, task: TaskId, round: RoundNumber) -> Outcome<Option<Round>> {
        let slot = RoundSlot(task, round);
        Ok(self.at(Place::Round(task, round), &slot).await?.1)
    }

    /// An account; one that nobody has used is empty.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn account(&self, owner: NodeId) -> Outcome<Account> {
        let entry = self.at(Place::Account(owner), &AccountSlot(owner)).await?.1;
        Ok(entry.unwrap_or_default())
    }

    /// Sign and submit transactions of one sender, in this order.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreachable`] if too few validators answer; a refusal is an answer, and the last one.
    pub async fn submit(&self, key: &NodeKey, bodies: Vec<Body>) -> Outcome<Vec<Submitted>> {
        let first = self.account(key.id()).await?.nonce;
        let txs = (first..).zip(bodies).map(|(nonce, body)| {
            let tx = Tx {
                from: key.id(),
                nonce,
                chain: self.genesis.chain(),
                body,
            };
            tx.sign(key).to_bytes()
        });
        self.send_all(txs.collect()).await
    }

    /// Submit the bytes of a signed transaction.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreachable`] if too few validators answer.
    pub async fn send(&self, tx: Vec<u8>) -> Outcome<Submitted> {
        let last = self.send_all(vec![tx]).await?.pop();
        last.ok_or_else(|| Failure::Unreachable("no validation node is known".into()))
    }

    /// Submit transactions of one sender to all validators, in this order. One that is not honest can neither drop them nor
    /// refuse them by itself.
    async fn send_all(&self, txs: Vec<Vec<u8>>) -> Outcome<Vec<Submitted>> {
        let ids = txs
            .iter()
            .map(|tx| SignedTx::from_bytes(tx).map(|tx| tx.id()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Failure::Input(format!("this is no transaction: {e}")))?;
        let needed = self.needed();
        let sent: Arc<[_]> = ids.iter().copied().zip(txs).collect();
        let (tell, mut told) = mpsc::unbounded_channel();
        for base in self.bases.iter() {
            let url = format!("{base}/ledger/txs");
            let (http, sent, tell) = (self.http.clone(), sent.clone(), tell.clone());
            // Goes on when enough have answered: the others are to have them too.
            tokio::spawn(async move {
                for (at, (id, tx)) in sent.iter().enumerate() {
                    let answer = post(&http, &url, *id, tx.clone()).await;
                    let stop = answer.is_err();
                    if tell.send((at, answer)).is_err() {
                        tracing::trace!(url, "a transaction's answer came when others had decided");
                    }
                    if stop {
                        return;
                    }
                }
            });
        }
        drop(tell);
        let mut all: Vec<Said> = ids.iter().map(|_| Said::default()).collect();
        while let Some((at, answer)) = told.recv().await {
            let Some(said) = all.get_mut(at) else {
                continue;
            };
            match answer {
                Ok(()) => said.taken += 1,
                Err(NotTaken::Nothing(why)) => said.refused.push(why),
                Err(NotTaken::Failed(failure)) => said.failed = Some(failure.to_string()),
                Err(NotTaken::Behind) => {}
            }
            let refused = |said: &Said| said.taken < needed && said.refused.len() >= needed;
            if all.iter().any(refused) || all.iter().all(|said| said.is_decided(needed)) {
                break;
            }
        }
        let mut answers = Vec::new();
        for (id, said) in ids.into_iter().zip(all) {
            let refused = said.refused.len() >= needed && said.taken < needed;
            if refused {
                let why = said.why().cloned().unwrap_or_default();
                answers.push(Submitted::Refused(why));
                break;
            }
            if said.taken > 0 {
                answers.push(Submitted::Waiting(id));
                continue;
            }
            if answers.is_empty() {
                let why = said.failed.or(said.refused.into_iter().next());
                return Err(Failure::Unreachable(format!(
                    "too few validation nodes answer to the transaction: {}",
                    why.unwrap_or_default()
                )));
            }
            break;
        }
        Ok(answers)
    }
}

/// Hand one validator a transaction.
async fn post(http: &HttpClient, url: &str, id: Digest, tx: Vec<u8>) -> Result<(), NotTaken> {
    let failed = |why: String| NotTaken::Failed(Failure::Unreachable(why));
    match tokio::time::timeout(PATIENCE, http.post_bytes::<Taken>(url, tx)).await {
        Ok(Ok(taken)) if taken.id == id => Ok(()),
        Ok(Ok(_)) => Err(failed(format!("{url} answers with another transaction"))),
        Ok(Err(HttpError::Status { status, body, .. })) if status < 500 => {
            Err(NotTaken::Nothing(body))
        }
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("{url} takes too long"))),
    }
}

#[cfg(test)]
mod tests {
    use defim_ledger::{NodeSlot, TaskSlot};

    use super::super::fake::{Lie, TASK, World, admin, four, key};
    use super::*;

    #[tokio::test]
    async fn one_validator_that_forges_answers_stops_nobody() {
        let (world, _fakes, client) = four(World::with_task(), Lie::Forged).await;
        for _ in 0..3 {
            let height = world.lock().unwrap().height();
            let (header, task) = client.at(Place::Task(TASK), &TaskSlot(TASK)).await.unwrap();
            assert_eq!((header.header().height, task.is_some()), (height, true));
            world.lock().unwrap().run(&[]);
        }
    }

    #[tokio::test]
    async fn one_validator_that_does_not_answer_holds_up_once() {
        let (_world, fakes, client) = four(World::new(), Lie::Silent).await;
        let started = Instant::now();
        for _ in 0..4 {
            client.account(admin().id()).await.unwrap();
        }
        assert!(started.elapsed() < PATIENCE + Duration::from_secs(3));
        assert_eq!(fakes[0].asked.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn a_genuine_state_of_some_time_ago_is_not_the_newest() {
        let (world, fakes, client) = four(World::new(), Lie::None).await;
        let before = world.lock().unwrap().height();
        let node = key(10).id();
        let at = async || client.at(Place::Node(node), &NodeSlot(node)).await.unwrap();
        assert_eq!(at().await.1, None);
        *fakes[0].lie.lock().unwrap() = Lie::Frozen(before);
        let enrol = Body::EnrolNode {
            node,
            role: defim_ledger::Role::Full,
            name: "full-1".into(),
            address: String::new(),
        };
        world.lock().unwrap().sent(&admin(), vec![enrol]);
        // It is not asked for ever: what others have is seen within two turns.
        let mut seen = at().await;
        let started = Instant::now();
        while seen.1.is_none() {
            assert!(started.elapsed() < Duration::from_secs(6));
            tokio::time::sleep(Duration::from_millis(100)).await;
            seen = at().await;
        }
        // And from then on nobody goes back, whoever is asked.
        let height = seen.0.header().height;
        for _ in 0..30 {
            let (header, entry) = at().await;
            assert!(entry.is_some() && header.header().height >= height);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // If all that answer are behind, that is said.
        for fake in &fakes {
            *fake.lie.lock().unwrap() = Lie::Frozen(before);
        }
        let behind = client.account(node).await.unwrap_err();
        assert!(matches!(behind, Failure::Unreachable(_)), "{behind}");
    }

    #[tokio::test]
    async fn one_validator_neither_drops_nor_refuses_a_transaction_by_itself() {
        let give = |amount| Body::Transfer {
            to: key(9).id(),
            amount,
        };
        for lie in [Lie::Drops, Lie::Refuses, Lie::Silent] {
            let (_world, fakes, client) = four(World::new(), lie.clone()).await;
            let answers = client.submit(&admin(), vec![give(1), give(2)]).await;
            let answers = answers.unwrap();
            let waiting = |answer: &Submitted| matches!(answer, Submitted::Waiting(_));
            assert!(answers.len() == 2 && answers.iter().all(waiting), "{lie:?}");
            // Also to those that nobody waited for.
            tokio::time::sleep(Duration::from_millis(500)).await;
            for fake in &fakes[1..] {
                assert_eq!(fake.taken.lock().unwrap().len(), 2, "{lie:?}");
            }
        }
        let (_world, fakes, client) = four(World::new(), Lie::Refuses).await;
        for fake in &fakes[1..] {
            *fake.lie.lock().unwrap() = Lie::Refuses;
        }
        let answers = client.submit(&admin(), vec![give(1), give(2)]).await;
        assert_eq!(
            answers.unwrap(),
            [Submitted::Refused("not from you".into())]
        );
    }
}
