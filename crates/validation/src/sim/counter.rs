//! The smallest ledger on which the engine can show what it does: accounts count, validators change.

use std::collections::{BTreeMap, BTreeSet};

use sha2::{Digest as _, Sha256};

use crate::machine::{Chained, Digest, Key, Machine, Turn};

/// A transaction: an account takes its next number, and may name the validators of the next epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterTx {
    /// Whose it is. Nobody signs: the engine is what is tried.
    pub account: Key,
    /// Its number.
    pub nonce: u64,
    /// Validators from the next epoch on.
    pub validators: Option<Vec<Key>>,
}

/// A block of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterBlock {
    height: u64,
    parent: Digest,
    timestamp_ms: u64,
    root: Digest,
    next: Option<Vec<Key>>,
    txs: Vec<CounterTx>,
}

/// What the accounts have counted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CounterState {
    /// By account, its next number.
    pub accounts: BTreeMap<Key, u64>,
    /// Validators of the next epoch.
    pub validators: Vec<Key>,
    /// A digest over everything that was ever applied, in its order.
    pub root: Digest,
}

/// The rules.
#[derive(Clone, Debug)]
pub struct Counter {
    /// Validators of the first epoch.
    pub validators: Vec<Key>,
    /// Blocks in an epoch.
    pub epoch_length: u64,
    /// When the first block was.
    pub started_ms: u64,
}

/// Reads a fixed layout.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn number(&mut self) -> Option<u64> {
        self.take().map(u64::from_be_bytes)
    }

    fn keys(&mut self) -> Option<Option<Vec<Key>>> {
        match self.take::<1>()? {
            [0] => Some(None),
            [1] => {
                let count = self.number()?;
                // No allocation for what is not there.
                if count > self.0.len() as u64 / 32 {
                    return None;
                }
                (0..count)
                    .map(|_| self.take())
                    .collect::<Option<_>>()
                    .map(Some)
            }
            _ => None,
        }
    }

    fn tx(&mut self) -> Option<CounterTx> {
        Some(CounterTx {
            account: self.take()?,
            nonce: self.number()?,
            validators: self.keys()?,
        })
    }
}

fn put_keys(bytes: &mut Vec<u8>, keys: Option<&Vec<Key>>) {
    match keys {
        None => bytes.push(0),
        Some(keys) => {
            bytes.push(1);
            bytes.extend((keys.len() as u64).to_be_bytes());
            keys.iter().for_each(|key| bytes.extend(key));
        }
    }
}

fn put_tx(bytes: &mut Vec<u8>, tx: &CounterTx) {
    bytes.extend(tx.account);
    bytes.extend(tx.nonce.to_be_bytes());
    put_keys(bytes, tx.validators.as_ref());
}

fn encode_tx(tx: &CounterTx) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_tx(&mut bytes, tx);
    bytes
}

impl CounterBlock {
    /// Its transactions.
    pub fn txs(&self) -> &[CounterTx] {
        &self.txs
    }

    /// The state's root after it.
    pub const fn root(&self) -> Digest {
        self.root
    }
}

impl Chained for CounterBlock {
    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes(bytes);
        let mut block = Self {
            height: bytes.number()?,
            parent: bytes.take()?,
            timestamp_ms: bytes.number()?,
            root: bytes.take()?,
            next: bytes.keys()?,
            txs: Vec::new(),
        };
        while !bytes.0.is_empty() {
            block.txs.push(bytes.tx()?);
        }
        Some(block)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.height.to_be_bytes());
        bytes.extend(self.parent);
        bytes.extend(self.timestamp_ms.to_be_bytes());
        bytes.extend(self.root);
        put_keys(&mut bytes, self.next.as_ref());
        self.txs.iter().for_each(|tx| put_tx(&mut bytes, tx));
        bytes
    }

    fn digest(&self) -> Digest {
        Sha256::digest(self.encode()).into()
    }

    fn parent(&self) -> Digest {
        self.parent
    }

    fn height(&self) -> u64 {
        self.height
    }

    fn timestamp_ms(&self) -> u64 {
        self.timestamp_ms
    }

    fn is_empty(&self) -> bool {
        self.txs.is_empty()
    }

    fn next_validators(&self) -> Option<Vec<Key>> {
        self.next.clone()
    }
}

impl Counter {
    fn apply(state: &mut CounterState, tx: &CounterTx) -> Result<(), String> {
        let next = state.accounts.entry(tx.account).or_insert(0);
        if *next != tx.nonce {
            return Err(format!("number {} is due, not {}", *next, tx.nonce));
        }
        if tx.validators.as_ref().is_some_and(Vec::is_empty) {
            return Err("a ledger needs validators".to_owned());
        }
        *next += 1;
        if let Some(validators) = &tx.validators {
            state.validators.clone_from(validators);
        }
        state.root = Sha256::new()
            .chain_update(state.root)
            .chain_update(encode_tx(tx))
            .finalize()
            .into();
        Ok(())
    }

