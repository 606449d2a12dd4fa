//! Unfinished uploads, so that one that broke goes on where it stopped.

use crate::{
    DigestKey, ReportKey, StoreError, TaskKey, WorkStore,
    row::{bytes, number, signed},
};

/// How long an upload that has sent something may stand still before it makes room, milliseconds.
const STILL_MS: u64 = 10_000;
/// How long one that has sent nothing may, milliseconds.
const EMPTY_MS: u64 = 1_000;

/// Unfinished uploads under one id at most. There is one report to an id; more are of somebody who keeps others out, and they
/// make room for it as any others do.
const OF_ONE_ID: u64 = 4;

/// Which upload is meant: one of these bytes, under this id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartialKey {
    /// The task.
    pub task: TaskKey,
    /// The report's id, as the sender gives it.
    pub id: ReportKey,
    /// Digest of all of the bytes. Only their sender knows it before they are here.
    pub digest: DigestKey,
}

impl WorkStore {
    /// Begin or go on with an upload; gives how many bytes are held. Another length of the same bytes starts anew. Where there
    /// is no room, uploads that stand still make it: claims that cost their sender nothing must not keep others out.
    ///
    /// # Errors
    ///
    /// [`StoreError::PartialsFull`] past `max_bytes` or `max_count` over all unfinished uploads, or past four under one id.
    pub async fn partial_begin(
        &self,
        key: PartialKey,
        length: u64,
        now: u64,
        max_bytes: u64,
        max_count: u64,
    ) -> Result<u64, StoreError> {
        let PartialKey { task, id, digest } = key;
        let mut tx = self.pool.begin().await?;
        let held = sqlx::query(
            "UPDATE partial SET touched = ? WHERE task = ? AND id = ? AND digest = ? AND length = ? RETURNING held",
        )
        .bind(signed(now)?)
        .bind(task.as_slice())
        .bind(id.as_slice())
        .bind(digest.as_slice())
        .bind(signed(length)?)
        .fetch_optional(&mut *tx)
        .await?;
        if let Some(row) = held {
            let held = number(&row, "held")?;
            tx.commit().await?;
            return Ok(held);
        }
        sqlx::query("DELETE FROM partial WHERE task = ? AND id = ? AND digest = ?")
            .bind(task.as_slice())
            .bind(id.as_slice())
            .bind(digest.as_slice())
            .execute(&mut *tx)
            .await?;
        let all = sqlx::query(
            "SELECT count(*) AS count, coalesce(sum(length), 0) AS bytes,
                    count(*) FILTER (WHERE task = ? AND id = ?) AS of_id FROM partial",
        )
        .bind(task.as_slice())
        .bind(id.as_slice())
        .fetch_one(&mut *tx)
        .await?;
        let (mut count, mut claimed) = (number(&all, "count")?, number(&all, "bytes")?);
        let mut of_id = number(&all, "of_id")?;
        while of_id >= OF_ONE_ID || count >= max_count || claimed.saturating_add(length) > max_bytes
        {
            let too_many = of_id >= OF_ONE_ID;
            let still = sqlx::query(
                "SELECT rowid, length FROM partial
                 WHERE (touched < ?1 OR (held = 0 AND touched < ?2))
                   AND (NOT ?3 OR (task = ?4 AND id = ?5)) ORDER BY touched LIMIT 1",
            )
            .bind(signed(now.saturating_sub(STILL_MS))?)
            .bind(signed(now.saturating_sub(EMPTY_MS))?)
            .bind(too_many)
            .bind(task.as_slice())
            .bind(id.as_slice())
            .fetch_optional(&mut *tx)
            .await?
            .ok_or(StoreError::PartialsFull)?;
            sqlx::query("DELETE FROM partial WHERE rowid = ?")
                .bind(signed(number(&still, "rowid")?)?)
                .execute(&mut *tx)
                .await?;
            of_id = of_id.saturating_sub(u64::from(too_many));
            count = count.saturating_sub(1);
            claimed = claimed.saturating_sub(number(&still, "length")?);
        }
        sqlx::query(
            "INSERT INTO partial (task, id, digest, length, touched) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(task.as_slice())
        .bind(id.as_slice())
        .bind(digest.as_slice())
        .bind(signed(length)?)
        .bind(signed(now)?)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(0)
    }

    /// Append to an upload; gives how many bytes are held now.
    ///
    /// # Errors
    ///
    /// [`StoreError::WrongOffset`] if `offset` is not where the upload stopped or it grows over its length.
    pub async fn partial_append(
        &self,
        key: PartialKey,
        offset: u64,
        piece: &[u8],
        now: u64,
    ) -> Result<u64, StoreError> {
        let PartialKey { task, id, digest } = key;
        let mut tx = self.pool.begin().await?;
        let grown = sqlx::query(
            "UPDATE partial SET held = held + ?1, touched = ?5 WHERE task = ?2 AND id = ?3 AND digest = ?6 AND held = ?4 AND held + ?1 <= length",
        )
        .bind(signed(piece.len() as u64)?)
        .bind(task.as_slice())
        .bind(id.as_slice())
        .bind(signed(offset)?)
        .bind(signed(now)?)
        .bind(digest.as_slice())
        .execute(&mut *tx)
        .await?;
        if grown.rows_affected() != 1 {
            let row =
                sqlx::query("SELECT held FROM partial WHERE task = ? AND id = ? AND digest = ?")
                    .bind(task.as_slice())
                    .bind(id.as_slice())
                    .bind(digest.as_slice())
                    .fetch_optional(&mut *tx)
                    .await?;
            let held = row
                .map(|row| number(&row, "held"))
                .transpose()?
                .unwrap_or(0);
            return Err(StoreError::WrongOffset {
                asked: offset,
                held,
            });
        }
        sqlx::query("INSERT INTO partial_piece VALUES (?, ?, ?, ?, ?)")
            .bind(task.as_slice())
            .bind(id.as_slice())
            .bind(digest.as_slice())
            .bind(signed(offset)?)
            .bind(piece)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(offset + piece.len() as u64)
    }

    /// All bytes of an upload once it is complete. The caller checks the digest.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn partial_finish(&self, key: PartialKey) -> Result<Option<Vec<u8>>, StoreError> {
        let PartialKey { task, id, digest } = key;
        let complete = sqlx::query(
            "SELECT 1 FROM partial WHERE task = ? AND id = ? AND digest = ? AND held = length",
        )
        .bind(task.as_slice())
        .bind(id.as_slice())
        .bind(digest.as_slice())
        .fetch_optional(&self.pool)
        .await?;
        if complete.is_none() {
            return Ok(None);
        }
        let rows = sqlx::query(
            "SELECT bytes FROM partial_piece WHERE task = ? AND id = ? AND digest = ? ORDER BY offset",
        )
        .bind(task.as_slice())
        .bind(id.as_slice())
        .bind(digest.as_slice())
        .fetch_all(&self.pool)
        .await?;
        let mut whole = Vec::new();
        for row in &rows {
            whole.extend_from_slice(&bytes(row, "bytes")?);
        }
        Ok(Some(whole))
    }

    /// Forget an upload.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn partial_drop(&self, key: PartialKey) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM partial WHERE task = ? AND id = ? AND digest = ?")
            .bind(key.task.as_slice())
            .bind(key.id.as_slice())
            .bind(key.digest.as_slice())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Forget all unfinished uploads of a task: its round is over.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn partial_drop_all(&self, task: TaskKey) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM partial WHERE task = ?")
            .bind(task.as_slice())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Forget uploads of which nothing came since this time; gives how many.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn partial_expire(&self, before: u64) -> Result<u64, StoreError> {
        let done = sqlx::query("DELETE FROM partial WHERE touched < ?")
            .bind(signed(before)?)
            .execute(&self.pool)
            .await?;
        Ok(done.rows_affected())
    }
}
