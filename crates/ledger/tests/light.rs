//! What a light node believes, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod world;

use defim_ledger::light::{CertificateError, LightChain, LightError, Receipt, ReceiptError};
use defim_ledger::{
    AccountSlot, Body, Canonical as _, Digest, NodeId, Params, Reject, RoundSlot, SignedTx,
    StateProof, TxProof, light_report_id, round_randomness,
};
use world::{TASK, World, admin, certify, light};

fn short() -> Params {
    Params {
        epoch_blocks: 4,
        ..Params::default()
    }
}

fn begin(world: &World) -> LightChain {
    LightChain::begin(&world.genesis, &world.genesis.chain()).unwrap()
}

#[test]
fn a_light_node_follows_from_a_pinned_genesis_over_the_epochs_to_the_head() {
    let mut world = World::with(4, 3, short());
    world.enrol_lights(TASK, 0..5);
    for _ in 0..6 {
        world.finished(TASK, 0..5);
    }
    let mut chain = begin(&world);
    let headers: Vec<_> = world.blocks.iter().map(|b| b.header().clone()).collect();
    let mut steps = 0;
    while chain.hand_over_height() < world.head.height {
        let header = headers[chain.hand_over_height() as usize].clone();
        let certificate = world.certify(&header, 9, &[0, 1, 2]);
        chain.advance(header, &certificate).unwrap();
        // Kept and read back between two visits.
        chain = LightChain::from_bytes(&chain.to_bytes()).unwrap();
        steps += 1;
    }
    assert_eq!(chain.epoch(), steps);
    let certificate = world.certify(&world.head, 2, &[1, 2, 3]);
    let head = chain.advance(world.head.clone(), &certificate).unwrap();
    assert_eq!(chain.height(), world.head.height);
    let signers: Vec<NodeId> = (1..4).map(|n| world.validator(n).id()).collect();
    assert_eq!(head.signers(), signers);

    // Proofs under the final header.
    let slot = AccountSlot(world.validator(0).id());
    let proof = StateProof::from_bytes(&world.state.prove(&slot).to_bytes()).unwrap();
    assert_eq!(head.state(&slot, &proof).unwrap().unwrap().balance, 6 * 25);
    let nobody = AccountSlot(NodeId([0xEE; 32]));
    assert!(head.state(&nobody, &proof).is_err());
    assert_eq!(
        head.state(&nobody, &world.state.prove(&nobody)).unwrap(),
        None
    );
    let block = world.blocks.last().unwrap();
    for (index, tx) in block.txs().iter().enumerate() {
        let proof = TxProof::from_bytes(&block.prove(index).unwrap().to_bytes()).unwrap();
        assert!(head.has_tx(tx, &proof).is_ok());
        let other = &world.blocks[1].txs()[0];
        assert!(head.has_tx(other, &proof).is_err());
    }
    let parent = headers[headers.len() - 2].clone();
    assert!(head.parent(parent).is_ok());
    assert_eq!(head.parent(headers[1].clone()), Err(LightError::NotParent));
}

#[test]
fn a_receipt_shows_that_a_report_is_counted_and_nothing_else() {
    let mut world = World::new();
    world.enrol_lights(TASK, 0..8);
    let (round, batches, opening) = world.proposed(TASK, 0..8);
    let id = |n| light_report_id(&TASK, &round_randomness(&opening), &light(n).id());
    let receipt = |world: &World, n| {
        let claim = world.claim(TASK, round, &opening, &batches, n);
        Receipt::new(&world.state, TASK, round, claim.committee, claim.path)
    };
    let head = |world: &World| {
        let certificate = world.certify(&world.head, 5, &[0, 1, 2]);
        begin(world)
            .check(world.head.clone(), &certificate)
            .unwrap()
    };
    let early = receipt(&world, 0);
    assert_eq!(
        early.verify(&head(&world), &id(0)),
        Err(ReceiptError::NotFinished)
    );
    for n in 0..3 {
        let vote = world.accept(TASK, round);
        world.run(vec![(&world.validator(n), vote)]);
    }
    let head = head(&world);
    for n in 0..8 {
        let receipt = Receipt::from_bytes(&receipt(&world, n).to_bytes()).unwrap();
        let counted = receipt.verify(&head, &id(n)).unwrap();
        assert_eq!(counted.model, world.model(TASK, round).model);
        assert_eq!(counted.reward, 500 / 8);
        assert_eq!(
            receipt.verify(&head, &id((n + 1) % 8)),
            Err(ReceiptError::NotInBatch)
        );
        assert!(matches!(
            early.verify(&head, &id(0)),
            Err(ReceiptError::Proof(_))
        ));
        let elsewhere = Receipt {
            committee: 5 + receipt.committee,
            ..receipt.clone()
        };
        assert!(elsewhere.verify(&head, &id(n)).is_err());
        let other = Receipt {
            round: round + 1,
            record: world.state.prove(&RoundSlot(TASK, round + 1)),
            ..receipt
        };
        assert_eq!(other.verify(&head, &id(n)), Err(ReceiptError::NoRound));
    }
}

