//! PINE, and in tasks with quality votes a Prio3 histogram beside it: one report proves a bounded update and one vote.
//!
//! All parts of a report are the update's followed by the vote's; without votes they are the update's alone, byte for byte. The
//! two proofs share the report's nonce and the committee's key, and nothing else: every hash of either starts with its algorithm's
//! id.

use std::io::Cursor;

use defim_pine::{self as pine, Pine64};
use prio::{
    codec::{CodecError, Decode as _, Encode, ParameterizedDecode},
    field::{Field64, FieldElement as _},
    flp::{
        Type as _,
        gadgets::{Mul, ParallelSum},
        types::Histogram,
    },
    vdaf::{
        Aggregatable, Aggregator, Client, Collector, PrepareTransition, Vdaf, VdafError,
        prio3::{
            Prio3, Prio3InputShare, Prio3PrepareMessage, Prio3PrepareShare, Prio3PrepareState,
            Prio3PublicShare,
        },
        xof::XofTurboShake128,
    },
};

use super::NONCE_BYTES;

/// Of the private-use range: the draft's histogram is over a larger field.
const ALGORITHM_ID: u32 = 0xFFFF_D010;
/// Over 64 bits, as many as the draft has for its other types of this field.
const PROOFS: u8 = 3;
/// About the root of the number of bins, which makes the shortest proofs.
const CHUNK: usize = 3;
/// Of both.
const SEED: usize = 16;

type Prio = Prio3<Histogram<Field64, ParallelSum<Field64, Mul<Field64>>>, XofTurboShake128, SEED>;

/// How votes are cast.
#[derive(Debug, Clone)]
struct Ballot {
    prio: Prio,
    bins: usize,
    /// Field elements of the leader's share.
    leader: usize,
    /// What a vote is multiplied by once it is verified, so that the noise that hides an update hides it, too.
    unit: u64,
}

/// PINE, with a vote in each report if the task has votes.
#[derive(Debug, Clone)]
pub struct Voted {
    pine: Pine64,
    ballot: Option<Ballot>,
}

/// A part of a report: the update's, and the vote's if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Both<A, V> {
    /// The update's.
    pub update: A,
    /// The vote's.
    pub vote: Option<V>,
}

/// A vote's state. Its encoding says whose it is, which decides its form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VoteState {
    member: u8,
    state: Prio3PrepareState<Field64, SEED>,
}

type Outputs = Both<pine::OutputShare<Field64>, prio::vdaf::OutputShare<Field64>>;
type Sums = Both<pine::AggregateShare<Field64>, prio::vdaf::AggregateShare<Field64>>;
type State = Both<pine::PrepareState<Field64, SEED>, VoteState>;

/// A vote without a task that asks for it, or none where it does.
fn other() -> VdafError {
    VdafError::Uncategorized("a report has one vote if its task has votes, and else none".into())
}

/// Something of the vote, if there is a vote to be.
fn vote<B, V, T>(
    ballot: Option<B>,
    vote: Option<V>,
    of: impl FnOnce(B, V) -> Result<T, VdafError>,
) -> Result<Option<T>, VdafError> {
    match (ballot, vote) {
        (None, None) => Ok(None),
        (Some(ballot), Some(vote)) => of(ballot, vote).map(Some),
        _ => Err(other()),
    }
}

impl Voted {
    /// PINE alone, or with votes for one of so many bins, each counting `unit`.
    pub(super) fn new(pine: Pine64, bins: u8, unit: u64) -> Result<Self, VdafError> {
        let shares = u8::try_from(pine.num_aggregators()).map_err(|_| other())?;
        let ballot = |bins: usize| {
            let histogram: Histogram<Field64, _> = Histogram::new(bins, CHUNK)?;
            let leader = histogram.input_len() + histogram.proof_len() * usize::from(PROOFS);
            Ok::<_, VdafError>(Ballot {
                prio: Prio3::new(shares, PROOFS, ALGORITHM_ID, histogram)?,
                bins,
                leader,
                unit,
            })
        };
        Ok(Self {
            pine,
            ballot: (bins > 0).then(|| ballot(bins.into())).transpose()?,
        })
    }

    /// The update's part.
    pub const fn pine(&self) -> &Pine64 {
        &self.pine
    }

