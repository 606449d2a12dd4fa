//! From a pinned genesis over the epochs' hand-overs to the newest final header.

use serde::{Deserialize, Serialize};

use crate::{
    Digest, Genesis, GenesisError, Header, NodeId, ProofError, SignedTx, Slot, StateProof, TxProof,
    codec::Canonical, consensus_namespace, limits,
};

use super::{Certificate, CertificateError, SetError, ValidatorSet};

/// What a light node knows of a chain: whose signatures count now, and the newest final block it has seen.
///
/// It is a few hundred bytes; keep its encoding, and begin from it next time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LightChain {
    chain: Digest,
    epoch_blocks: u64,
    epoch: u64,
    validators: ValidatorSet,
    head: Head,
}

/// The newest final block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    height: u64,
    digest: Digest,
    /// In the epoch of the next block; 0 before its first certificate.
    view: u64,
}

/// Why a header is not believed to be final.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LightError {
    /// The genesis is not the pinned one.
    #[error("the genesis is that of chain {found}, not of {expected}; load the right one")]
    WrongGenesis {
        /// Pinned.
        expected: Digest,
        /// Given.
        found: Digest,
    },
    /// The genesis is none.
    #[error(transparent)]
    Genesis(#[from] GenesisError),
    /// The certificate itself is not good.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The certificate is for another block.
    #[error(
        "the certificate is for block {found}, but the header is that of {expected}: one was altered"
    )]
    WrongPayload {
        /// The header's digest.
        expected: Digest,
        /// The certificate's payload.
        found: Digest,
    },
    /// Signed by the validators of an epoch that is over.
    #[error("the validators of epoch {found} cannot make a block of epoch {expected} final")]
    OldSet {
        /// The header's epoch.
        expected: u64,
        /// The certificate's epoch.
        found: u64,
    },
    /// The header is of an epoch whose validators are not known, or known no longer.
    #[error(
        "the header is of epoch {found}, but the light node is at epoch {expected}; hand over each epoch in turn"
    )]
    OtherEpoch {
        /// Where the light node is.
        expected: u64,
        /// The header's.
        found: u64,
    },
    /// The header cannot be one of this chain.
    #[error("the header at height {height} breaks the chain's rules: {why}")]
    BadHeader {
        /// Its height.
        height: u64,
        /// What is wrong.
        why: &'static str,
    },
    /// The next validators are no set.
    #[error("the header hands over to no proper set of validators: {0}")]
    NextSet(#[from] SetError),
    /// Older than what was seen before.
    #[error("height {height} is not newer than {seen}, which is final already")]
    Stale {
        /// The header's.
        height: u64,
        /// Seen.
        seen: u64,
    },
    /// A later block from an earlier round: one of the two is not of this chain.
    #[error("the certificate of view {view} is for a later block than that of view {seen}")]
    WrongRound {
        /// The certificate's view.
        view: u64,
        /// The view seen before.
        seen: u64,
    },
    /// Two final blocks at one height: more than a third of the validators have signed both.
    #[error(
        "two different blocks are final at height {height}: more than a third of the validators cheat; trust nothing newer"
    )]
    Fork {
        /// The height.
        height: u64,
    },
    /// A header that is not the parent of a final one.
    #[error("the header is not the parent of the final one")]
    NotParent,
}

impl LightError {
    /// The stable word, as in JSON and on the page.
    pub const fn slug(&self) -> &'static str {
        match self {
            Self::WrongGenesis { .. } => "wrong-genesis",
            Self::Genesis(_) => "genesis",
            Self::Certificate(error) => error.slug(),
            Self::WrongPayload { .. } => "wrong-payload",
            Self::OldSet { .. } => "old-set",
            Self::OtherEpoch { .. } => "other-epoch",
            Self::BadHeader { .. } => "bad-header",
            Self::NextSet(_) => "next-set",
            Self::Stale { .. } => "stale",
            Self::WrongRound { .. } => "round-out-of-order",
            Self::Fork { .. } => "fork",
            Self::NotParent => "not-parent",
        }
    }
}

impl LightChain {
    /// Begin with a genesis, whose digest is pinned: built in, or read by a person.
    ///
    /// # Errors
    ///
    /// [`LightError::WrongGenesis`] or [`LightError::Genesis`].
    pub fn begin(genesis: &Genesis, pinned: &Digest) -> Result<Self, LightError> {
        genesis.check()?;
        let chain = genesis.chain();
        if chain != *pinned {
            return Err(LightError::WrongGenesis {
                expected: *pinned,
                found: chain,
            });
        }
        let first = crate::Block::genesis(genesis)?;
        Ok(Self {
            chain,
            epoch_blocks: genesis.params.epoch_blocks,
            epoch: 0,
            validators: genesis.validator_set()?,
            head: Head {
                height: 0,
                digest: first.digest(),
                view: 0,
            },
        })
    }

