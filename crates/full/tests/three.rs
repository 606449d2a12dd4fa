//! A committee of three: what its leader asks of both helpers, and what a helper refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use defim_full::{
    Secrets,
    helper::{self, Agreement, Collected, Difference, NotBegun, Proposed, agree, compare},
    leader::{Counts, Input, Leader, Outcome, Output, Proposal},
};
use defim_protocol::{
    Committee, Digest, Manifest, Member, NodeKey, Reason, ReportId, RoundOpened, RoundPhase,
    Schedule, SignedText, VerifiedManifest, VerifiedRound,
    batch::{BatchError, BatchSummary},
    report::{Extension, Metadata, PlaintextShare, SealedShares},
    seal::{Seat, seal},
    vdaf::{Scheme, VdafSpec},
    wire::{
        CollectAnswer, FinishRequest, FinishWith, PrepareAnswer, PrepareRequest, Request, Response,
    },
};
use prio::{codec::Encode as _, vdaf::Client as _};

struct World {
    task: Committee,
    round: VerifiedRound,
    /// Leader first.
    members: Vec<Arc<Secrets>>,
}

fn world() -> World {
    let key = NodeKey::from_seed([9; 32]);
    let members: Vec<_> = (1..=3)
        .map(|n| Arc::new(Secrets::from_seed([n; 32])))
        .collect();
    let manifest = Manifest {
        name: "digits".into(),
        title: String::new(),
        summary: String::new(),
        aggregation: key.id(),
        members: (1..)
            .zip(&members)
            .map(|(n, secrets)| Member {
                node: secrets.node.id(),
                name: format!("full-{n}"),
                hpke: secrets.sealing.config(),
            })
            .collect(),
        vdaf: VdafSpec {
            scheme: Scheme::Pine64,
            dimension: 4,
            frac_bits: 15,
            shares: 3,
            votes: 0,
        },
        schedule: Schedule {
            min_batch: 2,
            max_batch: 70,
            settle_ms: 0,
            round_ms: 1_000,
            rounds: 1,
        },
        privacy: None,
        max_weight: 1,
        admission: None,
        ledger: defim_protocol::LedgerTerms::default(),
        created_ms: 0,
        learning: serde_json::value::RawValue::from_string("{}".into()).unwrap(),
    };
    let task = VerifiedManifest::verify(manifest.sign(&key).unwrap(), None).unwrap();
    let opened = RoundOpened {
        task: task.task(),
        round: 1,
        base_model: Digest([0; 32]),
        opened_ms: 0,
        deadline_ms: 1_000,
        weights: BTreeMap::new(),
    };
    let round = VerifiedRound::verify(opened.sign(&key).unwrap(), &task).unwrap();
    World {
        task: task.committee(0).unwrap(),
        round,
        members,
    }
}

impl World {
    /// An honest report for this committee.
    fn report(&self, from: u8) -> (ReportId, Vec<u8>) {
        let id = (from..=255)
            .map(|n| ReportId([n; 16]))
            .find(|id| self.task.committee_of(&self.round, id).index() == 0)
            .unwrap();
        let metadata = Metadata { id, time_s: 0 };
        let vdaf = self.task.vdaf.instance().unwrap();
        let values = self.task.vdaf.measurement(&[1, -2, 3, 0]);
        let (public, shares) = vdaf.shard(&values, id.as_bytes()).unwrap();
        let public_share = public.get_encoded().unwrap();
        let sealed = (0..3).map(|at| {
            let plain = PlaintextShare {
                extensions: vec![Extension::round(1)],
                payload: shares[at].get_encoded().unwrap(),
            };
            seal(
                &self.task.members()[at].hpke,
                Seat::of(at, 3),
                &self.task.task(),
                &metadata,
                &public_share,
                &plain,
                &mut rand::rng(),
            )
            .unwrap()
        });
        let report = SealedShares {
            metadata,
            sealed: sealed.collect(),
            public_share,
        };
        (id, report.get_encoded().unwrap())
    }

