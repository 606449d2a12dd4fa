//! A leader does not choose which verified reports a batch is made of.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{collections::BTreeMap, sync::Arc};

use defim_full::{
    Secrets,
    helper::{Agreement, Difference, Proposed, agree},
    leader::{Counts, Input, Leader, Output, Proposal},
};
use defim_protocol::{
    Committee, Digest, Manifest, Member, NodeKey, ReportId, RoundOpened, RoundPhase, Schedule,
    VerifiedManifest, VerifiedRound,
    batch::{BatchError, BatchSummary},
    vdaf::{Scheme, VdafSpec},
    wire::{Request, Response},
};

struct World {
    task: Committee,
    round: VerifiedRound,
    leader: Arc<Secrets>,
    helper: Secrets,
}

fn world() -> World {
    let key = NodeKey::from_seed([9; 32]);
    let (leader, helper) = (Secrets::from_seed([1; 32]), Secrets::from_seed([2; 32]));
    let member = |secrets: &Secrets, name: &str| Member {
        node: secrets.node.id(),
        name: name.into(),
        hpke: secrets.sealing.config(),
    };
    let manifest = Manifest {
        name: "digits".into(),
        title: String::new(),
        summary: String::new(),
        aggregation: key.id(),
        members: vec![member(&leader, "full-1"), member(&helper, "full-2")],
        vdaf: VdafSpec {
            scheme: Scheme::Pine64,
            dimension: 4,
            frac_bits: 15,
            shares: 2,
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
        leader: Arc::new(leader),
        helper,
    }
}

fn ids(numbers: impl IntoIterator<Item = u8>) -> Vec<ReportId> {
    numbers.into_iter().map(|n| ReportId([n; 16])).collect()
}

fn asked(
    world: &World,
    listed: &[ReportId],
    refused: &[ReportId],
    rejected: u64,
    verified: &[ReportId],
) -> Result<Agreement, BatchError> {
    let rejected = BTreeMap::from([("invalid-proof".to_owned(), rejected)]);
    let summary = BatchSummary::new(
        world.task.task(),
        1,
        world.round.randomness(),
        0,
        listed,
        rejected,
    )
    .unwrap()
    .sign(&world.leader.node)
    .unwrap();
    let proposed = Proposed {
        summary,
        ids: listed,
        refused,
    };
    agree(&world.task, &world.round, &world.helper, proposed, verified)
}

#[test]
fn the_helper_signs_no_weight_that_the_round_does_not_give() {
    let world = world();
    let ids = ids(0..5);
    let mut summary = BatchSummary::new(
        world.task.task(),
        1,
        world.round.randomness(),
        0,
        &ids,
        BTreeMap::new(),
    )
    .unwrap();
    summary.extra_weight = 1;
    let proposed = Proposed {
        summary: summary.sign(&world.leader.node).unwrap(),
        ids: &ids,
        refused: &[],
    };
    let refused = agree(&world.task, &world.round, &world.helper, proposed, &ids);
    assert_eq!(refused.unwrap_err(), BatchError::WrongIds);
}

#[test]
fn the_helper_signs_all_that_it_has_verified_or_nothing() {
    let world = world();
    let verified = ids(0..5);
    assert!(matches!(
        asked(&world, &verified, &[], 0, &verified),
        Ok(Agreement::Agreed(..))
    ));
    // A leader that leaves three out, to be alone with the two it wants.
    match asked(&world, &verified[..2], &[], 0, &verified).unwrap() {
        Agreement::Differs(Difference { missing, unknown }) => {
            assert_eq!((missing, unknown), (ids(2..5), vec![]));
        }
        Agreement::Agreed(..) => panic!("a chosen batch was signed"),
    }
    match asked(&world, &ids(0..6), &[], 0, &verified).unwrap() {
        Agreement::Differs(Difference { missing, unknown }) => {
            assert_eq!((missing, unknown), (vec![], ids(5..6)));
        }
        Agreement::Agreed(..) => panic!("an unknown report was signed"),
    }
    // What the leader refuses must be counted as refused, where everybody sees it.
    let left_out = &verified[4..];
    assert_eq!(
        asked(&world, &verified[..4], left_out, 0, &verified).unwrap_err(),
        BatchError::Uncounted {
            refused: 1,
            counted: 0
        }
    );
    assert!(matches!(
        asked(&world, &verified[..4], left_out, 1, &verified),
        Ok(Agreement::Agreed(..))
    ));
    // A report cannot be in both lists.
    assert_eq!(
        asked(&world, &verified, left_out, 1, &verified).unwrap_err(),
        BatchError::WrongIds
    );
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

    fn state(&mut self, verified: u64, rejected: u64) -> Vec<Output> {
        let counts = Counts {
            pending: 0,
            verified,
            rejected: BTreeMap::from([(10, rejected)]),
        };
        self.handle(Input::State {
            counts,
            proposal: None,
        })
    }
}

fn question(outputs: &[Output]) -> (Vec<ReportId>, Vec<ReportId>) {
    let [Output::Propose(Proposal { .. }), Output::Ask(questions)] = outputs else {
        panic!("not a proposal: {outputs:?}")
    };
    let [Request::Close { ids, refused, .. }] = &questions[..] else {
        panic!("one helper is asked once: {questions:?}")
    };
    (ids.clone(), refused.clone())
}

fn leading(world: &World) -> Leading {
    let machine = Leader::new(
        world.task.clone(),
        world.round.clone(),
        world.leader.clone(),
    )
    .unwrap();
    let mut leading = Leading { machine, now: 0 };
    assert!(matches!(
        leading.handle(Input::Tick)[..],
        [Output::LoadState]
    ));
    // The aggregation node closes the round: it alone knows how many reports all committees have.
    assert!(leading.handle(Input::Close).is_empty());
    leading
}

#[test]
fn members_that_differ_come_to_one_batch_and_say_what_was_dropped() {
    let world = world();
    let mut leading = leading(&world);
    assert!(matches!(leading.state(4, 1)[..], [Output::LoadVerified]));
    let outputs = leading.handle(Input::Verified(ids(0..4)));
    assert_eq!(question(&outputs), (ids(0..4), vec![]));
    // The helper lacks 3, and has 8, whose proof this node has refused.
    let outputs = leading.handle(Input::Answers(vec![Some(Response::Differs {
        missing: ids([8]),
        unknown: ids([3]),
    })]));
    let [Output::Disown(dropped)] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    assert_eq!(*dropped, ids([3]));
    assert!(matches!(leading.state(3, 2)[..], [Output::LoadVerified]));
    let outputs = leading.handle(Input::Verified(ids(0..3)));
    assert_eq!(question(&outputs), (ids(0..3), ids([8])));
    let [Output::Propose(proposal), _] = &outputs[..] else {
        panic!("{outputs:?}")
    };
    let proposed = Proposed {
        summary: proposal.summary.clone(),
        ids: &proposal.ids,
        refused: &proposal.refused[0],
    };
    let agreed = agree(
        &world.task,
        &world.round,
        &world.helper,
        proposed,
        &ids([0, 1, 2, 8]),
    );
    let Ok(Agreement::Agreed(_, signature)) = agreed else {
        panic!("{agreed:?}")
    };
    let outputs = leading.handle(Input::Answers(vec![Some(Response::Agreed(signature))]));
    assert!(
        matches!(&outputs[..], [Output::Release { ids: counted, .. }] if *counted == ids(0..3))
    );
}

#[test]
fn a_helper_that_always_differs_does_not_hold_the_round_for_ever() {
    let world = world();
    let mut leading = leading(&world);
    for _ in 0..3 {
        assert!(matches!(leading.state(4, 9)[..], [Output::LoadVerified]));
        question(&leading.handle(Input::Verified(ids(0..4))));
        let outputs = leading.handle(Input::Answers(vec![Some(Response::Differs {
            missing: ids([8]),
            unknown: vec![],
        })]));
        assert!(matches!(&outputs[..], [Output::Disown(none)] if none.is_empty()));
    }
    leading.state(4, 9);
    leading.handle(Input::Verified(ids(0..4)));
    let outputs = leading.handle(Input::Answers(vec![Some(Response::Differs {
        missing: ids([8]),
        unknown: vec![],
    })]));
    assert!(matches!(&outputs[..], [Output::Without(why)] if why.contains("full-2")));
}

#[test]
fn no_more_reports_are_verified_than_the_batch_takes() {
    let world = world();
    let mut leading = leading(&world);
    let counts = Counts {
        pending: 30,
        verified: 65,
        rejected: BTreeMap::new(),
    };
    let outputs = leading.handle(Input::State {
        counts,
        proposal: None,
    });
    assert!(matches!(
        outputs[..],
        [Output::LoadPending { reports: 5, .. }]
    ));
}

#[test]
fn a_helper_that_refuses_is_quoted_and_not_called_absent() {
    let world = world();
    let mut rng = rand::rng();
    let mut report = || {
        use defim_protocol::{
            report::{Extension, Metadata, PlaintextShare, Report},
            seal::{Seat, seal},
        };
        use prio::{codec::Encode as _, vdaf::Client as _};
        let id = (0..=255)
            .map(|n| ReportId([n; 16]))
            .find(|id| world.task.committee_of(&world.round, id).index() == 0)
            .unwrap();
        let metadata = Metadata { id, time_s: 0 };
        let vdaf = world.task.vdaf.instance().unwrap();
        let values = world.task.vdaf.measurement(&[0; 4]);
        let (public, shares) = vdaf.shard(&values, metadata.id.as_bytes()).unwrap();
        let public_share = public.get_encoded().unwrap();
        let mut sealed = |at: usize, seat| {
            let plain = PlaintextShare {
                extensions: vec![Extension::round(1)],
                payload: shares[at].get_encoded().unwrap(),
            };
            let hpke = &world.task.members[at].hpke;
            let task = world.task.task();
            seal(
                hpke,
                seat,
                &task,
                &metadata,
                &public_share,
                &plain,
                &mut rng,
            )
            .unwrap()
        };
        let (leader, helper) = (sealed(0, Seat::Leader), sealed(1, Seat::Helper));
        let report = Report {
            metadata,
            public_share,
            leader,
            helper,
        };
        (metadata.id, report.get_encoded().unwrap())
    };
    let mut leading = leading(&world);
    let counts = Counts {
        pending: 1,
        ..Counts::default()
    };
    leading.handle(Input::State {
        counts,
        proposal: None,
    });
    let outputs = leading.handle(Input::Pending(vec![report()]));
    assert!(
        matches!(&outputs[..], [Output::Ask(asked)] if matches!(asked[..], [Request::Prepare(_)]))
    );
    let why = "the task's verification key was changed";
    leading.handle(Input::Answers(vec![Some(Response::Refused(why.into()))]));
    let phase = leading.machine.phase().unwrap();
    assert_eq!(
        *phase,
        RoundPhase::MemberRefuses {
            member: "full-2".into(),
            reason: why.into()
        }
    );
    assert!(phase.text().contains(why));
}