    /// Lengths of the public, the leader's and each helper's share of a report, in bytes.
    pub(super) fn share_lengths(&self) -> (usize, usize, usize) {
        let (public, leader, helper) = self.pine.share_lengths();
        let Some(ballot) = &self.ballot else {
            return (public, leader, helper);
        };
        // A part of the joint randomness for each; a blind beside a share, and seeds in place of a helper's elements.
        let parts = self.pine.num_aggregators() * SEED;
        let elements = ballot.leader * Field64::ENCODED_SIZE;
        (public + parts, leader + elements + SEED, helper + 3 * SEED)
    }

    /// The update of a measurement, and the bin that its last coordinates vote for.
    fn read<'a>(&self, measurement: &'a [f64]) -> Result<(&'a [f64], Option<usize>), VdafError> {
        let Some(ballot) = &self.ballot else {
            return Ok((measurement, None));
        };
        let dimension = measurement
            .len()
            .checked_sub(ballot.bins)
            .ok_or_else(other)?;
        let (update, votes) = measurement.split_at_checked(dimension).ok_or_else(other)?;
        let bin = votes.iter().position(|vote| *vote == 1.0);
        let cast = votes.iter().filter(|vote| **vote != 0.0).count();
        match bin.filter(|_| cast == 1) {
            Some(bin) => Ok((update, Some(bin))),
            None => Err(other()),
        }
    }

    /// As [`Client::shard`], with `shard` for the update: its randomness may be the caller's, the vote's never is.
    #[allow(clippy::type_complexity)]
    pub(super) fn shard_by(
        &self,
        measurement: &[f64],
        nonce: &[u8; NONCE_BYTES],
        shard: impl FnOnce(
            &Pine64,
            &[f64],
        ) -> Result<
            (
                <Pine64 as Vdaf>::PublicShare,
                Vec<<Pine64 as Vdaf>::InputShare>,
            ),
            VdafError,
        >,
    ) -> Result<(<Self as Vdaf>::PublicShare, Vec<<Self as Vdaf>::InputShare>), VdafError> {
        let (update, bin) = self.read(measurement)?;
        let (public, shares) = shard(&self.pine, update)?;
        let cast = vote(self.ballot.as_ref(), bin, |ballot, bin| {
            ballot.prio.shard(&bin, nonce)
        })?;
        let (own, votes) = cast.unzip();
        let mut votes = votes.into_iter().flatten();
        let shares = shares.into_iter().map(|update| Both {
            update,
            vote: votes.next(),
        });
        Ok((
            Both {
                update: public,
                vote: own,
            },
            shares.collect(),
        ))
    }
}

impl<A: Encode, V: Encode> Encode for Both<A, V> {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        self.update.encode(bytes)?;
        self.vote.as_ref().map_or(Ok(()), |vote| vote.encode(bytes))
    }

    fn encoded_len(&self) -> Option<usize> {
        let vote = match &self.vote {
            None => 0,
            Some(vote) => vote.encoded_len()?,
        };
        Some(self.update.encoded_len()? + vote)
    }
}

impl<A, V> ParameterizedDecode<Voted> for Both<A, V>
where
    A: ParameterizedDecode<Pine64>,
    V: ParameterizedDecode<Prio>,
{
    fn decode_with_param(vdaf: &Voted, bytes: &mut Cursor<&[u8]>) -> Result<Self, CodecError> {
        let ballot = vdaf.ballot.as_ref();
        Ok(Self {
            update: A::decode_with_param(&vdaf.pine, bytes)?,
            vote: ballot
                .map(|ballot| V::decode_with_param(&ballot.prio, bytes))
                .transpose()?,
        })
    }
}

impl<A, V> ParameterizedDecode<(&Voted, usize)> for Both<A, V>
where
    A: for<'a> ParameterizedDecode<(&'a Pine64, usize)>,
    V: for<'a> ParameterizedDecode<(&'a Prio, usize)>,
{
    fn decode_with_param(
        (vdaf, member): &(&Voted, usize),
        bytes: &mut Cursor<&[u8]>,
    ) -> Result<Self, CodecError> {
        let ballot = vdaf.ballot.as_ref();
        Ok(Self {
            update: A::decode_with_param(&(&vdaf.pine, *member), bytes)?,
            vote: ballot
                .map(|ballot| V::decode_with_param(&(&ballot.prio, *member), bytes))
                .transpose()?,
        })
    }
}

