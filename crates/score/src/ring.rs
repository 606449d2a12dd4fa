//! The ring `Z_q[X] / (X^2048 + 1)` with `q = 2^40`, by coefficients.
//!
//! Coefficients are kept in 64 bits and wrap there; the low 40 bits are the element, and only they are ever written
//! down. Products are schoolbook: exact, without a transform and its rounding, and without a branch or a memory
//! access that depends on a value.

use rand_core::CryptoRng;
use sha3::digest::{ExtendableOutput as _, Update as _, XofReader as _};
use sha3::{TurboShake128, TurboShake128Core};
use zeroize::{Zeroize as _, Zeroizing};

use crate::params::{FLOODING, N, REQUEST_COEFFICIENT_BYTES, SEED_BYTES};

/// A ring element, `[N]`.
pub(crate) type Element = Vec<u64>;

/// Factors that are taken in one pass over the sums.
const AT_ONCE: usize = 4;

/// An element to be multiplied: its negation, then itself, so that `X^N = -1` needs no case.
pub(crate) struct Multiplicand {
    extended: Vec<u64>,
}

/// `coefficient * factor` for a factor that is 0 or all ones, standing for 0 and 1.
#[inline]
pub(crate) fn masked(coefficient: u64, factor: u64) -> u64 {
    coefficient & factor
}

/// `coefficient * factor`.
#[inline]
pub(crate) fn times(coefficient: u64, factor: u64) -> u64 {
    coefficient.wrapping_mul(factor)
}

impl Multiplicand {
    pub(crate) fn new(element: &[u64]) -> Self {
        let negated = element.iter().map(|c| c.wrapping_neg());
        Self {
            extended: negated.chain(element.iter().copied()).collect(),
        }
    }

    /// All coefficients from `start - N` on.
    fn from(&self, start: usize) -> &[u64] {
        self.extended.get(start..).unwrap_or_default()
    }

    /// All coefficients from `-N` to `place`.
    fn up_to(&self, place: usize) -> &[u64] {
        // Never empty: a place is below N.
        self.extended.get(..=N + place).unwrap_or_default()
    }

    /// The product with `factors: [up to N]`, all `N` coefficients.
    #[inline]
    pub(crate) fn product(&self, factors: &[u64], term: impl Fn(u64, u64) -> u64) -> Element {
        let mut product = vec![0u64; N];
        for (block, some) in factors.chunks(AT_ONCE).enumerate() {
            let mut four = [0; AT_ONCE];
            four.iter_mut().zip(some).for_each(|(a, b)| *a = *b);
            let [f0, f1, f2, f3] = four;
            // Factor i meets the coefficients from -i on.
            let from = |i: usize| self.from(N - block * AT_ONCE - i);
            let meeting = from(0).iter().zip(from(1)).zip(from(2)).zip(from(3));
            for (sum, (((c0, c1), c2), c3)) in product.iter_mut().zip(meeting) {
                let low = term(*c0, f0).wrapping_add(term(*c1, f1));
                let high = term(*c2, f2).wrapping_add(term(*c3, f3));
                *sum = sum.wrapping_add(low.wrapping_add(high));
            }
        }
        product
    }

    /// One coefficient of the product.
    #[inline]
    pub(crate) fn product_at(
        &self,
        place: usize,
        factors: &[u64],
        term: impl Fn(u64, u64) -> u64,
    ) -> u64 {
        let meeting = self.up_to(place).iter().rev();
        meeting.zip(factors).fold(0, |sum, (coefficient, factor)| {
            sum.wrapping_add(term(*coefficient, *factor))
        })
    }
}

impl Drop for Multiplicand {
    fn drop(&mut self) {
        self.extended.zeroize();
    }
}

/// `element += other`.
pub(crate) fn add(element: &mut [u64], other: &[u64]) {
    for (a, b) in element.iter_mut().zip(other) {
        *a = a.wrapping_add(*b);
    }
}

/// What a public element is for.
#[derive(Clone, Copy)]
pub(crate) enum Mask {
    /// The features' mask `a`.
    Features,
    /// The public key's mask `p`.
    PublicKey,
}

/// Domain byte of TurboSHAKE128. The VDAF drafts use 1.
const DOMAIN_BYTE: u8 = 0x73;

/// The public element of a seed: TurboSHAKE128 over domain, purpose and seed, 40 bits a coefficient, little-endian.
/// The client chooses the seed but cannot choose the element.
pub(crate) fn expand(seed: &[u8; SEED_BYTES], mask: Mask) -> Element {
    let purpose: &[u8] = match mask {
        Mask::Features => b"features\0",
        Mask::PublicKey => b"public key\0",
    };
    let mut xof = TurboShake128::from_core(TurboShake128Core::new(DOMAIN_BYTE));
    xof.update(b"defim score v1 mask\0");
    xof.update(purpose);
    xof.update(seed);
    let mut bytes = vec![0; N * REQUEST_COEFFICIENT_BYTES];
    xof.finalize_xof().read(&mut bytes);
    unpack(&bytes)
}

