//! Blocks: transactions in an order, and what the state is after them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    ChainSlot, Digest, Genesis, GenesisError, Head, HeadSlot, Millis, NodeId, Reject, SignedTx,
    State, ValidatorsSlot,
    codec::{Canonical, CodecError, decode, encode, labelled},
    light::ValidatorSet,
    limits, merkle,
    transition::{execute, settle},
};

/// What validators sign of a block: everything else follows from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Blocks before it.
    pub height: u64,
    /// The block before it; the genesis block names the chain here.
    pub parent: Digest,
    /// `height / epoch_blocks`.
    pub epoch: u64,
    /// When it was proposed; later than its parent.
    pub timestamp_ms: Millis,
    /// Merkle root over the encodings of its transactions.
    pub txs_root: Digest,
    /// Root of the state after it.
    pub state_root: Digest,
    /// Who agrees on the next epoch's blocks; in the last block of an epoch, and only there.
    pub next_validators: Option<ValidatorSet>,
}

impl Header {
    /// What names the block; what validators sign.
    pub fn digest(&self) -> Digest {
        labelled(b"defim v1 block\0", &self.to_bytes())
    }
}

impl Canonical for Header {
    const MOST_BYTES: usize = 256 + 32 * limits::VALIDATORS;
}

/// A block, whose transactions are those of its header's root.
///
/// There is no other way to make one than [`propose`], [`Block::genesis`] and decoding, all of which see to that: so the
/// digest of the header stands for the whole block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    header: Header,
    txs: Vec<SignedTx>,
}

impl Block {
    /// The first block of a chain.
    ///
    /// # Errors
    ///
    /// [`GenesisError`] if no chain can begin so.
    pub fn genesis(genesis: &Genesis) -> Result<Self, GenesisError> {
        let header = Header {
            height: 0,
            parent: genesis.chain(),
            epoch: 0,
            timestamp_ms: genesis.timestamp_ms,
            txs_root: txs_root(&[]),
            state_root: State::genesis(genesis)?.root(),
            next_validators: None,
        };
        Ok(Self {
            header,
            txs: Vec::new(),
        })
    }

    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The transactions, in their order.
    pub fn txs(&self) -> &[SignedTx] {
        &self.txs
    }

    /// What names the block: its header's digest.
    pub fn digest(&self) -> Digest {
        self.header.digest()
    }

    /// The encoding: header, then transactions.
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(&(&self.header, &self.txs))
    }

    /// Read an encoding.
    ///
    /// # Errors
    ///
    /// [`CodecError`] if it is none, or the transactions are not those of the header.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        if bytes.len() > limits::BLOCK_BYTES {
            return Err(CodecError::TooLong {
                have: bytes.len(),
                most: limits::BLOCK_BYTES,
            });
        }
        let (header, txs): (Header, Vec<SignedTx>) = decode(bytes)?;
        if txs_root(&txs) != header.txs_root {
            let what = "the transactions are not those of the header";
            return Err(CodecError::Malformed(what.to_owned()));
        }
        Ok(Self { header, txs })
    }

    /// The proof that one of the transactions stands in the block.
    pub fn prove(&self, index: usize) -> Option<TxProof> {
        Some(TxProof {
            path: merkle::Path::new(&leaves(&self.txs), index)?,
            count: self.txs.len() as u64,
        })
    }
}

fn leaves(txs: &[SignedTx]) -> Vec<Digest> {
    txs.iter()
        .map(|tx| merkle::leaf_hash(&tx.to_bytes()))
        .collect()
}

fn txs_root(txs: &[SignedTx]) -> Digest {
    merkle::root(&leaves(txs))
}

/// That a transaction stands in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxProof {
    path: merkle::Path,
    count: u64,
}

impl TxProof {
    /// Whether a block with this root over its transactions has this one.
    pub fn holds(&self, tx: &SignedTx, txs_root: &Digest) -> bool {
        let leaf = merkle::leaf_hash(&tx.to_bytes());
        self.path.holds(leaf, self.count, txs_root)
    }
}

impl Canonical for TxProof {
    const MOST_BYTES: usize = limits::PROOF_BYTES;
}

