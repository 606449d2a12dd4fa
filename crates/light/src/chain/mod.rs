//! Following a ledger with little: from a pinned genesis over the epochs' hand-overs to its head, without a socket.
//!
//! A [`Follower`] holds what is believed. Whoever drives it fetches what [`Follower::needs`] says, and hands over what
//! was served; nothing is believed that a quorum of the right validators has not signed. What is proven under a final
//! header (an opening, an account, a receipt) comes back as a type of its own that cannot be made otherwise.

mod error;
mod served;

use std::collections::BTreeMap;

use defim_ledger::{
    Body, Canonical, Digest, Genesis, Header, Millis, NodeId, NodeSlot, ReportId, RoundNumber,
    RoundSlot, SignedText, Slot, Stage, TaskId,
    light::{Certificate, Counted, FinalHeader, LightChain, LightError},
    limits, round_randomness,
};
use serde::{Deserialize, Serialize};

pub use error::ChainError;
pub use served::{Served, ServedHeader, ServedOpening, ServedReceipt, ServedState};

/// A chain that is followed: whose signatures count now, and the newest final block that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Follower {
    chain: LightChain,
    names: BTreeMap<NodeId, String>,
}

/// What is kept between two visits.
#[derive(Serialize, Deserialize)]
struct Kept {
    chain: LightChain,
    names: BTreeMap<NodeId, String>,
}

impl Canonical for Kept {
    const MOST_BYTES: usize =
        limits::LIGHT_CHAIN_BYTES + limits::VALIDATORS * (limits::NAME_BYTES + 40);
}

/// A validator that has signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Signer {
    /// Its key.
    pub node: NodeId,
    /// Its name, if the genesis or the ledger's state has shown it.
    pub name: Option<String>,
}

/// A block that was found to be final.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FinalBlock {
    /// Blocks before it.
    pub height: u64,
    /// What names it.
    pub digest: Digest,
    /// Its epoch.
    pub epoch: u64,
    /// When it was proposed.
    pub timestamp_ms: Millis,
    /// Whose signatures make it final.
    pub signers: Vec<Signer>,
    /// How many validators the epoch has.
    pub validators: usize,
}

/// What was proven under a final block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven<T> {
    /// It.
    pub value: T,
    /// The block.
    pub block: FinalBlock,
}

/// That one exact opening of a round is final on a chain.
///
/// There is no other way to make one than by a [`Follower`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedOpening {
    chain: Digest,
    statement: Digest,
    block: FinalBlock,
}

impl VerifiedOpening {
    /// The chain.
    pub fn chain(&self) -> &Digest {
        &self.chain
    }

    /// Digest of the signed statement ([`round_randomness`]).
    pub fn statement(&self) -> &Digest {
        &self.statement
    }

    /// The block under which it was checked: the one that has the opening, or a later one whose state has it.
    pub fn block(&self) -> &FinalBlock {
        &self.block
    }
}

impl Follower {
    /// Begin with a genesis whose chain id was learnt from somebody who is trusted.
    ///
    /// # Errors
    ///
    /// [`ChainError`], `other-chain` if the genesis is another one's.
    pub fn begin(genesis: &[u8], pinned: &Digest) -> Result<Self, ChainError> {
        Self::with(&read_genesis(genesis)?, pinned)
    }

    /// Begin with a genesis that is trusted because nothing else is known yet. Keep [`Follower::chain`] and hold
    /// the mesh to it from then on.
    ///
    /// # Errors
    ///
    /// [`ChainError`].
    pub fn trust_on_first_use(genesis: &[u8]) -> Result<Self, ChainError> {
        let genesis = read_genesis(genesis)?;
        Self::with(&genesis, &genesis.chain())
    }

    fn with(genesis: &Genesis, pinned: &Digest) -> Result<Self, ChainError> {
        let chain = LightChain::begin(genesis, pinned)?;
        let first = genesis.validators.iter();
        let names = first.map(|first| (first.node, first.name.clone()));
        Ok(Self {
            chain,
            names: names.collect(),
        })
    }

    /// Go on from what was kept.
    ///
    /// # Errors
    ///
    /// [`ChainError::Malformed`]; begin anew from the genesis then.
    pub fn restore(kept: &[u8]) -> Result<Self, ChainError> {
        let kept = Kept::from_bytes(kept).map_err(|e| ChainError::malformed("kept state", &e))?;
        Ok(Self {
            chain: kept.chain,
            names: kept.names,
        })
    }

