//! Encrypting this node's sums, and answering for the keys of others.

use std::{collections::BTreeMap, sync::Arc};

use defim_full::{
    LastEncrypted, holder,
    sum::{Before, StoredSum, encrypt},
};
use defim_protocol::{
    Digest, TaskId, VerifiedRound,
    sum::VerifiedSelection,
    wire::{self, OpenSum, Response, SelectedBatches},
};
use defim_store::EncryptedLast;

use super::full::{FullNode, Served};
use crate::failure::{Failure, Outcome};

/// The open round, if the question is about it. To be asked with [`Served::opening`] held.
fn open_at(served: &Served, selected: &SelectedBatches) -> Result<VerifiedRound, Response> {
    match served.round() {
        Some(round) if round.round == selected.round => Ok(round),
        Some(round) if round.round > selected.round => Err(Response::Refused(format!(
            "round {} is over",
            selected.round
        ))),
        _ => Err(Response::Later(format!(
            "round {} is not open here",
            selected.round
        ))),
    }
}

impl FullNode {
    fn asked(&self, task: &TaskId) -> Result<Arc<Served>, Response> {
        let served = self.served(task);
        served.ok_or_else(|| Response::Refused("unknown task".into()))
    }

    /// Encrypt this node's sum over the selected batches.
    pub(super) async fn encrypt(&self, selected: SelectedBatches) -> Outcome<Response> {
        let served = match self.asked(&selected.task) {
            Ok(served) => served,
            Err(response) => return Ok(response),
        };
        // Before the round is looked at: a question that waited here must not be answered for a round that has ended since.
        let _one_at_a_time = served.opening.lock().await;
        let round = match open_at(&served, &selected) {
            Ok(round) => round,
            Err(response) => return Ok(response),
        };
        let task = &served.manifest;
        let SelectedBatches {
            selection,
            signatures,
            ..
        } = selected;
        let selection = match VerifiedSelection::verify(task, round.round, selection, signatures) {
            Ok(selection) => selection,
            Err(error) => return Ok(Response::Refused(error.to_string())),
        };
        let mut sums = BTreeMap::new();
        for batch in self.inner.store.batches(task.task().0, round.round).await? {
            let sum = StoredSum {
                batch: Digest::of(&batch.summary),
                share: batch.aggregate_share,
            };
            sums.insert(batch.committee, sum);
        }
        let (secrets, store) = (&self.inner.secrets, &self.inner.store);
        let (id, number) = (task.task().0, round.round);
        let last = store.encrypted(id, number).await?;
        let opened = store.answered(id, number).await?;
        if let Some(EncryptedLast { record, submission }) = &last
            && LastEncrypted::is_of(record, &selection)
            && let Some(submission) = submission
        {
            let again = wire::decode(submission).map_err(|e| Failure::Integrity(e.to_string()))?;
            return Ok(Response::Encrypted(Box::new(again)));
        }
        let before = Before {
            encrypted: last.as_ref().map(|last| last.record.as_slice()),
            opened: opened.as_deref(),
            spent: store.selections_spent(id).await?,
        };
        let encrypted = tokio::task::block_in_place(|| {
            encrypt(task, &selection, secrets, &sums, before, &mut rand::rng())
        });
        Ok(match encrypted {
            Ok(done) => {
                // Before it leaves the node: it opens this selection and no other one, and this is its only ciphertext.
                let submission = done.submission;
                let bytes = wire::encode(&submission).map_err(|e| Failure::Other(e.to_string()))?;
                store
                    .put_encrypted(id, number, &done.record, &bytes)
                    .await?;
                tracing::info!(
                    node = self.name(),
                    task = task.name,
                    round = round.round,
                    batches = selection.batches().len(),
                    reports = selection.accepted(),
                    bytes = submission.ciphertext.len(),
                    "sum encrypted"
                );
                Response::Encrypted(Box::new(submission))
            }
            Err(error) => Response::Refused(error.to_string()),
        })
    }

    /// Answer an opening, once a round.
    pub(super) async fn open_sum(&self, question: OpenSum) -> Outcome<Response> {
        let served = match self.asked(&question.selected.task) {
            Ok(served) => served,
            Err(response) => return Ok(response),
        };
        let _one_at_a_time = served.opening.lock().await;
        let round = match open_at(&served, &question.selected) {
            Ok(round) => round,
            Err(response) => return Ok(response),
        };
        let task = &served.manifest;
        let (id, number) = (task.task().0, round.round);
        let store = &self.inner.store;
        let opened = store.answered(id, number).await?;
        let encrypted = store.encrypted(id, number).await?;
        let spent = store.selections_spent(id).await?;
        let secrets = &self.inner.secrets;
        let answer = tokio::task::block_in_place(|| {
            let before = Before {
                encrypted: encrypted.as_ref().map(|last| last.record.as_slice()),
                opened: opened.as_deref(),
                spent,
            };
            holder::answer(task, number, secrets, before, &question)
        });
        Ok(match answer {
            Ok(answer) => {
                // Before it leaves the node: a second set would show a part of the first.
                store.put_answered(id, number, &answer.record).await?;
                tracing::info!(
                    node = self.name(),
                    task = task.name,
                    round = number,
                    "key shares answered for"
                );
                Response::SumShare(answer.share)
            }
            Err(error) => {
                tracing::warn!(node = self.name(), task = task.name, round = number, %error, "an opening is refused");
                Response::Refused(error.to_string())
            }
        })
    }
}