impl<A, V> ParameterizedDecode<(&Voted, &())> for Both<A, V>
where
    A: for<'a> ParameterizedDecode<(&'a Pine64, &'a ())>,
    V: for<'a> ParameterizedDecode<(&'a Prio, &'a ())>,
{
    fn decode_with_param(
        (vdaf, ()): &(&Voted, &()),
        bytes: &mut Cursor<&[u8]>,
    ) -> Result<Self, CodecError> {
        let ballot = vdaf.ballot.as_ref();
        Ok(Self {
            update: A::decode_with_param(&(&vdaf.pine, &()), bytes)?,
            vote: ballot
                .map(|ballot| V::decode_with_param(&(&ballot.prio, &()), bytes))
                .transpose()?,
        })
    }
}

impl<A, V> ParameterizedDecode<State> for Both<A, V>
where
    A: ParameterizedDecode<pine::PrepareState<Field64, SEED>>,
    V: ParameterizedDecode<Prio3PrepareState<Field64, SEED>>,
{
    fn decode_with_param(state: &State, bytes: &mut Cursor<&[u8]>) -> Result<Self, CodecError> {
        let vote = state.vote.as_ref();
        Ok(Self {
            update: A::decode_with_param(&state.update, bytes)?,
            vote: vote
                .map(|vote| V::decode_with_param(&vote.state, bytes))
                .transpose()?,
        })
    }
}

impl Encode for VoteState {
    fn encode(&self, bytes: &mut Vec<u8>) -> Result<(), CodecError> {
        self.member.encode(bytes)?;
        self.state.encode(bytes)
    }

    fn encoded_len(&self) -> Option<usize> {
        Some(1 + self.state.encoded_len()?)
    }
}

impl ParameterizedDecode<(&Prio, usize)> for VoteState {
    fn decode_with_param(
        (prio, _): &(&Prio, usize),
        bytes: &mut Cursor<&[u8]>,
    ) -> Result<Self, CodecError> {
        let member = u8::decode(bytes)?;
        let state = Prio3PrepareState::decode_with_param(&(*prio, member.into()), bytes)?;
        Ok(Self { member, state })
    }
}

impl Vdaf for Voted {
    /// The update, and for a task with votes as many more as there are bins: 1 for the bin that is voted for, 0 for each other.
    type Measurement = Vec<f64>;
    /// The sum of all updates, followed by the votes of each bin.
    type AggregateResult = Vec<f64>;
    type AggregationParam = ();
    type PublicShare = Both<pine::PublicShare<SEED>, Prio3PublicShare<SEED>>;
    type InputShare = Both<pine::InputShare<Field64, SEED>, Prio3InputShare<Field64, SEED>>;
    type OutputShare = Outputs;
    type AggregateShare = Sums;

    fn algorithm_id(&self) -> u32 {
        self.pine.algorithm_id()
    }

    fn num_aggregators(&self) -> usize {
        self.pine.num_aggregators()
    }
}

impl Client<NONCE_BYTES> for Voted {
    fn shard(
        &self,
        measurement: &Vec<f64>,
        nonce: &[u8; NONCE_BYTES],
    ) -> Result<(Self::PublicShare, Vec<Self::InputShare>), VdafError> {
        self.shard_by(measurement, nonce, |pine, update| {
            pine.shard(&update.to_vec(), nonce)
        })
    }
}

impl Aggregator<SEED, NONCE_BYTES> for Voted {
    type PrepareState = State;
    type PrepareShare = Both<pine::PrepareShare<Field64, SEED>, Prio3PrepareShare<Field64, SEED>>;
    type PrepareMessage = Both<pine::PrepareMessage<SEED>, Prio3PrepareMessage<SEED>>;

    fn prepare_init(
        &self,
        key: &[u8; SEED],
        member: usize,
        (): &(),
        nonce: &[u8; NONCE_BYTES],
        public: &Self::PublicShare,
        share: &Self::InputShare,
    ) -> Result<(State, Self::PrepareShare), VdafError> {
        let (pine, update) = (&self.pine, &share.update);
        let (state, prepared) =
            pine.prepare_init(key, member, &(), nonce, &public.update, update)?;
        let parts = public.vote.as_ref().zip(share.vote.as_ref());
        let begun = vote(self.ballot.as_ref(), parts, |ballot, (public, share)| {
            let prio = &ballot.prio;
            let (state, prepared) = prio.prepare_init(key, member, &(), nonce, public, share)?;
            let member = u8::try_from(member).map_err(|_| other())?;
            Ok((VoteState { member, state }, prepared))
        })?;
        let (own, vote) = begun.unzip();
        let state = Both {
            update: state,
            vote: own,
        };
        let update = prepared;
        Ok((state, Both { update, vote }))
    }

