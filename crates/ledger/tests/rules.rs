//! What the ledger carries out, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod world;

use defim_ledger::{
    Admission, AdmissionRule, Body, Digest, Evidence, Fault, NodeId, NodeSlot, NodeStatus, Params,
    Reject, Role, RoundSlot, Split, Stage, State, TaskId, TaskTerms, Verdict, Void, check,
};
use world::{START, TASK, World, admin, aggregation, key, light, member, terms};

fn complain(fault: Fault, accused: Option<NodeId>) -> Verdict {
    Verdict::Complain {
        fault,
        accused,
        evidence: Digest([0xEE; 32]),
    }
}

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

#[test]
fn light_nodes_are_admitted_as_the_task_says() {
    let mut world = World::new();
    let of = |by, n: u8| Body::EnrolLight {
        task: TASK,
        key: light(n).id(),
        by,
    };
    world.run(vec![(&light(0), of(Admission::Open, 0))]);
    assert_eq!(
        world.ask(&light(0), of(Admission::Open, 0)),
        Err(Reject::AlreadyEnrolled)
    );
    assert_eq!(
        world.ask(&light(1), of(Admission::Open, 2)),
        Err(Reject::NotTheSender)
    );
    assert_eq!(
        world.ask(&light(1), of(Admission::Approved, 1)),
        Err(Reject::NotAdmin)
    );
    assert_eq!(world.ask(&admin(), of(Admission::Approved, 1)), Ok(()));

    let closed = TaskId([0x7C; 32]);
    let invited = TaskTerms {
        admission: AdmissionRule::Invite,
        ..terms(3)
    };
    world.put_task(closed, invited, 1000);
    let code = key(9, 1);
    let enrol = |n: u8, by| Body::EnrolLight {
        task: closed,
        key: light(n).id(),
        by,
    };
    let by = |n: u8| Admission::invited(&code, &closed, &light(n).id());
    assert_eq!(
        world.ask(&light(0), enrol(0, Admission::Open)),
        Err(Reject::NotAdmitted)
    );
    assert_eq!(
        world.ask(&light(0), enrol(0, by(0))),
        Err(Reject::BadInvite),
        "not on the ledger"
    );
    let create = |uses, until_ms| Body::CreateInvite {
        task: closed,
        invite: code.id(),
        uses,
        until_ms,
    };
    let until = world.now_ms + 100_000;
    assert_eq!(
        world.ask(&light(0), create(2, until)),
        Err(Reject::NotAdmin)
    );
    assert_eq!(
        world.ask(&admin(), create(2, START)),
        Err(Reject::InviteSpent)
    );
    world.run(vec![(&admin(), create(2, until))]);
    // What admits one key admits no other.
    assert_eq!(
        world.ask(&light(1), enrol(1, by(0))),
        Err(Reject::BadInvite)
    );
    world.run(vec![(&light(0), enrol(0, by(0)))]);
    let late = world.tx(&light(1), enrol(1, by(1)));
    assert_eq!(
        check(&world.state, &late, until + 1),
        Err(Reject::InviteSpent)
    );
    world.run(vec![(&light(1), enrol(1, by(1)))]);
    assert_eq!(
        world.ask(&light(2), enrol(2, by(2))),
        Err(Reject::InviteSpent)
    );
    assert_eq!(
        world.ask(&admin(), create(2, until)),
        Err(Reject::InviteExists)
    );
}

#[test]
fn only_admins_change_who_takes_part() {
    let mut world = World::new();
    let stranger = key(8, 8);
    let enrol = |role| Body::EnrolNode {
        node: stranger.id(),
        role,
        name: "new".into(),
        address: "127.0.0.1:9".into(),
    };
    let bodies = [
        enrol(Role::Full),
        Body::RemoveNode {
            node: member(0).id(),
        },
        Body::SetAdmins {
            admins: vec![stranger.id()],
        },
        Body::SetValidators {
            set: vec![stranger.id()],
            from_epoch: 1,
        },
        Body::CloseTask { task: TASK },
        Body::RemoveLight {
            task: TASK,
            key: light(0).id(),
        },
    ];
    for body in bodies {
        assert_eq!(world.ask(&stranger, body), Err(Reject::NotAdmin));
    }
    world.run(vec![(&admin(), enrol(Role::Full))]);
    assert_eq!(
        world.ask(&admin(), enrol(Role::Aggregation)),
        Err(Reject::WrongRole)
    );
    let validator = world.validator(0).id();
    assert_eq!(
        world.ask(&admin(), Body::RemoveNode { node: validator }),
        Err(Reject::StillValidator)
    );
    let long = Body::EnrolNode {
        node: stranger.id(),
        role: Role::Full,
        name: "n".repeat(400),
        address: String::new(),
    };
    assert_eq!(world.ask(&admin(), long), Err(Reject::TooLarge));
    assert_eq!(
        world.ask(&admin(), Body::SetAdmins { admins: vec![] }),
        Err(Reject::BadSet)
    );
    let mut both = vec![admin().id(), stranger.id()];
    both.sort_unstable();
    world.run(vec![(&admin(), Body::SetAdmins { admins: both })]);
    let pause = Body::PauseTask {
        task: TASK,
        paused: true,
    };
    assert_eq!(world.ask(&stranger, pause), Ok(()));
}

