//! The task's VDAF: the one place that names a scheme. All other code goes through the traits of
//! [`prio::vdaf`].

mod either;
mod voted;

use defim_pine::{ParameterError, Parameters, Pine32Hmac, Pine64};
use prio::{
    codec::ParameterizedDecode as _,
    field::{Field64, FieldPrio2},
    vdaf::{Aggregator, Collector as _, Vdaf},
};
use serde::{Deserialize, Serialize};

pub use self::{
    either::{Either, UpdateVdaf},
    voted::{Both, VoteState, Voted},
};
use crate::limits;

/// Length of the committee's verification key, in bytes. A scheme that takes fewer uses the first ones.
pub const VERIFY_KEY_BYTES: usize = 32;
/// Length of the nonce, which is the report id, in bytes.
pub const NONCE_BYTES: usize = 16;

/// Fewest fractional bits of an update.
const MIN_FRAC_BITS: u32 = 4;
/// A forged report passes with probability at most two to the minus this, for each that is sent ...
const ONLINE_BITS: u32 = 40;
/// ... and for each that is tried at home.
const OFFLINE_BITS: u32 = 100;

/// A member's sum of shares.
pub type AggregateShare = <UpdateVdaf as Vdaf>::AggregateShare;
/// A member's verified share of one report.
pub type OutputShare = <UpdateVdaf as Vdaf>::OutputShare;
/// A member's share of one report as it was sealed.
pub type InputShare = <UpdateVdaf as Vdaf>::InputShare;
/// What all members see of a report.
pub type PublicShare = <UpdateVdaf as Vdaf>::PublicShare;
/// What a member keeps while it waits for the others.
pub type PrepareState = <UpdateVdaf as Aggregator<VERIFY_KEY_BYTES, NONCE_BYTES>>::PrepareState;
/// What a member tells the others of its share.
pub type PrepareShare = <UpdateVdaf as Aggregator<VERIFY_KEY_BYTES, NONCE_BYTES>>::PrepareShare;
/// What comes of all members' prepare shares.
pub type PrepareMessage = <UpdateVdaf as Aggregator<VERIFY_KEY_BYTES, NONCE_BYTES>>::PrepareMessage;

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

impl Scheme {
    /// As it is written in a manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pine64 => "pine64",
            Self::Pine32Hmac => "pine32-hmac",
        }
    }

    /// The modulus of its field.
    pub const fn modulus(self) -> u64 {
        match self {
            Self::Pine64 => 0xFFFF_FFFF_0000_0001,
            Self::Pine32Hmac => 4_293_918_721,
        }
    }

    /// Most fractional bits of an update with which the proof is sound.
    pub const fn most_frac_bits(self) -> u32 {
        match self {
            Self::Pine64 => 26,
            Self::Pine32Hmac => 10,
        }
    }

    /// Bytes of an encoded field element.
    const fn element_bytes(self) -> usize {
        match self {
            Self::Pine64 => 8,
            Self::Pine32Hmac => 4,
        }
    }
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
    /// Shares of a report, one for each member of a committee: 2, or 3. All but one of them say nothing.
    #[serde(default = "two", skip_serializing_if = "is_two")]
    pub shares: u8,
    /// Bins of the histogram of accuracies: each report votes, unseen, for the one that the round's model reaches on the
    /// contributor's own rows. 0: there are no votes.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub votes: u8,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_zero(votes: &u8) -> bool {
    *votes == 0
}

const fn two() -> u8 {
    2
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_two(shares: &u8) -> bool {
    *shares == 2
}

/// The VDAF's parameters, or a vector for it, are refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum VdafError {
    /// Too small or too large.
    #[error("the update's dimension is {0}; it must be from 1 to {max}", max = limits::DIMENSION)]
    Dimension(usize),
    /// Too few or too many.
    #[error(
        "an update has {0} fractional bits; with {scheme} it must be from {MIN_FRAC_BITS} to {most}: with more, updates that are too long would pass the proof",
        scheme = .1.name(), most = .1.most_frac_bits()
    )]
    FracBits(u32, Scheme),
    /// One share is the update itself; more than the protocol knows.
    #[error("a report has {0} shares; it must be from 2 to {most}", most = limits::SHARES)]
    Shares(u8),
    /// Votes cannot be had with these parameters.
    #[error(
        "private votes have from {least} to {most} bins and go with pine64 only; {0} with {scheme} are asked for",
        least = limits::VOTE_BINS.start(), most = limits::VOTE_BINS.end(), scheme = .1.name()
    )]
    Votes(u8, Scheme),
    /// Not a sum of this task.
    #[error("not a sum of this task's updates: {0}")]
    Total(String),
    /// The scheme refuses.
    #[error("the proof system refuses these parameters: {0}")]
    Parameters(#[from] ParameterError),
}

