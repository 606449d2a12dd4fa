//! What goes wrong in a round is refused, each with its own reason.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod mesh;

use std::collections::BTreeMap;

use defim_he::holder::{Holder, Refusal, Slot, Step};
use defim_he::params::{Dimension, FIELD};
use defim_he::{
    Adding, Ciphertext, HolderIndex, Member, NodeId, OpenError, Opening, OpeningError, Round,
    SecretKey, SharingError, Sum, SumError, SumKey, SumShare, Threshold, VerifiedOpening, open,
};
use mesh::{Mesh, REPORTS, ROUND, plain_sum};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

fn holder(place: u8) -> HolderIndex {
    HolderIndex::new(place).unwrap()
}

#[test]
fn a_changed_ciphertext_byte_is_found_and_its_node_named() {
    let mesh = Mesh::random(4, 5000, 1);
    let opening = mesh.all();
    for at in [0, 7, 40_960, 81_919] {
        let mut bytes = mesh.ciphertexts[2].to_bytes();
        bytes[at] ^= 1;
        let mut ciphertexts = mesh.ciphertexts.clone();
        ciphertexts[2] = Ciphertext::from_bytes(mesh.dimension(), &bytes).unwrap();
        assert_eq!(
            opening.sum(mesh.dimension(), &ciphertexts),
            Err(SumError::Changed(mesh.nodes[2])),
            "byte {at}"
        );
    }
}

/// Whoever adds without looking at the roots still does not open what was changed all over.
#[test]
fn a_replaced_ciphertext_does_not_open() {
    let mut mesh = Mesh::random(4, 5000, 2);
    let (_, key) = mesh.finish();
    let mut adding = Adding::new(mesh.dimension());
    let mut rng = StdRng::seed_from_u64(5);
    let other = SecretKey::random(&mut rng)
        .encrypt(ROUND, &mesh.vectors[3], &mut rng)
        .unwrap();
    for ciphertext in mesh.ciphertexts.iter().take(3).chain([&other]) {
        adding.add(ciphertext).unwrap();
    }
    let error = open(ROUND, &adding.finish(), &key).unwrap_err();
    assert!(
        matches!(error, OpenError::Residual { block: 0, .. }),
        "{error}"
    );
    assert!(
        error
            .to_string()
            .contains("wrong key or changed ciphertext")
    );
}

/// The shortest vector too: the filling of its block is noise.
#[test]
fn a_wrong_key_opens_nothing_not_even_one_coordinate() {
    for parties in [2, 4, 32] {
        let mut mesh = Mesh::random(parties, 1, 3);
        let (sum, _) = mesh.finish();
        let (_, wrong) = Mesh::random(parties, 1, 4).finish();
        assert!(open(ROUND, &sum, &wrong).is_err(), "{parties} nodes");
        let next = Round {
            number: ROUND.number + 1,
            ..ROUND
        };
        let (_, right) = Mesh::random(parties, 1, 3).finish();
        assert!(open(next, &sum, &right).is_err(), "another round's mask");
        assert!(open(ROUND, &sum, &right).is_ok());
    }
}

/// A node that hides something after the last coordinate, and a sum of more than it says.
#[test]
fn what_no_honest_sum_holds_is_not_opened() {
    let mut mesh = Mesh::random(2, 4096, 16);
    let (sum, key) = mesh.finish();
    let shorter = Dimension::new(4000).unwrap();
    let cut = Sum::from_bytes(shorter, 2, &sum.to_bytes()).unwrap();
    assert_eq!(
        open(ROUND, &cut, &key),
        Err(OpenError::Range {
            block: 0,
            coefficient: 4000
        })
    );
    let mut mesh = Mesh::new(vec![vec![FIELD - 1; 10]; 32], 17);
    let (sum, key) = mesh.finish();
    let fewer = Sum::from_bytes(mesh.dimension(), 16, &sum.to_bytes()).unwrap();
    assert_eq!(
        open(ROUND, &fewer, &key),
        Err(OpenError::Range {
            block: 0,
            coefficient: 0
        })
    );
    let none = Adding::new(mesh.dimension()).finish();
    assert_eq!(open(ROUND, &none, &key), Err(OpenError::Empty));
}