    /// The chain's id.
    pub fn chain(&self) -> &Digest {
        &self.chain
    }

    /// The epoch of the next block.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Its validators.
    pub fn validators(&self) -> &ValidatorSet {
        &self.validators
    }

    /// Height of the newest final block that was seen.
    pub fn height(&self) -> u64 {
        self.head.height
    }

    /// Height of the header that hands this epoch over: the next to ask for, if the chain is past it.
    pub fn hand_over_height(&self) -> u64 {
        let next = self.epoch.saturating_add(1);
        next.saturating_mul(self.epoch_blocks).saturating_sub(1)
    }

    /// Check that a header of this epoch is final, without moving on.
    ///
    /// # Errors
    ///
    /// [`LightError`] with what is wrong.
    pub fn check(
        &self,
        header: Header,
        certificate: &Certificate,
    ) -> Result<FinalHeader, LightError> {
        let bad = |why| LightError::BadHeader {
            height: header.height,
            why,
        };
        if header.height.checked_div(self.epoch_blocks) != Some(header.epoch) {
            return Err(bad("the epoch does not fit the height"));
        }
        if header.epoch != self.epoch {
            return Err(LightError::OtherEpoch {
                expected: self.epoch,
                found: header.epoch,
            });
        }
        // Whoever has the keys of validators that were replaced must not make new blocks with them.
        if certificate.epoch != header.epoch {
            return Err(LightError::OldSet {
                expected: header.epoch,
                found: certificate.epoch,
            });
        }
        let digest = header.digest();
        if certificate.payload != digest {
            return Err(LightError::WrongPayload {
                expected: digest,
                found: certificate.payload,
            });
        }
        let is_last = header.height == self.hand_over_height();
        if header.next_validators.is_some() != is_last {
            return Err(bad(
                "validators are handed over at the end of an epoch, and only there",
            ));
        }
        let namespace = consensus_namespace(&self.chain);
        let signers = certificate.verify(&self.validators, &namespace)?;
        Ok(FinalHeader { header, signers })
    }

    /// Move on to a newer final header. The last one of an epoch hands over to the next epoch's validators.
    ///
    /// # Errors
    ///
    /// [`LightError`] with what is wrong; then nothing has changed.
    pub fn advance(
        &mut self,
        header: Header,
        certificate: &Certificate,
    ) -> Result<FinalHeader, LightError> {
        let last = self.check(header, certificate)?;
        let (height, digest) = (last.header.height, last.header.digest());
        if height == self.head.height && digest != self.head.digest {
            return Err(LightError::Fork { height });
        }
        if height <= self.head.height {
            return Err(LightError::Stale {
                height,
                seen: self.head.height,
            });
        }
        if certificate.view <= self.head.view {
            return Err(LightError::WrongRound {
                view: certificate.view,
                seen: self.head.view,
            });
        }
        let mut view = certificate.view;
        if let Some(next) = &last.header.next_validators {
            self.validators = ValidatorSet::new(next.keys().to_vec())?;
            self.epoch = self.epoch.saturating_add(1);
            view = 0;
        }
        self.head = Head {
            height,
            digest,
            view,
        };
        Ok(last)
    }
}

impl Canonical for LightChain {
    const MOST_BYTES: usize = limits::LIGHT_CHAIN_BYTES;
}

/// A header that a quorum of the right validators has made final.
///
/// There is no other way to make one than by a [`LightChain`], or as the parent of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinalHeader {
    header: Header,
    signers: Vec<NodeId>,
}

impl FinalHeader {
    /// The header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Whose signatures make it final.
    pub fn signers(&self) -> &[NodeId] {
        &self.signers
    }

    /// The block before is final too: whoever signed this one signed its digest.
    ///
    /// # Errors
    ///
    /// [`LightError::NotParent`] for any other header.
    pub fn parent(&self, header: Header) -> Result<Self, LightError> {
        match header.digest() == self.header.parent {
            true => Ok(Self {
                header,
                signers: self.signers.clone(),
            }),
            false => Err(LightError::NotParent),
        }
    }

    /// Check that the block has a transaction.
    ///
    /// # Errors
    ///
    /// [`ProofError`] if the proof does not show it.
    pub fn has_tx(&self, tx: &SignedTx, proof: &TxProof) -> Result<(), ProofError> {
        match proof.holds(tx, &self.header.txs_root) {
            true => Ok(()),
            false => Err(ProofError),
        }
    }

    /// What stands at a place in the state after the block; `None` is proven too.
    ///
    /// # Errors
    ///
    /// [`ProofError`] if the proof does not show it.
    pub fn state<S: Slot>(
        &self,
        slot: &S,
        proof: &StateProof,
    ) -> Result<Option<S::Entry>, ProofError> {
        proof.verify(&self.header.state_root, slot)
    }
}