impl VdafSpec {
    /// The encoded norm bound: 1, in units of `2^-frac_bits`.
    pub fn norm_bound(&self) -> u64 {
        1 << self.frac_bits.min(30)
    }

    /// Coordinates of a total: those of the update, and a bin of the votes each.
    pub fn coordinates(&self) -> usize {
        self.dimension.saturating_add(self.votes.into())
    }

    /// What a vote counts in a total, in units of `2^-frac_bits`: half of the norm bound. One contribution in another's place
    /// then moves a total by hardly more than it does without votes, and noise that hides an update hides a vote.
    pub fn vote_unit(&self) -> u64 {
        (self.norm_bound() / 2).max(1)
    }

    /// The instance for a committee with a member for each share.
    ///
    /// # Errors
    ///
    /// [`VdafError`] if the parameters are out of range, or unsound.
    pub fn instance(&self) -> Result<UpdateVdaf, VdafError> {
        if self.dimension == 0 || self.dimension > limits::DIMENSION {
            return Err(VdafError::Dimension(self.dimension));
        }
        if !(MIN_FRAC_BITS..=self.scheme.most_frac_bits()).contains(&self.frac_bits) {
            return Err(VdafError::FracBits(self.frac_bits, self.scheme));
        }
        if !(2..=limits::SHARES).contains(&self.shares) {
            return Err(VdafError::Shares(self.shares));
        }
        let possible = self.scheme == Scheme::Pine64 && limits::VOTE_BINS.contains(&self.votes);
        if self.votes > 0 && !possible {
            return Err(VdafError::Votes(self.votes, self.scheme));
        }
        let (bound, bits, d) = (self.norm_bound(), self.frac_bits, self.dimension);
        let num_shares = self.shares.into();
        Ok(match self.scheme {
            Scheme::Pine64 => {
                let parameters = Parameters {
                    num_shares,
                    ..Pine64::default_parameters(bound, bits, d)
                };
                parameters.check_soundness::<Field64>(ONLINE_BITS, OFFLINE_BITS)?;
                let pine = Pine64::new(parameters)?;
                let voted = Voted::new(pine, self.votes, self.vote_unit());
                Either::Pine64(voted.map_err(|_| VdafError::Votes(self.votes, self.scheme))?)
            }
            Scheme::Pine32Hmac => {
                let parameters = Parameters {
                    num_shares,
                    // One proof of the norm equality could be forged once in 2^20 reports.
                    num_proofs_norm_equality: 2,
                    ..Pine32Hmac::default_parameters(bound, bits, d)
                };
                parameters.check_soundness::<FieldPrio2>(ONLINE_BITS, OFFLINE_BITS)?;
                Either::Pine32Hmac(Pine32Hmac::new(parameters)?)
            }
        })
    }

    /// Check that a batch of so many reports cannot add up to more than the field holds.
    ///
    /// # Errors
    ///
    /// [`VdafError`] with the most that fit.
    pub fn check_batch(&self, reports: u64) -> Result<(), VdafError> {
        match self.instance()? {
            Either::Pine64(voted) => voted.pine().check_clients(reports)?,
            Either::Pine32Hmac(pine) => pine.check_clients(reports)?,
        }
        Ok(())
    }

    /// Lengths of the public, the leader's and each helper's share of a report, in bytes.
    ///
    /// # Errors
    ///
    /// [`VdafError`] if the parameters are out of range, or unsound.
    pub fn share_lengths(&self) -> Result<(usize, usize, usize), VdafError> {
        Ok(match self.instance()? {
            Either::Pine64(voted) => voted.share_lengths(),
            Either::Pine32Hmac(pine) => pine.share_lengths(),
        })
    }

    /// The coordinates of an encoded aggregate share as integers below the field's modulus, `[d]`.
    ///
    /// # Errors
    ///
    /// [`VdafError::Total`] if these are not the bytes of a share of this task.
    pub fn integers(&self, share: &[u8]) -> Result<Vec<u64>, VdafError> {
        let instance = self.instance()?;
        let decoded = AggregateShare::get_decoded_with_param(&(&instance, &()), share);
        decoded.map_err(|e| VdafError::Total(e.to_string()))?;
        // Both fields are encoded little-endian, every element in as many bytes.
        Ok(share
            .chunks_exact(self.scheme.element_bytes())
            .map(|bytes| {
                bytes
                    .iter()
                    .rev()
                    .fold(0, |n, byte| (n << 8) | u64::from(*byte))
            })
            .collect())
    }