#[test]
fn forged_certificates_are_refused_each_for_its_reason() {
    let mut world = World::with(4, 3, short());
    world.finished(TASK, 0..5);
    let chain = begin(&world);
    let header = world.blocks[2].header().clone();
    let good = world.certify(&header, 7, &[0, 1, 2]);
    assert!(chain.check(header.clone(), &good).is_ok());
    let refused = |certificate: &defim_ledger::light::Certificate| {
        chain.check(header.clone(), certificate).unwrap_err()
    };
    let broken = |error: LightError| {
        matches!(
            error,
            LightError::Certificate(CertificateError::BrokenSignature(_))
        )
    };

    let missing = world.certify(&header, 7, &[0, 2]);
    assert_eq!(
        refused(&missing),
        LightError::Certificate(CertificateError::MissingSigner { have: 2, need: 3 })
    );
    // Five others, and four others.
    let five: Vec<_> = (60..65).map(|n| [n; 32]).collect();
    let other = certify(&world.genesis.chain(), &five, &header, 7, &[0, 1, 2, 3]);
    assert_eq!(
        refused(&other),
        LightError::Certificate(CertificateError::WrongSet {
            expected: 4,
            found: 5
        })
    );
    assert!(broken(refused(&certify(
        &world.genesis.chain(),
        &five[..4],
        &header,
        7,
        &[0, 1, 2]
    ))));
    // Another chain's signatures.
    assert!(broken(refused(&certify(
        &Digest([1; 32]),
        &world.validators,
        &header,
        7,
        &[0, 1, 2]
    ))));
    let mut later = good.clone();
    later.view += 1;
    assert!(broken(refused(&later)));
    let mut backwards = good.clone();
    backwards.parent = backwards.view;
    assert!(matches!(
        refused(&backwards),
        LightError::Certificate(CertificateError::WrongRound { .. })
    ));
    let mut altered = good.clone();
    altered.payload.0[0] ^= 1;
    assert!(matches!(refused(&altered), LightError::WrongPayload { .. }));
    let mut changed = header.clone();
    changed.state_root.0[0] ^= 1;
    altered.payload = changed.digest();
    assert!(broken(chain.check(changed, &altered).unwrap_err()));
    let mut twice = good.clone();
    twice.signatures[1] = twice.signatures[0];
    assert_eq!(
        refused(&twice),
        LightError::Certificate(CertificateError::DuplicateSignature)
    );
    let mut swapped = good.clone();
    swapped.signatures.swap(0, 1);
    assert!(broken(refused(&swapped)));
    let mut fewer = good;
    fewer.signatures.pop();
    assert!(matches!(
        refused(&fewer),
        LightError::Certificate(CertificateError::Count { .. })
    ));
}

#[test]
fn the_validators_of_an_old_epoch_make_nothing_final_any_more() {
    let mut world = World::with(5, 3, short());
    let old = world.validators.clone();
    // From epoch 1 on, the last of the five is not one of them.
    let four: Vec<_> = (0..4).map(|n| world.validator(n).id()).collect();
    let set = Body::SetValidators {
        set: four.clone(),
        from_epoch: 1,
    };
    let refused = |epoch| {
        let set = four.clone();
        world.ask(
            &admin(),
            Body::SetValidators {
                set,
                from_epoch: epoch,
            },
        )
    };
    assert_eq!(refused(0), Err(Reject::EpochPast));
    world.run(vec![(&admin(), set)]);
    let last = world.head.clone();
    assert_eq!(last.height, 3);
    assert_eq!(last.next_validators.as_ref().unwrap().keys(), four);
    world.block(&[]);
    assert_eq!(world.head.epoch, 1);

    let mut chain = begin(&world);
    let by_old = |header, view| certify(&world.genesis.chain(), &old, header, view, &[0, 1, 2, 3]);
    assert!(matches!(
        chain.check(world.head.clone(), &by_old(&world.head, 1)),
        Err(LightError::OtherEpoch {
            expected: 0,
            found: 1
        })
    ));
    // A header that hands over, but is not the last of its epoch.
    let mut soon = world.blocks[2].header().clone();
    soon.next_validators = last.next_validators.clone();
    assert!(matches!(
        chain.advance(soon.clone(), &by_old(&soon, 3)),
        Err(LightError::BadHeader { .. })
    ));
    chain.advance(last.clone(), &by_old(&last, 4)).unwrap();
    assert_eq!(chain.validators().keys(), four);

    assert!(matches!(
        chain.check(world.head.clone(), &by_old(&world.head, 1)),
        Err(LightError::Certificate(CertificateError::WrongSet { .. }))
    ));
    let mut of_old = by_old(&world.head, 9);
    of_old.epoch = 0;
    assert_eq!(
        chain.check(world.head.clone(), &of_old),
        Err(LightError::OldSet {
            expected: 1,
            found: 0
        })
    );
    let new = certify(
        &world.genesis.chain(),
        &old[..4],
        &world.head,
        1,
        &[0, 1, 2],
    );
    assert!(chain.advance(world.head.clone(), &new).is_ok());
    assert!(matches!(
        chain.advance(last.clone(), &by_old(&last, 9)),
        Err(LightError::OtherEpoch { .. })
    ));
}

