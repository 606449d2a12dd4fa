//! DeFim's ledger as the engine orders it.

use std::collections::BTreeSet;
use std::sync::Arc;

use defim_ledger::{
    AdminsSlot, Block, Canonical as _, Genesis, GenesisError, NodeId, NodeStatus, Reject, SignedTx,
    State, consensus_namespace, limits,
};

use crate::machine::{Chained, Digest, Key, Machine, Turn};

/// The ledger that begins with a genesis.
#[derive(Clone, Debug)]
pub struct Ledger {
    first: Arc<First>,
}

#[derive(Debug)]
struct First {
    genesis: Genesis,
    block: Block,
    state: State,
    validators: Vec<Key>,
}

impl Ledger {
    /// The ledger of this genesis.
    ///
    /// # Errors
    ///
    /// If no ledger can begin so.
    pub fn new(genesis: Genesis) -> Result<Self, GenesisError> {
        genesis.check()?;
        Ok(Self {
            first: Arc::new(First {
                block: Block::genesis(&genesis)?,
                state: State::genesis(&genesis)?,
                validators: keys(genesis.validator_set()?.keys()),
                genesis,
            }),
        })
    }

    /// The genesis.
    pub fn genesis(&self) -> &Genesis {
        &self.first.genesis
    }
}

fn keys(nodes: &[NodeId]) -> Vec<Key> {
    nodes.iter().map(|node| node.0).collect()
}

impl Chained for Block {
    fn decode(bytes: &[u8]) -> Option<Self> {
        Self::from_bytes(bytes).ok()
    }

    fn encode(&self) -> Vec<u8> {
        self.to_bytes()
    }

    fn digest(&self) -> Digest {
        Self::digest(self).0
    }

    fn parent(&self) -> Digest {
        self.header().parent.0
    }

    fn height(&self) -> u64 {
        self.header().height
    }

    fn timestamp_ms(&self) -> u64 {
        self.header().timestamp_ms
    }

    fn is_empty(&self) -> bool {
        self.txs().is_empty()
    }

    fn next_validators(&self) -> Option<Vec<Key>> {
        self.header()
            .next_validators
            .as_ref()
            .map(|set| keys(set.keys()))
    }
}

impl Machine for Ledger {
    type Block = Block;
    type Tx = SignedTx;
    type State = State;
    type Reject = Reject;

    fn genesis(&self) -> Block {
        self.first.block.clone()
    }

    fn initial(&self) -> State {
        self.first.state.clone()
    }

    fn validators(&self) -> Vec<Key> {
        self.first.validators.clone()
    }

    fn epoch_length(&self) -> u64 {
        self.first.genesis.params.epoch_blocks
    }

    fn namespace(&self) -> Vec<u8> {
        consensus_namespace(&self.first.genesis.chain())
    }

    fn encode_tx(&self, tx: &SignedTx) -> Vec<u8> {
        tx.to_bytes()
    }

    fn decode_tx(&self, bytes: &[u8]) -> Option<SignedTx> {
        SignedTx::from_bytes(bytes).ok()
    }

    fn id(&self, tx: &SignedTx) -> Digest {
        tx.id().0
    }

    fn turn(&self, tx: &SignedTx) -> Turn {
        Turn {
            account: tx.tx.from.0,
            nonce: tx.tx.nonce,
        }
    }

    fn next_nonce(&self, state: &State, account: &Key) -> u64 {
        state.account(&NodeId(*account)).nonce
    }

    fn serving(&self, state: &State) -> BTreeSet<Key> {
        let nodes = state.nodes().into_iter();
        let active = nodes.filter(|(_, node)| node.status == NodeStatus::Active);
        let admins = state.get(&AdminsSlot()).unwrap_or_default();
        active
            .map(|(node, _)| node.0)
            .chain(admins.into_iter().map(|admin| admin.0))
            .collect()
    }

    fn check(&self, state: &State, tx: &SignedTx, ahead: u64, now_ms: u64) -> Result<(), Reject> {
        match defim_ledger::check(state, tx, now_ms) {
            // What waits before it may change all that it needs but whose it is: without a signature
            // anybody could fill the places of an account.
            Err(Reject::NonceAhead) if ahead > 0 => tx.verify().map_err(|_| Reject::BadSignature),
            other => other,
        }
    }

    fn propose(
        &self,
        state: &State,
        parent: &Block,
        txs: Vec<SignedTx>,
        timestamp_ms: u64,
    ) -> Option<(Block, State)> {
        defim_ledger::propose(
            state,
            parent.header(),
            &txs,
            timestamp_ms,
            limits::BLOCK_BYTES,
        )
        .ok()
        .map(|proposal| (proposal.block, proposal.state))
    }

    fn execute(&self, state: &State, parent: &Block, block: &Block) -> Result<State, String> {
        defim_ledger::verify(state, parent.header(), block).map_err(|error| error.to_string())
    }

    fn turns(&self, block: &Block) -> Vec<(Digest, Turn)> {
        block
            .txs()
            .iter()
            .map(|tx| (self.id(tx), self.turn(tx)))
            .collect()
    }

    fn snapshot(&self, state: &State) -> Vec<u8> {
        state.snapshot()
    }

    fn restore(&self, block: &Block, bytes: &[u8]) -> Option<State> {
        State::restore(bytes, &block.header().state_root).ok()
    }
}
