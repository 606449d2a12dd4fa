//! Silos' reports count as often as their rows, as far as the task allows, and nobody else's do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{
    World,
    planted::{expected, open, person, silo, split, update},
};
use defim_protocol::{NodeKey, Reason, ReportId, vdaf::Scheme};
use defim_sim::RoundResult;

#[test]
fn the_model_moves_by_the_weighted_mean_exactly() {
    for scheme in [Scheme::Pine64, Scheme::Pine32Hmac] {
        for full in [false, true] {
            let mut world = World::weighed(3, scheme, 2, 255, &[1, 50, 100_000]);
            let weights: Vec<u8> = world.round.weights.values().copied().collect();
            assert_eq!(weights.iter().map(|w| u32::from(*w)).sum::<u32>(), 50 + 255);
            let (_, model) = world.mesh.coordinator().model();
            let before = model.to_vec();
            // The first silo has one row: it is a person's report like any other.
            let updates: Vec<_> = (0..5).map(|_| update(&world, full)).collect();
            let reports = [
                silo(&world, &updates[0], 1),
                silo(&world, &updates[1], 2),
                person(&world, &updates[2]),
                person(&world, &updates[3]),
                person(&world, &updates[4]),
            ];
            for report in reports {
                world.mesh.upload(report.bytes).unwrap();
            }
            let RoundResult::Completed(done) = world.finish() else {
                panic!("a round with weights is opened");
            };
            assert_eq!(done.reports, 5, "what counts more is still one report");
            let each: Vec<_> = updates.iter().zip([50, 255, 1, 1, 1]).collect();
            assert_eq!(done.model, expected(&world, &before, &each));
        }
    }
}

#[test]
fn only_its_full_node_makes_a_report_that_counts_more_and_only_once() {
    let mut world = World::weighed(3, Scheme::Pine64, 2, 100, &[100]);
    let update = update(&world, false);
    let (open, _) = open(&world);
    let owner = world.mesh.node_key(0).unwrap().id();
    let id = open.silo_report(&owner).unwrap();
    let stranger = NodeKey::from_seed([77; 32]);
    // Its id without a signature, or with somebody else's; and a signature under an id of one's own.
    let forged = [
        split(&world, &update, id).seal(&mut rand::rng()),
        split(&world, &update, id).seal_as_silo(&open, &stranger, &mut rand::rng()),
        split(&world, &update, ReportId([3; 16])).seal_as_silo(
            &open,
            world.mesh.node_key(0).unwrap(),
            &mut rand::rng(),
        ),
    ];
    for report in forged {
        let refused = world.mesh.upload(report.unwrap().bytes);
        assert_eq!(refused, Err(Reason::NotTheSilos));
    }
    // A silo that the round gives no weight has no such id.
    let other = world.mesh.node_key(1).unwrap().id();
    assert_eq!(open.silo_report(&other), None);

    let report = silo(&world, &update, 0);
    world.mesh.upload(report.bytes).unwrap();
    let again = silo(&world, &update, 0);
    assert_eq!(world.mesh.upload(again.bytes), Err(Reason::Replayed));
    for _ in 0..2 {
        let report = person(&world, &update);
        world.mesh.upload(report.bytes).unwrap();
    }
    let RoundResult::Completed(done) = world.finish() else {
        panic!("the round is opened");
    };
    assert_eq!(done.reports, 3);
    // Another id in the next round: nobody knows it before that is open.
    world.round = world.mesh.open_round().unwrap();
    let next = common::planted::open(&world).0.silo_report(&owner).unwrap();
    assert_ne!(next, id);
}

#[test]
fn weights_do_not_fill_min_batch() {
    let mut world = World::weighed(3, Scheme::Pine64, 3, 100, &[100, 100]);
    for place in 0..2 {
        let report = silo(&world, &update(&world, false), place);
        world.mesh.upload(report.bytes).unwrap();
    }
    assert!(matches!(world.finish(), RoundResult::Voided(why) if why.contains("3 are needed")));
}