#[test]
fn a_transaction_is_carried_out_once_on_one_chain_for_its_sender() {
    let mut world = World::new();
    let give = |amount| Body::Transfer {
        to: light(0).id(),
        amount,
    };
    let tx = world.tx(&admin(), give(70));
    assert_eq!(world.block(std::slice::from_ref(&tx)), []);
    assert_eq!(
        check(&world.state, &tx, world.now_ms),
        Err(Reject::NonceUsed)
    );
    assert_eq!(
        world.block(std::slice::from_ref(&tx)),
        [(tx.id(), Reject::NonceUsed)]
    );
    let ahead = world.tx_after(&admin(), give(1), 1);
    assert_eq!(
        check(&world.state, &ahead, world.now_ms),
        Err(Reject::NonceAhead)
    );
    let other = World::with(5, 3, Params::default());
    let foreign = other.tx(&admin(), give(1));
    assert_eq!(
        check(&world.state, &foreign, world.now_ms),
        Err(Reject::WrongChain)
    );
    let mut forged = world.tx(&admin(), give(1));
    forged.tx.body = give(1_000_000);
    assert_eq!(
        check(&world.state, &forged, world.now_ms),
        Err(Reject::BadSignature)
    );
    assert_eq!(world.ask(&light(0), give(1)), Ok(()));
    let too_much = Body::Transfer {
        to: admin().id(),
        amount: 71,
    };
    assert_eq!(
        world.ask(&light(0), too_much),
        Err(Reject::InsufficientBalance)
    );
    assert_eq!(world.ask(&light(9), give(0)), Err(Reject::NothingMoved));
    assert_eq!(world.balance(&light(0)), 70);
}

#[test]
fn tasks_without_sense_are_refused() {
    let world = World::new();
    let ask = |change: &dyn Fn(&mut TaskTerms)| {
        let mut terms = terms(3);
        change(&mut terms);
        let create = defim_ledger::CreateTask {
            task: TaskId([0x11; 32]),
            manifest: Digest([0; 32]),
            model: Digest([0; 32]),
            terms,
        };
        world.ask(&admin(), Body::CreateTask(create))
    };
    assert_eq!(ask(&|_| ()), Ok(()));
    let bad = [
        ask(&|t| {
            t.split = Split {
                light: 5001,
                ..t.split
            }
        }),
        ask(&|t| t.members.truncate(1)),
        ask(&|t| t.members.push(t.members[0])),
        ask(&|t| t.members.push(t.aggregation)),
        ask(&|t| t.min_batch = 0),
        ask(&|t| t.rounds = 0),
        ask(&|t| t.max_weight = 0),
    ];
    assert_eq!(bad, [Err(Reject::BadTerms); 7]);
    assert_eq!(
        ask(&|t| t.members[0] = light(0).id()),
        Err(Reject::UnknownNode)
    );
    assert_eq!(
        ask(&|t| t.members[0] = world.validator(0).id()),
        Err(Reject::WrongRole)
    );
    assert_eq!(
        ask(&|t| t.aggregation = key(3, 200).id()),
        Err(Reject::UnknownNode)
    );
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
        defim_ledger::BatchSummary::new(TASK, 1, committee, &ids[..n], Default::default()).unwrap()
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
fn a_snapshot_is_the_state_and_nothing_else_passes_for_it() {
    let mut world = World::new();
    world.enrol_lights(TASK, 0..10);
    world.finished(TASK, 0..10);
    let (bytes, root) = (world.state.snapshot(), world.state.root());
    let restored = State::restore(&bytes, &root).unwrap();
    assert_eq!(restored.snapshot(), bytes);
    world.state = restored;
    world.finished(TASK, 0..10);
    assert!(State::restore(&bytes, &world.state.root()).is_err());
    for place in (0..bytes.len()).step_by(7) {
        let mut changed = bytes.clone();
        changed[place] ^= 1;
        assert!(State::restore(&changed, &root).is_err(), "{place}");
        assert!(State::restore(&bytes[..place], &root).is_err());
    }
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

#[test]
fn a_proposal_takes_what_is_good_in_the_order_of_each_senders_numbers() {
    let mut world = World::new();
    let give = |amount| Body::Transfer {
        to: light(0).id(),
        amount,
    };
    let first = world.tx_after(&admin(), give(1), 0);
    let second = world.tx_after(&admin(), give(2), 1);
    let gap = world.tx_after(&admin(), give(4), 3);
    let poor = world.tx_after(&light(0), give(1000), 0);
    let txs = [second.clone(), poor.clone(), first.clone(), gap.clone()];
    let small = defim_ledger::propose(&world.state, &world.head, &txs, world.now_ms, 0).unwrap();
    assert!(small.block.txs().is_empty(), "no room");
    let refused = world.block(&txs);
    assert_eq!(world.blocks.last().unwrap().txs(), [first, second]);
    let why = [
        (poor.id(), Reject::InsufficientBalance),
        (gap.id(), Reject::NonceAhead),
    ];
    assert_eq!(refused, why);
    // Time does not stand still, whatever the proposer's clock says.
    let late = defim_ledger::propose(&world.state, &world.head, &[], 0, 1 << 20).unwrap();
    assert_eq!(
        late.block.header().timestamp_ms,
        world.head.timestamp_ms + 1
    );
}