    /// A share, encoded, whose update counts `weight` times. Its vote counts once: a report is one contributor's.
    ///
    /// # Errors
    ///
    /// [`VdafError::Total`] for bytes that are no share.
    pub fn scaled(&self, share: &[u8], weight: u8) -> Result<Vec<u8>, VdafError> {
        let modulus = u128::from(self.scheme.modulus());
        let width = self.scheme.element_bytes();
        let product = |n: &u64| (u128::from(*n) * u128::from(weight) % modulus) as u64;
        let integers = self.integers(share)?;
        let bytes = integers
            .iter()
            .enumerate()
            .map(|(at, n)| match at < self.dimension {
                true => product(n).to_le_bytes(),
                false => n.to_le_bytes(),
            });
        Ok(bytes.flat_map(|n| n.into_iter().take(width)).collect())
    }

    /// The sum of all updates, `[d]` in units of the norm bound, followed by the votes of each bin if the task has votes, from
    /// the integer sum of all aggregate shares' coordinates, each reduced modulo 2^64 - 2^32 + 1.
    ///
    /// # Errors
    ///
    /// [`VdafError::Total`] for another number of coordinates.
    pub fn total(&self, integers: &[u64]) -> Result<Vec<f64>, VdafError> {
        let instance = self.instance()?;
        let (modulus, width) = (self.scheme.modulus(), self.scheme.element_bytes());
        let bytes: Vec<u8> = integers
            .iter()
            .flat_map(|n| (n % modulus).to_le_bytes().into_iter().take(width))
            .collect();
        AggregateShare::get_decoded_with_param(&(&instance, &()), &bytes)
            .map_err(|e| VdafError::Total(e.to_string()))
            // How many there are plays no part in the sum.
            .and_then(|share| {
                instance
                    .unshard(&(), [share], 0)
                    .map_err(|e| VdafError::Total(e.to_string()))
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

    /// As [`VdafSpec::measurement`], with a vote for this bin, in a task with votes.
    pub fn measurement_with_vote(&self, values: &[i32], bin: usize) -> Vec<f64> {
        let mut measurement = self.measurement(values);
        let bins = 0..usize::from(self.votes);
        measurement.extend(bins.map(|at| f64::from(u8::from(at == bin))));
        measurement
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_added_as_integers_give_the_sum() {
        use prio::{codec::Encode as _, field::FieldElementWithInteger as _};
        assert_eq!(Scheme::Pine64.modulus(), Field64::modulus());
        assert_eq!(
            Scheme::Pine32Hmac.modulus(),
            u64::from(FieldPrio2::modulus())
        );
        for scheme in [Scheme::Pine64, Scheme::Pine32Hmac] {
            let spec = VdafSpec {
                scheme,
                dimension: 3,
                frac_bits: 8,
                shares: 2,
                votes: 0,
            };
            let vdaf = spec.instance().unwrap();
            let modulus = scheme.modulus();
            // -3, 0 and 200, each as the sum of two shares that wrap.
            let shares = [[modulus - 1, 7, 5], [modulus - 2, modulus - 7, 195]];
            let width = scheme.element_bytes();
            let added: Vec<u64> = shares
                .iter()
                .map(|share| {
                    let bytes: Vec<u8> = share
                        .iter()
                        .flat_map(|n| n.to_le_bytes().into_iter().take(width))
                        .collect();
                    let decoded =
                        AggregateShare::get_decoded_with_param(&(&vdaf, &()), &bytes).unwrap();
                    assert_eq!(decoded.get_encoded().unwrap(), bytes);
                    let integers = spec.integers(&bytes).unwrap();
                    assert_eq!(integers, share);
                    integers
                })
                .reduce(|a, b| {
                    let add = |(a, b): (&u64, &u64)| {
                        (u128::from(*a) + u128::from(*b)) % u128::from(Scheme::Pine64.modulus())
                    };
                    a.iter().zip(&b).map(|pair| add(pair) as u64).collect()
                })
                .unwrap();
            assert_eq!(
                spec.total(&added).unwrap(),
                [-3.0, 0.0, 200.0].map(|n| n / 256.0)
            );
            assert!(spec.total(&added[1..]).is_err());
            assert!(spec.integers(&[0; 5]).is_err());
        }
    }

    /// Chi-square of so many bins against the uniform distribution over the field.
    fn unevenness(values: &[u64], modulus: u64) -> f64 {
        const BINS: usize = 16;
        let mut bins = [0_u32; BINS];
        for value in values {
            bins[(u128::from(*value) * BINS as u128 / u128::from(modulus)) as usize] += 1;
        }
        let each = values.len() as f64 / BINS as f64;
        let squares = bins.iter().map(|n| (f64::from(*n) - each).powi(2));
        squares.sum::<f64>() / each
    }

    #[test]
    fn of_three_shares_any_two_are_uniform_whatever_the_update_is() {
        use prio::{
            codec::Encode as _,
            vdaf::{Client as _, PrepareTransition},
        };
        for scheme in [Scheme::Pine64, Scheme::Pine32Hmac] {
            let spec = VdafSpec {
                scheme,
                dimension: 64,
                frac_bits: 8,
                shares: 3,
                votes: 0,
            };
            let (vdaf, modulus) = (spec.instance().unwrap(), scheme.modulus());
            let sum = |a: &[u64], b: &[u64]| -> Vec<u64> {
                let sums = a.iter().zip(b);
                sums.map(|(a, b)| ((u128::from(*a) + u128::from(*b)) % u128::from(modulus)) as u64)
                    .collect()
            };
            // Nothing, and as much as there can be.
            for update in [vec![0; 64], vec![31; 64], vec![-31; 64]] {
                let mut views = [const { Vec::new() }; 3];
                let (key, mut all) = ([7; VERIFY_KEY_BYTES], Vec::new());
                for report in 0..100_u8 {
                    let nonce = [report; NONCE_BYTES];
                    let measurement = spec.measurement(&update);
                    let (public, shares) = vdaf.shard(&measurement, &nonce).unwrap();
                    let begun: Vec<_> = (0..3)
                        .map(|at| {
                            vdaf.prepare_init(&key, at, &(), &nonce, &public, &shares[at])
                                .unwrap()
                        })
                        .collect();
                    let (states, shares): (Vec<_>, Vec<_>) = begun.into_iter().unzip();
                    let message = vdaf.prepare_shares_to_prepare_message(&(), shares);
                    let message = message.unwrap();
                    let outputs: Vec<_> = states
                        .into_iter()
                        .map(|state| match vdaf.prepare_next(state, message.clone()) {
                            Ok(PrepareTransition::Finish(share)) => {
                                spec.integers(&share.get_encoded().unwrap()).unwrap()
                            }
                            _ => panic!("an honest report is refused"),
                        })
                        .collect();
                    for (left_out, view) in views.iter_mut().enumerate() {
                        let [a, b] = [(left_out + 1) % 3, (left_out + 2) % 3];
                        view.extend(sum(&outputs[a], &outputs[b]));
                    }
                    let total = sum(&sum(&outputs[0], &outputs[1]), &outputs[2]);
                    let plain = update.iter().map(|n| f64::from(*n) / 256.0);
                    assert_eq!(spec.total(&total).unwrap(), plain.collect::<Vec<_>>());
                    all.extend(total);
                }
                // 15 degrees of freedom: over 60 comes up once in two million.
                for (left_out, view) in views.iter().enumerate() {
                    let uneven = unevenness(view, modulus);
                    assert!(uneven < 60.0, "without share {left_out}: {uneven}");
                }
                // And the measure does see an update.
                assert!(unevenness(&all, modulus) > 10_000.0);
            }
        }
    }

    #[test]
    fn every_task_that_is_accepted_is_sound_and_its_sums_cannot_wrap() {
        for scheme in [Scheme::Pine64, Scheme::Pine32Hmac] {
            let of = |dimension, frac_bits| VdafSpec {
                scheme,
                dimension,
                frac_bits,
                shares: 2,
                votes: 0,
            };
            for dimension in [1, 650, 100_000, limits::DIMENSION] {
                for frac_bits in [4, 8, scheme.most_frac_bits()] {
                    // `instance` has checked its soundness.
                    let spec = of(dimension, frac_bits);
                    spec.instance().unwrap();
                    assert!(spec.check_batch(65_520).is_ok());
                }
                let most = limits::BATCH_REPORTS as u64;
                let spec = of(dimension, scheme.most_frac_bits());
                assert!(spec.check_batch(most).is_ok());
                let huge = spec.check_batch(1 << 38);
                assert!(matches!(huge, Err(VdafError::Parameters(_))));
            }
            for (dimension, frac_bits) in [
                (0, 10),
                (limits::DIMENSION + 1, 10),
                (10, 3),
                (10, scheme.most_frac_bits() + 1),
            ] {
                let spec = of(dimension, frac_bits);
                assert!(spec.instance().is_err(), "{spec:?}");
            }
        }
        let wide = VdafSpec {
            scheme: Scheme::Pine32Hmac,
            dimension: 10,
            frac_bits: 15,
            shares: 2,
            votes: 0,
        };
        let said = wide.instance().unwrap_err().to_string();
        assert!(said.contains("from 4 to 10"), "{said}");
    }
}
