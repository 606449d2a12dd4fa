//! Sampling on one thread, and a budget's arithmetic.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_privacy::{Budget, DiscreteGaussian, Sensitivity, Variance};
use divan::{Bencher, counter::ItemsCount};
use rand_chacha::{ChaCha12Rng, rand_core::SeedableRng as _};

fn main() {
    divan::main();
}

/// Noise of a vector of 100,000 coordinates.
#[divan::bench(args = [1, 170_000, 3_000_000_000, 1 << 42])]
fn samples(bencher: Bencher, sigma: u128) {
    let noise = DiscreteGaussian::new(Variance::new(sigma * sigma, 1).unwrap());
    let mut rng = ChaCha12Rng::from_seed([1; 32]);
    bencher
        .counter(ItemsCount::new(100_000usize))
        .bench_local(move || noise.samples(100_000, &mut rng));
}

#[divan::bench]
fn variance_of_a_budget() -> Variance {
    let sensitivity = Sensitivity::replace_one(1 << 15, 1).unwrap();
    Budget::new(8.0, 1e-5)
        .unwrap()
        .variance(20, sensitivity)
        .unwrap()
}