    fn next(&self, state: &CounterState, height: u64) -> Option<Vec<Key>> {
        height
            .saturating_add(1)
            .is_multiple_of(self.epoch_length)
            .then(|| state.validators.clone())
    }
}

impl Machine for Counter {
    type Block = CounterBlock;
    type Tx = CounterTx;
    type State = CounterState;
    type Reject = String;

    fn genesis(&self) -> CounterBlock {
        CounterBlock {
            height: 0,
            parent: [0; 32],
            timestamp_ms: self.started_ms,
            root: [0; 32],
            next: None,
            txs: Vec::new(),
        }
    }

    fn initial(&self) -> CounterState {
        CounterState {
            accounts: BTreeMap::new(),
            validators: self.validators.clone(),
            root: [0; 32],
        }
    }

    fn validators(&self) -> Vec<Key> {
        self.validators.clone()
    }

    fn epoch_length(&self) -> u64 {
        self.epoch_length
    }

    fn namespace(&self) -> Vec<u8> {
        b"defim counter".to_vec()
    }

    fn encode_tx(&self, tx: &CounterTx) -> Vec<u8> {
        encode_tx(tx)
    }

    fn decode_tx(&self, bytes: &[u8]) -> Option<CounterTx> {
        let mut bytes = Bytes(bytes);
        let tx = bytes.tx()?;
        bytes.0.is_empty().then_some(tx)
    }

    fn id(&self, tx: &CounterTx) -> Digest {
        Sha256::digest(encode_tx(tx)).into()
    }

    fn turn(&self, tx: &CounterTx) -> Turn {
        Turn {
            account: tx.account,
            nonce: tx.nonce,
        }
    }

    fn next_nonce(&self, state: &CounterState, account: &Key) -> u64 {
        state.accounts.get(account).copied().unwrap_or(0)
    }

    fn serving(&self, _: &CounterState) -> BTreeSet<Key> {
        self.validators.iter().copied().collect()
    }

    fn check(
        &self,
        state: &CounterState,
        tx: &CounterTx,
        ahead: u64,
        _: u64,
    ) -> Result<(), String> {
        let due = self.next_nonce(state, &tx.account).saturating_add(ahead);
        if tx.nonce == due {
            Ok(())
        } else {
            Err(format!("number {due} is due, not {}", tx.nonce))
        }
    }

    fn propose(
        &self,
        state: &CounterState,
        parent: &CounterBlock,
        txs: Vec<CounterTx>,
        timestamp_ms: u64,
    ) -> Option<(CounterBlock, CounterState)> {
        let mut after = state.clone();
        let txs: Vec<_> = txs
            .into_iter()
            .filter(|tx| Self::apply(&mut after, tx).is_ok())
            .collect();
        let height = parent.height.saturating_add(1);
        let block = CounterBlock {
            height,
            parent: parent.digest(),
            timestamp_ms,
            root: after.root,
            next: self.next(&after, height),
            txs,
        };
        Some((block, after))
    }

    fn execute(
        &self,
        state: &CounterState,
        parent: &CounterBlock,
        block: &CounterBlock,
    ) -> Result<CounterState, String> {
        if block.parent != parent.digest() || block.height != parent.height.saturating_add(1) {
            return Err("it does not follow its parent".to_owned());
        }
        if block.timestamp_ms <= parent.timestamp_ms {
            return Err("its time is not after its parent's".to_owned());
        }
        let mut after = state.clone();
        for tx in &block.txs {
            Self::apply(&mut after, tx)?;
        }
        if block.root != after.root {
            return Err("its state root is another".to_owned());
        }
        if block.next != self.next(&after, block.height) {
            return Err("its next validators are others".to_owned());
        }
        Ok(after)
    }

    fn turns(&self, block: &CounterBlock) -> Vec<(Digest, Turn)> {
        block
            .txs
            .iter()
            .map(|tx| (self.id(tx), self.turn(tx)))
            .collect()
    }

    fn snapshot(&self, state: &CounterState) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(state.root);
        put_keys(&mut bytes, Some(&state.validators));
        for (account, next) in &state.accounts {
            bytes.extend(account);
            bytes.extend(next.to_be_bytes());
        }
        bytes
    }

    fn restore(&self, block: &CounterBlock, bytes: &[u8]) -> Option<CounterState> {
        let mut bytes = Bytes(bytes);
        let mut state = CounterState {
            root: bytes.take()?,
            validators: bytes.keys()??,
            accounts: BTreeMap::new(),
        };
        while !bytes.0.is_empty() {
            let account = bytes.take()?;
            state.accounts.insert(account, bytes.number()?);
        }
        (state.root == block.root).then_some(state)
    }
}
