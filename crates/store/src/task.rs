//! Tasks, rounds and a node's own settings.

use sqlx::Row as _;

use crate::{
    StoreError, TaskKey, WorkStore,
    row::{array, bytes, number, signed},
};

/// Where a round stands in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoundState {
    /// Takes reports.
    Open,
    /// Its batch is closed.
    Closed,
    /// Ended without a result.
    Voided,
}

/// A stored round.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRound {
    /// Its number.
    pub round: u64,
    /// Its signed opening.
    pub signed: Vec<u8>,
    /// Where it stands.
    pub state: RoundState,
}

impl WorkStore {
    /// Store a task; storing it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_task(
        &self,
        task: TaskKey,
        manifest: &[u8],
        now: u64,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO task (task, signed, created) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        )
        .bind(task.as_slice())
        .bind(manifest)
        .bind(signed(now)?)
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// All tasks with their signed manifests, oldest first.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn tasks(&self) -> Result<Vec<(TaskKey, Vec<u8>)>, StoreError> {
        let rows = sqlx::query("SELECT task, signed FROM task ORDER BY created, rowid")
            .fetch_all(&self.pool)
            .await?;
        rows.iter()
            .map(|row| Ok((array(row, "task")?, bytes(row, "signed")?)))
            .collect()
    }

    /// Pause a task or let it go on.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn set_task_paused(&self, task: TaskKey, paused: bool) -> Result<(), StoreError> {
        sqlx::query("UPDATE task SET paused = ? WHERE task = ?")
            .bind(paused)
            .bind(task.as_slice())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Whether a task is paused.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn is_task_paused(&self, task: TaskKey) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT paused FROM task WHERE task = ?")
            .bind(task.as_slice())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row
            .map(|row| row.try_get("paused"))
            .transpose()?
            .unwrap_or(false))
    }

    /// Store a round's signed opening; storing it again changes nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_round(
        &self,
        task: TaskKey,
        round: u64,
        opening: &[u8],
        now: u64,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO round (task, round, signed, opened) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(task.as_slice())
            .bind(signed(round)?)
            .bind(opening)
            .bind(signed(now)?)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The task's latest round.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn current_round(&self, task: TaskKey) -> Result<Option<StoredRound>, StoreError> {
        let row = sqlx::query(
            "SELECT round, signed, state FROM round WHERE task = ? ORDER BY round DESC LIMIT 1",
        )
        .bind(task.as_slice())
        .fetch_optional(&self.pool)
        .await?;
        row.map(|row| stored_round(&row)).transpose()
    }

    /// One of a task's rounds.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn round(
        &self,
        task: TaskKey,
        round: u64,
    ) -> Result<Option<StoredRound>, StoreError> {
        let row =
            sqlx::query("SELECT round, signed, state FROM round WHERE task = ? AND round = ?")
                .bind(task.as_slice())
                .bind(signed(round)?)
                .fetch_optional(&self.pool)
                .await?;
        row.map(|row| stored_round(&row)).transpose()
    }

    /// One of this node's own settings.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn setting(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let row = sqlx::query("SELECT value FROM setting WHERE name = ?")
            .bind(name)
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| bytes(&row, "value")).transpose()
    }

    /// Forget this node's own settings whose names begin so.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn drop_settings(&self, prefix: &str) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM setting WHERE substr(name, 1, length(?1)) = ?1")
            .bind(prefix)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Store one of this node's own settings.
    ///
    /// # Errors
    ///
    /// [`StoreError`].
    pub async fn put_setting(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO setting (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value")
            .bind(name)
            .bind(value)
            .execute(&self.pool)
            .await?;
        Ok(())
    }
}

fn stored_round(row: &sqlx::sqlite::SqliteRow) -> Result<StoredRound, StoreError> {
    let state = match row.try_get::<i64, _>("state")? {
        0 => RoundState::Open,
        1 => RoundState::Closed,
        2 => RoundState::Voided,
        _ => return Err(StoreError::Damaged("a round's state is unknown")),
    };
    Ok(StoredRound {
        round: number(row, "round")?,
        signed: bytes(row, "signed")?,
        state,
    })
}
