//! From floating-point coordinates to integers, bits and field elements, and back.

use crate::params::{Derived, Parameters};
use crate::residue::Residue;

/// A measurement is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum EncodeError {
    /// Of another dimension.
    #[error("the vector has {found} coordinates, this instance takes {expected}")]
    Dimension {
        /// The vector's.
        found: usize,
        /// The instance's.
        expected: usize,
    },
    /// Not a number, infinite, or too small for a normal number.
    #[error(
        "coordinate {index} is not a normal number; NaN, infinity and subnormals have no encoding"
    )]
    NotNormal {
        /// Which.
        index: usize,
    },
    /// The L2 norm is over the bound.
    #[error("the vector's norm is {norm}, over the bound of {bound}; clip it first")]
    OverNorm {
        /// Of the encoded vector, in the vector's own units.
        norm: f64,
        /// The bound, in the same units.
        bound: f64,
    },
    /// The wraparound checks did not hold with this randomness; honest vectors meet this with
    /// probability below 2^-46.
    #[error("a wraparound check failed by chance; draw other randomness and shard again")]
    Retry,
}

/// A vector in fixed point, its norm checked.
pub(crate) struct Encoded {
    /// In units of `2^-num_frac_bits`, `[d]`.
    pub values: Vec<i64>,
    /// Of those, the squared L2 norm.
    pub squared_norm: u128,
}

impl Encoded {
    /// Round half to even, and check the norm.
    pub(crate) fn new(
        params: &Parameters,
        derived: &Derived,
        measurement: &[f64],
    ) -> Result<Self, EncodeError> {
        if measurement.len() != params.dimension {
            return Err(EncodeError::Dimension {
                found: measurement.len(),
                expected: params.dimension,
            });
        }
        let unit = 2f64.powi(params.num_frac_bits as i32);
        let bound = params.l2_norm_bound as f64;
        let mut values = Vec::with_capacity(measurement.len());
        let mut squared_norm = 0u128;
        let mut squared = 0f64;
        for (index, value) in measurement.iter().enumerate() {
            if *value != 0.0 && !value.is_normal() {
                return Err(EncodeError::NotNormal { index });
            }
            let encoded = (value * unit).round_ties_even();
            squared += encoded * encoded;
            // Out of the integers' range it is over the bound by itself, and is refused below.
            values.push(encoded as i64);
            let magnitude = u128::from((encoded as i64).unsigned_abs());
            squared_norm = squared_norm.saturating_add(magnitude * magnitude);
        }
        // The float sum only speaks for what is too large for the exact one.
        if squared_norm > derived.sq_norm_bound || squared > 2.0 * bound * bound {
            return Err(EncodeError::OverNorm {
                norm: squared.sqrt() / unit,
                bound: bound / unit,
            });
        }
        Ok(Self {
            values,
            squared_norm,
        })
    }

    /// The gradient, and the bits of its squared norm and of what is missing to the bound.
    pub(crate) fn gradient_and_norm<R: Residue>(&self, derived: &Derived) -> Vec<R> {
        let mut measurement = Vec::with_capacity(derived.meas_len);
        // Moved up by 2^63 and down again, so that both signs take the same steps.
        let offset = R::from_integer(1 << 63);
        measurement.extend(self.values.iter().map(|value| {
            let above_zero = value.cast_unsigned() ^ (1 << 63);
            R::from_integer(u128::from(above_zero)) - offset
        }));
        let missing = derived.sq_norm_bound.saturating_sub(self.squared_norm);
        for value in [self.squared_norm, missing] {
            push_bits(&mut measurement, value, derived.num_bits_for_sq_norm);
        }
        measurement
    }
}

/// Append bits, least significant first.
fn push_bits<R: Residue>(measurement: &mut Vec<R>, value: u128, bits: usize) {
    measurement.extend((0..bits).map(|bit| R::from_integer((value >> bit) & 1)));
}

/// Append each wraparound check's result and success bit.
pub(crate) fn push_wr_checks<R: Residue>(
    params: &Parameters,
    derived: &Derived,
    results: &[R],
    measurement: &mut Vec<R>,
) -> Result<(), EncodeError> {
    let bound = derived.wr_check_bound;
    let least = R::from_integer(bound - 1);
    let mut successes = 0;
    for result in results {
        let shifted = (*result + least).to_integer();
        let in_range = shifted < 2 * bound;
        let success = in_range && successes < params.num_wr_successes;
        successes += usize::from(success);
        // A check that is out of range is not counted, and may say anything, as long as it is bits.
        let shifted = if in_range { shifted } else { 0 };
        push_bits(measurement, shifted, derived.num_bits_for_wr_check);
        push_bits(measurement, u128::from(success), 1);
    }
    match successes == params.num_wr_successes {
        true => Ok(()),
        false => Err(EncodeError::Retry),
    }
}

/// A sum of encoded vectors, `[d]`; the upper half of the field is negative.
pub(crate) fn decode<R: Residue>(params: &Parameters, sum: &[R]) -> Vec<f64> {
    let unit = 2f64.powi(params.num_frac_bits as i32);
    sum.iter()
        .map(|element| {
            let value = element.to_integer();
            let signed = match value > R::MODULUS / 2 {
                true => -((R::MODULUS - value) as f64),
                false => value as f64,
            };
            signed / unit
        })
        .collect()
}
