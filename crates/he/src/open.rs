//! Opening a sum with the sum of its keys. Deterministic, so that anybody can repeat it.
//!
//! # Why only one key opens a sum
//!
//! Whoever opens a sum names the key, and keys are uniform: any ring element could be one. If two keys opened one sum, their
//! difference `d` would be such that for every block `b` all coefficients of `a_b d` are of the form
//! `DELTA * v + r`, where `|r| <= 2 *` [`residual_bound`] and `v` is the difference of two totals; in a block of zeros, `v = 0`.
//! The masks `a_b` are uniform and not chosen by anybody, so this is counting. With 32 parties and totals below 2^36, which the
//! bound on a total's norm sees to (its caller's: `defim_aggregation::OpenedTotal`; of vectors over a smaller field
//! [`open_below`] takes no more than their sums can be, so that no multiple of its modulus hides in a total), a coefficient has 2^54.4
//! of 2^80 values, and 2^10.4 in a block of zeros.
//!
//! - A vector of one block without zeros has 2^(4096 * 54.4) such `d`: one for every total that somebody would like to see, and
//!   `a_0^-1 * DELTA * v` is the way to it.
//! - With a block of zeros, `d = a_z^-1 r` for one of 2^(4096 * 10.4) small `r`, each of which fits another block with
//!   probability 2^(-4096 * 25.6). (A `d` with fewer than 1.76 * 4096 residues other than zero in the transform has no such `r`: every
//!   element of that ideal but zero is longer, by the inequality of the arithmetic and geometric means.)
//! - With ten blocks or more, `d` is one of 2^(4096 * 80), each of which fits with probability 2^(-10 * 4096 * 25.6).
//!
//! So short vectors end in a block of zeros ([`crate::params::Dimension::blocks`]).

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
/// Every coefficient must be close to a multiple of [`DELTA`], also those that only fill blocks, and these must be zero. A wrong
/// key is found by that, also one that was made to fit one block: it fills the others with noise. One changed coefficient passes with
/// a probability of 6 % (2 nodes) to 33 % (32 nodes), and one that is changed by a multiple of [`DELTA`]
/// passes always: it is the roots in the [`crate::Opening`] that show changed bytes.
///
/// # Errors
///
/// [`OpenError`] with the first coefficient that no honest sum has.
pub fn open(round: Round, sum: &Sum, key: &SumKey) -> Result<Vec<u64>, OpenError> {
    open_below(FIELD, round, sum, key)
}

/// The same of vectors whose elements are all below `modulus`: those of a smaller field have smaller sums, and a key that
/// makes larger ones is wrong.
///
/// # Errors
///
/// [`OpenError`] with the first coefficient that no honest sum has.
pub fn open_below(
    modulus: u64,
    round: Round,
    sum: &Sum,
    key: &SumKey,
) -> Result<Vec<u64>, OpenError> {
    if sum.parties == 0 {
        return Err(OpenError::Empty);
    }
    let bound = residual_bound(sum.parties);
    let largest = u128::from(modulus.min(FIELD).saturating_sub(1)) * sum.parties as u128;
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
    use proptest::prelude::*;
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::{
        key::SecretKey,
        params::{Dimension, N, PRIMES},
        ring::RESIDUES,
        sum::Adding,
    };

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

    /// `x^(q - 2)` for each residue: the inverse, of values.
    fn invert(element: &mut [u64]) {
        for (row, q) in element.chunks_exact_mut(N).zip(PRIMES) {
            for x in row {
                let times = |a: u64, b: u64| (u128::from(a) * u128::from(b) % u128::from(q)) as u64;
                let (mut power, mut square, mut left) = (1, *x, q - 2);
                while left > 0 {
                    if left & 1 == 1 {
                        power = times(power, square);
                    }
                    square = times(square, square);
                    left >>= 1;
                }
                *x = power;
            }
        }
    }

    /// Whoever knows the key makes another, with which the first block opens to another total with the very same noise.
    #[test]
    fn a_key_that_was_made_to_open_another_total_does_not() {
        let round = Round {
            task: [3; 32],
            number: 4,
        };
        let mut rng = StdRng::seed_from_u64(5);
        for d in [1, 650, 4096, 5000, 40_959, 40_960] {
            let vector: Vec<u64> = (0..d as u64).collect();
            let dimension = Dimension::new(d).unwrap();
            let mut adding = Adding::new(dimension);
            let mut key = vec![0; RESIDUES];
            for _ in 0..2 {
                let secret = SecretKey::random(&mut rng);
                ring::add(&mut key, &secret.coefficients);
                let one = secret.encrypt(round, &vector, &mut rng).unwrap();
                adding.add(&one).unwrap();
            }
            let sum = adding.finish();
            let honest = SumKey {
                coefficients: key.clone(),
            };
            let doubled: Vec<u64> = vector.iter().map(|x| 2 * x).collect();
            assert_eq!(open(round, &sum, &honest).unwrap(), doubled);

            let mut wanted = vec![0; RESIDUES];
            ring::add_message(&mut wanted, &[7], &[0; N]);
            ring::forward(&mut wanted);
            let mut way = round.mask(0);
            ring::forward(&mut way);
            invert(&mut way);
            ring::multiply(&mut wanted, &way);
            ring::backward(&mut wanted);
            ring::subtract(&mut key, &wanted);
            let forged = SumKey { coefficients: key };
            // The first block is as it should be: the fault is found behind it.
            match open(round, &sum, &forged) {
                Err(OpenError::Residual { block: 1, .. } | OpenError::Range { block: 1, .. }) => {}
                other => panic!("{d}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_sum_that_is_larger_than_a_small_field_gives_is_refused() {
        let round = Round {
            task: [3; 32],
            number: 4,
        };
        let mut rng = StdRng::seed_from_u64(6);
        let mut adding = Adding::new(Dimension::new(2).unwrap());
        let mut coefficients = vec![0; RESIDUES];
        for _ in 0..2 {
            let secret = SecretKey::random(&mut rng);
            ring::add(&mut coefficients, &secret.coefficients);
            let one = secret.encrypt(round, &[99, 100], &mut rng).unwrap();
            adding.add(&one).unwrap();
        }
        let (sum, key) = (adding.finish(), SumKey { coefficients });
        let open = |modulus| open_below(modulus, round, &sum, &key);
        assert_eq!(open(101), Ok(vec![198, 200]));
        let (block, coefficient) = (0, 1);
        assert_eq!(open(100), Err(OpenError::Range { block, coefficient }));
    }

    #[test]
    fn noise_below_zero_rounds_to_zero() {
        let q = u128::from(crate::params::PRIMES[0]) * u128::from(crate::params::PRIMES[1]);
        assert_eq!(nearest(q - 1), (0, 1));
        assert_eq!(nearest(0), (0, 0));
        assert_eq!(nearest(q - 1023), (0, 1023));
    }
}
