//! Costs, promises and noise against published formulas and other people's programs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_privacy::{
    Accountant, Budget, Delta, NoisePlan, PrivacyError, Rho, Sensitivity, Variance,
};

fn rho(value: f64) -> Rho {
    Rho::new(value).unwrap()
}

fn delta(value: f64) -> Delta {
    Delta::new(value).unwrap()
}

fn close(found: f64, wanted: f64, relative: f64) {
    assert!(
        (found / wanted - 1.0).abs() < relative,
        "{found} is not {wanted}"
    );
}

/// `cdp_eps` of the authors' program, <https://github.com/IBM/discrete-gaussian-differential-privacy>; the same to 12
/// digits by mpmath with 50 digits and a search without derivatives; and to 8 digits by Google's dp_accounting 0.6.0,
/// `RdpAccountant` with `ZCDpEvent(rho)` and 4001 orders about the best one.
#[test]
fn epsilon_is_that_of_other_programs() {
    for (cost, at, wanted) in [
        (0.001, 1e-9, 0.245_119_253_871_95),
        (0.01, 1e-5, 0.545_725_548_274),
        (0.07, 1e-10, 2.387_275_176_718),
        (0.1, 1e-5, 1.914_238_832_003_6),
        (0.5, 1e-6, 5.221_534_444_530_2),
        (1.0, 1e-6, 7.766_216_625_311_7),
        (2.56, 1e-10, 17.158_308_712_105),
        (10.0, 1e-8, 35.953_318_607_521),
    ] {
        close(rho(cost).epsilon(delta(at)), wanted, 1e-9);
    }
}

/// `cdp_rho` of the authors' program and mpmath, as above.
#[test]
fn the_rho_of_a_promise_is_that_of_other_programs() {
    for (epsilon, at, wanted) in [
        (0.1, 1e-5, 0.000_432_993_729_401_81),
        (1.0, 1e-5, 0.030_556_595_197_64),
        (3.0, 1e-6, 0.185_069_840_653_4),
        (8.0, 1e-5, 1.229_714_525_761_4),
        (10.0, 1e-6, 1.539_278_763_866_7),
        (100.0, 1e-9, 42.380_211_721_893),
    ] {
        close(Budget::new(epsilon, at).unwrap().rho().get(), wanted, 1e-9);
    }
}

/// mpmath, as above.
#[test]
fn delta_is_the_formulas() {
    for (cost, epsilon, wanted) in [
        (0.1, 1.0, 0.008_933_245_771_818_4),
        (1.0, 8.0, 4.345_341_516_648_5e-7),
        (0.01, 0.5, 3.505_878_060_052_4e-5),
        (2.56, 17.5, 3.659_817_167_987_2e-11),
    ] {
        close(rho(cost).delta(epsilon), wanted, 1e-9);
    }
    assert_eq!(Rho::ZERO.delta(0.0), 0.0);
    assert_eq!(rho(1.0).delta(f64::NAN), 1.0);
    assert_eq!(rho(1.0).delta(-1.0), 1.0);
}

#[test]
fn the_closed_form_is_done_by_hand() {
    // 1 + 2 sqrt(ln(10^6)) = 1 + 2 sqrt(13.815510557964274)
    close(
        rho(1.0).epsilon_closed_form(delta(1e-6)),
        8.433_844_377_699_68,
        1e-12,
    );
    assert_eq!(Rho::ZERO.epsilon_closed_form(delta(1e-6)), 0.0);
    assert_eq!(Rho::ZERO.epsilon(delta(1e-6)), 0.0);
}

#[test]
fn a_gaussians_cost_is_half_the_squared_ratio() {
    // Twice 2^15 times 3, over a deviation of 170,000.
    let sensitivity = Sensitivity::replace_one(1 << 15, 3).unwrap();
    assert_eq!(sensitivity.get(), 196_608);
    let variance = Variance::new(170_000 * 170_000, 1).unwrap();
    let ratio = 196_608.0f64 / 170_000.0;
    close(
        Rho::of_gaussian(sensitivity, variance).get(),
        ratio * ratio / 2.0,
        1e-14,
    );
}

