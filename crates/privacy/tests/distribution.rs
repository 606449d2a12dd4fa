//! Samples against the exact distribution, by Pearson's chi-square test, with seeds that do not change.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_privacy::{DiscreteGaussian, Variance};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{RngCore as _, SeedableRng as _};

const SAMPLES: usize = 100_000;

fn rng(seed: u8) -> ChaCha20Rng {
    ChaCha20Rng::from_seed([seed; 32])
}

fn sampler(numerator: u128, denominator: u64) -> DiscreteGaussian {
    DiscreteGaussian::new(Variance::new(numerator, denominator).unwrap())
}

/// Bins of about equal probability: the first integer of each, and what is expected in it.
struct Bins {
    starts: Vec<i64>,
    expected: Vec<f64>,
}

impl Bins {
    /// Sums the probabilities of all integers up to 12 standard deviations; further out there are `10^-32`.
    fn new(variance: f64, most: usize) -> Self {
        let reach = (12.0 * variance.sqrt()).ceil() as i64 + 12;
        let weight = |x: i64| (-(x as f64) * (x as f64) / (2.0 * variance)).exp();
        let total: f64 = (-reach..=reach).map(weight).sum();
        let (mut starts, mut expected) = (vec![i64::MIN], vec![0.0]);
        for x in -reach..=reach {
            let bin = expected.last_mut().unwrap();
            *bin += SAMPLES as f64 * weight(x) / total;
            // Twenty expected at least: then the statistic's tail is that of chi-square, far out too.
            if *bin >= (SAMPLES as f64 / most as f64).max(20.0) {
                starts.push(x + 1);
                expected.push(0.0);
            }
        }
        // What is left at the right end goes to its neighbour.
        starts.pop();
        let rest = expected.pop().unwrap();
        *expected.last_mut().unwrap() += rest;
        Self { starts, expected }
    }

    /// By how much the statistic is over the value that a true sampler passes once in a million times.
    fn excess(&self, samples: &[i64]) -> f64 {
        let mut found = vec![0.0; self.starts.len()];
        for sample in samples {
            found[self.starts.partition_point(|start| start <= sample) - 1] += 1.0;
        }
        let statistic: f64 = found
            .iter()
            .zip(&self.expected)
            .map(|(found, expected): (&f64, &f64)| (found - expected).powi(2) / expected)
            .sum();
        statistic - critical(self.starts.len() - 1)
    }
}

/// The chi-square distribution's quantile at `1 - 10^-6`, by Wilson and Hilferty's approximation: up to a
/// twentieth too large for few degrees of freedom.
fn critical(degrees: usize) -> f64 {
    let spread = 2.0 / (9.0 * degrees as f64);
    degrees as f64 * (1.0 - spread + 4.753_424 * spread.sqrt()).powi(3)
}

#[test]
fn the_critical_value_is_the_tables() {
    // scipy.stats.chi2.isf(1e-6, [4, 63, 199])
    for (degrees, value) in [(4, 33.376_842), (63, 131.369_702), (199, 308.600_967)] {
        let relative = critical(degrees) / value - 1.0;
        assert!(
            (-0.002..0.06).contains(&relative),
            "{degrees}: {}",
            critical(degrees)
        );
    }
}

#[test]
fn samples_have_the_exact_distribution() {
    for (seed, (numerator, denominator, bins)) in (1..).zip([
        (1, 10, 2000),
        (1, 2, 2000),
        (1, 1, 2000),
        (7, 3, 2000),
        (10, 1, 2000),
        // A fraction in lowest terms of 100 bits over 64.
        (0xA_5A5A_5A5A_5A5A_5A5A_5A5A_5A5B, u64::MAX, 200),
        (170_000 * 170_000, 1, 200),
    ]) {
        let noise = sampler(numerator, denominator);
        let bins = Bins::new(noise.variance().as_f64(), bins);
        assert!(bins.starts.len() > 2);
        let excess = bins.excess(&noise.samples(SAMPLES, &mut rng(seed)));
        assert!(excess < 0.0, "{numerator}/{denominator}: over by {excess}");
    }
}

