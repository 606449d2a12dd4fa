//! Transactions that wait for a block: bounded, by account, in the order of their numbers. Whoever the chain cannot do without
//! ([`Machine::serving`]) has places of its own, and comes first.

use std::collections::{BTreeMap, VecDeque};

use tokio::sync::watch;

use crate::machine::{Digest, Key, Machine, Turn};

/// How much waits at most.
#[derive(Clone, Copy, Debug)]
pub struct PoolLimits {
    /// Transactions in all.
    pub transactions: usize,
    /// Transactions of one account, so that one account cannot keep the others out.
    pub per_account: usize,
    /// Bytes in all.
    pub bytes: usize,
    /// Bytes of one account's transactions: of those behind its first one only the signature is checked.
    pub account_bytes: usize,
    /// One part in so many, of both, is kept free for those whom the chain cannot do without.
    pub reserved: usize,
    /// Bytes of one transaction; a longer one is neither taken nor sent.
    pub transaction_bytes: usize,
}

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            transactions: 10_000,
            per_account: 64,
            bytes: 32 << 20,
            account_bytes: 512 << 10,
            reserved: 8,
            transaction_bytes: defim_ledger::limits::TX_BYTES,
        }
    }
}

/// Why a transaction does not wait.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Refused<R: std::fmt::Display> {
    /// The ledger's rules refuse it.
    #[error("the ledger refuses the transaction: {0}")]
    Ledger(R),
    /// It is there already, here or in a block.
    #[error("the transaction is known already; wait for its block")]
    Known,
    /// Another of the account with the same number waits.
    #[error("another transaction of the account has number {0}; use the next number")]
    Taken(u64),
    /// The account's numbers would have a hole.
    #[error(
        "the account's next transaction is number {expected}, this one is {found}; send those between first"
    )]
    Gap {
        /// The number that would be taken.
        expected: u64,
        /// The number it has.
        found: u64,
    },
    /// The account has as many waiting as it may.
    #[error("{0} transactions of the account wait already; send more when they are in a block")]
    AccountFull(usize),
    /// The pool is full.
    #[error("{0} transactions wait already; try again after a few blocks")]
    Full(usize),
    /// It is longer than a transaction may be.
    #[error("the transaction has {found} bytes, at most {most} are allowed")]
    TooLong {
        /// Its bytes.
        found: usize,
        /// The most it may have.
        most: usize,
    },
    /// The node is stopping, or has stopped.
    #[error("the validation node is not running; start it again")]
    Stopped,
}

/// One that waits.
struct Waiting<T> {
    id: Digest,
    tx: T,
    bytes: usize,
}

/// The pool. It holds what fits onto a state, and gives it out account by account.
pub struct Mempool<M: Machine> {
    limits: PoolLimits,
    accounts: BTreeMap<Key, BTreeMap<u64, Waiting<M::Tx>>>,
    /// Accounts in the order in which they get a turn.
    turns: VecDeque<Key>,
    count: usize,
    bytes: usize,
    changed: watch::Sender<u64>,
}

impl<M: Machine> Mempool<M> {
    /// An empty pool.
    pub fn new(limits: PoolLimits) -> Self {
        Self {
            limits,
            accounts: BTreeMap::new(),
            turns: VecDeque::new(),
            count: 0,
            bytes: 0,
            changed: watch::Sender::new(0),
        }
    }

