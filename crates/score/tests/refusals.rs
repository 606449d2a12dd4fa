//! What either side refuses, and what it says.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_score::params::REQUEST_BYTES;
use defim_score::{QuantisedModel, Request, Response, Scale, ScoreError, ScoringKey, Shape};
use rand::{SeedableRng as _, rngs::StdRng};

fn shape(features: usize, classes: usize) -> Shape {
    Shape::new(features, classes).unwrap()
}

fn model(features: usize, classes: usize) -> QuantisedModel {
    let scale = Scale {
        feature: 1.0,
        score: 1.0,
    };
    let weights = vec![1; features * classes];
    QuantisedModel::new(shape(features, classes), weights, vec![0; classes], scale).unwrap()
}

fn request(features: usize, classes: usize) -> (ScoringKey, Request) {
    let mut rng = StdRng::seed_from_u64(7);
    ScoringKey::request(shape(features, classes), &vec![3; features], &mut rng).unwrap()
}

#[test]
fn a_request_of_another_length_is_refused() {
    let bytes = request(64, 10).1.to_bytes();
    assert_eq!(bytes.len(), REQUEST_BYTES);
    assert_eq!(bytes.len(), 20_517);
    assert_eq!(Request::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    let mut longer = bytes.clone();
    longer.push(0);
    for wrong in [&[][..], &bytes[..5], &bytes[..bytes.len() - 1], &longer] {
        let refused = Request::from_bytes(wrong).unwrap_err();
        let expected = format!("bytes of a request: {} where 20517 belong", wrong.len());
        assert_eq!(refused.to_string(), expected);
    }
}

#[test]
fn a_request_with_a_header_that_is_none_is_refused() {
    let bytes = request(64, 10).1.to_bytes();
    let with = |at: usize, pair: [u8; 2]| {
        let mut bytes = bytes.clone();
        bytes[at..at + 2].copy_from_slice(&pair);
        Request::from_bytes(&bytes).unwrap_err()
    };
    assert_eq!(with(0, [2, 0]), ScoreError::Version(2));
    assert_eq!(with(1, [0, 0]), ScoreError::Features(0));
    assert_eq!(with(1, [8, 1]), ScoreError::Features(2049));
    assert_eq!(with(3, [0, 0]), ScoreError::Classes(0));
    assert_eq!(with(3, [1, 1]), ScoreError::Classes(257));
    assert!(with(3, [1, 1]).to_string().contains("must have 1 to 256"));
}

#[test]
fn a_request_for_another_model_is_refused() {
    let mut rng = StdRng::seed_from_u64(1);
    for (features, classes) in [(63, 10), (64, 11), (10, 64)] {
        let (_, request) = request(features, classes);
        let refused = model(64, 10).score(&request, &mut rng).unwrap_err();
        let expected = format!("{features} features and {classes} classes, where 64 and 10 belong");
        assert_eq!(refused.to_string(), expected);
    }
}

#[test]
fn another_number_of_features_is_not_encrypted() {
    let mut rng = StdRng::seed_from_u64(1);
    for features in [0, 63, 65] {
        let refused = ScoringKey::request(shape(64, 10), &vec![0; features], &mut rng);
        let expected = format!("features: {features} where 64 belong");
        assert_eq!(refused.unwrap_err().to_string(), expected);
        assert!(model(64, 10).plain_scores(&vec![0; features]).is_err());
    }
}

#[test]
fn an_answer_of_another_length_or_model_is_refused() {
    let mut rng = StdRng::seed_from_u64(1);
    let (key, request) = request(64, 10);
    let bytes = model(64, 10).score(&request, &mut rng).unwrap().to_bytes();
    assert_eq!(bytes.len(), shape(64, 10).response_bytes());
    assert_eq!(bytes.len(), 8_237);
    assert_eq!(Response::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    let mut longer = bytes.clone();
    longer.push(0);
    let mut more_classes = bytes.clone();
    more_classes[4] = 11;
    let mut version = bytes.clone();
    version[0] = 0;
    for wrong in [
        &[][..],
        &bytes[..4],
        &bytes[..5],
        &bytes[..8_236],
        &longer,
        &more_classes,
    ] {
        let refused = Response::from_bytes(wrong);
        assert!(matches!(refused, Err(ScoreError::Length { .. })));
    }
    assert_eq!(Response::from_bytes(&version), Err(ScoreError::Version(0)));

    let (_, other) = self::request(64, 9);
    let response = model(64, 9).score(&other, &mut rng).unwrap();
    let refused = key.open(&response).unwrap_err();
    assert!(matches!(refused, ScoreError::OtherShape { .. }));
}

#[test]
fn another_key_opens_nothing() {
    let mut rng = StdRng::seed_from_u64(1);
    let (_, request) = request(64, 10);
    let (other, _) = ScoringKey::request(shape(64, 10), &[0; 64], &mut rng).unwrap();
    let response = model(64, 10).score(&request, &mut rng).unwrap();
    let scores = other.open(&response).unwrap();
    assert!(scores.iter().all(|score| *score != 3 * 64));
}
