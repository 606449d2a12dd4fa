//! What the aggregation node publishes of a finished round, so that anybody can repeat it.

use std::sync::Arc;

use defim_aggregation::repeat::Added;
use defim_he::audit::Evidence;
use defim_ledger::{merkle, report_path};
use defim_protocol::{
    CommitteeIndex, NodeId, ReportId, RoundNumber, SignedText, TaskId, VerifiedManifest,
    record::VerifiedRecord,
};

use super::aggregation::AggregationNode;
use crate::failure::{Failure, Outcome};

/// The signed record.
pub const RECORD: &str = "record";
/// The sum of keys that opened the total.
pub const KEY: &str = "key";
/// The optimiser's state before the round.
pub const OPTIMISER: &str = "optimiser";
/// For how many rounds after its own a record is kept.
pub const RECORD_ROUNDS: u64 = 1000;
/// For how many rounds after their own ciphertexts, keys and states are kept.
pub const LARGE_ROUNDS: u64 = 8;

/// The name of a full node's ciphertext.
pub fn ciphertext(node: &NodeId) -> String {
    format!("ciphertext.{node}")
}

/// The name of the accepted reports of a committee: their ids, 16 bytes each, ascending.
pub fn ids(committee: CommitteeIndex) -> String {
    format!("ids.{committee}")
}

/// The last round that blocks were asked of: several light nodes ask for one after the other.
pub type Published = Option<(TaskId, RoundNumber, Arc<Added>)>;

impl AggregationNode {
    /// Something public of a finished round; nothing if there is none or it is not kept any longer.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails.
    pub async fn artefact(
        &self,
        task: TaskId,
        round: RoundNumber,
        name: &str,
    ) -> Outcome<Option<Vec<u8>>> {
        Ok(self.store().artefact(task.0, round, name).await?)
    }

    /// Where a report stands in the batch of its committee in a finished round, for its receipt. Nothing if it is not counted
    /// there, or the round's ids are not kept any longer.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails, or holds what is no record.
    pub async fn report_path(
        &self,
        task: &VerifiedManifest,
        round: RoundNumber,
        report: &ReportId,
    ) -> Outcome<Option<(CommitteeIndex, merkle::Path)>> {
        let Some(record) = self.record(task, round).await? else {
            return Ok(None);
        };
        let committee = task.committee_of(record.opened(), report).index();
        let Some(bytes) = self.artefact(task.task(), round, &ids(committee)).await? else {
            return Ok(None);
        };
        let (sorted, _) = bytes.as_chunks();
        let sorted: Vec<_> = sorted.iter().map(|id| ReportId(*id)).collect();
        Ok(report_path(&sorted, report).map(|path| (committee, path)))
    }

    /// The record of a finished round, if it is still kept.
    async fn record(
        &self,
        task: &VerifiedManifest,
        round: RoundNumber,
    ) -> Outcome<Option<VerifiedRecord>> {
        let damaged =
            |why: String| Failure::Integrity(format!("the store's record of round {round}: {why}"));
        let Some(record) = self.artefact(task.task(), round, RECORD).await? else {
            return Ok(None);
        };
        let signed: SignedText =
            serde_json::from_slice(&record).map_err(|e| damaged(e.to_string()))?;
        let record = VerifiedRecord::verify(signed, task, round);
        record.map(Some).map_err(|e| damaged(e.to_string()))
    }

    /// One block of each ciphertext of a finished round and of their sum, proven.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails, or holds what is no record.
    pub async fn block(
        &self,
        task: &VerifiedManifest,
        round: RoundNumber,
        block: u32,
    ) -> Outcome<Option<Evidence>> {
        let id = task.task();
        let mut published = self.published().lock().await;
        let held = published.as_ref().filter(|p| (p.0, p.1) == (id, round));
        let added = match held {
            Some((.., added)) => added.clone(),
            None => {
                let Some(added) = self.add_again(task, round).await? else {
                    return Ok(None);
                };
                let added = Arc::new(added);
                *published = Some((id, round, added.clone()));
                added
            }
        };
        drop(published);
        Ok(tokio::task::block_in_place(|| added.prove(block)))
    }

    async fn add_again(
        &self,
        task: &VerifiedManifest,
        round: RoundNumber,
    ) -> Outcome<Option<Added>> {
        let id = task.task();
        let damaged =
            |why: String| Failure::Integrity(format!("the store's record of round {round}: {why}"));
        let Some(record) = self.record(task, round).await? else {
            return Ok(None);
        };
        let mut ciphertexts = Vec::new();
        for (node, _) in record.ciphertexts() {
            match self.artefact(id, round, &ciphertext(node)).await? {
                Some(bytes) => ciphertexts.push(bytes),
                None => return Ok(None),
            }
        }
        let added = tokio::task::block_in_place(|| Added::new(task, &record, &ciphertexts));
        Ok(Some(added.map_err(|e| damaged(e.to_string()))?))
    }
}
