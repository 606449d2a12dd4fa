//! The client: encrypts features, opens the answer.

use std::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::model::length;
use crate::params::{
    ANSWER_DROPPED, DELTA, HEADER_BYTES, LOG_Q, N, REQUEST_BYTES, REQUEST_COEFFICIENT_BYTES,
    SEED_BYTES, Shape,
};
use crate::ring::{self, Element, Mask, Multiplicand};
use crate::{Response, ScoreError};

/// Version of both forms.
pub(crate) const VERSION: u8 = 1;

/// The key of one request: `N` uniform bits. It opens the answer and is overwritten when it is dropped. It cannot be
/// copied, written down, or used for a second request, so what a client does after an answer tells the server
/// nothing that it could use again.
pub struct ScoringKey {
    shape: Shape,
    bits: Zeroizing<Element>,
}

/// Encrypted features, and a public key to hide the answer's origin with. [`REQUEST_BYTES`] long in bytes.
///
/// With the masks `a` and `p` of the seed, the key `s` and fresh errors `e`, `e'`: the features `x` are
/// `a * s + e + DELTA * x`, and the public key is `p * s + e'`.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) shape: Shape,
    pub(crate) seed: [u8; SEED_BYTES],
    /// Modulo `q`, `[N]`.
    pub(crate) features: Element,
    /// Modulo `q`, `[N]`.
    pub(crate) public_key: Element,
}

impl ScoringKey {
    /// Encrypts `features: [d]` under a fresh key, for a model of this shape.
    ///
    /// `rng` must be the operating system's or the browser's, or seeded by it.
    ///
    /// # Errors
    ///
    /// [`ScoreError::Length`] for another number of features than the shape's.
    pub fn request(
        shape: Shape,
        features: &[i8],
        rng: &mut impl CryptoRng,
    ) -> Result<(Self, Request), ScoreError> {
        length("features", shape.features(), features.len())?;
        let key = Self {
            shape,
            bits: ring::bits(rng),
        };
        let mut seed = [0; SEED_BYTES];
        rng.fill_bytes(&mut seed);
        let mut encrypted = key.zero(&seed, Mask::Features, rng);
        for (place, feature) in encrypted.iter_mut().zip(features) {
            let message = i64::from(*feature).cast_unsigned().wrapping_mul(DELTA);
            *place = place.wrapping_add(message);
        }
        let public_key = key.zero(&seed, Mask::PublicKey, rng);
        let request = Request {
            shape,
            seed,
            features: reduced(&encrypted),
            public_key: reduced(&public_key),
        };
        Ok((key, request))
    }

    /// An encryption of zero, by its body.
    fn zero(
        &self,
        seed: &[u8; SEED_BYTES],
        mask: Mask,
        rng: &mut impl CryptoRng,
    ) -> Zeroizing<Element> {
        let mask = Multiplicand::new(&ring::expand(seed, mask));
        let mut body = Zeroizing::new(mask.product(&self.bits, ring::masked));
        ring::add(&mut body, &ring::errors(rng));
        body
    }

    /// The scores of an answer, `[classes]`: exactly those of [`crate::QuantisedModel::plain_scores`], if the server is
    /// honest. Nothing shows a score that was made up.
    ///
    /// # Errors
    ///
    /// [`ScoreError::OtherShape`].
    pub fn open(self, response: &Response) -> Result<Vec<i64>, ScoreError> {
        if response.shape != self.shape {
            return Err(ScoreError::OtherShape {
                expected: self.shape,
                found: response.shape,
            });
        }
        let raise = |coefficient: u32| u64::from(coefficient) << ANSWER_DROPPED;
        let bodies = response.scores.chunks(self.shape.rows());
        let mut scores = Vec::with_capacity(self.shape.classes());
        for (mask, bodies) in response.masks.chunks_exact(N).zip(bodies) {
            let mask: Element = mask.iter().copied().map(raise).collect();
            let mask = Multiplicand::new(&mask);
            for (row, body) in bodies.iter().enumerate() {
                let hidden = mask.product_at(self.shape.place(row), &self.bits, ring::masked);
                scores.push(decoded(raise(*body).wrapping_sub(hidden)));
            }
        }
        Ok(scores)
    }
}

/// The nearest multiple of [`DELTA`], signed.
fn decoded(phase: u64) -> i64 {
    let above = u64::BITS - LOG_Q;
    let centred = (phase.wrapping_add(DELTA / 2) << above).cast_signed() >> above;
    centred >> DELTA.trailing_zeros()
}

fn reduced(element: &[u64]) -> Element {
    element.iter().map(|c| c & ((1 << LOG_Q) - 1)).collect()
}