    /// What a helper begins with, of the leader's question.
    fn collect(&self, helper: usize, asked: &PrepareRequest) -> Collected {
        let [init] = &asked.reports[..] else {
            panic!("one report was loaded")
        };
        let secrets = &self.members[helper];
        let (known, key) = (BTreeSet::new(), &asked.verify_key);
        helper::collect(&self.task, &self.round, secrets, &known, key, init).unwrap()
    }

    fn signed(&self, ids: &[ReportId], rejected: u64) -> SignedText {
        let rejected = BTreeMap::from([("invalid-proof".to_owned(), rejected)]);
        BatchSummary::new(
            self.task.task(),
            1,
            self.round.randomness(),
            0,
            ids,
            rejected,
        )
        .unwrap()
        .sign(&self.members[0].node)
        .unwrap()
    }
}

fn ids(numbers: impl IntoIterator<Item = u8>) -> Vec<ReportId> {
    numbers.into_iter().map(|n| ReportId([n; 16])).collect()
}

struct Leading {
    machine: Leader,
    now: u64,
}

impl Leading {
    fn handle(&mut self, input: Input) -> Vec<Output> {
        self.machine.handle(self.now, input);
        std::iter::from_fn(|| self.machine.poll())
            .filter(|output| !matches!(output, Output::Phase(..)))
            .collect()
    }

    fn state(&mut self, pending: u64, verified: u64, rejected: u64) -> Vec<Output> {
        let counts = Counts {
            pending,
            verified,
            rejected: BTreeMap::from([(10, rejected)]),
        };
        self.handle(Input::State {
            counts,
            proposal: None,
        })
    }

    /// What both helpers are asked.
    fn asked(&mut self, input: Input) -> [Request; 2] {
        let outputs = self.handle(input);
        let Some(Output::Ask(questions)) = outputs.last() else {
            panic!("nobody is asked: {outputs:?}")
        };
        questions.clone().try_into().unwrap()
    }
}

fn leading(world: &World) -> Leading {
    let (task, round) = (world.task.clone(), world.round.clone());
    let machine = Leader::new(task, round, world.members[0].clone()).unwrap();
    let mut leading = Leading { machine, now: 0 };
    let outputs = leading.handle(Input::Tick);
    assert!(matches!(outputs[..], [Output::LoadState]));
    leading
}

/// A report that both helpers have begun: what they keep, what they answered, and what they are asked then.
fn begun(world: &World, leading: &mut Leading) -> (ReportId, [Collected; 2], [FinishRequest; 2]) {
    let (id, report) = world.report(0);
    leading.state(1, 0, 0);
    let [Request::Collect(first), Request::Collect(second)] =
        leading.asked(Input::Pending(vec![(id, report)]))
    else {
        panic!("both are asked to begin")
    };
    assert_ne!(first.reports[0].sealed, second.reports[0].sealed);
    assert!(first.reports[0].message.is_empty());
    // The other one's share is not even of use to a helper.
    let wrong = helper::collect(
        &world.task,
        &world.round,
        &world.members[2],
        &BTreeSet::new(),
        &first.verify_key,
        &first.reports[0],
    );
    let broken = NotBegun {
        reason: Reason::SealBroken,
        is_outcome: false,
    };
    assert_eq!(wrong.unwrap_err(), broken);
    let collected = [world.collect(1, &first), world.collect(2, &second)];
    let answers = collected.each_ref().map(|collected| {
        let share = collected.share.clone();
        Some(Response::Collected(vec![CollectAnswer::Share(share)]))
    });
    let [Request::Finish(first), Request::Finish(second)] =
        leading.asked(Input::Answers(answers.to_vec()))
    else {
        panic!("both are asked to finish")
    };
    assert_eq!(first, second);
    (id, collected, [first, second])
}

fn verified() -> Option<Response> {
    Some(Response::Prepared(vec![
        PrepareAnswer::Verified(Vec::new()),
    ]))
}

