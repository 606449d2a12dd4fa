//! What the aggregation node stores does not give it a subtotal.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod mesh;

use defim_he::holder::Refusal;
use defim_he::params::{BLOCK_BYTES, PRIMES};
use defim_he::{
    Adding, Ciphertext, OpenError, SharingError, Sum, SumKey, SumShare, Threshold, open,
};
use mesh::{Mesh, ROUND, plain_sum};

/// What it has of a round of three committees of two: all that was ever sent to it.
struct Stored {
    mesh: Mesh,
    sum: Sum,
    key: SumKey,
    answers: Vec<SumShare>,
}

fn stored() -> Stored {
    let mut mesh = Mesh::random(6, 4097, 31);
    let opening = mesh.all();
    let answers: Vec<SumShare> = (0..6).map(|i| mesh.answer(i, &opening).unwrap()).collect();
    let sum = opening.sum(mesh.dimension(), &mesh.ciphertexts).unwrap();
    let key = SumKey::from_answers(mesh.threshold, &answers).unwrap();
    Stored {
        mesh,
        sum,
        key,
        answers,
    }
}

fn add<'a>(mesh: &Mesh, ciphertexts: impl IntoIterator<Item = &'a Ciphertext>) -> Sum {
    let mut adding = Adding::new(mesh.dimension());
    for ciphertext in ciphertexts {
        adding.add(ciphertext).unwrap();
    }
    adding.finish()
}

/// Residues of packed elements, one prime after the other.
fn residues(bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    bytes.chunks_exact(5).enumerate().map(|(i, five)| {
        let mut whole = [0; 8];
        whole[..5].copy_from_slice(five);
        (u64::from_le_bytes(whole), PRIMES[i % 2])
    })
}

/// `a * x + y` of packed elements.
fn combine(a: u64, x: &[u8], y: &[u8]) -> Vec<u8> {
    residues(x)
        .zip(residues(y))
        .flat_map(|((x, q), (y, _))| {
            let sum = (u128::from(a) * u128::from(x) + u128::from(y)) % u128::from(q);
            sum.to_le_bytes()[..5].to_vec()
        })
        .collect()
}

/// Every set of nodes but all of them, with the sum key and with all keys made of the sum key and what else it has.
#[test]
fn no_subset_of_the_ciphertexts_opens_with_what_the_aggregation_node_has() {
    let Stored {
        mesh,
        sum,
        key,
        answers,
    } = stored();
    assert_eq!(open(ROUND, &sum, &key).unwrap(), plain_sum(&mesh.vectors));
    let s = key.to_bytes();
    let answer = |i: usize| answers[i].to_bytes()[SumShare::BYTES - BLOCK_BYTES..].to_vec();
    let zero = vec![0; BLOCK_BYTES];
    let block = |c: &Ciphertext| c.to_bytes()[..BLOCK_BYTES].to_vec();
    let mut keys = vec![s.clone(), zero.clone()];
    for i in 0..6 {
        // The answers, the sum less an answer, and the sum less a ciphertext as if it were a key.
        keys.push(answer(i));
        keys.push(subtract(&s, &answer(i)));
        keys.push(subtract(&s, &block(&mesh.ciphertexts[i])));
        // A third of it, for one committee of three; half of it, and so on.
        keys.push(combine(i as u64 + 2, &s, &zero));
        keys.push(divide(&s, i as u64 + 2));
    }
    let all = (1u8 << 6) - 1;
    for set in 1..all {
        let chosen = mesh.ciphertexts.iter().enumerate();
        let chosen = chosen.filter(|(i, _)| set >> i & 1 == 1).map(|(_, c)| c);
        let partial = add(&mesh, chosen);
        for (k, key) in keys.iter().enumerate() {
            let key = SumKey::from_bytes(key).unwrap();
            let opened = open(ROUND, &partial, &key);
            assert!(
                matches!(
                    opened,
                    Err(OpenError::Residual { block: 0, .. } | OpenError::Range { block: 0, .. })
                ),
                "set {set:06b} opens with key {k}"
            );
        }
    }
}

fn subtract(x: &[u8], y: &[u8]) -> Vec<u8> {
    let negative: Vec<u8> = residues(y)
        .flat_map(|(r, q)| ((q - r) % q).to_le_bytes()[..5].to_vec())
        .collect();
    combine(1, x, &negative)
}

/// `x / n` in the ring.
fn divide(x: &[u8], n: u64) -> Vec<u8> {
    residues(x)
        .flat_map(|(r, q)| {
            let inverse =
                (1..n).find(|k| (u128::from(q) * u128::from(*k) + 1) % u128::from(n) == 0);
            let inverse = (u128::from(q) * u128::from(inverse.unwrap()) + 1) / u128::from(n);
            let quotient = (u128::from(r) * inverse % u128::from(q)) as u64;
            quotient.to_le_bytes()[..5].to_vec()
        })
        .collect()
}

/// A ciphertext alone looks the same whatever is in it: its residues are spread evenly.
#[test]
fn a_ciphertext_of_zeros_is_spread_like_one_of_anything() {
    let mesh = Mesh::new(vec![vec![0; 100_000]; 2], 8);
    let difference = subtract(
        &mesh.ciphertexts[0].to_bytes(),
        &mesh.ciphertexts[1].to_bytes(),
    );
    let single = mesh.ciphertexts[0].to_bytes();
    for bytes in [single, difference] {
        let mut bins = [0u32; 64];
        for (residue, q) in residues(&bytes) {
            bins[(u128::from(residue) * 64 / u128::from(q)) as usize] += 1;
        }
        let expected = (bytes.len() / 5) as f64 / 64.0;
        let chi: f64 = bins
            .iter()
            .map(|n| (f64::from(*n) - expected).powi(2) / expected)
            .sum();
        // 63 degrees of freedom: over 140 with probability 2^-22.
        assert!(chi < 140.0, "{chi}");
    }
}

/// It cannot get the missing piece from the holders: they opened one set.
#[test]
fn holders_do_not_answer_for_a_committee_or_for_all_but_one() {
    let mut stored = stored();
    for set in [vec![0, 1], vec![2, 3, 4, 5], vec![0, 1, 2, 3]] {
        let opening = stored.mesh.opening(set);
        for place in 0..6 {
            let refused = stored.mesh.answer(place, &opening);
            assert!(matches!(refused, Err(Refusal::OtherSet { .. })));
        }
    }
}

/// Less than the threshold of answers, or of a key's shares, is nothing.
#[test]
fn fewer_holders_than_the_threshold_open_nothing() {
    let Stored {
        mesh, sum, answers, ..
    } = stored();
    let few = &answers[..3];
    assert_eq!(
        SumKey::from_answers(mesh.threshold, few),
        Err(SharingError::TooFew { have: 3, needed: 4 })
    );
    // Three that pretend that three are enough.
    let lower = Threshold::new(3, 5).unwrap();
    let key = SumKey::from_answers(lower, few).unwrap();
    assert!(open(ROUND, &sum, &key).is_err());
}
