//! What the parts of one validator share: the finalised state, the states of blocks that may become
//! final, the pool, and the ends of the streams that tell the outside.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use commonware_utils::sync::Mutex;
use tokio::sync::{broadcast, watch};

use crate::double::DoubleVotes;
use crate::machine::{Digest, Machine};
use crate::mempool::{Mempool, PoolLimits, Refused};

/// States kept below the finalised head, for proposals that were made before it was known.
const KEPT_BELOW: u64 = 8;

/// Finalised blocks that a slow listener may be behind.
const EVENTS: usize = 1024;

/// The newest final block that carries a certificate of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its height.
    pub height: u64,
    /// Its digest.
    pub digest: Digest,
    /// The epoch whose validators signed it.
    pub epoch: u64,
    /// The view of that epoch in which they did: above the blocks of the epoch, by the views that were
    /// left without one.
    pub view: u64,
    /// The certificate's bytes; empty for the first block, which nobody signs.
    pub certificate: Bytes,
}

/// A final block.
#[derive(Clone, Debug)]
pub struct Final<B> {
    /// The block.
    pub block: B,
    /// Its digest.
    pub digest: Digest,
    /// Its certificate. A block that became final only through one above it has none.
    pub certificate: Option<Bytes>,
}

/// A state with the block it follows.
pub struct Settled<M: Machine> {
    /// The block.
    pub block: M::Block,
    /// Its digest.
    pub digest: Digest,
    /// The state after it.
    pub state: Arc<M::State>,
}

impl<M: Machine> Clone for Settled<M> {
    fn clone(&self) -> Self {
        Self {
            block: self.block.clone(),
            digest: self.digest,
            state: self.state.clone(),
        }
    }
}

/// States by height and digest of the block before them.
type States<M> = BTreeMap<(u64, Digest), Arc<<M as Machine>::State>>;

/// The shared part.
pub(crate) struct Shared<M: Machine> {
    pub(crate) machine: M,
    pub(crate) pool: Mutex<Mempool<M>>,
    states: Mutex<States<M>>,
    settled: watch::Sender<Settled<M>>,
    pub(crate) head: watch::Sender<Head>,
    pub(crate) events: broadcast::Sender<Arc<Final<M::Block>>>,
    pub(crate) double_votes: DoubleVotes,
}

impl<M: Machine> Shared<M> {
    pub(crate) fn new(machine: M, limits: PoolLimits) -> Arc<Self> {
        let genesis = machine.genesis();
        let digest = genesis.digest();
        let first: Settled<M> = Settled {
            state: Arc::new(machine.initial()),
            block: genesis,
            digest,
        };
        let states = BTreeMap::from([((0, digest), first.state.clone())]);
        Arc::new(Self {
            double_votes: DoubleVotes::new(&machine.namespace()),
            machine,
            pool: Mutex::new(Mempool::new(limits)),
            states: Mutex::new(states),
            head: watch::Sender::new(Head {
                height: 0,
                digest,
                epoch: 0,
                view: 0,
                certificate: Bytes::new(),
            }),
            settled: watch::Sender::new(first),
            events: broadcast::Sender::new(EVENTS),
        })
    }

    /// The newest final block and the state after it.
    pub(crate) fn settled(&self) -> Settled<M> {
        self.settled.borrow().clone()
    }

    /// The state after a block, if it is kept.
    pub(crate) fn state(&self, height: u64, digest: &Digest) -> Option<Arc<M::State>> {
        self.states.lock().get(&(height, *digest)).cloned()
    }

    /// Keeps the state after a block that may become final.
    pub(crate) fn keep(&self, height: u64, digest: Digest, state: Arc<M::State>) {
        let floor = self.settled.borrow().block.height();
        if height.saturating_add(KEPT_BELOW) >= floor {
            self.states.lock().insert((height, digest), state);
        }
    }

    /// Takes a block as final. Its siblings and what built on them are forgotten with time.
    pub(crate) fn settle(&self, settled: Settled<M>, now_ms: u64) {
        let height = settled.block.height();
        {
            let mut states = self.states.lock();
            states.retain(|(other, digest), _| {
                *other > height
                    || (*other < height && other.saturating_add(KEPT_BELOW) >= height)
                    || *digest == settled.digest
            });
            states.insert((height, settled.digest), settled.state.clone());
        }
        let turns = self.machine.turns(&settled.block);
        self.pool
            .lock()
            .settle(&self.machine, &settled.state, &turns, now_ms);
        self.settled.send_replace(settled);
    }

    /// Takes a transaction into the pool.
    pub(crate) fn submit(&self, tx: M::Tx, now_ms: u64) -> Result<Digest, Refused<M::Reject>> {
        let settled = self.settled();
        self.pool
            .lock()
            .insert(&self.machine, &settled.state, tx, now_ms)
    }
}

use crate::machine::Chained as _;
