//! What is opened is the total, exactly.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod mesh;

use defim_he::params::{FIELD, residual_bound};
use defim_he::{Adding, Ciphertext, SecretKey, Sum, SumError, SumKey, open};
use mesh::{Mesh, ROUND, plain_sum};
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

fn total(mesh: &mut Mesh) -> Vec<u64> {
    let (sum, key) = mesh.finish();
    open(ROUND, &sum, &key).unwrap()
}

#[test]
fn the_total_is_exact_for_2_to_32_nodes() {
    for parties in 2..=32 {
        let mut mesh = Mesh::random(parties, 4097, parties as u64);
        let expected = plain_sum(&mesh.vectors);
        assert_eq!(total(&mut mesh), expected, "{parties} nodes");
    }
}

#[test]
fn the_total_is_exact_at_every_length_around_a_block() {
    for d in [1, 4095, 4096, 4097, 100_000] {
        let mut mesh = Mesh::random(4, d, d as u64);
        let expected = plain_sum(&mesh.vectors);
        assert_eq!(total(&mut mesh), expected, "{d} coordinates");
    }
}

#[test]
fn the_total_of_a_million_coordinates_is_exact() {
    let mut mesh = Mesh::random(3, 1_000_000, 6);
    let expected = plain_sum(&mesh.vectors);
    assert_eq!(total(&mut mesh), expected);
}

/// The sum of 32 of the largest elements comes closest to the modulus, that of zeros to noise below zero.
#[test]
fn the_largest_and_the_smallest_values_do_not_wrap() {
    let largest = FIELD - 1;
    for parties in [2, 3, 31, 32] {
        for (a, b) in [(0, 0), (largest, largest), (0, largest), (1, largest)] {
            let vector = |k: usize| vec![if k.is_multiple_of(2) { a } else { b }; 5000];
            let mut mesh = Mesh::new((0..parties).map(vector).collect(), 1);
            let expected = plain_sum(&mesh.vectors);
            assert_eq!(total(&mut mesh), expected, "{parties} nodes of {a}, {b}");
        }
    }
}

/// What the round does: shares of updates, each committee's weighted by its cohort's integer, small after
/// all shares are added.
#[test]
fn weighted_shares_of_updates_open_to_the_weighted_sum() {
    let mut rng = StdRng::seed_from_u64(7);
    let (committees, d) = (8, 5000);
    let mut vectors = Vec::new();
    let mut expected = vec![0i128; d];
    for committee in 0..committees {
        let weight: i128 = [1, 255, rng.random_range(1..=255)][committee % 3];
        let update: Vec<i128> = (0..d)
            .map(|_| rng.random_range(-(1 << 34)..=1 << 34))
            .collect();
        let first: Vec<u64> = (0..d).map(|_| mesh::element(&mut rng)).collect();
        let field = i128::from(FIELD);
        let weigh = |x: i128| (x * weight).rem_euclid(field) as u64;
        let shares = first.iter().map(|s| i128::from(*s));
        let second: Vec<u64> = shares
            .clone()
            .zip(&update)
            .map(|(s, u)| weigh(u - s))
            .collect();
        vectors.push(shares.map(weigh).collect());
        vectors.push(second);
        for (e, u) in expected.iter_mut().zip(&update) {
            *e += weight * u;
        }
    }
    let signed = |x: u64| match x > FIELD / 2 {
        true => i128::from(x) - i128::from(FIELD),
        false => i128::from(x),
    };
    let opened: Vec<i128> = total(&mut Mesh::new(vectors, 8))
        .into_iter()
        .map(signed)
        .collect();
    assert_eq!(opened, expected);
}

/// Another node, from published bytes alone, gets the same sum and the same total.
#[test]
fn anybody_can_repeat_the_addition_and_the_opening() {
    let mut mesh = Mesh::random(4, 9000, 11);
    let (sum, key) = mesh.finish();
    let mut again = Adding::new(mesh.dimension());
    for ciphertext in mesh.ciphertexts.iter().rev() {
        let bytes = ciphertext.to_bytes();
        assert_eq!(bytes.len(), mesh.dimension().ciphertext_bytes());
        let decoded = Ciphertext::from_bytes(mesh.dimension(), &bytes).unwrap();
        assert_eq!(decoded.root(), ciphertext.root());
        again.add(&decoded).unwrap();
    }
    let again = again.finish();
    assert_eq!(again.to_bytes(), sum.to_bytes());
    assert_eq!(again.root(), sum.root());
    let sum = Sum::from_bytes(mesh.dimension(), 4, &again.to_bytes()).unwrap();
    let key = SumKey::from_bytes(&key.to_bytes()).unwrap();
    assert_eq!(open(ROUND, &sum, &key).unwrap(), plain_sum(&mesh.vectors));
}

/// A hundred thousand coordinates are 1.024 MB.
#[test]
fn a_ciphertext_is_ten_bytes_a_coefficient() {
    let mut rng = StdRng::seed_from_u64(1);
    let ciphertext = SecretKey::random(&mut rng)
        .encrypt(ROUND, &vec![5; 100_000], &mut rng)
        .unwrap();
    assert_eq!(ciphertext.to_bytes().len(), 1_024_000);
}

#[test]
fn more_than_32_ciphertexts_are_refused() {
    let mut rng = StdRng::seed_from_u64(1);
    let key = SecretKey::random(&mut rng);
    let ciphertext = key.encrypt(ROUND, &[1], &mut rng).unwrap();
    let mut adding = Adding::new(ciphertext.dimension());
    for _ in 0..32 {
        adding.add(&ciphertext).unwrap();
    }
    assert_eq!(adding.add(&ciphertext), Err(SumError::Full));
    let other = SecretKey::random(&mut rng)
        .encrypt(ROUND, &[1, 2], &mut rng)
        .unwrap();
    assert!(matches!(
        Adding::new(other.dimension()).add(&ciphertext),
        Err(SumError::Dimension {
            expected: 2,
            found: 1
        })
    ));
    assert!(residual_bound(32) < 1024);
}

#[test]
fn what_is_no_field_element_is_not_encrypted() {
    let mut rng = StdRng::seed_from_u64(1);
    let mut encrypt = |values: &[u64]| {
        let key = SecretKey::random(&mut rng);
        key.encrypt(ROUND, values, &mut rng)
            .map(|_| ())
            .map_err(|e| e.to_string())
    };
    assert!(encrypt(&[0, FIELD - 1]).is_ok());
    let error = encrypt(&[0, FIELD]).unwrap_err();
    assert!(error.contains("coordinate 1 is not below"), "{error}");
    assert!(encrypt(&[u64::MAX]).is_err());
    let error = encrypt(&[]).unwrap_err();
    assert!(error.contains("0 coordinates"), "{error}");
}
