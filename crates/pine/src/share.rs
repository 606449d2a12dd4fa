//! What the parties send each other, and how it is encoded.

use std::fmt::{self, Debug};
use std::io::{Cursor, Read as _};

use prio::codec::{CodecError, Decode, Encode, ParameterizedDecode};
use prio::vdaf::{Aggregatable, VdafError};
use subtle::ConstantTimeEq as _;

use crate::field::PineField;
use crate::residue::Residue;
use crate::vdaf::{Pine, PineError};
use crate::xof::encoded_blocks;

/// Joint randomness parts of all aggregators: everybody may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicShare<const SEED: usize> {
    /// For the wraparound checks, by aggregator.
    pub(crate) wr_parts: Vec<[u8; SEED]>,
    /// For the verification, by aggregator.
    pub(crate) vf_parts: Vec<[u8; SEED]>,
}

/// One aggregator's share of a measurement and of its proofs. It is secret, and says nothing by itself.
#[derive(Clone)]
pub struct InputShare<F: PineField, const SEED: usize> {
    pub(crate) content: Content<F, SEED>,
    pub(crate) wr_blind: [u8; SEED],
    pub(crate) vf_blind: [u8; SEED],
}

#[derive(Clone)]
pub(crate) enum Content<F: PineField, const SEED: usize> {
    /// The leader's: all elements.
    Leader {
        measurement: Vec<F::Residue>,
        proofs: Vec<F::Residue>,
    },
    /// A helper's: seeds that its elements are expanded from.
    Helper {
        measurement: [u8; SEED],
        proofs: [u8; SEED],
    },
}

/// What an aggregator keeps while it waits for the others.
#[derive(Clone)]
pub struct PrepareState<F: PineField, const SEED: usize> {
    pub(crate) output: Vec<F::Residue>,
    pub(crate) wr_seed: [u8; SEED],
    pub(crate) vf_seed: [u8; SEED],
    pub(crate) verifiers_len: usize,
}

/// What an aggregator tells the others: its share of all verifiers, and its joint randomness parts.
#[derive(Clone)]
pub struct PrepareShare<F: PineField, const SEED: usize> {
    pub(crate) verifiers: Vec<F::Residue>,
    pub(crate) wr_part: [u8; SEED],
    pub(crate) vf_part: [u8; SEED],
}

/// The joint randomness seeds that all aggregators must have used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrepareMessage<const SEED: usize> {
    pub(crate) wr_seed: [u8; SEED],
    pub(crate) vf_seed: [u8; SEED],
}

/// An aggregator's share of one verified vector, `[d]`.
#[derive(Clone)]
pub struct OutputShare<F: PineField> {
    pub(crate) values: Vec<F::Residue>,
}

/// An aggregator's share of a sum of vectors, `[d]`.
#[derive(Clone)]
pub struct AggregateShare<F: PineField> {
    pub(crate) values: Vec<F::Residue>,
}

impl<F: PineField> Debug for OutputShare<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OutputShare(redacted)")
    }
}

impl<F: PineField> Debug for AggregateShare<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AggregateShare(redacted)")
    }
}

macro_rules! redacted {
    ($($name:ident),*) => {$(
        impl<F: PineField, const SEED: usize> Debug for $name<F, SEED> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(redacted)"))
            }
        }
    )*};
}

redacted!(InputShare, PrepareState, PrepareShare);

impl<F: PineField, const SEED: usize> PartialEq for PrepareState<F, SEED> {
    fn eq(&self, other: &Self) -> bool {
        let seeds = self.wr_seed.ct_eq(&other.wr_seed) & self.vf_seed.ct_eq(&other.vf_seed);
        let mut bytes = [Vec::new(), Vec::new()];
        for (state, bytes) in [self, other].into_iter().zip(&mut bytes) {
            encoded_blocks(&state.output, |block| bytes.extend_from_slice(block));
        }
        let [ours, theirs] = bytes;
        bool::from(seeds & ours.ct_eq(&theirs)) && self.verifiers_len == other.verifiers_len
    }
}

impl<F: PineField, const SEED: usize> Eq for PrepareState<F, SEED> {}

fn encode_elements<R: Residue>(elements: &[R], bytes: &mut Vec<u8>) {
    bytes.reserve(elements.len() * R::BYTES);
    encoded_blocks(elements, |block| bytes.extend_from_slice(block));
}

