//! Why a run stopped.

use defim_light::LightError;
use defim_protocol::Reason;

/// A run stopped.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// The set-up cannot be run.
    #[error("{0}")]
    Setup(String),
    /// A light node stopped.
    #[error(transparent)]
    Light(#[from] LightError),
    /// An honest report was refused.
    #[error("a report was refused: {0}")]
    Refused(#[from] Reason),
    /// A member could not add or release.
    #[error(transparent)]
    Release(#[from] defim_full::ReleaseError),
    /// A round ended without a result.
    #[error("round {round} ended without a result: {why}")]
    Voided {
        /// The round.
        round: u64,
        /// Why.
        why: String,
    },
    /// A machine waits for something that never comes.
    #[error("round {0} does not end; this is a fault of the mesh")]
    Stuck(u64),
    /// Learning failed.
    #[error("{0}")]
    Learn(String),
}
