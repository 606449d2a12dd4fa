//! One VDAF that is one of several, each part of it of the scheme that the task chose.

use std::io::Cursor;

use defim_pine::{self as pine, Pine32Hmac};
use prio::{
    codec::{CodecError, Encode, ParameterizedDecode},
    field::FieldPrio2,
    vdaf::{Aggregatable, Aggregator, Client, Collector, PrepareTransition, Vdaf, VdafError},
};
use rand::{CryptoRng, RngCore};

use super::{NONCE_BYTES, VERIFY_KEY_BYTES, voted::Voted};

/// The VDAF of learning tasks.
pub type UpdateVdaf = Either<Voted, Pine32Hmac>;

/// Something of one of the schemes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Either<A, B> {
    /// Of [`super::Scheme::Pine64`].
    Pine64(A),
    /// Of [`super::Scheme::Pine32Hmac`].
    Pine32Hmac(B),
}

use Either::{Pine32Hmac as P32, Pine64 as P64};

type First = <Voted as Aggregator<16, NONCE_BYTES>>::PrepareState;
type State = Either<First, pine::PrepareState<FieldPrio2, 32>>;

type Outputs = Either<<Voted as Vdaf>::OutputShare, pine::OutputShare<FieldPrio2>>;
type Sums = Either<<Voted as Vdaf>::AggregateShare, pine::AggregateShare<FieldPrio2>>;

/// The same of either: `each!(value, inner => expression)`.
macro_rules! each {
    ($value:expr, $inner:ident => $result:expr) => {
        match $value {
            P64($inner) => $result,
            P32($inner) => $result,
        }
    };
}

/// Parts of different schemes have met: only a fault of this program brings them together.
fn mixed() -> VdafError {
    VdafError::Uncategorized("parts of different schemes were mixed".to_owned())
}

/// The first bytes of the committee's key, as many as a scheme takes.
fn key<const SEED: usize>(key: &[u8; VERIFY_KEY_BYTES]) -> Result<&[u8; SEED], VdafError> {
    key.first_chunk().ok_or_else(mixed)
}

impl<A, B> Either<A, B> {
    fn into_first(self) -> Result<A, VdafError> {
        match self {
            P64(a) => Ok(a),
            P32(_) => Err(mixed()),
        }
    }

    fn into_second(self) -> Result<B, VdafError> {
        match self {
            P64(_) => Err(mixed()),
            P32(b) => Ok(b),
        }
    }

    fn as_ref(&self) -> Either<&A, &B> {
        match self {
            P64(a) => P64(a),
            P32(b) => P32(b),
        }
    }
}

/// All of a list, if they are of one scheme.
fn all<T, U, E>(
    items: impl IntoIterator<Item = T>,
    of: impl Fn(T) -> Result<U, E>,
) -> Result<Vec<U>, E> {
    items.into_iter().map(of).collect()
}

impl<A: Encode, B: Encode> Encode for Either<A, B> {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        each!(self, part => part.encode(bytes))
    }

    fn encoded_len(&self) -> Option<usize> {
        each!(self, part => part.encoded_len())
    }
}

impl<A, B> ParameterizedDecode<UpdateVdaf> for Either<A, B>
where
    A: ParameterizedDecode<Voted>,
    B: ParameterizedDecode<Pine32Hmac>,
{
    fn decode_with_param(vdaf: &UpdateVdaf, bytes: &mut Cursor<&[u8]>) -> Result<Self, CodecError> {
        Ok(match vdaf {
            P64(vdaf) => P64(A::decode_with_param(vdaf, bytes)?),
            P32(vdaf) => P32(B::decode_with_param(vdaf, bytes)?),
        })
    }
}

impl<A, B, P: Copy> ParameterizedDecode<(&UpdateVdaf, P)> for Either<A, B>
where
    A: for<'a> ParameterizedDecode<(&'a Voted, P)>,
    B: for<'a> ParameterizedDecode<(&'a Pine32Hmac, P)>,
{
    fn decode_with_param(
        (vdaf, parameter): &(&UpdateVdaf, P),
        bytes: &mut Cursor<&[u8]>,
    ) -> Result<Self, CodecError> {
        Ok(match vdaf {
            P64(vdaf) => P64(A::decode_with_param(&(vdaf, *parameter), bytes)?),
            P32(vdaf) => P32(B::decode_with_param(&(vdaf, *parameter), bytes)?),
        })
    }
}