    /// Changes whenever a transaction comes.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Takes a transaction that fits onto `state` and what waits already.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn insert(
        &mut self,
        machine: &M,
        state: &M::State,
        tx: M::Tx,
        now_ms: u64,
    ) -> Result<Digest, Refused<M::Reject>> {
        let bytes = machine.encode_tx(&tx).len();
        if bytes > self.limits.transaction_bytes {
            return Err(Refused::TooLong {
                found: bytes,
                most: self.limits.transaction_bytes,
            });
        }
        let id = machine.id(&tx);
        let Turn { account, nonce } = machine.turn(&tx);
        let next = machine.next_nonce(state, &account);
        let waiting = self.accounts.get(&account);
        let ahead = waiting.map_or(0, |queue| queue.range(next..nonce.max(next)).count() as u64);
        if let Some(there) = waiting.and_then(|queue| queue.get(&nonce)) {
            return Err(if there.id == id {
                Refused::Known
            } else {
                Refused::Taken(nonce)
            });
        }
        // Numbers below the account's next one are the ledger's to refuse, with its own reason.
        if nonce > next.saturating_add(ahead) {
            return Err(Refused::Gap {
                expected: next.saturating_add(ahead),
                found: nonce,
            });
        }
        let (count, held) = waiting.map_or((0, 0), |queue| {
            let bytes: usize = queue.values().map(|waiting| waiting.bytes).sum();
            (queue.len(), bytes)
        });
        if count >= self.limits.per_account
            || held.saturating_add(bytes) > self.limits.account_bytes
        {
            return Err(Refused::AccountFull(count));
        }
        let kept = match machine.serving(state).contains(&account) {
            true => 0,
            false => self.limits.reserved,
        };
        let room = |all: usize| all.saturating_sub(all.checked_div(kept).unwrap_or(0));
        if self.count >= room(self.limits.transactions)
            || self.bytes.saturating_add(bytes) > room(self.limits.bytes)
        {
            return Err(Refused::Full(self.count));
        }
        machine
            .check(state, &tx, ahead, now_ms)
            .map_err(Refused::Ledger)?;
        if waiting.is_none() {
            self.turns.push_back(account);
        }
        self.accounts
            .entry(account)
            .or_default()
            .insert(nonce, Waiting { id, tx, bytes });
        self.count += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        self.changed.send_modify(|version| *version += 1);
        Ok(id)
    }

    /// Up to `most` transactions that may follow `state`: account by account in turn, so that none waits
    /// behind another's many, and first those that the chain cannot do without.
    pub fn pick(&self, machine: &M, state: &M::State, most: usize) -> Vec<M::Tx> {
        let mut picked = Vec::new();
        for accounts in self.ranked(machine, state) {
            let mut queues: VecDeque<_> = accounts
                .into_iter()
                .filter_map(|account| {
                    let next = machine.next_nonce(state, account);
                    let queue = self.accounts.get(account)?;
                    queue
                        .contains_key(&next)
                        .then(|| (next, queue.range(next..)))
                })
                .collect();
            while let Some((expected, mut queue)) = queues.pop_front() {
                if picked.len() >= most {
                    return picked;
                }
                if let Some((nonce, waiting)) = queue.next()
                    && *nonce == expected
                {
                    picked.push(waiting.tx.clone());
                    queues.push_back((expected.saturating_add(1), queue));
                }
            }
        }
        picked
    }

    /// The accounts in the order of their turns: those whom the chain cannot do without, and the others.
    fn ranked(&self, machine: &M, state: &M::State) -> [Vec<&Key>; 2] {
        let serving = machine.serving(state);
        let (first, others) = self
            .turns
            .iter()
            .partition(|account| serving.contains(*account));
        [first, others]
    }

    /// Whether at least one transaction could go into a block on `state` now.
    pub fn ready(&self, machine: &M, state: &M::State, now_ms: u64) -> bool {
        const LOOKED_AT: usize = 16;
        let ranked = self.ranked(machine, state);
        ranked.into_iter().flatten().take(LOOKED_AT).any(|account| {
            let next = machine.next_nonce(state, account);
            self.accounts
                .get(account)
                .and_then(|queue| queue.get(&next))
                .is_some_and(|waiting| machine.check(state, &waiting.tx, 0, now_ms).is_ok())
        })
    }

    /// Forgets what a block has, what it overtook, and what the state after it refuses.
    pub fn settle(
        &mut self,
        machine: &M,
        state: &M::State,
        included: &[(Digest, Turn)],
        now_ms: u64,
    ) {
        let mut touched: Vec<Key> = included.iter().map(|(_, turn)| turn.account).collect();
        // An account that got a turn goes to the end of the row.
        touched.sort_unstable();
        touched.dedup();
        self.turns
            .retain(|account| touched.binary_search(account).is_err());
        for account in &touched {
            if self.accounts.contains_key(account) {
                self.turns.push_back(*account);
            }
        }
        // Each account's first one is checked again: it is what keeps the others from their turn.
        let accounts: Vec<Key> = self.turns.iter().copied().collect();
        for account in accounts {
            let next = machine.next_nonce(state, &account);
            let Some(queue) = self.accounts.get(&account) else {
                continue;
            };
            let mut dropped: Vec<u64> = queue.range(..next).map(|(nonce, _)| *nonce).collect();
            if let Some(first) = queue.get(&next)
                && machine.check(state, &first.tx, 0, now_ms).is_err()
            {
                dropped.extend(queue.range(next..).map(|(nonce, _)| *nonce));
            }
            for nonce in dropped {
                self.remove(&account, nonce);
            }
        }
    }

    /// Forgets transactions that a deeper check refused, and what follows them in their accounts.
    pub fn evict(&mut self, turn: Turn) {
        let nonces: Vec<u64> = self
            .accounts
            .get(&turn.account)
            .map(|queue| queue.range(turn.nonce..).map(|(nonce, _)| *nonce).collect())
            .unwrap_or_default();
        for nonce in nonces {
            self.remove(&turn.account, nonce);
        }
    }

    /// Bytes of some of the waiting transactions, to send them again.
    pub fn sample(&self, machine: &M, state: &M::State, most: usize) -> Vec<Vec<u8>> {
        self.ranked(machine, state)
            .into_iter()
            .flatten()
            .filter_map(|account| self.accounts.get(account))
            .flat_map(BTreeMap::values)
            .take(most)
            .map(|waiting| machine.encode_tx(&waiting.tx))
            .collect()
    }

    /// How many wait.
    pub const fn waiting(&self) -> usize {
        self.count
    }

    fn remove(&mut self, account: &Key, nonce: u64) {
        let Some(queue) = self.accounts.get_mut(account) else {
            return;
        };
        if let Some(gone) = queue.remove(&nonce) {
            self.count = self.count.saturating_sub(1);
            self.bytes = self.bytes.saturating_sub(gone.bytes);
        }
        if queue.is_empty() {
            self.accounts.remove(account);
            self.turns.retain(|other| other != account);
        }
    }
}