impl Request {
    /// The shape of the model that is asked. Together with the length it is all that a request shows.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// [`REQUEST_BYTES`]: version 1, features and classes as 16 bits big-endian, the seed, the encrypted features, the
    /// public key; a coefficient as 40 bits little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(REQUEST_BYTES);
        header(self.shape, &mut bytes);
        bytes.extend(self.seed);
        ring::pack(&self.features, &mut bytes);
        ring::pack(&self.public_key, &mut bytes);
        bytes
    }

    /// From its bytes. Whatever is read is written as the same bytes again.
    ///
    /// # Errors
    ///
    /// [`ScoreError::Length`] for any other length, [`ScoreError::Version`], and those of [`Shape::new`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ScoreError> {
        length("bytes of a request", REQUEST_BYTES, bytes.len())?;
        let (shape, rest) = read_header("bytes of a request", bytes)?;
        let split = rest.split_first_chunk::<SEED_BYTES>();
        let (seed, rest) = split.ok_or(short("bytes of a request", bytes))?;
        let (features, public_key) = rest
            .split_at_checked(N * REQUEST_COEFFICIENT_BYTES)
            .ok_or(short("bytes of a request", bytes))?;
        Ok(Self {
            shape,
            seed: *seed,
            features: ring::unpack(features),
            public_key: ring::unpack(public_key),
        })
    }
}

/// What every form begins with.
pub(crate) fn header(shape: Shape, bytes: &mut Vec<u8>) {
    bytes.push(VERSION);
    // A shape's numbers are 16 bits.
    bytes.extend((shape.features() as u16).to_be_bytes());
    bytes.extend((shape.classes() as u16).to_be_bytes());
}

pub(crate) fn read_header<'a>(
    what: &'static str,
    bytes: &'a [u8],
) -> Result<(Shape, &'a [u8]), ScoreError> {
    let Some(([version, f1, f0, c1, c0], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
        return Err(short(what, bytes));
    };
    if *version != VERSION {
        return Err(ScoreError::Version(*version));
    }
    let features = u16::from_be_bytes([*f1, *f0]);
    let classes = u16::from_be_bytes([*c1, *c0]);
    Ok((Shape::new(features.into(), classes.into())?, rest))
}

pub(crate) fn short(what: &'static str, bytes: &[u8]) -> ScoreError {
    ScoreError::Length {
        what,
        expected: HEADER_BYTES,
        found: bytes.len(),
    }
}

impl fmt::Debug for ScoringKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScoringKey(redacted)")
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("shape", &self.shape)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};

    #[test]
    fn phases_decode_to_the_nearest_score_up_to_half_a_step() {
        for score in [
            0,
            1,
            -1,
            crate::params::MAX_SCORE,
            -crate::params::MAX_SCORE,
        ] {
            let at = (score * DELTA as i64).cast_unsigned();
            let half = DELTA / 2;
            assert_eq!(decoded(at), score);
            assert_eq!(decoded(at.wrapping_add(half - 1)), score);
            assert_eq!(decoded(at.wrapping_sub(half)), score);
            if score < crate::params::MAX_SCORE {
                assert_eq!(decoded(at.wrapping_add(half)), score + 1);
            }
            // Above the modulus is nothing.
            assert_eq!(decoded(at.wrapping_add(0xABC << LOG_Q)), score);
        }
    }

    #[test]
    fn a_request_holds_neither_its_key_nor_anything_of_another_request() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let shape = Shape::new(64, 10).unwrap();
        let (key, request) = ScoringKey::request(shape, &[5; 64], &mut rng).unwrap();
        let (other_key, other) = ScoringKey::request(shape, &[5; 64], &mut rng).unwrap();
        assert_ne!(key.bits, other_key.bits);
        let packed: Vec<u8> = key
            .bits
            .chunks(8)
            .map(|bits| {
                bits.iter()
                    .rev()
                    .fold(0, |byte, bit| byte << 1 | (bit & 1) as u8)
            })
            .collect();
        let bytes = request.to_bytes();
        for secret in packed.chunks_exact(8) {
            assert!(!bytes.windows(8).any(|window| window == secret));
        }
        // No coefficient of one body is in the other's, at any place; by chance one in 2^18 runs.
        for (a, b) in [
            (&request.features, &other.features),
            (&request.public_key, &other.public_key),
            (&request.features, &request.public_key),
        ] {
            assert!(a.iter().all(|coefficient| !b.contains(coefficient)));
        }
        assert_eq!(format!("{key:?}"), "ScoringKey(redacted)");
    }

    #[test]
    fn what_is_encrypted_looks_uniform_without_the_key() {
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        let shape = Shape::new(N, 1).unwrap();
        // Chi-square over the bytes of zeros, of extremes, and of the difference of two.
        for feature in [0, 127, -128] {
            let (_, request) = ScoringKey::request(shape, &[feature; N], &mut rng).unwrap();
            let mut counts = [0f64; 256];
            let bytes = request.to_bytes();
            let body = &bytes[HEADER_BYTES + SEED_BYTES..];
            for byte in body {
                counts[usize::from(*byte)] += 1.0;
            }
            let expected = body.len() as f64 / 256.0;
            let chi: f64 = counts
                .iter()
                .map(|c| (c - expected).powi(2) / expected)
                .sum();
            // 255 degrees of freedom, six standard deviations.
            assert!((chi - 255.0).abs() < 6.0 * 510f64.sqrt(), "{chi}");
        }
    }
}
