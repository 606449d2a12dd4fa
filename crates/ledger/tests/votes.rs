//! Validators' votes, complaints and evidence: what they finish, void and slash.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod world;

use defim_ledger::{
    Body, Choice, ConsensusVote, Digest, Evidence, Fault, NodeId, NodeSlot, NodeStatus, Params,
    Proposed, Reject, Role, RoundSlot, Stage, Verdict, Void,
};
use world::{TASK, World, admin, aggregation, key, light, member, voted};

fn complain(fault: Fault, accused: Option<NodeId>) -> Verdict {
    Verdict::Complain {
        fault,
        accused,
        evidence: Digest([0xEE; 32]),
    }
}

#[test]
fn complaints_of_two_of_four_void_a_round_and_of_three_slash_the_cause() {
    let mut world = World::new();
    world.enrol_lights(TASK, 0..10);
    // It has something to lose.
    world.finished(TASK, 0..10);
    assert_eq!(world.balance(&aggregation()), 100);
    let budget = world.state.task(&TASK).unwrap().budget;
    let (round, ..) = world.proposed(TASK, 0..10);
    let lie = |world: &World| world.verdict(TASK, round, complain(Fault::ChangedTotal, None));
    world.run(vec![(&world.validator(0), lie(&world))]);
    assert!(
        world.state.task(&TASK).unwrap().unsettled,
        "one alone decides nothing"
    );
    assert_eq!(
        world.ask(&world.validator(0), lie(&world)),
        Err(Reject::AlreadyVoted)
    );
    world.run(vec![(&world.validator(1), lie(&world))]);
    let record = world.state.get(&RoundSlot(TASK, round)).unwrap();
    assert!(matches!(
        record.stage,
        Stage::Voided {
            why: Void::Complaints,
            ..
        }
    ));
    assert_eq!(world.state.task(&TASK).unwrap().budget, budget);
    let status = |world: &World| {
        world
            .state
            .get(&NodeSlot(aggregation().id()))
            .unwrap()
            .status
    };
    assert_eq!(
        status(&world),
        NodeStatus::Active,
        "two of four are no quorum"
    );

    // Opening the next round does not help it.
    world.open(TASK);
    world.run(vec![(&world.validator(2), lie(&world))]);
    assert_eq!(status(&world), NodeStatus::Slashed);
    assert_eq!(world.balance(&aggregation()), 50);
    // 5 for the three that found it, 45 for the task.
    let found: u64 = (0..3).map(|n| world.balance(&world.validator(n))).sum();
    assert_eq!(found, 3 * 25 + 5);
    let task = world.state.task(&TASK).unwrap();
    assert_eq!((task.unsettled, task.budget), (false, budget + 45));
    let next = world.opening(TASK).sign(&aggregation()).unwrap();
    let open = Body::RoundOpened { statement: next };
    assert_eq!(world.ask(&aggregation(), open), Err(Reject::NodeRemoved));
    world.assert_conserved();
}

#[test]
fn giving_a_round_up_does_not_save_who_has_proposed_a_false_model() {
    let mut world = World::new();
    let (round, ..) = world.proposed(TASK, 0..10);
    let void = Body::RoundVoided {
        task: TASK,
        round,
        reason: "second thoughts".into(),
        evidence: None,
    };
    world.run(vec![(&aggregation(), void)]);
    for number in 0..3 {
        let verdict = complain(Fault::OtherModel, Some(aggregation().id()));
        world.run(vec![(
            &world.validator(number),
            world.verdict(TASK, round, verdict),
        )]);
    }
    let status = world
        .state
        .get(&NodeSlot(aggregation().id()))
        .unwrap()
        .status;
    assert_eq!(status, NodeStatus::Slashed);
    world.assert_conserved();
}

#[test]
fn a_quality_complaint_voids_but_slashes_nobody_and_a_bad_batch_names_its_member() {
    let mut world = World::new();
    let (round, ..) = world.proposed(TASK, 0..10);
    for number in 0..3 {
        let body = world.verdict(TASK, round, complain(Fault::Quality, None));
        world.run(vec![(&world.validator(number), body)]);
    }
    let active = |world: &World, node: NodeId| {
        world.state.get(&NodeSlot(node)).unwrap().status == NodeStatus::Active
    };
    assert!(active(&world, aggregation().id()));

    let (round, ..) = world.proposed(TASK, 0..10);
    let accuse = |node| complain(Fault::Batch, Some(node));
    for wrong in [aggregation().id(), light(1).id()] {
        let body = world.verdict(TASK, round, accuse(wrong));
        assert_eq!(
            world.ask(&world.validator(0), body),
            Err(Reject::BadAccused)
        );
    }
    for number in 0..3 {
        let body = world.verdict(TASK, round, accuse(member(1).id()));
        world.run(vec![(&world.validator(number), body)]);
    }
    assert!(!active(&world, member(1).id()));
    assert!(active(&world, member(0).id()) && active(&world, aggregation().id()));
    // Its committees have no batches any more; the others go on.
    let opening = world.open(TASK);
    let round = world.state.task(&TASK).unwrap().round;
    let ids = world
        .reports(TASK, &opening, 0..5)
        .into_values()
        .next()
        .unwrap();
    let batch = |committee| world.batch(TASK, round, committee, &ids);
    // Committees 0, 1, 2 are 0-1, 1-2, 2-0.
    assert_eq!(
        world.ask(&aggregation(), batch(0)),
        Err(Reject::NodeRemoved)
    );
    assert_eq!(world.ask(&aggregation(), batch(2)), Ok(()));
}