    /// What to keep. It holds no secret, but whoever can change it decides what is believed.
    pub fn to_bytes(&self) -> Vec<u8> {
        let kept = Kept {
            chain: self.chain.clone(),
            names: self.names.clone(),
        };
        kept.to_bytes()
    }

    /// The chain's id.
    pub fn chain(&self) -> &Digest {
        self.chain.chain()
    }

    /// Height of the newest final block that was seen.
    pub fn height(&self) -> u64 {
        self.chain.height()
    }

    /// The epoch of the next block.
    pub fn epoch(&self) -> u64 {
        self.chain.epoch()
    }

    /// The validators of that epoch.
    pub fn validators(&self) -> Vec<Signer> {
        self.named(self.chain.validators().keys())
    }

    /// Whether hand-overs must come before this header can be checked: from which epoch on they are to be fetched.
    ///
    /// # Errors
    ///
    /// [`ChainError::Malformed`] if it is no header. Nothing of it is believed yet.
    pub fn needs(&self, served: &ServedHeader) -> Result<Option<u64>, ChainError> {
        let header = served.read_header()?;
        Ok((header.epoch > self.epoch()).then(|| self.epoch()))
    }

    /// Take over the next epoch's validators from this epoch's last header.
    ///
    /// # Errors
    ///
    /// [`ChainError`] if it is not that header, or not final.
    pub fn hand_over(&mut self, served: &ServedHeader) -> Result<FinalBlock, ChainError> {
        let (header, certificate) = served.read()?;
        let expected = self.chain.hand_over_height();
        // Of this epoch, but not its last: it would hand nothing over, and the next one could not be checked.
        if header.epoch == self.epoch() && header.height != expected {
            return Err(ChainError::NotHandOver {
                height: header.height,
                expected,
            });
        }
        self.take(header, &certificate).map(|last| last.1)
    }

    /// Check that a header is final, and move on to it if it is newer than what was seen.
    ///
    /// # Errors
    ///
    /// [`ChainError`]; `later-epoch` if hand-overs are missing.
    pub fn advance(&mut self, served: &ServedHeader) -> Result<FinalBlock, ChainError> {
        let (header, certificate) = served.read()?;
        self.take(header, &certificate).map(|last| last.1)
    }

    /// The final block that is meant: the certified one, or one below it.
    fn meant(&mut self, served: &ServedHeader) -> Result<(FinalHeader, FinalBlock), ChainError> {
        let (header, certificate) = served.read()?;
        let (mut last, mut block) = self.take(header, &certificate)?;
        for below in &served.below {
            last = last.parent(below.read("header")?)?;
            let header = last.header();
            block = FinalBlock {
                height: header.height,
                digest: header.digest(),
                epoch: header.epoch,
                timestamp_ms: header.timestamp_ms,
                ..block
            };
        }
        Ok((last, block))
    }

    fn take(
        &mut self,
        header: Header,
        certificate: &Certificate,
    ) -> Result<(FinalHeader, FinalBlock), ChainError> {
        // An epoch's last header ends with other validators than those it was signed by.
        let validators = self.chain.validators().len();
        let last = if header.height > self.height() {
            self.chain.advance(header, certificate)?
        } else if header.height < self.height() {
            self.chain.check(header, certificate)?
        } else {
            // At the head's own height there is one block, or a fork.
            match self.chain.advance(header.clone(), certificate) {
                Err(LightError::Stale { .. }) => self.chain.check(header, certificate)?,
                Err(error) => return Err(error.into()),
                Ok(last) => last,
            }
        };
        let header = last.header();
        let block = FinalBlock {
            height: header.height,
            digest: header.digest(),
            epoch: header.epoch,
            timestamp_ms: header.timestamp_ms,
            signers: self.named(last.signers()),
            validators,
        };
        Ok((last, block))
    }

    fn named(&self, nodes: &[NodeId]) -> Vec<Signer> {
        let signer = |node: &NodeId| Signer {
            node: *node,
            name: self.names.get(node).cloned(),
        };
        nodes.iter().map(signer).collect()
    }

