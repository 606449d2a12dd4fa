//! The task's VDAF: the one place that names a scheme. All other code goes through the traits of
//! [`prio::vdaf`].

use fixed::{FixedI16, types::extra::U15};
use prio::{
    field::{Field128, FieldElement as _},
    flp::{
        Type as _,
        gadgets::{Mul, ParallelSum, PolyEval},
        types::fixedpoint_l2::FixedPointBoundedL2VecSum,
    },
    vdaf::{Aggregator, prio3::Prio3FixedPointBoundedL2VecSum},
};
use serde::{Deserialize, Serialize};

use crate::limits;

/// The VDAF of learning tasks: the sum of vectors with L2 norm below 1, in 16-bit fixed point.
pub type UpdateVdaf = Prio3FixedPointBoundedL2VecSum<FixedI16<U15>>;
/// Length of the committee's verification key, in bytes.
pub const VERIFY_KEY_BYTES: usize = 16;
/// Length of the nonce, which is the report id, in bytes.
pub const NONCE_BYTES: usize = 16;
/// Fractional bits of an encoded coordinate.
pub const FRAC_BITS: u32 = 15;

/// One coordinate as the VDAF takes it: `value / 2^15`.
pub type Coordinate = FixedI16<U15>;
/// A member's sum of shares.
pub type AggregateShare = <UpdateVdaf as prio::vdaf::Vdaf>::AggregateShare;
/// A member's verified share of one report.
pub type OutputShare = <UpdateVdaf as prio::vdaf::Vdaf>::OutputShare;
/// A member's share of one report as it was sealed.
pub type InputShare = <UpdateVdaf as prio::vdaf::Vdaf>::InputShare;
/// What both members see of a report.
pub type PublicShare = <UpdateVdaf as prio::vdaf::Vdaf>::PublicShare;
/// What a member keeps while it waits for the other.
pub type PrepareState = <UpdateVdaf as Aggregator<VERIFY_KEY_BYTES, NONCE_BYTES>>::PrepareState;

/// Which VDAF a task uses, with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "scheme", rename_all = "kebab-case", deny_unknown_fields)]
pub enum VdafSpec {
    /// `Prio3FixedPointBoundedL2VecSum` with 16-bit coordinates (libprio).
    FixedPointL2 {
        /// Coordinates of an update.
        dimension: usize,
    },
}

/// The VDAF's parameters, or a vector for it, are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VdafError {
    /// Too small or too large.
    #[error("the update's dimension is {0}; it must be from 1 to {max}", max = limits::DIMENSION)]
    Dimension(usize),
    /// A coordinate does not fit 16 bits.
    #[error(
        "coordinate {index} is {value}; an encoded coordinate lies strictly between -32768 and 32768"
    )]
    Coordinate {
        /// Which.
        index: usize,
        /// Its value.
        value: i32,
    },
    /// The library refuses.
    #[error("the proof system refuses these parameters: {0}")]
    Library(String),
}

impl VdafSpec {
    /// Coordinates of an update.
    pub fn dimension(&self) -> usize {
        match self {
            Self::FixedPointL2 { dimension } => *dimension,
        }
    }

    /// The instance for a committee of two.
    ///
    /// # Errors
    ///
    /// [`VdafError`] if the dimension is out of range.
    pub fn instance(&self) -> Result<UpdateVdaf, VdafError> {
        let dimension = self.dimension();
        if dimension == 0 || dimension > limits::DIMENSION {
            return Err(VdafError::Dimension(dimension));
        }
        UpdateVdaf::new_fixedpoint_boundedl2_vec_sum(2, dimension)
            .map_err(|e| VdafError::Library(e.to_string()))
    }

    /// Bytes of an encoded public share, of the leader's and of the helper's input share.
    ///
    /// # Errors
    ///
    /// [`VdafError`] if the dimension is out of range.
    pub fn share_lengths(&self) -> Result<(usize, usize, usize), VdafError> {
        const SEED: usize = 16;
        self.instance()?;
        let typ = Proof::new(self.dimension()).map_err(|e| VdafError::Library(e.to_string()))?;
        let elements = typ.input_len() + typ.proof_len();
        let leader = elements * Field128::ENCODED_SIZE + SEED;
        // Public: one part of the joint randomness a member. Helper: share, proof and blind as seeds.
        Ok((2 * SEED, leader, 3 * SEED))
    }
}

type Proof = FixedPointBoundedL2VecSum<
    Coordinate,
    ParallelSum<Field128, PolyEval<Field128>>,
    ParallelSum<Field128, Mul<Field128>>,
>;

/// The VDAF's measurement from encoded coordinates, `values: [d]` in units of `bound / 2^15`.
///
/// # Errors
///
/// [`VdafError::Coordinate`] for a value that would wrap.
pub fn measurement(values: &[i32]) -> Result<Vec<Coordinate>, VdafError> {
    values
        .iter()
        .enumerate()
        .map(|(index, &value)| {
            i16::try_from(value)
                .ok()
                .filter(|bits| *bits != i16::MIN)
                .map(Coordinate::from_bits)
                .ok_or(VdafError::Coordinate { index, value })
        })
        .collect()
}
