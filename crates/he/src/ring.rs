//! The ring `Z_q[X] / (X^4096 + 1)`: elements by their residues modulo the two primes.
//!
//! An element is 8192 residues, the 4096 coefficients modulo the first prime and then those modulo the
//! second. Whatever leaves this crate is in coefficients: the order and the root of unity of a
//! transform are `fhe-math`'s own affair and may change with its version.

use std::sync::LazyLock;

use fhe_math::ntt::NttOperator;
use fhe_math::zq::Modulus;
use zeroize::Zeroizing;

use crate::params::{BLOCK_BYTES, COEFFICIENT_BYTES, DELTA, N, PRIMES};

/// Residues of an element.
pub(crate) const RESIDUES: usize = 2 * N;

/// Bytes of a residue in packed form.
const RESIDUE_BYTES: usize = COEFFICIENT_BYTES / 2;

/// One prime with its arithmetic.
struct Prime {
    modulus: Modulus,
    ntt: NttOperator,
}

static RING: LazyLock<[Prime; 2]> = LazyLock::new(|| {
    PRIMES.map(|q| {
        let prime = Modulus::new(q)
            .ok()
            .and_then(|modulus| NttOperator::new(&modulus, N).map(|ntt| Prime { modulus, ntt }));
        // Safe: the primes are constants, and a test makes the ring of them.
        #[expect(clippy::expect_used, reason = "constants")]
        prime.expect("both constants are primes that are 1 mod 2N")
    })
});

/// Each prime with the half of `element` that belongs to it.
fn rows(element: &[u64]) -> impl Iterator<Item = (&'static Prime, &[u64])> {
    RING.iter().zip(element.chunks_exact(N))
}

/// Each prime with the half of `element` that belongs to it.
fn rows_mut(element: &mut [u64]) -> impl Iterator<Item = (&'static Prime, &mut [u64])> {
    RING.iter().zip(element.chunks_exact_mut(N))
}

/// From coefficients to values.
pub(crate) fn forward(element: &mut [u64]) {
    rows_mut(element).for_each(|(prime, row)| prime.ntt.forward(row));
}

/// From values to coefficients.
pub(crate) fn backward(element: &mut [u64]) {
    rows_mut(element).for_each(|(prime, row)| prime.ntt.backward(row));
}

/// `element *= other`, of values.
pub(crate) fn multiply(element: &mut [u64], other: &[u64]) {
    for ((prime, row), (_, other)) in rows_mut(element).zip(rows(other)) {
        prime.modulus.mul_vec(row, other);
    }
}

/// `element *= factor`.
pub(crate) fn scale(element: &mut [u64], factor: [u64; 2]) {
    for ((prime, row), factor) in rows_mut(element).zip(factor) {
        prime.modulus.scalar_mul_vec(row, factor);
    }
}

/// `element += other`.
pub(crate) fn add(element: &mut [u64], other: &[u64]) {
    for ((prime, row), (_, other)) in rows_mut(element).zip(rows(other)) {
        prime.modulus.add_vec(row, other);
    }
}

/// `element -= other`.
pub(crate) fn subtract(element: &mut [u64], other: &[u64]) {
    for ((prime, row), (_, other)) in rows_mut(element).zip(rows(other)) {
        prime.modulus.sub_vec(row, other);
    }
}

/// `residues += other` without reduction, for whole vectors. Sums of [`crate::params::MAX_PARTIES`]
/// residues stay below 2^45; [`reduce`] brings them back. One pass at the speed of memory.
pub(crate) fn add_unreduced(residues: &mut [u64], other: &[u64]) {
    for (a, b) in residues.iter_mut().zip(other) {
        *a = a.wrapping_add(*b);
    }
}

/// Least residues of what [`add_unreduced`] gave.
pub(crate) fn reduce(element: &mut [u64]) {
    rows_mut(element).for_each(|(prime, row)| prime.modulus.reduce_vec(row));
}

/// `element += DELTA * values + errors`, for up to [`N`] values; the other coefficients get their error
/// only. No branch depends on a value or an error.
pub(crate) fn add_message(element: &mut [u64], values: &[u64], errors: &[i64]) {
    let mut message = Zeroizing::new([0; N]);
    for ((prime, row), q) in rows_mut(element).zip(PRIMES) {
        for (place, value) in message.iter_mut().zip(values) {
            *place = *value;
        }
        prime.modulus.reduce_vec(message.as_mut_slice());
        for ((place, message), error) in row.iter_mut().zip(message.iter()).zip(errors) {
            // Below 2^40 + 2^51 + 2^41: nothing wraps but the sign of the error, twice.
            *place = place
                .wrapping_add(message.wrapping_mul(DELTA))
                .wrapping_add(q.wrapping_add_signed(*error));
        }
        prime.modulus.reduce_vec(row);
    }
}

