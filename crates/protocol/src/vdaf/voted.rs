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
/// Of ten bins, which makes three calls: one less than a power of two, and so the shortest proofs.
const CHUNK: usize = 4;
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

#[cfg(test)]
mod tests {
    use prio::{
        codec::ParameterizedDecode as _,
        flp::{FlpError, Gadget, Type},
    };

    use super::*;
    use crate::vdaf::{
        AggregateShare, InputShare, OutputShare, PrepareMessage, PrepareShare, PrepareState,
        PublicShare, Scheme, UpdateVdaf, VERIFY_KEY_BYTES, VdafSpec,
    };

    const BINS: u8 = 10;
    const KEY: [u8; VERIFY_KEY_BYTES] = [3; VERIFY_KEY_BYTES];

    const fn spec(shares: u8) -> VdafSpec {
        VdafSpec {
            scheme: Scheme::Pine64,
            dimension: 3,
            frac_bits: 8,
            shares,
            votes: BINS,
        }
    }

    /// All members check a report, every part of which goes over the wire or into a store. Their shares, if the proofs hold.
    fn verified(
        vdaf: &UpdateVdaf,
        nonce: [u8; NONCE_BYTES],
        public: &PublicShare,
        shares: &[InputShare],
    ) -> Result<Vec<OutputShare>, String> {
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let public = public.get_encoded().unwrap();
        let public = PublicShare::get_decoded_with_param(vdaf, &public).unwrap();
        let (mut states, mut prepared) = (Vec::new(), Vec::new());
        for (member, share) in shares.iter().enumerate() {
            let bytes = share.get_encoded().unwrap();
            assert_eq!(Some(bytes.len()), share.encoded_len());
            let share = InputShare::get_decoded_with_param(&(vdaf, member), &bytes).unwrap();
            let (state, share) = vdaf
                .prepare_init(&KEY, member, &(), &nonce, &public, &share)
                .map_err(|e| text(&e))?;
            let bytes = state.get_encoded().unwrap();
            // Whoever reads it from its store does not say whose it is.
            let stored = PrepareState::get_decoded_with_param(&(vdaf, 0), &bytes).unwrap();
            assert!(stored == state);
            let bytes = share.get_encoded().unwrap();
            prepared.push(PrepareShare::get_decoded_with_param(&state, &bytes).unwrap());
            states.push(stored);
        }
        let message = vdaf
            .prepare_shares_to_prepare_message(&(), prepared)
            .map_err(|e| text(&e))?;
        let bytes = message.get_encoded().unwrap();
        let finish = |state: PrepareState| {
            let message = PrepareMessage::get_decoded_with_param(&state, &bytes).unwrap();
            match vdaf.prepare_next(state, message).map_err(|e| text(&e))? {
                PrepareTransition::Finish(output) => Ok(output),
                PrepareTransition::Continue(..) => Err("another round".to_owned()),
            }
        };
        states.into_iter().map(finish).collect()
    }

    #[test]
    fn a_total_has_the_sum_of_the_updates_and_the_votes_of_each_bin() {
        for shares in [2, 3] {
            let spec = spec(shares);
            let vdaf = spec.instance().unwrap();
            let mut sums = vec![vec![0_u64; spec.coordinates()]; shares.into()];
            let modulus = u128::from(spec.scheme.modulus());
            for (report, (update, bin)) in [([5, -6, 7], 9), ([-1, 2, 3], 9), ([0, 0, 1], 0)]
                .into_iter()
                .enumerate()
            {
                let nonce = [report as u8; NONCE_BYTES];
                let measurement = spec.measurement_with_vote(&update, bin);
                let (public, shares) = vdaf.shard(&measurement, &nonce).unwrap();
                let lengths = spec.share_lengths().unwrap();
                assert_eq!(Some(lengths.0), public.encoded_len());
                assert_eq!(Some(lengths.1), shares[0].encoded_len());
                assert_eq!(Some(lengths.2), shares[1].encoded_len());
                let outputs = verified(&vdaf, nonce, &public, &shares).unwrap();
                for (sum, output) in sums.iter_mut().zip(outputs) {
                    let bytes = output.get_encoded().unwrap();
                    let share =
                        AggregateShare::get_decoded_with_param(&(&vdaf, &()), &bytes).unwrap();
                    assert_eq!(share.get_encoded().unwrap(), bytes);
                    // The second report counts three times, and votes once.
                    let weight = if report == 1 { 3 } else { 1 };
                    let scaled = spec.scaled(&bytes, weight).unwrap();
                    for (sum, n) in sum.iter_mut().zip(spec.integers(&scaled).unwrap()) {
                        *sum = ((u128::from(*sum) + u128::from(n)) % modulus) as u64;
                    }
                }
            }
            let added: Vec<u64> = (0..spec.coordinates())
                .map(|at| {
                    let all = sums.iter().map(|sum| u128::from(sum[at]));
                    (all.sum::<u128>() % modulus) as u64
                })
                .collect();
            let total = spec.total(&added).unwrap();
            let (sum, votes) = total.split_at(spec.dimension);
            assert_eq!(sum, [2.0, 0.0, 17.0].map(|n| n / 256.0));
            assert_eq!(votes, [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 2.0]);
        }
    }

