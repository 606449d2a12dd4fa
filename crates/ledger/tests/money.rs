//! Nothing is made and nothing is lost, whatever is sent.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![cfg(not(target_arch = "wasm32"))]

mod world;

use std::collections::BTreeMap;

use defim_ledger::rewards::{Work, payouts};
use defim_ledger::{
    Admission, BatchSummary, Body, Digest, Evidence, Fault, NodeId, NodeKey, Params, Role,
    RoundSlot, Split, Stage, State, TaskId, Verdict,
};
use proptest::prelude::*;
use world::{TASK, World, admin, aggregation, light, member};

fn split() -> impl Strategy<Value = Split> {
    (0..=10_000_u16, 0..=10_000_u16, 0..=10_000_u16).prop_map(|(a, b, c)| {
        let mut cuts = [a, b, c];
        cuts.sort_unstable();
        Split {
            light: cuts[0],
            committee: cuts[1] - cuts[0],
            aggregation: cuts[2] - cuts[1],
            validators: 10_000 - cuts[2],
        }
    })
}

proptest! {
    #[test]
    fn payouts_sum_to_the_budget_and_do_not_depend_on_order(
        budget in prop_oneof![any::<u64>(), 0..1000_u64],
        split in split(),
        reports in prop_oneof![0..5_u64, any::<u64>()],
        verified in prop::collection::vec((0..40_u8, any::<u64>()), 0..32),
        voters in prop::collection::btree_set(0..40_u8, 0..40),
        has_aggregation: bool,
    ) {
        let node = |n: &u8| NodeId([*n; 32]);
        let work = Work {
            reports,
            verified: verified.iter().map(|(n, w)| (node(n), *w)).collect(),
            aggregation: has_aggregation.then_some(NodeId([7; 32])),
            voters: voters.iter().map(node).collect(),
        };
        let paid = payouts(budget, &split, &work);
        prop_assert_eq!(paid.total(), u128::from(budget));
        prop_assert_eq!(u128::from(paid.per_report) * u128::from(reports), u128::from(paid.reports));
        let mut turned = work.clone();
        turned.voters.reverse();
        prop_assert_eq!(&payouts(budget, &split, &turned), &paid);
        // Nobody who has done nothing is paid, and those with the same work differ by one part at most.
        for account in paid.accounts.keys() {
            let worked = work.verified.contains_key(account)
                || work.voters.contains(account)
                || work.aggregation == Some(*account);
            prop_assert!(worked);
        }
        let only = Split { light: 0, committee: 0, aggregation: 0, validators: 10_000 };
        let equal = payouts(budget, &only, &Work { verified: BTreeMap::new(), aggregation: None, ..work });
        if let (Some(most), Some(least)) = (equal.accounts.values().max(), equal.accounts.values().min()) {
            prop_assert!(most - least <= 1);
            prop_assert_eq!(equal.back, 0);
        }
    }
}

/// One thing that somebody tries, good or bad.
#[derive(Debug, Clone)]
enum Try {
    Give(u8, u8, u64),
    Fund(u8, u8, u64),
    Enrol(u8),
    /// What is right next in the round.
    Next(u8),
    Open,
    Batch(u8),
    Total,
    Model,
    Vote(u8, bool, u8),
    Void,
    Claim(u8, u8),
    Slash(u8, u8),
    Close,
    Pause(bool),
    Restore(u8),
    Create,
    /// The nonce is off, or the signature broken.
    Broken(u8),
    /// The block ends here.
    End,
}

fn tried() -> impl Strategy<Value = Try> {
    prop_oneof![
        200 => (0..4_u8).prop_map(Try::Next),
        40 => (0..8_u8, 0..4_u8).prop_map(|(a, b)| Try::Claim(a, b)),
        6 => (0..9_u8, 0..9_u8, 0..2000_u64).prop_map(|(a, b, c)| Try::Give(a, b, c)),
        6 => (0..9_u8, 0..3_u8, 0..20_000_u64).prop_map(|(a, b, c)| Try::Fund(a, b, c)),
        4 => (0..8_u8).prop_map(Try::Enrol),
        3 => Just(Try::Open),
        3 => (0..6_u8).prop_map(Try::Batch),
        3 => Just(Try::Total),
        3 => Just(Try::Model),
        12 => (0..5_u8, prop::bool::weighted(0.4), 0..3_u8).prop_map(|(a, b, c)| Try::Vote(a, b, c)),
        1 => Just(Try::Void),
        1 => (0..4_u8, 0..9_u8).prop_map(|(a, b)| Try::Slash(a, b)),
        1 => prop::bool::weighted(0.3).prop_map(|close| if close { Try::Close } else { Try::Open }),
        4 => prop::bool::weighted(0.2).prop_map(Try::Pause),
        6 => (0..3_u8).prop_map(Try::Restore),
        2 => Just(Try::Create),
        2 => (0..9_u8).prop_map(Try::Broken),
        20 => Just(Try::End),
    ]
}

