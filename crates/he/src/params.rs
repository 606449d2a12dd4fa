//! The parameters, what they allow, and the bound on what noise a sum may hold.

/// Coefficients of a ring element; a block of a ciphertext carries as many coordinates.
pub const N: usize = 4096;

/// The two primes of `q = q1 * q2`, both 1 mod 2N and below 2^40.
pub const PRIMES: [u64; 2] = [1_099_510_824_961, 1_099_508_760_577];

/// The field of what is encrypted: Field64 of the VDAF drafts, `2^64 - 2^32 + 1`.
pub const FIELD: u64 = 0xFFFF_FFFF_0000_0001;

/// What a field element is multiplied with, to keep it clear of the noise.
///
/// The largest factor with which the sum of [`MAX_PARTIES`] of the largest elements fits `q`. 2^11 is one
/// too much: `q` is 2^62 short of 2^80, and `32 * (p - 1) * 2^11` only 2^48, so it would wrap.
pub const DELTA: u64 = 2047;

/// Variance of an error's coefficient, a centred binomial of 64 coins.
pub const VARIANCE: u32 = 16;

/// Ciphertexts that may be added. A third prime would allow more.
pub const MAX_PARTIES: usize = 32;

/// Bytes of a coefficient in its packed form: five a prime.
pub const COEFFICIENT_BYTES: usize = 10;

/// Bytes of a block, and of a key, in packed form.
pub const BLOCK_BYTES: usize = N * COEFFICIENT_BYTES;

/// The longest vector, in coordinates: more than any model that a browser trains, and 1.3 GB as a
/// ciphertext.
pub const MAX_DIMENSION: usize = 1 << 27;

/// No coefficient of one error is further from zero.
pub const MAX_ERROR: u64 = 2 * VARIANCE as u64;

/// The furthest from zero that a coefficient of the sum of `parties` honest errors may be.
///
/// The sum is that of `64 * parties` coins around their mean, so Hoeffding's inequality gives
/// `P(|sum| > t) <= 2 exp(-t^2 / (32 * parties))`. With `t = 60 * sqrt(parties)` this is below 2^-161 a
/// coefficient, and below 2^-134 for the 2^27 coefficients of the longest vector. With few parties
/// the largest possible sum, `32 * parties`, is less.
///
/// A wrong key leaves coefficients that are uniform over [`DELTA`] values; at 32 parties a third of
/// them is within the bound, so that a block passes with probability below 2^-6000.
pub fn residual_bound(parties: usize) -> u64 {
    let parties = parties as u64;
    MAX_ERROR
        .saturating_mul(parties)
        .min(parties.saturating_mul(3600).isqrt())
}

/// Full blocks from which on a vector is long enough to leave only one key that opens it. Shorter ones end in a block of
/// zeros; see [`crate::open`].
pub const LONG_BLOCKS: usize = 10;

/// A vector's length, in coordinates: 1 to [`MAX_DIMENSION`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dimension(usize);

/// The length is none that can be encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a vector of {0} coordinates cannot be encrypted: it must have 1 to {MAX_DIMENSION}")]
pub struct DimensionError(pub usize);

impl Dimension {
    /// A length.
    ///
    /// # Errors
    ///
    /// [`DimensionError`] for 0 and for more than [`MAX_DIMENSION`].
    pub fn new(coordinates: usize) -> Result<Self, DimensionError> {
        match coordinates {
            1..=MAX_DIMENSION => Ok(Self(coordinates)),
            _ => Err(DimensionError(coordinates)),
        }
    }

    /// In coordinates.
    pub fn coordinates(self) -> usize {
        self.0
    }

    /// In blocks of [`N`], filled up with zeros. A vector of fewer than [`LONG_BLOCKS`] full blocks has one more, of zeros only.
    pub fn blocks(self) -> u32 {
        // At most 2^15.
        self.count() as u32
    }

    /// Bytes of a ciphertext of this many coordinates.
    pub fn ciphertext_bytes(self) -> usize {
        self.count() * BLOCK_BYTES
    }

    fn count(self) -> usize {
        let zeros = usize::from(self.0 / N < LONG_BLOCKS);
        self.0.div_ceil(N) + zeros
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_prime(n: u64) -> bool {
        (2..)
            .take_while(|f| f * f <= n)
            .all(|f| !n.is_multiple_of(f))
    }

    #[test]
    fn the_parameters_are_those_of_the_security_estimate() {
        assert_eq!(N, 4096);
        assert_eq!(PRIMES, [1_099_510_824_961, 1_099_508_760_577]);
        assert_eq!(u128::from(FIELD), (1 << 64) - (1 << 32) + 1);
        assert_eq!((DELTA, VARIANCE, MAX_PARTIES), (2047, 16, 32));
        for q in PRIMES {
            assert!(is_prime(q), "{q}");
            assert_eq!(q % (2 * N as u64), 1);
            assert!(q < 1 << 40, "five bytes hold a residue");
        }
    }

    #[test]
    fn the_largest_sum_fits_the_modulus_and_only_with_this_factor() {
        let q = u128::from(PRIMES[0]) * u128::from(PRIMES[1]);
        let largest = MAX_PARTIES as u128 * u128::from(FIELD - 1);
        let noise = 2 * u128::from(residual_bound(MAX_PARTIES));
        assert!(largest * u128::from(DELTA) + noise < q);
        assert!(largest * u128::from(DELTA + 1) > q);
    }

    #[test]
    fn noise_within_its_bound_never_reaches_the_next_field_element() {
        for parties in 1..=MAX_PARTIES {
            let bound = residual_bound(parties);
            assert!(2 * bound < DELTA);
            // Nobody honest is refused: the bound is the largest sum, or Hoeffding gives it 2^-160.
            let exponent = (bound + 1).pow(2) as f64 / (32.0 * parties as f64) / 2f64.ln();
            assert!(
                bound == MAX_ERROR * parties as u64 || exponent - 1.0 > 160.0,
                "{parties}: {bound}, 2^-{exponent}"
            );
        }
        assert_eq!(residual_bound(2), 64);
        assert_eq!(residual_bound(4), 120);
        assert_eq!(residual_bound(32), 339);
    }

    #[test]
    fn a_vector_has_at_least_one_coordinate_and_whole_blocks_and_a_short_one_ends_in_zeros() {
        assert!(Dimension::new(0).is_err());
        assert!(Dimension::new(MAX_DIMENSION + 1).is_err());
        for (d, blocks) in [
            (1, 2),
            (4095, 2),
            (4096, 2),
            (4097, 3),
            (40_959, 11),
            (40_960, 10),
            (100_000, 25),
        ] {
            assert_eq!(Dimension::new(d).unwrap().blocks(), blocks);
        }
        let bytes = Dimension::new(100_000).unwrap().ciphertext_bytes();
        assert_eq!(bytes, 1_024_000);
    }
}
