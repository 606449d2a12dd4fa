//! Opening a sum with the sum of its keys. Deterministic, so that anybody can repeat it.

use crate::key::SumKey;
use crate::mask::Round;
use crate::params::{DELTA, FIELD, residual_bound};
use crate::ring;
use crate::sum::Sum;

/// Why a sum does not open. The round is void.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The noise that is left is more than honest nodes put in.
    #[error(
        "wrong key or changed ciphertext: {residual} is left at coefficient {coefficient} of block {block}, over {bound}"
    )]
    Residual {
        /// The block.
        block: u32,
        /// The place in the block.
        coefficient: usize,
        /// Distance from the nearest multiple of [`DELTA`].
        residual: u64,
        /// [`residual_bound`] of the sum's parties.
        bound: u64,
    },
    /// The value is more than that many field elements can give, or the filling after the last coordinate is
    /// not zero.
    #[error(
        "wrong key or changed ciphertext: coefficient {coefficient} of block {block} holds what no sum gives"
    )]
    Range {
        /// The block.
        block: u32,
        /// The place in the block.
        coefficient: usize,
    },
    /// Nothing was added.
    #[error("a sum of no ciphertexts has nothing to open")]
    Empty,
}

/// Open a sum: the field elements `[d]` that its nodes' vectors add up to, in least form.
///
/// Every coefficient must be close to a multiple of [`DELTA`], also those that only fill the last block. A wrong key
/// is found by that, however short the vector: it fills blocks with noise. One changed coefficient passes with
/// a probability of 6 % (2 nodes) to 33 % (32 nodes), and one that is changed by a multiple of [`DELTA`]
/// passes always: it is the roots in the [`crate::Opening`] that show changed bytes.
///
/// # Errors
///
/// [`OpenError`] with the first coefficient that no honest sum has.
pub fn open(round: Round, sum: &Sum, key: &SumKey) -> Result<Vec<u64>, OpenError> {
    if sum.parties == 0 {
        return Err(OpenError::Empty);
    }
    let bound = residual_bound(sum.parties);
    let largest = u128::from(FIELD - 1) * sum.parties as u128;
    let coordinates = sum.dimension().coordinates();
    let mut key = key.coefficients.clone();
    ring::forward(&mut key);
    let mut total = Vec::with_capacity(coordinates);
    for (block, added) in (0..).zip(sum.blocks.each()) {
        let mut mask = round.mask(block);
        ring::forward(&mut mask);
        ring::multiply(&mut mask, &key);
        ring::backward(&mut mask);
        let mut element = added.to_vec();
        ring::subtract(&mut element, &mask);
        let filling = coordinates.saturating_sub(total.len());
        for (coefficient, integer) in ring::integers(&element).enumerate() {
            let (value, residual) = nearest(integer);
            if residual > bound {
                return Err(OpenError::Residual {
                    block,
                    coefficient,
                    residual,
                    bound,
                });
            }
            if value > largest || (coefficient >= filling && value != 0) {
                return Err(OpenError::Range { block, coefficient });
            }
            if coefficient < filling {
                total.push(reduce(value));
            }
        }
    }
    Ok(total)
}

/// The factor of the nearest multiple of [`DELTA`], and the distance to it, modulo `q`.
fn nearest(integer: u128) -> (u128, u64) {
    const Q: u128 = crate::params::PRIMES[0] as u128 * crate::params::PRIMES[1] as u128;
    const HALF: u64 = DELTA / 2;
    // Noise below zero has wrapped to the top.
    let shifted = match integer + u128::from(HALF) {
        over if over >= Q => over - Q,
        under => under,
    };
    // Long division by halves of 40 bits, since the processor has none of 128.
    let (high, low) = ((shifted >> 40) as u64, shifted as u64 & ((1 << 40) - 1));
    let rest = (high % DELTA) << 40 | low;
    let value = (u128::from(high / DELTA) << 40) + u128::from(rest / DELTA);
    (value, (rest % DELTA).abs_diff(HALF))
}

/// Modulo the field's modulus, for values below 2^69: `2^64 = 2^32 - 1`.
fn reduce(value: u128) -> u64 {
    let (high, low) = ((value >> 64) as u64, value as u64);
    // Below 2^64 + 2^37 for the 32 parties there are: twice the modulus at most.
    let folded = u128::from(low) + u128::from(high) * 0xFFFF_FFFF;
    let field = u128::from(FIELD);
    folded.checked_sub(field).unwrap_or(folded) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rounding_finds_the_value_and_the_distance(
            value in 0..32 * u128::from(FIELD),
            noise in -1023..=1023i64,
        ) {
            let q = u128::from(crate::params::PRIMES[0]) * u128::from(crate::params::PRIMES[1]);
            let integer = (value * u128::from(DELTA) + q).wrapping_add_signed(noise.into()) % q;
            prop_assert_eq!(nearest(integer), (value, noise.unsigned_abs()));
            prop_assert_eq!(u128::from(reduce(value)), value % u128::from(FIELD));
        }
    }

    #[test]
    fn noise_below_zero_rounds_to_zero() {
        let q = u128::from(crate::params::PRIMES[0]) * u128::from(crate::params::PRIMES[1]);
        assert_eq!(nearest(q - 1), (0, 1));
        assert_eq!(nearest(0), (0, 0));
        assert_eq!(nearest(q - 1023), (0, 1023));
    }
}
