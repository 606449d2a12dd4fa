//! Every round comes to an end, and never goes on from another model than it was opened for.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{collections::BTreeMap, sync::Arc};

use defim_aggregation::coordinator::{
    Coordinator, GRACE_MS, Input, Output, PATIENCE_MS, Restored, RestoredRound,
};
use defim_learn::builtin;
use defim_protocol::{
    Digest, Manifest, Member, NodeKey, Privacy, ReportId, RoundOpened, RoundPhase, Schedule,
    SignedText, VerifiedManifest, VerifiedRound,
    batch::BatchSummary,
    seal::SealingKey,
    vdaf::{Scheme, VdafSpec},
    wire::{ClosedBatch, Progress, Request, Response},
};

const ROUND_MS: u64 = 60_000;

struct World {
    key: Arc<NodeKey>,
    members: Vec<NodeKey>,
    task: VerifiedManifest,
}

impl World {
    fn new() -> Self {
        Self::with(2, None)
    }

    /// `budget`: the rounds that a task with noise promises for.
    fn with(full_nodes: u8, budget: Option<u64>) -> Self {
        let key = Arc::new(NodeKey::from_seed([9; 32]));
        let members: Vec<_> = (1..=full_nodes)
            .map(|n| NodeKey::from_seed([n; 32]))
            .collect();
        let spec = builtin("diabetes", None).unwrap().spec;
        let learning = serde_json::to_string(&spec).unwrap();
        let vdaf = VdafSpec {
            scheme: Scheme::Pine64,
            dimension: spec.dimension(),
            frac_bits: 15,
            shares: 2,
            votes: 0,
        };
        let manifest = Manifest {
            name: "diabetes".into(),
            title: String::new(),
            summary: String::new(),
            aggregation: key.id(),
            members: (1..=full_nodes)
                .map(|n: u8| Member {
                    node: members[usize::from(n) - 1].id(),
                    name: format!("full-{n}"),
                    hpke: SealingKey::from_seed(n, [n; 32]).config(),
                })
                .collect(),
            privacy: budget.map(|rounds| Privacy::new(&vdaf, 1, 8.0, 1e-6, rounds).unwrap()),
            vdaf,
            schedule: Schedule {
                min_batch: 2,
                max_batch: 9,
                settle_ms: 0,
                round_ms: ROUND_MS,
                rounds: budget.unwrap_or(9),
            },
            max_weight: 1,
            admission: None,
            ledger: defim_protocol::LedgerTerms::default(),
            created_ms: 0,
            learning: serde_json::value::RawValue::from_string(learning).unwrap(),
        };
        let task = VerifiedManifest::verify(manifest.sign(&key).unwrap(), None).unwrap();
        Self { key, members, task }
    }

    fn machine(&self, restored: Restored) -> Coordinator {
        Coordinator::new(self.task.clone(), self.key.clone(), None, restored).unwrap()
    }

    /// The first committee's batch of two.
    fn closed(&self, opened: &SignedText) -> ClosedBatch {
        self.closed_by(opened, 0)
    }

    /// A committee's batch of two.
    fn closed_by(&self, opened: &SignedText, committee: u32) -> ClosedBatch {
        let round = VerifiedRound::verify(opened.clone(), &self.task).unwrap();
        let all = (0_u16..).map(|n| {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&n.to_be_bytes());
            ReportId(id)
        });
        let ours = all.filter(|id| self.task.committee_of(&round, id).index() == committee);
        let ids: Vec<_> = ours.take(2).collect();
        let no = BTreeMap::new();
        let summary =
            BatchSummary::new(self.task.task(), 1, round.randomness(), committee, &ids, no)
                .unwrap();
        let seats = self.task.committee(committee).unwrap();
        let key = |node| self.members.iter().find(|key| key.id() == node).unwrap();
        ClosedBatch {
            ids,
            committee,
            signatures: seats
                .members()
                .iter()
                .map(|member| summary.sign(key(member.node)).unwrap())
                .collect(),
            rejected: Vec::new(),
        }
    }

    fn progress(&self, verified: u64) -> Input {
        let progress = Progress {
            task: self.task.task(),
            round: 1,
            committee: 0,
            phase: RoundPhase::WaitingForReports { have: 0, need: 2 },
            pending: 0,
            verified,
            rejected: vec![(6, verified)],
            at_ms: 0,
        };
        Input::Progress(self.members[0].id(), progress)
    }
}

