//! The kernel for WebAssembly with SIMD128: eight entries a vector, sixteen a step.
#![expect(unsafe_code, reason = "SIMD loads take pointers")]

use std::arch::wasm32::{
    i8x16, i8x16_swizzle, i32x4_add, i32x4_dot_i16x8, i32x4_extract_lane, i32x4_splat, u64x2_splat,
    v128, v128_and, v128_load,
};

use super::{STEP, STEP_BYTES, STEPS_PER_FLUSH};

/// See [`super::Kernel`].
pub(super) fn weighted(row: &[[u8; STEP_BYTES]], planes: &[Vec<[i16; STEP]>]) -> Vec<i64> {
    let mut totals = Vec::with_capacity(planes.len());
    let mut planes = planes;
    while let Some((four, rest)) = planes.split_first_chunk::<4>() {
        totals.extend(planes_at_once(row, four.each_ref().map(Vec::as_slice)));
        planes = rest;
    }
    match planes {
        [a, b, c] => totals.extend(planes_at_once(row, [a, b, c].map(Vec::as_slice))),
        [a, b] => totals.extend(planes_at_once(row, [a, b].map(Vec::as_slice))),
        [a] => totals.extend(planes_at_once(row, [a.as_slice()])),
        _ => {}
    }
    totals
}

fn planes_at_once<const P: usize>(
    row: &[[u8; STEP_BYTES]],
    planes: [&[[i16; STEP]]; P],
) -> [i64; P] {
    // As in the kernel for AVX2; an index over 15 gives zero.
    let spread_low = i8x16(0, -1, 0, -1, 4, -1, 4, -1, 1, -1, 1, -1, 5, -1, 5, -1);
    let spread_high = i8x16(2, -1, 2, -1, 6, -1, 6, -1, 3, -1, 3, -1, 7, -1, 7, -1);
    let pick = i8x16(3, 0, 12, 0, 3, 0, 12, 0, 3, 0, 12, 0, 3, 0, 12, 0);
    let count = i8x16(0, 1, 1, 2, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0);
    let mut totals = [0i64; P];
    for (part, row) in row.chunks(STEPS_PER_FLUSH).enumerate() {
        let start = part * STEPS_PER_FLUSH;
        let planes = planes.map(|plane| plane.get(start..start + row.len()).unwrap_or(&[]));
        let mut sums = [i32x4_splat(0); P];
        for (step, bits) in row.iter().enumerate() {
            let bits = u64::from(u32::from_le_bytes(*bits));
            let word = u64x2_splat(bits | ((bits >> 4) << 32));
            let weights =
                |spread| i8x16_swizzle(count, v128_and(i8x16_swizzle(word, spread), pick));
            let (low, high) = (weights(spread_low), weights(spread_high));
            for (sum, plane) in sums.iter_mut().zip(planes) {
                if let Some(limbs) = plane.get(step) {
                    let (first, second) = load(limbs);
                    *sum = i32x4_add(*sum, i32x4_dot_i16x8(first, low));
                    *sum = i32x4_add(*sum, i32x4_dot_i16x8(second, high));
                }
            }
        }
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total += i64::from(i32x4_extract_lane::<0>(sum))
                + i64::from(i32x4_extract_lane::<1>(sum))
                + i64::from(i32x4_extract_lane::<2>(sum))
                + i64::from(i32x4_extract_lane::<3>(sum));
        }
    }
    totals
}

fn load(limbs: &[i16; STEP]) -> (v128, v128) {
    let start = limbs.as_ptr().cast::<v128>();
    // Safety: sixteen 16-bit integers are the two vectors that are read; no alignment is asked for.
    unsafe { (v128_load(start), v128_load(start.add(1))) }
}
