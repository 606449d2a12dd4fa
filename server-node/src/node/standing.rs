//! What the ledger's clerk asks of the aggregation node's store and machines.

use defim_aggregation::{
    coordinator::Input,
    repeat::{Artefacts, repeat},
};
use defim_protocol::{
    Digest, RoundNumber, SignedText, TaskId, VerifiedManifest, record::VerifiedRecord,
};

use super::{
    aggregation::AggregationNode,
    artefact::{self, KEY, OPTIMISER, RECORD},
    run::Run,
};
use crate::{
    clock,
    failure::{Failure, Outcome},
    ledger::clerk::{Ended, Here},
};

fn damaged(why: impl std::fmt::Display) -> Failure {
    Failure::Integrity(format!("the store cannot be used: {why}"))
}

impl AggregationNode {
    /// The rounds of a task, as this node has them.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails.
    pub async fn rounds_here(&self, task: TaskId) -> Outcome<Here> {
        let newest = self.store().current_round(task.0).await?;
        Ok(Here {
            newest: newest.map_or(0, |round| round.round),
        })
    }

    /// The signed opening of a round.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails.
    pub async fn opening_of(
        &self,
        task: TaskId,
        round: RoundNumber,
    ) -> Outcome<Option<SignedText>> {
        let stored = self.store().round(task.0, round).await?;
        stored
            .map(|stored| serde_json::from_slice(&stored.signed).map_err(damaged))
            .transpose()
    }

    /// How a round has ended here, if it has.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails.
    pub async fn ended_here(&self, task: TaskId, round: RoundNumber) -> Outcome<Option<Ended>> {
        let history = self.store().history(task.0, Some(round + 1), 1).await?;
        let Some(last) = history.first().filter(|last| last.round == round) else {
            return Ok(None);
        };
        if let Some(reason) = &last.void_reason {
            return Ok(Some(Ended::Voided(reason.clone())));
        }
        let record = self.artefact(task, round, RECORD).await?;
        let record =
            record.ok_or_else(|| damaged(format!("the record of round {round} is gone")))?;
        Ok(Some(Ended::Finished(
            serde_json::from_slice(&record).map_err(damaged)?,
        )))
    }

    /// Digest of the total of a finished round, which is opened again from what is kept.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails or what it holds does not fit together.
    pub async fn total_again(
        &self,
        task: &VerifiedManifest,
        record: &VerifiedRecord,
    ) -> Outcome<Digest> {
        let (id, round) = (task.task(), record.round);
        let kept = async |name: &str| {
            let bytes = self.artefact(id, round, name).await?;
            bytes.ok_or_else(|| damaged(format!("{name} of round {round} is gone")))
        };
        let mut ciphertexts = Vec::new();
        for (node, _) in record.ciphertexts() {
            ciphertexts.push(kept(&artefact::ciphertext(node)).await?);
        }
        let (key, optimiser) = (kept(KEY).await?, kept(OPTIMISER).await?);
        let model = self.model(record.before.model).await?;
        let model = model.ok_or_else(|| damaged("a model is gone"))?;
        let artefacts = Artefacts {
            ciphertexts: &ciphertexts,
            key: &key,
            model: &model,
            optimiser: &optimiser,
        };
        let repeated = tokio::task::block_in_place(|| repeat(task, record, artefacts));
        Ok(repeated.map_err(damaged)?.total.digest())
    }

    /// Keep the next round from opening, or no longer.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails.
    pub async fn hold(&self, run: &Run, hold: bool) -> Outcome {
        if run.machine().await?.is_held() != hold {
            self.handle(run, Input::Hold(hold)).await?;
        }
        Ok(())
    }

    /// Take back the model of a round that the ledger has voided.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the store fails.
    pub async fn revoke(&self, task: TaskId, run: &Run, round: RoundNumber, why: &str) -> Outcome {
        self.store()
            .revoke_round(task.0, round, why, clock::now())
            .await?;
        run.restart().await;
        self.tell_changed(task);
        Ok(())
    }
}