impl<A, B> ParameterizedDecode<State> for Either<A, B>
where
    A: ParameterizedDecode<First>,
    B: ParameterizedDecode<pine::PrepareState<FieldPrio2, 32>>,
{
    fn decode_with_param(state: &State, bytes: &mut Cursor<&[u8]>) -> Result<Self, CodecError> {
        Ok(match state {
            P64(state) => P64(A::decode_with_param(state, bytes)?),
            P32(state) => P32(B::decode_with_param(state, bytes)?),
        })
    }
}

impl Vdaf for UpdateVdaf {
    type Measurement = Vec<f64>;
    type AggregateResult = Vec<f64>;
    type AggregationParam = ();
    type PublicShare = Either<<Voted as Vdaf>::PublicShare, pine::PublicShare<32>>;
    type InputShare = Either<<Voted as Vdaf>::InputShare, pine::InputShare<FieldPrio2, 32>>;
    type OutputShare = Outputs;
    type AggregateShare = Sums;

    fn algorithm_id(&self) -> u32 {
        each!(self, vdaf => vdaf.algorithm_id())
    }

    fn num_aggregators(&self) -> usize {
        each!(self, vdaf => vdaf.num_aggregators())
    }
}

impl UpdateVdaf {
    /// As [`Client::shard`], with randomness of the caller's: for runs that are to be the same again. A vote's shares are
    /// random all the same.
    ///
    /// # Errors
    ///
    /// [`VdafError`] if the measurement is refused.
    #[allow(clippy::type_complexity)]
    pub fn shard_with<R: RngCore + CryptoRng>(
        &self,
        measurement: &[f64],
        nonce: &[u8; NONCE_BYTES],
        rng: &mut R,
    ) -> Result<(<Self as Vdaf>::PublicShare, Vec<<Self as Vdaf>::InputShare>), VdafError> {
        Ok(match self {
            P64(vdaf) => {
                let (public, shares) = vdaf.shard_by(measurement, nonce, |pine, update| {
                    with(rng, pine.randomness_len(), |randomness| {
                        pine.shard_with_randomness(update, nonce, randomness)
                    })
                })?;
                (P64(public), shares.into_iter().map(P64).collect())
            }
            P32(vdaf) => {
                let (public, shares) = with(rng, vdaf.randomness_len(), |randomness| {
                    vdaf.shard_with_randomness(measurement, nonce, randomness)
                })?;
                (P32(public), shares.into_iter().map(P32).collect())
            }
        })
    }
}

/// Draws until the wraparound checks pass, which an honest vector misses once in 2^46 times.
fn with<T, R: RngCore + CryptoRng>(
    rng: &mut R,
    length: usize,
    shard: impl Fn(&[u8]) -> Result<T, pine::PineError>,
) -> Result<T, VdafError> {
    let mut randomness = vec![0; length];
    loop {
        rng.fill_bytes(&mut randomness);
        match shard(&randomness) {
            Err(pine::PineError::Encode(pine::EncodeError::Retry)) => {}
            result => return Ok(result?),
        }
    }
}

impl Client<NONCE_BYTES> for UpdateVdaf {
    fn shard(
        &self,
        measurement: &Vec<f64>,
        nonce: &[u8; NONCE_BYTES],
    ) -> Result<(Self::PublicShare, Vec<Self::InputShare>), VdafError> {
        Ok(match self {
            P64(vdaf) => {
                let (public, shares) = vdaf.shard(measurement, nonce)?;
                (P64(public), shares.into_iter().map(P64).collect())
            }
            P32(vdaf) => {
                let (public, shares) = vdaf.shard(measurement, nonce)?;
                (P32(public), shares.into_iter().map(P32).collect())
            }
        })
    }
}

impl Aggregator<VERIFY_KEY_BYTES, NONCE_BYTES> for UpdateVdaf {
    type PrepareState = State;
    type PrepareShare = Either<
        <Voted as Aggregator<16, NONCE_BYTES>>::PrepareShare,
        pine::PrepareShare<FieldPrio2, 32>,
    >;
    type PrepareMessage =
        Either<<Voted as Aggregator<16, NONCE_BYTES>>::PrepareMessage, pine::PrepareMessage<32>>;

