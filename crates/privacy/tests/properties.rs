//! What holds for all numbers.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_privacy::{
    Accountant, Budget, Delta, DiscreteGaussian, NoisePlan, Rho, Sensitivity, Variance,
};
use proptest::prelude::*;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};

/// Over many orders of magnitude.
fn wide(low: f64, high: f64) -> impl Strategy<Value = f64> {
    (low.ln()..high.ln()).prop_map(f64::exp)
}

proptest! {
    #[test]
    fn more_cost_is_more_epsilon_and_more_delta(
        cost in wide(1e-9, 50.0), more in wide(1e-4, 10.0), at in wide(1e-15, 0.4), epsilon in wide(0.01, 100.0),
    ) {
        let (low, high) = (Rho::new(cost).unwrap(), Rho::new(cost * (1.0 + more)).unwrap());
        let delta = Delta::new(at).unwrap();
        prop_assert!(low.epsilon(delta) <= high.epsilon(delta));
        prop_assert!(low.delta(epsilon) <= high.delta(epsilon));
        prop_assert!(low.delta(epsilon) >= low.delta(epsilon * (1.0 + more)));
        prop_assert!(low.epsilon(delta) >= low.epsilon(Delta::new(at * 1.2).unwrap()));
        prop_assert!(low.epsilon(delta) <= low.epsilon_closed_form(delta));
    }

    #[test]
    fn conversions_are_one_anothers_inverses(epsilon in wide(0.001, 100.0), at in wide(1e-15, 0.4)) {
        let budget = Budget::new(epsilon, at).unwrap();
        let rho = budget.rho();
        prop_assert!(rho.delta(epsilon) <= at);
        let back = rho.epsilon(budget.delta());
        prop_assert!((back / epsilon - 1.0).abs() < 1e-8, "{} {}", back, epsilon);
        prop_assert!(Rho::new(rho.get() * 1.000_001).unwrap().delta(epsilon) > at);
    }

    #[test]
    fn no_order_gives_a_lower_bound(cost in wide(1e-4, 10.0), epsilon in wide(0.1, 50.0), order in wide(1.001, 1e4)) {
        let bound = ((order - 1.0) * (order * cost - epsilon) + order * (-1.0 / order).ln_1p()).exp() / (order - 1.0);
        prop_assert!(Rho::new(cost).unwrap().delta(epsilon) <= bound * (1.0 + 1e-9));
    }

    #[test]
    fn more_rounds_or_a_stricter_promise_need_more_noise(
        epsilon in wide(0.01, 50.0), at in wide(1e-12, 0.2), rounds in 1u32..10_000, bits in 4u32..30, weight in 1u32..=255,
    ) {
        let sensitivity = Sensitivity::replace_one(1 << bits, weight).unwrap();
        let noise = |epsilon, at, rounds| {
            Budget::new(epsilon, at).unwrap().variance(rounds, sensitivity).unwrap()
        };
        let variance = noise(epsilon, at, rounds);
        prop_assert!(noise(epsilon, at, rounds + 1).as_f64() >= variance.as_f64());
        prop_assert!(noise(epsilon * 1.5, at, rounds).as_f64() <= variance.as_f64());
        prop_assert!(noise(epsilon, at * 2.0, rounds).as_f64() <= variance.as_f64());
        let accountant = Accountant::new(Budget::new(epsilon, at).unwrap());
        let cost = Rho::of_gaussian(sensitivity, variance);
        prop_assert_eq!(accountant.rounds_left(cost), rounds);
        prop_assert!(cost.times(rounds) <= accountant.limit());
    }

    #[test]
    fn an_accountant_never_goes_over(costs in proptest::collection::vec(wide(1e-6, 0.5), 1..60)) {
        let mut accountant = Accountant::new(Budget::new(4.0, 1e-6).unwrap());
        let mut sum = 0.0;
        for cost in costs {
            let cost = Rho::new(cost).unwrap();
            let could = accountant.can_spend(cost);
            prop_assert_eq!(could, accountant.rounds_left(cost) > 0);
            prop_assert_eq!(could, accountant.spend(cost).is_ok());
            sum += if could { cost.get() } else { 0.0 };
            prop_assert!(accountant.spent() <= accountant.limit());
            prop_assert!((accountant.spent().get() - sum).abs() < 1e-12);
            prop_assert!(accountant.spent().get() >= sum);
            prop_assert!(accountant.epsilon() <= 4.0 * (1.0 + 1e-9));
        }
    }

    #[test]
    fn the_honest_ones_noise_is_what_was_promised(
        members in 1u32..200, honest in 1u32..200, numerator in 1u128..1 << 80, denominator in 1u64..1000,
    ) {
        prop_assume!(honest <= members && numerator > 1000 * 200);
        let promised = Variance::new(numerator, denominator).unwrap();
        let plan = NoisePlan::with_honest(members, honest, promised).unwrap();
        let each = plan.member_variance();
        // each * honest = promised, exactly.
        prop_assert_eq!(Variance::new(each.numerator() * u128::from(honest), each.denominator()).unwrap(), promised);
        let sensitivity = Sensitivity::replace_one(1 << 10, 1).unwrap();
        prop_assert!(plan.rho(sensitivity, 1000) >= Rho::of_gaussian(sensitivity, promised));
        prop_assert!(plan.factor() >= 1.0);
    }

    /// No variance that is accepted makes the sampler's integers overflow; every one gives plausible samples.
    #[test]
    fn every_variance_can_be_sampled(bits in 0u32..=112, low in any::<u128>(), denominator in any::<u64>(), shift in 0u32..64, seed in any::<u64>()) {
        let numerator = (low >> 16) & ((1u128 << bits) - 1) | 1u128.checked_shl(bits).unwrap_or(0) ;
        if let Ok(variance) = Variance::new(numerator, (denominator >> shift).max(1)) {
            let mut rng = ChaCha20Rng::seed_from_u64(seed);
            let bound = 40.0 * variance.standard_deviation() + 40.0;
            for sample in DiscreteGaussian::new(variance).samples(20, &mut rng) {
                prop_assert!((sample as f64).abs() < bound);
            }
        }
    }
}