    /// Check that exactly this opening of a round stands in a final block.
    ///
    /// # Errors
    ///
    /// [`ChainError`]. If the block is of an epoch that is over (`past-epoch`), its validators' signatures count no
    /// longer: ask for the round in the newest state ([`Follower::verify_round`]).
    pub fn verify_opening(
        &mut self,
        task: &TaskId,
        round: RoundNumber,
        statement: &SignedText,
        served: &ServedOpening,
    ) -> Result<VerifiedOpening, ChainError> {
        let (tx, proof) = served.read()?;
        let (last, block) = self.meant(&served.block)?;
        last.has_tx(&tx, &proof)?;
        let Body::RoundOpened { statement: opened } = &tx.tx.body else {
            return Err(ChainError::NotAnOpening);
        };
        // Whoever is given an opening of their own would train, and be counted, alone.
        if opened != statement {
            return Err(ChainError::OtherOpening { round });
        }
        self.opening(task, round, statement, block)
    }

    /// Check in the newest state that exactly this opening of a round is the ledger's, and that reports are still taken.
    ///
    /// # Errors
    ///
    /// [`ChainError`].
    pub fn verify_round(
        &mut self,
        task: &TaskId,
        round: RoundNumber,
        statement: &SignedText,
        served: &ServedState,
    ) -> Result<VerifiedOpening, ChainError> {
        let Proven { value, block } = self.verify_state(&RoundSlot(*task, round), served)?;
        let entry = value.ok_or(ChainError::NoRound { task: *task, round })?;
        if entry.randomness != round_randomness(statement) {
            return Err(ChainError::OtherOpening { round });
        }
        if entry.stage != Stage::Open {
            return Err(ChainError::RoundClosed { round });
        }
        self.opening(task, round, statement, block)
    }

    /// That the statement opens the round that is asked for. That its task's aggregation node signed it is for
    /// [`crate::JoinedTask::open_round`].
    fn opening(
        &self,
        task: &TaskId,
        round: RoundNumber,
        statement: &SignedText,
        block: FinalBlock,
    ) -> Result<VerifiedOpening, ChainError> {
        let read = defim_ledger::RoundOpened::read(&statement.payload);
        if !read.is_ok_and(|opened| opened.task == *task && opened.round == round) {
            return Err(ChainError::OtherOpening { round });
        }
        Ok(VerifiedOpening {
            chain: *self.chain(),
            statement: round_randomness(statement),
            block,
        })
    }

    /// Check what stands at a place in the state after a final block; that nothing does is proven too.
    ///
    /// # Errors
    ///
    /// [`ChainError`].
    pub fn verify_state<S: Slot>(
        &mut self,
        slot: &S,
        served: &ServedState,
    ) -> Result<Proven<Option<S::Entry>>, ChainError> {
        let proof = served.read()?;
        let (last, block) = self.meant(&served.block)?;
        let value = last.state(slot, &proof)?;
        Ok(Proven { value, block })
    }

    /// Learn a validator's name from the state, for those that the genesis does not name.
    ///
    /// # Errors
    ///
    /// [`ChainError`].
    pub fn verify_name(
        &mut self,
        node: NodeId,
        served: &ServedState,
    ) -> Result<Option<String>, ChainError> {
        let proven = self.verify_state(&NodeSlot(node), served)?;
        let name = proven.value.map(|entry| entry.name);
        // What is kept stays bounded: only of those whose signatures count.
        if let Some(name) = &name
            && self.chain.validators().place(&node).is_some()
        {
            let set = self.chain.validators();
            self.names.retain(|known, _| set.place(known).is_some());
            self.names.insert(node, name.clone());
        }
        Ok(name)
    }

    /// Check that a report is counted in a finished round.
    ///
    /// # Errors
    ///
    /// [`ChainError`].
    pub fn verify_receipt(
        &mut self,
        task: &TaskId,
        round: RoundNumber,
        report: &ReportId,
        served: &ServedReceipt,
    ) -> Result<Proven<Counted>, ChainError> {
        let receipt = served.read()?;
        // A receipt of another round, in which somebody else's report has this id, would prove nothing of this one.
        if (receipt.task, receipt.round) != (*task, round) {
            return Err(ChainError::OtherReceipt {
                task: receipt.task,
                round: receipt.round,
            });
        }
        let (last, block) = self.meant(&served.block)?;
        let value = receipt.verify(&last, report)?;
        Ok(Proven { value, block })
    }
}

fn read_genesis(bytes: &[u8]) -> Result<Genesis, ChainError> {
    Genesis::from_bytes(bytes).map_err(|e| ChainError::malformed("genesis", &e))
}