fn actor(number: u8) -> NodeKey {
    match number {
        0 => admin(),
        1 => aggregation(),
        2..=4 => member(usize::from(number - 2)),
        _ => light(number),
    }
}

/// What a chain remembers beside its state, so that tries can be good.
#[derive(Default)]
struct Memory {
    openings: BTreeMap<u64, defim_ledger::SignedText>,
}

fn next(world: &World, round: u64, unsettled: bool, committees: Vec<u32>, n: u8) -> Try {
    let record = world.state.get(&RoundSlot(TASK, round));
    match record.filter(|_| unsettled) {
        None => Try::Open,
        Some(record) => match record.stage {
            Stage::Open => {
                let mut places = (0..).zip(&committees);
                let missing = places.find(|(_, index)| !record.batches.contains_key(index));
                missing.map_or(Try::Total, |(place, _)| Try::Batch(place))
            }
            Stage::Opened(_) => Try::Model,
            _ => Try::Vote(n, true, 0),
        },
    }
}

fn body(world: &World, memory: &mut Memory, tried: &Try) -> Option<(NodeKey, Body)> {
    let task = world.state.task(&TASK)?;
    let round = task.round;
    let opening = memory.openings.get(&round).cloned();
    let batches = opening
        .as_ref()
        .map(|opening| world.reports(TASK, opening, 0..8))
        .unwrap_or_default();
    if let Try::Next(n) = tried {
        let step = next(
            world,
            round,
            task.unsettled,
            batches.keys().copied().collect(),
            *n,
        );
        return body(world, memory, &step);
    }
    Some(match tried {
        Try::Give(from, to, amount) => {
            let to = actor(*to).id();
            let amount = *amount;
            (actor(*from), Body::Transfer { to, amount })
        }
        Try::Fund(from, which, amount) => {
            let task = if *which == 0 { TaskId([9; 32]) } else { TASK };
            let amount = *amount;
            (actor(*from), Body::FundTask { task, amount })
        }
        Try::Enrol(n) => {
            let (task, key) = (TASK, light(*n).id());
            let by = Admission::Open;
            (light(*n), Body::EnrolLight { task, key, by })
        }
        Try::Open => {
            let statement = world.opening(TASK).sign(&aggregation()).ok()?;
            memory
                .openings
                .entry(round + 1)
                .or_insert_with(|| statement.clone());
            (aggregation(), Body::RoundOpened { statement })
        }
        Try::Batch(place) => {
            let (committee, ids) = batches.iter().nth(usize::from(*place))?;
            (member(0), world.batch(TASK, round, *committee, ids))
        }
        Try::Total => {
            let record = world.state.get(&RoundSlot(TASK, round))?;
            let closed: Vec<_> = record.batches.keys().copied().collect();
            (
                aggregation(),
                Body::Opened(world.total(TASK, round, &closed)),
            )
        }
        Try::Model => (aggregation(), Body::ModelUpdated(world.model(TASK, round))),
        Try::Vote(n, accepts, fault) => {
            let verdict = match accepts {
                true => Verdict::Accept {
                    loss_micro: 1,
                    accuracy_ppm: 1,
                },
                false => Verdict::Complain {
                    fault: [Fault::Quality, Fault::ChangedTotal, Fault::Batch][usize::from(*fault)],
                    accused: (*fault == 2).then(|| member(1).id()),
                    evidence: Digest([1; 32]),
                },
            };
            let key = match *n {
                4 => light(1),
                n => world.validator(usize::from(n)),
            };
            (key, world.verdict(TASK, round, verdict))
        }
        Try::Void => {
            let (task, reason, evidence) = (TASK, "tried".to_owned(), None);
            let void = Body::RoundVoided {
                task,
                round,
                reason,
                evidence,
            };
            (aggregation(), void)
        }
        Try::Claim(n, ago) => {
            let old = round.checked_sub(u64::from(*ago))?;
            let opening = memory.openings.get(&old)?;
            let batches = world.reports(TASK, opening, 0..8);
            (
                light(*n),
                Body::Claim(world.claim(TASK, old, opening, &batches, *n)),
            )
        }
        Try::Slash(n, finder) => {
            let key = actor(2 + (n + 1) % 3);
            let ids = [defim_ledger::ReportId([*n; 16])];
            let sign = |ids: &[_]| {
                let committee = u32::from(n % 3);
                BatchSummary::new(TASK, 1, Digest([5; 32]), committee, ids, BTreeMap::new())
                    .unwrap()
                    .sign(&key)
                    .unwrap()
            };
            let (first, second) = (sign(&ids), sign(&[]));
            let node = key.id();
            let evidence = Evidence::TwoBatches { first, second };
            (actor(*finder), Body::Slash { node, evidence })
        }
        Try::Close => (admin(), Body::CloseTask { task: TASK }),
        Try::Pause(paused) => {
            let (task, paused) = (TASK, *paused);
            (admin(), Body::PauseTask { task, paused })
        }
        Try::Restore(n) => {
            let node = member(usize::from(*n)).id();
            let (name, address) = (String::new(), String::new());
            let role = Role::Full;
            (
                admin(),
                Body::EnrolNode {
                    node,
                    role,
                    name,
                    address,
                },
            )
        }
        Try::Create => {
            let create = defim_ledger::CreateTask {
                task: TaskId([9; 32]),
                manifest: Digest([1; 32]),
                model: Digest([2; 32]),
                terms: world::terms(3),
            };
            (admin(), Body::CreateTask(create))
        }
        Try::Next(_) | Try::Broken(_) | Try::End => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_sent_all_that_was_issued_is_somewhere(
        tries in prop::collection::vec(tried(), 1..300)
    ) {
        let params = Params { epoch_blocks: 5, claim_rounds: 3, ..Params::default() };
        let mut world = World::with(4, 3, params);
        world.enrol_lights(TASK, 0..4);
        world.run(vec![(&admin(), Body::Transfer { to: member(0).id(), amount: 5000 })]);
        let (mut memory, mut waiting) = (Memory::default(), Vec::new());
        for tried in &tries {
            match tried {
                Try::End => {
                    world.block(&waiting);
                    waiting.clear();
                    prop_assert_eq!(world.state.supply().total(), 1_000_000_000);
                }
                Try::Broken(n) => {
                    let give = Body::Transfer { to: light(0).id(), amount: 1 };
                    let mut tx = world.tx_after(&actor(*n), give, u64::from(n % 3));
                    tx.signature.0[usize::from(*n)] ^= n % 2;
                    waiting.push(tx);
                }
                _ => {
                    // What follows stands on what went before, so a block each.
                    if let Some((key, body)) = body(&world, &mut memory, tried) {
                        waiting.push(world.tx(&key, body));
                        if waiting.len() % 3 != 0 {
                            world.block(&waiting);
                            waiting.clear();
                        }
                    }
                }
            }
        }
        world.block(&waiting);
        world.assert_conserved();
        let t = world.state.task(&TASK).unwrap();
        let claimed = (0..8).filter(|n| world.balance(&light(*n))>0).count();
        let mut kinds = BTreeMap::<String,u32>::new();
        for b in &world.blocks { for tx in b.txs() { let k=format!("{:?}", tx.tx.body); *kinds.entry(k.split([' ','(','{']).next().unwrap().to_owned()).or_default()+=1; } }
        eprintln!("round {} finished {} status {:?} claimed {claimed} {kinds:?}", t.round, t.finished, t.status);
        // Replaying the blocks from a snapshot of the beginning gives the same state.
        let mut state = State::genesis(&world.genesis).unwrap();
        for block in &world.blocks[1..] {
            defim_ledger::apply(&mut state, block).unwrap();
        }
        prop_assert_eq!(state.root(), world.state.root());
        prop_assert_eq!(state.snapshot(), world.state.snapshot());
    }
}
