//! Validators' votes in consensus, as they sign them: commonware-consensus 2026.10.0, simplex, ed25519 scheme.

use serde::{Deserialize, Serialize};

use crate::{
    Digest, NodeId, Signature,
    light::{proposal, signed, view_of_epoch, zip215},
};

/// What a validator votes for in a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Choice {
    /// That it has checked this block.
    Notarize(Proposed),
    /// That the view goes by without a block.
    Nullify,
    /// That this block is final. Who says so has not voted, and never votes, for [`Choice::Nullify`].
    Finalize(Proposed),
}

/// A block as it is proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposed {
    /// The view of the block before.
    pub parent: u64,
    /// Digest of the block.
    pub payload: Digest,
}

/// A validator's signed vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsensusVote {
    /// The epoch.
    pub epoch: u64,
    /// The view in it.
    pub view: u64,
    /// For what.
    pub choice: Choice,
    /// The signature over all of this.
    pub signature: Signature,
}

impl ConsensusVote {
    /// Exactly what is signed, on the chain with this namespace ([`crate::consensus_namespace`]).
    pub fn signed_bytes(&self, namespace: &[u8]) -> Vec<u8> {
        let view = (self.epoch, self.view);
        let proposed = |it: &Proposed| proposal(view, it.parent, &it.payload);
        match &self.choice {
            Choice::Notarize(it) => signed(namespace, b"_NOTARIZE", &proposed(it)),
            Choice::Nullify => signed(namespace, b"_NULLIFY", &view_of_epoch(view)),
            Choice::Finalize(it) => signed(namespace, b"_FINALIZE", &proposed(it)),
        }
    }

    /// Whether the signature is this validator's, by the validators' own rule.
    pub fn is_of(&self, validator: &NodeId, namespace: &[u8]) -> bool {
        zip215::verify(validator, &self.signed_bytes(namespace), &self.signature.0)
    }

    /// Whether no honest validator signs both: two blocks for the same in one view, or that it is final and that it is
    /// none.
    pub fn excludes(&self, other: &Self) -> bool {
        let differ = match (&self.choice, &other.choice) {
            (Choice::Notarize(one), Choice::Notarize(two))
            | (Choice::Finalize(one), Choice::Finalize(two)) => one != two,
            (Choice::Nullify, Choice::Finalize(_)) | (Choice::Finalize(_), Choice::Nullify) => true,
            _ => false,
        };
        differ && (self.epoch, self.view) == (other.epoch, other.view)
    }
}
