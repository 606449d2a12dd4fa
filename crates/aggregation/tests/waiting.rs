//! Rounds that cannot be finished end, say why, and never touch the wrong model.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::sync::Arc;

use defim_aggregation::coordinator::{Coordinator, Input, Output, Restored, SILENCE_MS};
use defim_learn::builtin;
use defim_protocol::{
    Digest, Manifest, Member, NodeId, NodeKey, ReportId, RoundOpened, RoundPhase, Schedule,
    VerifiedManifest,
    batch::BatchSummary,
    seal::SealingKey,
    vdaf::{Scheme, VdafSpec},
    wire::{Progress, Submission},
};
use serde_json::value::RawValue;

const ROUND_MS: u64 = 60_000;

fn key(n: u8) -> NodeKey {
    NodeKey::from_seed([n; 32])
}

fn member(n: u8) -> NodeId {
    key(n).id()
}

fn manifest() -> VerifiedManifest {
    let spec = builtin("diabetes", None).unwrap().spec;
    let seat = |n: u8| Member {
        node: member(n),
        name: format!("full-{n}"),
        hpke: SealingKey::from_seed(n, [n; 32]).config(),
    };
    let manifest = Manifest {
        name: "diabetes".into(),
        title: "t".into(),
        summary: String::new(),
        aggregation: member(9),
        members: vec![seat(1), seat(2)],
        vdaf: VdafSpec {
            scheme: Scheme::Pine64,
            dimension: spec.dimension(),
            frac_bits: spec.frac_bits,
        },
        schedule: Schedule {
            min_batch: 2,
            max_batch: 10,
            settle_ms: 0,
            round_ms: ROUND_MS,
            rounds: 3,
        },
        created_ms: 0,
        learning: RawValue::from_string(serde_json::to_string(&spec).unwrap()).unwrap(),
    };
    VerifiedManifest::verify(manifest.sign(&key(9)).unwrap(), None).unwrap()
}

fn coordinator(restored: Restored) -> Coordinator {
    Coordinator::new(manifest(), Arc::new(key(9)), None, restored).unwrap()
}

fn submission(task: &VerifiedManifest, ids: [u8; 2]) -> Submission {
    let ids = ids.map(|id| ReportId([id; 16]));
    let summary = BatchSummary::new(task.task(), 1, &ids, Default::default()).unwrap();
    Submission {
        task: task.task(),
        round: 1,
        signatures: [1, 2].map(|n| summary.sign(&key(n)).unwrap()).to_vec(),
        share: vec![0; 8 * task.vdaf.dimension],
    }
}

fn voided(machine: &mut Coordinator) -> Option<String> {
    std::iter::from_fn(|| machine.poll()).find_map(|output| match output {
        Output::Void { reason, .. } => Some(reason),
        _ => None,
    })
}

#[test]
fn a_round_with_one_members_share_ends_and_names_the_other() {
    let mut machine = coordinator(Restored::default());
    machine.handle(0, Input::Tick);
    let share = submission(machine.task(), [1, 2]);
    machine.handle(1_000, Input::Submitted(member(2), share));
    assert_eq!(machine.missing(), ["full-1"]);
    machine.handle(ROUND_MS + SILENCE_MS, Input::Tick);
    assert_eq!(voided(&mut machine), None, "the other share may still come");
    machine.handle(ROUND_MS + SILENCE_MS + 1, Input::Tick);
    let reason = voided(&mut machine).unwrap();
    assert!(
        reason.contains("full-1") && !reason.contains("full-2"),
        "{reason}"
    );
    assert_eq!(
        machine.open_round().unwrap().round,
        2,
        "the next round is open"
    );
}

#[test]
fn talk_without_a_step_forward_does_not_keep_a_round_open() {
    let mut machine = coordinator(Restored::default());
    machine.handle(0, Input::Tick);
    let progress = |rejected: u64, verified: u64| Progress {
        task: machine.task().task(),
        round: 1,
        phase: RoundPhase::WaitingForReports { have: 1, need: 2 },
        pending: rejected,
        verified,
        rejected: Vec::new(),
        at_ms: 0,
    };
    let (idle, forward) = (progress(7, 0), progress(7, 1));
    let late = ROUND_MS + SILENCE_MS;
    // A verified report is a step forward; the same again is not.
    machine.handle(late, Input::Progress(member(1), forward.clone()));
    machine.handle(late + 1, Input::Tick);
    assert_eq!(voided(&mut machine), None);
    machine.handle(late + SILENCE_MS, Input::Progress(member(1), idle));
    machine.handle(late + SILENCE_MS + 1, Input::Progress(member(1), forward));
    machine.handle(late + SILENCE_MS + 2, Input::Tick);
    let _ = voided(&mut machine).unwrap();
}

#[test]
fn a_round_that_starts_from_another_model_is_given_up() {
    let opened = RoundOpened {
        task: manifest().task(),
        round: 4,
        base_model: Digest::of(b"a model that was lost"),
        opened_ms: 0,
        deadline_ms: ROUND_MS,
    };
    let mut machine = coordinator(Restored {
        round: Some((opened.sign(&key(9)).unwrap(), false)),
        ..Restored::default()
    });
    machine.handle(1, Input::Tick);
    let reason = voided(&mut machine).unwrap();
    assert!(reason.contains("model"), "{reason}");
    let open = machine.open_round().unwrap();
    assert_eq!((open.round, open.base_model), (5, machine.model().0));
}
