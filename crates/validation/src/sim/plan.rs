//! What a run is made of: who the validators are, their times, and the network's quality.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use commonware_utils::{NZUsize, Probability};

use crate::config::{Limits, Timing};
use crate::engine::{self, Fatal};
use crate::machine::{Chained as _, Deep, Key, Machine};
use crate::sim::counter::Counter;
use crate::sim::record::Record;

/// What all runs share that a power cut does not end.
#[derive(Clone)]
pub(super) struct Plan<M: Machine = Counter> {
    pub(super) seeds: Vec<[u8; 32]>,
    pub(super) machine: M,
    pub(super) record: Record,
    pub(super) timing: Timing,
    pub(super) checker: Deep<M>,
    /// Whether what a deep check waits for is there.
    pub(super) arrived: Arc<AtomicBool>,
    /// Whether transactions come all the time.
    pub(super) busy: bool,
}

impl Plan {
    /// Keys for `validators` of the first epoch and `others` who may join.
    pub(super) fn new(validators: usize, others: usize, epoch_length: u64) -> Result<Self, Fatal> {
        let mut named = Vec::new();
        for index in 0..validators + others {
            let seed = [u8::try_from(index).unwrap_or(u8::MAX); 32];
            named.push((engine::key_of(&seed)?, seed));
        }
        let machine = Counter {
            validators: named.iter().take(validators).map(|(key, _)| *key).collect(),
            epoch_length,
            started_ms: 0,
        };
        let seeds = named.into_iter().map(|(_, seed)| seed).collect();
        Ok(Self {
            busy: true,
            ..Self::of(machine, seeds)
        })
    }

    pub(super) fn key(&self, node: usize) -> Result<Key, Fatal> {
        engine::key_of(self.seeds.get(node).ok_or(Fatal::Key)?)
    }
}

/// Shorter times than on a real network: a run should take little.
fn timing() -> Timing {
    Timing {
        linger: Duration::from_millis(100),
        leader: Duration::from_millis(600),
        idle: Duration::from_millis(800),
        check: Duration::from_millis(600),
        skew: Duration::from_millis(200),
        retry: Duration::from_millis(400),
        fetch: Duration::from_millis(400),
    }
}

pub(super) fn limits() -> Limits {
    Limits {
        block_bytes: 64 << 10,
        validators: 8,
        snapshot_every: 5,
        snapshot_bytes: 1 << 20,
        cache_pages: NZUsize!(32),
        pool: crate::mempool::PoolLimits {
            transaction_bytes: 4 << 10,
            ..Default::default()
        },
        ..Default::default()
    }
}

/// A network's quality.
#[derive(Clone, Copy)]
pub(super) struct Quality {
    pub(super) latency_ms: u64,
    pub(super) jitter_ms: u64,
    /// Of a hundred messages so many arrive.
    pub(super) arrive: u64,
}

pub(super) const GOOD: Quality = Quality {
    latency_ms: 10,
    jitter_ms: 3,
    arrive: 100,
};

pub(super) fn probability(quality: Quality) -> Probability {
    const ALL: Probability = commonware_utils::probability!(1, 1);
    Probability::new(quality.arrive, 100).unwrap_or(ALL)
}

impl<M: Machine> Plan<M> {
    /// Validators with these keys, by the rules of `machine`.
    pub(super) fn of(machine: M, seeds: Vec<[u8; 32]>) -> Self {
        Self {
            seeds,
            machine,
            record: Record::default(),
            timing: timing(),
            checker: Deep::rules_only(),
            arrived: Arc::default(),
            busy: false,
        }
    }

    /// The digest of the first block.
    pub(super) fn machine_genesis(&self) -> crate::machine::Digest {
        self.machine.genesis().digest()
    }
}