#[test]
fn as_many_rounds_as_planned_and_no_more() {
    for (epsilon, rounds, weight) in [(8.0, 1, 1), (8.0, 20, 1), (0.5, 365, 255), (1.0, 10_000, 7)]
    {
        let budget = Budget::new(epsilon, 1e-6).unwrap();
        let sensitivity = Sensitivity::replace_one(1 << 15, weight).unwrap();
        let variance = budget.variance(rounds, sensitivity).unwrap();
        let cost = Rho::of_gaussian(sensitivity, variance);
        let mut accountant = Accountant::new(budget);
        for left in (1..=rounds).rev() {
            assert_eq!(accountant.rounds_left(cost), left);
            accountant.spend(cost).unwrap();
        }
        assert_eq!(accountant.rounds_left(cost), 0);
        assert!(!accountant.can_spend(cost));
        let spent = accountant.spent();
        assert!(matches!(
            accountant.spend(cost),
            Err(PrivacyError::Exhausted { .. })
        ));
        assert_eq!(accountant.spent(), spent, "a refused cost is not counted");
        assert!(accountant.epsilon() <= epsilon);
        close(accountant.epsilon(), epsilon, 1e-6);
        assert!(accountant.spent() <= accountant.limit());
        // Nothing can always be done.
        assert!(accountant.can_spend(Rho::ZERO));
        assert_eq!(accountant.rounds_left(Rho::ZERO), u32::MAX);
    }
}

#[test]
fn an_accountant_goes_on_where_it_stopped() {
    let budget = Budget::new(1.0, 1e-6).unwrap();
    let mut one = Accountant::new(budget);
    one.spend(rho(0.01)).unwrap();
    let text = serde_json::to_string(&(one.budget(), one.spent())).unwrap();
    let (budget, spent) = serde_json::from_str(&text).unwrap();
    assert_eq!(Accountant::resume(budget, spent), one);
    let mut over = Accountant::resume(budget, rho(5.0));
    assert_eq!(over.rounds_left(rho(1e-9)), 0);
    assert_eq!(
        over.spend(rho(1e-9)),
        Err(PrivacyError::Exhausted {
            cost: 1e-9,
            left: 0.0
        })
    );
}

#[test]
fn one_honest_member_adds_it_all() {
    let variance = Variance::new(170_000 * 170_000, 1).unwrap();
    let plan = NoisePlan::new(3, variance).unwrap();
    assert_eq!(plan.member_variance(), variance);
    assert_eq!(plan.tau(), 0.0);
    close(plan.factor(), 3f64.sqrt(), 1e-15);
    close(plan.standard_deviation(), 170_000.0 * 3f64.sqrt(), 1e-12);
    let sensitivity = Sensitivity::replace_one(1 << 15, 1).unwrap();
    assert_eq!(
        plan.rho(sensitivity, 1 << 20),
        Rho::of_gaussian(sensitivity, variance)
    );
}

#[test]
fn honest_members_share_the_noise_at_the_price_of_tau() {
    let variance = Variance::new(3, 1).unwrap();
    let plan = NoisePlan::with_honest(6, 3, variance).unwrap();
    assert_eq!(plan.member_variance(), Variance::new(1, 1).unwrap());
    close(plan.factor(), 2f64.sqrt(), 1e-15);
    // mpmath: 10 (exp(-pi^2) + exp(-4 pi^2 / 3))
    close(plan.tau(), TAU, 1e-9);
    let sensitivity = Sensitivity::replace_one(1, 1).unwrap();
    // mpmath: (4/3 + tau / 2) / 2 with d = 1, and (2 / sqrt(3) + 10 tau)^2 / 2 with d = 100.
    close(plan.rho(sensitivity, 1).get(), APART, 1e-9);
    close(plan.rho(sensitivity, 100).get(), TOGETHER, 1e-9);
    // At the widths of a task it costs nothing.
    let wide = NoisePlan::with_honest(6, 3, Variance::new(1 << 36, 1).unwrap()).unwrap();
    assert_eq!(wide.tau(), 0.0);
}

