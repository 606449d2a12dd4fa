//! Who may do what: admins, nodes, light nodes, senders; blocks and snapshots of it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod world;

use defim_ledger::{
    Admission, AdmissionRule, Body, Digest, Params, Reject, Role, Split, State, TaskId, TaskTerms,
    check,
};
use world::{START, TASK, World, admin, key, light, member, terms};

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
    let code = defim_ledger::InviteCode::new([0xC0; 16]).key();
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
    assert_eq!(world.ask(&light(0), give(1)), Err(Reject::NothingMoved));
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
fn a_proposal_takes_what_is_good_in_the_order_of_each_senders_numbers() {
    let mut world = World::new();
    let give = |amount| Body::Transfer {
        to: light(0).id(),
        amount,
    };
    let first = world.tx_after(&admin(), give(1), 0);
    let second = world.tx_after(&admin(), give(2), 1);
    let gap = world.tx_after(&admin(), give(4), 3);
    let poor = world.tx_after(&light(1), give(1000), 0);
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
