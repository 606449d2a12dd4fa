//! The server: multiplies what it cannot read by its weights, and hides where the answer comes from.

use std::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::model::length;
use crate::params::{ANSWER_COEFFICIENT_BYTES, ANSWER_DROPPED, DELTA, N, Shape};
use crate::request::{header, read_header};
use crate::ring::{self, Mask, Multiplicand};
use crate::{QuantisedModel, Request, ScoreError};

/// Encrypted scores. [`Shape::response_bytes`] long in bytes.
///
/// With the weights `w` of a polynomial, uniform bits `u`, fresh errors `e''` and flooding `f`, its mask is
/// `a * w + p * u + e''`. Of the body, `features * w + public key * u + f`, only the classes' coefficients are there. Both
/// without their low [`ANSWER_DROPPED`] bits.
#[derive(Clone, PartialEq, Eq)]
pub struct Response {
    pub(crate) shape: Shape,
    /// `[polynomials][N]`.
    pub(crate) masks: Vec<u32>,
    /// `[classes]`.
    pub(crate) scores: Vec<u32>,
}

impl QuantisedModel {
    /// Scores encrypted features. Time and memory accesses depend on the shape alone.
    ///
    /// `rng` must be the operating system's, or seeded by it: who knows what it gave knows the weights.
    ///
    /// # Errors
    ///
    /// [`ScoreError::OtherShape`] for a request to a model of another shape.
    pub fn score(
        &self,
        request: &Request,
        rng: &mut impl CryptoRng,
    ) -> Result<Response, ScoreError> {
        let shape = self.shape();
        if request.shape != shape {
            return Err(ScoreError::OtherShape {
                expected: shape,
                found: request.shape,
            });
        }
        let features_mask = Multiplicand::new(&ring::expand(&request.seed, Mask::Features));
        let features = Multiplicand::new(&request.features);
        let key_mask = Multiplicand::new(&ring::expand(&request.seed, Mask::PublicKey));
        let key = Multiplicand::new(&request.public_key);
        let mut response = Response {
            shape,
            masks: Vec::with_capacity(shape.polynomials() * N),
            scores: Vec::with_capacity(shape.classes()),
        };
        for (weights, biases) in self.polynomials() {
            let hiding = ring::bits(rng);
            let mut mask = Zeroizing::new(features_mask.product(&weights, ring::times));
            ring::add(
                &mut mask,
                &Zeroizing::new(key_mask.product(&hiding, ring::masked)),
            );
            ring::add(&mut mask, &ring::errors(rng));
            response.masks.extend(mask.iter().copied().map(rounded));
            for (row, bias) in biases.iter().enumerate() {
                let place = shape.place(row);
                let body = features
                    .product_at(place, &weights, ring::times)
                    .wrapping_add(key.product_at(place, &hiding, ring::masked))
                    .wrapping_add(bias.cast_unsigned().wrapping_mul(DELTA))
                    .wrapping_add(ring::flooding(rng));
                response.scores.push(rounded(body));
            }
        }
        Ok(response)
    }
}

/// The 32 leading of 40 bits, rounded.
fn rounded(coefficient: u64) -> u32 {
    (coefficient.wrapping_add(1 << (ANSWER_DROPPED - 1)) >> ANSWER_DROPPED) as u32
}

