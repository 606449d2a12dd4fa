//! Differential privacy for sums of vectors: an exact discrete Gaussian sampler, a zCDP accountant, and how members share the noise.
//!
//! # Where in the flow
//!
//! | who | does | with |
//! |---|---|---|
//! | the task's owner | promises an (epsilon, delta) for all rounds, and derives the noise of one | [`Budget`], [`Sensitivity`], [`Variance`] |
//! | each full node | adds its part of the noise to its weighted aggregate share, before it encrypts | [`NoisePlan`], [`DiscreteGaussian`] |
//! | whoever starts a round | counts its cost, and stops the task when the budget is spent | [`Accountant`], [`Rho`] |
//! | light node | keeps and shows what its own updates have cost | [`Accountant`] |
//!
//! Nothing here does I/O, reads a clock or draws randomness by itself. Noise is an integer in the units of an
//! encoded update, `norm bound / 2^frac_bits`; adding it to a field element is the caller's.
//!
//! # Invariants
//!
//! - Sampling is exact: no decision takes a floating-point number, and the same randomness gives the same samples
//!   on every machine.
//! - Neighbours differ in one person's update, exchanged for any other of the same bound (replace-one). That as many
//!   people take part is public.
//! - What is rounded in accounting is rounded to the safe side: variances up, with a margin of `10^-9`, and sums of
//!   costs up.
//! - An accountant that refuses a cost has not counted it.
//!
//! # Sources
//!
//! - CKS20: Canonne, Kamath, Steinke, "The Discrete Gaussian for Differential Privacy", 2020,
//!   <https://arxiv.org/abs/2004.00010>. Algorithms 1 to 3; Theorem 4 on the cost; Proposition 12 and Corollary 13 on
//!   (epsilon, delta).
//! - Bun, Steinke, "Concentrated Differential Privacy: Simplifications, Extensions, and Lower Bounds", 2016,
//!   <https://arxiv.org/abs/1605.02065>. zCDP, its composition, the closed form.
//! - Kairouz, Liu, Steinke, "The Distributed Discrete Gaussian Mechanism for Federated Learning with Secure
//!   Aggregation", 2021, <https://arxiv.org/abs/2102.06387>. Proposition 14 on sums of discrete Gaussians.
//!
//! # Deviations from its sources
//!
//! - The acceptance of Algorithm 3, `exp(-g)` with a `g` of up to 400 bits, is split into coins of probability
//!   `exp(-g_i)` with `g = g_1 + g_2 + ..`, and each `g_i` into a product of fractions. The probabilities are the same.
//! - A Laplace proposal over 4096 scales, or over 63 bits, is drawn anew. That moves the distribution by less than
//!   `exp(-1000)`.
//!
//! # Not covered
//!
//! How long a sample takes depends on it, as with every rejection sampler: whoever can time a node to the nanosecond
//! learns something about its noise. Noise is drawn for the whole vector at once, which leaves a sum of times.
//!
//! # Example
//!
//! ```
//! use defim_privacy::{Accountant, Budget, DiscreteGaussian, NoisePlan, Sensitivity};
//! use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};
//!
//! // Updates of norm at most 2^15 in encoded units, all of weight 1; ten rounds.
//! let budget = Budget::new(8.0, 1e-5)?;
//! let sensitivity = Sensitivity::replace_one(1 << 15, 1)?;
//! let variance = budget.variance(10, sensitivity)?;
//!
//! // Three members, of whom one is honest: each adds the whole noise.
//! let plan = NoisePlan::new(3, variance)?;
//! assert!((plan.factor() - 1.732).abs() < 0.001);
//! let noise = DiscreteGaussian::new(plan.member_variance());
//!
//! let mut accountant = Accountant::new(budget);
//! accountant.spend(plan.rho(sensitivity, 650))?;
//! let mut rng = ChaCha20Rng::from_seed([1; 32]);
//! assert_eq!(noise.samples(650, &mut rng).len(), 650);
//! assert_eq!(accountant.rounds_left(plan.rho(sensitivity, 650)), 9);
//! # Ok::<(), defim_privacy::PrivacyError>(())
//! ```
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod budget;
mod error;
mod noise;
mod sampler;
mod variance;
mod zcdp;

pub use budget::{Accountant, Budget};
pub use error::PrivacyError;
pub use noise::NoisePlan;
pub use sampler::DiscreteGaussian;
pub use variance::Variance;
pub use zcdp::{Delta, Rho, Sensitivity};
