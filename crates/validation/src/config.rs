//! Times and sizes of a validator.

use std::num::NonZeroUsize;
use std::time::Duration;

use crate::mempool::PoolLimits;

/// How long a validator waits for what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a leader waits for transactions before it proposes an empty block.
    pub linger: Duration,
    /// How long the others wait for a leader's proposal. Must be above three times `linger`: the check of
    /// the leader's own block may take twice as long.
    pub leader: Duration,
    /// How long after a block an empty one may follow.
    pub idle: Duration,
    /// How long a deep check of a block may take before the view is given up.
    pub check: Duration,
    /// How far a block's time may be ahead of a validator's clock.
    pub skew: Duration,
    /// How often a vote to leave a view is sent again.
    pub retry: Duration,
    /// How long a peer may take to answer.
    pub fetch: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            linger: Duration::from_millis(500),
            leader: Duration::from_millis(2_000),
            idle: Duration::from_secs(10),
            check: Duration::from_secs(5),
            skew: Duration::from_secs(2),
            retry: Duration::from_secs(1),
            fetch: Duration::from_secs(2),
        }
    }
}

impl Timing {
    /// When a view is given up. An empty block is held for the idle time, so it is longer than that.
    pub(crate) fn view(&self) -> Duration {
        self.leader
            .saturating_add(self.idle)
            .saturating_add(self.check)
    }

    /// After which silence a leader's turn is passed over at once.
    pub(crate) fn silence(&self) -> Duration {
        self.view()
            .max(self.retry)
            .saturating_add(Duration::from_secs(1))
    }

    /// Whether the times fit together.
    pub(crate) fn consistent(&self) -> bool {
        !self.linger.is_zero()
            && !self.retry.is_zero()
            && !self.fetch.is_zero()
            && !self.check.is_zero()
            && self.leader > self.linger.saturating_mul(3)
    }
}

/// Sizes. All validators of a ledger must have the same `block_bytes` and `validators`.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a block.
    pub block_bytes: usize,
    /// Transactions that a proposal is made from.
    pub block_transactions: usize,
    /// Validators of an epoch at most.
    pub validators: u32,
    /// What waits for a block.
    pub pool: PoolLimits,
    /// Blocks between two snapshots of the state.
    pub snapshot_every: u64,
    /// Bytes of a snapshot at most.
    pub snapshot_bytes: usize,
    /// Pages of 4 kB of its files that it keeps in memory.
    pub cache_pages: NonZeroUsize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            block_bytes: defim_ledger::limits::BLOCK_BYTES,
            block_transactions: 2_000,
            validators: defim_ledger::limits::VALIDATORS as u32,
            pool: PoolLimits::default(),
            snapshot_every: 64,
            snapshot_bytes: defim_ledger::limits::SNAPSHOT_BYTES,
            cache_pages: NonZeroUsize::MIN.saturating_add(1023),
        }
    }
}
