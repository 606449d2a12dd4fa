//! Fetching what a validation node needs to judge a proposed round.

use std::collections::BTreeSet;

use defim_learn::LearningSpec;
use defim_ledger::{NodeId, Round, RoundNumber, Task, TaskId};
use defim_net::http::HttpClient;
use defim_protocol::{
    SignedText, limits,
    record::RoundRecord,
    sum::{EncryptedSum, Selection},
};
use defim_validation::{
    evidence::Evidence,
    judge::{Judged, Known, judge},
};
use serde_bytes::ByteBuf;

use crate::{
    failure::{Failure, Outcome},
    http::TaskView,
    node::{aggregation::builtin_rows, artefact},
};

/// Where the bytes of a round are fetched.
pub struct Source<'a> {
    /// The client.
    pub http: &'a HttpClient,
    /// Base address of the aggregation node's HTTP side.
    pub base: &'a str,
}

impl Source<'_> {
    async fn bytes(&self, path: &str) -> Outcome<ByteBuf> {
        let url = format!("{}/api/v1{path}", self.base);
        let most = limits::MODEL_BYTES;
        let got = self.http.get_bytes(&url, most).await;
        got.map(ByteBuf::from)
            .map_err(|e| Failure::Unreachable(e.to_string()))
    }

    async fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Outcome<T> {
        let url = format!("{}/api/v1{path}", self.base);
        let got = self.http.get_json(&url).await;
        got.map_err(|e| Failure::Unreachable(e.to_string()))
    }

    /// Everything of a round. Nothing is believed here; [`judge`] checks it.
    async fn fetch(&self, id: TaskId, round: u64) -> Outcome<Evidence> {
        let view: TaskView = self.json(&format!("/tasks/{id}")).await?;
        let base = format!("/tasks/{id}/rounds/{round}");
        let signed: SignedText = self.json(&format!("{base}/record")).await?;
        let unreadable =
            |e: serde_json::Error| Failure::Unreachable(format!("a round's record: {e}"));
        let record: RoundRecord = serde_json::from_str(&signed.payload).map_err(unreadable)?;
        let selection: Selection =
            serde_json::from_str(&record.selection.payload).map_err(unreadable)?;
        let mut ids = Vec::new();
        for committee in selection.batches.keys() {
            let name = artefact::ids(*committee);
            ids.push(self.bytes(&format!("{base}/artefacts/{name}")).await?);
        }
        let mut ciphertexts = Vec::new();
        for statement in &record.sums {
            // That it is well formed is all that is asked here.
            let _: EncryptedSum = serde_json::from_str(&statement.payload).map_err(unreadable)?;
            let name = artefact::ciphertext(&statement.signer);
            ciphertexts.push(self.bytes(&format!("{base}/artefacts/{name}")).await?);
        }
        Ok(Evidence {
            manifest: view.signed,
            ids,
            ciphertexts,
            key: self
                .bytes(&format!("{base}/artefacts/{}", artefact::KEY))
                .await?,
            optimiser: self
                .bytes(&format!("{base}/artefacts/{}", artefact::OPTIMISER))
                .await?,
            model: self
                .bytes(&format!("/models/{}", record.before.model))
                .await?,
            record: signed,
        })
    }

    /// Fetch a proposed round, and judge it.
    ///
    /// # Errors
    ///
    /// [`Failure::Unreachable`] if its bytes cannot be had now; they are asked for again.
    pub async fn judge(
        &self,
        id: TaskId,
        number: RoundNumber,
        task: &Task,
        round: &Round,
        enrolled: &BTreeSet<NodeId>,
    ) -> Outcome<Judged> {
        let fetched = self.fetch(id, number).await?;
        let judged = tokio::task::block_in_place(|| {
            let holdout = holdout(&fetched);
            let known = Known {
                task,
                round,
                enrolled,
                holdout: holdout.as_ref(),
            };
            judge(known, &fetched)
        });
        judged.map_err(|e| Failure::Unreachable(e.to_string()))
    }
}

/// The rows that this node judges models by: those that no sample has of a built-in task with this schema.
fn holdout(fetched: &Evidence) -> Option<defim_learn::Features> {
    let manifest: defim_protocol::Manifest =
        serde_json::from_str(&fetched.manifest.payload).ok()?;
    let spec: LearningSpec = serde_json::from_str(manifest.learning.get()).ok()?;
    let (_, rows) = builtin_rows(&spec)?;
    Some(rows.features(&spec.schema))
}
