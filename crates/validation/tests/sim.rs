//! Every scenario, with a few seeds; `cargo xtask sim` takes more.

use defim_validation::sim::{Outcome, Scenario, run};

const SEEDS: u64 = 3;

/// Goes through seeds; returns their outcomes, in which nothing may be wrong.
fn through(scenario: Scenario) -> Vec<Outcome> {
    (0..SEEDS)
        .map(|seed| {
            let outcome = run(seed, scenario);
            assert_eq!(
                outcome.violations,
                Vec::<String>::new(),
                "seed {seed} of {scenario}"
            );
            outcome
        })
        .collect()
}

#[test]
fn four_validators_make_blocks_over_several_epochs() {
    for outcome in through(Scenario::Steady) {
        assert!(outcome.heights.iter().all(|height| *height >= 16));
    }
}

#[test]
fn an_idle_chain_makes_a_block_an_idle_time_and_takes_a_transaction_at_once() {
    through(Scenario::Idle);
}

#[test]
fn at_the_beginning_of_an_epoch_no_leader_is_passed_over_by_some_of_the_others() {
    // With this one the votes of the second view's leader come last.
    let outcome = run(807, Scenario::Idle);
    assert_eq!(outcome.violations, Vec::<String>::new());
}

#[test]
fn a_deep_check_keeps_out_what_it_refuses_and_holds_nothing_else_up() {
    through(Scenario::Check);
}

#[test]
fn one_of_four_may_crash() {
    through(Scenario::Crash);
}

#[test]
fn two_of_four_make_nothing_final_and_go_on_when_one_is_back() {
    through(Scenario::Halt);
}

#[test]
fn a_partition_heals() {
    through(Scenario::Partition);
}

#[test]
fn lost_and_late_messages_break_nothing() {
    through(Scenario::Loss);
}

#[test]
fn one_that_signs_two_votes_splits_nobody() {
    through(Scenario::Liar);
}

#[test]
fn one_that_sends_its_two_votes_to_different_others_is_noticed() {
    through(Scenario::Apart);
}

#[test]
fn one_that_signs_another_block_afterwards_is_noticed() {
    through(Scenario::Afterwards);
}

#[test]
fn one_that_runs_twice_with_one_key_splits_nobody() {
    through(Scenario::Twins);
}

#[test]
fn validators_killed_at_any_time_start_again_from_their_files() {
    through(Scenario::Restart);
}

#[test]
fn all_lose_power_and_no_final_block() {
    through(Scenario::PowerCut);
}

#[test]
fn a_validator_joins_and_one_leaves() {
    through(Scenario::Change);
}

#[test]
fn a_fresh_validator_catches_up_over_epochs() {
    for outcome in through(Scenario::Late) {
        assert!(outcome.heights.iter().all(|height| *height >= 16));
    }
}

#[test]
fn a_split_would_be_found() {
    let outcome = run(1, Scenario::TooMany);
    let split = "different final blocks at height 1";
    assert!(
        outcome.violations.iter().any(|found| found.contains(split)),
        "{outcome:?}"
    );
}

#[test]
fn the_same_seed_is_the_same_run_and_another_is_another() {
    for scenario in [Scenario::Restart, Scenario::Twins, Scenario::PowerCut] {
        let once = run(5, scenario);
        assert_eq!(once, run(5, scenario), "{scenario}");
        assert_ne!(once.trace, run(6, scenario).trace, "{scenario}");
    }
}
