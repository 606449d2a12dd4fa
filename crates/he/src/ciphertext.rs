//! Encrypted vectors: made by a node, packed, bound by a root over their blocks.

use std::fmt;

use rand::CryptoRng;
use zeroize::Zeroizing;

use crate::codec::CodecError;
use crate::key::SecretKey;
use crate::mask::Round;
use crate::merkle;
use crate::opening::short;
use crate::params::{BLOCK_BYTES, Dimension, DimensionError, FIELD, N};
use crate::ring::{self, RESIDUES};

/// Root over the blocks of a ciphertext or of a sum.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root(pub [u8; 32]);

impl fmt::Display for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(&self.0, f)
    }
}

impl fmt::Debug for Root {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        short(&self.0, f)
    }
}

/// Why a vector is not encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EncryptError {
    /// Too long, or nothing.
    #[error(transparent)]
    Dimension(#[from] DimensionError),
    /// A coordinate is no field element in least form.
    #[error("coordinate {0} is not below the field's modulus")]
    NotCanonical(usize),
}

/// Blocks of ring elements, each 8192 residues.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Blocks {
    pub(crate) dimension: Dimension,
    pub(crate) residues: Vec<u64>,
}

impl Blocks {
    pub(crate) fn zero(dimension: Dimension) -> Self {
        Self {
            dimension,
            residues: vec![0; dimension.blocks() as usize * RESIDUES],
        }
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = &[u64]> {
        self.residues.chunks_exact(RESIDUES)
    }

    /// [`Dimension::ciphertext_bytes`] long.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.dimension.ciphertext_bytes());
        self.each().for_each(|block| ring::pack(block, &mut bytes));
        bytes
    }

    pub(crate) fn from_bytes(
        what: &'static str,
        dimension: Dimension,
        bytes: &[u8],
    ) -> Result<Self, CodecError> {
        // Before memory is taken.
        if bytes.len() != dimension.ciphertext_bytes() {
            return Err(CodecError::Length {
                what,
                expected: dimension.ciphertext_bytes(),
                found: bytes.len(),
            });
        }
        let mut blocks = Self::zero(dimension);
        let places = blocks.residues.chunks_exact_mut(RESIDUES);
        for ((block, place), bytes) in (0..).zip(places).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            ring::unpack(bytes, place)
                .map_err(|coefficient| CodecError::NotCanonical { block, coefficient })?;
        }
        Ok(blocks)
    }

    fn leaves(&self) -> Vec<[u8; 32]> {
        let mut bytes = Vec::with_capacity(BLOCK_BYTES);
        let leaf = |(index, block): (u32, &[u64])| {
            bytes.clear();
            ring::pack(block, &mut bytes);
            merkle::leaf(index, &bytes)
        };
        (0..).zip(self.each()).map(leaf).collect()
    }

    pub(crate) fn root(&self) -> Root {
        Root(merkle::root(&self.leaves()))
    }

    pub(crate) fn prove(&self, indices: &[u32]) -> Option<Vec<ProvenBlock>> {
        let leaves = self.leaves();
        let prove = |index: &u32| {
            let place = usize::try_from(*index).ok()?;
            let mut bytes = Vec::with_capacity(BLOCK_BYTES);
            ring::pack(self.each().nth(place)?, &mut bytes);
            Some(ProvenBlock {
                index: *index,
                bytes,
                path: merkle::path(&leaves, place),
            })
        };
        indices.iter().map(prove).collect()
    }
}

/// One block with the hashes that tie it to a root.
#[derive(Clone, PartialEq, Eq)]
pub struct ProvenBlock {
    /// Which block of the vector.
    pub index: u32,
    /// Its packed form, [`BLOCK_BYTES`] long if it is honest.
    pub bytes: Vec<u8>,
    /// The hashes beside its way to the root, from the bottom up.
    pub path: Vec<[u8; 32]>,
}

impl ProvenBlock {
    /// Whether this is the block at its place under `root`.
    pub fn belongs_to(&self, root: Root, dimension: Dimension) -> bool {
        let leaf = merkle::leaf(self.index, &self.bytes);
        merkle::climb(leaf, self.index, dimension.blocks(), &self.path) == Some(root.0)
    }
}

impl fmt::Debug for ProvenBlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, bytes, .. } = self;
        write!(f, "ProvenBlock({index}, {} bytes)", bytes.len())
    }
}

/// What one node encrypted: public, and uniform to everybody who does not have its key.
///
/// In memory two words a coordinate, so that adding is one vectorised pass; [`Ciphertext::to_bytes`] packs them.
#[derive(Clone, PartialEq, Eq)]
pub struct Ciphertext(pub(crate) Blocks);

impl Ciphertext {
    /// Coordinates.
    pub fn dimension(&self) -> Dimension {
        self.0.dimension
    }

    /// Packed form: ten bytes for each coefficient of each block, [`Dimension::ciphertext_bytes`] in all.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// From packed form, for the dimension that the task has.
    ///
    /// # Errors
    ///
    /// [`CodecError`] for another length and for a coefficient that is not below the modulus.
    pub fn from_bytes(dimension: Dimension, bytes: &[u8]) -> Result<Self, CodecError> {
        Blocks::from_bytes("a ciphertext", dimension, bytes).map(Self)
    }

    /// Root over the blocks, which stands for the ciphertext in an [`crate::Opening`].
    pub fn root(&self) -> Root {
        self.0.root()
    }

    /// These blocks with their proofs, for an audit; nothing if there is no such block.
    pub fn prove(&self, indices: &[u32]) -> Option<Vec<ProvenBlock>> {
        self.0.prove(indices)
    }
}

impl fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Ciphertext({} coordinates)",
            self.0.dimension.coordinates()
        )
    }
}

impl SecretKey {
    /// Encrypt field elements, `values: [d]`, for a round: `a_b * s + e + DELTA * m` for each block `b`, also for
    /// those that hold zeros only. The key is used up. `rng` as for [`SecretKey::random`]; it gives the errors.
    ///
    /// # Errors
    ///
    /// [`EncryptError`] if the vector is empty or too long, or a value is not below [`FIELD`].
    pub fn encrypt(
        self,
        round: Round,
        values: &[u64],
        rng: &mut impl CryptoRng,
    ) -> Result<Ciphertext, EncryptError> {
        let dimension = Dimension::new(values.len())?;
        if let Some(place) = values.iter().position(|value| *value >= FIELD) {
            return Err(EncryptError::NotCanonical(place));
        }
        let mut key: Zeroizing<Vec<u64>> = self.coefficients;
        ring::forward(&mut key);
        let mut residues = Vec::with_capacity(dimension.blocks() as usize * RESIDUES);
        let rows = values.chunks(N).chain(std::iter::repeat(&[][..]));
        for (block, values) in (0..dimension.blocks()).zip(rows) {
            let mut element = round.mask(block);
            ring::forward(&mut element);
            ring::multiply(&mut element, &key);
            ring::backward(&mut element);
            let errors = ring::errors(|bytes| rng.fill_bytes(bytes));
            ring::add_message(&mut element, values, &errors);
            residues.extend_from_slice(&element);
        }
        Ok(Ciphertext(Blocks {
            dimension,
            residues,
        }))
    }
}
