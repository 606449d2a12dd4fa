//! The kernel for processors without SIMD units that this crate knows.

use super::{STEP, STEP_BYTES};

/// See [`super::Kernel`].
pub(super) fn weighted(row: &[[u8; STEP_BYTES]], planes: &[Vec<[i16; STEP]>]) -> Vec<i64> {
    let mut totals = vec![0i64; planes.len()];
    for (plane, total) in planes.iter().zip(&mut totals) {
        for (bits, limbs) in row.iter().zip(plane) {
            let bits = u32::from_le_bytes(*bits);
            // In each pair of bits, how many are set.
            let mut weights = (bits & 0x5555_5555) + ((bits >> 1) & 0x5555_5555);
            let mut sum = 0;
            for limb in limbs {
                sum += i32::from(*limb) * (weights & 3) as i32;
                weights >>= 2;
            }
            *total += i64::from(sum);
        }
    }
    totals
}
