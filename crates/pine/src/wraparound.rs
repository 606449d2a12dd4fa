//! Wraparound checks: dot products of a vector, or of a share of it, with random rows of -1, 0 and 1.
//!
//! A row's entry takes two bits `a`, `b` of XOF output and is `a + b - 1`, whichever way round they are. So
//! a dot product is the sum of `(a + b) x`, less the sum of `x`, which is the same for all rows. Elements
//! are cut into 16-bit limbs: sums of small multiples of limbs are what SIMD units do best, and nothing is
//! reduced before the end.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
mod scalar;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;

use rand_core06::RngCore;

use crate::residue::Residue;

/// Entries that a kernel takes in one step; limbs are padded to a multiple of it, with zeros.
const STEP: usize = 16;
/// Bytes of a row for one step.
const STEP_BYTES: usize = STEP / 4;
/// Steps before 32-bit sums are emptied: a step adds at most 2^17 to a lane.
const STEPS_PER_FLUSH: usize = 1 << 13;
/// Rows that are read from the XOF at a time.
const ROWS: usize = 8;
/// Coordinates from which on rows are shared among threads; below, waking them costs more.
#[cfg(feature = "rayon")]
const PARALLEL: usize = 1 << 14;
/// What each limb of a share is made smaller by, so that it fits a signed one.
const OFFSET: i64 = 1 << 15;

/// A vector in limbs: `x = sum of 2^(16 l) limb_l`, each limb in its own plane.
pub(crate) struct Limbs {
    planes: Vec<Vec<[i16; STEP]>>,
    /// Sum of each plane.
    sums: Vec<i64>,
    /// What was taken from each limb.
    offset: i64,
    dimension: usize,
}

impl Limbs {
    fn new(dimension: usize, count: usize, offset: i64) -> Self {
        Self {
            planes: vec![vec![[0; STEP]; dimension.div_ceil(STEP)]; count],
            sums: vec![0; count],
            offset,
            dimension,
        }
    }

    /// Of a vector whose coordinates are at most `bound` in size. The number of limbs follows from the
    /// bound alone.
    pub(crate) fn of_signed(values: &[i64], bound: u64) -> Self {
        // A signed limb reaches from -2^15 to 2^15 - 1, and each carries into the next.
        let reach = |limbs: u32| (0..limbs).fold(0u64, |sum, l| sum | (0x7fff << (16 * l)));
        let count = (1..4).find(|limbs| bound <= reach(*limbs)).unwrap_or(4);
        let mut limbs = Self::new(values.len(), count as usize, 0);
        for (group, chunk) in values.chunks(STEP).enumerate() {
            let mut rest = [0; STEP];
            for (place, value) in rest.iter_mut().zip(chunk) {
                *place = *value;
            }
            for (plane, sum) in limbs.planes.iter_mut().zip(&mut limbs.sums) {
                let Some(limb) = plane.get_mut(group) else {
                    continue;
                };
                for (limb, rest) in limb.iter_mut().zip(&mut rest) {
                    *limb = *rest as i16;
                    *rest = rest.wrapping_sub(i64::from(*limb)) >> 16;
                    *sum += i64::from(*limb);
                }
            }
        }
        limbs
    }

    /// Of field elements, a share.
    pub(crate) fn of_residues<R: Residue>(values: &[R]) -> Self {
        let mut limbs = Self::new(values.len(), R::LIMBS, OFFSET);
        let mut bytes = [0; 16];
        for (group, chunk) in values.chunks(STEP).enumerate() {
            for (lane, value) in chunk.iter().enumerate() {
                if let Some(bytes) = bytes.get_mut(..R::BYTES) {
                    value.write(bytes);
                }
                let pairs = bytes.as_chunks::<2>().0;
                for ((plane, sum), pair) in limbs.planes.iter_mut().zip(&mut limbs.sums).zip(pairs)
                {
                    let limb = (u16::from_le_bytes(*pair) ^ 0x8000) as i16;
                    if let Some(place) = plane.get_mut(group).and_then(|g| g.get_mut(lane)) {
                        *place = limb;
                    }
                    *sum += i64::from(limb);
                }
            }
        }
        limbs
    }

    /// Dot product with a row whose bits after the last coordinate are zero.
    fn dot<R: Residue>(&self, row: &[[u8; STEP_BYTES]], kernel: Kernel) -> R {
        let weighted = kernel(row, &self.planes);
        let ones: u32 = row.iter().flatten().map(|byte| byte.count_ones()).sum();
        // The sum of all entries of the row, for what was taken from each limb.
        let entries = i64::from(ones) - self.dimension as i64;
        let mut unit = R::one();
        let step = R::from_integer(1 << 16);
        let mut total = R::default();
        for (weighted, sum) in weighted.iter().zip(&self.sums) {
            let product = i128::from(weighted - sum) + i128::from(self.offset * entries);
            total += R::from_signed(product) * unit;
            unit = unit * step;
        }
        total
    }

    /// Dot products with `count` rows of the stream.
    pub(crate) fn dot_products<R: Residue>(&self, stream: impl RngCore, count: usize) -> Vec<R> {
        self.dot_products_by(stream, count, kernel())
    }