    /// The same histogram, whose prover encodes whatever it is given.
    #[derive(Debug, Clone, PartialEq, Eq)]
    struct Stuffed(Histogram<Field64, ParallelSum<Field64, Mul<Field64>>>);

    impl Type for Stuffed {
        type Measurement = Vec<Field64>;
        type AggregateResult = Vec<u64>;
        type Field = Field64;

        fn encode_measurement(&self, votes: &Vec<Field64>) -> Result<Vec<Field64>, FlpError> {
            Ok(votes.clone())
        }

        fn decode_result(&self, data: &[Field64], reports: usize) -> Result<Vec<u64>, FlpError> {
            self.0.decode_result(data, reports)
        }

        fn gadget(&self) -> Vec<Box<dyn Gadget<Field64>>> {
            self.0.gadget()
        }

        fn valid(
            &self,
            gadgets: &mut Vec<Box<dyn Gadget<Field64>>>,
            input: &[Field64],
            joint: &[Field64],
            shares: usize,
        ) -> Result<Field64, FlpError> {
            self.0.valid(gadgets, input, joint, shares)
        }

        fn truncate(&self, input: Vec<Field64>) -> Result<Vec<Field64>, FlpError> {
            self.0.truncate(input)
        }

        fn input_len(&self) -> usize {
            self.0.input_len()
        }

        fn proof_len(&self) -> usize {
            self.0.proof_len()
        }

        fn verifier_len(&self) -> usize {
            self.0.verifier_len()
        }

        fn output_len(&self) -> usize {
            self.0.output_len()
        }

        fn joint_rand_len(&self) -> usize {
            self.0.joint_rand_len()
        }

        fn prove_rand_len(&self) -> usize {
            self.0.prove_rand_len()
        }

        fn query_rand_len(&self) -> usize {
            self.0.query_rand_len()
        }
    }

    /// A report with an honest update, and these votes, proven as well as can be.
    fn stuffed(
        spec: &VdafSpec,
        nonce: [u8; NONCE_BYTES],
        votes: [i64; BINS as usize],
    ) -> (PublicShare, Vec<InputShare>) {
        let vdaf = spec.instance().unwrap();
        let honest = spec.measurement_with_vote(&[1, 2, 3], 0);
        let (mut public, mut shares) = vdaf.shard(&honest, &nonce).unwrap();
        let histogram = Histogram::new(BINS.into(), CHUNK).unwrap();
        let prover: Prio3<_, XofTurboShake128, SEED> =
            Prio3::new(spec.shares, PROOFS, ALGORITHM_ID, Stuffed(histogram)).unwrap();
        let votes = votes.map(|n| match n {
            0.. => Field64::from(n.unsigned_abs()),
            _ => -Field64::from(n.unsigned_abs()),
        });
        let (own, cast) = prover.shard(&votes.to_vec(), &nonce).unwrap();
        let crate::vdaf::Either::Pine64(parts) = &mut public else {
            panic!("it is of PINE over 64 bits")
        };
        parts.vote = Some(own);
        for (share, cast) in shares.iter_mut().zip(cast) {
            let crate::vdaf::Either::Pine64(parts) = share else {
                panic!("it is of PINE over 64 bits")
            };
            parts.vote = Some(cast);
        }
        (public, shares)
    }