fn decode_elements<R: Residue>(
    count: usize,
    bytes: &mut Cursor<&[u8]>,
) -> Result<Vec<R>, CodecError> {
    let short = || CodecError::Io(std::io::ErrorKind::UnexpectedEof.into());
    let start = usize::try_from(bytes.position()).map_err(|_| short())?;
    let length = count.checked_mul(R::BYTES).ok_or_else(short)?;
    // Before anything is allocated, the bytes must be there.
    let encoded = bytes
        .get_ref()
        .get(start..)
        .and_then(|rest| rest.get(..length))
        .ok_or_else(short)?;
    let elements = encoded
        .chunks_exact(R::BYTES)
        .map(R::read)
        .collect::<Option<Vec<R>>>()
        .ok_or(CodecError::UnexpectedValue)?;
    bytes.set_position((start + length) as u64);
    Ok(elements)
}

fn decode_seed<const SEED: usize>(bytes: &mut Cursor<&[u8]>) -> Result<[u8; SEED], CodecError> {
    let mut seed = [0; SEED];
    bytes.read_exact(&mut seed)?;
    Ok(seed)
}

impl<const SEED: usize> Encode for PublicShare<SEED> {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        for part in self.wr_parts.iter().chain(&self.vf_parts) {
            bytes.extend_from_slice(part);
        }
        Ok(())
    }

    fn encoded_len(&self) -> Option<usize> {
        Some((self.wr_parts.len() + self.vf_parts.len()) * SEED)
    }
}

impl<F: PineField, X, const SEED: usize> ParameterizedDecode<Pine<F, X, SEED>>
    for PublicShare<SEED>
{
    fn decode_with_param(
        pine: &Pine<F, X, SEED>,
        bytes: &mut Cursor<&[u8]>,
    ) -> Result<Self, CodecError> {
        let mut parts = || {
            (0..pine.parameters().num_shares)
                .map(|_| decode_seed(bytes))
                .collect::<Result<Vec<_>, _>>()
        };
        Ok(Self {
            wr_parts: parts()?,
            vf_parts: parts()?,
        })
    }
}

impl<F: PineField, const SEED: usize> Encode for InputShare<F, SEED> {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        match &self.content {
            Content::Leader {
                measurement,
                proofs,
            } => {
                encode_elements(measurement, bytes);
                encode_elements(proofs, bytes);
            }
            Content::Helper {
                measurement,
                proofs,
            } => {
                bytes.extend_from_slice(measurement);
                bytes.extend_from_slice(proofs);
            }
        }
        bytes.extend_from_slice(&self.wr_blind);
        bytes.extend_from_slice(&self.vf_blind);
        Ok(())
    }

    fn encoded_len(&self) -> Option<usize> {
        let content = match &self.content {
            Content::Leader {
                measurement,
                proofs,
            } => (measurement.len() + proofs.len()) * F::Residue::BYTES,
            Content::Helper { .. } => 2 * SEED,
        };
        Some(content + 2 * SEED)
    }
}

impl<F: PineField, X, const SEED: usize> ParameterizedDecode<(&Pine<F, X, SEED>, usize)>
    for InputShare<F, SEED>
{
    fn decode_with_param(
        (pine, aggregator): &(&Pine<F, X, SEED>, usize),
        bytes: &mut Cursor<&[u8]>,
    ) -> Result<Self, CodecError> {
        let content = match aggregator {
            0 => Content::Leader {
                measurement: decode_elements(pine.measurement_len(), bytes)?,
                proofs: decode_elements(pine.proofs_len(), bytes)?,
            },
            helper if *helper < pine.parameters().num_shares => Content::Helper {
                measurement: decode_seed(bytes)?,
                proofs: decode_seed(bytes)?,
            },
            _ => return Err(CodecError::UnexpectedValue),
        };
        Ok(Self {
            content,
            wr_blind: decode_seed(bytes)?,
            vf_blind: decode_seed(bytes)?,
        })
    }
}

impl<F: PineField, const SEED: usize> Encode for PrepareState<F, SEED> {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_elements(&self.output, bytes);
        bytes.extend_from_slice(&self.wr_seed);
        bytes.extend_from_slice(&self.vf_seed);
        Ok(())
    }

    fn encoded_len(&self) -> Option<usize> {
        Some(self.output.len() * F::Residue::BYTES + 2 * SEED)
    }
}