/// Where the integers cannot be summed up one by one, scaled samples are as those of a standard deviation where
/// they can: the two distributions differ by less than `10^-5` in every bin.
#[test]
fn wide_samples_have_the_distribution_too() {
    let bins = Bins::new(170_000f64.powi(2), 200);
    for (seed, sigma) in (20..).zip([3_000_000_000u128, 1 << 42, 1 << 56]) {
        let scaled: Vec<i64> = sampler(sigma * sigma, 1)
            .samples(SAMPLES, &mut rng(seed))
            .into_iter()
            .map(|x| (x as f64 * 170_000.0 / sigma as f64).round() as i64)
            .collect();
        let excess = bins.excess(&scaled);
        assert!(excess < 0.0, "{sigma}: over by {excess}");
    }
}

fn uniform(rng: &mut ChaCha20Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

/// By Box and Muller.
fn rounded_gaussian(sigma: f64, rng: &mut ChaCha20Rng) -> i64 {
    let radius = (-2.0 * (1.0 - uniform(rng)).ln()).sqrt();
    (sigma * radius * (std::f64::consts::TAU * uniform(rng)).cos()).round() as i64
}

#[test]
fn the_test_finds_samplers_that_are_a_little_wrong() {
    let excess = |variance: f64, draw: &dyn Fn(&mut ChaCha20Rng) -> i64| {
        let mut rng = rng(40);
        let samples: Vec<i64> = (0..SAMPLES).map(|_| draw(&mut rng)).collect();
        Bins::new(variance, 100).excess(&samples)
    };
    let sigma = 170_000.0;
    // It is the samplers that fail, not the test: a rounded Gaussian passes where rounding cannot be seen.
    assert!(excess(sigma * sigma, &|rng| rounded_gaussian(sigma, rng)) < 0.0);
    for wrong in [0.97, 1.03] {
        let found = excess(sigma * sigma, &|rng| rounded_gaussian(wrong * sigma, rng));
        assert!(found > 0.0, "{wrong} of the standard deviation: {found}");
    }
    let laplace = |rng: &mut ChaCha20Rng| {
        let magnitude = -(1.0 - uniform(rng)).ln() * sigma / 2f64.sqrt();
        (magnitude * if uniform(rng) < 0.5 { 1.0 } else { -1.0 }).round() as i64
    };
    assert!(excess(sigma * sigma, &laplace) > 0.0);
    // Rounding a continuous Gaussian is not a discrete one where it can be seen.
    let narrow = 0.5f64;
    assert!(excess(narrow, &|rng| rounded_gaussian(narrow.sqrt(), rng)) > 0.0);
    assert!(excess(1.0, &|rng| rounded_gaussian(1.0, rng)) > 0.0);
    // A zero that comes twice as often as it should, and a mean off by a fiftieth of the deviation.
    let exact = sampler(10, 1);
    assert!(excess(10.0, &|rng| exact.sample(rng)) < 0.0);
    let twice = |rng: &mut ChaCha20Rng| match exact.sample(rng) {
        1 if uniform(rng) < 0.1 => 0,
        x => x,
    };
    assert!(excess(10.0, &twice) > 0.0);
    let wide = sampler(170_000 * 170_000, 1);
    assert!(excess(sigma * sigma, &|rng| wide.sample(rng) + 6_800) > 0.0);
}

/// The same on every machine: what native and browser builds draw from one seed.
#[test]
fn one_seed_gives_these_samples() {
    let mut rng = rng(9);
    assert_eq!(sampler(1, 2).samples(12, &mut rng), PINNED_NARROW);
    assert_eq!(sampler(170_000 * 170_000, 1).samples(4, &mut rng), PINNED);
    assert_eq!(sampler(1 << 112, 1).samples(3, &mut rng), PINNED_WIDE);
}

const PINNED_NARROW: [i64; 12] = [0, 0, 0, 0, 0, 0, 1, -1, -1, 0, 2, 0];
const PINNED: [i64; 4] = [-277_174, -65_888, -50_920, -88_822];
const PINNED_WIDE: [i64; 3] = [
    11_933_687_300_051_515,
    42_806_638_474_625_458,
    42_230_266_384_359_473,
];

/// Much less noise than one is mostly none.
#[test]
fn the_smallest_variance_is_almost_surely_zero() {
    let samples = sampler(1, 1 << 32).samples(1000, &mut rng(50));
    assert!(samples.iter().all(|x| *x == 0));
}
