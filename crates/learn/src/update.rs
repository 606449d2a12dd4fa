//! An update on its way out: clipped to the norm bound, then in fixed point; and the mean coming back.

use serde::{Deserialize, Serialize};

/// L2 bound of an update, in the model's units.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClipNorm(pub f32);

/// An update is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum UpdateError {
    /// Not a number, or infinite.
    #[error("coordinate {index} of the update is not finite; nothing was sent")]
    NotFinite {
        /// Which.
        index: usize,
    },
    /// Longer than the task allows.
    #[error("the update's norm is {norm}, over the task's bound of {bound}; clip it first")]
    OverNorm {
        /// Its L2 norm.
        norm: f32,
        /// The bound.
        bound: f32,
    },
    /// The mean of nothing.
    #[error("there is nothing to take the mean of")]
    NoWeight,
    /// Of another model.
    #[error("the update has {found} coordinates, the model {expected}")]
    OtherDimension {
        /// The model's.
        expected: usize,
        /// The update's.
        found: usize,
    },
    /// The optimiser remembers another model, or part of one.
    #[error(
        "the optimiser's state is damaged: it has {found} numbers, {expected} belong to this model; restore the store from a \
         backup, or create the task anew"
    )]
    DamagedState {
        /// Two moments of the model's dimension.
        expected: usize,
        /// What is there.
        found: usize,
    },
}

fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|v| f64::from(*v) * f64::from(*v))
        .sum::<f64>()
        .sqrt()
}

fn check_finite(values: &[f32]) -> Result<(), UpdateError> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(UpdateError::NotFinite { index }),
        None => Ok(()),
    }
}

macro_rules! redacted {
    ($($name:ident),*) => {$(
        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({} coordinates, redacted)"), self.values.len())
            }
        }
    )*};
}

redacted!(LocalUpdate, ClippedUpdate, FixedUpdate);

/// What training changed, `[d]`. Only [`crate::train`] makes one.
#[derive(Clone, PartialEq)]
pub struct LocalUpdate {
    values: Vec<f32>,
}

impl LocalUpdate {
    pub(crate) fn new(values: Vec<f32>) -> Self {
        Self { values }
    }

    #[cfg(test)]
    pub(crate) fn values(&self) -> &[f32] {
        &self.values
    }

    /// Its L2 norm.
    pub fn norm(&self) -> f32 {
        norm(&self.values) as f32
    }

    /// Scale down to the bound, if it is over.
    ///
    /// # Errors
    ///
    /// [`UpdateError::NotFinite`].
    pub fn clip(self, bound: ClipNorm) -> Result<ClippedUpdate, UpdateError> {
        check_finite(&self.values)?;
        let original = norm(&self.values);
        let limit = f64::from(bound.0);
        let clipped = original > limit;
        let values = match clipped {
            true => self
                .values
                .iter()
                .map(|v| (f64::from(*v) * (limit / original)) as f32)
                .collect(),
            false => self.values,
        };
        Ok(ClippedUpdate {
            values,
            bound,
            original: original as f32,
            clipped,
        })
    }
}

/// An update within the bound, `[d]`.
#[derive(Clone, PartialEq)]
pub struct ClippedUpdate {
    values: Vec<f32>,
    bound: ClipNorm,
    original: f32,
    clipped: bool,
}

impl ClippedUpdate {
    /// L2 norm before clipping.
    pub fn original_norm(&self) -> f32 {
        self.original
    }

    /// Whether it was over the bound.
    pub fn was_clipped(&self) -> bool {
        self.clipped
    }

    /// The coordinates. For the run without cryptography, and nothing else.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Encode in units of `bound / 2^frac_bits`, rounding half to even.
    ///
    /// # Errors
    ///
    /// [`UpdateError::NotFinite`].
    pub fn quantise(&self, frac_bits: u32) -> Result<FixedUpdate, UpdateError> {
        check_finite(&self.values)?;
        let one = f64::from(1u32 << frac_bits.min(30));
        let limit = 1u64 << (2 * frac_bits.min(30));
        // Rounding can push a vector at the bound over it by up to sqrt(d)/2 steps; then it is
        // shrunk by that much, which is the least that surely helps.
        let mut scale = one / f64::from(self.bound.0);
        let slack = 1.0 - (self.values.len() as f64).sqrt() / one;
        loop {
            let values: Vec<i32> = self
                .values
                .iter()
                .map(|v| (f64::from(*v) * scale).round_ties_even() as i32)
                .collect();
            let squares: u64 = values
                .iter()
                .map(|v| i64::from(*v).unsigned_abs().pow(2))
                .sum();
            if squares < limit {
                return Ok(FixedUpdate { values, frac_bits });
            }
            scale *= slack.clamp(0.5, 1.0 - 1.0 / one);
        }
    }
}

