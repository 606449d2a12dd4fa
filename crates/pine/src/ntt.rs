//! Number-theoretic transforms over many columns at once.
//!
//! Data is a list of rows, one for each point, each with [`WIDTH`] columns that are transformed
//! independently: a butterfly has one twiddle factor for a whole row. Nothing is ever put in bit-reversed
//! order by hand: the inverse transform goes from natural to bit-reversed order, the forward one back.

use crate::field::PineField;
use crate::residue::Residue;

/// Columns of a block. 256 rows of 16 residues of 8 bytes are 32 KiB, a first-level cache.
pub(crate) const WIDTH: usize = 16;

/// One point of a block.
pub(crate) type Row<R, const N: usize> = [R; N];

/// Tables for transforms of one length.
#[derive(Debug, Clone)]
pub(crate) struct Plan<R> {
    log: u32,
    /// `w^k`, `k < m / 2`.
    forward: Vec<R>,
    /// `w^-k`, `k < m / 2`.
    backward: Vec<R>,
    /// `v^k` with `v^2 = w`, `k < m` in bit-reversed order: it moves to the odd powers of `v`.
    twist: Vec<R>,
}

impl<R: Residue> Plan<R> {
    /// Tables for `2^log` points. None if the field has no such roots.
    pub(crate) fn new<F: PineField<Residue = R>>(log: u32) -> Option<Self> {
        let root = F::root(log as usize)?.to_residue();
        let fine = F::root(log as usize + 1)?.to_residue();
        let length = 1usize << log;
        let powers = |base: R, count: usize| -> Vec<R> {
            std::iter::successors(Some(R::one()), |last| Some(*last * base))
                .take(count)
                .collect()
        };
        let mut twist = powers(fine, length);
        bit_reverse(&mut twist, log);
        Some(Self {
            log,
            forward: powers(root, length / 2),
            backward: powers(root.inverse(), length / 2),
            twist,
        })
    }

    /// Points.
    pub(crate) fn length(&self) -> usize {
        1 << self.log
    }

    /// Values at `w^i` in natural order to coefficients in bit-reversed order, each `m` times too large.
    pub(crate) fn interpolate<const N: usize>(&self, rows: &mut [Row<R, N>]) {
        let mut half = rows.len() / 2;
        while half > 0 {
            let step = self.length() / (2 * half);
            for block in rows.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                let twiddles = self.backward.iter().step_by(step);
                for ((low, high), twiddle) in low.iter_mut().zip(high).zip(twiddles) {
                    for (a, b) in low.iter_mut().zip(high) {
                        (*a, *b) = (*a + *b, (*a - *b) * *twiddle);
                    }
                }
            }
            half /= 2;
        }
    }

    /// Coefficients in bit-reversed order to values at `w^i` in natural order.
    pub(crate) fn evaluate<const N: usize>(&self, rows: &mut [Row<R, N>]) {
        let mut half = 1;
        while 2 * half <= rows.len() {
            let step = self.length() / (2 * half);
            for block in rows.chunks_exact_mut(2 * half) {
                let (low, high) = block.split_at_mut(half);
                let twiddles = self.forward.iter().step_by(step);
                for ((low, high), twiddle) in low.iter_mut().zip(high).zip(twiddles) {
                    for (a, b) in low.iter_mut().zip(high) {
                        let t = *b * *twiddle;
                        (*a, *b) = (*a + t, *a - t);
                    }
                }
            }
            half *= 2;
        }
    }

    /// Of coefficients in bit-reversed order, those of the polynomial whose values at `w^i` are the old
    /// one's at `v^(2 i + 1)`.
    pub(crate) fn shift<const N: usize>(&self, rows: &mut [Row<R, N>]) {
        for (row, factor) in rows.iter_mut().zip(&self.twist) {
            for value in row {
                *value = *value * *factor;
            }
        }
    }

    /// `w^k` for all `k < m`.
    pub(crate) fn roots(&self) -> impl Iterator<Item = R> + '_ {
        let minus = R::default() - R::one();
        let count = self.length();
        self.forward
            .iter()
            .copied()
            .chain(self.forward.iter().map(move |root| *root * minus))
            .take(count)
            .chain((count == 1).then(R::one))
    }
}

/// Exchange each place with the one of the reversed index.
pub(crate) fn bit_reverse<T>(values: &mut [T], log: u32) {
    if log == 0 {
        return;
    }
    for index in 0..values.len() {
        let reversed = index.reverse_bits() >> (usize::BITS - log);
        if index < reversed {
            values.swap(index, reversed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::field::Field40;
    use prio::field::{Field64, Field128, FieldPrio2};

    /// Every transform, against evaluation term by term.
    fn agrees_with_horner<F: PineField>() {
        for log in 0..6u32 {
            let plan = Plan::<F::Residue>::new::<F>(log).unwrap();
            let m = 1usize << log;
            let coefficients: Vec<[F::Residue; 2]> = (0..m as u128)
                .map(|i| [i * i + 7, 1000 - i].map(F::Residue::from_integer))
                .collect();
            let horner = |x: F::Residue, column: usize| {
                coefficients
                    .iter()
                    .rev()
                    .fold(F::Residue::default(), |sum, c| sum * x + c[column])
            };
            let root = F::root(log as usize).unwrap().to_residue();
            let fine = F::root(log as usize + 1).unwrap().to_residue();
            let mut rows = coefficients.clone();
            bit_reverse(&mut rows, log);
            let mut shifted = rows.clone();
            plan.evaluate(&mut rows);
            plan.shift(&mut shifted);
            plan.evaluate(&mut shifted);
            assert_eq!(plan.roots().count(), m);
            for (i, listed) in plan.roots().enumerate() {
                let x = root.power(i as u128);
                assert_eq!(listed, x);
                let odd = fine.power(2 * i as u128 + 1);
                for column in 0..2 {
                    assert_eq!(rows[i][column], horner(x, column));
                    assert_eq!(shifted[i][column], horner(odd, column));
                }
            }
            plan.interpolate(&mut rows);
            bit_reverse(&mut rows, log);
            let scale = F::Residue::from_integer(m as u128);
            for (back, original) in rows.iter().zip(&coefficients) {
                assert_eq!(*back, original.map(|c| c * scale));
            }
        }
    }

    #[test]
    fn transforms_agree_with_evaluation_term_by_term() {
        agrees_with_horner::<Field64>();
        agrees_with_horner::<FieldPrio2>();
        agrees_with_horner::<Field40>();
        agrees_with_horner::<Field128>();
    }
}