    #[test]
    fn a_report_with_more_than_one_vote_or_none_is_refused() {
        let nonce = [9; NONCE_BYTES];
        for shares in [2, 3] {
            let spec = spec(shares);
            let vdaf = spec.instance().unwrap();
            let honest = [0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
            let (public, shares) = stuffed(&spec, nonce, honest);
            assert!(verified(&vdaf, nonce, &public, &shares).is_ok());
            for (what, forged) in [
                ("two bins", [1, 0, 0, 0, 0, 0, 0, 0, 0, 1]),
                ("a bin of 2", [0, 2, 0, 0, 0, 0, 0, 0, 0, 0]),
                ("two for, one against", [2, -1, 0, 0, 0, 0, 0, 0, 0, 0]),
                ("one against", [-1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
                ("nobody", [0; BINS as usize]),
            ] {
                let (public, shares) = stuffed(&spec, nonce, forged);
                let found = verified(&vdaf, nonce, &public, &shares);
                assert!(found.is_err(), "{what}");
            }
        }
    }

    #[test]
    fn a_vote_stands_and_falls_with_its_report() {
        let (spec, nonce) = (spec(2), [9; NONCE_BYTES]);
        let vdaf = spec.instance().unwrap();
        let shard = |nonce| {
            let measurement = spec.measurement_with_vote(&[1, 2, 3], 4);
            vdaf.shard(&measurement, nonce).unwrap()
        };
        let (public, shares) = shard(&nonce);
        // Another report's vote in its place, and the update of another one.
        let (other, others) = shard(&[8; NONCE_BYTES]);
        let mixed = |a: &InputShare, b: &InputShare| match (a.clone(), b.clone()) {
            (crate::vdaf::Either::Pine64(a), crate::vdaf::Either::Pine64(b)) => {
                crate::vdaf::Either::Pine64(Both {
                    update: a.update,
                    vote: b.vote,
                })
            }
            _ => panic!("it is of PINE over 64 bits"),
        };
        let swapped = match (public.clone(), other) {
            (crate::vdaf::Either::Pine64(a), crate::vdaf::Either::Pine64(b)) => {
                crate::vdaf::Either::Pine64(Both {
                    update: a.update,
                    vote: b.vote,
                })
            }
            _ => panic!("it is of PINE over 64 bits"),
        };
        let mixed = [mixed(&shares[0], &others[0]), mixed(&shares[1], &others[1])];
        assert!(verified(&vdaf, nonce, &swapped, &mixed).is_err());
        // A measurement without its vote, or with two.
        let none = spec.measurement(&[1, 2, 3]);
        assert!(vdaf.shard(&none, &nonce).is_err());
        let mut two = spec.measurement_with_vote(&[1, 2, 3], 4);
        two[3] = 1.0;
        assert!(vdaf.shard(&two, &nonce).is_err());
        // Cut short.
        let bytes = shares[0].get_encoded().unwrap();
        for cut in [1, 8, 400] {
            let short = &bytes[..bytes.len() - cut];
            assert!(InputShare::get_decoded_with_param(&(&vdaf, 0), short).is_err());
        }
    }

    #[test]
    fn without_votes_a_report_is_what_it_was() {
        let plain = VdafSpec {
            votes: 0,
            ..spec(2)
        };
        let pine = plain.instance().unwrap();
        let (public, shares) = pine
            .shard(&plain.measurement(&[1, 2, 3]), &[9; NONCE_BYTES])
            .unwrap();
        let text = serde_json::to_string(&plain).unwrap();
        assert_eq!(text, r#"{"scheme":"pine64","dimension":3,"frac_bits":8}"#);
        let (a, b, c) = plain.share_lengths().unwrap();
        let voted = spec(2).share_lengths().unwrap();
        assert_eq!(voted, (a + 32, b + 456, c + 48));
        assert_eq!(public.encoded_len(), Some(a));
        // The bytes are PINE's alone.
        let crate::vdaf::Either::Pine64(inner) = &pine else {
            panic!("it is of PINE over 64 bits")
        };
        for (at, share) in shares.iter().enumerate() {
            let bytes = share.get_encoded().unwrap();
            let alone = pine::InputShare::<Field64, SEED>::get_decoded_with_param(
                &(inner.pine(), at),
                &bytes,
            );
            assert_eq!(alone.unwrap().get_encoded().unwrap(), bytes);
        }
        // Where the field is too small, votes are refused with the reason.
        let small = VdafSpec {
            scheme: Scheme::Pine32Hmac,
            ..spec(2)
        };
        let why = small.instance().unwrap_err().to_string();
        assert!(why.contains("pine64 only"), "{why}");
    }
}
