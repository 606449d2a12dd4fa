//! The kernel for x86-64 with AVX2: sixteen entries a step.
#![expect(
    unsafe_code,
    reason = "SIMD loads take pointers, and the compiler cannot know that the processor was asked"
)]

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_and_si256, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_set1_epi64x, _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8,
    _mm256_storeu_si256,
};

use super::{Kernel, STEP, STEP_BYTES, STEPS_PER_FLUSH};

/// The kernel, if this processor can run it.
pub(super) fn kernel() -> Option<Kernel> {
    std::arch::is_x86_feature_detected!("avx2").then_some(weighted as Kernel)
}

/// See [`super::Kernel`]. Only [`kernel`] gives it away.
fn weighted(row: &[[u8; STEP_BYTES]], planes: &[Vec<[i16; STEP]>]) -> Vec<i64> {
    let mut totals = Vec::with_capacity(planes.len());
    let mut planes = planes;
    // Four planes at a time: a row's bits are spread to lanes once for all of them.
    while let Some((four, rest)) = planes.split_first_chunk::<4>() {
        // Safety: `kernel` has seen that the processor has AVX2.
        totals.extend(unsafe { planes_at_once(row, four.each_ref().map(Vec::as_slice)) });
        planes = rest;
    }
    match planes {
        [a, b, c] => totals.extend(unsafe { planes_at_once(row, [a, b, c].map(Vec::as_slice)) }),
        [a, b] => totals.extend(unsafe { planes_at_once(row, [a, b].map(Vec::as_slice)) }),
        [a] => totals.extend(unsafe { planes_at_once(row, [a.as_slice()]) }),
        _ => {}
    }
    totals
}

#[target_feature(enable = "avx2")]
fn planes_at_once<const P: usize>(
    row: &[[u8; STEP_BYTES]],
    planes: [&[[i16; STEP]]; P],
) -> [i64; P] {
    // A 64-bit word holds the 32 bits of a step, and the same shifted right by 4 in its upper half.
    // Lane k takes the byte of entries 4j to 4j + 3 that its entry is in, from the half that has it in the
    // low four bits, and leaves the lane's upper byte zero (-1).
    let spread = _mm256_setr_epi8(
        0, -1, 0, -1, 4, -1, 4, -1, 1, -1, 1, -1, 5, -1, 5, -1, //
        2, -1, 2, -1, 6, -1, 6, -1, 3, -1, 3, -1, 7, -1, 7, -1,
    );
    // Of those four bits, the entry's two.
    let pick = _mm256_setr_epi8(
        3, 0, 12, 0, 3, 0, 12, 0, 3, 0, 12, 0, 3, 0, 12, 0, //
        3, 0, 12, 0, 3, 0, 12, 0, 3, 0, 12, 0, 3, 0, 12, 0,
    );
    // How many of the two are set.
    let count = _mm256_setr_epi8(
        0, 1, 1, 2, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, //
        0, 1, 1, 2, 1, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0,
    );
    let mut totals = [0i64; P];
    for (part, row) in row.chunks(STEPS_PER_FLUSH).enumerate() {
        let start = part * STEPS_PER_FLUSH;
        let planes = planes.map(|plane| plane.get(start..start + row.len()).unwrap_or(&[]));
        let mut sums = [_mm256_setzero_si256(); P];
        for (step, bits) in row.iter().enumerate() {
            let bits = u64::from(u32::from_le_bytes(*bits));
            let word = _mm256_set1_epi64x((bits | ((bits >> 4) << 32)) as i64);
            let weights = _mm256_shuffle_epi8(
                count,
                _mm256_and_si256(_mm256_shuffle_epi8(word, spread), pick),
            );
            for (sum, plane) in sums.iter_mut().zip(planes) {
                if let Some(limbs) = plane.get(step) {
                    let products = _mm256_madd_epi16(load(limbs), weights);
                    *sum = _mm256_add_epi32(*sum, products);
                }
            }
        }
        for (total, sum) in totals.iter_mut().zip(sums) {
            *total += lanes(sum).iter().map(|lane| i64::from(*lane)).sum::<i64>();
        }
    }
    totals
}

#[target_feature(enable = "avx2")]
fn load(limbs: &[i16; STEP]) -> __m256i {
    // Safety: sixteen 16-bit integers are the 32 bytes that are read; no alignment is asked for.
    unsafe { _mm256_loadu_si256(limbs.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn lanes(vector: __m256i) -> [i32; 8] {
    let mut lanes = [0; 8];
    // Safety: eight 32-bit integers are the 32 bytes that are written; no alignment is asked for.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), vector) };
    lanes
}