#[test]
fn a_wrong_answer_is_found_by_the_others_or_by_the_opening() {
    let mut mesh = Mesh::random(4, 100, 5);
    let opening = mesh.all();
    let sum = opening.sum(mesh.dimension(), &mesh.ciphertexts).unwrap();
    let honest: Vec<SumShare> = (0..4).map(|i| mesh.answer(i, &opening).unwrap()).collect();
    let mut bytes = honest[0].to_bytes();
    *bytes.last_mut().unwrap() ^= 1;
    let mut answers = honest.clone();
    answers[0] = SumShare::from_bytes(&bytes).unwrap();
    assert_eq!(
        SumKey::from_answers(mesh.threshold, &answers),
        Err(SharingError::Inconsistent(holder(4)))
    );
    // Exactly as many as are needed: nobody is left to contradict.
    let key = SumKey::from_answers(mesh.threshold, &answers[..3]).unwrap();
    assert!(open(ROUND, &sum, &key).is_err());
    let key = SumKey::from_answers(mesh.threshold, &honest[1..]).unwrap();
    assert_eq!(open(ROUND, &sum, &key).unwrap(), plain_sum(&mesh.vectors));
    // One holder's answer under another's name.
    let mut bytes = honest[0].to_bytes();
    let place = SumShare::BYTES - defim_he::params::BLOCK_BYTES - 1;
    bytes[place] = 2;
    let renamed = SumShare::from_bytes(&bytes).unwrap();
    let answers = [renamed, honest[2].clone(), honest[3].clone()];
    let key = SumKey::from_answers(mesh.threshold, &answers).unwrap();
    assert!(open(ROUND, &sum, &key).is_err());
}

#[test]
fn answers_that_are_too_few_twice_or_for_another_set_are_refused() {
    let mut mesh = Mesh::random(6, 10, 6);
    let (all, four) = (mesh.all(), mesh.opening(0..4));
    let answers: Vec<SumShare> = (0..5).map(|i| mesh.answer(i, &all).unwrap()).collect();
    let other = mesh.answer(5, &four).unwrap();
    let key = |answers: &[SumShare]| SumKey::from_answers(mesh.threshold, answers).map(|_| ());
    assert_eq!(
        key(&answers[..3]),
        Err(SharingError::TooFew { have: 3, needed: 4 })
    );
    assert_eq!(key(&[]), Err(SharingError::TooFew { have: 0, needed: 4 }));
    let twice = [&answers[..3], &answers[..1]].concat();
    assert_eq!(key(&twice), Err(SharingError::Duplicate(holder(1))));
    let mixed = [&answers[..3], &[other]].concat();
    assert_eq!(key(&mixed), Err(SharingError::OtherSet(holder(6))));
    let fewer = Threshold::new(3, 4).unwrap();
    assert_eq!(
        SumKey::from_answers(fewer, &answers),
        Err(SharingError::Stranger {
            index: holder(5),
            holders: 4
        })
    );
    assert!(key(&answers).is_ok());
}

#[test]
fn thresholds_that_two_groups_could_meet_are_refused() {
    for (needed, holders) in [(0, 0), (1, 1), (1, 2), (2, 4), (16, 32), (3, 2), (20, 33)] {
        assert!(
            Threshold::new(needed, holders).is_err(),
            "{needed} of {holders}"
        );
    }
    for (holders, needed) in [(2, 2), (3, 2), (4, 3), (7, 5), (32, 22)] {
        assert_eq!(Threshold::two_thirds(holders).unwrap().needed(), needed);
    }
    assert!(Threshold::two_thirds(1).is_err() && Threshold::two_thirds(255).is_err());
    assert!(HolderIndex::new(0).is_err() && HolderIndex::new(33).is_err());
}

#[test]
fn a_missing_ciphertext_or_key_share_names_its_node() {
    let mut mesh = Mesh::random(4, 10, 7);
    let opening = mesh.all();
    assert_eq!(
        opening.sum(mesh.dimension(), &mesh.ciphertexts[..3]),
        Err(SumError::Missing(mesh.nodes[3]))
    );
    let more: Vec<_> = mesh
        .ciphertexts
        .iter()
        .chain(&mesh.ciphertexts[..1])
        .collect();
    assert_eq!(opening.sum(mesh.dimension(), more), Err(SumError::Unasked));
    mesh.holders[0] = Holder::new();
    assert_eq!(
        mesh.answer(0, &opening),
        Err(Refusal::MissingShare(mesh.nodes[0]))
    );
}