#[test]
fn two_statements_that_exclude_each_other_slash_who_signed_both() {
    let mut world = World::new();
    world.run(vec![(
        &admin(),
        Body::Transfer {
            to: member(0).id(),
            amount: 1000,
        },
    )]);
    let opening = world.opening(TASK);
    let mut other = opening.clone();
    other.deadline_ms += 1;
    let sign = |opening: &defim_ledger::RoundOpened, key| opening.sign(key).unwrap();
    let two = |first, second| Evidence::TwoOpenings { first, second };
    let slash = |node: NodeId, evidence| Body::Slash { node, evidence };
    let finder = light(1);
    let aggregation = aggregation();
    let evidence = two(sign(&opening, &aggregation), sign(&other, &aggregation));
    let node = aggregation.id();
    assert_eq!(world.ask(&finder, slash(node, evidence.clone())), Ok(()));
    assert_eq!(
        world.ask(&aggregation, slash(node, evidence.clone())),
        Err(Reject::OwnFault)
    );
    assert_eq!(
        world.ask(&finder, slash(member(0).id(), evidence)),
        Err(Reject::NoFault)
    );
    // The same statement twice, two rounds, or a stranger's statements are no fault.
    let mut later = opening.clone();
    later.round += 1;
    let stranger = key(8, 8);
    for (first, second, who) in [
        (
            sign(&opening, &aggregation),
            sign(&opening, &aggregation),
            node,
        ),
        (
            sign(&opening, &aggregation),
            sign(&later, &aggregation),
            node,
        ),
        (
            sign(&opening, &stranger),
            sign(&other, &stranger),
            stranger.id(),
        ),
        (sign(&opening, &aggregation), sign(&other, &stranger), node),
    ] {
        let asked = world.ask(&finder, slash(who, two(first, second)));
        assert_eq!(asked, Err(Reject::NoFault));
    }

    let ids = [
        defim_ledger::ReportId([1; 16]),
        defim_ledger::ReportId([2; 16]),
    ];
    let summary = |n: usize, committee| {
        defim_ledger::BatchSummary::new(
            TASK,
            1,
            Digest([5; 32]),
            committee,
            &ids[..n],
            Default::default(),
        )
        .unwrap()
    };
    let batches = |committee, key: &defim_ledger::NodeKey| Evidence::TwoBatches {
        first: summary(1, committee).sign(key).unwrap(),
        second: summary(2, committee).sign(key).unwrap(),
    };
    // Committee 0 is of members 0 and 1, committee 1 of 1 and 2, committee 2 of 2 and 0.
    let ask = |committee| {
        let body = slash(member(0).id(), batches(committee, &member(0)));
        world.ask(&finder, body)
    };
    assert_eq!(ask(1), Err(Reject::NoFault), "it has no seat there");
    assert_eq!(
        ask(0),
        Err(Reject::NoFault),
        "a leader proposes again when its helper differs"
    );
    let body = slash(member(0).id(), batches(2, &member(0)));
    let budget = world.state.task(&TASK).unwrap().budget;
    world.run(vec![(&finder, body.clone())]);
    assert_eq!(world.balance(&member(0)), 500);
    assert_eq!(world.balance(&finder), 50);
    assert_eq!(world.state.task(&TASK).unwrap().budget, budget + 450);
    assert_eq!(world.ask(&finder, body), Err(Reject::AlreadySlashed));
    let enrol = Body::EnrolNode {
        node: member(0).id(),
        role: Role::Full,
        name: String::new(),
        address: String::new(),
    };
    assert_eq!(world.ask(&admin(), enrol), Err(Reject::NodeRemoved));
    world.assert_conserved();
}

