//! Rounds: what opens, closes, pays and is claimed, and what is refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod world;

use defim_ledger::{Admission, Body, Digest, Params, Reject, RoundSlot, TaskId, TaskTerms};
use world::{TASK, World, admin, aggregation, light, member, terms};

#[test]
fn a_round_pays_exactly_its_budget_and_its_model_becomes_the_tasks() {
    let mut world = World::new();
    world.enrol_lights(TASK, 0..10);
    let before = world.state.task(&TASK).unwrap().budget;
    let (round, batches, opening) = world.finished(TASK, 0..10);
    let task = world.state.task(&TASK).unwrap();
    assert_eq!(task.model, world.model(TASK, round).model);
    assert_eq!((task.finished, task.unsettled), (1, false));
    assert_eq!(before - task.budget, 1000);
    assert_eq!(world.balance(&aggregation()), 100);
    let members: u64 = (0..3).map(|n| world.balance(&member(n))).sum();
    assert_eq!(members, 300);
    let voters: Vec<_> = (0..4).map(|n| world.balance(&world.validator(n))).collect();
    assert_eq!(
        voters, [25; 4],
        "all that voted in the block are paid the same"
    );
    world.assert_conserved();

    for number in 0..10 {
        let claim = world.claim(TASK, round, &opening, &batches, number);
        world.run(vec![(&light(number), Body::Claim(claim))]);
        assert_eq!(world.balance(&light(number)), 50);
    }
    world.assert_conserved();
}

#[test]
fn a_reward_is_paid_once_to_the_one_key_whose_report_it_is() {
    let mut world = World::new();
    world.enrol_lights(TASK, 0..12);
    let (round, batches, opening) = world.finished(TASK, 0..10);
    let claim = world.claim(TASK, round, &opening, &batches, 3);
    let ask = |world: &World, number: u8, claim: &defim_ledger::Claim| {
        world.ask(&light(number), Body::Claim(claim.clone()))
    };
    assert_eq!(ask(&world, 3, &claim), Ok(()));
    assert_eq!(ask(&world, 4, &claim), Err(Reject::WrongReport));
    assert_eq!(ask(&world, 200, &claim), Err(Reject::NotEnrolled));
    let mut moved = claim.clone();
    moved.path.index ^= 1;
    assert_eq!(ask(&world, 3, &moved), Err(Reject::NotInBatch));
    let mut elsewhere = claim.clone();
    elsewhere.committee = (elsewhere.committee + 1) % 6;
    assert_eq!(ask(&world, 3, &elsewhere), Err(Reject::WrongReport));
    let mut later = claim.clone();
    later.round += 1;
    assert_eq!(ask(&world, 3, &later), Err(Reject::WrongRound));

    world.run(vec![(&light(3), Body::Claim(claim.clone()))]);
    assert_eq!(ask(&world, 3, &claim), Err(Reject::AlreadyClaimed));
    // Taken off and put back on by an admin, it still has claimed.
    let (task, key) = (TASK, light(3).id());
    world.run(vec![(&admin(), Body::RemoveLight { task, key })]);
    assert_eq!(ask(&world, 3, &claim), Err(Reject::NotEnrolled));
    let again = |by| Body::EnrolLight { task, key, by };
    assert_eq!(
        world.ask(&light(3), again(Admission::Open)),
        Err(Reject::NotEnrolled)
    );
    world.run(vec![(&admin(), again(Admission::Approved))]);
    assert_eq!(ask(&world, 3, &claim), Err(Reject::AlreadyClaimed));
}

#[test]
fn what_nobody_claims_goes_back_and_the_round_is_forgotten() {
    let params = Params {
        claim_rounds: 3,
        ..Params::default()
    };
    let mut world = World::with(4, 3, params);
    world.enrol_lights(TASK, 0..10);
    let (first, batches, opening) = world.finished(TASK, 0..10);
    let claim = world.claim(TASK, first, &opening, &batches, 0);
    world.run(vec![(&light(0), Body::Claim(claim))]);
    let late = world.claim(TASK, first, &opening, &batches, 1);
    let mut size = 0;
    for round in 2..=8 {
        let before = world.state.task(&TASK).unwrap().budget;
        world.finished(TASK, 0..10);
        let after = world.state.task(&TASK).unwrap().budget;
        let back = match round {
            2 | 3 => 0,
            4 => 450,
            _ => 500,
        };
        assert_eq!(before + back - after, 1000, "round {round}");
        if let Some(old) = u64::checked_sub(round, 3) {
            assert_eq!(world.state.get(&RoundSlot(TASK, old)), None);
        }
        world.assert_conserved();
        let snapshot = world.state.snapshot().len();
        if round == 4 {
            size = snapshot;
        }
        // Rounds differ in how many committees have reports; four more of them would be about 5,000 bytes.
        assert!(round < 4 || snapshot < size + 1500, "no growth by history");
    }
    assert_eq!(
        world.ask(&light(1), Body::Claim(late)),
        Err(Reject::WrongRound)
    );
}