#[test]
fn a_second_set_of_the_round_is_refused_forever_and_the_same_set_is_not() {
    let mut mesh = Mesh::random(6, 10, 8);
    let (all, four) = (mesh.all(), mesh.opening(0..4));
    let first = mesh.answer(0, &all).unwrap();
    let refused = Err(Refusal::OtherSet {
        answered: all.digest(),
        asked: four.digest(),
    });
    assert_eq!(mesh.answer(0, &four), refused);
    assert_eq!(mesh.answer(0, &all).unwrap(), first);
    // The same nodes with one ciphertext swapped are another set.
    let mut members: Vec<Member> = all.members().to_vec();
    members[0].ciphertext.0[0] ^= 1;
    let swapped = Opening::new(ROUND, members).unwrap();
    assert!(matches!(
        mesh.answer(0, &swapped),
        Err(Refusal::OtherSet { .. })
    ));
    // After a restart from the record too.
    let rules = mesh.rules(holder(1));
    let signed = mesh.signed(&all);
    let step = mesh.holders[0].answer(&rules, &signed).unwrap();
    let record = step.record().to_vec();
    mesh.holders[0] = Holder::restore([&record[..]]).unwrap();
    assert_eq!(mesh.answer(0, &four), refused);
    assert_eq!(mesh.answer(0, &all).unwrap(), first);
    // Over is over, across a restart.
    let record = mesh.holders[0].close(ROUND).record().to_vec();
    assert_eq!(mesh.answer(0, &all), Err(Refusal::Closed));
    mesh.holders[0] = Holder::restore([&record[..]]).unwrap();
    assert_eq!(mesh.answer(0, &all), Err(Refusal::Closed));
}

/// A crash after the decision and before the write: nothing has left the node, and the record of before has the
/// shares. While it runs, the holder keeps to its decision.
#[test]
fn a_failed_write_does_not_allow_a_second_set() {
    let mut mesh = Mesh::random(6, 10, 9);
    let (all, four) = (mesh.signed(&mesh.all()), mesh.opening(0..4));
    let rules = mesh.rules(holder(1));
    drop(mesh.holders[0].answer(&rules, &all).unwrap());
    assert!(matches!(
        mesh.answer(0, &four),
        Err(Refusal::OtherSet { .. })
    ));
}

/// A disk: what the records of a holder are by slot.
#[derive(Default)]
struct Disk(BTreeMap<Slot, Vec<u8>>);

impl Disk {
    fn put<T>(&mut self, step: Step<T>) -> T {
        let slot = step.slot();
        if step.last() {
            self.0.retain(|other, _| other.round != slot.round);
        }
        self.0.insert(slot, step.record().to_vec());
        step.written()
    }

    fn restored(&self) -> Holder {
        Holder::restore(self.0.values().map(Vec::as_slice)).unwrap()
    }
}

/// Shares on disk outlive a restart until the set is answered; then the answer does and they are gone.
#[test]
fn a_restarted_holder_answers_and_its_shares_are_gone_from_disk() {
    let mesh = Mesh::random(4, 10, 10);
    let rules = mesh.rules(holder(1));
    let round = Round {
        number: 99,
        ..ROUND
    };
    let share = |k: u64| {
        let mut rng = StdRng::seed_from_u64(k);
        SecretKey::random(&mut rng)
            .share(mesh.threshold, &mut rng)
            .remove(0)
    };
    let (mut disk, mut live) = (Disk::default(), Holder::new());
    for (k, node) in (0..).zip(&mesh.nodes) {
        disk.put(live.keep(&rules, round, *node, share(k)).unwrap());
        // Sent again, as after a lost acknowledgement.
        disk.put(live.keep(&rules, round, *node, share(k)).unwrap());
        let changed = live.keep(&rules, round, *node, share(k + 1)).map(|_| ());
        assert_eq!(changed, Err(Refusal::ShareChanged(*node)));
    }
    let holds = |disk: &Disk, k: u64| {
        let secret = share(k).to_bytes();
        let mut records = disk.0.values();
        records.any(|r| r.windows(64).any(|w| w == &secret[64..128]))
    };
    assert!((0..4).all(|k| holds(&disk, k)));
    let shares = disk.0.clone();
    let opening = Opening::new(round, mesh.all().members().to_vec()).unwrap();
    let verified = mesh.signed(&opening);
    let mut restarted = disk.restored();
    let answer = disk.put(restarted.answer(&rules, &verified).unwrap());
    assert_eq!(live.answer(&rules, &verified).unwrap().written(), answer);
    assert!((0..4).all(|k| !holds(&disk, k)));
    assert_eq!(disk.0.len(), 1);
    // No share comes after it.
    let late = restarted
        .keep(&rules, round, mesh.nodes[0], share(0))
        .map(|_| ());
    assert_eq!(late, Err(Refusal::Closed));
    // A crash between writing the answer and deleting the shares: the answer counts.
    disk.0.extend(shares);
    let mut crashed = disk.restored();
    let mut members = opening.members().to_vec();
    members[0].ciphertext.0[0] ^= 1;
    let other = mesh.signed(&Opening::new(round, members).unwrap());
    assert!(matches!(
        crashed.answer(&rules, &other).map(|_| ()),
        Err(Refusal::OtherSet { .. })
    ));
    assert_eq!(crashed.answer(&rules, &verified).unwrap().written(), answer);
    // A slot twice is a broken disk, and no holder.
    let record = disk.0.values().next().unwrap();
    assert!(Holder::restore([&record[..], &record[..]]).is_err());
    assert!(Holder::restore([&record[1..]]).is_err());
}