/// Why a block is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The state is that of no chain.
    #[error("the state did not begin with a genesis")]
    NoChain,
    /// It does not follow the block that it names.
    #[error("the block at height {height} does not follow its parent: {why}")]
    NotNext {
        /// The block's height.
        height: u64,
        /// What does not fit.
        why: &'static str,
    },
    /// Larger than blocks may be.
    #[error("the block has {txs} transactions in {bytes} bytes, more than a block takes")]
    TooLarge {
        /// Its transactions.
        txs: usize,
        /// Its size.
        bytes: usize,
    },
    /// A transaction breaks a rule.
    #[error("transaction {index} of the block is refused: {why}")]
    Tx {
        /// Its place.
        index: usize,
        /// The rule.
        why: Reject,
    },
    /// Its votes cannot be counted.
    #[error("the block's end cannot be carried out: {why}")]
    End {
        /// Why.
        why: Reject,
    },
    /// The header says otherwise than the transactions give.
    #[error(
        "the block's {what} is not what its transactions give: its proposer lies, or runs another version"
    )]
    Differs {
        /// Of what.
        what: &'static str,
    },
}

/// What a block leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roots {
    /// Over its transactions.
    pub txs: Digest,
    /// Of the state after it.
    pub state: Digest,
}

/// A block that a validator proposes.
#[derive(Debug, Clone)]
pub struct Proposal {
    /// The block.
    pub block: Block,
    /// The state after it.
    pub state: State,
    /// Transactions that are not in it, and why the ledger refuses them now. Those of a later number
    /// ([`Reject::NonceAhead`]) can be good later.
    pub refused: Vec<(Digest, Reject)>,
}

/// Propose the block after `parent`, whose state is given: the transactions in the order they are given, each
/// sender's by number, as many as fit into `most_bytes`, without those that break a rule.
///
/// # Errors
///
/// [`BlockError::NoChain`] if the state is that of no chain.
pub fn propose(
    state: &State,
    parent: &Header,
    txs: &[SignedTx],
    now_ms: Millis,
    most_bytes: usize,
) -> Result<Proposal, BlockError> {
    let timestamp_ms = now_ms.max(parent.timestamp_ms.saturating_add(1));
    let height = parent.height.saturating_add(1);
    let most_bytes = most_bytes.min(limits::BLOCK_BYTES);
    // Room for a header with the largest set, and for the number of transactions.
    let mut bytes = Header::MOST_BYTES + 8;
    let (mut after, mut taken, mut refused) = (state.clone(), Vec::new(), Vec::new());
    for tx in in_order(txs) {
        let size = tx.to_bytes().len();
        if size > limits::TX_BYTES {
            refused.push((tx.id(), Reject::TooLarge));
            continue;
        }
        if taken.len() >= limits::BLOCK_TXS || bytes + size > most_bytes {
            continue;
        }
        match execute(&after, tx, timestamp_ms) {
            Ok(next) => {
                after = next;
                bytes += size;
                taken.push(tx.clone());
            }
            Err(why) => refused.push((tx.id(), why)),
        }
    }
    let (epoch, next_validators) = end(&mut after, height, timestamp_ms)?;
    let header = Header {
        height,
        parent: parent.digest(),
        epoch,
        timestamp_ms,
        txs_root: txs_root(&taken),
        state_root: after.root(),
        next_validators,
    };
    let block = Block { header, txs: taken };
    Ok(Proposal {
        block,
        state: after,
        refused,
    })
}

/// Each sender's transactions by number, in the places that its transactions have.
fn in_order(txs: &[SignedTx]) -> Vec<&SignedTx> {
    let mut by_sender: BTreeMap<NodeId, Vec<&SignedTx>> = BTreeMap::new();
    for tx in txs {
        by_sender.entry(tx.tx.from).or_default().push(tx);
    }
    for sent in by_sender.values_mut() {
        // Taken from the end.
        sent.sort_by_key(|tx| std::cmp::Reverse(tx.tx.nonce));
    }
    txs.iter()
        .filter_map(|tx| by_sender.get_mut(&tx.tx.from)?.pop())
        .collect()
}