#[test]
fn a_voided_round_pays_nobody_and_the_next_one_runs() {
    let mut world = World::new();
    world.enrol_lights(TASK, 0..10);
    let (round, batches, opening) = world.proposed(TASK, 0..10);
    let reason = "no answer".to_owned();
    let void = Body::RoundVoided {
        task: TASK,
        round,
        reason,
        evidence: None,
    };
    assert_eq!(
        world.ask(&member(0), void.clone()),
        Err(Reject::NotAggregation)
    );
    world.run(vec![(&aggregation(), void)]);
    assert_eq!(world.state.task(&TASK).unwrap().budget, 500_000);
    assert_eq!(world.balance(&aggregation()), 0);
    let claim = world.claim(TASK, round, &opening, &batches, 0);
    assert_eq!(
        world.ask(&light(0), Body::Claim(claim)),
        Err(Reject::NotFinished)
    );
    assert_eq!(
        world.ask(&world.validator(0), world.accept(TASK, round)),
        Err(Reject::WrongStage)
    );
    assert_eq!(world.state.task(&TASK).unwrap().model, Digest([2; 32]));
    let (next, ..) = world.finished(TASK, 0..10);
    assert_eq!(next, round + 1);
    world.assert_conserved();
}

#[test]
fn a_round_opens_only_as_the_task_says() {
    let mut world = World::new();
    let good = world.opening(TASK);
    let ask = |world: &World, opening: &defim_ledger::RoundOpened| {
        let statement = opening.sign(&aggregation()).unwrap();
        world.ask(&aggregation(), Body::RoundOpened { statement })
    };
    assert_eq!(ask(&world, &good), Ok(()));
    let changed = |change: &dyn Fn(&mut defim_ledger::RoundOpened)| {
        let mut opening = good.clone();
        change(&mut opening);
        ask(&world, &opening)
    };
    assert_eq!(changed(&|o| o.round = 2), Err(Reject::WrongRound));
    assert_eq!(changed(&|o| o.round = 0), Err(Reject::WrongRound));
    assert_eq!(
        changed(&|o| o.base_model = Digest([9; 32])),
        Err(Reject::WrongModel)
    );
    assert_eq!(
        changed(&|o| o.task = TaskId([1; 32])),
        Err(Reject::UnknownTask)
    );
    assert_eq!(
        changed(&|o| o.deadline_ms = o.opened_ms),
        Err(Reject::BadTimes)
    );
    assert_eq!(
        changed(&|o| {
            o.opened_ms += 600_000;
            o.deadline_ms += 600_000;
        }),
        Err(Reject::BadTimes)
    );
    for (node, weight, allowed) in [
        (member(0).id(), 20, true),
        (member(0).id(), 21, false),
        (member(0).id(), 1, false),
        (light(0).id(), 2, false),
    ] {
        let asked = changed(&|o| {
            o.weights.insert(node, weight);
        });
        assert_eq!(asked.is_ok(), allowed, "{weight}");
    }
    // Signed by somebody else, or as something else.
    let foreign = good.sign(&member(0)).unwrap();
    let body = Body::RoundOpened { statement: foreign };
    assert_eq!(
        world.ask(&aggregation(), body.clone()),
        Err(Reject::BadStatement)
    );
    assert_eq!(world.ask(&member(0), body), Err(Reject::NotAggregation));

    world.open(TASK);
    assert_eq!(
        ask(&world, &world.opening(TASK)),
        Err(Reject::RoundUnsettled)
    );
}

#[test]
fn a_task_without_money_for_a_round_opens_none_nor_does_one_that_is_paused_done_or_closed() {
    let mut world = World::empty(4, 3, Params::default());
    world.enrol_all();
    let short = TaskTerms {
        rounds: 1,
        ..terms(3)
    };
    world.put_task(TASK, short, 1500);
    let ask = |world: &World| {
        let statement = world.opening(TASK).sign(&aggregation()).unwrap();
        world.ask(&aggregation(), Body::RoundOpened { statement })
    };
    let pause = |paused| Body::PauseTask { task: TASK, paused };
    assert_eq!(
        world.ask(&aggregation(), pause(true)),
        Err(Reject::NotAdmin)
    );
    world.run(vec![(&admin(), pause(true))]);
    assert_eq!(ask(&world), Err(Reject::TaskPaused));
    world.run(vec![(&admin(), pause(false))]);
    world.finished(TASK, 0..10);
    assert_eq!(ask(&world), Err(Reject::RoundsDone));

    let other = TaskId([0x7B; 32]);
    world.put_task(other, terms(3), 999);
    let statement = world.opening(other).sign(&aggregation()).unwrap();
    let open = Body::RoundOpened { statement };
    assert_eq!(world.ask(&aggregation(), open), Err(Reject::Unfunded));

    let before = world.balance(&admin());
    world.run(vec![(&admin(), Body::CloseTask { task: other })]);
    assert_eq!(world.balance(&admin()), before + 999);
    let fund = Body::FundTask {
        task: other,
        amount: 1,
    };
    assert_eq!(world.ask(&admin(), fund), Err(Reject::TaskClosed));
    assert_eq!(
        world.ask(&admin(), Body::CloseTask { task: other }),
        Err(Reject::TaskClosed)
    );
    world.assert_conserved();
}

