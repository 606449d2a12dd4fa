//! The two circuits: what of a measurement goes to the gadget's wires, and what has to come out.
//!
//! The draft writes each circuit as a function that calls its gadget. Here the wires of all calls are
//! laid out first and the gadget's outputs come in afterwards: the client needs only the wires, and an
//! aggregator has the outputs from the proof.

use crate::params::{Derived, Parameters};
use crate::residue::Residue;

/// A measurement, or a share of one, in its parts.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a, R> {
    /// `[d]`.
    pub gradient: &'a [R],
    /// The squared norm's bits, the bits of what is missing to the bound, and for each wraparound check
    /// its result's bits and its success bit.
    pub bit_checked: &'a [R],
}

impl<'a, R> Parts<'a, R> {
    /// Of an encoded measurement.
    pub(crate) fn of(measurement: &'a [R], dimension: usize) -> Self {
        let (gradient, bit_checked) = measurement
            .split_at_checked(dimension)
            .unwrap_or((measurement, &[]));
        Self {
            gradient,
            bit_checked,
        }
    }
}

/// The integer whose bits these are, least significant first.
fn decode_bits<R: Residue>(bits: &[R]) -> R {
    bits.iter()
        .rev()
        .fold(R::default(), |sum, bit| sum + sum + *bit)
}

/// Output of the norm equality circuit: the claimed squared norm, less the sum of squares.
pub(crate) fn norm_equality<R: Residue>(
    derived: &Derived,
    parts: Parts<'_, R>,
    outputs: &[R],
) -> R {
    let (claimed, _) = squared_norms(derived, parts);
    outputs
        .iter()
        .fold(claimed, |difference, squares| difference - *squares)
}

/// The claimed squared norm, and what is missing to the bound.
fn squared_norms<R: Residue>(derived: &Derived, parts: Parts<'_, R>) -> (R, R) {
    let bits = parts.bit_checked;
    let (v, rest) = bits
        .split_at_checked(derived.num_bits_for_sq_norm)
        .unwrap_or((bits, &[]));
    let u = rest.get(..derived.num_bits_for_sq_norm).unwrap_or(rest);
    (decode_bits(v), decode_bits(u))
}

/// Everything but the norm equality.
pub(crate) struct Main<'a, R> {
    pub params: &'a Parameters,
    pub derived: &'a Derived,
    pub parts: Parts<'a, R>,
    /// The dot products of the wraparound checks.
    pub wr_check_results: &'a [R],
    /// One over the number of shares: constants are split among the aggregators.
    pub shares_inv: R,
}

/// Joint randomness of one proof.
#[derive(Clone, Copy)]
pub(crate) struct JointRand<R> {
    pub bit_check: R,
    pub wr_check: R,
    /// Reduces all results to one.
    pub last: R,
}

/// Elements of a [`JointRand`].
pub(crate) const JOINT_RAND_LEN: usize = 3;

impl<R: Residue> JointRand<R> {
    /// From consecutive elements of the XOF.
    pub(crate) fn of(elements: [R; JOINT_RAND_LEN]) -> Self {
        let [bit_check, wr_check, last] = elements;
        Self {
            bit_check,
            wr_check,
            last,
        }
    }
}

impl<R: Residue> Main<'_, R> {
    /// For each wraparound check its result's bits and success bit.
    fn wr_checks(&self) -> impl Iterator<Item = (&[R], R)> {
        let bits = self.derived.num_bits_for_wr_check;
        let start = 2 * self.derived.num_bits_for_sq_norm;
        self.parts
            .bit_checked
            .get(start..)
            .unwrap_or(&[])
            .chunks_exact(bits + 1)
            .filter_map(|check| check.split_last())
            .map(|(success, bits)| (bits, *success))
    }

    /// Wires of all calls, each call's after the other: pairs whose products are added up.
    pub(crate) fn wires(&self, joint: JointRand<R>) -> Vec<R> {
        let arity = 2 * self.params.chunk_length;
        let mut wires = Vec::with_capacity(arity * self.params.calls(self.derived));
        // A bit times itself less one is zero for bits alone.
        let mut power = R::one();
        for bit in self.parts.bit_checked {
            wires.extend([power * *bit, *bit - self.shares_inv]);
            power = power * joint.bit_check;
        }
        wires.resize(wires.len().next_multiple_of(arity), R::default());
        // Either a check's success bit is zero, or its result is the dot product.
        let least = R::from_integer(self.derived.wr_check_bound - 1) * self.shares_inv;
        let mut power = R::one();
        for ((bits, success), result) in self.wr_checks().zip(self.wr_check_results) {
            let claimed = decode_bits(bits) - least;
            wires.extend([power * (*result - claimed), success]);
            power = power * joint.wr_check;
        }
        wires.resize(wires.len().next_multiple_of(arity), R::default());
        wires
    }

    /// The circuit's output, from the gadget's for each call.
    pub(crate) fn output(&self, joint: JointRand<R>, calls: &[R]) -> R {
        let bit_calls = self
            .parts
            .bit_checked
            .len()
            .div_ceil(self.params.chunk_length);
        let (bit_checks, wr_checks) = calls.split_at_checked(bit_calls).unwrap_or((calls, &[]));
        let sum = |values: &[R]| values.iter().fold(R::default(), |sum, v| sum + *v);
        let (v, u) = squared_norms(self.derived, self.parts);
        let range = v + u - R::from_integer(self.derived.sq_norm_bound) * self.shares_inv;
        let successes = self.wr_checks().fold(R::default(), |sum, (_, g)| sum + g);
        let wanted = R::from_integer(self.params.num_wr_successes as u128) * self.shares_inv;
        let r = joint.last;
        sum(bit_checks) + r * (range + r * (sum(wr_checks) + r * (successes - wanted)))
    }
}
