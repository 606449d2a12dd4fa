//! A task's promise of differential privacy, and the noise that keeps it.

use defim_privacy::{Accountant, Budget, NoisePlan, PrivacyError, Rho, Sensitivity, Variance};
use serde::{Deserialize, Serialize};

use crate::vdaf::VdafSpec;

/// What a task promises for all of its rounds together. It holds as long as one full node whose sum is in a total is
/// honest: each adds the whole noise, so that a total of `n` nodes has `sqrt(n)` times its standard deviation.
///
/// Neighbours differ in one contribution a round, exchanged for any other of the same bound and weight.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Privacy {
    /// Epsilon.
    pub epsilon: f64,
    /// Delta.
    pub delta: f64,
    /// Variance of the discrete Gaussian that each full node adds to each coordinate of its sum, in units of
    /// `2^-frac_bits` squared.
    pub variance: u64,
}

impl Privacy {
    /// The promise for so many rounds, with the least noise that keeps it for a contribution that counts `max_weight` times.
    ///
    /// # Errors
    ///
    /// [`PrivacyError`] if epsilon, delta or the noise are out of range.
    pub fn new(
        vdaf: &VdafSpec,
        max_weight: u8,
        epsilon: f64,
        delta: f64,
        rounds: u64,
    ) -> Result<Self, PrivacyError> {
        let rounds = u32::try_from(rounds).map_err(|_| PrivacyError::VarianceRange)?;
        let least =
            Budget::new(epsilon, delta)?.variance(rounds, sensitivity(vdaf, max_weight)?)?;
        let least = least.numerator().div_ceil(least.denominator().into());
        Ok(Self {
            epsilon,
            delta,
            variance: u64::try_from(least).map_err(|_| PrivacyError::VarianceRange)?,
        })
    }

    /// Whether the noise keeps the promise for so many rounds.
    ///
    /// # Errors
    ///
    /// [`PrivacyError`] if it does not, or a value is out of range.
    pub fn check(&self, vdaf: &VdafSpec, max_weight: u8, rounds: u64) -> Result<(), PrivacyError> {
        let accountant = Accountant::new(Budget::new(self.epsilon, self.delta)?);
        let cost = self.cost(vdaf, max_weight)?;
        match rounds <= u64::from(accountant.rounds_left(cost)) {
            true => Ok(()),
            false => Err(PrivacyError::Exhausted {
                cost: cost.get() * rounds as f64,
                left: accountant.limit().get(),
            }),
        }
    }

    /// The noise of one full node.
    ///
    /// # Errors
    ///
    /// [`PrivacyError`] if there is none.
    pub fn noise(&self) -> Result<Variance, PrivacyError> {
        Variance::new(self.variance.into(), 1)
    }

    /// What a round costs.
    ///
    /// # Errors
    ///
    /// [`PrivacyError`] if a value is out of range.
    pub fn cost(&self, vdaf: &VdafSpec, max_weight: u8) -> Result<Rho, PrivacyError> {
        Ok(Rho::of_gaussian(
            sensitivity(vdaf, max_weight)?,
            self.noise()?,
        ))
    }

    /// Epsilon after so many rounds, at this delta.
    ///
    /// # Errors
    ///
    /// [`PrivacyError`] if a value is out of range.
    pub fn spent(&self, vdaf: &VdafSpec, max_weight: u8, rounds: u64) -> Result<f64, PrivacyError> {
        let budget = Budget::new(self.epsilon, self.delta)?;
        let rounds = u32::try_from(rounds).unwrap_or(u32::MAX);
        Ok(self
            .cost(vdaf, max_weight)?
            .times(rounds)
            .epsilon(budget.delta()))
    }

    /// Standard deviation of the noise in a total of so many full nodes, in units of the norm bound.
    ///
    /// # Errors
    ///
    /// [`PrivacyError`] if a value is out of range.
    pub fn deviation(&self, vdaf: &VdafSpec, nodes: usize) -> Result<f64, PrivacyError> {
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        let plan = NoisePlan::new(nodes, self.noise()?)?;
        Ok(plan.standard_deviation() / vdaf.norm_bound() as f64)
    }

    /// The same in the count of a bin of the task's private votes, in votes.
    ///
    /// # Errors
    ///
    /// [`PrivacyError`] if a value is out of range.
    pub fn vote_deviation(&self, vdaf: &VdafSpec, nodes: usize) -> Result<f64, PrivacyError> {
        let units = vdaf.norm_bound() as f64 / vdaf.vote_unit() as f64;
        Ok(self.deviation(vdaf, nodes)? * units)
    }
}

/// One contribution exchanged for another moves a total by at most twice the norm bound, as often as it counts; and its vote, which
/// counts once, from one bin to another.
fn sensitivity(vdaf: &VdafSpec, max_weight: u8) -> Result<Sensitivity, PrivacyError> {
    let update = Sensitivity::replace_one(vdaf.norm_bound(), max_weight.into())?;
    match vdaf.votes {
        0 => Ok(update),
        _ => update.and_moved(vdaf.vote_unit()),
    }
}