#[test]
fn sets_that_break_a_rule_of_the_task_are_refused() {
    let mut mesh = Mesh::random(6, 10, 12);
    let one_committee = mesh.opening([0, 1]);
    assert_eq!(
        mesh.answer(0, &one_committee),
        Err(Refusal::TooFewCommittees { have: 1, need: 2 })
    );
    // A member that comes without the other knows its own share and takes it off the total.
    let half = mesh.opening([0, 1, 2]);
    assert_eq!(
        mesh.answer(0, &half),
        Err(Refusal::IncompleteCommittee {
            committee: 1,
            missing: mesh.nodes[3]
        })
    );
    let change = |change: fn(&mut Member)| {
        let mut members: Vec<Member> = (0..4).map(|k| mesh.member(k)).collect();
        members.iter_mut().for_each(change);
        Opening::new(ROUND, members).unwrap()
    };
    let few = change(|m| m.reports = REPORTS / 2 - 1);
    let elsewhere = change(|m| m.committee = 1 - m.committee);
    let nowhere = change(|m| m.node.0[1] = 0xEE);
    assert_eq!(
        mesh.answer(0, &few),
        Err(Refusal::TooFewReports { have: 8, need: 10 })
    );
    assert_eq!(
        mesh.answer(0, &elsewhere),
        Err(Refusal::WrongCommittee {
            node: mesh.nodes[0],
            committee: 1
        })
    );
    assert!(matches!(
        mesh.answer(0, &nowhere),
        Err(Refusal::Stranger(_))
    ));
    // None of this used the shares up.
    let all = mesh.all();
    assert!(mesh.answer(0, &all).is_ok());
}

#[test]
fn strangers_and_shares_of_others_are_not_kept() {
    let mut mesh = Mesh::random(4, 10, 13);
    let rules = mesh.rules(holder(1));
    let mut rng = StdRng::seed_from_u64(1);
    let mut shares = SecretKey::random(&mut rng).share(mesh.threshold, &mut rng);
    let round = Round { number: 1, ..ROUND };
    let stranger = NodeId([0xAA; 32]);
    let second = shares.remove(1);
    let first = shares.remove(0);
    let mut keep = |node, share| mesh.holders[0].keep(&rules, round, node, share).map(|_| ());
    assert_eq!(keep(stranger, first), Err(Refusal::Stranger(stranger)));
    assert_eq!(
        keep(NodeId([0; 32]), second),
        Err(Refusal::OtherHolder {
            expected: holder(1),
            found: holder(2)
        })
    );
}

#[test]
fn only_what_the_aggregation_node_signed_is_an_opening() {
    let mesh = Mesh::random(4, 10, 14);
    let (all, two) = (mesh.all(), mesh.opening([0, 1]));
    use ed25519_dalek::Signer as _;
    let signature = mesh.aggregation.sign(&two.to_bytes());
    let key = mesh.aggregation.verifying_key();
    let verify = |bytes: &[u8]| key.verify_strict(bytes, &signature).is_ok();
    assert_eq!(
        VerifiedOpening::new(all, verify),
        Err(OpeningError::Signature)
    );
    assert!(VerifiedOpening::new(two, verify).is_ok());
}

#[test]
fn sets_that_are_none_cannot_be_stated() {
    let mesh = Mesh::random(4, 10, 15);
    let opening = |members| Opening::new(ROUND, members);
    let m = |k| mesh.member(k);
    assert_eq!(opening(vec![]), Err(OpeningError::Size(0)));
    assert_eq!(opening(vec![m(0)]), Err(OpeningError::Size(1)));
    assert_eq!(opening(vec![m(0); 33]), Err(OpeningError::Size(33)));
    assert_eq!(
        opening(vec![m(0), m(1), m(0)]),
        Err(OpeningError::Duplicate(mesh.nodes[0]))
    );
    let more = Member {
        reports: REPORTS + 1,
        ..m(1)
    };
    assert_eq!(opening(vec![m(0), more]), Err(OpeningError::Reports(0)));
    // The order in which members are given makes no other set.
    let forward = opening(vec![m(0), m(1), m(2), m(3)]).unwrap();
    let backward = opening(vec![m(3), m(2), m(1), m(0)]).unwrap();
    assert_eq!(forward.digest(), backward.digest());
    // Written in another order it is no form of the set: label, round and number, then 76 bytes a member.
    let mut bytes = forward.to_bytes();
    let start = bytes.len() - 4 * 76;
    bytes[start..].rotate_left(76);
    assert!(Opening::from_bytes(&bytes).is_err());
}
