//! The aggregation node's side: models and results.

use sqlx::Row as _;

use crate::{
    DigestKey, StoreError, TaskKey, WorkStore,
    row::{bytes, number, signed, text},
};

/// A round that ended with a model.
#[derive(Debug, Clone)]
pub struct CompletedRound {
    /// Its task.
    pub task: TaskKey,
    /// Its number.
    pub round: u64,
    /// Digest of the new model.
    pub model: DigestKey,
    /// The new model.
    pub model_bytes: Vec<u8>,
    /// The optimiser's state.
    pub optimiser: Vec<u8>,
    /// Metrics, JSON.
    pub metrics: String,
    /// Reports counted.
    pub reports: u64,
    /// Refused reports by reason, JSON.
    pub rejected: String,
    /// Their private votes, JSON.
    pub votes: Option<String>,
    /// When, milliseconds.
    pub finished: u64,
    /// Selections that full nodes were asked to encrypt in it.
    pub spent: u64,
    /// What is public of it.
    pub artefacts: Vec<Artefact>,
}

/// Something public of a finished round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// Its name in the round.
    pub name: String,
    /// For how many rounds after its own it is kept.
    pub rounds: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

/// How a round ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoundRecord {
    /// Its number.
    pub round: u64,
    /// Digest of the model it gave; `None` if it was voided.
    pub model: Option<DigestKey>,
    /// Metrics, JSON.
    pub metrics: Option<String>,
    /// Reports counted.
    pub reports: u64,
    /// Refused reports by reason, JSON.
    pub rejected: String,
    /// Their private votes, JSON; kept of a round whose model was taken back.
    pub votes: Option<String>,
    /// Why it was voided.
    pub void_reason: Option<String>,
    /// When, milliseconds.
    pub finished: u64,
}

