//! The first state of a chain.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::{
    Digest, Millis, NodeId,
    codec::{Canonical, labelled},
    light::ValidatorSet,
    limits,
};

/// Numbers that hold for a chain's whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Blocks of an epoch. The genesis block is the first of epoch 0.
    pub epoch_blocks: u64,
    /// For how many of a task's newest rounds light nodes can claim.
    pub claim_rounds: u64,
    /// What a slashed node loses, in parts per million of its balance.
    pub slash_ppm: u32,
    /// What of that goes to those who showed it, in parts per million. The rest goes to the harmed task.
    pub finder_ppm: u32,
}

impl Default for Params {
    fn default() -> Self {
        Self {
            epoch_blocks: 1000,
            claim_rounds: 64,
            slash_ppm: 500_000,
            finder_ppm: 100_000,
        }
    }
}

/// A validator of the first epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstValidator {
    /// Its key.
    pub node: NodeId,
    /// Its name for people.
    pub name: String,
    /// Where it listens.
    pub address: String,
}

/// The first state of a chain. Everything else follows from it and the blocks; whoever pins its digest trusts
/// nobody else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// The chain's name.
    pub name: String,
    /// When it began.
    pub timestamp_ms: Millis,
    /// The validators of epoch 0, in ascending order of their keys.
    pub validators: Vec<FirstValidator>,
    /// The admins, in ascending order.
    pub admins: Vec<NodeId>,
    /// Whose balance everything that is issued is at first.
    pub treasury: NodeId,
    /// Everything that is ever issued.
    pub supply: u64,
    /// Numbers that hold for ever.
    pub params: Params,
}

/// Why a genesis is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// The validators' keys are none, too many, not ascending or no proper keys.
    #[error("the genesis has no proper set of validators: {0}")]
    Validators(#[from] crate::light::SetError),
    /// The admins are none, too many or not ascending.
    #[error("the genesis needs from 1 to {most} admins, in ascending order", most = limits::ADMINS)]
    Admins,
    /// A text is too long, or a number out of its range.
    #[error("the genesis is unusable: {0}")]
    Unusable(&'static str),
}

impl Genesis {
    /// What names the chain. It stands in every transaction, and in what validators sign.
    pub fn chain(&self) -> Digest {
        labelled(b"defim v1 genesis\0", &self.to_bytes())
    }

    /// The validators of epoch 0.
    ///
    /// # Errors
    ///
    /// [`GenesisError::Validators`].
    pub fn validator_set(&self) -> Result<ValidatorSet, GenesisError> {
        let keys = self.validators.iter().map(|first| first.node).collect();
        Ok(ValidatorSet::new(keys)?)
    }

    /// Check that a chain can begin so.
    ///
    /// # Errors
    ///
    /// [`GenesisError`] with the first thing that is wrong.
    pub fn check(&self) -> Result<(), GenesisError> {
        self.validator_set()?;
        if !is_admins(&self.admins) {
            return Err(GenesisError::Admins);
        }
        let named = |first: &FirstValidator| {
            first.name.len() <= limits::NAME_BYTES && first.address.len() <= limits::ADDRESS_BYTES
        };
        if self.name.len() > limits::NAME_BYTES || !self.validators.iter().all(named) {
            return Err(GenesisError::Unusable("a name or an address is too long"));
        }
        let Params {
            epoch_blocks,
            claim_rounds,
            slash_ppm,
            finder_ppm,
        } = self.params;
        // An epoch of one block would have the genesis block name the next set.
        if !(2..=limits::EPOCH_BLOCKS).contains(&epoch_blocks) {
            return Err(GenesisError::Unusable("epoch_blocks is out of its range"));
        }
        if !(1..=limits::CLAIM_ROUNDS).contains(&claim_rounds) {
            return Err(GenesisError::Unusable("claim_rounds is out of its range"));
        }
        if slash_ppm > PPM || finder_ppm > PPM {
            return Err(GenesisError::Unusable(
                "a share is more than a million parts",
            ));
        }
        Ok(())
    }
}

impl Canonical for Genesis {
    const MOST_BYTES: usize = limits::GENESIS_BYTES;
}

/// Parts of a whole.
pub(crate) const PPM: u32 = 1_000_000;

/// Whether these may be the admins: ascending, so that one set has one encoding.
pub(crate) fn is_admins(admins: &[NodeId]) -> bool {
    (1..=limits::ADMINS).contains(&admins.len()) && is_ascending(admins)
}

/// Whether each is larger than the one before.
pub(crate) fn is_ascending<T: Ord>(items: &[T]) -> bool {
    items.is_sorted() && items.iter().collect::<BTreeSet<_>>().len() == items.len()
}

/// What validators sign besides a block, so that no signature counts on another chain.
pub fn consensus_namespace(chain: &Digest) -> Vec<u8> {
    [b"defim v1 consensus ".as_slice(), &chain.0].concat()
}
