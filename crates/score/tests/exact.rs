//! Any model and any features: the opened scores are the plain ones.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_score::{QuantisedModel, Scale, ScoringKey, Shape};
use proptest::prelude::*;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};

const SCALE: Scale = Scale {
    feature: 1.0,
    score: 1.0,
};

fn same(model: &QuantisedModel, features: &[i8], rng: &mut StdRng) {
    let (key, request) = ScoringKey::request(model.shape(), features, rng).unwrap();
    let response = model.score(&request, rng).unwrap();
    assert_eq!(
        key.open(&response).unwrap(),
        model.plain_scores(features).unwrap()
    );
}

#[test]
fn the_largest_weights_biases_and_features_are_exact() {
    let mut rng = StdRng::seed_from_u64(1);
    let shape = Shape::new(64, 12).unwrap();
    for feature in [-128, 127] {
        for (weight, bias) in [(127, 8_000), (-127, -8_000), (127, -8_000)] {
            let model = QuantisedModel::new(shape, vec![weight; 768], vec![bias; 12], SCALE);
            for _ in 0..20 {
                same(model.as_ref().unwrap(), &[feature; 64], &mut rng);
            }
        }
    }
}

#[test]
fn models_of_several_polynomials_are_exact() {
    let mut rng = StdRng::seed_from_u64(2);
    for (features, classes) in [
        (2048, 1),
        (2048, 3),
        (1025, 2),
        (100, 21),
        (1, 256),
        (128, 17),
    ] {
        let shape = Shape::new(features, classes).unwrap();
        let weights: Vec<f32> = (0..features * classes)
            .map(|_| rng.random_range(-1.0..1.0))
            .collect();
        let biases = vec![0.25; classes];
        let model = QuantisedModel::from_linear(shape, &weights, &biases, 1.0).unwrap();
        let features: Vec<i8> = (0..features).map(|_| rng.random()).collect();
        same(&model, &features, &mut rng);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_model_is_exact(features in 1usize..300, classes in 1usize..40, seed: u64, size in 0f32..100.0) {
        let mut rng = StdRng::seed_from_u64(seed);
        let shape = Shape::new(features, classes).unwrap();
        let mut draw = |n: usize| (0..n).map(|_| rng.random_range(-size..=size)).collect::<Vec<f32>>();
        let (weights, biases) = (draw(features * classes), draw(classes));
        let model = QuantisedModel::from_linear(shape, &weights, &biases, 3.0).unwrap();
        let features: Vec<i8> = (0..features).map(|_| rng.random()).collect();
        same(&model, &features, &mut rng);
    }
}
