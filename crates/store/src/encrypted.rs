//! Encrypted sums: what the aggregation node has of the open round, and what a full node has opened.

use sqlx::Row as _;

use crate::{
    NodeKey, StoreError, TaskKey, WorkStore,
    row::{array, bytes, number, signed, text},
};

/// The name of the statement that selects what is encrypted.
const SELECTION: &str = "selection";

/// What a full node has encrypted last in a round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptedLast {
    /// For which selection.
    pub record: Vec<u8>,
    /// What left the node for it; none once the round is over.
    pub submission: Option<Vec<u8>>,
}

impl WorkStore {
    /// Store a statement of an open round under a name; one that is there is replaced.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_statement(
        &self,
        task: TaskKey,
        round: u64,
        name: &str,
        statement: &[u8],
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO statement VALUES (?, ?, ?, ?)")
            .bind(task.as_slice())
            .bind(signed(round)?)
            .bind(name)
            .bind(statement)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Store which batches are added; what was encrypted for an earlier selection is dropped.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; nothing is changed then.
    pub async fn put_selection(
        &self,
        task: TaskKey,
        round: u64,
        selection: &[u8],
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("DELETE FROM encrypted_sum WHERE task = ? AND round = ?")
            .bind(task.as_slice())
            .bind(signed(round)?)
            .execute(&mut *tx)
            .await?;
        sqlx::query("INSERT OR REPLACE INTO statement VALUES (?, ?, ?, ?)")
            .bind(task.as_slice())
            .bind(signed(round)?)
            .bind(SELECTION)
            .bind(selection)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// The statements of an open round by name. The selection's name is `selection`.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn statements(
        &self,
        task: TaskKey,
        round: u64,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let rows = sqlx::query(
            "SELECT name, bytes FROM statement WHERE task = ? AND round = ? ORDER BY name",
        )
        .bind(task.as_slice())
        .bind(signed(round)?)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| Ok((text(row, "name")?, bytes(row, "bytes")?)))
            .collect()
    }

    /// Store a full node's encrypted sum; one that is there is replaced.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_encrypted_sum(
        &self,
        task: TaskKey,
        round: u64,
        node: NodeKey,
        sum: &[u8],
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT OR REPLACE INTO encrypted_sum VALUES (?, ?, ?, ?)")
            .bind(task.as_slice())
            .bind(signed(round)?)
            .bind(node.as_slice())
            .bind(sum)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The encrypted sums of an open round, by node.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn encrypted_sums(
        &self,
        task: TaskKey,
        round: u64,
    ) -> Result<Vec<(NodeKey, Vec<u8>)>, StoreError> {
        let rows = sqlx::query(
            "SELECT node, bytes FROM encrypted_sum WHERE task = ? AND round = ? ORDER BY node",
        )
        .bind(task.as_slice())
        .bind(signed(round)?)
        .fetch_all(&self.pool)
        .await?;
        rows.iter()
            .map(|row| Ok((array(row, "node")?, bytes(row, "bytes")?)))
            .collect()
    }

    /// What this full node has encrypted last in a round.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn encrypted(
        &self,
        task: TaskKey,
        round: u64,
    ) -> Result<Option<EncryptedLast>, StoreError> {
        let row =
            sqlx::query("SELECT record, submission FROM encrypted WHERE task = ? AND round = ?")
                .bind(task.as_slice())
                .bind(signed(round)?)
                .fetch_optional(&self.pool)
                .await?;
        row.map(|row| {
            Ok(EncryptedLast {
                record: bytes(&row, "record")?,
                submission: row.try_get("submission")?,
            })
        })
        .transpose()
    }

    /// Store what this full node encrypts in a round, before it leaves. The record stays for ever, and only that of a later
    /// selection replaces it; what leaves is dropped when the round ends ([`WorkStore::end_round`]).
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_encrypted(
        &self,
        task: TaskKey,
        round: u64,
        record: &[u8],
        submission: &[u8],
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO encrypted (task, round, record, submission) VALUES (?, ?, ?, ?)
             ON CONFLICT (task, round) DO UPDATE
             SET record = excluded.record, submission = excluded.submission, selections = selections + 1",
        )
            .bind(task.as_slice())
            .bind(signed(round)?)
            .bind(record)
            .bind(submission)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// What this node has opened in a round, as a holder of key shares.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn answered(&self, task: TaskKey, round: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query("SELECT record FROM answered WHERE task = ? AND round = ?")
            .bind(task.as_slice())
            .bind(signed(round)?)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| bytes(&row, "record")).transpose()
    }

    /// How many selections of a task this full node has encrypted, and in how many further rounds it has opened something:
    /// what has cost privacy, as far as it knows.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn selections_spent(&self, task: TaskKey) -> Result<u64, StoreError> {
        let row = sqlx::query(
            "SELECT (SELECT coalesce(sum(selections), 0) FROM encrypted WHERE task = ?1)
                  + (SELECT count(*) FROM answered WHERE task = ?1
                     AND round NOT IN (SELECT round FROM encrypted WHERE task = ?1)) AS count",
        )
        .bind(task.as_slice())
        .fetch_one(&self.pool)
        .await?;
        number(&row, "count")
    }

    /// Store what this node opens in a round, before it answers. It is never replaced.
    ///
    /// # Errors
    ///
    /// [`StoreError::AnsweredOtherwise`] if something else is stored.
    pub async fn put_answered(
        &self,
        task: TaskKey,
        round: u64,
        record: &[u8],
    ) -> Result<(), StoreError> {
        let mut tx = self.pool.begin().await?;
        sqlx::query("INSERT INTO answered VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(task.as_slice())
            .bind(signed(round)?)
            .bind(record)
            .execute(&mut *tx)
            .await?;
        let row = sqlx::query("SELECT record FROM answered WHERE task = ? AND round = ?")
            .bind(task.as_slice())
            .bind(signed(round)?)
            .fetch_one(&mut *tx)
            .await?;
        if bytes(&row, "record")? != record {
            return Err(StoreError::AnsweredOtherwise);
        }
        Ok(tx.commit().await?)
    }
}
