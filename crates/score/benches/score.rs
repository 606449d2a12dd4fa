//! One encrypted scoring, step by step, on one thread.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_score::{QuantisedModel, Request, Response, Scale, ScoringKey, Shape};
use divan::Bencher;
use rand::{SeedableRng as _, rngs::StdRng};

/// Digits, breast cancer, and a head over 512 extracted features.
const SHAPES: [(usize, usize); 3] = [(64, 10), (30, 2), (512, 10)];

fn main() {
    divan::main();
}

fn model((features, classes): (usize, usize)) -> QuantisedModel {
    let shape = Shape::new(features, classes).unwrap();
    let weights = (0..features * classes).map(|i| (i % 23) as i8 - 11);
    let scale = Scale {
        feature: 1.0,
        score: 1.0,
    };
    QuantisedModel::new(shape, weights.collect(), vec![5; classes], scale).unwrap()
}

fn features(shape: Shape) -> Vec<i8> {
    (0..shape.features()).map(|i| i as i8).collect()
}

fn request(shape: Shape) -> (ScoringKey, Request) {
    let mut rng = StdRng::seed_from_u64(1);
    ScoringKey::request(shape, &features(shape), &mut rng).unwrap()
}

#[divan::bench(args = SHAPES)]
fn request_to_bytes(bencher: Bencher, shape: (usize, usize)) {
    let (shape, mut rng) = (model(shape).shape(), StdRng::seed_from_u64(1));
    let features = features(shape);
    bencher.bench_local(|| {
        let (key, request) = ScoringKey::request(shape, &features, &mut rng).unwrap();
        (key, request.to_bytes())
    });
}

#[divan::bench(args = SHAPES)]
fn score_from_bytes_to_bytes(bencher: Bencher, shape: (usize, usize)) {
    let (model, mut rng) = (model(shape), StdRng::seed_from_u64(2));
    let bytes = request(model.shape()).1.to_bytes();
    bencher.bench_local(|| {
        let request = Request::from_bytes(&bytes).unwrap();
        model.score(&request, &mut rng).unwrap().to_bytes()
    });
}

#[divan::bench(args = SHAPES)]
fn open_from_bytes(bencher: Bencher, shape: (usize, usize)) {
    let model = model(shape);
    let (_, asked) = request(model.shape());
    let mut rng = StdRng::seed_from_u64(2);
    let bytes = model.score(&asked, &mut rng).unwrap().to_bytes();
    bencher
        .with_inputs(|| request(model.shape()).0)
        .bench_local_values(|key| key.open(&Response::from_bytes(&bytes).unwrap()).unwrap());
}
