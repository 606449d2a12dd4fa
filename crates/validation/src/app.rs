//! Proposing and judging blocks.
//!
//! A leader without transactions waits a moment for some and then proposes an empty block whose time is
//! the end of the idle time. The others hold their votes until their clocks say that time, as they do for
//! any block from the future. So an idle chain makes one block an idle time and nobody's timer runs
//! out. When a transaction comes meanwhile, a validator that holds its vote for an empty block gives
//! the view up instead, and the next leader takes the transaction; a dead leader is noticed within the short
//! time in which a live one would have proposed at least the empty block.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use commonware_consensus::marshal::ancestry::Ancestry;
use commonware_consensus::simplex::scheme::ed25519::Scheme;
use commonware_consensus::simplex::types::Context;
use commonware_consensus::{Application, Heightable as _};
use commonware_cryptography::{Digested, Digestible as _, ed25519, sha256};
use commonware_runtime::{Clock, Metrics, Spawner};
use futures::future::join_all;
use futures::{FutureExt as _, StreamExt as _};
use tracing::{debug, warn};

use crate::block::Wire;
use crate::config::Timing;
use crate::machine::{Chained as _, Checker, Digest, Machine};
use crate::shared::Shared;

/// Times in a row that a validator gives an empty block up for a transaction before it must see a
/// block become final: should a transaction be one that no leader takes, the chain goes on without it.
const PATIENCE: u64 = 4;

/// Proposes and judges.
pub(crate) struct App<M: Machine, C> {
    pub(crate) shared: Arc<Shared<M>>,
    pub(crate) checker: C,
    pub(crate) timing: Timing,
    pub(crate) block_transactions: usize,
    pub(crate) block_bytes: usize,
    given_up: Arc<GivenUp>,
}

/// How often empty blocks were given up since a height.
#[derive(Default)]
struct GivenUp {
    height: AtomicU64,
    times: AtomicU64,
}

impl<M: Machine, C: Clone> Clone for App<M, C> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            checker: self.checker.clone(),
            timing: self.timing,
            block_transactions: self.block_transactions,
            block_bytes: self.block_bytes,
            given_up: self.given_up.clone(),
        }
    }
}

/// Milliseconds since 1970.
pub(crate) fn millis(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| {
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    })
}

fn time(millis: u64) -> SystemTime {
    UNIX_EPOCH
        .checked_add(Duration::from_millis(millis))
        .unwrap_or(UNIX_EPOCH)
}

impl<M: Machine, C: Checker<M>> App<M, C> {
    pub(crate) fn new(
        shared: Arc<Shared<M>>,
        checker: C,
        timing: Timing,
        block_transactions: usize,
        block_bytes: usize,
    ) -> Self {
        Self {
            shared,
            checker,
            timing,
            block_transactions,
            block_bytes,
            given_up: Arc::default(),
        }
    }

    /// The state after the first block of `ancestry`, with that block. Blocks between the newest final
    /// one and it are applied. `None` if it does not follow from what is final here, or does not hold.
    async fn state_after(
        &self,
        ancestry: &mut impl Ancestry<Wire<M::Block>>,
    ) -> Option<(Digested<Wire<M::Block>>, Arc<M::State>)> {
        let mut above = Vec::new();
        let (mut below, mut state) = loop {
            let block = ancestry.next().await?;
            let height = block.height().get();
            let digest: Digest = block.digest().0;
            if let Some(state) = self.shared.state(height, &digest) {
                break (block, state);
            }
            if height <= self.shared.settled().block.height() {
                debug!(height, "a proposal builds on a block below the final one");
                return None;
            }
            above.push(block);
        };
        while let Some(block) = above.pop() {
            let next = match self.shared.machine.execute(
                &state,
                below.inner().block(),
                block.inner().block(),
            ) {
                Ok(next) => Arc::new(next),
                Err(reason) => {
                    warn!(
                        height = block.height().get(),
                        reason, "a block below a proposal does not hold"
                    );
                    return None;
                }
            };
            self.shared
                .keep(block.height().get(), block.digest().0, next.clone());
            (below, state) = (block, next);
        }
        Some((below, state))
    }

    /// Makes the block after `parent`: with transactions as soon as there are some, empty after a moment.
    async fn build<E: Clock>(
        &self,
        clock: &E,
        parent: &M::Block,
        state: &M::State,
    ) -> Option<(M::Block, M::State)> {
        let mut changed = self.shared.pool.lock().subscribe();
        let until = clock
            .current()
            .checked_add(self.timing.linger)
            .unwrap_or_else(|| clock.current());
        loop {
            let now = millis(clock.current());
            let at = now.max(parent.timestamp_ms().saturating_add(1));
            let picked =
                self.shared
                    .pool
                    .lock()
                    .pick(&self.shared.machine, state, self.block_transactions);
            if !picked.is_empty()
                && let Some(built) = self
                    .with_transactions(clock, parent, state, picked, at)
                    .await
            {
                return Some(built);
            }
            tokio::select! { biased;
                _ = clock.sleep_until(until) => break,
                more = changed.changed() => if more.is_err() { break },
            }
        }
        let idle = parent
            .timestamp_ms()
            .saturating_add(u64::try_from(self.timing.idle.as_millis()).unwrap_or(u64::MAX));
        let at = millis(clock.current()).max(idle);
        self.shared.machine.propose(state, parent, Vec::new(), at)
    }