#[test]
fn a_report_is_verified_by_all_three_or_not_at_all() {
    let world = world();
    for (answer, outcome) in [
        (PrepareAnswer::Verified(Vec::new()), None),
        (
            PrepareAnswer::Rejected(Reason::InvalidProof),
            Some(Reason::InvalidProof),
        ),
    ] {
        let mut leading = leading(&world);
        let (id, collected, [asked, _]) = begun(&world, &mut leading);
        let [(of, with)] = &asked.reports[..] else {
            panic!("{asked:?}")
        };
        assert_eq!(*of, id);
        for collected in &collected {
            helper::finish(&world.task, id, &collected.state, with).unwrap();
        }
        let answers = vec![verified(), Some(Response::Prepared(vec![answer]))];
        let outputs = leading.handle(Input::Answers(answers));
        let [Output::Record(outcomes)] = &outputs[..] else {
            panic!("{outputs:?}")
        };
        let [(recorded, end)] = &outcomes[..] else {
            panic!("{outcomes:?}")
        };
        assert_eq!(*recorded, id);
        match outcome {
            None => assert!(matches!(end, Outcome::Verified(_))),
            Some(reason) => assert!(matches!(end, Outcome::Rejected(r) if *r == reason)),
        }
    }
}

#[test]
fn a_helper_takes_no_message_but_that_of_all_shares() {
    let world = world();
    let mut leading = leading(&world);
    let (id, [first, _], [asked, _]) = begun(&world, &mut leading);
    let FinishWith::Message(message) = asked.reports[0].1.clone() else {
        panic!("an honest report is refused")
    };
    let finish = |state: &[u8], with: &FinishWith| {
        helper::finish(&world.task, id, state, with).map(|share| share.id())
    };
    let with = |message: &[u8]| FinishWith::Message(message.to_vec());
    assert_eq!(finish(&first.state, &with(&message)), Ok(id));
    for at in [0, message.len() - 1] {
        let mut other = message.clone();
        other[at] ^= 1;
        let refused = finish(&first.state, &with(&other));
        assert_eq!(refused, Err(Reason::InvalidProof));
    }
    let short = finish(&first.state, &with(&message[1..]));
    assert_eq!(short, Err(Reason::Malformed));
    let damaged = finish(&first.state[1..], &with(&message));
    assert_eq!(damaged, Err(Reason::InvalidShare));
    let refusal = FinishWith::Refusal(Reason::SealBroken);
    assert_eq!(finish(&first.state, &refusal), Err(Reason::SealBroken));
}

#[test]
fn a_wrong_or_missing_answer_of_one_helper_verifies_nothing() {
    let world = world();
    // A share that is none, or another one: the other helper is told to refuse, too.
    for (change, reason) in [
        (0, Reason::InvalidProof),
        (1, Reason::Malformed),
        (2, Reason::WrongRound),
    ] {
        let mut leading = leading(&world);
        let (id, report) = world.report(0);
        leading.state(1, 0, 0);
        let [Request::Collect(first), Request::Collect(second)] =
            leading.asked(Input::Pending(vec![(id, report)]))
        else {
            panic!("both are asked to begin")
        };
        let good = CollectAnswer::Share(world.collect(1, &first).share);
        let mut share = world.collect(2, &second).share;
        let bad = match change {
            0 => {
                share[0] ^= 1;
                CollectAnswer::Share(share)
            }
            1 => CollectAnswer::Share(share[1..].to_vec()),
            _ => CollectAnswer::Rejected(Reason::WrongRound),
        };
        let answers = [good, bad].map(|answer| Some(Response::Collected(vec![answer])));
        let [Request::Finish(asked), _] = leading.asked(Input::Answers(answers.to_vec())) else {
            panic!("both are told how it ends")
        };
        assert_eq!(asked.reports, [(id, FinishWith::Refusal(reason))]);
        // Whatever they say then, it is not verified.
        let outputs = leading.handle(Input::Answers(vec![verified(), verified()]));
        assert!(
            matches!(&outputs[..], [Output::Record(ends)] if matches!(ends[..], [(_, Outcome::Rejected(r))] if r == reason))
        );
    }
    // One that is away is named, and all begins anew.
    for away in 0..2 {
        let mut leading = leading(&world);
        let (id, report) = world.report(0);
        leading.state(1, 0, 0);
        let [Request::Collect(first), Request::Collect(second)] =
            leading.asked(Input::Pending(vec![(id, report.clone())]))
        else {
            panic!("both are asked to begin")
        };
        let mut answers: Vec<_> = [(1, &first), (2, &second)]
            .map(|(helper, asked)| {
                let share = world.collect(helper, asked).share;
                Some(Response::Collected(vec![CollectAnswer::Share(share)]))
            })
            .to_vec();
        answers[away] = None;
        assert!(leading.handle(Input::Answers(answers)).is_empty());
        let member = format!("full-{}", away + 2);
        let phase = RoundPhase::WaitingForMember { member };
        assert_eq!(leading.machine.phase(), Some(&phase));
        leading.now += 1_001;
        let outputs = leading.handle(Input::Tick);
        assert!(matches!(outputs[..], [Output::LoadPending { .. }]));
        let [Request::Collect(again), _] = leading.asked(Input::Pending(vec![(id, report)])) else {
            panic!("both are asked again")
        };
        assert_eq!(again, first, "and the very same");
    }
}