    fn dot_products_by<R: Residue>(
        &self,
        mut stream: impl RngCore,
        count: usize,
        kernel: Kernel,
    ) -> Vec<R> {
        let steps = self.dimension.div_ceil(STEP);
        let bytes = self.dimension.div_ceil(4);
        // Bits of the last byte that are after the last coordinate.
        let last = 0xffu8 >> (2 * (4 * bytes - self.dimension));
        let mut rows = vec![[0u8; STEP_BYTES]; steps * ROWS.min(count)];
        let mut products = Vec::with_capacity(count);
        while products.len() < count {
            let now = (count - products.len()).min(ROWS);
            for row in rows.chunks_mut(steps).take(now) {
                let row = row.as_flattened_mut();
                if let Some(row) = row.get_mut(..bytes) {
                    stream.fill_bytes(row);
                    if let Some(byte) = row.last_mut() {
                        *byte &= last;
                    }
                }
            }
            let dot = |row: &[[u8; STEP_BYTES]]| self.dot::<R>(row, kernel);
            #[cfg(feature = "rayon")]
            if self.dimension >= PARALLEL {
                use rayon::prelude::*;
                products.par_extend(rows.par_chunks(steps).take(now).map(dot));
                continue;
            }
            products.extend(rows.chunks(steps).take(now).map(dot));
        }
        products
    }
}

/// For each plane, the sum of `(a + b) limb`.
type Kernel = fn(&[[u8; STEP_BYTES]], &[Vec<[i16; STEP]>]) -> Vec<i64>;

/// The fastest kernel for this processor.
fn kernel() -> Kernel {
    #[cfg(target_arch = "x86_64")]
    if let Some(kernel) = avx2::kernel() {
        return kernel;
    }
    #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
    return simd128::weighted;
    #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
    scalar::weighted
}

#[cfg(test)]
mod tests {
    use super::{Limbs, RngCore, STEP, STEPS_PER_FLUSH, kernel, scalar};
    use crate::field::PineField;
    use crate::residue::Residue;
    use crate::residue::{Residue32, Residue40, Residue64};
    use prio::field::Field128;
    use proptest::prelude::*;

    /// Bytes that repeat.
    struct Bytes<'a>(std::iter::Cycle<std::slice::Iter<'a, u8>>);
    impl RngCore for Bytes<'_> {
        fn next_u32(&mut self) -> u32 {
            unreachable!()
        }
        fn next_u64(&mut self) -> u64 {
            unreachable!()
        }
        fn fill_bytes(&mut self, bytes: &mut [u8]) {
            bytes.fill_with(|| *self.0.next().unwrap());
        }
        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), rand_core06::Error> {
            self.fill_bytes(bytes);
            Ok(())
        }
    }

    /// As the draft writes it, entry by entry.
    fn by_the_draft<R: Residue>(values: &[R], stream: &[u8], count: usize) -> Vec<R> {
        let mut bytes = stream.iter().cycle();
        let mut products = Vec::new();
        for _ in 0..count {
            let mut sum = R::default();
            for part in values.chunks(4) {
                let mut byte = *bytes.next().unwrap();
                for value in part {
                    match byte & 0b11 {
                        0b00 => sum = sum - *value,
                        0b11 => sum += *value,
                        _ => {}
                    }
                    byte >>= 2;
                }
            }
            products.push(sum);
        }
        products
    }

    fn check<R: Residue>(integers: &[u128], stream: &[u8]) {
        let values: Vec<R> = integers.iter().map(|v| R::from_integer(*v)).collect();
        let limbs = Limbs::of_residues(&values);
        let expected = by_the_draft(&values, stream, 11);
        for kernel in [kernel(), scalar::weighted] {
            let bytes = Bytes(stream.iter().cycle());
            assert_eq!(limbs.dot_products_by::<R>(bytes, 11, kernel), expected);
        }
    }

    proptest! {
        #[test]
        fn every_kernel_computes_the_drafts_dot_products(
            values in proptest::collection::vec(any::<u128>(), 1..80),
            stream in proptest::collection::vec(any::<u8>(), 1..300),
        ) {
            check::<Residue64>(&values, &stream);
            check::<Residue32>(&values, &stream);
            check::<Residue40>(&values, &stream);
            check::<Field128>(&values, &stream);
        }

        #[test]
        fn a_plain_vector_gives_what_its_elements_give(
            values in proptest::collection::vec(any::<i64>(), 1..80),
            shift in 0u32..62,
            stream in proptest::collection::vec(any::<u8>(), 1..300),
        ) {
            let values: Vec<i64> = values.iter().map(|v| (v >> 1) >> shift).collect();
            let bound = values.iter().map(|v| v.unsigned_abs()).max().unwrap();
            let elements: Vec<Field128> =
                values.iter().map(|v| Residue::from_signed(i128::from(*v))).collect();
            let products: Vec<Field128> =
                Limbs::of_signed(&values, bound).dot_products(Bytes(stream.iter().cycle()), 9);
            prop_assert_eq!(products, by_the_draft(&elements, &stream, 9));
        }
    }

    #[test]
    fn sums_do_not_overflow_at_the_largest_values() {
        // More steps than one flush, all limbs and all weights at their largest.
        let long = STEP * (STEPS_PER_FLUSH + 3) + 5;
        for (value, byte) in [(u128::MAX, 0xff), (0, 0xff), (0, 0), (u128::MAX, 0)] {
            let value = value % Residue64::MODULUS;
            let values = vec![Residue64::from_integer(value); long];
            check::<Residue64>(&vec![value; long], &[byte]);
            assert_eq!(values.len(), long);
        }
        assert_eq!(prio::field::Field64::NAME, "Field64");
    }
}
