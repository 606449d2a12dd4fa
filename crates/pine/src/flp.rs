//! Fully linear proofs for circuits with one quadratic `ParallelSum` gadget (VDAF draft 08, section
//! 7.3, "FlpGeneric"; BBCGGI19).
//!
//! Both circuits of PINE are of that shape, and that makes the general algorithm of [`prio::flp`] much
//! shorter. The gadget polynomial has twice as many points as the wire polynomials. At every second
//! one its value is the gadget of values that are known already; for the others each wire polynomial is
//! moved by one transform there and back. No wire polynomial is ever multiplied out, and the proof is
//! the same, byte for byte (the tests compare with [`prio::flp`]).

use crate::field::PineField;
use crate::ntt::{Plan, Row, WIDTH, bit_reverse};
use crate::residue::Residue;

/// Inputs from which on blocks are shared among threads; below, waking them costs more.
#[cfg(feature = "rayon")]
const PARALLEL: usize = 1 << 14;

/// What one call of the gadget computes of its wires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gadget {
    /// `ParallelSum(PolyEval(x^2))`: the sum of squares.
    Squares,
    /// `ParallelSum(Mul)`: the sum of products of neighbours.
    Products,
}

impl Gadget {
    /// Of `wires`, the sum; a [`Gadget::Products`] takes an even number.
    fn call<R: Residue>(self, wires: &[R]) -> R {
        let terms = |sum: R, term: R| sum + term;
        match self {
            Self::Squares => wires.iter().map(|x| *x * *x).fold(R::default(), terms),
            Self::Products => wires
                .chunks_exact(2)
                .filter_map(|pair| pair.first().zip(pair.last()))
                .map(|(x, y)| *x * *y)
                .fold(R::default(), terms),
        }
    }
}

/// Proofs of one circuit.
#[derive(Debug, Clone)]
pub(crate) struct Flp<R> {
    gadget: Gadget,
    /// Wires of a call.
    arity: usize,
    calls: usize,
    /// For the wire polynomials.
    wires: Plan<R>,
    /// For the gadget polynomial, over twice as many points.
    poly: Plan<R>,
}

/// A share of what decides over one proof: the circuit's output, the wires and the gadget at a random point.
pub(crate) struct Queried<R> {
    /// Wire polynomials at the query point, `[arity]`.
    pub wires: Vec<R>,
    /// The gadget polynomial there.
    pub gadget: R,
    /// The gadget polynomial at each call.
    pub calls: Vec<R>,
}

/// The query point would show a wire's value. It happens with probability below 2^-20 for the smallest
/// field, and the same for all aggregators; the report is lost then.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueryAtRoot;

impl<R: Residue> Flp<R> {
    /// None if the field has too few roots of unity.
    pub(crate) fn new<F: PineField<Residue = R>>(
        gadget: Gadget,
        arity: usize,
        calls: usize,
    ) -> Option<Self> {
        let log = (calls + 1).next_power_of_two().trailing_zeros();
        Some(Self {
            gadget,
            arity,
            calls,
            wires: Plan::new::<F>(log)?,
            poly: Plan::new::<F>(log + 1)?,
        })
    }

    /// Random elements that a prover takes: the wires' seeds.
    pub(crate) fn prove_rand_len(&self) -> usize {
        self.arity
    }

    /// Seeds, then the coefficients of the gadget polynomial.
    pub(crate) fn proof_len(&self) -> usize {
        self.arity + 2 * self.wires.length() - 1
    }

    /// The circuit's output, the wires, the gadget.
    pub(crate) fn verifier_len(&self) -> usize {
        self.arity + 2
    }

    /// Prove, appending to `proof`. `inputs` are the wires of one call after the other; the last one may be
    /// short, zeros follow.
    pub(crate) fn prove(&self, inputs: &[R], seeds: &[R], proof: &mut Vec<R>) {
        let mut sums = self.sums(inputs, seeds);
        // Unscaled interpolation made each wire m times too large, and the gadget is quadratic.
        let m = R::from_integer(self.wires.length() as u128);
        let scale = (m * m).inverse();
        let mut values: Vec<Row<R, 1>> = Vec::with_capacity(self.poly.length());
        for [even, odd] in &mut sums {
            values.push([*even]);
            values.push([*odd * scale]);
        }
        self.poly.interpolate(&mut values);
        bit_reverse(&mut values, self.poly.length().trailing_zeros());
        let scale = R::from_integer(self.poly.length() as u128).inverse();
        proof.extend_from_slice(seeds);
        proof.extend(
            values
                .iter()
                .flatten()
                .take(self.poly.length() - 1)
                .map(|c| *c * scale),
        );
    }

