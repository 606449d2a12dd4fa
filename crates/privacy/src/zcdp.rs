//! Zero-concentrated differential privacy: what a release costs, and what the sum of costs means.

use serde::{Deserialize, Serialize};

use crate::{PrivacyError, Variance};

/// L2 distance, in encoded units, that replacing one person's update can move a weighted sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sensitivity(u64);

impl Sensitivity {
    /// Replace-one: `2 * norm_bound * weight`. A vector inside the ball of radius `norm_bound` (in encoded units:
    /// `2^frac_bits`) is exchanged for any other there, times the largest `weight` that a cohort has.
    ///
    /// # Errors
    ///
    /// [`PrivacyError::Sensitivity`] for 0 or over `2^53`.
    pub fn replace_one(norm_bound: u64, weight: u32) -> Result<Self, PrivacyError> {
        norm_bound
            .checked_mul(weight.into())
            .and_then(|value| value.checked_mul(2))
            .filter(|value| (1..=1 << 53).contains(value))
            .map(Self)
            .ok_or(PrivacyError::Sensitivity { norm_bound, weight })
    }

    /// The same, if replacing a person also takes `unit` from one further coordinate and adds it to another: a vote for one of
    /// several bins. `sqrt(self^2 + 2 unit^2)`, rounded up.
    ///
    /// # Errors
    ///
    /// [`PrivacyError::Sensitivity`] for a result over `2^53`.
    pub fn and_moved(self, unit: u64) -> Result<Self, PrivacyError> {
        let squared = |n: u64| u128::from(n).saturating_mul(n.into());
        let both = squared(self.0).saturating_add(squared(unit).saturating_mul(2));
        let root = both.isqrt();
        let up = u64::try_from(root + u128::from(root * root < both));
        up.ok()
            .filter(|value| *value <= 1 << 53)
            .map(Self)
            .ok_or(PrivacyError::Sensitivity {
                norm_bound: self.0,
                weight: 1,
            })
    }

    /// In encoded units.
    pub fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn squared(self) -> f64 {
        (self.0 as f64) * (self.0 as f64)
    }
}

/// Probability with which a promise may not hold: over 0, below 0.5. Far below one over the number of people is
/// usual.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Delta(f64);

impl Delta {
    /// Checked.
    ///
    /// # Errors
    ///
    /// [`PrivacyError::Delta`].
    pub fn new(delta: f64) -> Result<Self, PrivacyError> {
        (delta > 0.0 && delta < 0.5)
            .then_some(Self(delta))
            .ok_or(PrivacyError::Delta(delta))
    }

    /// As a number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Delta {
    type Error = PrivacyError;

    fn try_from(delta: f64) -> Result<Self, PrivacyError> {
        Self::new(delta)
    }
}

impl From<Delta> for f64 {
    fn from(delta: Delta) -> Self {
        delta.0
    }
}

/// A cost in zCDP: for every order `a > 1`, the Rényi divergence of order `a` between the results with one person's
/// update and with another in its place is at most `rho * a` (Bun and Steinke 2016, Definition 1.1). Costs add up
/// over rounds, chosen adaptively or not, and nothing done with a result makes it cost more.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd, Default, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Rho(f64);

impl TryFrom<f64> for Rho {
    type Error = PrivacyError;

    fn try_from(rho: f64) -> Result<Self, PrivacyError> {
        Self::new(rho)
    }
}

impl From<Rho> for f64 {
    fn from(rho: Rho) -> Self {
        rho.0
    }
}

/// Enough to halve an interval of numbers until nothing is between its ends.
const HALVINGS: u32 = 2100;

/// The last of `low` and the first of `high`, for a predicate that is true from some number between them on.
fn first_true(mut low: f64, mut high: f64, holds: impl Fn(f64) -> bool) -> (f64, f64) {
    for _ in 0..HALVINGS {
        let middle = low + (high - low) / 2.0;
        if !(low < middle && middle < high) {
            break;
        }
        match holds(middle) {
            true => high = middle,
            false => low = middle,
        }
    }
    (low, high)
}