impl<F: PineField, X, const SEED: usize> ParameterizedDecode<(&Pine<F, X, SEED>, usize)>
    for PrepareState<F, SEED>
{
    fn decode_with_param(
        (pine, _): &(&Pine<F, X, SEED>, usize),
        bytes: &mut Cursor<&[u8]>,
    ) -> Result<Self, CodecError> {
        Ok(Self {
            output: decode_elements(pine.parameters().dimension, bytes)?,
            wr_seed: decode_seed(bytes)?,
            vf_seed: decode_seed(bytes)?,
            verifiers_len: pine.verifiers_len(),
        })
    }
}

impl<F: PineField, const SEED: usize> Encode for PrepareShare<F, SEED> {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        encode_elements(&self.verifiers, bytes);
        bytes.extend_from_slice(&self.wr_part);
        bytes.extend_from_slice(&self.vf_part);
        Ok(())
    }

    fn encoded_len(&self) -> Option<usize> {
        Some(self.verifiers.len() * F::Residue::BYTES + 2 * SEED)
    }
}

impl<F: PineField, const SEED: usize> ParameterizedDecode<PrepareState<F, SEED>>
    for PrepareShare<F, SEED>
{
    fn decode_with_param(
        state: &PrepareState<F, SEED>,
        bytes: &mut Cursor<&[u8]>,
    ) -> Result<Self, CodecError> {
        Ok(Self {
            verifiers: decode_elements(state.verifiers_len, bytes)?,
            wr_part: decode_seed(bytes)?,
            vf_part: decode_seed(bytes)?,
        })
    }
}

impl<const SEED: usize> Encode for PrepareMessage<SEED> {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        bytes.extend_from_slice(&self.wr_seed);
        bytes.extend_from_slice(&self.vf_seed);
        Ok(())
    }

    fn encoded_len(&self) -> Option<usize> {
        Some(2 * SEED)
    }
}

impl<const SEED: usize> Decode for PrepareMessage<SEED> {
    fn decode(bytes: &mut Cursor<&[u8]>) -> Result<Self, CodecError> {
        Ok(Self {
            wr_seed: decode_seed(bytes)?,
            vf_seed: decode_seed(bytes)?,
        })
    }
}

macro_rules! vectors {
    ($($name:ident),*) => {$(
        impl<F: PineField> $name<F> {
            /// The field elements, `[d]`.
            pub fn elements(&self) -> impl ExactSizeIterator<Item = F> + '_ {
                self.values.iter().map(|value| F::from_residue(*value))
            }
        }

        impl<F: PineField> From<Vec<F>> for $name<F> {
            fn from(elements: Vec<F>) -> Self {
                Self {
                    values: elements.into_iter().map(F::to_residue).collect(),
                }
            }
        }

        impl<F: PineField> Encode for $name<F> {
            fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
                encode_elements(&self.values, bytes);
                Ok(())
            }

            fn encoded_len(&self) -> Option<usize> {
                Some(self.values.len() * F::Residue::BYTES)
            }
        }

        impl<F: PineField, X, const SEED: usize> ParameterizedDecode<(&Pine<F, X, SEED>, &())>
            for $name<F>
        {
            fn decode_with_param(
                (pine, ()): &(&Pine<F, X, SEED>, &()),
                bytes: &mut Cursor<&[u8]>,
            ) -> Result<Self, CodecError> {
                Ok(Self {
                    values: decode_elements(pine.parameters().dimension, bytes)?,
                })
            }
        }
    )*};
}

vectors!(OutputShare, AggregateShare);

impl<F: PineField> From<OutputShare<F>> for AggregateShare<F> {
    fn from(share: OutputShare<F>) -> Self {
        Self {
            values: share.values,
        }
    }
}

impl<F: PineField> AggregateShare<F> {
    fn add(&mut self, values: &[F::Residue]) -> Result<(), VdafError> {
        if self.values.len() != values.len() {
            return Err(PineError::Count {
                what: "elements of a share",
                expected: self.values.len(),
                found: values.len(),
            }
            .into());
        }
        for (sum, value) in self.values.iter_mut().zip(values) {
            *sum += *value;
        }
        Ok(())
    }
}

impl<F: PineField> Aggregatable for AggregateShare<F> {
    type OutputShare = OutputShare<F>;

    fn merge(&mut self, other: &Self) -> Result<(), VdafError> {
        self.add(&other.values)
    }

    fn accumulate(&mut self, share: &OutputShare<F>) -> Result<(), VdafError> {
        self.add(&share.values)
    }
}