    fn prepare_init(
        &self,
        verify_key: &[u8; VERIFY_KEY_BYTES],
        member: usize,
        (): &(),
        nonce: &[u8; NONCE_BYTES],
        public: &Self::PublicShare,
        share: &Self::InputShare,
    ) -> Result<(State, Self::PrepareShare), VdafError> {
        match (self, public, share) {
            (P64(vdaf), P64(public), P64(share)) => {
                let key = key(verify_key)?;
                let (state, share) = vdaf.prepare_init(key, member, &(), nonce, public, share)?;
                Ok((P64(state), P64(share)))
            }
            (P32(vdaf), P32(public), P32(share)) => {
                let key = key(verify_key)?;
                let (state, share) = vdaf.prepare_init(key, member, &(), nonce, public, share)?;
                Ok((P32(state), P32(share)))
            }
            _ => Err(mixed()),
        }
    }

    fn prepare_shares_to_prepare_message<M: IntoIterator<Item = Self::PrepareShare>>(
        &self,
        (): &(),
        shares: M,
    ) -> Result<Self::PrepareMessage, VdafError> {
        match self {
            P64(vdaf) => {
                let shares = all(shares, Either::into_first)?;
                Ok(P64(vdaf.prepare_shares_to_prepare_message(&(), shares)?))
            }
            P32(vdaf) => {
                let shares = all(shares, Either::into_second)?;
                Ok(P32(vdaf.prepare_shares_to_prepare_message(&(), shares)?))
            }
        }
    }

    fn prepare_next(
        &self,
        state: State,
        message: Self::PrepareMessage,
    ) -> Result<PrepareTransition<Self, VERIFY_KEY_BYTES, NONCE_BYTES>, VdafError> {
        use PrepareTransition::{Continue, Finish};
        match (self, state, message) {
            (P64(vdaf), P64(state), P64(message)) => {
                Ok(match vdaf.prepare_next(state, message)? {
                    Continue(state, share) => Continue(P64(state), P64(share)),
                    Finish(output) => Finish(P64(output)),
                })
            }
            (P32(vdaf), P32(state), P32(message)) => {
                Ok(match vdaf.prepare_next(state, message)? {
                    Continue(state, share) => Continue(P32(state), P32(share)),
                    Finish(output) => Finish(P32(output)),
                })
            }
            _ => Err(mixed()),
        }
    }

    fn aggregate<M: IntoIterator<Item = Self::OutputShare>>(
        &self,
        (): &(),
        shares: M,
    ) -> Result<Self::AggregateShare, VdafError> {
        match self {
            P64(vdaf) => Ok(P64(vdaf.aggregate(&(), all(shares, Either::into_first)?)?)),
            P32(vdaf) => Ok(P32(vdaf.aggregate(&(), all(shares, Either::into_second)?)?)),
        }
    }
}

impl Collector for UpdateVdaf {
    fn unshard<M: IntoIterator<Item = Self::AggregateShare>>(
        &self,
        (): &(),
        shares: M,
        reports: usize,
    ) -> Result<Vec<f64>, VdafError> {
        match self {
            P64(vdaf) => vdaf.unshard(&(), all(shares, Either::into_first)?, reports),
            P32(vdaf) => vdaf.unshard(&(), all(shares, Either::into_second)?, reports),
        }
    }
}

impl From<Outputs> for Sums {
    fn from(share: Outputs) -> Self {
        match share {
            P64(share) => P64(share.into()),
            P32(share) => P32(share.into()),
        }
    }
}

impl Aggregatable for Sums {
    type OutputShare = Outputs;

    fn merge(&mut self, other: &Self) -> Result<(), VdafError> {
        match (self, other.as_ref()) {
            (P64(sum), P64(other)) => sum.merge(other),
            (P32(sum), P32(other)) => sum.merge(other),
            _ => Err(mixed()),
        }
    }

    fn accumulate(&mut self, share: &Outputs) -> Result<(), VdafError> {
        match (self, share.as_ref()) {
            (P64(sum), P64(share)) => sum.accumulate(share),
            (P32(sum), P32(share)) => sum.accumulate(share),
            _ => Err(mixed()),
        }
    }
}
