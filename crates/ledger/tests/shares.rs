//! Tasks with three shares a report: all three members close a batch, all their nodes are in the total, all are paid.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod world;

use std::collections::BTreeSet;

use defim_ledger::{
    BatchSummary, Body, CreateTask, Digest, Evidence, Params, Reject, ReportId, SignedText,
    TaskTerms, committee_count,
};
use world::{TASK, World, admin, aggregation, light, member, terms};

fn three(members: usize) -> World {
    let mut world = World::empty(4, members, Params::default());
    world.enrol_all();
    let terms = TaskTerms {
        shares: 3,
        ..terms(members)
    };
    world.put_task(TASK, terms, 500_000);
    world
}

fn statements(body: &Body) -> Vec<SignedText> {
    let Body::BatchClosed { statements } = body else {
        unreachable!()
    };
    statements.clone()
}

#[test]
fn a_batch_is_closed_by_all_three_and_by_nobody_else() {
    let mut world = three(4);
    world.open(TASK);
    let ids = [ReportId([1; 16]), ReportId([2; 16])];
    let ask = |statements: Vec<_>| world.ask(&aggregation(), Body::BatchClosed { statements });
    for committee in 0..committee_count(4, 3) {
        let signed = statements(&world.batch(TASK, 1, committee, &ids));
        assert_eq!(signed.len(), 3);
        assert_eq!(ask(signed.clone()), Ok(()));
        for left_out in 0..3 {
            let mut two = signed.clone();
            two.remove(left_out);
            assert_eq!(ask(two), Err(Reject::BadStatement));
            let mut swapped = signed.clone();
            swapped.swap(left_out, (left_out + 1) % 3);
            assert_eq!(ask(swapped), Err(Reject::BadStatement));
            // The fourth full node stands in for nobody.
            let seats = world.seats(TASK, committee);
            let fourth = (0..4).find(|place| !seats.contains(place)).unwrap();
            let summary = BatchSummary::read(&signed[0].payload).unwrap();
            let mut foreign = signed.clone();
            foreign[left_out] = summary.sign(&member(fourth)).unwrap();
            assert_eq!(ask(foreign), Err(Reject::BadStatement));
        }
        let mut more = signed.clone();
        more.push(signed[2].clone());
        assert_eq!(ask(more), Err(Reject::BadStatement));
    }
    assert_eq!(ask(Vec::new()), Err(Reject::BadStatement));
    // Nor do three members close a batch of two shares.
    let mut world = World::new();
    world.open(TASK);
    let mut signed = statements(&world.batch(TASK, 1, 0, &ids));
    let summary = BatchSummary::read(&signed[0].payload).unwrap();
    signed.push(summary.sign(&member(2)).unwrap());
    let body = Body::BatchClosed { statements: signed };
    assert_eq!(world.ask(&aggregation(), body), Err(Reject::BadStatement));
}

#[test]
fn the_second_helper_is_in_the_total_and_all_three_are_paid() {
    let mut world = three(5);
    world.enrol_lights(TASK, 0..8);
    let opening = world.open(TASK);
    let batches = world.reports(TASK, &opening, 0..8);
    let aggregation = aggregation();
    let closed = batches
        .iter()
        .map(|(committee, ids)| (&aggregation, world.batch(TASK, 1, *committee, ids)))
        .collect();
    world.run(closed);
    let indices: Vec<_> = batches.keys().copied().collect();
    let good = world.total(TASK, 1, &indices);
    let nodes: BTreeSet<_> = indices
        .iter()
        .flat_map(|committee| world.seats(TASK, *committee))
        .collect();
    assert_eq!(good.ciphertexts.len(), nodes.len());
    for place in 0..good.ciphertexts.len() {
        let mut dropped = good.clone();
        dropped.ciphertexts.remove(place);
        assert_eq!(
            world.ask(&aggregation, Body::Opened(dropped)),
            Err(Reject::WrongCiphertexts)
        );
    }
    let before: Vec<_> = (0..5).map(|place| world.balance(&member(place))).collect();
    world.run(vec![
        (&aggregation, Body::Opened(good)),
        (&aggregation, Body::ModelUpdated(world.model(TASK, 1))),
    ]);
    let keys: Vec<_> = (0..4).map(|place| world.validator(place)).collect();
    let votes = keys.iter().map(|key| (key, world.accept(TASK, 1)));
    let votes = votes.collect();
    world.run(votes);
    // 300 of the round's 1000, by the reports each has verified: three members for each of 8 reports.
    let mut paid = 0;
    for (place, before) in before.into_iter().enumerate() {
        let verified: u64 = batches
            .iter()
            .filter(|(committee, _)| world.seats(TASK, **committee).contains(&place))
            .map(|(_, ids)| ids.len() as u64)
            .sum();
        let got = world.balance(&member(place)) - before;
        let exact = 300 * verified / 24;
        assert!((exact..=exact + 1).contains(&got), "{got} of {exact}");
        paid += got;
    }
    assert_eq!(paid, 300);
    // A light node's committee is the same number as with two shares, and so is its claim.
    let claim = world.claim(TASK, 1, &opening, &batches, 3);
    world.run(vec![(&light(3), Body::Claim(claim))]);
    assert_eq!(world.balance(&light(3)), 500 / 8);
    world.assert_conserved();
}

#[test]
fn either_helper_that_signs_two_batches_is_slashed_and_the_leader_is_not() {
    let world = three(4);
    let (ids, opening) = ([ReportId([1; 16]), ReportId([2; 16])], Digest([5; 32]));
    for committee in 0..committee_count(4, 3) {
        let seats = world.seats(TASK, committee);
        for place in 0..4 {
            let sign = |n: usize| {
                let summary =
                    BatchSummary::new(TASK, 1, opening, committee, &ids[..n], Default::default())
                        .unwrap();
                summary.sign(&member(place)).unwrap()
            };
            let slash = Body::Slash {
                node: member(place).id(),
                evidence: Evidence::TwoBatches {
                    first: sign(1),
                    second: sign(2),
                },
            };
            let expected = match seats[1..].contains(&place) {
                true => Ok(()),
                false => Err(Reject::NoFault),
            };
            assert_eq!(world.ask(&light(0), slash), expected);
        }
    }
}

#[test]
fn a_task_has_two_or_three_shares_and_no_fewer_full_nodes() {
    let mut world = World::empty(4, 5, Params::default());
    world.enrol_all();
    let ask = |members, shares| {
        let terms = TaskTerms {
            shares,
            ..terms(members)
        };
        let create = CreateTask {
            task: TASK,
            manifest: Digest([1; 32]),
            model: Digest([2; 32]),
            terms,
        };
        world.ask(&admin(), Body::CreateTask(create))
    };
    for good in [(2, 2), (3, 3), (5, 2), (5, 3)] {
        assert_eq!(ask(good.0, good.1), Ok(()));
    }
    for bad in [(2, 3), (5, 0), (5, 1), (5, 4), (5, 255)] {
        assert_eq!(ask(bad.0, bad.1), Err(Reject::BadTerms));
    }
}
