//! Broken input for the tests: good samples with bytes changed, cut, doubled, joined.
//!
//! A run takes some thousand samples, always the same. With `DEFIM_FUZZ_SECONDS` set it goes on for so
//! long with samples of its own and tells how many there were and what memory grew by.

use std::time::{Duration, Instant};

use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

const SAMPLES: u64 = 20_000;

fn mutant(rng: &mut StdRng, good: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = good[rng.random_range(0..good.len())].clone();
    for _ in 0..rng.random_range(0..6) {
        if bytes.is_empty() {
            break;
        }
        let (at, to) = (
            rng.random_range(0..bytes.len()),
            rng.random_range(0..=bytes.len()),
        );
        match rng.random_range(0..7) {
            0 => bytes[at] ^= 1 << rng.random_range(0..8),
            1 => bytes[at] = rng.random(),
            2 => bytes[at] = [0, 1, 0x7F, 0x80, 0xFF][rng.random_range(0..5)],
            3 => bytes.truncate(to),
            4 => drop(bytes.drain(at.min(to)..at.max(to))),
            5 => {
                let part = bytes[at.min(to)..at.max(to)].to_vec();
                bytes.splice(at..at, part);
            }
            _ => bytes.extend_from_slice(&good[rng.random_range(0..good.len())]),
        }
        bytes.truncate(1 << 16);
    }
    bytes
}

/// Bytes of this process that are in memory.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    4096 * pages.unwrap_or(0)
}

/// Calls `tries` with mutants of `good`.
pub(crate) fn fuzz(what: &str, good: &[Vec<u8>], mut tries: impl FnMut(&mut StdRng, &[u8])) {
    let time = std::env::var("DEFIM_FUZZ_SECONDS")
        .ok()
        .map(|seconds| Duration::from_secs(seconds.parse().expect("seconds")));
    let seed = if time.is_some() { rand::random() } else { 1 };
    let mut rng = StdRng::seed_from_u64(seed);
    let (begun, mut number, mut before) = (Instant::now(), 0_u64, 0);
    while time.map_or(number < SAMPLES, |time| begun.elapsed() < time) {
        if number == SAMPLES {
            before = resident();
        }
        let bytes = mutant(&mut rng, good);
        tries(&mut rng, &bytes);
        number += 1;
    }
    if time.is_some() {
        let grown = resident().saturating_sub(before) / 1024;
        println!(
            "{what}: seed {seed}, {number} samples, {grown} kB more than after the first {SAMPLES}"
        );
    }
}
