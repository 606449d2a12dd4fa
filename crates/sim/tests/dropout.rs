//! Full nodes go away at every moment of a round: what can be opened is, what cannot is voided, nothing else
//! is lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{World, still};
use defim_protocol::{Committee, RoundPhase, vdaf::Scheme};
use defim_sim::{RoundResult, Steps};

/// What these tests do with a world.
impl World {
    fn new(full: u8, scheme: Scheme) -> Self {
        Self::of(full, scheme, 2)
    }

    /// Run until the round is in this phase.
    fn until(&mut self, wanted: impl Fn(&RoundPhase) -> bool) {
        for _ in 0..1_000 {
            let ended = self.mesh.settle(&still, &mut Steps::default()).unwrap();
            assert!(ended.is_none(), "{ended:?}");
            if wanted(&self.mesh.coordinator().view().unwrap().phase) {
                return;
            }
            self.mesh.wait(200);
        }
        panic!("{:?}", self.mesh.coordinator().view());
    }

    /// How many reports were counted, or why none.
    fn ended(&mut self) -> Result<u64, String> {
        match self.finish() {
            RoundResult::Completed(done) => Ok(done.reports),
            RoundResult::Voided(why) => Err(why),
        }
    }
}

fn has(committee: &Committee, name: &str) -> bool {
    committee.members().iter().any(|m| m.name == name)
}

#[test]
fn every_number_of_full_nodes_gives_the_same_model() {
    for scheme in [Scheme::Pine64, Scheme::Pine32Hmac] {
        let mut models = Vec::new();
        for full in [2, 3, 5] {
            let mut world = World::new(full, scheme);
            for party in 0..6 {
                world.upload_where(party, |_| true);
            }
            assert_eq!(world.ended(), Ok(6));
            models.push(world.mesh.coordinator().model().0);
        }
        models.dedup();
        assert_eq!(models.len(), 1, "sums are exact, whoever adds them");
    }
}

#[test]
fn a_full_node_that_lies_about_keys_costs_nothing_while_enough_others_answer() {
    let mut honest = World::new(3, Scheme::Pine64);
    for party in 0..6 {
        honest.upload_where(party, |_| true);
    }
    assert_eq!(honest.ended(), Ok(6));
    for liar in 0..3 {
        let mut world = World::new(3, Scheme::Pine64);
        world.mesh.lie_about_keys(liar);
        for party in 0..6 {
            world.upload_where(party, |_| true);
        }
        assert_eq!(world.ended(), Ok(6), "full node {liar} lies");
        assert_eq!(
            world.mesh.coordinator().model(),
            honest.mesh.coordinator().model()
        );
        // With another one away there are too few good answers, and nothing wrong is opened.
        world.round = world.mesh.open_round().unwrap();
        for party in 0..6 {
            world.upload_where(party, |_| true);
        }
        world.until(|phase| matches!(phase, RoundPhase::Decrypting { .. }));
        world.mesh.set_up((liar + 1) % 3, false);
        assert!(world.ended().is_err());
    }
}

#[test]
fn once_sums_are_encrypted_all_but_the_threshold_may_go() {
    for (full, gone) in [(3_u8, 1), (4, 1), (6, 2)] {
        let mut world = World::new(full, Scheme::Pine64);
        for party in 0..6 {
            world.upload_where(party, |_| true);
        }
        world.mesh.vanish_after_encrypting(gone);
        assert_eq!(world.ended(), Ok(6), "{gone} of {full} gone");
        // They come back for the next round.
        world.round = world.mesh.open_round().unwrap();
        for party in 0..4 {
            world.upload_where(party, |_| true);
        }
        assert_eq!(world.ended(), Ok(4));
    }
}

#[test]
fn with_too_few_left_the_round_is_voided_and_the_next_one_runs() {
    let mut world = World::new(3, Scheme::Pine64);
    let before = world.mesh.coordinator().model().0;
    for party in 0..6 {
        world.upload_where(party, |_| true);
    }
    world.mesh.vanish_after_encrypting(2);
    assert_eq!(
        world.ended().unwrap_err(),
        "1 of 3 full nodes have opened the total, 2 are needed"
    );
    assert_eq!(world.mesh.coordinator().model().0, before);
    world.round = world.mesh.open_round().unwrap();
    world.mesh.vanish_after_encrypting(0);
    for party in 0..4 {
        world.upload_where(party, |_| true);
    }
    assert_eq!(world.ended(), Ok(4));
}

#[test]
fn a_node_that_goes_before_it_has_encrypted_costs_its_committees_only() {
    let mut world = World::new(3, Scheme::Pine64);
    for party in 0..3 {
        world.upload_where(party, |committee| !has(committee, "full-3"));
    }
    world.upload_where(3, |committee| has(committee, "full-3"));
    // All four are verified, and then the third node is gone.
    world.until(|phase| matches!(phase, RoundPhase::Settling { have: 4 }));
    world.mesh.set_up(2, false);
    assert_eq!(world.ended(), Ok(3), "the three of the others");
}

#[test]
fn a_node_that_goes_while_sums_are_encrypted_is_left_out() {
    let mut world = World::new(4, Scheme::Pine64);
    for party in 0..4 {
        world.upload_where(party, |committee| !has(committee, "full-4"));
    }
    world.upload_where(4, |committee| committee.leader().name == "full-4");
    world.until(|phase| matches!(phase, RoundPhase::Settling { .. }));
    world.mesh.wait(2_000);
    // It closes its committees and goes.
    world.until(|phase| matches!(phase, RoundPhase::Closing | RoundPhase::Encrypting { .. }));
    world.mesh.set_up(3, false);
    let counted = world.ended().unwrap();
    assert!(counted == 4 || counted == 5, "{counted}");
}

#[test]
fn reports_that_only_a_lost_node_has_are_voided_by_name() {
    let mut world = World::new(3, Scheme::Pine64);
    for party in 0..3 {
        world.upload_where(party, |committee| committee.leader().name == "full-3");
    }
    world.until(|phase| matches!(phase, RoundPhase::Settling { have: 3 }));
    world.mesh.set_up(2, false);
    let why = world.ended().unwrap_err();
    assert!(why.contains("full-3"), "{why}");
}