#[test]
fn a_batch_is_its_committees_once_and_within_bounds() {
    let mut world = World::new();
    let opening = world.open(TASK);
    let ids = world
        .reports(TASK, &opening, 0..10)
        .into_values()
        .next()
        .unwrap();
    let good = world.batch(TASK, 1, 0, &ids);
    assert_eq!(world.ask(&aggregation(), good.clone()), Ok(()));
    assert_eq!(
        world.ask(&member(2), good.clone()),
        Ok(()),
        "any member may say so"
    );
    assert_eq!(
        world.ask(&light(0), good.clone()),
        Err(Reject::NotAggregation)
    );
    let Body::BatchClosed { statements } = good.clone() else {
        unreachable!()
    };
    let of = |statements: Vec<_>| world.ask(&aggregation(), Body::BatchClosed { statements });
    assert_eq!(of(statements[..1].to_vec()), Err(Reject::BadStatement));
    let swapped = vec![statements[1].clone(), statements[0].clone()];
    assert_eq!(of(swapped), Err(Reject::BadStatement));
    let twice = vec![statements[0].clone(), statements[0].clone()];
    assert_eq!(of(twice), Err(Reject::BadStatement));
    let ask = |body| world.ask(&aggregation(), body);
    assert_eq!(ask(world.batch(TASK, 2, 0, &ids)), Err(Reject::WrongRound));
    assert_eq!(ask(world.batch(TASK, 1, 0, &[])), Err(Reject::BadBatch));
    let weighed = |extra_weight, accepted| {
        let mut summary = defim_ledger::BatchSummary::read(&statements[0].payload).unwrap();
        summary.extra_weight = extra_weight;
        summary.accepted = accepted;
        let statements = vec![
            summary.sign(&member(0)).unwrap(),
            summary.sign(&member(1)).unwrap(),
        ];
        world.ask(&aggregation(), Body::BatchClosed { statements })
    };
    assert_eq!(weighed(1, 3), Err(Reject::BadBatch), "no silo has a weight");
    assert_eq!(weighed(0, u64::MAX), Err(Reject::BadBatch));
    world.run(vec![(&aggregation(), good.clone())]);
    assert_eq!(world.ask(&aggregation(), good), Err(Reject::BatchExists));
}

#[test]
fn a_total_is_of_all_nodes_of_closed_batches_with_enough_reports() {
    let mut world = World::new();
    let opening = world.open(TASK);
    let batches = world.reports(TASK, &opening, 0..12);
    let aggregation = aggregation();
    let closed: Vec<_> = batches
        .iter()
        .take(2)
        .map(|(committee, ids)| (&aggregation, world.batch(TASK, 1, *committee, ids)))
        .collect();
    world.run(closed);
    let indices: Vec<_> = batches.keys().copied().collect();
    let good = world.total(TASK, 1, &indices[..2]);
    let ask = |opened: &defim_ledger::Opened| world.ask(&aggregation, Body::Opened(opened.clone()));
    assert_eq!(ask(&good), Ok(()));
    assert_eq!(
        world.ask(&aggregation, Body::ModelUpdated(world.model(TASK, 1))),
        Err(Reject::WrongStage)
    );
    let mut dropped = good.clone();
    dropped.ciphertexts.pop();
    assert_eq!(ask(&dropped), Err(Reject::WrongCiphertexts));
    let mut doubled = good.clone();
    doubled.ciphertexts.push(doubled.ciphertexts[0]);
    assert_eq!(ask(&doubled), Err(Reject::WrongCiphertexts));
    let mut twice = good.clone();
    twice.batches.insert(0, twice.batches[0]);
    assert_eq!(ask(&twice), Err(Reject::UnknownCommittee));
    assert_eq!(
        ask(&world.total(TASK, 1, &indices[..3])),
        Err(Reject::UnknownCommittee)
    );
    let small = batches.iter().take(2).find(|(_, ids)| ids.len() < 3);
    if let Some((committee, _)) = small {
        assert_eq!(
            ask(&world.total(TASK, 1, &[*committee])),
            Err(Reject::BelowMinBatch)
        );
    }
}