    /// The gadget polynomial at the even and, `m^2` times too large, at the odd points.
    fn sums(&self, inputs: &[R], seeds: &[R]) -> Vec<[R; 2]> {
        let blocks = 0..self.arity.div_ceil(WIDTH);
        let empty = || vec![[R::default(); 2]; self.wires.length()];
        let add = |sums, block| self.add_block(block, inputs, seeds, sums);
        #[cfg(feature = "rayon")]
        if inputs.len() >= PARALLEL {
            use rayon::prelude::*;
            let blocks = blocks.into_par_iter().with_min_len(4);
            return blocks.fold(empty, add).reduce(empty, |mut sums, others| {
                for (sum, other) in sums.iter_mut().flatten().zip(others.iter().flatten()) {
                    *sum += *other;
                }
                sums
            });
        }
        blocks.fold(empty(), add)
    }

    /// Add what the wires of one block of columns contribute.
    fn add_block(
        &self,
        block: usize,
        inputs: &[R],
        seeds: &[R],
        mut sums: Vec<[R; 2]>,
    ) -> Vec<[R; 2]> {
        let start = block * WIDTH;
        let mut rows = vec![[R::default(); WIDTH]; self.wires.length()];
        let calls = std::iter::once(seeds).chain(inputs.chunks(self.arity));
        for (row, call) in rows.iter_mut().zip(calls) {
            let wires = call.iter().skip(start).take(WIDTH);
            for (place, wire) in row.iter_mut().zip(wires) {
                *place = *wire;
            }
        }
        for ([even, _], row) in sums.iter_mut().zip(&rows) {
            *even += self.gadget.call(row);
        }
        self.wires.interpolate(&mut rows);
        self.wires.shift(&mut rows);
        self.wires.evaluate(&mut rows);
        for ([_, odd], row) in sums.iter_mut().zip(&rows) {
            *odd += self.gadget.call(row);
        }
        sums
    }

    /// Query a share of the inputs and of the proof at the point `at`.
    pub(crate) fn query(
        &self,
        inputs: &[R],
        proof: &[R],
        at: R,
    ) -> Result<Queried<R>, QueryAtRoot> {
        let lagrange = self.lagrange(at)?;
        let (seeds, coefficients) = proof.split_at_checked(self.arity).unwrap_or((&[], &[]));
        let mut wires = vec![R::default(); self.arity];
        let calls = std::iter::once(seeds).chain(inputs.chunks(self.arity));
        for (call, weight) in calls.zip(&lagrange) {
            for (sum, wire) in wires.iter_mut().zip(call) {
                *sum += *wire * *weight;
            }
        }
        let gadget = coefficients
            .iter()
            .rev()
            .fold(R::default(), |sum, c| sum * at + *c);
        // At the roots of unity the polynomial is what is left of it modulo x^m - 1.
        let m = self.wires.length();
        let mut folded = vec![[R::default()]; m];
        for (index, coefficient) in coefficients.iter().enumerate() {
            if let Some([sum]) = folded.get_mut(index % m) {
                *sum += *coefficient;
            }
        }
        bit_reverse(&mut folded, m.trailing_zeros());
        self.wires.evaluate(&mut folded);
        Ok(Queried {
            wires,
            gadget,
            calls: folded
                .into_iter()
                .flatten()
                .skip(1)
                .take(self.calls)
                .collect(),
        })
    }

    /// The Lagrange polynomials of the roots of unity at a point: `w^i (x^m - 1) / (m (x - w^i))`.
    fn lagrange(&self, at: R) -> Result<Vec<R>, QueryAtRoot> {
        let m = self.wires.length() as u128;
        let vanishing = at.power(m) - R::one();
        if vanishing == R::default() {
            return Err(QueryAtRoot);
        }
        let roots: Vec<R> = self.wires.roots().collect();
        // One inversion for all: products up to each place, and back again.
        let mut product = R::one();
        let mut before = Vec::with_capacity(roots.len());
        for root in &roots {
            before.push(product);
            product = product * (at - *root);
        }
        let mut inverse = product.inverse();
        let factor = vanishing * R::from_integer(m).inverse();
        let mut weights: Vec<R> = roots
            .iter()
            .zip(before)
            .rev()
            .map(|(root, before)| {
                let weight = inverse * before * *root * factor;
                inverse = inverse * (at - *root);
                weight
            })
            .collect();
        weights.reverse();
        Ok(weights)
    }

    /// Whether a verifier, all shares added up, accepts.
    pub(crate) fn decide(&self, verifier: &[R]) -> bool {
        let Some(([output], rest)) = verifier.split_first_chunk::<1>() else {
            return false;
        };
        let Some((wires, [gadget])) = rest.split_last_chunk::<1>() else {
            return false;
        };
        verifier.len() == self.verifier_len()
            && *output == R::default()
            && self.gadget.call(wires) == *gadget
    }
}

#[cfg(test)]
mod oracle;
