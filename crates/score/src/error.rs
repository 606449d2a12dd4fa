//! What is refused, and why.

use crate::Shape;
use crate::params::{MAX_CLASSES, MAX_FEATURES, MAX_SCORE, MAX_WEIGHT_NORM};

/// Refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// No features, or too many.
    #[error("a model of {0} features cannot be scored encrypted: it must have 1 to {MAX_FEATURES}")]
    Features(usize),
    /// No classes, or too many.
    #[error("a model of {0} classes cannot be scored encrypted: it must have 1 to {MAX_CLASSES}")]
    Classes(usize),
    /// A vector of another length than the shape says.
    #[error("{what}: {found} where {expected} belong")]
    Length {
        /// What was given.
        what: &'static str,
        /// How many belong there.
        expected: usize,
        /// How many are there.
        found: usize,
    },
    /// A request for, or an answer of, a model of another shape.
    #[error(
        "{} features and {} classes, where {} and {} belong",
        found.features(), found.classes(), expected.features(), expected.classes()
    )]
    OtherShape {
        /// The model's, or the request's.
        expected: Shape,
        /// What it came with.
        found: Shape,
    },
    /// A form of another version.
    #[error("version {0} of encrypted scoring is not known here")]
    Version(u8),
    /// A weight, a bias, a feature or the range is not finite, or the range is not positive.
    #[error("{0} is not a finite number of the allowed range")]
    NotFinite(&'static str),
    /// A class's scores could leave the range in which they are exact.
    #[error("class {class} can score up to {largest}, over {MAX_SCORE}; use a larger weight step")]
    ScoreRange {
        /// Its index.
        class: usize,
        /// The largest absolute score.
        largest: i64,
    },
    /// The weights of one polynomial are too large together.
    #[error("the weights' norm is over {MAX_WEIGHT_NORM}; use a larger weight step")]
    WeightNorm,
}
