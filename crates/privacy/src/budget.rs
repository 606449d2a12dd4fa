//! What a task may spend in all, and what it has spent.

use serde::{Deserialize, Serialize};

use crate::zcdp::rho_of;
use crate::{Delta, PrivacyError, Rho, Sensitivity, Variance};

/// What a task promises about all of its rounds together: (`epsilon`, `delta`), with `epsilon` over 0 and at most
/// 100, and `delta` over 0 and below 0.5.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Plain", into = "Plain")]
pub struct Budget {
    epsilon: f64,
    delta: Delta,
}

/// As it is written down.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    epsilon: f64,
    delta: f64,
}

impl TryFrom<Plain> for Budget {
    type Error = PrivacyError;

    fn try_from(plain: Plain) -> Result<Self, PrivacyError> {
        Self::new(plain.epsilon, plain.delta)
    }
}

impl From<Budget> for Plain {
    fn from(budget: Budget) -> Self {
        Self {
            epsilon: budget.epsilon,
            delta: budget.delta.get(),
        }
    }
}

/// A planned variance is larger by this part, so that no rounding of floating point makes the last of the planned
/// rounds too dear.
const MARGIN: f64 = 1e-9;
/// Rounds are counted as if each cost more by this part, which is more than rounding adds in half a million rounds.
const SLACK: f64 = 1e-10;

impl Budget {
    /// Checked.
    ///
    /// # Errors
    ///
    /// [`PrivacyError::Epsilon`] or [`PrivacyError::Delta`].
    pub fn new(epsilon: f64, delta: f64) -> Result<Self, PrivacyError> {
        if !(epsilon > 0.0 && epsilon <= 100.0) {
            return Err(PrivacyError::Epsilon(epsilon));
        }
        let delta = Delta::new(delta)?;
        Ok(Self { epsilon, delta })
    }

    /// Epsilon.
    pub fn epsilon(self) -> f64 {
        self.epsilon
    }

    /// Delta.
    pub fn delta(self) -> Delta {
        self.delta
    }

    /// The largest cost that keeps the promise.
    pub fn rho(self) -> Rho {
        rho_of(self.epsilon, self.delta)
    }

    /// The least noise with which so many equal rounds keep the promise: `rounds * sensitivity^2 / (2 rho)`, rounded
    /// up. Logarithms differ in the last place from machine to machine: one party computes it, and the others are
    /// told the fraction.
    ///
    /// # Errors
    ///
    /// [`PrivacyError::NoRounds`] or [`PrivacyError::VarianceRange`].
    pub fn variance(self, rounds: u32, sensitivity: Sensitivity) -> Result<Variance, PrivacyError> {
        if rounds == 0 {
            return Err(PrivacyError::NoRounds);
        }
        let each = self.rho().get() / f64::from(rounds);
        Variance::at_least(sensitivity.squared() / (2.0 * each) * (1.0 + MARGIN))
    }
}

/// What has been spent of a budget.
///
/// ```
/// use defim_privacy::{Accountant, Budget, Rho, Sensitivity};
///
/// let budget = Budget::new(8.0, 1e-5)?;
/// let sensitivity = Sensitivity::replace_one(1 << 15, 1)?;
/// let round = Rho::of_gaussian(sensitivity, budget.variance(10, sensitivity)?);
///
/// let mut accountant = Accountant::new(budget);
/// assert_eq!(accountant.rounds_left(round), 10);
/// for _ in 0..10 {
///     accountant.spend(round)?;
/// }
/// assert!(accountant.epsilon() <= 8.0);
/// assert!(!accountant.can_spend(round));
/// # Ok::<(), defim_privacy::PrivacyError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Accountant {
    budget: Budget,
    limit: Rho,
    spent: Rho,
}

impl Accountant {
    /// Nothing spent.
    pub fn new(budget: Budget) -> Self {
        Self::resume(budget, Rho::ZERO)
    }

    /// After a restart. More may have been spent than the budget has; then nothing is left.
    pub fn resume(budget: Budget, spent: Rho) -> Self {
        Self {
            budget,
            limit: budget.rho(),
            spent,
        }
    }

    /// The promise.
    pub fn budget(&self) -> Budget {
        self.budget
    }

    /// The most that can be spent.
    pub fn limit(&self) -> Rho {
        self.limit
    }

    /// The sum of all costs, to be kept on disk.
    pub fn spent(&self) -> Rho {
        self.spent
    }

    /// What has been spent, as epsilon at the budget's delta; for people.
    pub fn epsilon(&self) -> f64 {
        self.spent.epsilon(self.budget.delta())
    }

    /// Whether a round of this cost keeps the promise.
    pub fn can_spend(&self, cost: Rho) -> bool {
        self.spent.plus(cost) <= self.limit
    }

    /// Count a round. To be written down before the round's result leaves.
    ///
    /// # Errors
    ///
    /// [`PrivacyError::Exhausted`]; nothing is counted then.
    pub fn spend(&mut self, cost: Rho) -> Result<(), PrivacyError> {
        if !self.can_spend(cost) {
            return Err(PrivacyError::Exhausted {
                cost: cost.get(),
                left: (self.limit.get() - self.spent.get()).max(0.0),
            });
        }
        self.spent = self.spent.plus(cost);
        Ok(())
    }

    /// How many more rounds of this cost keep the promise; the largest number for a cost of nothing.
    pub fn rounds_left(&self, cost: Rho) -> u32 {
        match self.can_spend(cost) {
            false => 0,
            true => {
                let left = self.limit.get() - self.spent.get();
                // A conversion keeps within the integer's range. One round was just seen to fit.
                ((left / cost.get() * (1.0 - SLACK)) as u32).max(1)
            }
        }
    }
}
