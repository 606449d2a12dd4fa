//! Adding ciphertexts, which takes no key: anybody can repeat it, byte for byte.

use std::fmt;

use crate::ciphertext::{Blocks, Ciphertext, ProvenBlock, Root};
use crate::codec::CodecError;
use crate::opening::NodeId;
use crate::params::{Dimension, MAX_PARTIES};
use crate::ring;

/// Why ciphertexts are not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SumError {
    /// The modulus has no room for more.
    #[error("more than {MAX_PARTIES} ciphertexts cannot be added: their sum would wrap")]
    Full,
    /// Of another vector.
    #[error("a ciphertext of {found} coordinates cannot be added to one of {expected}")]
    Dimension {
        /// Coordinates of the sum.
        expected: usize,
        /// Coordinates of the ciphertext.
        found: usize,
    },
    /// Not there.
    #[error("the ciphertext of node {0} is missing")]
    Missing(NodeId),
    /// Another than the signed set names.
    #[error("the ciphertext of node {0} is not the one that the opening names")]
    Changed(NodeId),
    /// More ciphertexts than members.
    #[error("there are more ciphertexts than members of the set")]
    Unasked,
}

/// A sum in the making.
pub struct Adding {
    /// Not yet reduced.
    blocks: Blocks,
    parties: usize,
}

impl Adding {
    /// Nothing added yet.
    pub fn new(dimension: Dimension) -> Self {
        Self {
            blocks: Blocks::zero(dimension),
            parties: 0,
        }
    }

    /// Add one node's ciphertext.
    ///
    /// # Errors
    ///
    /// [`SumError::Full`] after [`MAX_PARTIES`], [`SumError::Dimension`] if it is of another vector.
    pub fn add(&mut self, ciphertext: &Ciphertext) -> Result<(), SumError> {
        let (expected, found) = (self.blocks.dimension, ciphertext.dimension());
        if expected != found {
            return Err(SumError::Dimension {
                expected: expected.coordinates(),
                found: found.coordinates(),
            });
        }
        if self.parties >= MAX_PARTIES {
            return Err(SumError::Full);
        }
        self.parties += 1;
        ring::add_unreduced(&mut self.blocks.residues, &ciphertext.0.residues);
        Ok(())
    }

    /// The sum in its one form.
    pub fn finish(mut self) -> Sum {
        let elements = self.blocks.residues.chunks_exact_mut(ring::RESIDUES);
        elements.for_each(ring::reduce);
        Sum {
            blocks: self.blocks,
            parties: self.parties,
        }
    }
}

impl fmt::Debug for Adding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Adding({} so far)", self.parties)
    }
}

/// The sum of ciphertexts: itself a ciphertext, of the sum of their vectors under the sum of their keys.
#[derive(Clone, PartialEq, Eq)]
pub struct Sum {
    pub(crate) blocks: Blocks,
    pub(crate) parties: usize,
}

impl Sum {
    /// Coordinates.
    pub fn dimension(&self) -> Dimension {
        self.blocks.dimension
    }

    /// Ciphertexts that were added.
    pub fn parties(&self) -> usize {
        self.parties
    }

    /// Packed form, as long as one ciphertext.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.blocks.to_bytes()
    }

    /// From packed form, for the task's dimension and the set's number of members.
    ///
    /// # Errors
    ///
    /// [`CodecError`] for another length, a coefficient that is not below the modulus, and more parties than
    /// [`MAX_PARTIES`].
    pub fn from_bytes(
        dimension: Dimension,
        parties: usize,
        bytes: &[u8],
    ) -> Result<Self, CodecError> {
        if parties > MAX_PARTIES {
            return Err(CodecError::Form { what: "a sum" });
        }
        let blocks = Blocks::from_bytes("a sum", dimension, bytes)?;
        Ok(Self { blocks, parties })
    }

    /// Root over the blocks.
    pub fn root(&self) -> Root {
        self.blocks.root()
    }

    /// These blocks with their proofs, for an audit; nothing if there is no such block.
    pub fn prove(&self, indices: &[u32]) -> Option<Vec<ProvenBlock>> {
        self.blocks.prove(indices)
    }
}

impl fmt::Debug for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let coordinates = self.blocks.dimension.coordinates();
        write!(f, "Sum(of {}, {coordinates} coordinates)", self.parties)
    }
}
