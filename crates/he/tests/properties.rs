//! Algebra, and bytes from strangers.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod mesh;

use defim_he::audit::FraudProof;
use defim_he::holder::Holder;
use defim_he::params::{BLOCK_BYTES, Dimension, FIELD};
use defim_he::{
    Adding, Ciphertext, KeyShare, Opening, SecretKey, Sum, SumKey, SumShare, Threshold, open,
};
use mesh::{Mesh, ROUND, plain_sum};
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};
use rand::rngs::StdRng;
use rand::{RngCore as _, SeedableRng as _};

/// An element of the field, often at its edges.
fn element() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(FIELD - 1),
        Just(u64::from(u32::MAX)),
        0..FIELD
    ]
}

fn threshold() -> impl Strategy<Value = Threshold> {
    (2..=12u8)
        .prop_flat_map(|holders| (holders / 2 + 1..=holders, Just(holders)))
        .prop_filter_map("at least two", |(needed, holders)| {
            Threshold::new(needed, holders).ok()
        })
}

/// A committee of as many nodes as it takes, so that one set holds them all.
fn mesh(vectors: Vec<Vec<u64>>, threshold: Threshold, seed: u64) -> (Sum, Vec<SumShare>) {
    use defim_he::holder::Rules;
    use defim_he::{HolderIndex, Member, NodeId, VerifiedOpening};

    let mut rng = StdRng::seed_from_u64(seed);
    let nodes: Vec<_> = (0..vectors.len() as u8).map(|k| NodeId([k; 32])).collect();
    let rules = |holder| Rules {
        holder,
        committees: [(4, nodes.iter().copied().collect())].into(),
        min_committees: 1,
        min_reports: 1,
    };
    let mut holders: Vec<_> = (0..threshold.holders()).map(|_| Holder::new()).collect();
    let (mut members, mut ciphertexts) = (Vec::new(), Vec::new());
    for (node, vector) in nodes.iter().zip(vectors) {
        let key = SecretKey::random(&mut rng);
        for (holder, share) in holders.iter_mut().zip(key.share(threshold, &mut rng)) {
            let sent = KeyShare::from_bytes(&share.to_bytes()).unwrap();
            assert!(sent == share);
            let rules = rules(share.holder());
            holder.keep(&rules, ROUND, *node, sent).unwrap().written();
        }
        let ciphertext = key.encrypt(ROUND, &vector, &mut rng).unwrap();
        members.push(Member {
            node: *node,
            ciphertext: ciphertext.root(),
            committee: 4,
            reports: 1,
        });
        ciphertexts.push(ciphertext);
    }
    let opening = Opening::new(ROUND, members).unwrap();
    assert_eq!(Opening::from_bytes(&opening.to_bytes()).unwrap(), opening);
    let sum = opening
        .sum(ciphertexts[0].dimension(), &ciphertexts)
        .unwrap();
    let verified = VerifiedOpening::new(opening, |_| true).unwrap();
    let answers = (1..)
        .zip(&mut holders)
        .map(|(place, holder)| {
            let rules = rules(HolderIndex::new(place).unwrap());
            let answer = holder.answer(&rules, &verified).unwrap().written();
            assert_eq!(SumShare::from_bytes(&answer.to_bytes()).unwrap(), answer);
            answer
        })
        .collect();
    (sum, answers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any group of holders that is large enough opens the same key, in any order, and it opens the total.
    #[test]
    fn every_group_of_holders_opens_the_same_total(
        vectors in (1..40usize, 2..6usize).prop_flat_map(|(d, parties)| {
            prop::collection::vec(prop::collection::vec(element(), d), parties)
        }),
        (threshold, group) in threshold().prop_flat_map(|t| {
            let all: Vec<usize> = (0..usize::from(t.holders())).collect();
            let sizes = usize::from(t.needed())..=all.len();
            (Just(t), subsequence(all, sizes).prop_shuffle())
        }),
        seed: u64,
    ) {
        let expected = plain_sum(&vectors);
        let (sum, answers) = mesh(vectors, threshold, seed);
        let all = SumKey::from_answers(threshold, &answers).unwrap();
        let group: Vec<_> = group.into_iter().map(|i| answers[i].clone()).collect();
        let key = SumKey::from_answers(threshold, &group).unwrap();
        prop_assert_eq!(key.to_bytes(), all.to_bytes());
        prop_assert_eq!(open(ROUND, &sum, &key).unwrap(), expected);
    }

    /// In whatever order and grouping ciphertexts are added, the sum is the same bytes.
    #[test]
    fn the_sum_does_not_depend_on_the_order(
        order in Just((0..5usize).collect::<Vec<_>>()).prop_shuffle(),
        d in 1..5000usize,
        seed: u64,
    ) {
        let mesh = Mesh::random(5, d, seed);
        let sum = |order: &[usize]| {
            let mut adding = Adding::new(mesh.dimension());
            order.iter().for_each(|k| adding.add(&mesh.ciphertexts[*k]).unwrap());
            adding.finish().to_bytes()
        };
        prop_assert_eq!(sum(&order), sum(&[0, 1, 2, 3, 4]));
    }

    /// What decodes is the only form of what it decodes to; what does not is refused without a panic.
    #[test]
    fn what_strangers_send_is_refused_or_has_one_form(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        label in prop_oneof![
            Just(&b""[..]),
            Just(&b"defim he v1 opening\0"[..]),
            Just(&b"defim he v1 key share\0"[..]),
            Just(&b"defim he v1 sum share\0"[..]),
            Just(&b"defim he v1 holder\0"[..]),
            Just(&b"defim he v1 fraud\0"[..]),
        ],
    ) {
        strangers(&[label, &bytes].concat());
    }

    /// Whole elements of random bytes, which are nearly always residues, and elements that are over in places.
    #[test]
    fn random_elements_are_refused_or_have_one_form(seed: u64, over: bool, extra in 0..3usize) {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut bytes = vec![0; BLOCK_BYTES + extra];
        rng.fill_bytes(&mut bytes);
        if over {
            bytes[100..105].fill(0xFF);
        }
        prop_assert!(!over || SumKey::from_bytes(&bytes).is_err());
        strangers(&bytes);
        strangers(&[&b"defim he v1 key share\0\x05"[..], &bytes].concat());
        strangers(&[&b"defim he v1 sum share\0"[..], &[7; 33], &bytes].concat());
    }

    /// True messages, cut off and changed.
    #[test]
    fn changed_messages_are_refused_or_have_one_form(
        seed in 0..4u64,
        cut in any::<Option<Index>>(),
        change: Index,
        bit in 0..8u32,
    ) {
        let mut mesh = Mesh::random(3, 5, seed);
        let opening = mesh.all();
        let answer = mesh.answer(0, &opening).unwrap();
        let key = SecretKey::random(&mut mesh.rng);
        let share = key.share(mesh.threshold, &mut mesh.rng).remove(0);
        let rules = mesh.rules(share.holder());
        let round = defim_he::Round { number: 3, ..ROUND };
        let share_bytes = share.to_bytes().to_vec();
        let step = mesh.holders[0].keep(&rules, round, mesh.nodes[0], share).unwrap();
        for message in [
            opening.to_bytes(),
            answer.to_bytes(),
            share_bytes,
            step.record().to_vec(),
            mesh.ciphertexts[0].to_bytes(),
        ] {
            let mut changed = message.clone();
            let at = change.index(changed.len());
            changed[at] ^= 1 << bit;
            strangers(&changed);
            if let Some(cut) = &cut {
                let short = &message[..cut.index(message.len())];
                strangers(short);
                prop_assert!(Opening::from_bytes(short).is_err());
                prop_assert!(SumShare::from_bytes(short).is_err());
                prop_assert!(Ciphertext::from_bytes(mesh.dimension(), short).is_err());
            }
        }
    }
}

/// Every decoder on these bytes.
fn strangers(bytes: &[u8]) {
    if let Ok(opening) = Opening::from_bytes(bytes) {
        assert_eq!(opening.to_bytes(), bytes);
    }
    if let Ok(share) = KeyShare::from_bytes(bytes) {
        assert_eq!(&share.to_bytes()[..], bytes);
    }
    if let Ok(answer) = SumShare::from_bytes(bytes) {
        assert_eq!(answer.to_bytes(), bytes);
    }
    if let Ok(key) = SumKey::from_bytes(bytes) {
        assert_eq!(key.to_bytes(), bytes);
    }
    if let Ok(proof) = FraudProof::from_bytes(bytes) {
        assert_eq!(proof.to_bytes(), bytes);
    }
    let _ = Holder::restore([bytes]);
    for d in [1, 4096, 4097] {
        let dimension = Dimension::new(d).unwrap();
        if let Ok(ciphertext) = Ciphertext::from_bytes(dimension, bytes) {
            assert_eq!(ciphertext.to_bytes(), bytes);
        }
        for parties in [0, 2, 32, 33, usize::MAX] {
            if let Ok(sum) = Sum::from_bytes(dimension, parties, bytes) {
                assert_eq!(sum.to_bytes(), bytes);
                // A key that has nothing to do with it: an error, never a panic.
                let key = SumKey::from_bytes(&bytes[..BLOCK_BYTES]).unwrap();
                let _ = open(ROUND, &sum, &key);
            }
        }
    }
}