/// An update in fixed point, `[d]`, integer norm strictly below `2^frac_bits`.
#[derive(Clone, PartialEq, Eq)]
pub struct FixedUpdate {
    values: Vec<i32>,
    frac_bits: u32,
}

impl FixedUpdate {
    /// Coordinates in units of `bound / 2^frac_bits`.
    pub fn values(&self) -> &[i32] {
        &self.values
    }

    /// Fractional bits.
    pub fn frac_bits(&self) -> u32 {
        self.frac_bits
    }
}

/// Encode an update that somebody brings ready made; unlike [`LocalUpdate::clip`] it refuses what is
/// over the bound instead of scaling it.
///
/// # Errors
///
/// [`UpdateError::OverNorm`] or [`UpdateError::NotFinite`].
pub fn quantise_vector(
    values: &[f32],
    bound: ClipNorm,
    frac_bits: u32,
) -> Result<FixedUpdate, UpdateError> {
    let clipped = LocalUpdate::new(values.to_vec()).clip(bound)?;
    if clipped.clipped {
        return Err(UpdateError::OverNorm {
            norm: clipped.original,
            bound: bound.0,
        });
    }
    clipped.quantise(frac_bits)
}

/// The mean of all updates of a round, `[d]`, in the model's units.
#[derive(Debug, Clone, PartialEq)]
pub struct MeanUpdate {
    values: Vec<f32>,
}

impl MeanUpdate {
    /// From an opened sum, in units of the bound, and the number of updates in it.
    ///
    /// # Errors
    ///
    /// [`UpdateError::NoWeight`] for none, [`UpdateError::NotFinite`].
    pub fn from_sum(sum: &[f64], bound: ClipNorm, weight: u64) -> Result<Self, UpdateError> {
        if weight == 0 {
            return Err(UpdateError::NoWeight);
        }
        let values: Vec<f32> = sum
            .iter()
            .map(|v| (v * f64::from(bound.0) / weight as f64) as f32)
            .collect();
        check_finite(&values)?;
        Ok(Self { values })
    }

    /// The coordinates.
    pub fn values(&self) -> &[f32] {
        &self.values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_vector_leaves_over_the_bound_and_little_is_lost(
            values in proptest::collection::vec(-50f32..50.0, 1..300),
            bound in 0.01f32..100.0,
        ) {
            let clipped = LocalUpdate::new(values).clip(ClipNorm(bound)).unwrap();
            prop_assert!(norm(clipped.values()) <= f64::from(bound) * 1.000_001);
            let fixed = clipped.quantise(15).unwrap();
            let squares: u64 = fixed.values().iter().map(|v| i64::from(*v).unsigned_abs().pow(2)).sum();
            prop_assert!(squares < 1 << 30);
            let step = f64::from(bound) / 32768.0;
            for (value, encoded) in clipped.values().iter().zip(fixed.values()) {
                // Half a step of rounding, and the shrinking that keeps it below the bound.
                let room = step * (1.0 + f64::from(value.abs() / bound) * 60.0);
                prop_assert!((f64::from(*value) - f64::from(*encoded) * step).abs() <= room);
            }
        }
    }

    #[test]
    fn halves_round_to_even_and_the_bound_itself_fits() {
        let step = 1.0 / 32768.0;
        let fixed =
            quantise_vector(&[0.5 * step, 1.5 * step, -2.5 * step], ClipNorm(1.0), 15).unwrap();
        assert_eq!(fixed.values(), [0, 2, -2]);
        let edge = quantise_vector(&[1.0], ClipNorm(1.0), 15).unwrap();
        assert_eq!(edge.values(), [32767]);
    }

    #[test]
    fn what_is_over_the_bound_or_not_finite_is_refused_with_its_figure() {
        let over = quantise_vector(&[3.0, 4.0], ClipNorm(1.0), 15).unwrap_err();
        assert_eq!(
            over,
            UpdateError::OverNorm {
                norm: 5.0,
                bound: 1.0
            }
        );
        let nan = quantise_vector(&[0.0, f32::NAN], ClipNorm(1.0), 15).unwrap_err();
        assert_eq!(nan, UpdateError::NotFinite { index: 1 });
        assert_eq!(
            MeanUpdate::from_sum(&[1.0], ClipNorm(1.0), 0),
            Err(UpdateError::NoWeight)
        );
        let secret = LocalUpdate::new(vec![0.125]);
        assert!(!format!("{secret:?}").contains("0.125"));
    }
}