/// What happens after a block's transactions: votes are counted, the head moves, and at the end of an epoch the validators change.
fn end(
    state: &mut State,
    height: u64,
    timestamp_ms: Millis,
) -> Result<(u64, Option<ValidatorSet>), BlockError> {
    *state = settle(state, timestamp_ms).map_err(|why| BlockError::End { why })?;
    let chain = state.get(&ChainSlot()).ok_or(BlockError::NoChain)?;
    let length = chain.params.epoch_blocks;
    let epoch = height.checked_div(length).ok_or(BlockError::NoChain)?;
    state.put(
        &HeadSlot(),
        &Head {
            height,
            timestamp_ms,
        },
    );
    if height % length != length - 1 {
        return Ok((epoch, None));
    }
    let mut validators = state.get(&ValidatorsSlot()).ok_or(BlockError::NoChain)?;
    if let Some((from, set)) = validators.next.take() {
        match from <= epoch + 1 {
            true => validators.current = set,
            false => validators.next = Some((from, set)),
        }
        state.put(&ValidatorsSlot(), &validators);
    }
    Ok((epoch, Some(validators.current)))
}

/// Check a block against its parent, and that its header is what its transactions give. The state after it is
/// given back; `state` is that after the parent.
///
/// It waits for nothing and reads no clock. How far a block's time may lie ahead is for the caller to bound, who has
/// one ([`limits::CLOCK_SKEW_MS`]).
///
/// # Errors
///
/// [`BlockError`] with the first rule that is broken.
pub fn verify(state: &State, parent: &Header, block: &Block) -> Result<State, BlockError> {
    let header = &block.header;
    let not_next = |why| BlockError::NotNext {
        height: header.height,
        why,
    };
    if header.parent != parent.digest() {
        return Err(not_next("it names another one"));
    }
    if parent.height.checked_add(1) != Some(header.height) {
        return Err(not_next("its height is not the next"));
    }
    let mut after = state.clone();
    apply(&mut after, block)?;
    Ok(after)
}

/// Carry out a block on the state before it. If it is refused, the state stays as it is.
///
/// # Errors
///
/// [`BlockError`] with the first rule that is broken. Whether it follows the right parent is for [`verify`], or for
/// who knows that it is final.
pub fn apply(state: &mut State, block: &Block) -> Result<Roots, BlockError> {
    let header = &block.header;
    let head = state.head().ok_or(BlockError::NoChain)?;
    let not_next = |why| BlockError::NotNext {
        height: header.height,
        why,
    };
    if head.height.checked_add(1) != Some(header.height) {
        return Err(not_next("its height is not the next"));
    }
    if header.timestamp_ms <= head.timestamp_ms {
        return Err(not_next("it is not later"));
    }
    let sizes = block.txs.iter().map(|tx| tx.to_bytes().len());
    let bytes = Header::MOST_BYTES + 8 + sizes.clone().sum::<usize>();
    if block.txs.len() > limits::BLOCK_TXS
        || bytes > limits::BLOCK_BYTES
        || sizes.max().is_some_and(|size| size > limits::TX_BYTES)
    {
        return Err(BlockError::TooLarge {
            txs: block.txs.len(),
            bytes,
        });
    }
    let mut after = state.clone();
    for (index, tx) in block.txs.iter().enumerate() {
        after = execute(&after, tx, header.timestamp_ms)
            .map_err(|why| BlockError::Tx { index, why })?;
    }
    let (epoch, next_validators) = end(&mut after, header.height, header.timestamp_ms)?;
    let roots = Roots {
        txs: txs_root(&block.txs),
        state: after.root(),
    };
    for (what, same) in [
        ("epoch", epoch == header.epoch),
        ("root of the transactions", roots.txs == header.txs_root),
        ("root of the state", roots.state == header.state_root),
        (
            "next set of validators",
            next_validators == header.next_validators,
        ),
    ] {
        if !same {
            return Err(BlockError::Differs { what });
        }
    }
    *state = after;
    Ok(roots)
}
