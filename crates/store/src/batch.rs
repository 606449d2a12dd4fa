//! Closing a committee's round: its batch stored, and what it was made of dropped, in one step.

use sqlx::Row as _;

use crate::{BatchKey, ReportKey, StoreError, TaskKey, WorkStore, row::signed};

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

/// How a committee's round ended.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredBatch {
    /// The committee.
    pub committee: u32,
    /// The agreed summary's text; empty if there is no batch.
    pub summary: Vec<u8>,
    /// The members' signatures; at a helper of three shares, the leader's and its own.
    pub signatures: Vec<u8>,
    /// This node's aggregate share; empty once the round is over.
    pub aggregate_share: Vec<u8>,
}

const STATE_COUNTED: i64 = 3;
const STATE_DROPPED: i64 = 4;
const ROUND_CLOSED: i64 = 1;
const ROUND_VOIDED: i64 = 2;

fn stored(row: &sqlx::sqlite::SqliteRow) -> Result<StoredBatch, StoreError> {
    let maybe = |column| {
        let value = row.try_get::<Option<Vec<u8>>, _>(column)?;
        Ok::<_, StoreError>(value.unwrap_or_default())
    };
    Ok(StoredBatch {
        committee: row.try_get("committee")?,
        summary: maybe("summary")?,
        signatures: maybe("signatures")?,
        aggregate_share: maybe("aggregate_share")?,
    })
}

/// How many rounds before the one that ends may have got something after their own end.
const LATE_ROUNDS: i64 = 4;

impl WorkStore {
    /// Store a batch, mark its reports as counted, drop all bodies and shares of its committee.
    ///
    /// # Errors
    ///
    /// [`StoreError::MissingShare`] if a listed report is not verified here; nothing is changed then.
    pub async fn close_batch(&self, key: BatchKey, batch: ClosedBatch) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let round = signed(key.round)?;
        sqlx::query("INSERT INTO batch (task, round, committee, summary, signatures, aggregate_share) VALUES (?, ?, ?, ?, ?, ?)")
            .bind(key.task.as_slice())
            .bind(round)
            .bind(key.committee)
            .bind(batch.summary)
            .bind(batch.signatures)
            .bind(batch.aggregate_share)
            .execute(&mut *tx)
            .await?;
        for id in &batch.report_ids {
            let counted = sqlx::query(
                "UPDATE report SET state = ? WHERE task = ? AND id = ? AND round = ? AND committee = ? AND state = 1",
            )
            .bind(STATE_COUNTED)
            .bind(key.task.as_slice())
            .bind(id.as_slice())
            .bind(round)
            .bind(key.committee)
            .execute(&mut *tx)
            .await?;
            if counted.rows_affected() != 1 {
                return Err(StoreError::MissingShare);
            }
        }
        drop_reports(&mut tx, key).await?;
        Ok(tx.commit().await?)
    }

    /// Store that a committee has no batch in this round, and drop its reports; their ids stay used.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is changed then.
    pub async fn close_without_batch(&self, key: BatchKey, reason: &str) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("INSERT INTO batch (task, round, committee, reason) VALUES (?, ?, ?, ?)")
            .bind(key.task.as_slice())
            .bind(signed(key.round)?)
            .bind(key.committee)
            .bind(reason)
            .execute(&mut *tx)
            .await?;
        drop_reports(&mut tx, key).await?;
        Ok(tx.commit().await?)
    }

    /// End a round: what is left of its reports, the sums of its batches and what was encrypted are dropped; the reports' ids
    /// stay used, and what was encrypted stays known. So are those of the rounds just before that came when these had ended already.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is changed then.
    pub async fn end_round(&self, task: TaskKey, round: u64) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        let number = signed(round)?;
        // All there ever were would take longer with each round.
        let first = number.saturating_sub(LATE_ROUNDS);
        sqlx::query(
            "UPDATE report SET state = ? WHERE task = ? AND round BETWEEN ? AND ? AND state IN (0, 1)",
        )
        .bind(STATE_DROPPED)
        .bind(task.as_slice())
        .bind(first)
        .bind(number)
        .execute(&mut *tx)
        .await?;
        sqlx::query("UPDATE report SET body = NULL, out_share = NULL, response = NULL WHERE task = ? AND round BETWEEN ? AND ?")
            .bind(task.as_slice())
            .bind(first)
            .bind(number)
            .execute(&mut *tx)
            .await?;
        sqlx::query("UPDATE encrypted SET submission = NULL WHERE task = ? AND round = ?")
            .bind(task.as_slice())
            .bind(number)
            .execute(&mut *tx)
            .await?;
        let closed = sqlx::query(
            "UPDATE batch SET aggregate_share = NULL WHERE task = ? AND round = ? AND summary IS NOT NULL",
        )
        .bind(task.as_slice())
        .bind(number)
        .execute(&mut *tx)
        .await?;
        let state = match closed.rows_affected() {
            0 => ROUND_VOIDED,
            _ => ROUND_CLOSED,
        };
        sqlx::query("UPDATE round SET state = ? WHERE task = ? AND round = ? AND state = 0")
            .bind(state)
            .bind(task.as_slice())
            .bind(number)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// How this committee's round ended; `None` while it is open.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn batch(&self, key: BatchKey) -> Result<Option<StoredBatch>, StoreError> {
        let row = sqlx::query("SELECT * FROM batch WHERE task = ? AND round = ? AND committee = ?")
            .bind(key.task.as_slice())
            .bind(signed(key.round)?)
            .bind(key.committee)
            .fetch_optional(&self.pool)
            .await?;
        row.as_ref().map(stored).transpose()
    }

    /// All committees of this node whose round has ended.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn batches(&self, task: TaskKey, round: u64) -> Result<Vec<StoredBatch>, StoreError> {
        let rows =
            sqlx::query("SELECT * FROM batch WHERE task = ? AND round = ? ORDER BY committee")
                .bind(task.as_slice())
                .bind(signed(round)?)
                .fetch_all(&self.pool)
                .await?;
        rows.iter().map(stored).collect()
    }
}

async fn drop_reports(
    tx: &mut sqlx::Transaction<'static, sqlx::Sqlite>,
    key: BatchKey,
) -> Result<(), StoreError> {
    let round = signed(key.round)?;
    sqlx::query("UPDATE report SET state = ? WHERE task = ? AND round = ? AND committee = ? AND state IN (0, 1)")
        .bind(STATE_DROPPED)
        .bind(key.task.as_slice())
        .bind(round)
        .bind(key.committee)
        .execute(&mut **tx)
        .await?;
    sqlx::query("UPDATE report SET body = NULL, out_share = NULL, response = NULL WHERE task = ? AND round = ? AND committee = ?")
        .bind(key.task.as_slice())
        .bind(round)
        .bind(key.committee)
        .execute(&mut **tx)
        .await?;
    Ok(())
}