/// Uniform bits, `[N]`: 0, or all ones for 1.
pub(crate) fn bits(rng: &mut impl CryptoRng) -> Zeroizing<Element> {
    let mut bytes = Zeroizing::new([0; N / 8]);
    rng.fill_bytes(bytes.as_mut_slice());
    let bit = |byte: u8, at: u32| u64::from(byte >> at & 1).wrapping_neg();
    let bits = bytes.iter().flat_map(|b| (0..8).map(move |at| bit(*b, at)));
    let mut element = Zeroizing::new(Vec::with_capacity(N));
    element.extend(bits);
    element
}

/// Errors, `[N]`: centred binomials of 32 coins, 16 of them counted negative; variance 8.
pub(crate) fn errors(rng: &mut impl CryptoRng) -> Zeroizing<Element> {
    let mut bytes = Zeroizing::new([0; 4 * N]);
    rng.fill_bytes(bytes.as_mut_slice());
    let coins = bytes.as_chunks().0.iter().map(|c| u32::from_le_bytes(*c));
    let mut element = Zeroizing::new(Vec::with_capacity(N));
    element.extend(coins.map(|c| {
        u64::from((c & 0xFFFF).count_ones()).wrapping_sub(u64::from((c >> 16).count_ones()))
    }));
    element
}

/// Uniform in `[-FLOODING, FLOODING)`.
pub(crate) fn flooding(rng: &mut impl CryptoRng) -> u64 {
    (u64::from(rng.next_u32()) % (2 * FLOODING)).wrapping_sub(FLOODING)
}

/// Appends `element`, five bytes a coefficient, little-endian.
pub(crate) fn pack(element: &[u64], bytes: &mut Vec<u8>) {
    for coefficient in element {
        let coefficient = coefficient.to_le_bytes();
        bytes.extend(coefficient.iter().take(REQUEST_COEFFICIENT_BYTES));
    }
}

/// From five bytes a coefficient. Every pattern is a coefficient, and the only form of it.
pub(crate) fn unpack(bytes: &[u8]) -> Element {
    let chunks = bytes.as_chunks::<REQUEST_COEFFICIENT_BYTES>().0;
    chunks
        .iter()
        .map(|[a, b, c, d, e]| u64::from_le_bytes([*a, *b, *c, *d, *e, 0, 0, 0]))
        .collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};

    /// By the definition.
    pub(crate) fn reference(a: &[u64], b: &[u64]) -> Element {
        let mut product = vec![0u64; N];
        for (i, a) in a.iter().enumerate() {
            for (j, b) in b.iter().enumerate() {
                let term = a.wrapping_mul(*b);
                let place = &mut product[(i + j) % N];
                *place = match i + j < N {
                    true => place.wrapping_add(term),
                    false => place.wrapping_sub(term),
                };
            }
        }
        product
    }

    #[test]
    fn products_are_those_of_the_definition() {
        let mut rng = ChaCha20Rng::from_seed([4; 32]);
        let a = expand(&[1; 32], Mask::Features);
        let b = expand(&[1; 32], Mask::PublicKey);
        assert_ne!(a, b);
        let multiplicand = Multiplicand::new(&a);
        assert_eq!(multiplicand.product(&b, times), reference(&a, &b));
        assert_eq!(
            multiplicand.product(&b[..77], times),
            reference(&a, &b[..77])
        );
        let bits = bits(&mut rng);
        let ones: Vec<u64> = bits.iter().map(|bit| bit & 1).collect();
        let product = multiplicand.product(&bits, masked);
        assert_eq!(product, reference(&a, &ones));
        for place in [0, 1, 15, 16, 1000, N - 1] {
            assert_eq!(
                multiplicand.product_at(place, &bits, masked),
                product[place]
            );
        }
    }

    #[test]
    fn samples_have_the_distribution_of_the_parameters() {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let (mut sum, mut squares, mut ones) = (0i64, 0i64, 0);
        for _ in 0..100 {
            let errors = errors(&mut rng);
            assert_eq!(errors.len(), N);
            for error in errors.iter().map(|e| *e as i64) {
                assert!(error.abs() <= 16);
                sum += error;
                squares += error * error;
            }
            let bits = bits(&mut rng);
            assert_eq!(bits.len(), N);
            assert!(bits.iter().all(|bit| [0, u64::MAX].contains(bit)));
            ones += bits.iter().filter(|bit| **bit != 0).count();
        }
        let n = 100.0 * N as f64;
        // Five standard deviations.
        assert!((sum as f64 / n).abs() < 5.0 * (8.0 / n).sqrt());
        assert!((squares as f64 / n - 8.0).abs() < 5.0 * (2.0 * 64.0 / n).sqrt());
        assert!((ones as f64 / n - 0.5).abs() < 5.0 * (0.25 / n).sqrt());
        let noise: Vec<i64> = (0..10_000).map(|_| flooding(&mut rng) as i64).collect();
        let half = FLOODING as i64;
        assert!(noise.iter().all(|e| (-half..half).contains(e)));
        assert!(noise.iter().any(|e| *e < -half * 99 / 100));
        assert!(noise.iter().any(|e| *e > half * 99 / 100));
    }

    #[test]
    fn packed_coefficients_are_modulo_q() {
        let mut bytes = Vec::new();
        pack(&[1, u64::MAX, 1 << 40], &mut bytes);
        assert_eq!(unpack(&bytes), [1, (1 << 40) - 1, 0]);
        assert_eq!(bytes.len(), 15);
    }
}
