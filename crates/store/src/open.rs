//! Opening a store and bringing its layout up to date.

use std::{path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    Row as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::StoreError;

/// Layouts, oldest first. A released one is never changed; a new one is appended.
const LAYOUTS: &[&str] = &[include_str!("layout_1.sql")];

/// Make a folder that no other user of the machine can look into.
fn private_folder(folder: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(folder)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    }
    Ok(())
}

/// A node's store. Clones share one pool.
#[derive(Debug, Clone)]
pub struct WorkStore {
    pub(crate) pool: SqlitePool,
}

impl WorkStore {
    /// Open the store in this file; it is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if the file cannot be used or was made by a later version.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        if let Some(folder) = path.as_ref().parent() {
            private_folder(folder).map_err(sqlx::Error::Io)?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What was acknowledged survives a power cut, not only a killed process.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            // What is deleted is overwritten: a report's body does not stay behind in a free page.
            .pragma("secure_delete", "ON")
            .busy_timeout(Duration::from_secs(30));
        Self::prepare(options).await
    }

    /// A store that is gone when it is dropped, for tests and simulations.
    ///
    /// # Errors
    ///
    /// [`StoreError`] if SQLite refuses.
    pub async fn open_in_memory() -> Result<Self, StoreError> {
        Self::prepare(SqliteConnectOptions::from_str("sqlite::memory:")?.foreign_keys(true)).await
    }

    async fn prepare(options: SqliteConnectOptions) -> Result<Self, StoreError> {
        // SQLite has one writer at a time; one connection keeps every change in order without retries.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .connect_with(options)
            .await?;
        let known = LAYOUTS.len() as i64;
        let mut tx = pool.begin().await?;
        let found: i64 = sqlx::query("PRAGMA user_version")
            .fetch_one(&mut *tx)
            .await?
            .try_get(0)?;
        if found > known {
            return Err(StoreError::Newer { found, known });
        }
        for (at, layout) in LAYOUTS
            .iter()
            .enumerate()
            .skip(usize::try_from(found).unwrap_or(0))
        {
            sqlx::raw_sql(*layout).execute(&mut *tx).await?;
            // A pragma takes no bound value; the number is ours.
            sqlx::raw_sql(sqlx::AssertSqlSafe(format!(
                "PRAGMA user_version = {}",
                at + 1
            )))
            .execute(&mut *tx)
            .await?;
        }
        tx.commit().await?;
        Ok(Self { pool })
    }
}
