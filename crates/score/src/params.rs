//! The parameters, what they allow, and why decryption is exact.
//!
//! # The noise of a score
//!
//! Before rounding, a score's coefficient decrypts to `DELTA * score + noise` modulo `q = 2^40`, and the score is exact
//! when `|noise| < DELTA / 2 = 2^18`. The noise has six parts:
//!
//! | part | from | bound |
//! |---|---|---|
//! | flooding | drawn by the server | at most `2^17`, always |
//! | rounding of the body | [`ANSWER_DROPPED`] bits | at most `2^7`, always |
//! | `e * w` | the features' errors, the weights of one polynomial | `8 * 3600^2` |
//! | rounding of the mask, times `s` | [`ANSWER_DROPPED`] bits, `N` key bits | `2^14 * 2^11` |
//! | `u * e'` | the public key's errors, `N` bits | `8 * 2^11` |
//! | `e'' * s` | the answer's errors, `N` key bits | `8 * 2^11` |
//!
//! The last four are sums of independent bounded terms, and the bound is the variance factor `v` of Hoeffding's
//! inequality, `P(|sum| > t) <= 2 exp(-t^2 / (2 v))`: an error is 32 coins of 1/4 each, a rounding is in an interval of
//! length `2^8`. With `t = 2^18 - 2^17 - 2^7` a score is wrong with probability below 2^-89, and all of
//! [`MAX_CLASSES`] with probability below 2^-81. These are the largest weights that are allowed; the weights of real
//! models are well below, and there it is below 2^-150.

use crate::ScoreError;

/// Coefficients of a ring element, `Z_q[X] / (X^N + 1)`.
pub const N: usize = 2048;

/// Bits of the modulus `q = 2^40`.
pub const LOG_Q: u32 = 40;

/// What a score is multiplied with, to keep it clear of the noise: `2^19`.
pub const DELTA: u64 = 1 << 19;

/// No score is further from zero, whatever the features: `2^20 - 1`.
pub const MAX_SCORE: i64 = (1 << 20) - 1;

/// Variance of an error's coefficient, a centred binomial of 32 coins.
pub const VARIANCE: u32 = 8;

/// The server adds noise that is uniform in `[-2^17, 2^17)` to every score's coefficient.
pub const FLOODING: u64 = 1 << 17;

/// Low bits of a coefficient that an answer leaves out.
pub const ANSWER_DROPPED: u32 = 8;

/// Largest Euclidean norm of the weights of one polynomial: 64 features by 10 classes fit with all of them at 127.
pub const MAX_WEIGHT_NORM: u64 = 3600;

/// Most features of a model: one ciphertext holds them.
pub const MAX_FEATURES: usize = N;

/// Most classes of a model.
pub const MAX_CLASSES: usize = 256;

/// Most classes of one polynomial, see [`crate::security`].
pub const MAX_ROWS: usize = 16;

/// Bytes of a coefficient of a request.
pub const REQUEST_COEFFICIENT_BYTES: usize = 5;

/// Bytes of a coefficient of an answer.
pub const ANSWER_COEFFICIENT_BYTES: usize = 4;

/// Bytes of the seed that a request's masks are expanded from.
pub const SEED_BYTES: usize = 32;

/// Version, features and classes, before everything else.
pub const HEADER_BYTES: usize = 5;

/// Bytes of a request, of every model: 20,517.
pub const REQUEST_BYTES: usize = HEADER_BYTES + SEED_BYTES + 2 * N * REQUEST_COEFFICIENT_BYTES;

/// Features and classes of a linear model. A binary or a regression model has one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    features: u16,
    classes: u16,
}

impl Shape {
    /// A shape.
    ///
    /// # Errors
    ///
    /// [`ScoreError::Features`] if there is none or more than [`MAX_FEATURES`], [`ScoreError::Classes`] if there is none
    /// or more than [`MAX_CLASSES`].
    pub fn new(features: usize, classes: usize) -> Result<Self, ScoreError> {
        let of = |value: usize, most: usize| match value {
            0 => None,
            value if value > most => None,
            value => u16::try_from(value).ok(),
        };
        Ok(Self {
            features: of(features, MAX_FEATURES).ok_or(ScoreError::Features(features))?,
            classes: of(classes, MAX_CLASSES).ok_or(ScoreError::Classes(classes))?,
        })
    }

    /// Features.
    pub fn features(self) -> usize {
        self.features.into()
    }

    /// Classes.
    pub fn classes(self) -> usize {
        self.classes.into()
    }

    /// Classes whose weights one polynomial holds.
    pub fn rows(self) -> usize {
        // At least one: there are at most N features.
        (N / self.features().max(1)).min(MAX_ROWS)
    }

    /// Polynomials that hold all weights.
    pub fn polynomials(self) -> usize {
        self.classes().div_ceil(self.rows().max(1))
    }

    /// Bytes of an answer: for each polynomial a mask of `N` coefficients, for each class one coefficient.
    pub fn response_bytes(self) -> usize {
        HEADER_BYTES + (self.polynomials() * N + self.classes()) * ANSWER_COEFFICIENT_BYTES
    }

    /// The coefficient of its polynomial that a class's score is at.
    pub(crate) fn place(self, class: usize) -> usize {
        (class % self.rows().max(1)) * self.features() + self.features() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_exact_at_the_largest_weights_but_for_one_answer_in_2_81() {
        let q = 1u64 << LOG_Q;
        assert!(2 * (MAX_SCORE as u64) * DELTA + DELTA <= q);
        let coins = f64::from(VARIANCE);
        let norm = (MAX_WEIGHT_NORM as f64).powi(2);
        let n = N as f64;
        let rounding = f64::from(1 << ANSWER_DROPPED).powi(2) / 4.0;
        let left = (DELTA / 2 - FLOODING - (1 << (ANSWER_DROPPED - 1))) as f64;
        let log_failure = |norm: f64| {
            let variance = coins * norm + rounding * n + 2.0 * coins * n;
            1.0 - left.powi(2) / (2.0 * variance) * std::f64::consts::LOG2_E
        };
        assert!(log_failure(norm) < -89.0, "{}", log_failure(norm));
        assert!(log_failure(norm) + (MAX_CLASSES as f64).log2() < -81.0);
        assert!(log_failure(2000f64.powi(2)) < -150.0);
        // A real model's shape with the largest weights fits.
        assert!(640.0 * 127f64.powi(2) < norm);
        const { assert!(128 * 127 * 64 < MAX_SCORE) };
    }

    #[test]
    fn shapes_and_their_sizes() {
        for (features, classes) in [(0, 1), (1, 0), (2049, 1), (1, 257), (usize::MAX, 1)] {
            assert!(
                Shape::new(features, classes).is_err(),
                "{features} {classes}"
            );
        }
        for (features, classes, polynomials, bytes) in [
            (64, 10, 1, 8_237),
            (30, 2, 1, 8_205),
            (10, 1, 1, 8_201),
            (512, 10, 3, 24_621),
            (2048, 2, 2, 16_397),
            (1, 256, 16, 132_101),
        ] {
            let shape = Shape::new(features, classes).unwrap();
            assert_eq!(shape.polynomials(), polynomials);
            assert_eq!(shape.response_bytes(), bytes);
            assert!((0..classes).all(|class| shape.place(class) < N));
        }
        assert_eq!(REQUEST_BYTES, 20_517);
    }
}
