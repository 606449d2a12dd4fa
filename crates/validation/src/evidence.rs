//! The bytes of a round: what a validation node fetches to judge it, and what shows a lie of those who signed it, as one file
//! that anybody can check by themselves.

use defim_aggregation::repeat::{
    Artefacts, Fault, RepeatError, Repeated, Unusable, check_ids, repeat,
};
use defim_ledger::Digest;
use defim_protocol::{
    ReportId, SignedText, VerifiedManifest,
    batch::BatchSummary,
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
    /// The ids of the accepted reports of each selected batch, 16 bytes each, in the order of the committees.
    pub ids: Vec<ByteBuf>,
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

    /// The selected batches with the ids of their reports, as they are served.
    pub(crate) fn batches<'a>(
        &self,
        record: &'a VerifiedRecord,
    ) -> Result<Vec<(&'a BatchSummary, Vec<ReportId>)>, Unusable> {
        let batches = record.selection().batches();
        let unusable = || Unusable::Other("list of report ids");
        if batches.len() != self.ids.len() {
            return Err(unusable());
        }
        let read = |bytes: &ByteBuf| match bytes.as_chunks() {
            (ids, []) => Ok(ids.iter().map(|id| ReportId(*id)).collect()),
            _ => Err(unusable()),
        };
        let batches = batches.values().zip(&self.ids);
        batches
            .map(|(batch, ids)| Ok((batch.summary(), read(ids)?)))
            .collect()
    }

    /// Check the batches' reports, and repeat the round's public steps.
    pub(crate) fn repeat(
        &self,
        task: &VerifiedManifest,
        record: &VerifiedRecord,
    ) -> Result<Repeated, RepeatError> {
        for (summary, ids) in self.batches(record)? {
            check_ids(task, record.opened(), summary, &ids)?;
        }
        let ciphertexts: Vec<Vec<u8>> = self.ciphertexts.iter().map(|c| c.to_vec()).collect();
        let artefacts = Artefacts {
            ciphertexts: &ciphertexts,
            key: &self.key,
            model: &self.model,
            optimiser: &self.optimiser,
        };
        repeat(task, record, artefacts)
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
        match self.repeat(&task, &record) {
            Ok(_) => Ok(None),
            Err(RepeatError::Fault(fault)) => Ok(Some(fault)),
            Err(RepeatError::Unusable(why)) => Err(nothing(why.to_string())),
        }
    }
}