const TAU: f64 = 0.0005365032810127;
const APART: f64 = 0.66680079248692;
const TOGETHER: f64 = 0.67287606472947;

#[test]
fn what_is_no_promise_is_refused() {
    for epsilon in [0.0, -1.0, 100.1, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            Budget::new(epsilon, 1e-5),
            Err(PrivacyError::Epsilon(_))
        ));
    }
    for at in [0.0, 0.5, -0.1, 1.0, f64::NAN] {
        assert!(matches!(Budget::new(1.0, at), Err(PrivacyError::Delta(_))));
    }
    for cost in [-1e-300, f64::NAN, f64::INFINITY] {
        assert!(matches!(Rho::new(cost), Err(PrivacyError::Rho(_))));
    }
    for text in [
        r#"{"epsilon":0,"delta":1e-5}"#,
        r#"{"epsilon":1,"delta":0.5}"#,
        r#"{"epsilon":1,"delta":1e-5,"more":1}"#,
        r#"{"epsilon":1}"#,
    ] {
        assert!(serde_json::from_str::<Budget>(text).is_err(), "{text}");
    }
    assert!(serde_json::from_str::<Rho>("-1").is_err());
    assert!(serde_json::from_str::<Delta>("0").is_err());
    let budget = Budget::new(1.0, 1e-5).unwrap();
    let sensitivity = Sensitivity::replace_one(1, 1).unwrap();
    assert_eq!(budget.variance(0, sensitivity), Err(PrivacyError::NoRounds));
}

#[test]
fn what_the_integers_do_not_hold_is_refused() {
    assert_eq!(Variance::new(1, 0), Err(PrivacyError::ZeroDenominator));
    for (numerator, denominator) in [
        (0, 1),
        (1, (1 << 32) + 1),
        ((1 << 112) + 1, 1),
        (u128::MAX, 7),
    ] {
        assert_eq!(
            Variance::new(numerator, denominator),
            Err(PrivacyError::VarianceRange)
        );
    }
    for value in [0.0, -1.0, f64::NAN, f64::INFINITY, 1e34] {
        assert_eq!(Variance::at_least(value), Err(PrivacyError::VarianceRange));
    }
    // Lowest terms, so the same variance is equal, and what is too large only as written is not.
    assert_eq!(Variance::new(6, 4), Variance::new(3, 2));
    assert!(Variance::new(1 << 113, 2).is_ok());
    for (bound, weight) in [(0, 1), (1, 0), (u64::MAX, 1), (1 << 52, 2)] {
        assert!(matches!(
            Sensitivity::replace_one(bound, weight),
            Err(PrivacyError::Sensitivity { .. })
        ));
    }
    let variance = Variance::new(1, 1).unwrap();
    for (members, honest) in [(0, 0), (0, 1), (3, 0), (3, 4)] {
        assert_eq!(
            NoisePlan::with_honest(members, honest, variance),
            Err(PrivacyError::Honest { members, honest })
        );
    }
    assert_eq!(
        NoisePlan::with_honest(5, 5, variance),
        Err(PrivacyError::TooNarrow)
    );
    assert!(NoisePlan::with_honest(4, 4, variance).is_ok());
    assert!(NoisePlan::new(5, Variance::new(1, 100).unwrap()).is_ok());
}

#[test]
fn a_vote_beside_an_update_widens_what_noise_must_hide() {
    let update = Sensitivity::replace_one(128, 1).unwrap();
    // sqrt(256^2 + 2 * 64^2) = 271.5...
    assert_eq!(update.and_moved(64).unwrap().get(), 272);
    // 3^2 + 2 * 6^2 = 9^2, without rounding up.
    let odd = Sensitivity::replace_one(1, 1).unwrap();
    assert_eq!(odd.and_moved(4).unwrap().get(), 6);
    assert_eq!(update.and_moved(0).unwrap(), update);
    assert!(update.and_moved(u64::MAX).is_err());
}