impl WorkStore {
    /// Store a model; storing it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_model(&self, digest: DigestKey, model: &[u8]) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO model VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(digest.as_slice())
            .bind(model)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The model with this digest.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn model(&self, digest: DigestKey) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query("SELECT bytes FROM model WHERE digest = ?")
            .bind(digest.as_slice())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| bytes(&row, "bytes")).transpose()
    }

    /// End a round with its model and drop the encrypted sums it was made of, and the artefacts of earlier rounds that
    /// are not kept any longer.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is changed then.
    pub async fn complete_round(&self, round: CompletedRound) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("INSERT INTO model VALUES (?, ?) ON CONFLICT DO NOTHING")
            .bind(round.model.as_slice())
            .bind(round.model_bytes)
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT INTO result (task, round, model, optimiser, metrics, reports, rejected, finished, opened, votes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)")
            .bind(round.task.as_slice())
            .bind(signed(round.round)?)
            .bind(round.model.as_slice())
            .bind(round.optimiser)
            .bind(round.metrics)
            .bind(signed(round.reports)?)
            .bind(round.rejected)
            .bind(signed(round.finished)?)
            .bind(signed(round.spent)?)
            .bind(round.votes)
            .execute(&mut *tx)
            .await?;
        sqlx::query("DELETE FROM artefact WHERE task = ? AND last < ?")
            .bind(round.task.as_slice())
            .bind(signed(round.round)?)
            .execute(&mut *tx)
            .await?;
        for artefact in round.artefacts {
            let last = signed(round.round.saturating_add(artefact.rounds))?;
            sqlx::query(
                "INSERT INTO artefact (task, round, name, last, bytes) VALUES (?, ?, ?, ?, ?)",
            )
            .bind(round.task.as_slice())
            .bind(signed(round.round)?)
            .bind(artefact.name)
            .bind(last)
            .bind(artefact.bytes)
            .execute(&mut *tx)
            .await?;
        }
        finish(&mut tx, &round.task, round.round, 1).await?;
        Ok(tx.commit().await?)
    }

    /// Something public of a finished round, if it is still kept.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn artefact(
        &self,
        task: TaskKey,
        round: u64,
        name: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let row =
            sqlx::query("SELECT bytes FROM artefact WHERE task = ? AND round = ? AND name = ?")
                .bind(task.as_slice())
                .bind(signed(round)?)
                .bind(name)
                .fetch_optional(&self.pool)
                .await?;
        row.map(|row| bytes(&row, "bytes")).transpose()
    }

    /// End a round without a model and drop its encrypted sums. `spent`: the selections that full nodes were asked to
    /// encrypt in it.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is changed then.
    pub async fn void_aggregation_round(
        &self,
        task: TaskKey,
        round: u64,
        reason: &str,
        spent: u64,
        now: u64,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("INSERT INTO result (task, round, reports, rejected, void_reason, opened, finished) VALUES (?, ?, 0, '{}', ?, ?, ?)")
            .bind(task.as_slice())
            .bind(signed(round)?)
            .bind(reason)
            .bind(signed(spent)?)
            .bind(signed(now)?)
            .execute(&mut *tx)
            .await?;
        finish(&mut tx, &task, round, 2).await?;
        Ok(tx.commit().await?)
    }

    /// Take back the model of a finished round: it is void, though its total was opened.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is changed then.
    pub async fn revoke_round(
        &self,
        task: TaskKey,
        round: u64,
        reason: &str,
        now: u64,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE result SET model = NULL, optimiser = NULL, metrics = NULL, void_reason = ?, finished = ? WHERE task = ? AND round = ?")
            .bind(reason)
            .bind(signed(now)?)
            .bind(task.as_slice())
            .bind(signed(round)?)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// How many of the task's rounds ended with a model.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn rounds_done(&self, task: TaskKey) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT count(*) AS count FROM result WHERE task = ? AND model IS NOT NULL",
        )
        .bind(task.as_slice())
        .fetch_one(&self.pool)
        .await?;
        number(&row, "count")
    }

    /// How many selections full nodes were asked to encrypt in the task's ended rounds: what has cost privacy.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn selections_asked(&self, task: TaskKey) -> Result<u64, StoreError> {
        // The column was one of rounds whose total was opened, and now says how often it may have been.
        let row = sqlx::query("SELECT coalesce(sum(opened), 0) AS sum FROM result WHERE task = ?")
            .bind(task.as_slice())
            .fetch_one(&self.pool)
            .await?;
        number(&row, "sum")
    }

    /// How many reports all of the task's rounds have counted.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn reports_counted(&self, task: TaskKey) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT coalesce(sum(reports), 0) AS sum FROM result WHERE task = ?")
            .bind(task.as_slice())
            .fetch_one(&self.pool)
            .await?;
        number(&row, "sum")
    }

    /// How the task's rounds ended, in order: the last `limit` of those before round `before`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn history(
        &self,
        task: TaskKey,
        before: Option<u64>,
        limit: u64,
    ) -> Result<Vec<RoundRecord>, StoreError> {
        let before = before.unwrap_or(i64::MAX as u64).min(i64::MAX as u64);
        let rows = sqlx::query("SELECT round, model, metrics, reports, rejected, votes, void_reason, finished FROM result WHERE task = ? AND round < ? ORDER BY round DESC LIMIT ?")
            .bind(task.as_slice())
            .bind(signed(before)?)
            .bind(signed(limit)?)
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .rev()
            .map(|row| {
                let model: Option<Vec<u8>> = row.try_get("model")?;
                Ok(RoundRecord {
                    round: number(row, "round")?,
                    model: model
                        .map(|bytes| {
                            bytes
                                .try_into()
                                .map_err(|_| StoreError::Damaged("a digest has the wrong length"))
                        })
                        .transpose()?,
                    metrics: row.try_get("metrics")?,
                    reports: number(row, "reports")?,
                    rejected: text(row, "rejected")?,
                    votes: row.try_get("votes")?,
                    void_reason: row.try_get("void_reason")?,
                    finished: number(row, "finished")?,
                })
            })
            .collect()
    }

    /// The task's current model and optimiser state.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn latest_model(
        &self,
        task: TaskKey,
    ) -> Result<Option<(Vec<u8>, Vec<u8>)>, StoreError> {
        let row = sqlx::query(
            "SELECT bytes, optimiser FROM result JOIN model ON model = digest WHERE task = ? ORDER BY round DESC LIMIT 1",
        )
        .bind(task.as_slice())
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| Ok((bytes(&row, "bytes")?, bytes(&row, "optimiser")?)))
            .transpose()
    }
}

async fn finish(
    tx: &mut sqlx::Transaction<'static, sqlx::Sqlite>,
    task: &TaskKey,
    round: u64,
    state: i64,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM encrypted_sum WHERE task = ? AND round = ?")
        .bind(task.as_slice())
        .bind(signed(round)?)
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM statement WHERE task = ? AND round = ?")
        .bind(task.as_slice())
        .bind(signed(round)?)
        .execute(&mut **tx)
        .await?;
    sqlx::query("UPDATE round SET state = ? WHERE task = ? AND round = ?")
        .bind(state)
        .bind(task.as_slice())
        .bind(signed(round)?)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