    fn prepare_shares_to_prepare_message<M: IntoIterator<Item = Self::PrepareShare>>(
        &self,
        (): &(),
        shares: M,
    ) -> Result<Self::PrepareMessage, VdafError> {
        let (updates, votes) = parts(shares);
        Ok(Both {
            update: self.pine.prepare_shares_to_prepare_message(&(), updates)?,
            vote: vote(self.ballot.as_ref(), votes, |ballot, votes| {
                ballot.prio.prepare_shares_to_prepare_message(&(), votes)
            })?,
        })
    }

    fn prepare_next(
        &self,
        state: State,
        message: Self::PrepareMessage,
    ) -> Result<PrepareTransition<Self, SEED, NONCE_BYTES>, VdafError> {
        use PrepareTransition::Finish;
        // Both take one round.
        let Finish(update) = self.pine.prepare_next(state.update, message.update)? else {
            return Err(other());
        };
        let parts = state.vote.zip(message.vote);
        let vote = vote(
            self.ballot.as_ref(),
            parts,
            |ballot, (own, message)| match ballot.prio.prepare_next(own.state, message)? {
                Finish(votes) => {
                    let unit = Field64::from(ballot.unit);
                    let scaled = votes.as_ref().iter().map(|vote| *vote * unit);
                    Ok(scaled.collect::<Vec<_>>().into())
                }
                PrepareTransition::Continue(..) => Err(other()),
            },
        )?;
        Ok(Finish(Both { update, vote }))
    }

    fn aggregate<M: IntoIterator<Item = Self::OutputShare>>(
        &self,
        (): &(),
        shares: M,
    ) -> Result<Self::AggregateShare, VdafError> {
        let (updates, votes) = parts(shares);
        Ok(Both {
            update: self.pine.aggregate(&(), updates)?,
            vote: vote(self.ballot.as_ref(), votes, |ballot, votes| {
                ballot.prio.aggregate(&(), votes)
            })?,
        })
    }
}

/// The parts of the updates, and those of the votes if each has one.
fn parts<A, V>(shares: impl IntoIterator<Item = Both<A, V>>) -> (Vec<A>, Option<Vec<V>>) {
    let (updates, votes): (Vec<_>, Vec<_>) = shares
        .into_iter()
        .map(|share| (share.update, share.vote))
        .unzip();
    (updates, votes.into_iter().collect())
}

impl Collector for Voted {
    fn unshard<M: IntoIterator<Item = Self::AggregateShare>>(
        &self,
        (): &(),
        shares: M,
        reports: usize,
    ) -> Result<Vec<f64>, VdafError> {
        let (updates, votes) = parts(shares);
        let mut total = self.pine.unshard(&(), updates, reports)?;
        let Some(ballot) = &self.ballot else {
            return Ok(total);
        };
        let mut sum = prio::vdaf::AggregateShare::from(vec![Field64::from(0); ballot.bins]);
        for share in votes.ok_or_else(other)? {
            sum.merge(&share)?;
        }
        total.extend(sum.as_ref().iter().map(|votes| {
            // Noise makes some negative: those are in the upper half of the field.
            let (up, down) = (u64::from(*votes), u64::from(-*votes));
            let signed = if up <= down {
                up as f64
            } else {
                -(down as f64)
            };
            signed / ballot.unit as f64
        }));
        Ok(total)
    }
}

impl From<Outputs> for Sums {
    fn from(share: Outputs) -> Self {
        Self {
            update: share.update.into(),
            vote: share.vote.map(Into::into),
        }
    }
}

impl Aggregatable for Sums {
    type OutputShare = Outputs;

    fn merge(&mut self, other: &Self) -> Result<(), VdafError> {
        self.update.merge(&other.update)?;
        let votes = vote(self.vote.as_mut(), other.vote.as_ref(), |sum, more| {
            sum.merge(more)
        });
        votes.map(drop)
    }

    fn accumulate(&mut self, share: &Outputs) -> Result<(), VdafError> {
        self.update.accumulate(&share.update)?;
        let votes = vote(self.vote.as_mut(), share.vote.as_ref(), |sum, more| {
            sum.accumulate(more)
        });
        votes.map(drop)
    }
}
