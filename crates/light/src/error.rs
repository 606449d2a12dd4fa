//! What can go wrong before a report is on its way.

use defim_learn::{DataErrors, ModelError, SpecError, TrainError, UpdateError};
use defim_protocol::{
    Digest, ManifestError, RoundError, record::RecordError, seal::SealError, vdaf::VdafError,
};
use defim_score::ScoreError;

use crate::chain::ChainError;

/// A light node stopped before it had a report to send; nothing left the device.
#[derive(Debug, thiserror::Error)]
pub enum LightError {
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The learning specification is refused.
    #[error("the task's learning specification is unusable: {0}")]
    Spec(String),
    /// The round is refused.
    #[error(transparent)]
    Round(#[from] RoundError),
    /// The ledger, or what was served of it, is not believed.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Another opening than this round's is final.
    #[error(
        "another opening of round {round} is final on the ledger than the one that was given; it was not used"
    )]
    OtherOpening {
        /// The round.
        round: u64,
    },
    /// The deadline has passed.
    #[error(
        "round {round} closed {late_ms} ms ago; load the task again and take part in the next one"
    )]
    TooLate {
        /// The round.
        round: u64,
        /// How long ago, in milliseconds.
        late_ms: u64,
    },
    /// The model is not the one that was signed.
    #[error(
        "the model that was downloaded is not the one round {round} starts from (digest {found}, signed {expected}); it was not used"
    )]
    WrongModel {
        /// The round.
        round: u64,
        /// What was signed.
        expected: Digest,
        /// What came.
        found: Digest,
    },
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The data has errors.
    #[error(transparent)]
    Data(#[from] DataErrors),
    /// Training failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The update cannot be encoded.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// The update does not fit the VDAF.
    #[error(transparent)]
    Vdaf(#[from] VdafError),
    /// Splitting failed.
    #[error("the update could not be split and proven: {0}")]
    Split(String),
    /// Sealing failed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The model cannot be asked, or an answer is none.
    #[error("the model could not be asked: {0}")]
    Score(#[from] ScoreError),
    /// A finished round's record is refused.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// A finished round opened other ciphertexts than its full nodes signed.
    #[error(
        "round {round} opened other ciphertexts than those of its full nodes: the aggregation node signed a false record"
    )]
    DroppedCiphertext {
        /// The round.
        round: u64,
    },
    /// The task counts enrolled light nodes only, and there is no key.
    #[error(
        "this task counts one contribution a round of each enrolled light node: contribute with a key that is enrolled for it"
    )]
    NoKey,
    /// A code, a key or a receipt that is none.
    #[error("{what} cannot be read: {why}; check it and try again")]
    Enrolment {
        /// What.
        what: &'static str,
        /// Why.
        why: String,
    },
    /// What was served for an audit is not of the round.
    #[error("block {block} could not be checked: {why}; try again, or ask another node")]
    Evidence {
        /// The block.
        block: u32,
        /// Why.
        why: String,
    },
}

impl From<SpecError> for LightError {
    fn from(error: SpecError) -> Self {
        Self::Spec(error.to_string())
    }
}

impl LightError {
    /// A stable word for the kind of error.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Manifest(ManifestError::WrongTask { .. }) => "wrong-task",
            Self::Manifest(_) => "bad-manifest",
            Self::Spec(_) => "bad-specification",
            Self::Round(_) => "bad-round",
            Self::Chain(error) => error.code(),
            Self::OtherOpening { .. } => "other-opening",
            Self::TooLate { .. } => "too-late",
            Self::WrongModel { .. } => "wrong-model",
            Self::Model(_) => "bad-model",
            Self::Data(_) => "bad-data",
            Self::Train(_) => "training-failed",
            Self::Update(_) => "bad-update",
            Self::Vdaf(_) | Self::Split(_) => "split-failed",
            Self::Seal(_) => "seal-failed",
            Self::Score(_) => "scoring-failed",
            Self::Record(_) => "bad-record",
            Self::DroppedCiphertext { .. } => "false-record",
            Self::Evidence { .. } => "bad-evidence",
            Self::NoKey => "no-key",
            Self::Enrolment { .. } => "bad-enrolment",
        }
    }
}