fn told(machine: &mut Coordinator, now: u64, input: Input) -> Vec<Output> {
    machine.handle(now, input);
    std::iter::from_fn(|| machine.poll()).collect()
}

fn voided(outputs: &[Output]) -> Option<&str> {
    outputs.iter().find_map(|output| match output {
        Output::Void {
            round: 1, reason, ..
        } => Some(reason.as_str()),
        _ => None,
    })
}

#[test]
fn a_round_that_cannot_go_on_names_who_is_missing_and_ends() {
    let world = World::new();
    let [first, second] = [0, 1].map(|at| world.members[at].id());
    let mut machine = world.machine(Restored::default());
    let outputs = told(&mut machine, 0, Input::Tick);
    let Output::Open { signed, .. } = &outputs[0] else {
        panic!("no round")
    };
    assert!(machine.question(&first).is_none());
    // Two are verified, and two are enough: each leader is asked to close.
    told(&mut machine, 10, world.progress(2));
    told(&mut machine, 10, Input::Tick);
    for node in [first, second] {
        let question = machine.question(&node);
        assert!(matches!(question, Some(Request::CloseRound { .. })));
    }
    let answer = |node| Input::Answered(node, Response::Closed(vec![world.closed(signed)]));
    // Not by somebody who does not lead the committee.
    let outputs = told(&mut machine, 20, answer(second));
    assert!(
        !outputs
            .iter()
            .any(|o| matches!(o, Output::StoreClosed(1, _)))
    );
    let outputs = told(&mut machine, 20, answer(first));
    assert!(matches!(outputs[0], Output::StoreClosed(1, _)));
    assert!(machine.question(&first).is_none());
    // The other committee does not close: the round goes on without it.
    told(&mut machine, 10 + PATIENCE_MS - 1, Input::Tick);
    assert!(machine.question(&first).is_none());
    let outputs = told(&mut machine, 10 + PATIENCE_MS, Input::Tick);
    let Output::StoreSelection(1, selection) = &outputs[0] else {
        panic!("{outputs:?}")
    };
    for node in [first, second] {
        assert!(matches!(machine.question(&node), Some(Request::Encrypt(_))));
    }
    let said = |machine: &Coordinator| machine.view().unwrap().phase.text();
    assert!(said(&machine).contains("full-1"), "{}", said(&machine));
    // What a leader says meanwhile does not hide it.
    told(&mut machine, 20, world.progress(3));
    assert!(said(&machine).contains("full-1"), "{}", said(&machine));
    let last = 10 + GRACE_MS;
    assert_eq!(voided(&told(&mut machine, last, Input::Tick)), None);
    let outputs = told(&mut machine, last + 1, Input::Tick);
    assert!(voided(&outputs).unwrap().contains("full-1 and full-2"));
    assert_eq!(machine.open_round().unwrap().round, 2, "the task goes on");

    // After a restart too: from the very same selection.
    let mut machine = world.machine(Restored {
        round: Some((signed.clone(), false)),
        open: RestoredRound {
            closed: vec![world.closed(signed)],
            selection: Some(selection.clone()),
            ..RestoredRound::default()
        },
        ..Restored::default()
    });
    let Some(Request::Encrypt(asked)) = machine.question(&second) else {
        panic!("{:?}", machine.question(&second))
    };
    assert_eq!(asked.selection, *selection);
    let last = ROUND_MS + GRACE_MS;
    assert!(voided(&told(&mut machine, last, Input::Tick)).is_none());
    assert!(voided(&told(&mut machine, last + 1, Input::Tick)).is_some());
}

