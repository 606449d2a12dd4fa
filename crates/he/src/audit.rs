//! Repeating a few blocks of a sum, and showing everybody that one is wrong.
//!
//! Full auditors add up everything. A light node draws random blocks, fetches those of all ciphertexts and
//! of the sum, each proven to belong to its root, and adds only them. A sum with a share `f` of wrong blocks
//! passes `k` draws with probability `(1 - f)^k`, and there are many light nodes.

use sha3::digest::{ExtendableOutput as _, Update as _, XofReader as _};
use sha3::{TurboShake128, TurboShake128Core};

use crate::ciphertext::{ProvenBlock, Root};
use crate::codec::{CodecError, Reader};
use crate::key;
use crate::opening::{NodeId, Opening};
use crate::params::Dimension;
use crate::ring;

/// Domain byte of the stream that draws blocks; other than that of the masks.
const DOMAIN_BYTE: u8 = 0x61;

/// Up to `count` different blocks, in order, drawn by a seed that the aggregation node did not know when it published
/// the sum.
pub fn draw(seed: &[u8; 32], dimension: Dimension, count: usize) -> Vec<u32> {
    let mut xof = TurboShake128::from_core(TurboShake128Core::new(DOMAIN_BYTE));
    xof.update(b"defim he v1 audit\0");
    xof.update(seed);
    let mut stream = xof.finalize_xof();
    let mut left: Vec<u32> = (0..dimension.blocks()).collect();
    let mut drawn = Vec::new();
    while drawn.len() < count && !left.is_empty() {
        let mut bytes = [0; 8];
        stream.read(&mut bytes);
        // 2^64 over at most 2^15 blocks: no block is likelier than another by more than 2^-49.
        let place = (u64::from_le_bytes(bytes) % left.len() as u64) as usize;
        drawn.push(left.swap_remove(place));
    }
    drawn.sort_unstable();
    drawn
}

/// What the aggregation node claims: that this is the sum of the opening's ciphertexts.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The signed set, with the roots of its ciphertexts.
    pub opening: &'a Opening,
    /// The task's dimension.
    pub dimension: Dimension,
    /// Root of the published sum.
    pub sum: Root,
}

/// One block of everything: of each ciphertext in the order of the opening's members, and of the sum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// A block of each ciphertext.
    pub parts: Vec<ProvenBlock>,
    /// The same block of the sum.
    pub sum: ProvenBlock,
}

/// What was served is no evidence of anything. Ask somebody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// Not a block for each member.
    #[error("there are blocks of {found} ciphertexts where the set has {expected}")]
    Parts {
        /// Members of the set.
        expected: usize,
        /// Blocks that are there.
        found: usize,
    },
    /// Different blocks.
    #[error("the block of node {0} is another one than that of the sum")]
    OtherBlock(NodeId),
    /// The block is not of the ciphertext.
    #[error("the block of node {0} does not belong to the root of its ciphertext")]
    NotOfCiphertext(NodeId),
    /// The block is not of the sum.
    #[error("the sum's block does not belong to the root of the sum")]
    NotOfSum,
    /// A fraud proof of an honest sum.
    #[error("there is no fraud: the block is the sum of its parts")]
    Honest,
}

/// What is wrong with a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fraud {
    /// The set holds a ciphertext that is none, which nobody may add.
    Ciphertext(NodeId),
    /// The sum's block is not the sum of the ciphertexts'.
    Sum,
}

/// Evidence against a claim. Anybody who has the claim can check it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FraudProof(Evidence);

impl Evidence {
    /// What the evidence shows: nothing wrong, or a fraud.
    ///
    /// # Errors
    ///
    /// [`AuditError`] if it is not about the claim, which is no fault of who made the claim.
    pub fn judge(self, claim: &Claim<'_>) -> Result<Option<FraudProof>, AuditError> {
        match find(&self, claim) {
            Ok(_) => Ok(Some(FraudProof(self))),
            Err(AuditError::Honest) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

fn find(evidence: &Evidence, claim: &Claim<'_>) -> Result<Fraud, AuditError> {
    let Evidence { parts, sum } = evidence;
    let members = claim.opening.members();
    if parts.len() != members.len() {
        return Err(AuditError::Parts {
            expected: members.len(),
            found: parts.len(),
        });
    }
    if !sum.belongs_to(claim.sum, claim.dimension) {
        return Err(AuditError::NotOfSum);
    }
    for (member, part) in members.iter().zip(parts) {
        if part.index != sum.index {
            return Err(AuditError::OtherBlock(member.node));
        }
        if !part.belongs_to(member.ciphertext, claim.dimension) {
            return Err(AuditError::NotOfCiphertext(member.node));
        }
    }
    let mut total = vec![0; ring::RESIDUES];
    for (member, part) in members.iter().zip(parts) {
        match key::element("a block", &part.bytes) {
            Ok(element) => ring::add(&mut total, &element),
            Err(_) => return Ok(Fraud::Ciphertext(member.node)),
        }
    }
    match key::element("a block", &sum.bytes) {
        Ok(element) if *element == total => Err(AuditError::Honest),
        _ => Ok(Fraud::Sum),
    }
}

impl FraudProof {
    /// Check the proof against the claim.
    ///
    /// # Errors
    ///
    /// [`AuditError`] if it proves nothing: it is not about this claim, or there is no fraud.
    pub fn verify(&self, claim: &Claim<'_>) -> Result<Fraud, AuditError> {
        find(&self.0, claim)
    }

    /// The form of its evidence: [`Evidence::to_bytes`].
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes()
    }

    /// From its form. What it proves is another question: [`FraudProof::verify`].
    ///
    /// # Errors
    ///
    /// [`CodecError`] if it is not the form of a proof.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        Evidence::from_bytes(bytes).map(Self)
    }
}

impl Evidence {
    const LABEL: &[u8] = b"defim he v1 fraud\0";

    /// Label, number of parts, and each part and the sum's block: index, length, bytes, length of the path, path.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Self::LABEL.to_vec();
        // As many as members, 32 at most; lengths as they were read.
        bytes.push(self.parts.len() as u8);
        for block in self.parts.iter().chain([&self.sum]) {
            bytes.extend(block.index.to_be_bytes());
            bytes.extend((block.bytes.len() as u32).to_be_bytes());
            bytes.extend(&block.bytes);
            bytes.push(block.path.len() as u8);
            block.path.iter().for_each(|hash| bytes.extend(hash));
        }
        bytes
    }

    /// From its form. What it shows is another question: [`Evidence::judge`].
    ///
    /// # Errors
    ///
    /// [`CodecError`] if it is not the form of evidence.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new("evidence of a sum", bytes);
        reader.label(Self::LABEL)?;
        let mut parts = Vec::new();
        for _ in 0..reader.u8()? {
            parts.push(block(&mut reader)?);
        }
        let sum = block(&mut reader)?;
        reader.end()?;
        Ok(Self { parts, sum })
    }
}

fn block(reader: &mut Reader<'_>) -> Result<ProvenBlock, CodecError> {
    let index = reader.u32()?;
    let length = usize::try_from(reader.u32()?).map_err(|_| reader.form())?;
    let bytes = reader.bytes(length)?.to_vec();
    let mut path = Vec::new();
    for _ in 0..reader.u8()? {
        path.push(reader.array()?);
    }
    Ok(ProvenBlock { index, bytes, path })
}