/// `delta` of CKS20, Corollary 13, for `rho` and `epsilon`: the least, over orders `a > 1`, of
/// `exp((a - 1)(a rho - epsilon)) / (a - 1) * (1 - 1/a)^a`. Every order gives a true bound.
fn delta_of(rho: f64, epsilon: f64) -> f64 {
    if rho == 0.0 {
        return 0.0;
    }
    // In `b = a - 1`, the logarithm is convex and this is its derivative.
    let rising = |b: f64| (1.0 + 2.0 * b) * rho - epsilon - b.recip().ln_1p() > 0.0;
    let most = ((epsilon + 1.0) / (2.0 * rho) + 1.0).min(1e100);
    let (_, b) = first_true(0.0, most, rising);
    let logarithm = b * ((1.0 + b) * rho - epsilon) - b * b.recip().ln_1p() - b.ln_1p();
    logarithm.exp().min(1.0)
}

/// The largest `rho` that is (`epsilon`, `delta`).
pub(crate) fn rho_of(epsilon: f64, delta: Delta) -> Rho {
    // At `epsilon + 1`, delta is over 1/2.
    let (low, _) = first_true(0.0, epsilon + 1.0, |rho| delta_of(rho, epsilon) > delta.0);
    Rho(low)
}

impl Rho {
    /// Costs nothing.
    pub const ZERO: Self = Self(0.0);

    /// Checked.
    ///
    /// # Errors
    ///
    /// [`PrivacyError::Rho`].
    pub fn new(rho: f64) -> Result<Self, PrivacyError> {
        (rho.is_finite() && rho >= 0.0)
            // Without the sign of a negative zero.
            .then_some(Self(rho.abs()))
            .ok_or(PrivacyError::Rho(rho))
    }

    /// Of a sum with discrete Gaussian noise of this variance on every coordinate: `sensitivity^2 / (2 variance)`
    /// (CKS20, Theorem 4, and its form for any number of coordinates).
    pub fn of_gaussian(sensitivity: Sensitivity, variance: Variance) -> Self {
        Self(sensitivity.squared() / (2.0 * variance.as_f64()))
    }

    /// As a number.
    pub fn get(self) -> f64 {
        self.0
    }

    /// This and another cost together, rounded up.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let sum = self.0 + other.0;
        // Rounding down would let a long task spend more than it counts.
        Self(match self.0 == 0.0 || other.0 == 0.0 {
            true => sum,
            false => sum.next_up().min(f64::MAX),
        })
    }

    /// This cost in each of so many rounds.
    #[must_use]
    pub fn times(self, rounds: u32) -> Self {
        Self((self.0 * f64::from(rounds)).min(f64::MAX))
    }

    /// The least `epsilon` at this `delta` (CKS20, Corollary 13, with the best order).
    pub fn epsilon(self, delta: Delta) -> f64 {
        if self.0 == 0.0 {
            return 0.0;
        }
        let (_, epsilon) = first_true(0.0, self.epsilon_closed_form(delta), |epsilon| {
            delta_of(self.0, epsilon) <= delta.0
        });
        epsilon
    }

    /// `rho + 2 sqrt(rho ln(1 / delta))` (Bun and Steinke 2016, Proposition 1.3): somewhat more than
    /// [`Rho::epsilon`], and done by hand.
    pub fn epsilon_closed_form(self, delta: Delta) -> f64 {
        self.0 + 2.0 * (self.0 * -delta.0.ln()).sqrt()
    }

    /// The least `delta` at this `epsilon`, from 0 to 1 (CKS20, Corollary 13, with the best order); 1 for an
    /// `epsilon` that is negative or not a number.
    pub fn delta(self, epsilon: f64) -> f64 {
        match epsilon >= 0.0 {
            true => delta_of(self.0, epsilon),
            false => 1.0,
        }
    }
}
