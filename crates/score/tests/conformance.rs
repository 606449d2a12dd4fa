//! Both forms, byte for byte: the same natively and in WebAssembly, in every version. A change here is a change of the
//! protocol.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_score::{QuantisedModel, ScoringKey, Shape};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};
use sha2::{Digest as _, Sha256};

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn both_forms_are_the_same_in_every_version_and_on_every_target() {
    let mut digests = Vec::new();
    for (features, classes) in [(64, 10), (700, 5)] {
        let mut client = ChaCha20Rng::from_seed([1; 32]);
        let mut server = ChaCha20Rng::from_seed([2; 32]);
        let shape = Shape::new(features, classes).unwrap();
        let value = |i: usize| ((i * 7919 % 2003) as f32 - 1001.0) / 700.0;
        let weights: Vec<f32> = (0..features * classes).map(value).collect();
        let biases: Vec<f32> = (0..classes).map(|i| value(i * 31)).collect();
        let model = QuantisedModel::from_linear(shape, &weights, &biases, 1.5).unwrap();
        let row: Vec<f32> = (0..features).map(|i| value(i * 17 + 5)).collect();
        let quantised = model.scale().quantise(&row).unwrap();
        let (key, request) = ScoringKey::request(shape, &quantised, &mut client).unwrap();
        let response = model.score(&request, &mut server).unwrap();
        let scores = key.open(&response).unwrap();
        assert_eq!(scores, model.plain_scores(&quantised).unwrap());
        let scores: Vec<u8> = scores.iter().flat_map(|s| s.to_be_bytes()).collect();
        for (name, bytes) in [
            ("request", request.to_bytes()),
            ("response", response.to_bytes()),
            ("scores", scores),
        ] {
            let digest = hex::encode(&Sha256::digest(&bytes)[..8]);
            digests.push(format!("{name} {} {digest}", bytes.len()));
        }
    }
    assert_eq!(digests, EXPECTED);
}

/// Name, bytes, and the first eight bytes of the SHA-256, for 64 features by 10 classes and for 700 by 5.
const EXPECTED: [&str; 6] = [
    "request 20517 88d529db82c26851",
    "response 8237 a824b48706af76f0",
    "scores 80 f30905eb237fd94e",
    "request 20517 3a736fe34310e479",
    "response 24601 5c331d43cec12784",
    "scores 40 ea9cba5d8aeecb88",
];