    /// A block with transactions that this validator would vote for itself, or none.
    async fn with_transactions<E: Clock>(
        &self,
        clock: &E,
        parent: &M::Block,
        state: &M::State,
        picked: Vec<M::Tx>,
        at: u64,
    ) -> Option<(M::Block, M::State)> {
        let machine = &self.shared.machine;
        let (block, after) = machine.propose(state, parent, picked.clone(), at)?;
        if block.is_empty() {
            return None;
        }
        if self
            .passes(clock.sleep(self.timing.linger), state, &block)
            .await
            == Some(true)
        {
            return Some((block, after));
        }
        // One transaction that is bad, or whose check waits for something, must not take the others with it:
        // each is tried by itself, all at the same time.
        let late = clock.sleep(self.timing.linger).shared();
        let tried = picked.into_iter().map(|tx| {
            let late = late.clone();
            async move {
                let (alone, _) = machine.propose(state, parent, vec![tx.clone()], at)?;
                if alone.is_empty() {
                    // It needs one before it, which stays or goes by itself.
                    return None;
                }
                match self.passes(late, state, &alone).await? {
                    true => Some(tx),
                    false => {
                        self.shared.pool.lock().evict(machine.turn(&tx));
                        None
                    }
                }
            }
        });
        let good: Vec<_> = join_all(tried).await.into_iter().flatten().collect();
        let (block, after) = machine.propose(state, parent, good, at)?;
        (!block.is_empty()).then_some((block, after))
    }

    /// The deep check of an own proposal; `None` when it takes longer than the others wait for it.
    async fn passes(
        &self,
        late: impl Future<Output = ()> + Send,
        state: &M::State,
        block: &M::Block,
    ) -> Option<bool> {
        tokio::select! { biased;
            verdict = self.checker.check(state, block) => Some(verdict),
            () = late => None,
        }
    }

    /// Whether an empty block may be given up once more for a transaction that waits.
    fn may_give_up(&self) -> bool {
        let height = self.shared.settled().block.height();
        if self.given_up.height.swap(height, Ordering::Relaxed) != height {
            self.given_up.times.store(0, Ordering::Relaxed);
        }
        self.given_up.times.load(Ordering::Relaxed) < PATIENCE
    }

    /// Waits until the block's time has come. False when it cannot come within the view, or when a
    /// transaction made an empty block useless.
    async fn its_time<E: Clock>(&self, clock: &E, block: &M::Block, state: &M::State) -> bool {
        let in_ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let skew = in_ms(self.timing.skew);
        let ahead = block.timestamp_ms().saturating_sub(millis(clock.current()));
        // A leader that lies about its clock would have everybody wait for the end of the view.
        let most = if block.is_empty() {
            in_ms(self.timing.idle).saturating_add(skew)
        } else {
            skew.saturating_mul(2)
        };
        if ahead > most {
            warn!(ahead, "a proposed block is from too far in the future");
            return false;
        }
        if !block.is_empty() {
            // A bounded skew of clocks is nothing to wait for.
            clock
                .sleep_until(time(block.timestamp_ms().saturating_sub(skew)))
                .await;
            return true;
        }
        let mut changed = self.shared.pool.lock().subscribe();
        loop {
            let now = clock.current();
            if now >= time(block.timestamp_ms()) {
                return true;
            }
            let ready = self
                .shared
                .pool
                .lock()
                .ready(&self.shared.machine, state, millis(now));
            if ready && self.may_give_up() {
                self.given_up.times.fetch_add(1, Ordering::Relaxed);
                return false;
            }
            tokio::select! { biased;
                _ = clock.sleep_until(time(block.timestamp_ms())) => {},
                more = changed.changed() => if more.is_err() {
                    clock.sleep_until(time(block.timestamp_ms())).await;
                },
            }
        }
    }
}

impl<E, M, C> Application<E> for App<M, C>
where
    E: Clock + Metrics + Spawner,
    M: Machine,
    C: Checker<M>,
{
    type SigningScheme = Scheme;
    type Context = Context<sha256::Digest, ed25519::PublicKey>;
    type Block = Wire<M::Block>;
    type Input = ();

    async fn propose(
        &mut self,
        (clock, _): (E, Self::Context),
        mut ancestry: impl Ancestry<Self::Block>,
        (): (),
    ) -> Option<Digested<Self::Block>> {
        let (parent, state) = self.state_after(&mut ancestry).await?;
        let (block, after) = self.build(&clock, parent.inner().block(), &state).await?;
        let wire = Wire::new(block);
        if wire.bytes().len() > self.block_bytes {
            // Sending it would end the process: the size was promised to the network.
            warn!(
                bytes = wire.bytes().len(),
                "the ledger made a block that is too long to send"
            );
            return None;
        }
        let digest = wire.digest();
        self.shared
            .keep(wire.height().get(), digest.0, Arc::new(after));
        Some(Digested::precomputed(wire, digest))
    }

    async fn verify(
        &mut self,
        (clock, _): (E, Self::Context),
        mut ancestry: impl Ancestry<Self::Block>,
    ) -> bool {
        let Some(wire) = ancestry.next().await else {
            return false;
        };
        let Some((parent, state)) = self.state_after(&mut ancestry).await else {
            // Nothing says that the block is wrong; it does not follow from what is final here, and
            // consensus will tell. Voting against it would be a verdict.
            return futures::future::pending().await;
        };
        let block = wire.inner().block();
        if !self.its_time(&clock, block, &state).await {
            return false;
        }
        let after = match self
            .shared
            .machine
            .execute(&state, parent.inner().block(), block)
        {
            Ok(after) => Arc::new(after),
            Err(reason) => {
                warn!(
                    height = block.height(),
                    reason, "a proposed block does not hold"
                );
                return false;
            }
        };
        if !self.checker.check(&state, block).await {
            warn!(
                height = block.height(),
                "a proposed block does not pass the deep check"
            );
            return false;
        }
        self.shared.keep(block.height(), wire.digest().0, after);
        true
    }
}