#[test]
fn forks_replays_and_rounds_out_of_order_are_seen() {
    let mut world = World::new();
    world.block(&[]);
    world.block(&[]);
    let mut chain = begin(&world);
    let header = |n: usize| world.blocks[n].header().clone();
    let sign = |header: &defim_ledger::Header, view| world.certify(header, view, &[0, 1, 2]);
    let two = header(2);
    chain.advance(two.clone(), &sign(&two, 6)).unwrap();
    assert!(matches!(
        chain.advance(two.clone(), &sign(&two, 6)),
        Err(LightError::Stale { .. })
    ));
    let one = header(1);
    assert!(matches!(
        chain.advance(one.clone(), &sign(&one, 7)),
        Err(LightError::Stale { .. })
    ));
    let three = header(3);
    assert_eq!(
        chain.advance(three.clone(), &sign(&three, 6)),
        Err(LightError::WrongRound { view: 6, seen: 6 })
    );
    let mut forked = two;
    forked.timestamp_ms += 1;
    assert_eq!(
        chain.advance(forked.clone(), &sign(&forked, 8)),
        Err(LightError::Fork { height: 2 })
    );
    assert!(matches!(
        LightChain::begin(&world.genesis, &Digest([0; 32])),
        Err(LightError::WrongGenesis { .. })
    ));
}

#[test]
fn a_block_that_says_otherwise_than_its_transactions_is_refused() {
    use defim_ledger::{Block, BlockError, verify};
    let mut world = World::new();
    let (state, parent) = (world.state.clone(), world.head.clone());
    world.open(TASK);
    let good = world.blocks.last().unwrap().to_bytes();
    let (_, txs) = decoded(&good);
    let with = |change: &dyn Fn(&mut defim_ledger::Header)| {
        let (mut header, txs) = decoded(&good);
        change(&mut header);
        Block::from_bytes(&postcard::to_allocvec(&(header, txs)).unwrap())
            .map_err(|_| None)
            .and_then(|block| verify(&state, &parent, &block).map(drop).map_err(Some))
    };
    assert_eq!(with(&|_| ()), Ok(()));
    assert_eq!(with(&|h| h.txs_root.0[0] ^= 1), Err(None), "not even read");
    let differs = |what| Err(Some(BlockError::Differs { what }));
    assert_eq!(
        with(&|h| h.state_root.0[0] ^= 1),
        differs("root of the state")
    );
    assert_eq!(with(&|h| h.epoch += 1), differs("epoch"));
    let set = world.state.validators().unwrap().current;
    assert_eq!(
        with(&|h| h.next_validators = Some(set.clone())),
        differs("next set of validators")
    );
    for change in [
        &(|h: &mut defim_ledger::Header| h.parent.0[0] ^= 1) as &dyn Fn(&mut defim_ledger::Header),
        &|h| h.height += 1,
        &|h| h.timestamp_ms = START_OF_TIME,
    ] {
        assert!(matches!(
            with(change),
            Err(Some(BlockError::NotNext { .. }))
        ));
    }
    // A transaction of the same sender once more.
    let mut repeated = txs;
    repeated.push(repeated[0].clone());
    let block = rebuilt(&good, repeated);
    assert_eq!(
        verify(&state, &parent, &block).map(drop),
        Err(BlockError::Tx {
            index: 1,
            why: Reject::NonceUsed
        })
    );
}

const START_OF_TIME: u64 = 0;

fn decoded(bytes: &[u8]) -> (defim_ledger::Header, Vec<SignedTx>) {
    postcard::from_bytes(bytes).unwrap()
}

fn rebuilt(bytes: &[u8], txs: Vec<SignedTx>) -> defim_ledger::Block {
    let (mut header, _) = decoded(bytes);
    let leaves: Vec<_> = txs
        .iter()
        .map(|tx| defim_ledger::merkle::leaf_hash(&tx.to_bytes()))
        .collect();
    header.txs_root = defim_ledger::merkle::root(&leaves);
    defim_ledger::Block::from_bytes(&postcard::to_allocvec(&(header, txs)).unwrap()).unwrap()
}