/// Uniform residues of a stream of bytes, for each prime 4096: five bytes at a time, little-endian,
/// leaving out what is no least residue. `fill` is the stream.
pub(crate) fn uniform(mut fill: impl FnMut(&mut [u8])) -> Zeroizing<Vec<u64>> {
    let mut element = Zeroizing::new(vec![0; RESIDUES]);
    let mut bytes = Zeroizing::new([0; N * RESIDUE_BYTES]);
    for (row, q) in element.chunks_exact_mut(N).zip(PRIMES) {
        let mut places = row.iter_mut();
        let mut missing = N;
        while missing > 0 {
            let Some(bytes) = bytes.get_mut(..missing * RESIDUE_BYTES) else {
                break;
            };
            fill(bytes);
            for candidate in bytes
                .chunks_exact(RESIDUE_BYTES)
                .map(read)
                .filter(|c| *c < q)
            {
                if let Some(place) = places.next() {
                    *place = candidate;
                    missing -= 1;
                }
            }
        }
    }
    element
}

/// Errors of a stream of uniform bytes: eight bytes give a coefficient, the sum of their 64 bits less 32.
pub(crate) fn errors(mut fill: impl FnMut(&mut [u8])) -> Zeroizing<Vec<i64>> {
    let mut bytes = Zeroizing::new([0; 8 * N]);
    fill(bytes.as_mut_slice());
    let (coins, _) = bytes.as_chunks();
    Zeroizing::new(
        coins
            .iter()
            .map(|coins| i64::from(u64::from_le_bytes(*coins).count_ones()) - 32)
            .collect(),
    )
}

/// The integer in `[0, q)` that each pair of residues stands for.
pub(crate) fn integers(element: &[u64]) -> impl Iterator<Item = u128> {
    let [first, second] = &*RING;
    let [q1, q2] = PRIMES;
    let inverse = second.modulus.inv(q1 % q2).unwrap_or_default();
    let shoup = second.modulus.shoup(inverse);
    debug_assert_eq!(first.modulus.reduce(q1), 0);
    let (low, high) = element.split_at_checked(N).unwrap_or_default();
    low.iter().zip(high).map(move |(r1, r2)| {
        // Garner: r1 + q1 * ((r2 - r1) / q1 mod q2). q2 < q1 < 2 * q2.
        let difference = (r2 + 2 * q2 - r1) % q2;
        let factor = second.modulus.mul_shoup(difference, inverse, shoup);
        u128::from(*r1) + u128::from(q1) * u128::from(factor)
    })
}

/// A residue's five bytes.
fn read(bytes: &[u8]) -> u64 {
    let mut whole = [0; 8];
    for (place, byte) in whole.iter_mut().zip(bytes) {
        *place = *byte;
    }
    u64::from_le_bytes(whole)
}

/// Append an element in packed form, [`BLOCK_BYTES`] long: coefficient by coefficient the residue modulo
/// the first prime and that modulo the second, five bytes each, little-endian.
pub(crate) fn pack(element: &[u64], bytes: &mut Vec<u8>) {
    let (first, second) = element.split_at_checked(N).unwrap_or_default();
    let start = bytes.len();
    bytes.resize(start + BLOCK_BYTES, 0);
    let places = bytes.get_mut(start..).unwrap_or_default();
    let (places, _) = places.as_chunks_mut::<COEFFICIENT_BYTES>();
    for ((place, r1), r2) in places.iter_mut().zip(first).zip(second) {
        let both = u128::from(*r1) | u128::from(*r2) << 40;
        let [a, b, c, d, e, f, g, h, i, j, ..] = both.to_le_bytes();
        *place = [a, b, c, d, e, f, g, h, i, j];
    }
}

/// Read an element in packed form into `element`.
///
/// # Errors
///
/// The first coefficient that is no least residue: every element has one form. [`N`] if the lengths
/// do not fit.
pub(crate) fn unpack(bytes: &[u8], element: &mut [u64]) -> Result<(), usize> {
    const LOW: u64 = (1 << 40) - 1;
    let (coefficients, rest) = bytes.as_chunks::<COEFFICIENT_BYTES>();
    let Some((first, second)) = element.split_at_mut_checked(N) else {
        return Err(N);
    };
    if coefficients.len() != N || !rest.is_empty() || second.len() != N {
        return Err(N);
    }
    let mut over = 0;
    for ((coefficient, r1), r2) in coefficients.iter().zip(&mut *first).zip(&mut *second) {
        let [a, b, c, d, e, f, g, h, i, j] = *coefficient;
        let low = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        let high = u64::from(u16::from_le_bytes([i, j]));
        *r1 = low & LOW;
        *r2 = low >> 40 | high << 24;
        over |= u64::from(*r1 >= PRIMES[0]) | u64::from(*r2 >= PRIMES[1]);
    }
    if over == 0 {
        return Ok(());
    }
    let [q1, q2] = PRIMES;
    Err(first
        .iter()
        .zip(&*second)
        .position(|(r1, r2)| *r1 >= q1 || *r2 >= q2)
        .unwrap_or(N))
}

