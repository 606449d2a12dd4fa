//! Contributors' votes on the model, from their rows to the gate.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::time::Duration;

use defim_learn::{builtin, builtin_csv};
use defim_protocol::{vdaf::Scheme, vote::BINS};
use defim_sim::{Attack, AttackKind, RoundReport, Setup, SimError, run};

const fn still() -> Duration {
    Duration::ZERO
}

fn setup(task: &str) -> Setup {
    let spec = builtin(task, None).unwrap().spec;
    let rows = spec
        .schema
        .read_csv(builtin_csv(task).unwrap(), &Default::default())
        .unwrap();
    Setup {
        spec,
        rows,
        light: 36,
        silos: 0,
        rounds: 8,
        seed: 1,
        scheme: Scheme::Pine64,
        full: 3,
        shares: 2,
        votes: BINS,
        fairness_gap_ppm: 300_000,
        vanishing: 0,
        privacy: None,
        max_weight: 1,
        enrolled: false,
        attack: None,
    }
}

fn ran(setup: &Setup) -> (Vec<RoundReport>, Result<(), SimError>) {
    let mut rounds = Vec::new();
    let end = run(setup, &still, &mut |round| rounds.push(round.clone()));
    (rounds, end.map(drop))
}

#[test]
fn contributors_whose_rows_are_alike_vote_alike_and_see_the_model_learn() {
    let mut setup = setup("digits");
    setup.silos = 1;
    setup.max_weight = 5;
    let (rounds, end) = ran(&setup);
    end.unwrap();
    let votes: Vec<_> = rounds.iter().map(|r| r.votes.clone().unwrap()).collect();
    for round in &votes {
        // The silo's report counts five times, and votes once.
        assert_eq!(round.bins.iter().sum::<i64>(), 37, "{:?}", round.bins);
    }
    let (first, last) = (&votes[0], &votes[7]);
    // What it says of the model before the last round is what hold-out rows say of it.
    assert!(first.mean < 0.3 && last.mean > 0.8, "{first:?} {last:?}");
    let held_out = rounds[6].metrics.accuracy.unwrap();
    assert!((last.mean - held_out).abs() < 0.1, "{last:?} {held_out}");
}

#[test]
fn a_group_that_the_model_does_badly_on_stops_it() {
    let mut setup = setup("digits");
    setup.attack = Some(Attack {
        kind: AttackKind::LabelFlip,
        share: 0.25,
    });
    let (rounds, end) = ran(&setup);
    let Err(SimError::Voided { round, why }) = end else {
        panic!("a quarter of them is left behind: {rounds:?}")
    };
    assert!(
        round > 1 && why.contains("the quarter that it serves worst"),
        "{round} {why}"
    );
    // Of so few, a handful is no group.
    setup.light = 28;
    ran(&setup).1.unwrap();
    // The same where nobody votes.
    setup.light = 36;
    setup.votes = 0;
    let (rounds, end) = ran(&setup);
    end.unwrap();
    assert!(rounds.iter().all(|round| round.votes.is_none()));
}

#[test]
fn noise_hides_votes_and_voids_no_round() {
    let mut setup = setup("digits");
    setup.rounds = 3;
    setup.privacy = Some((8.0, 1e-5));
    let (rounds, end) = ran(&setup);
    end.unwrap();
    let exact = |round: &RoundReport| round.votes.clone().unwrap().bins.iter().all(|n| *n >= 0);
    assert!(!rounds.iter().all(exact), "noise makes some negative");
}

#[test]
fn a_task_that_learns_a_number_has_no_votes() {
    let (_, end) = ran(&setup("diabetes"));
    let why = end.unwrap_err().to_string();
    assert!(why.contains("this task learns a number"), "{why}");
}
