//! The variance parameter of a discrete Gaussian, as an exact fraction.

use crate::PrivacyError;

/// `sigma^2`, in squared encoded units: a fraction in lowest terms, from `2^-32` to `2^112`.
///
/// It is the distribution's parameter. The variance that samples have is never above it (CKS20, section 3), and
/// equal for all practical purposes from `sigma = 2` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Variance {
    numerator: u128,
    denominator: u64,
}

/// Largest numerator: with it, nothing that the sampler multiplies goes over 128 bits.
const NUMERATOR_BITS: u32 = 112;
/// The smallest variance is `2^-32`.
const SMALLEST_BITS: u32 = 32;

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

impl Variance {
    /// `numerator / denominator`.
    ///
    /// # Errors
    ///
    /// [`PrivacyError::ZeroDenominator`] or [`PrivacyError::VarianceRange`].
    pub fn new(numerator: u128, denominator: u64) -> Result<Self, PrivacyError> {
        if denominator == 0 {
            return Err(PrivacyError::ZeroDenominator);
        }
        let common = gcd(numerator, denominator.into());
        let numerator = numerator / common;
        let whole = u128::from(denominator) / common;
        let denominator = u64::try_from(whole).map_err(|_| PrivacyError::VarianceRange)?;
        let good = numerator <= 1 << NUMERATOR_BITS
            && numerator.saturating_mul(1 << SMALLEST_BITS) >= whole;
        good.then_some(Self {
            numerator,
            denominator,
        })
        .ok_or(PrivacyError::VarianceRange)
    }

    /// The least one that is not below `value`: a whole number from `2^32` on, in steps of `2^-20` below.
    ///
    /// # Errors
    ///
    /// [`PrivacyError::VarianceRange`].
    pub fn at_least(value: f64) -> Result<Self, PrivacyError> {
        let limit = (1u128 << NUMERATOR_BITS) as f64;
        if !(value > 0.0 && value <= limit) {
            return Err(PrivacyError::VarianceRange);
        }
        let denominator = match value < (1u64 << 32) as f64 {
            true => 1u64 << 20,
            false => 1,
        };
        // Both are exact: the denominator is a power of two.
        let numerator = (value * denominator as f64).ceil() as u128;
        Self::new(numerator, denominator)
    }

    /// The numerator.
    pub fn numerator(self) -> u128 {
        self.numerator
    }

    /// The denominator.
    pub fn denominator(self) -> u64 {
        self.denominator
    }

    /// Rounded; for accounting and for people, not for sampling.
    pub fn as_f64(self) -> f64 {
        self.numerator as f64 / self.denominator as f64
    }

    /// Its root, rounded; for people.
    pub fn standard_deviation(self) -> f64 {
        self.as_f64().sqrt()
    }

    /// Over `parts`, exactly.
    pub(crate) fn over(self, parts: u32) -> Result<Self, PrivacyError> {
        let parts = u64::from(parts);
        let common = gcd(self.numerator, parts.into());
        let kept = u128::from(parts) / common.max(1);
        let denominator = u128::from(self.denominator)
            .checked_mul(kept)
            .and_then(|value| u64::try_from(value).ok())
            .ok_or(PrivacyError::VarianceRange)?;
        Self::new(self.numerator / common.max(1), denominator)
    }
}