#[test]
fn a_validator_that_votes_twice_in_one_view_is_slashed_for_the_others() {
    let mut world = World::new();
    let liar = world.validator(2);
    let (to, amount) = (liar.id(), 1000);
    world.run(vec![(&admin(), Body::Transfer { to, amount })]);
    let chain = world.genesis.chain();
    let block = |n| Proposed {
        parent: 6,
        payload: Digest([n; 32]),
    };
    let seed = world.validators[2];
    let vote = |choice| voted(&chain, &seed, (1, 7), choice);
    let slash = |first: ConsensusVote, second: ConsensusVote| Body::Slash {
        node: liar.id(),
        evidence: Evidence::TwoVotes { first, second },
    };
    let finder = light(1);
    let (one, two) = (Choice::Notarize(block(1)), Choice::Notarize(block(2)));
    let (final_one, final_two) = (Choice::Finalize(block(1)), Choice::Finalize(block(2)));
    for (first, second) in [
        (one, two),
        (final_one, final_two),
        (Choice::Nullify, final_one),
        (final_one, Choice::Nullify),
    ] {
        let asked = world.ask(&finder, slash(vote(first), vote(second)));
        assert_eq!(asked, Ok(()), "{first:?}, {second:?}");
    }
    // What an honest one signs: a block, and then that it is final, or that the view is given up.
    for (first, second) in [
        (one, one),
        (one, final_one),
        (one, final_two),
        (one, Choice::Nullify),
        (Choice::Nullify, Choice::Nullify),
    ] {
        let asked = world.ask(&finder, slash(vote(first), vote(second)));
        assert_eq!(asked, Err(Reject::NoFault), "{first:?}, {second:?}");
    }
    // Of another view or epoch, chain or validator.
    let other_chain = voted(&Digest([3; 32]), &seed, (1, 7), two);
    let other_validator = voted(&chain, &world.validators[1], (1, 7), two);
    for second in [
        voted(&chain, &seed, (1, 8), two),
        voted(&chain, &seed, (2, 7), two),
        other_chain,
        other_validator,
    ] {
        let asked = world.ask(&finder, slash(vote(one), second));
        assert_eq!(asked, Err(Reject::NoFault), "{second:?}");
    }
    // An aggregation node has no vote to give twice.
    let mut seed_of = [2; 32];
    seed_of[31] = 0;
    let other = |choice| voted(&chain, &seed_of, (1, 7), choice);
    let body = Body::Slash {
        node: aggregation().id(),
        evidence: Evidence::TwoVotes {
            first: other(one),
            second: other(two),
        },
    };
    assert_eq!(world.ask(&finder, body), Err(Reject::NoFault));
    let body = slash(vote(one), vote(two));
    assert_eq!(world.ask(&liar, body.clone()), Err(Reject::OwnFault));

    let before: Vec<_> = (0..4).map(|n| world.balance(&world.validator(n))).collect();
    world.run(vec![(&finder, body.clone())]);
    assert_eq!(world.balance(&finder), 50);
    let gained: Vec<_> = (0..4)
        .map(|n| i128::from(world.balance(&world.validator(n))) - i128::from(before[n]))
        .collect();
    assert_eq!(gained, [150, 150, -500, 150]);
    let entry = world.state.get(&NodeSlot(liar.id())).unwrap();
    assert_eq!(entry.status, NodeStatus::Slashed);
    assert_eq!(world.ask(&finder, body), Err(Reject::AlreadySlashed));
    world.assert_conserved();
}

#[test]
fn what_is_slashed_for_a_closed_task_goes_to_the_validators() {
    let mut world = World::new();
    let (to, amount) = (aggregation().id(), 1000);
    world.run(vec![(&admin(), Body::Transfer { to, amount })]);
    let opening = world.opening(TASK);
    let mut other = opening.clone();
    other.deadline_ms += 1;
    let evidence = Evidence::TwoOpenings {
        first: opening.sign(&aggregation()).unwrap(),
        second: other.sign(&aggregation()).unwrap(),
    };
    world.run(vec![(&admin(), Body::CloseTask { task: TASK })]);
    let node = aggregation().id();
    let theirs =
        |world: &World| -> u64 { (0..4).map(|n| world.balance(&world.validator(n))).sum() };
    let before = theirs(&world);
    world.run(vec![(&light(1), Body::Slash { node, evidence })]);
    assert_eq!(world.state.task(&TASK).unwrap().budget, 0);
    // A tenth is the finder's.
    assert_eq!(theirs(&world), before + 450);
    world.assert_conserved();
}

#[test]
fn only_votes_of_those_who_are_validators_now_count() {
    let params = Params {
        epoch_blocks: 8,
        ..Params::default()
    };
    let mut world = World::with(4, 3, params);
    let (round, ..) = world.proposed(TASK, 0..10);
    let vote = |world: &mut World, n| {
        let body = world.accept(TASK, round);
        world.run(vec![(&world.validator(n), body)]);
    };
    vote(&mut world, 0);
    vote(&mut world, 1);
    // The first leaves; three remain, all of whom must agree.
    let set: Vec<_> = (1..4).map(|n| world.validator(n).id()).collect();
    world.run(vec![(&admin(), Body::SetValidators { set, from_epoch: 1 })]);
    assert_eq!(world.head.height, 7);
    let gone = world.verdict(TASK, round, complain(Fault::Quality, None));
    assert_eq!(
        world.ask(&world.validator(0), gone),
        Err(Reject::NotValidator)
    );
    vote(&mut world, 2);
    assert!(
        world.state.task(&TASK).unwrap().unsettled,
        "one of three votes is of the past"
    );
    vote(&mut world, 3);
    assert_eq!(world.state.task(&TASK).unwrap().finished, 1);
    assert_eq!(world.balance(&world.validator(0)), 0);
    let paid: Vec<_> = (1..4).map(|n| world.balance(&world.validator(n))).collect();
    assert_eq!(paid.iter().sum::<u64>(), 100);
    // It may now be removed.
    let node = world.validator(0).id();
    assert_eq!(world.ask(&admin(), Body::RemoveNode { node }), Ok(()));
    world.assert_conserved();
}