/// `a * b` modulo each prime.
pub(crate) fn times(a: [u64; 2], b: [u64; 2]) -> [u64; 2] {
    let [first, second] = &*RING;
    [
        first.modulus.mul(a[0], b[0]),
        second.modulus.mul(a[1], b[1]),
    ]
}

/// `a / b` modulo each prime; nothing if `b` is zero modulo one.
pub(crate) fn quotient(a: [u64; 2], b: [u64; 2]) -> Option<[u64; 2]> {
    let [first, second] = &*RING;
    let inverses = [first.modulus.inv(b[0])?, second.modulus.inv(b[1])?];
    Some(times(a, inverses))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngCore as _, SeedableRng as _, rngs::StdRng};

    fn random(seed: u64) -> Zeroizing<Vec<u64>> {
        let mut rng = StdRng::seed_from_u64(seed);
        uniform(|bytes| rng.fill_bytes(bytes))
    }

    #[test]
    fn multiplication_is_that_of_the_ring() {
        let a = random(1);
        let mut b = vec![0; RESIDUES];
        // X^4095, so that all but one coefficient turn around with their sign.
        b[N - 1] = 1;
        b[RESIDUES - 1] = 1;
        let mut product = a.to_vec();
        forward(&mut product);
        forward(&mut b);
        multiply(&mut product, &b);
        backward(&mut product);
        for (row, q) in [0, 1].into_iter().zip(PRIMES) {
            let at = |i: usize| a[row * N + i];
            assert_eq!(product[row * N + N - 1], at(0));
            for i in 0..N - 1 {
                assert_eq!(product[row * N + i], (q - at(i + 1)) % q);
            }
        }
    }

    #[test]
    fn integers_have_their_residues() {
        let a = random(2);
        for (i, integer) in integers(&a).enumerate() {
            assert_eq!((integer % u128::from(PRIMES[0])) as u64, a[i]);
            assert_eq!((integer % u128::from(PRIMES[1])) as u64, a[N + i]);
        }
    }

    #[test]
    fn packing_has_one_form_and_comes_back() {
        let a = random(3);
        let mut bytes = Vec::new();
        pack(&a, &mut bytes);
        assert_eq!(bytes.len(), BLOCK_BYTES);
        let mut back = vec![0; RESIDUES];
        unpack(&bytes, &mut back).unwrap();
        assert_eq!(*a, back);
        for (offset, q, at) in [(0, PRIMES[0], 0), (5 + 10 * 4000, PRIMES[1], 4000)] {
            let mut over = bytes.clone();
            over[offset..offset + 5].copy_from_slice(&q.to_le_bytes()[..5]);
            assert_eq!(unpack(&over, &mut back), Err(at));
        }
        assert_eq!(unpack(&bytes[1..], &mut back), Err(N));
        assert_eq!(unpack(&[], &mut back), Err(N));
    }

    #[test]
    fn errors_have_the_variance_and_the_bound() {
        let mut rng = StdRng::seed_from_u64(4);
        let all: Vec<i64> = (0..64)
            .flat_map(|_| errors(|bytes| rng.fill_bytes(bytes)).to_vec())
            .collect();
        let n = all.len() as f64;
        let mean = all.iter().sum::<i64>() as f64 / n;
        let variance = all.iter().map(|e| (e * e) as f64).sum::<f64>() / n;
        // Six standard deviations of what 262,144 samples scatter.
        assert!(mean.abs() < 0.05, "{mean}");
        assert!((variance - 16.0).abs() < 0.27, "{variance}");
        let none = errors(|bytes| bytes.fill(0));
        let all = errors(|bytes| bytes.fill(0xFF));
        assert!(none.iter().all(|e| *e == -32) && all.iter().all(|e| *e == 32));
    }

    #[test]
    fn what_is_no_residue_is_left_out() {
        // The first candidate of each prime is the prime itself, all others are 7.
        let mut reads = 0;
        let element = uniform(|bytes| {
            bytes
                .chunks_exact_mut(5)
                .for_each(|c| c.copy_from_slice(&[7, 0, 0, 0, 0]));
            if bytes.len() == 5 * N {
                bytes[..5].copy_from_slice(&PRIMES[reads / 2].to_le_bytes()[..5]);
            }
            reads += 1;
        });
        assert_eq!(reads, 4);
        assert!(element.iter().all(|r| *r == 7));
    }
}
