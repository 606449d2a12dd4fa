//! Everything that shows a lie of an aggregation node: one file that anybody can check by themselves.

use defim_aggregation::repeat::{Artefacts, Fault, RepeatError, repeat};
use defim_ledger::Digest;
use defim_protocol::{
    SignedText, VerifiedManifest,
    record::{RoundRecord, VerifiedRecord},
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;

/// Why bytes show nothing of anybody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this shows nothing: {0}")]
pub struct NoEvidence(String);

/// A task, a round's signed record, and the bytes that the record names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// The signed manifest.
    pub manifest: SignedText,
    /// The signed record.
    pub record: SignedText,
    /// The ciphertexts, ascending by node.
    pub ciphertexts: Vec<ByteBuf>,
    /// The opened key.
    pub key: ByteBuf,
    /// The model before the round.
    pub model: ByteBuf,
    /// The optimiser's state before the round.
    pub optimiser: ByteBuf,
}

impl Evidence {
    /// The bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Safe: writing texts and bytes into memory cannot fail.
        postcard::to_allocvec(self).unwrap_or_default()
    }

    /// From their bytes.
    ///
    /// # Errors
    ///
    /// [`NoEvidence`] if they are none.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NoEvidence> {
        postcard::from_bytes(bytes).map_err(|e| NoEvidence(e.to_string()))
    }

    /// What names it.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// Repeat the round. What is wrong with it, if anything is.
    ///
    /// # Errors
    ///
    /// [`NoEvidence`] if the parts do not belong together, which shows nothing of anybody.
    pub fn check(&self) -> Result<Option<Fault>, NoEvidence> {
        let nothing = NoEvidence;
        let task = VerifiedManifest::verify(self.manifest.clone(), None)
            .map_err(|e| nothing(e.to_string()))?;
        let read: RoundRecord =
            serde_json::from_str(&self.record.payload).map_err(|e| nothing(e.to_string()))?;
        let record = VerifiedRecord::verify(self.record.clone(), &task, read.round)
            .map_err(|e| nothing(e.to_string()))?;
        let ciphertexts: Vec<Vec<u8>> = self.ciphertexts.iter().map(|c| c.to_vec()).collect();
        let artefacts = Artefacts {
            ciphertexts: &ciphertexts,
            key: &self.key,
            model: &self.model,
            optimiser: &self.optimiser,
        };
        match repeat(&task, &record, artefacts) {
            Ok(_) => Ok(None),
            Err(RepeatError::Fault(fault)) => Ok(Some(fault)),
            Err(RepeatError::Unusable(why)) => Err(nothing(why.to_string())),
        }
    }
}
