//! The whole mesh in virtual time, with a few seeds; `cargo xtask sim --scenario mesh` takes more.

use defim_sim::whole::{Lie, play, play_with};
use defim_validation::sim::Trouble;

/// With one trouble each, in which nothing may be wrong.
fn holds(lie: Lie, troubles: &[Trouble]) {
    for (seed, trouble) in (1..).zip(troubles) {
        let outcome = play_with(seed, lie, *trouble);
        assert_eq!(
            outcome.violations,
            Vec::<String>::new(),
            "seed {seed} of {lie} with {trouble}"
        );
    }
}

#[test]
fn three_rounds_are_finished_and_paid_whatever_happens_among_the_validators() {
    holds(Lie::Nobody, &Trouble::ALL);
}

#[test]
fn a_replayed_report_counts_and_pays_once() {
    holds(Lie::Replay, &[Trouble::Calm, Trouble::Restart]);
}

#[test]
fn another_model_voids_the_round_and_slashes_the_aggregation_node() {
    holds(Lie::Model, &[Trouble::Calm, Trouble::Liar]);
}

#[test]
fn another_total_does_too() {
    holds(Lie::Total, &[Trouble::Calm, Trouble::Twins]);
}

#[test]
fn a_ciphertext_that_is_left_out_does_too() {
    holds(Lie::Ciphertext, &[Trouble::Calm, Trouble::Partition]);
}

#[test]
fn the_record_of_an_old_round_does_too() {
    holds(Lie::OldRecord, &[Trouble::Calm, Trouble::Loss]);
}

#[test]
fn a_batch_that_is_none_slashes_its_leader() {
    holds(Lie::Batch, &[Trouble::Calm, Trouble::Crash]);
}

#[test]
fn a_lie_that_nobody_looked_at_would_be_found() {
    let found = play_with(1, Lie::Unseen, Trouble::Calm).violations;
    assert!(
        found.iter().any(|found| found.contains("was accepted")),
        "{found:?}"
    );
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    let once = play(8, Lie::Model);
    assert_eq!(once, play(8, Lie::Model));
    assert_ne!(once.trace, play(9, Lie::Model).trace);
}
