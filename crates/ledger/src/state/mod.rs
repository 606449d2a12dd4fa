//! The state: everything that the ledger knows, as a map with a root.

mod entries;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

pub use entries::{
    Account, AccountSlot, AdminsSlot, Batch, Chain, ChainSlot, Head, HeadSlot, InviteSlot, Light,
    LightSlot, NodeEntry, NodeSlot, NodeStatus, Round, RoundSlot, Slot, Stage, Task, TaskSlot,
    TaskStatus, Validators, ValidatorsSlot, Void, VotedSlot,
};

use crate::{
    Digest, Genesis, GenesisError, NodeId, Role, TaskId,
    codec::{Canonical, decode, encode},
    limits,
    trie::{Trie, TrieProof},
};

/// The state after some block.
///
/// A copy costs nothing and shares what has not changed, so that a validator can hold the state after each of
/// several blocks that compete.
#[derive(Clone)]
pub struct State {
    trie: Trie,
    /// Keys of the few entries that are listed often, so that nobody goes through light nodes and accounts for them. Follows
    /// from the entries.
    listed: Arc<BTreeSet<Vec<u8>>>,
}

/// Whether an entry with this key is one of those that are listed often.
fn is_listed(key: &[u8]) -> bool {
    let kinds = [
        TaskSlot(TaskId([0; 32])).key(),
        NodeSlot(NodeId([0; 32])).key(),
    ];
    kinds.iter().any(|kind| kind.first() == key.first())
}

impl State {
    /// The state after the genesis block.
    ///
    /// # Errors
    ///
    /// [`GenesisError`] if no chain can begin so.
    pub fn genesis(genesis: &Genesis) -> Result<Self, GenesisError> {
        genesis.check()?;
        let mut state = Self::empty();
        state.put(
            &ChainSlot(),
            &Chain {
                id: genesis.chain(),
                supply: genesis.supply,
                params: genesis.params,
            },
        );
        state.put(
            &HeadSlot(),
            &Head {
                height: 0,
                timestamp_ms: genesis.timestamp_ms,
            },
        );
        state.put(&AdminsSlot(), &genesis.admins);
        let current = genesis.validator_set()?;
        state.put(
            &ValidatorsSlot(),
            &Validators {
                current,
                next: None,
            },
        );
        for first in &genesis.validators {
            let entry = NodeEntry {
                role: Role::Validation,
                name: first.name.clone(),
                address: first.address.clone(),
                status: NodeStatus::Active,
            };
            state.put(&NodeSlot(first.node), &entry);
        }
        let treasury = Account {
            balance: genesis.supply,
            nonce: 0,
        };
        state.put(&AccountSlot(genesis.treasury), &treasury);
        Ok(state)
    }

    fn empty() -> Self {
        Self {
            trie: Trie::default(),
            listed: Arc::default(),
        }
    }

    /// The root: it commits to every entry.
    pub fn root(&self) -> Digest {
        self.trie.root()
    }

    /// What stands at a place.
    pub fn get<S: Slot>(&self, slot: &S) -> Option<S::Entry> {
        // Every entry was written by `put`, or read once by `restore`.
        decode_trusted(self.trie.get(&slot.key())?)
    }

    pub(crate) fn put<S: Slot>(&mut self, slot: &S, entry: &S::Entry) {
        self.write(&slot.key(), encode(entry));
    }

    fn write(&mut self, key: &[u8], value: Vec<u8>) {
        if is_listed(key) && !self.listed.contains(key) {
            Arc::make_mut(&mut self.listed).insert(key.to_vec());
        }
        self.trie.put(key, value);
    }

    pub(crate) fn remove<S: Slot>(&mut self, slot: &S) {
        let key = slot.key();
        if self.listed.contains(&key) {
            Arc::make_mut(&mut self.listed).remove(&key);
        }
        self.trie.remove(&key);
    }

