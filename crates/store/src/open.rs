//! Opening a store and bringing its layout up to date.

use std::{path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    Row as _, SqlitePool,
    sqlite::{
        SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions,
        SqliteSynchronous,
    },
};

use crate::StoreError;

/// Layouts, oldest first. A released one is never changed; a new one is appended.
const LAYOUTS: &[&str] = &[
    include_str!("layout_1.sql"),
    include_str!("layout_2.sql"),
    include_str!("layout_3.sql"),
    include_str!("layout_4.sql"),
    include_str!("layout_5.sql"),
];

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
        let path = path.as_ref();
        let named = |source| StoreError::Open {
            path: path.to_owned(),
            source,
        };
        for_owner_only(path).map_err(|e| named(sqlx::Error::Io(e)))?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What was acknowledged survives a power cut, not only a killed process.
            .synchronous(SqliteSynchronous::Full)
            // Bodies and shares that are deleted are overwritten, and their room is given back.
            .pragma("secure_delete", "ON")
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(30));
        match Self::prepare(options).await {
            Err(StoreError::Database(source)) => Err(named(source)),
            result => result,
        }
    }

    /// Give the room of what was deleted back to the disk, and empty the journal, which still holds
    /// it. To be called when a round has ended, and now and then.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; it is done the next time.
    pub async fn tidy(&self) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        sqlx::raw_sql("PRAGMA incremental_vacuum")
            .execute(&mut *connection)
            .await?;
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            .execute(&mut *connection)
            .await?;
        Ok(())
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
        let store = Self { pool };
        store.allow_tidying().await?;
        Ok(store)
    }

    /// A file made by an earlier build never gives room back; it must be written anew once.
    async fn allow_tidying(&self) -> Result<(), StoreError> {
        let mut connection = self.pool.acquire().await?;
        let mode: i64 = sqlx::query("PRAGMA auto_vacuum")
            .fetch_one(&mut *connection)
            .await?
            .try_get(0)?;
        if mode == 0 {
            sqlx::raw_sql("PRAGMA auto_vacuum = INCREMENTAL; VACUUM")
                .execute(&mut *connection)
                .await?;
        }
        Ok(())
    }
}

/// Make the folder and the file, and let nobody but their owner read them. SQLite gives its journal
/// the rights of the file.
fn for_owner_only(path: &Path) -> std::io::Result<()> {
    let mut folders = std::fs::DirBuilder::new();
    folders.recursive(true);
    let mut file = std::fs::OpenOptions::new();
    file.write(true).create(true).truncate(false);
    #[cfg(unix)]
    {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        folders.mode(0o700);
        file.mode(0o600);
    }
    if let Some(folder) = path.parent() {
        folders.create(folder)?;
    }
    let file = file.open(path)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    // Those of an earlier start.
    #[cfg(unix)]
    for ending in ["-wal", "-shm"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        if std::fs::exists(&name)? {
            std::fs::set_permissions(&name, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        }
    }
    drop(file);
    Ok(())
}
