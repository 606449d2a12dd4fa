//! Numbers and byte strings as SQLite holds them.

use sqlx::{Row as _, sqlite::SqliteRow};

use crate::StoreError;

pub(crate) fn signed(value: u64) -> Result<i64, StoreError> {
    i64::try_from(value).map_err(|_| StoreError::TooLarge(value))
}

pub(crate) fn number(row: &SqliteRow, column: &str) -> Result<u64, StoreError> {
    let value: i64 = row.try_get(column)?;
    u64::try_from(value).map_err(|_| StoreError::Damaged("a count is negative"))
}

pub(crate) fn bytes(row: &SqliteRow, column: &str) -> Result<Vec<u8>, StoreError> {
    Ok(row.try_get(column)?)
}

pub(crate) fn text(row: &SqliteRow, column: &str) -> Result<String, StoreError> {
    Ok(row.try_get(column)?)
}

pub(crate) fn array<const N: usize>(row: &SqliteRow, column: &str) -> Result<[u8; N], StoreError> {
    bytes(row, column)?
        .try_into()
        .map_err(|_| StoreError::Damaged("an id has the wrong length"))
}
