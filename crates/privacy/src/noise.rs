//! How several members, who do not trust one another, add the noise together.

use crate::{PrivacyError, Rho, Sensitivity, Variance};

/// Each of `members` adds discrete Gaussian noise to its share, and at least `honest` of them really do and keep it
/// to themselves.
///
/// What the promise rests on is the noise of the honest ones alone, of variance [`NoisePlan::promised`]; so each adds
/// `promised / honest`, and the result has the noise of all, of variance `members / honest * promised`. Its standard
/// deviation is larger than one trusted party's by [`NoisePlan::factor`], `sqrt(members / honest)`: with three
/// members of whom one is honest, 1.73.
///
/// With one honest member its noise is a discrete Gaussian of the promised variance, the others' is added to the
/// result afterwards by parties that know nothing of it (post-processing), and the cost is exactly
/// [`Rho::of_gaussian`]. With more, the honest ones' noise is a sum of discrete Gaussians, which is not a discrete
/// Gaussian, and the cost is that of Kairouz, Liu and Steinke 2021, Proposition 14.
///
/// Only members whose noise is in the result count: one that vanishes before it has added is not among `honest`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoisePlan {
    members: u32,
    honest: u32,
    promised: Variance,
    each: Variance,
}

impl NoisePlan {
    /// One honest member is enough: each adds the whole noise.
    ///
    /// # Errors
    ///
    /// [`PrivacyError::Honest`] for no members.
    pub fn new(members: u32, promised: Variance) -> Result<Self, PrivacyError> {
        Self::with_honest(members, 1, promised)
    }

    /// At least `honest` of the members are.
    ///
    /// # Errors
    ///
    /// [`PrivacyError::Honest`] if that is none or more than there are; [`PrivacyError::TooNarrow`] if a member's
    /// variance would be below 1/4, from where on the bound on sums holds; [`PrivacyError::VarianceRange`].
    pub fn with_honest(
        members: u32,
        honest: u32,
        promised: Variance,
    ) -> Result<Self, PrivacyError> {
        if honest == 0 || honest > members {
            return Err(PrivacyError::Honest { members, honest });
        }
        let each = promised.over(honest)?;
        if honest > 1 && each.numerator().saturating_mul(4) < each.denominator().into() {
            return Err(PrivacyError::TooNarrow);
        }
        Ok(Self {
            members,
            honest,
            promised,
            each,
        })
    }

    /// Of how much noise the promise is certain.
    pub fn promised(&self) -> Variance {
        self.promised
    }

    /// What each member samples with.
    pub fn member_variance(&self) -> Variance {
        self.each
    }

    /// Standard deviation of a coordinate's noise when all members have added theirs, in encoded units.
    pub fn standard_deviation(&self) -> f64 {
        self.promised.standard_deviation() * self.factor()
    }

    /// How much larger that is than the promised noise's: `sqrt(members / honest)`.
    pub fn factor(&self) -> f64 {
        (f64::from(self.members) / f64::from(self.honest)).sqrt()
    }

    /// How far the honest members' noise is from a discrete Gaussian, per coordinate:
    /// `tau = 10 * sum over k = 1 .. honest - 1 of exp(-2 pi^2 sigma^2 k / (k + 1))`, with `sigma` a member's
    /// (Kairouz, Liu and Steinke 2021, Proposition 14). 0 for one; below `10^-300` from `sigma = 9` on.
    pub fn tau(&self) -> f64 {
        let rate = 2.0 * std::f64::consts::PI.powi(2) * self.each.as_f64();
        let term = |k: f64| (-rate * k / (k + 1.0)).exp();
        // All terms are at most the first. Beyond these many the sum is bounded rather than computed.
        let (summed, rest) = (self.honest.min(1024), self.honest.saturating_sub(1024));
        let sum: f64 = (1..summed).map(|k| term(k.into())).sum();
        10.0 * (sum + f64::from(rest) * term(1.0))
    }

    /// What a round costs, for vectors of this `dimension`: `e^2 / 2` with `e` the lesser of
    /// `sqrt(D^2 / (h sigma^2) + tau d / 2)` and `D / (sqrt(h) sigma) + tau sqrt(d)` (Kairouz, Liu and Steinke 2021,
    /// Proposition 14).
    pub fn rho(&self, sensitivity: Sensitivity, dimension: usize) -> Rho {
        let gaussian = Rho::of_gaussian(sensitivity, self.promised);
        if self.honest == 1 {
            return gaussian;
        }
        let (tau, d) = (self.tau(), dimension as f64);
        let apart = gaussian.get() + tau * d / 4.0;
        let together = ((2.0 * gaussian.get()).sqrt() + tau * d.sqrt()).powi(2) / 2.0;
        gaussian.plus(Rho::new(apart.min(together) - gaussian.get()).unwrap_or(Rho::ZERO))
    }
}