impl Response {
    /// The shape of the model that answered.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// [`Shape::response_bytes`]: version 1, features and classes as 16 bits big-endian, the masks, the scores; a
    /// coefficient as 32 bits little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.shape.response_bytes());
        header(self.shape, &mut bytes);
        let coefficients = self.masks.iter().chain(&self.scores);
        bytes.extend(coefficients.flat_map(|c| c.to_le_bytes()));
        bytes
    }

    /// From its bytes. Whatever is read is written as the same bytes again.
    ///
    /// # Errors
    ///
    /// [`ScoreError::Length`] for another length than the shape's in its header, [`ScoreError::Version`], and those of
    /// [`Shape::new`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ScoreError> {
        let (shape, rest) = read_header("bytes of an answer", bytes)?;
        length("bytes of an answer", shape.response_bytes(), bytes.len())?;
        let coefficients = rest.as_chunks::<ANSWER_COEFFICIENT_BYTES>().0.iter();
        let mut masks: Vec<u32> = coefficients.map(|c| u32::from_le_bytes(*c)).collect();
        let scores = masks.split_off(shape.polynomials() * N);
        Ok(Self {
            shape,
            masks,
            scores,
        })
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Response")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::LOG_Q;
    use crate::ring::Element;
    use crate::{Scale, ScoringKey};
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};

    /// `1 / element`, for an odd sum of coefficients: modulo 2, `element^N = 1`; then Newton's iteration.
    fn inverse(element: &[u64]) -> Element {
        let product = |a: &[u64], b: &[u64]| Multiplicand::new(a).product(b, ring::times);
        // element^(N - 1) = element^(1 + 2 + 4 + ... + N/2)
        let mut power = element.to_vec();
        let mut inverse = element.to_vec();
        for _ in 1..N.trailing_zeros() {
            power = product(&power, &power);
            inverse = product(&inverse, &power);
        }
        for _ in 0..6 {
            let mut correction: Element = product(element, &inverse)
                .iter()
                .map(|c| c.wrapping_neg())
                .collect();
            correction[0] = correction[0].wrapping_add(2);
            inverse = product(&inverse, &correction);
        }
        inverse
    }

    fn centred(coefficient: u64) -> i64 {
        (coefficient << (64 - LOG_Q)).cast_signed() >> (64 - LOG_Q)
    }

    fn invertible_request(shape: Shape, rng: &mut ChaCha20Rng) -> (Request, Element) {
        loop {
            let (_, request) = ScoringKey::request(shape, &vec![1; shape.features()], rng).unwrap();
            let mask = ring::expand(&request.seed, Mask::Features);
            if mask.iter().sum::<u64>() % 2 == 1 {
                return (request, mask);
            }
        }
    }

    #[test]
    fn dividing_by_the_clients_mask_gives_the_weights_only_without_the_hiding() {
        let mut rng = ChaCha20Rng::from_seed([9; 32]);
        let shape = Shape::new(8, 3).unwrap();
        let weights: Vec<i8> = (0..24).map(|i| (i * 37 % 255 - 127) as i8).collect();
        let scale = Scale {
            feature: 1.0,
            score: 1.0,
        };
        let model = QuantisedModel::new(shape, weights.clone(), vec![0; 3], scale).unwrap();
        let (request, mask) = invertible_request(shape, &mut rng);
        let divide = |answer: &[u64]| -> Vec<i64> {
            let quotient = Multiplicand::new(answer).product(&inverse(&mask), ring::times);
            quotient.iter().copied().map(centred).collect()
        };
        let (factors, _) = model.polynomials().next().unwrap();
        let bare = Multiplicand::new(&mask).product(&factors, ring::times);
        let found = divide(&bare);
        let rows: Vec<i64> = found[..24]
            .chunks(8)
            .flat_map(|row| row.iter().rev().copied())
            .collect();
        assert!(rows.iter().zip(&weights).all(|(a, b)| *a == i64::from(*b)));
        assert!(found[24..].iter().all(|c| *c == 0));

        // With the hiding, even before rounding: nothing that looks like a weight, and something else each time.
        let key_mask = Multiplicand::new(&ring::expand(&request.seed, Mask::PublicKey));
        let mut hidden = || {
            let mut mask = bare.clone();
            ring::add(
                &mut mask,
                &key_mask.product(&ring::bits(&mut rng), ring::masked),
            );
            ring::add(&mut mask, &ring::errors(&mut rng));
            divide(&mask)
        };
        let (first, second) = (hidden(), hidden());
        for quotient in [&first, &second] {
            let small = quotient.iter().filter(|c| c.abs() <= 1 << 20).count();
            assert_eq!(small, 0, "one in 2^19 coefficients is small by chance");
        }
        assert!(first.iter().zip(&second).all(|(a, b)| a != b));

        // And what is really sent.
        let response = model.score(&request, &mut rng).unwrap();
        let sent: Element = response
            .masks
            .iter()
            .map(|c| u64::from(*c) << ANSWER_DROPPED)
            .collect();
        let found = divide(&sent);
        let small = found.iter().filter(|c| c.abs() <= 1 << 20).count();
        assert!(small < 3, "{small}");
    }

    #[test]
    fn an_answer_is_another_one_each_time() {
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let shape = Shape::new(4, 2).unwrap();
        let scale = Scale {
            feature: 1.0,
            score: 1.0,
        };
        let model = QuantisedModel::new(shape, vec![1; 8], vec![0; 2], scale).unwrap();
        let (_, request) = ScoringKey::request(shape, &[1, 2, 3, 4], &mut rng).unwrap();
        let first = model.score(&request, &mut rng).unwrap();
        let second = model.score(&request, &mut rng).unwrap();
        let equal = first
            .masks
            .iter()
            .zip(&second.masks)
            .filter(|(a, b)| a == b);
        assert_eq!(equal.count(), 0);
        assert!(first.scores.iter().zip(&second.scores).all(|(a, b)| a != b));
    }
}
