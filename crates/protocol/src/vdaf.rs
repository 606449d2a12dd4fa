//! The task's VDAF: the one place that names a scheme. All other code goes through the traits of
//! [`prio::vdaf`].

mod either;

use defim_pine::{ParameterError, Parameters, Pine32Hmac, Pine64};
use prio::vdaf::{Aggregator, Vdaf};
use serde::{Deserialize, Serialize};

pub use self::either::{Either, UpdateVdaf};
use crate::limits;

/// Length of the committee's verification key, in bytes. A scheme that takes fewer uses the first ones.
pub const VERIFY_KEY_BYTES: usize = 32;
/// Length of the nonce, which is the report id, in bytes.
pub const NONCE_BYTES: usize = 16;

/// A member's sum of shares.
pub type AggregateShare = <UpdateVdaf as Vdaf>::AggregateShare;
/// A member's verified share of one report.
pub type OutputShare = <UpdateVdaf as Vdaf>::OutputShare;
/// A member's share of one report as it was sealed.
pub type InputShare = <UpdateVdaf as Vdaf>::InputShare;
/// What both members see of a report.
pub type PublicShare = <UpdateVdaf as Vdaf>::PublicShare;
/// What a member keeps while it waits for the other.
pub type PrepareState = <UpdateVdaf as Aggregator<VERIFY_KEY_BYTES, NONCE_BYTES>>::PrepareState;

/// The VDAFs that a task can choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// PINE over a 64-bit field: 8 bytes a coordinate.
    #[default]
    Pine64,
    /// PINE over a 32-bit field: 4 bytes a coordinate, for few fractional bits or small batches.
    Pine32Hmac,
}

impl std::str::FromStr for Scheme {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "pine64" => Ok(Self::Pine64),
            "pine32-hmac" => Ok(Self::Pine32Hmac),
            _ => Err(format!(
                "there is no scheme {name:?}; choose pine64 or pine32-hmac"
            )),
        }
    }
}

/// Which VDAF a task uses, with its parameters: sums of vectors whose L2 norm is at most 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VdafSpec {
    /// The scheme.
    pub scheme: Scheme,
    /// Coordinates of an update.
    pub dimension: usize,
    /// Fractional bits of an encoded coordinate; it counts in units of `2^-frac_bits`.
    pub frac_bits: u32,
}

/// The VDAF's parameters, or a vector for it, are refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum VdafError {
    /// Too small or too large.
    #[error("the update's dimension is {0}; it must be from 1 to {max}", max = limits::DIMENSION)]
    Dimension(usize),
    /// Too few or too many.
    #[error("an update has {0} fractional bits; it must be from 4 to 30")]
    FracBits(u32),
    /// The scheme refuses.
    #[error("the proof system refuses these parameters: {0}")]
    Parameters(#[from] ParameterError),
}

impl VdafSpec {
    /// The encoded norm bound: 1, in units of `2^-frac_bits`.
    fn norm_bound(&self) -> u64 {
        1 << self.frac_bits.min(30)
    }

    /// The instance for a committee of two.
    ///
    /// # Errors
    ///
    /// [`VdafError`] if the parameters are out of range, or unsound.
    pub fn instance(&self) -> Result<UpdateVdaf, VdafError> {
        if self.dimension == 0 || self.dimension > limits::DIMENSION {
            return Err(VdafError::Dimension(self.dimension));
        }
        if !(4..=30).contains(&self.frac_bits) {
            return Err(VdafError::FracBits(self.frac_bits));
        }
        let (bound, bits, d) = (self.norm_bound(), self.frac_bits, self.dimension);
        Ok(match self.scheme {
            Scheme::Pine64 => {
                Either::Pine64(Pine64::new(Pine64::default_parameters(bound, bits, d))?)
            }
            // One proof of the norm equality could be forged once in 2^20 reports.
            Scheme::Pine32Hmac => Either::Pine32Hmac(Pine32Hmac::new(Parameters {
                num_proofs_norm_equality: 2,
                ..Pine32Hmac::default_parameters(bound, bits, d)
            })?),
        })
    }

    /// Check that a batch of so many reports cannot add up to more than the field holds.
    ///
    /// # Errors
    ///
    /// [`VdafError`] with the most that fit.
    pub fn check_batch(&self, reports: u64) -> Result<(), VdafError> {
        match self.instance()? {
            Either::Pine64(pine) => pine.check_clients(reports)?,
            Either::Pine32Hmac(pine) => pine.check_clients(reports)?,
        }
        Ok(())
    }

    /// Lengths of the public, the leader's and the helper's share of a report, in bytes.
    ///
    /// # Errors
    ///
    /// [`VdafError`] if the parameters are out of range, or unsound.
    pub fn share_lengths(&self) -> Result<(usize, usize, usize), VdafError> {
        Ok(match self.instance()? {
            Either::Pine64(pine) => pine.share_lengths(),
            Either::Pine32Hmac(pine) => pine.share_lengths(),
        })
    }

    /// The VDAF's measurement from encoded coordinates, `values: [d]` in units of `2^-frac_bits`.
    pub fn measurement(&self, values: &[i32]) -> Vec<f64> {
        let unit = self.norm_bound() as f64;
        values
            .iter()
            .map(|value| f64::from(*value) / unit)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prio::field::{Field64, FieldPrio2};

    #[test]
    fn every_task_that_is_accepted_is_sound_and_its_sums_cannot_wrap() {
        for scheme in [Scheme::Pine64, Scheme::Pine32Hmac] {
            for dimension in [1, 650, 100_000, limits::DIMENSION] {
                let spec = VdafSpec {
                    scheme,
                    dimension,
                    frac_bits: 15,
                };
                match spec.instance().unwrap() {
                    Either::Pine64(pine) => pine.parameters().check_soundness::<Field64>(40, 100),
                    Either::Pine32Hmac(pine) => {
                        pine.parameters().check_soundness::<FieldPrio2>(40, 100)
                    }
                }
                .unwrap();
                assert!(spec.check_batch(65_520).is_ok());
                let most = limits::BATCH_REPORTS as u64;
                assert_eq!(spec.check_batch(most).is_ok(), scheme == Scheme::Pine64);
            }
        }
        let wide = VdafSpec {
            scheme: Scheme::Pine32Hmac,
            dimension: 10,
            frac_bits: 16,
        };
        assert!(matches!(wide.instance(), Err(VdafError::Parameters(_))));
        for (dimension, frac_bits) in [(0, 15), (limits::DIMENSION + 1, 15), (10, 3), (10, 31)] {
            let spec = VdafSpec {
                scheme: Scheme::Pine64,
                dimension,
                frac_bits,
            };
            assert!(spec.instance().is_err(), "{spec:?}");
        }
    }
}
