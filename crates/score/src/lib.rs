//! Encrypted scoring: a linear model's answer without showing the input, and without giving the weights away beyond the scores.
//!
//! # Where in the flow
//!
//! | who | does | with |
//! |---|---|---|
//! | full node | quantises a model once, publishes its [`Shape`] and [`Scale`] | [`QuantisedModel::from_linear`] |
//! | light node | quantises its features, encrypts them, keeps the key | [`Scale::quantise`], [`ScoringKey::request`] |
//! | full node | scores without reading them | [`QuantisedModel::score`] |
//! | light node | opens the scores | [`ScoringKey::open`], [`Scale::value`] |
//!
//! A request is 20,517 bytes. An answer is 8,197 bytes and 4 for each class, up to 16 classes of up to 128 features
//! ([`Shape::response_bytes`] has the others).
//!
//! Nothing here does I/O, reads a clock or draws randomness by itself.
//!
//! # Invariants
//!
//! - Opened scores are the integers of [`QuantisedModel::plain_scores`], exactly, for all features: [`params`] has the
//!   bound. What quantising changes is the only difference to the model before it.
//! - A key opens one answer. [`ScoringKey::request`] makes it, [`ScoringKey::open`] takes it, and it is overwritten.
//! - An answer holds at most 22 bits a class about the weights, whatever the request was, where a score has 21.
//!   [`security`] has the argument.
//! - Every form is the only form of its value: what is decoded and encoded again is the same bytes.
//! - No branch and no memory access depends on a feature, a weight or a key.
//!
//! # Deviations from its source
//!
//! The scheme is that of the repository's design: GLWE with `k = 1` and `N = 2048` under a binary key (Chillotti, Gama,
//! Georgieva, Izabachène: *TFHE*, 2018), a whole model in one polynomial, re-randomised by a public key.
//!
//! - The torus has 40 bits and not 64, and errors are centred binomials of variance 8 and not Gaussians of deviation
//!   2^-47.8. Requests and answers are about half as long, nothing is a float, and breaking it costs 145 bits instead of 109.
//! - The flooding is uniform and 2^17 of 2^40, which bounds what an answer holds; Gaussian flooding of 2^30 of 2^64 would leave
//!   32 bits a class.
//! - One polynomial holds 16 classes at most, and a key serves one request.
//!
//! # Example
//!
//! ```
//! use defim_score::{QuantisedModel, Request, Response, ScoringKey, Shape};
//!
//! let mut rng = rand::rng();
//! // Two classes of three features, each of which is at most 2 in absolute value.
//! let shape = Shape::new(3, 2)?;
//! let weights = [0.5, -1.0, 0.25, -0.5, 1.0, 0.125];
//! let model = QuantisedModel::from_linear(shape, &weights, &[0.1, -0.1], 2.0)?;
//! let scale = model.scale();
//!
//! // Light node.
//! let features = scale.quantise(&[1.5, -0.5, 0.75])?;
//! let (key, request) = ScoringKey::request(shape, &features, &mut rng)?;
//! let sent = request.to_bytes();
//!
//! // Full node.
//! let response = model.score(&Request::from_bytes(&sent)?, &mut rng)?;
//! let answered = response.to_bytes();
//!
//! // Light node.
//! let scores = key.open(&Response::from_bytes(&answered)?)?;
//! assert_eq!(scores, model.plain_scores(&features)?);
//! assert!((scale.value(scores[0]) - 1.5375).abs() < 0.02);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

mod error;
mod model;
pub mod params;
mod request;
mod response;
mod ring;
pub mod security;

pub use error::ScoreError;
pub use model::{QuantisedModel, Scale};
pub use params::Shape;
pub use request::{Request, ScoringKey};
pub use response::Response;
