//! What can go wrong with a store.

/// What to do, by SQLite's result code (<https://www.sqlite.org/rescode.html>).
fn advice(error: &sqlx::Error) -> &'static str {
    let code = match error {
        sqlx::Error::Database(error) => error.code().and_then(|code| code.parse::<u32>().ok()),
        _ => None,
    };
    // The low byte is the kind.
    match code.map(|code| code & 0xFF) {
        Some(5 | 6) => "another process holds it: stop that process",
        Some(8 | 14) => "check the rights of the file and its folder",
        Some(11 | 26) => "it is damaged or no store at all: restore the folder from a backup",
        Some(13) => "the disk is full: make room",
        _ => "check the disk's free space and the folder's rights",
    }
}

/// The store could not do what it was asked; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refuses.
    #[error("the store failed: {0}; {advice}", advice = advice(.0))]
    Database(#[from] sqlx::Error),
    /// The file cannot be opened.
    #[error("the store {} cannot be used: {source}; {advice}", path.display(), advice = advice(source))]
    Open {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: sqlx::Error,
    },
    /// Made by a later version.
    #[error(
        "the store has layout {found}, this build knows {known}; start the version that made it"
    )]
    Newer {
        /// The file's layout.
        found: i64,
        /// The newest layout this build knows.
        known: i64,
    },
    /// A value that cannot be.
    #[error("the store is damaged: {0}; restore the folder from a backup")]
    Damaged(&'static str),
    /// A number that does not fit.
    #[error("the number {0} is too large for the store")]
    TooLarge(u64),
    /// Too many unfinished uploads.
    #[error("this node holds as many unfinished uploads as it may; try again later")]
    PartialsFull,
    /// An upload goes on at another place than where it stopped.
    #[error("the upload continues at byte {asked}, but {held} are held")]
    WrongOffset {
        /// Where the sender went on.
        asked: u64,
        /// How many bytes are held.
        held: u64,
    },
    /// A report that should be there is not.
    #[error("a verified share of the batch is missing")]
    MissingShare,
    /// This node has opened another set of ciphertexts in this round.
    #[error("another set of ciphertexts of this round was opened; this one never is")]
    AnsweredOtherwise,
    /// The caller's own step failed.
    #[error("{0}")]
    Caller(String),
}
