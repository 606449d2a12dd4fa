//! What is refused.

/// A privacy parameter is refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum PrivacyError {
    /// Not a number, not positive, or so large that it promises nothing.
    #[error("epsilon is {0}; it must be over 0 and at most 100")]
    Epsilon(f64),
    /// Not a probability that a promise can leave out.
    #[error("delta is {0}; it must be over 0 and below 0.5")]
    Delta(f64),
    /// Not a number, negative or infinite.
    #[error("rho is {0}; it must be finite and not negative")]
    Rho(f64),
    /// No denominator.
    #[error("a variance has the denominator 0")]
    ZeroDenominator,
    /// Outside of what the sampler's integers hold.
    #[error(
        "a variance must be from 2^-32 to 2^112, with a numerator of at most 2^112 in lowest terms"
    )]
    VarianceRange,
    /// Nothing to hide, or more than a machine word counts.
    #[error(
        "a sensitivity of twice the bound {norm_bound} times the weight {weight} is refused; it must be from 1 to 2^53"
    )]
    Sensitivity {
        /// The norm bound, in encoded units.
        norm_bound: u64,
        /// The largest weight.
        weight: u32,
    },
    /// No round to share a budget among.
    #[error("a budget is for at least one round")]
    NoRounds,
    /// More honest members than members, or none.
    #[error("{honest} of {members} members cannot be the honest ones; choose from 1 to {members}")]
    Honest {
        /// Members that add noise.
        members: u32,
        /// Of them honest.
        honest: u32,
    },
    /// The bound on a sum of discrete Gaussians does not hold for so little noise.
    #[error(
        "a member's standard deviation is below 1/2, too little to rely on a sum of members' noise; \
         assume one honest member"
    )]
    TooNarrow,
    /// The task has to stop.
    #[error("the round costs rho = {cost}, and {left} is left of the budget; the task has to stop")]
    Exhausted {
        /// What the round costs.
        cost: f64,
        /// What is left.
        left: f64,
    },
}
