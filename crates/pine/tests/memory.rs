//! How much memory a split takes, counted by the allocator.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_pine::Pine64;
use peak_alloc::PeakAlloc;
use prio::vdaf::Client as _;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

#[test]
fn a_split_takes_at_most_eight_times_the_vectors_own_memory() {
    let dimension = 100_000;
    let pine = Pine64::new(Pine64::default_parameters(1 << 15, 15, dimension)).unwrap();
    let vector = vec![0.001; dimension];
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let shares = pine.shard(&vector, &[0; 16]).unwrap();
    let peak = MEMORY.peak_usage() - before;
    let own = dimension * size_of::<f64>();
    assert!(
        peak <= 8 * own,
        "{peak} bytes are {} times {own}",
        peak / own
    );
    // The shares are in it: the gauge does measure.
    assert!(peak >= own, "{peak}");
    drop(shares);
}
