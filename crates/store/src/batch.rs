//! Closing a round: its batch stored, and what it was made of dropped, in one step.

use sqlx::Row as _;

use crate::{
    ReportKey, StoreError, TaskKey, WorkStore,
    row::{array, bytes, number, signed},
};

/// A batch to store.
#[derive(Clone)]
pub struct ClosedBatch {
    /// The agreed summary's text.
    pub summary: Vec<u8>,
    /// Every member's signature.
    pub signatures: Vec<u8>,
    /// This node's aggregate share.
    pub aggregate_share: Vec<u8>,
    /// The reports that are counted.
    pub report_ids: Vec<ReportKey>,
}

/// A stored batch.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// Its task.
    pub task: TaskKey,
    /// Its round.
    pub round: u64,
    /// The agreed summary's text.
    pub summary: Vec<u8>,
    /// Every member's signature.
    pub signatures: Vec<u8>,
    /// This node's aggregate share; empty once it is delivered.
    pub aggregate_share: Vec<u8>,
}

const STATE_COUNTED: i64 = 3;
const STATE_DROPPED: i64 = 4;
const ROUND_CLOSED: i64 = 1;
const ROUND_VOIDED: i64 = 2;

fn stored(row: &sqlx::sqlite::SqliteRow) -> Result<StoredBatch, StoreError> {
    Ok(StoredBatch {
        task: array(row, "task")?,
        round: number(row, "round")?,
        summary: bytes(row, "summary")?,
        signatures: bytes(row, "signatures")?,
        aggregate_share: row
            .try_get::<Option<Vec<u8>>, _>("aggregate_share")?
            .unwrap_or_default(),
    })
}

impl WorkStore {
    /// Store a batch, mark its reports as counted, drop all bodies and shares of the round.
    ///
    /// # Errors
    ///
    /// [`StoreError::MissingShare`] if a listed report is not verified here; nothing is changed then.
    pub async fn close_batch(
        &self,
        task: TaskKey,
        round: u64,
        batch: ClosedBatch,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let number = signed(round)?;
        sqlx::query("INSERT INTO batch (task, round, summary, signatures, aggregate_share) VALUES (?, ?, ?, ?, ?)")
            .bind(task.as_slice())
            .bind(number)
            .bind(batch.summary)
            .bind(batch.signatures)
            .bind(batch.aggregate_share)
            .execute(&mut *tx)
            .await?;
        for id in &batch.report_ids {
            let counted = sqlx::query(
                "UPDATE report SET state = ? WHERE task = ? AND id = ? AND round = ? AND state = 1",
            )
            .bind(STATE_COUNTED)
            .bind(task.as_slice())
            .bind(id.as_slice())
            .bind(number)
            .execute(&mut *tx)
            .await?;
            if counted.rows_affected() != 1 {
                return Err(StoreError::MissingShare);
            }
        }
        end_round(&mut tx, &task, number, ROUND_CLOSED, None).await?;
        Ok(tx.commit().await?)
    }

    /// End a round without a result; its reports are dropped, their ids stay used.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn void_round(
        &self,
        task: TaskKey,
        round: u64,
        reason: &str,
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        end_round(&mut tx, &task, signed(round)?, ROUND_VOIDED, Some(reason)).await?;
        Ok(tx.commit().await?)
    }

    /// The batch of this round.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn batch(
        &self,
        task: TaskKey,
        round: u64,
    ) -> Result<Option<StoredBatch>, StoreError> {
        let row = sqlx::query("SELECT * FROM batch WHERE task = ? AND round = ?")
            .bind(task.as_slice())
            .bind(signed(round)?)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(stored).transpose()
    }

    /// Batches whose aggregate share the aggregation node has not taken yet.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn undelivered_batches(&self) -> Result<Vec<StoredBatch>, StoreError> {
        let rows = sqlx::query("SELECT * FROM batch WHERE delivered = 0 ORDER BY rowid")
            .fetch_all(&self.pool)
            .await?;
        rows.iter().map(stored).collect()
    }

    /// The aggregation node has the share: forget it.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn mark_delivered(&self, task: TaskKey, round: u64) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE batch SET delivered = 1, aggregate_share = NULL WHERE task = ? AND round = ?",
        )
        .bind(task.as_slice())
        .bind(signed(round)?)
        .execute(&self.pool)
        .await?;
        Ok(())
    }
}

async fn end_round(
    tx: &mut sqlx::Transaction<'static, sqlx::Sqlite>,
    task: &TaskKey,
    round: i64,
    state: i64,
    reason: Option<&str>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE report SET state = ? WHERE task = ? AND round = ? AND state IN (0, 1)")
        .bind(STATE_DROPPED)
        .bind(task.as_slice())
        .bind(round)
        .execute(&mut **tx)
        .await?;
    sqlx::query("UPDATE report SET body = NULL, out_share = NULL, response = NULL WHERE task = ? AND round = ?")
        .bind(task.as_slice())
        .bind(round)
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "UPDATE round SET state = ?, reason = ? WHERE task = ? AND round = ? AND state = 0",
    )
    .bind(state)
    .bind(reason)
    .bind(task.as_slice())
    .bind(round)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
