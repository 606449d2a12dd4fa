//! How long it takes to check a long history: `cargo run --release -p defim-ledger --example history -- 10000`.
//!
//! Rounds with a batch of each of six committees and four votes are put into blocks of three a round. Then all blocks are
//! read from their bytes and carried out, with every signature checked, as `defim ledger verify` does.
#![allow(clippy::disallowed_methods, reason = "a measurement reads the clock")]

#[path = "../tests/world/mod.rs"]
mod world;

use std::time::Instant;

use defim_ledger::{Block, Params, State, apply};
use world::{TASK, World, terms};

fn main() {
    let rounds = std::env::args().nth(1).and_then(|n| n.parse().ok());
    let rounds: u64 = rounds.unwrap_or(1000);
    let began = Instant::now();
    let mut world = World::empty(4, 3, Params::default());
    world.enrol_all();
    world.put_task(TASK, terms(3), 1000 * rounds);
    for _ in 0..rounds {
        world.finished(TASK, 0..40);
    }
    let blocks: Vec<_> = world.blocks.iter().map(Block::to_bytes).collect();
    let bytes: usize = blocks.iter().map(Vec::len).sum();
    let txs: usize = world.blocks.iter().map(|block| block.txs().len()).sum();
    println!(
        "made    {rounds} rounds, {} blocks, {txs} transactions, {bytes} bytes in {:.1} s",
        blocks.len(),
        began.elapsed().as_secs_f64()
    );

    let began = Instant::now();
    let mut state = State::genesis(&world.genesis).ok();
    for bytes in blocks.iter().skip(1) {
        let block = Block::from_bytes(bytes).ok();
        if let (Some(state), Some(block)) = (&mut state, block) {
            apply(state, &block)
                .map(drop)
                .unwrap_or_else(|error| eprintln!("error: {error}"));
        }
    }
    let took = began.elapsed();
    let state = state.unwrap_or(world.state.clone());
    println!(
        "checked in {:.1} s; {:.0} µs a transaction; state root as before: {}; snapshot {} bytes",
        took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / txs as f64,
        state.root() == world.state.root(),
        state.snapshot().len()
    );

    let certificate = world.certify(&world.head, 5, &[0, 1, 2]);
    let chain = world.genesis.chain();
    let set = world.genesis.validator_set().map(|set| {
        let began = Instant::now();
        let namespace = defim_ledger::consensus_namespace(&chain);
        let good = (0..1000).all(|_| certificate.verify(&set, &namespace).is_ok());
        (began.elapsed(), good)
    });
    if let Ok((took, good)) = set {
        println!(
            "a certificate of three of four in {:.0} µs; good: {good}",
            took.as_secs_f64() * 1e3
        );
    }
}
