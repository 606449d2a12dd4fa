//! Asking the validators, and believing only what a quorum of them has signed.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use defim_ledger::{
    Account, AccountSlot, Body, Canonical as _, Digest, Genesis, Header, NodeId, NodeKey, Round,
    RoundNumber, RoundSlot, Slot, StateProof, TaskId, Tx,
    light::{FinalHeader, LightChain},
};
use defim_net::http::{HttpClient, HttpError};
use serde::{Deserialize, de::DeserializeOwned};
use tokio::sync::Mutex;

use super::codec::{Place, Sealed, read};
use crate::failure::{Failure, Outcome};

/// The validators of a ledger, by the addresses of their HTTP sides. Clones share what is known of the chain.
#[derive(Clone)]
pub struct LedgerClient {
    http: HttpClient,
    bases: Arc<[String]>,
    /// The one that answered last.
    good: Arc<AtomicUsize>,
    genesis: Arc<Genesis>,
    chain: Arc<Mutex<Known>>,
    /// Height of the newest final block that was seen.
    seen: Arc<AtomicU64>,
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

#[derive(Debug, Deserialize)]
struct Taken {
    id: Digest,
}

/// What a validator answered to a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Submitted {
    /// It waits for a block.
    Waiting(Digest),
    /// The ledger refuses it, in words.
    Refused(String),
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
            bases: bases.into(),
            good: Arc::default(),
            genesis: Arc::new(genesis),
            chain: Arc::new(Mutex::new(Known { chain, last: None })),
            seen: Arc::default(),
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

    /// The validators' addresses.
    pub fn bases(&self) -> &[String] {
        &self.bases
    }

    /// The validator that answered last, and then the others.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &String)> {
        let first = self.good.load(Ordering::Relaxed);
        let n = self.bases.len();
        (0..n).filter_map(move |step| {
            let at = (first + step) % n;
            Some((at, self.bases.get(at)?))
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        let mut last = None;
        for (at, base) in self.in_turn() {
            match self.http.get_json(&format!("{base}/ledger{path}")).await {
                Ok(answer) => {
                    self.good.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(match last {
            Some(HttpError::Status {
                status: 404, body, ..
            }) => Failure::Input(body),
            Some(error) => Failure::Unreachable(format!("no validation node answers: {error}")),
            None => Failure::Unreachable("no validation node is known".into()),
        })
    }

    /// Check that a header is final: over the hand-overs of the epochs before it, if there are new ones.
    ///
    /// # Errors
    ///
    /// [`Failure::Integrity`] if it is not.
    pub async fn follow(&self, sealed: &Sealed) -> Outcome<FinalHeader> {
        let lies = |e: &dyn std::fmt::Display| {
            Failure::Integrity(format!("a validator's answer is refused: {e}"))
        };
        let (header, certificate) = sealed.certified()?;
        let mut known = self.chain.lock().await;
        let Known { chain, last } = &mut *known;
        while header.epoch > chain.epoch() {
            let path = format!("/handovers?from={}", chain.epoch());
            let handovers: Vec<Sealed> = self.get(&path).await?;
            let before = chain.epoch();
            for handover in &handovers {
                let (header, certificate) = handover.certified()?;
                chain.advance(header, &certificate).map_err(|e| lies(&e))?;
            }
            if chain.epoch() == before {
                return Err(Failure::Integrity(format!(
                    "the head is in epoch {}, but nobody shows how the validators of epoch {before} were followed",
                    header.epoch
                )));
            }
        }
        let same = last.clone().filter(|last| *last.header() == header);
        let mut found = match same {
            Some(same) => same,
            None if header.height > chain.height() => {
                let found = chain.advance(header, &certificate).map_err(|e| lies(&e))?;
                *last = Some(found.clone());
                self.seen
                    .fetch_max(found.header().height, Ordering::Relaxed);
                found
            }
            None => chain.check(header, &certificate).map_err(|e| lies(&e))?,
        };
        drop(known);
        for below in &sealed.below {
            found = found.parent(read::<Header>(below)?).map_err(|e| lies(&e))?;
        }
        match found.header().height == sealed.height {
            true => Ok(found),
            false => Err(lies(&"another height than was asked for")),
        }
    }

    /// What stands at a place in the newest final state; `None` is proven too.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn at<S: Slot>(
        &self,
        place: Place,
        slot: &S,
    ) -> Outcome<(FinalHeader, Option<S::Entry>)> {
        let stated: Stated = self.get(&format!("/state/{place}")).await?;
        let header = self.follow(&stated.sealed).await?;
        let proof: StateProof = read(&stated.proof)?;
        let entry = header
            .state(slot, &proof)
            .map_err(|e| Failure::Integrity(format!("a validator's answer is refused: {e}")))?;
        Ok((header, entry))
    }

    /// A place in the newest final state with its proof, as it is passed on to others, who check it themselves.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn stated(&self, place: Place) -> Outcome<(Sealed, StateProof)> {
        let stated: Stated = self.get(&format!("/state/{place}")).await?;
        self.follow(&stated.sealed).await?;
        Ok((stated.sealed, read(&stated.proof)?))
    }

    /// The light nodes of a task that take part, as the validator that answers says. Each is to be proven.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn lights(&self, task: TaskId) -> Outcome<Vec<NodeId>> {
        self.get(&format!("/lights/{task}")).await
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
    /// [`Failure::Unreachable`] if no validator answers; a refusal is an answer, and the last one.
    pub async fn submit(&self, key: &NodeKey, bodies: Vec<Body>) -> Outcome<Vec<Submitted>> {
        let first = self.account(key.id()).await?.nonce;
        let mut answers = Vec::new();
        for (nonce, body) in (first..).zip(bodies) {
            let tx = Tx {
                from: key.id(),
                nonce,
                chain: self.genesis.chain(),
                body,
            };
            let answer = self.send(tx.sign(key).to_bytes()).await?;
            let refused = matches!(answer, Submitted::Refused(_));
            answers.push(answer);
            if refused {
                break;
            }
        }
        Ok(answers)
    }

    /// Submit the bytes of a signed transaction.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreachable`] if no validator answers.
    pub async fn send(&self, tx: Vec<u8>) -> Outcome<Submitted> {
        let mut last = None;
        for (at, base) in self.in_turn() {
            let url = format!("{base}/ledger/txs");
            match self.http.post_bytes::<Taken>(&url, tx.clone()).await {
                Ok(taken) => {
                    self.good.store(at, Ordering::Relaxed);
                    return Ok(Submitted::Waiting(taken.id));
                }
                Err(HttpError::Status { status, body, .. }) if status < 500 => {
                    return Ok(Submitted::Refused(body));
                }
                Err(error) => last = Some(error),
            }
        }
        Err(Failure::Unreachable(match last {
            Some(error) => format!("no validation node takes the transaction: {error}"),
            None => "no validation node is known".into(),
        }))
    }
}