/// The questions about a batch: for each helper, its ids and what it has to drop.
fn batch(questions: &[Request; 2]) -> [(Vec<ReportId>, Vec<ReportId>); 2] {
    questions.clone().map(|question| match question {
        Request::Check { ids, refused, .. } => (ids, refused),
        other => panic!("nobody signs before both agree: {other:?}"),
    })
}

#[test]
fn three_that_differ_come_to_one_batch_that_all_sign() {
    let world = world();
    let mut leading = leading(&world);
    leading.handle(Input::Close);
    assert!(matches!(leading.state(0, 4, 1)[..], [Output::LoadVerified]));
    let asked = leading.asked(Input::Verified(ids(0..4)));
    assert_eq!(batch(&asked), [(ids(0..4), vec![]), (ids(0..4), vec![])]);
    // The first one has 8, which this node has refused; the second one lacks 3.
    let outputs = leading.handle(Input::Answers(vec![
        Some(Response::Differs {
            missing: ids([8]),
            unknown: vec![],
        }),
        Some(Response::Differs {
            missing: vec![],
            unknown: ids([3]),
        }),
    ]));
    assert!(matches!(&outputs[..], [Output::Disown(dropped)] if *dropped == ids([3])));
    assert!(matches!(leading.state(0, 3, 2)[..], [Output::LoadVerified]));
    let outputs = leading.handle(Input::Verified(ids(0..3)));
    let [Output::Propose(proposal), Output::Ask(asked)] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let asked: [Request; 2] = asked.clone().try_into().unwrap();
    assert_eq!(
        batch(&asked),
        [(ids(0..3), ids([3, 8])), (ids(0..3), vec![])]
    );
    // As it is after a crash.
    let stored = proposal.to_bytes().unwrap();
    assert_eq!(Proposal::from_bytes(&stored, 2).unwrap(), *proposal);
    // Each signs what it has, and not what the other one has.
    let held = [ids([0, 1, 2, 3, 8]), ids([0, 1, 2])];
    let own = |at: usize, refused: &[ReportId]| {
        let proposed = Proposed {
            summary: proposal.summary.clone(),
            ids: &proposal.ids,
            refused,
        };
        let secrets = &world.members[at + 1];
        let same = compare(&world.task, &world.round, &proposed, &held[at]).unwrap();
        let agreed = agree(&world.task, &world.round, secrets, proposed, &held[at]).unwrap();
        (same, agreed)
    };
    let (differs, agreed) = own(1, &proposal.refused[0]);
    let unknown = Some(Difference {
        missing: vec![],
        unknown: ids([3, 8]),
    });
    assert_eq!(differs, unknown);
    assert!(matches!(agreed, Agreement::Differs(_)));
    let signatures = [0, 1].map(|at| match own(at, &proposal.refused[at]) {
        (None, Agreement::Agreed(batch, signature)) => {
            assert_eq!(batch.summary().accepted, 3);
            signature
        }
        other => panic!("{other:?}"),
    });
    let would = vec![Some(Response::WouldAgree), Some(Response::WouldAgree)];
    let asked = leading.asked(Input::Answers(would));
    assert!(asked.iter().all(|q| matches!(q, Request::Close { .. })));
    // With one signature there is no batch.
    let [first, second] = signatures.map(|signature| Some(Response::Agreed(signature)));
    assert!(
        leading
            .handle(Input::Answers(vec![first.clone(), None]))
            .is_empty()
    );
    leading.now += 1_001;
    let asked = leading.asked(Input::Tick);
    batch(&asked);
    let would = vec![Some(Response::WouldAgree), Some(Response::WouldAgree)];
    leading.asked(Input::Answers(would));
    let outputs = leading.handle(Input::Answers(vec![first.clone(), first.clone()]));
    assert!(outputs.is_empty(), "one member's signature twice");
    leading.now += 1_001;
    leading.asked(Input::Tick);
    let would = vec![Some(Response::WouldAgree), Some(Response::WouldAgree)];
    leading.asked(Input::Answers(would));
    let outputs = leading.handle(Input::Answers(vec![first, second]));
    let [
        Output::Release {
            batch,
            ids: counted,
        },
    ] = &outputs[..]
    else {
        panic!("{outputs:?}")
    };
    assert_eq!(*counted, ids(0..3));
    assert_eq!(batch.signatures().len(), 3);
}