#[test]
fn a_batch_whose_reports_its_leader_does_not_show_is_none() {
    let world = World::new();
    let first = world.members[0].id();
    let changes: [&dyn Fn(&mut ClosedBatch); 4] = [
        &|batch| batch.ids.clear(),
        &|batch| batch.ids.reverse(),
        &|batch| batch.ids[1].0[15] ^= 1,
        &|_| {},
    ];
    for (change, right) in changes.iter().zip([false, false, false, true]) {
        let mut machine = world.machine(Restored::default());
        let outputs = told(&mut machine, 0, Input::Tick);
        let Output::Open { signed, .. } = &outputs[0] else {
            panic!("no round")
        };
        told(&mut machine, 10, world.progress(2));
        told(&mut machine, 10, Input::Tick);
        let mut batch = world.closed(signed);
        change(&mut batch);
        let answer = Response::Closed(vec![batch]);
        told(&mut machine, 20, Input::Answered(first, answer));
        let outputs = told(&mut machine, 10 + PATIENCE_MS, Input::Tick);
        let selected = outputs
            .iter()
            .any(|o| matches!(o, Output::StoreSelection(..)));
        assert_eq!(selected, right);
    }
}

#[test]
fn nothing_that_is_told_puts_the_end_of_a_round_off() {
    let world = World::new();
    let mut machine = world.machine(Restored::default());
    told(&mut machine, 0, Input::Tick);
    for step in 0..=10 {
        let now = ROUND_MS + step * GRACE_MS / 10;
        assert_eq!(voided(&told(&mut machine, now, world.progress(step))), None);
        assert_eq!(voided(&told(&mut machine, now, Input::Tick)), None);
    }
    let outputs = told(&mut machine, ROUND_MS + GRACE_MS + 1, Input::Tick);
    let why = voided(&outputs).unwrap();
    assert!(why.contains("full-1") && why.contains("full-2"), "{why}");
}

#[test]
fn a_leader_that_repeats_itself_is_news_once() {
    let world = World::new();
    let mut machine = world.machine(Restored::default());
    told(&mut machine, 0, Input::Tick);
    let news = |outputs: Vec<Output>| outputs.iter().any(|o| matches!(o, Output::Changed));
    assert!(news(told(&mut machine, 1, world.progress(1))));
    assert!(!news(told(&mut machine, 2, world.progress(1))));
}

#[test]
fn an_admin_ends_the_open_round_and_no_other() {
    let world = World::new();
    let mut machine = world.machine(Restored::default());
    told(&mut machine, 0, Input::Tick);
    let void = |round| Input::Void {
        round,
        reason: "full-1 is gone".into(),
    };
    assert_eq!(voided(&told(&mut machine, 1, void(2))), None);
    let outputs = told(&mut machine, 2, void(1));
    assert_eq!(voided(&outputs), Some("full-1 is gone"));
    assert_eq!(voided(&told(&mut machine, 3, void(1))), None);
}

#[test]
fn a_round_that_was_opened_for_another_model_is_given_up() {
    let world = World::new();
    let restored = |base_model| {
        let opened = RoundOpened {
            task: world.task.task(),
            round: 1,
            base_model,
            opened_ms: 0,
            deadline_ms: ROUND_MS,
            weights: BTreeMap::new(),
        };
        let signed: SignedText = opened.sign(&world.key).unwrap();
        world.machine(Restored {
            open: RestoredRound {
                closed: vec![world.closed(&signed)],
                ..RestoredRound::default()
            },
            round: Some((signed, false)),
            ..Restored::default()
        })
    };
    let right = world.machine(Restored::default()).model().0;
    let mut machine = restored(right);
    assert_eq!(voided(&told(&mut machine, 1, Input::Tick)), None);
    let mut machine = restored(Digest([5; 32]));
    let outputs = told(&mut machine, 1, Input::Tick);
    assert!(voided(&outputs).unwrap().contains("model"));
    let open = machine.open_round().unwrap();
    assert_eq!((open.round, open.base_model), (2, right));
}

/// A round whose first selection the full nodes are asked to encrypt: its opening, and the selection.
fn selected(world: &World, machine: &mut Coordinator) -> (SignedText, SignedText) {
    let outputs = told(machine, 0, Input::Tick);
    let Output::Open { signed, .. } = &outputs[0] else {
        panic!("no round")
    };
    told(machine, 10, world.progress(2));
    told(machine, 10, Input::Tick);
    let closed = Response::Closed(vec![world.closed(signed)]);
    let first = world.members[0].id();
    told(machine, 20, Input::Answered(first, closed));
    let outputs = told(machine, 10 + PATIENCE_MS, Input::Tick);
    let Output::StoreSelection(1, selection) = &outputs[0] else {
        panic!("{outputs:?}")
    };
    (signed.clone(), selection.clone())
}

