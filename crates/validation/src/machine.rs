//! What the engine asks of a ledger: a pure machine whose blocks it orders.

use std::collections::BTreeSet;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// An ed25519 public key: it names a validator on the ledger and on the wire.
pub type Key = [u8; 32];

/// A SHA-256 digest.
pub type Digest = [u8; 32];

/// A block in its canonical bytes. The engine looks at its place in the chain only.
pub trait Chained: Clone + Debug + Send + Sync + Sized + 'static {
    /// Reads canonical bytes. `None` for anything else: for bytes that mean a block and are not the ones
    /// that [`Chained::encode`] would write, and for transactions that are not those of the header.
    /// Else somebody could send other bytes under a digest that validators signed, and whoever stores
    /// them could never apply the block.
    fn decode(bytes: &[u8]) -> Option<Self>;

    /// The canonical bytes.
    fn encode(&self) -> Vec<u8>;

    /// The digest that validators sign.
    fn digest(&self) -> Digest;

    /// The digest of the block below.
    fn parent(&self) -> Digest;

    /// The number of blocks below; the first block has height 0.
    fn height(&self) -> u64;

    /// Milliseconds since 1970, as its proposer says.
    fn timestamp_ms(&self) -> u64;

    /// Whether it has no transaction.
    fn is_empty(&self) -> bool;

    /// The validators of the next epoch, in the last block of an epoch.
    fn next_validators(&self) -> Option<Vec<Key>>;
}

/// Where a transaction stands in its account's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Whose transaction it is.
    pub account: Key,
    /// Its number among the account's transactions.
    pub nonce: u64,
}

/// A ledger's rules. Every function is pure: the same arguments give the same answer on every
/// validator, or they would not agree.
pub trait Machine: Clone + Send + Sync + 'static {
    /// A block.
    type Block: Chained;
    /// A transaction.
    type Tx: Clone + Send + Sync + 'static;
    /// Everything that the ledger knows after a block.
    type State: Send + Sync + 'static;
    /// Why a transaction is refused.
    type Reject: Clone + Debug + Display + Send + Sync + 'static;

    /// The first block, which nobody signs: everybody starts from it.
    fn genesis(&self) -> Self::Block;

    /// The state after the first block.
    fn initial(&self) -> Self::State;

    /// Validators of the first epoch.
    fn validators(&self) -> Vec<Key>;

    /// Blocks in an epoch, at least 2. The first block counts to the first epoch.
    fn epoch_length(&self) -> u64;

    /// What every signature of a validator starts with, so that one for another ledger counts for nothing.
    fn namespace(&self) -> Vec<u8>;

    /// A transaction's bytes, and back.
    fn encode_tx(&self, tx: &Self::Tx) -> Vec<u8>;

    /// Reads a transaction; `None` for bytes that are not canonical.
    fn decode_tx(&self, bytes: &[u8]) -> Option<Self::Tx>;

    /// What names a transaction.
    fn id(&self, tx: &Self::Tx) -> Digest;

    /// Whose turn a transaction is.
    fn turn(&self, tx: &Self::Tx) -> Turn;

    /// The number that an account's next transaction must have.
    fn next_nonce(&self, state: &Self::State, account: &Key) -> u64;

    /// The accounts without which the chain's work stands still: their transactions have places that others cannot take, and
    /// come first.
    fn serving(&self, state: &Self::State) -> BTreeSet<Key>;

    /// Whether a transaction may go into the block after `state`. With `ahead` above 0, that many of its
    /// account wait before it: only what cannot change with them is checked, its signature above all.
    ///
    /// # Errors
    ///
    /// The ledger's reason.
    fn check(
        &self,
        state: &Self::State,
        tx: &Self::Tx,
        ahead: u64,
        now_ms: u64,
    ) -> Result<(), Self::Reject>;

    /// Makes the block after `parent` from `txs` in their order, without those that are refused.
    /// Returns it with the state after it; `None` if there is no block to make, which ends the turn.
    fn propose(
        &self,
        state: &Self::State,
        parent: &Self::Block,
        txs: Vec<Self::Tx>,
        timestamp_ms: u64,
    ) -> Option<(Self::Block, Self::State)>;

    /// Applies a block to the state before it, checking all of it.
    ///
    /// # Errors
    ///
    /// What is wrong with the block, in words.
    fn execute(
        &self,
        state: &Self::State,
        parent: &Self::Block,
        block: &Self::Block,
    ) -> Result<Self::State, String>;

    /// The account turns of a block's transactions, so that the pool forgets them.
    fn turns(&self, block: &Self::Block) -> Vec<(Digest, Turn)>;

    /// A state in bytes, and back.
    fn snapshot(&self, state: &Self::State) -> Vec<u8>;

    /// Reads a snapshot of the state after `block`; `None` if it is not that.
    fn restore(&self, block: &Self::Block, bytes: &[u8]) -> Option<Self::State>;
}

/// A check of a block that is more than the ledger's rules: of models, of sums, of public bytes that
/// may still be on their way.
pub trait Checker<M: Machine>: Clone + Send + Sync + 'static {
    /// Whether a validator votes for `block` on `state`. False is for a block that is wrong whatever
    /// comes; while something is missing, this waits: the engine drops it when the view ends.
    ///
    /// The engine asks again, with other blocks of the same transactions: keep what was found out about a
    /// transaction, and go on finding out when the future is dropped. A leader asks about its own block too, and
    /// leaves out what is not answered within its short time; what is wrong it forgets.
    fn check(&self, state: &M::State, block: &M::Block) -> impl Future<Output = bool> + Send;
}

/// What [`Deep`] calls.
type Check<M> = dyn for<'a> Fn(
        &'a <M as Machine>::State,
        &'a <M as Machine>::Block,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + 'a>>
    + Send
    + Sync;

/// A checker behind one type, so that the engine is compiled once for whatever is checked.
pub struct Deep<M: Machine>(Arc<Check<M>>);

impl<M: Machine> Deep<M> {
    /// Wraps a checker.
    pub fn new<C: Checker<M> + Sync>(checker: C) -> Self {
        let checker = Arc::new(checker);
        Self(Arc::new(move |state, block| {
            let checker = checker.clone();
            Box::pin(async move { checker.check(state, block).await })
        }))
    }

    /// The ledger's rules are enough.
    pub fn rules_only() -> Self {
        Self::new(RulesOnly)
    }
}

impl<M: Machine> Clone for Deep<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Machine> Checker<M> for Deep<M> {
    async fn check(&self, state: &M::State, block: &M::Block) -> bool {
        (self.0)(state, block).await
    }
}

/// The checker for which the ledger's rules are enough.
#[derive(Clone, Copy, Debug, Default)]
pub struct RulesOnly;

impl<M: Machine> Checker<M> for RulesOnly {
    async fn check(&self, _: &M::State, _: &M::Block) -> bool {
        true
    }
}