#[test]
fn each_helper_signs_all_that_it_has_verified_or_nothing() {
    let world = world();
    let verified = ids(0..5);
    for helper in 1..3 {
        let asked = |listed: &[ReportId], refused: &[ReportId], rejected: u64| {
            let proposed = Proposed {
                summary: world.signed(listed, rejected),
                ids: listed,
                refused,
            };
            let secrets = &world.members[helper];
            agree(&world.task, &world.round, secrets, proposed, &verified)
        };
        assert!(matches!(
            asked(&verified, &[], 0),
            Ok(Agreement::Agreed(..))
        ));
        // A leader that works with the other helper, to be alone with the two it wants.
        assert!(matches!(
            asked(&verified[..2], &[], 3).unwrap(),
            Agreement::Differs(Difference { missing, .. }) if missing == ids(2..5)
        ));
        let uncounted = BatchError::Uncounted {
            refused: 1,
            counted: 0,
        };
        assert_eq!(
            asked(&verified[..4], &verified[4..], 0).unwrap_err(),
            uncounted
        );
        assert!(matches!(
            asked(&verified[..4], &verified[4..], 1),
            Ok(Agreement::Agreed(..))
        ));
    }
    // Another round's, another committee's and an empty batch are not even compared.
    let opened = world.round.randomness();
    for (round, opening, committee) in [(2, opened, 0), (1, opened, 1), (1, Digest([9; 32]), 0)] {
        let summary = BatchSummary::new(
            world.task.task(),
            round,
            opening,
            committee,
            &verified,
            BTreeMap::new(),
        )
        .unwrap()
        .sign(&world.members[0].node)
        .unwrap();
        let proposed = Proposed {
            summary,
            ids: &verified,
            refused: &[],
        };
        let refused = compare(&world.task, &world.round, &proposed, &verified);
        assert!(matches!(refused, Err(BatchError::Elsewhere { .. })));
    }
    let nothing = Proposed {
        summary: world.signed(&[], 0),
        ids: &[],
        refused: &[],
    };
    let refused = compare(&world.task, &world.round, &nothing, &[]);
    assert_eq!(refused, Err(BatchError::Empty));
}

#[test]
fn helpers_that_always_differ_do_not_hold_the_round_for_ever_and_are_named() {
    let world = world();
    let mut leading = leading(&world);
    leading.handle(Input::Close);
    let differs = || {
        Some(Response::Differs {
            missing: ids([8]),
            unknown: vec![],
        })
    };
    for attempt in 0..4 {
        leading.state(0, 4, 9);
        leading.handle(Input::Verified(ids(0..4)));
        let answers = vec![Some(Response::WouldAgree), differs()];
        let outputs = leading.handle(Input::Answers(answers));
        match attempt {
            0..3 => assert!(matches!(&outputs[..], [Output::Disown(none)] if none.is_empty())),
            _ => assert!(
                matches!(&outputs[..], [Output::Without(why)] if why.starts_with("full-3 has verified"))
            ),
        }
    }
}