    /// A proof of what stands at a place, or that nothing does.
    pub fn prove<S: Slot>(&self, slot: &S) -> StateProof {
        let key = slot.key();
        StateProof {
            entry: self.trie.get(&key).map(<[u8]>::to_vec),
            trie: self.trie.prove(&key),
        }
    }

    /// An account; one that nobody has used yet is empty.
    pub fn account(&self, owner: &NodeId) -> Account {
        self.get(&AccountSlot(*owner)).unwrap_or_default()
    }

    /// A task.
    pub fn task(&self, task: &TaskId) -> Option<Task> {
        self.get(&TaskSlot(*task))
    }

    /// What never changes. `None` only for a state that did not begin with a genesis.
    pub fn chain(&self) -> Option<Chain> {
        self.get(&ChainSlot())
    }

    /// The newest block.
    pub fn head(&self) -> Option<Head> {
        self.get(&HeadSlot())
    }

    /// The validators.
    pub fn validators(&self) -> Option<Validators> {
        self.get(&ValidatorsSlot())
    }

    /// All tasks, by id.
    pub fn tasks(&self) -> BTreeMap<TaskId, Task> {
        self.list(TaskSlot, TaskId)
    }

    /// All server nodes that are or were enrolled, by key.
    pub fn nodes(&self) -> BTreeMap<NodeId, NodeEntry> {
        self.list(NodeSlot, NodeId)
    }

    /// Those of the listed entries whose slot is of this kind.
    fn list<S: Slot, K: Ord + Copy>(
        &self,
        slot: impl Fn(K) -> S,
        name: impl Fn([u8; 32]) -> K,
    ) -> BTreeMap<K, S::Entry> {
        let kind = slot(name([0; 32])).key().first().copied();
        let keys = self.listed.iter().filter_map(|key| key.split_first());
        keys.filter(|(first, _)| Some(**first) == kind)
            .filter_map(|(_, rest)| rest.first_chunk().copied().map(&name))
            .filter_map(|id| Some((id, self.get(&slot(id))?)))
            .collect()
    }

    /// All accounts. Reads the whole state.
    pub fn accounts(&self) -> BTreeMap<NodeId, Account> {
        let kind = AccountSlot(NodeId([0; 32])).key().first().copied();
        let mut found = BTreeMap::new();
        self.trie.for_each(&mut |key, value| {
            if let Some((first, rest)) = key.split_first()
                && Some(*first) == kind
                && let Some(id) = rest.first_chunk::<32>()
                && let Some(account) = decode_trusted(value)
            {
                found.insert(NodeId(*id), account);
            }
        });
        found
    }

    /// All light nodes that are or were enrolled for a task, by key. Reads the whole state.
    pub fn lights(&self, task: &TaskId) -> BTreeMap<NodeId, Light> {
        let prefix = LightSlot(*task, NodeId([0; 32])).key();
        let prefix = prefix.get(..33).unwrap_or_default();
        let mut found = BTreeMap::new();
        self.trie.for_each(&mut |key, value| {
            if let Some(rest) = key.strip_prefix(prefix)
                && let Some(node) = rest.first_chunk::<32>()
                && let Some(light) = decode_trusted(value)
            {
                found.insert(NodeId(*node), light);
            }
        });
        found
    }

    /// Where everything that was issued is. Reads the whole state.
    pub fn supply(&self) -> Supply {
        let mut supply = Supply::default();
        let round = RoundSlot(TaskId([0; 32]), 0).key().first().copied();
        self.trie.for_each(&mut |key, value| {
            if key.first().copied() == round
                && let Some(round) = decode_trusted::<Round>(value)
            {
                supply.escrow += u128::from(round.reserved);
                if let Stage::Finished { unclaimed, .. } = round.stage {
                    supply.escrow += u128::from(unclaimed);
                }
            }
        });
        let balances = self.accounts();
        supply.balances = balances.values().map(|a| u128::from(a.balance)).sum();
        supply.budgets = self.tasks().values().map(|t| u128::from(t.budget)).sum();
        supply
    }