#[test]
fn what_was_asked_to_be_encrypted_is_spent_whether_it_is_opened_or_not() {
    let void = || Input::Void {
        round: 1,
        reason: "full-1 is gone".into(),
    };
    let spent = |outputs: &[Output]| {
        let mut outputs = outputs.iter();
        outputs.find_map(|output| match output {
            Output::Void { spent, .. } => Some(*spent),
            _ => None,
        })
    };
    let world = World::with(2, Some(1));
    // Nothing was encrypted: the round has cost nothing, and the task goes on.
    let mut machine = world.machine(Restored::default());
    told(&mut machine, 0, Input::Tick);
    assert_eq!(spent(&told(&mut machine, 1, void())), Some(0));
    assert_eq!((machine.spent(), machine.is_complete()), (0, false));
    told(&mut machine, 2, Input::Tick);
    assert_eq!(machine.open_round().unwrap().round, 2);

    let mut machine = world.machine(Restored::default());
    let (signed, selection) = selected(&world, &mut machine);
    assert_eq!(machine.spent(), 1, "also while the round is open");
    assert_eq!(spent(&told(&mut machine, 20_000, void())), Some(1));
    assert_eq!((machine.spent(), machine.is_complete()), (1, true));
    told(&mut machine, 20_001, Input::Tick);
    assert!(machine.open_round().is_none(), "the budget was for one");

    // After a restart too, also if what is stored does not fit together.
    for closed in [vec![world.closed(&signed)], Vec::new()] {
        let mut machine = world.machine(Restored {
            round: Some((signed.clone(), false)),
            open: RestoredRound {
                closed,
                selection: Some(selection.clone()),
                ..RestoredRound::default()
            },
            ..Restored::default()
        });
        assert_eq!(machine.spent(), 1);
        assert_eq!(spent(&told(&mut machine, 20_000, void())), Some(1));
        assert!(machine.is_complete());
    }
}

#[test]
fn committees_of_a_node_that_the_ledger_has_put_out_are_neither_waited_for_nor_selected() {
    let world = World::with(3, None);
    let gone = world.members[2].id();
    let mut machine = world.machine(Restored::default());
    told(&mut machine, 0, Input::Absent([gone].into()));
    let outputs = told(&mut machine, 1, Input::Tick);
    let Output::Open { signed, .. } = &outputs[0] else {
        panic!("no round")
    };
    let (with, without): (Vec<_>, Vec<_>) = world.task.committees().partition(|committee| {
        let members = committee.members();
        members.iter().any(|member| member.node == gone)
    });
    let said = |committee: &defim_protocol::Committee, verified| {
        let progress = Progress {
            task: world.task.task(),
            round: 1,
            committee: committee.index(),
            phase: RoundPhase::WaitingForReports { have: 0, need: 2 },
            pending: 0,
            verified,
            rejected: Vec::new(),
            at_ms: 0,
        };
        Input::Progress(committee.leader().node, progress)
    };
    // Reports that cannot be counted do not close the round.
    for committee in &with {
        told(&mut machine, 10, said(committee, 5));
    }
    told(&mut machine, 10, Input::Tick);
    let ready = |machine: &Coordinator| machine.question(&world.members[0].id()).is_some();
    assert!(!ready(&machine));
    told(&mut machine, 20, said(&without[0], 2));
    told(&mut machine, 20, Input::Tick);
    assert!(ready(&machine) && machine.question(&gone).is_none());
    // Nobody waits for the others, and what they agree on is left out.
    let mut outputs = Vec::new();
    for committee in world.task.committees() {
        let closed = world.closed_by(signed, committee.index());
        let answer = Response::Closed(vec![closed]);
        outputs.extend(told(
            &mut machine,
            30,
            Input::Answered(committee.leader().node, answer),
        ));
    }
    let selections: Vec<defim_protocol::sum::Selection> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::StoreSelection(1, signed) => serde_json::from_str(&signed.payload).ok(),
            _ => None,
        })
        .collect();
    let [selection] = &selections[..] else {
        panic!("{} selections", selections.len())
    };
    let selected: Vec<_> = selection.batches.keys().copied().collect();
    let usable: Vec<_> = without.iter().map(|committee| committee.index()).collect();
    assert_eq!(selected, usable);
}
