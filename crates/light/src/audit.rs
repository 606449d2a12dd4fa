//! Checking a finished round with little: some random blocks of its encrypted sum are added up again.
//!
//! What is checked is the record that was given. That it is the one that counts, only the ledger says ([`Audit::record`]).

use defim_he::{
    NodeId, Opening, Root, Round,
    audit::{AuditError, Claim, Evidence, Fraud, FraudProof, draw},
    params::Dimension,
};
use defim_protocol::{Digest, RoundNumber, SignedText, record::VerifiedRecord};

use crate::{JoinedTask, LightError};

/// Blocks that are drawn by default.
pub const AUDIT_BLOCKS: usize = 3;

/// An audit of one finished round.
#[derive(Debug)]
pub struct Audit {
    record: VerifiedRecord,
    opening: Opening,
    dimension: Dimension,
    blocks: Vec<u32>,
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The block is the sum of the ciphertexts' blocks.
    Right,
    /// It is not: anybody who has the record can check the proof.
    Wrong {
        /// What is wrong.
        fraud: Fraud,
        /// The proof.
        proof: FraudProof,
    },
}

impl Audit {
    /// Begin: check the record's signatures, and draw up to `count` blocks by a seed that nobody else knows.
    ///
    /// # Errors
    ///
    /// [`LightError::Record`] if the record is not this round's or breaks a rule, [`LightError::DroppedCiphertext`] if
    /// other ciphertexts were opened than those of its full nodes.
    pub fn begin(
        task: &JoinedTask,
        round: RoundNumber,
        record: SignedText,
        seed: &[u8; 32],
        count: usize,
    ) -> Result<Self, LightError> {
        let record = VerifiedRecord::verify(record, task.manifest(), round)?;
        let dimension = Dimension::new(task.manifest().vdaf.coordinates())
            .map_err(|e| LightError::Spec(e.to_string()))?;
        let set = record.opened_set();
        let opening = set.and_then(|bytes| Opening::from_bytes(&bytes).ok());
        let of = Round {
            task: record.task.0,
            number: round,
        };
        let named = record.ciphertexts().iter();
        let named = named.map(|(node, root)| (NodeId(node.0), Root(root.0)));
        let opening = opening.filter(|opening| opening.is_of(of, named));
        let opening = opening.ok_or(LightError::DroppedCiphertext { round })?;
        let blocks = draw(seed, dimension, count);
        Ok(Self {
            record,
            opening,
            dimension,
            blocks,
        })
    }

    /// The blocks to fetch.
    pub fn blocks(&self) -> &[u32] {
        &self.blocks
    }

    /// Blocks that a ciphertext of this task has.
    pub fn of_blocks(&self) -> u32 {
        self.dimension.blocks()
    }

    /// Full nodes whose ciphertexts were added.
    pub fn parties(&self) -> usize {
        self.record.ciphertexts().len()
    }

    /// Digest of the round's record.
    pub fn record(&self) -> Digest {
        self.record.digest()
    }

    /// Judge one block as it was served.
    ///
    /// # Errors
    ///
    /// [`LightError::Evidence`] if what was served is not that block of this round, which proves nothing.
    pub fn judge(&self, block: u32, served: &[u8]) -> Result<Verdict, LightError> {
        let unusable = |why: String| LightError::Evidence { block, why };
        let evidence = Evidence::from_bytes(served).map_err(|e| unusable(e.to_string()))?;
        if evidence.sum.index != block {
            return Err(unusable(format!("block {} was served", evidence.sum.index)));
        }
        let claim = self.claim();
        let proof = evidence.judge(&claim);
        match proof.map_err(|e| unusable(e.to_string()))? {
            None => Ok(Verdict::Right),
            Some(proof) => {
                let fraud = proof.verify(&claim).map_err(|e| unusable(e.to_string()))?;
                Ok(Verdict::Wrong { fraud, proof })
            }
        }
    }

    /// Check somebody else's proof that the round's sum is wrong.
    ///
    /// # Errors
    ///
    /// [`AuditError`] if it proves nothing.
    pub fn check(&self, proof: &FraudProof) -> Result<Fraud, AuditError> {
        proof.verify(&self.claim())
    }

    fn claim(&self) -> Claim<'_> {
        Claim {
            opening: &self.opening,
            dimension: self.dimension,
            sum: Root(self.record.sum.0),
        }
    }
}