    /// All entries in one byte string: for each, in ascending order of the keys, key and value, each behind its
    /// length as four bytes, most significant first.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut entries = Vec::new();
        self.trie
            .for_each(&mut |key, value| entries.push((key, value)));
        entries.sort_unstable();
        let mut bytes = Vec::new();
        for part in entries.into_iter().flat_map(|(key, value)| [key, value]) {
            // Safe: no entry comes near four gigabytes, since none is larger than a few transactions.
            bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
            bytes.extend_from_slice(part);
        }
        bytes
    }

    /// Read a snapshot, which must be that of the state with this root.
    ///
    /// # Errors
    ///
    /// [`SnapshotError`] if it is another's, or not the one encoding of a state.
    pub fn restore(bytes: &[u8], root: &Digest) -> Result<Self, SnapshotError> {
        if bytes.len() > limits::SNAPSHOT_BYTES {
            return Err(SnapshotError::Malformed);
        }
        let mut state = Self::empty();
        let (mut rest, mut last) = (bytes, None);
        while !rest.is_empty() {
            let (key, more) = part(rest)?;
            let (value, more) = part(more)?;
            if last.is_some_and(|last| last >= key) || !entries::is_readable(key, value) {
                return Err(SnapshotError::Malformed);
            }
            state.write(key, value.to_vec());
            (rest, last) = (more, Some(key));
        }
        let found = state.root();
        if found != *root {
            return Err(SnapshotError::OtherState {
                expected: *root,
                found,
            });
        }
        Ok(state)
    }
}

fn part(bytes: &[u8]) -> Result<(&[u8], &[u8]), SnapshotError> {
    let (length, rest) = bytes
        .split_first_chunk::<4>()
        .ok_or(SnapshotError::Malformed)?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize)
        .ok_or(SnapshotError::Malformed)
}

/// Reads what this crate has written or has checked before, without writing it again.
fn decode_trusted<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    postcard::from_bytes(bytes).ok()
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "State({})", self.root())
    }
}

/// Why a snapshot is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Not a snapshot, or not in its one encoding.
    #[error("the snapshot cannot be read; fetch it again, from another validator")]
    Malformed,
    /// A snapshot of another state.
    #[error("the snapshot is that of state {found}, not of {expected}; fetch it again")]
    OtherState {
        /// The root that a final block has.
        expected: Digest,
        /// The snapshot's root.
        found: Digest,
    },
}

/// Where everything that was issued is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Supply {
    /// On accounts.
    pub balances: u128,
    /// In tasks, for future rounds.
    pub budgets: u128,
    /// Set aside for rounds that are not settled, and for light nodes that have not claimed.
    pub escrow: u128,
}

impl Supply {
    /// All of it.
    pub fn total(&self) -> u128 {
        self.balances + self.budgets + self.escrow
    }
}

/// A proof of what stands at a place in the state, or that nothing does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateProof {
    entry: Option<Vec<u8>>,
    trie: TrieProof,
}

impl StateProof {
    /// What stands at a place of the state with this root.
    ///
    /// # Errors
    ///
    /// [`ProofError`] if the proof is for another state or place.
    pub fn verify<S: Slot>(&self, root: &Digest, slot: &S) -> Result<Option<S::Entry>, ProofError> {
        if !self.trie.holds(root, &slot.key(), self.entry.as_deref()) {
            return Err(ProofError);
        }
        let entry = self.entry.as_deref().map(decode).transpose();
        entry.map_err(|_| ProofError)
    }
}

impl Canonical for StateProof {
    const MOST_BYTES: usize = limits::PROOF_BYTES;
}

/// The proof does not lead to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the proof does not lead to the root of the final block: it was made for another block, or forged"
)]
pub struct ProofError;
