//! Foreign bytes: whatever is read is the one encoding of what it says, and nothing else is read.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![cfg(not(target_arch = "wasm32"))]

mod world;

use defim_ledger::light::{Certificate, LightChain, Receipt};
use defim_ledger::{
    AccountSlot, Block, Canonical, Genesis, Header, NodeId, SignedTx, StateProof, TxProof, check,
};
use proptest::prelude::*;
use std::sync::LazyLock;
use world::{TASK, World};

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let mut world = World::new();
    world.enrol_lights(TASK, 0..6);
    world.finished(TASK, 0..6);
    world
});

/// Real bytes of each kind.
static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let world = &*WORLD;
    let mut samples = vec![world.genesis.to_bytes()];
    for block in &world.blocks {
        samples.push(block.to_bytes());
        samples.push(block.header().to_bytes());
        samples.extend(block.txs().iter().map(Canonical::to_bytes));
        samples.extend(block.prove(0).iter().map(Canonical::to_bytes));
    }
    let slot = AccountSlot(NodeId([1; 32]));
    samples.push(world.state.prove(&slot).to_bytes());
    samples.push(world.certify(&world.head, 70, &[0, 1, 3]).to_bytes());
    let chain = LightChain::begin(&world.genesis, &world.genesis.chain()).unwrap();
    samples.push(chain.to_bytes());
    samples
});

fn reads<T: Canonical>(bytes: &[u8]) {
    if let Ok(value) = T::from_bytes(bytes) {
        assert_eq!(value.to_bytes(), bytes);
    }
}

fn read_all(bytes: &[u8]) {
    reads::<Genesis>(bytes);
    reads::<Header>(bytes);
    reads::<SignedTx>(bytes);
    reads::<TxProof>(bytes);
    reads::<StateProof>(bytes);
    reads::<Receipt>(bytes);
    reads::<LightChain>(bytes);
    if let Ok(block) = Block::from_bytes(bytes) {
        assert_eq!(block.to_bytes(), bytes);
    }
    if let Ok(certificate) = Certificate::from_bytes(bytes) {
        assert_eq!(certificate.to_bytes(), bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn bytes_at_random_are_read_as_one_thing_or_not_at_all(
        bytes in prop::collection::vec(any::<u8>(), 0..300)
    ) {
        read_all(&bytes);
    }

    #[test]
    fn so_are_real_bytes_that_were_changed_cut_or_made_longer(
        which: prop::sample::Index,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut: Option<prop::sample::Index>,
        more in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let mut bytes = which.get(&SAMPLES).clone();
        for (place, value) in changes {
            let place = place.index(bytes.len());
            bytes[place] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        bytes.extend(more);
        read_all(&bytes);
        // Whatever a transaction says, it is carried out or refused.
        if let Ok(tx) = SignedTx::from_bytes(&bytes) {
            let _ = check(&WORLD.state, &tx, WORLD.now_ms);
        }
    }
}

#[test]
fn what_is_longer_than_the_limit_is_not_looked_at() {
    let long = vec![0; defim_ledger::limits::BLOCK_BYTES + 1];
    assert!(
        Block::from_bytes(&long)
            .unwrap_err()
            .to_string()
            .contains("too many")
    );
    let long = vec![0; defim_ledger::limits::TX_BYTES + 1];
    assert!(
        SignedTx::from_bytes(&long)
            .unwrap_err()
            .to_string()
            .contains("too many")
    );
    let long = vec![0; defim_ledger::limits::CERTIFICATE_BYTES + 1];
    assert!(Certificate::from_bytes(&long).is_err());
}
