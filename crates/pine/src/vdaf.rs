//! The VDAF itself: [`Pine`] and its five instances, by the methods of [`prio::vdaf`].

use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::sync::Arc;

use prio::field::{Field64, Field128, FieldPrio2};
use prio::vdaf::xof::{Xof, XofHmacSha256Aes128, XofTurboShake128};
use prio::vdaf::{
    Aggregatable as _, Aggregator, Client, Collector, PrepareTransition, Vdaf, VdafError,
};

use crate::circuit::{self, JOINT_RAND_LEN, JointRand, Main, Parts};
use crate::encode::{self, EncodeError, Encoded};
use crate::field::{Field40, PineField};
use crate::flp::{Flp, Gadget};
use crate::params::{Derived, ParameterError, Parameters};
use crate::residue::Residue;
use crate::share::{
    AggregateShare, Content, InputShare, OutputShare, PrepareMessage, PrepareShare, PrepareState,
    PublicShare,
};
use crate::wraparound::Limbs;
use crate::xof::{self, Usage};

/// Length of a nonce, in bytes.
pub const NONCE_SIZE: usize = 16;

/// The PINE VDAF over a field and an XOF with seeds of `SEED` bytes.
///
/// Cloning is cheap: all tables are shared.
pub struct Pine<F: PineField, X, const SEED: usize> {
    inner: Arc<Inner<F>>,
    xof: PhantomData<fn() -> X>,
}

struct Inner<F: PineField> {
    params: Parameters,
    derived: Derived,
    norm_equality: Flp<F::Residue>,
    main: Flp<F::Residue>,
}

/// Over the field of `2^64 - 2^32 + 1`, with TurboSHAKE128: the one for most uses.
pub type Pine64 = Pine<Field64, XofTurboShake128, 16>;
/// Over prio's 128-bit field, with TurboSHAKE128: for long or precise vectors.
pub type Pine128 = Pine<Field128, XofTurboShake128, 16>;
/// As [`Pine64`], with HMAC-SHA256 and AES-128.
pub type Pine64Hmac = Pine<Field64, XofHmacSha256Aes128, 32>;
/// Over a 32-bit field, with HMAC-SHA256 and AES-128: half the bytes.
pub type Pine32Hmac = Pine<FieldPrio2, XofHmacSha256Aes128, 32>;
/// Over a 40-bit field, with HMAC-SHA256 and AES-128.
pub type Pine40Hmac = Pine<Field40, XofHmacSha256Aes128, 32>;

/// What tells the instances apart, beside their types.
pub trait Instance {
    /// The algorithm's id, in the domain separation of every hash.
    const ALGORITHM_ID: u32;
    /// The name that test vectors use.
    const NAME: &'static str;
    /// Proofs for the main circuit.
    const PROOFS: u8;
    /// Proofs for the norm equality circuit.
    const PROOFS_NORM_EQUALITY: u8;
}

macro_rules! instances {
    ($($pine:ty: $id:literal, $name:literal, $proofs:literal + $equality:literal;)*) => {$(
        impl Instance for $pine {
            const ALGORITHM_ID: u32 = $id;
            const NAME: &'static str = $name;
            const PROOFS: u8 = $proofs;
            const PROOFS_NORM_EQUALITY: u8 = $equality;
        }
    )*};
}

instances! {
    Pine64: 0xFFFF_FFFF, "Pine64", 2 + 1;
    Pine128: 0xFFFF_FFFF, "Pine128", 1 + 1;
    Pine64Hmac: 0xFFFF_1004, "Pine64HmacSha256Aes128", 2 + 1;
    Pine32Hmac: 0xFFFF_1005, "Pine32HmacSha256Aes128", 5 + 2;
    Pine40Hmac: 0xFFFF_1006, "Pine40HmacSha256Aes128", 4 + 1;
}

/// An aggregator refuses a report, or a client a measurement.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PineError {
    /// The measurement.
    #[error(transparent)]
    Encode(#[from] EncodeError),
    /// The randomness has another length.
    #[error("sharding takes {expected} random bytes, not {found}")]
    Randomness {
        /// What is needed.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// There is no such aggregator, or the share is another's.
    #[error("aggregator {aggregator} does not take this share among {shares}")]
    Aggregator {
        /// The aggregator.
        aggregator: usize,
        /// How many there are.
        shares: usize,
    },
    /// A proof does not hold: the vector is over the bound, or a share is damaged.
    #[error("the {circuit} proof does not hold: the vector's norm is over the bound or a share is damaged")]
    Proof {
        /// Of which circuit.
        circuit: &'static str,
    },
    /// The aggregators have checked different shares.
    #[error("the joint randomness differs: the shares are not of one measurement")]
    JointRandomness,
    /// The query point shows an input.
    #[error("the query point is a root of unity; the report cannot be checked with this nonce")]
    QueryPoint,
    /// Wrong number of shares or elements.
    #[error("{found} {what}, expected {expected}")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many there should be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
}

impl From<PineError> for VdafError {
    fn from(error: PineError) -> Self {
        Self::Other(Box::new(error))
    }
}

impl<F: PineField, X, const SEED: usize> Clone for Pine<F, X, SEED> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            xof: PhantomData,
        }
    }
}

impl<F: PineField, X, const SEED: usize> Debug for Pine<F, X, SEED> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pine")
            .field("field", &F::NAME)
            .field("parameters", &self.inner.params)
            .finish()
    }
}

/// Lengths, which no XOF has a part in.
impl<F: PineField, X, const SEED: usize> Pine<F, X, SEED> {
    /// The parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.inner.params
    }

    /// Field elements of a share of a measurement.
    pub(crate) fn measurement_len(&self) -> usize {
        self.inner.derived.meas_len
    }

    /// Field elements of a share of all proofs.
    pub(crate) fn proofs_len(&self) -> usize {
        self.of_all_proofs(Flp::proof_len)
    }

    /// Field elements of a share of all verifiers.
    pub(crate) fn verifiers_len(&self) -> usize {
        self.of_all_proofs(Flp::verifier_len)
    }

    fn of_all_proofs(&self, length: impl Fn(&Flp<F::Residue>) -> usize) -> usize {
        let Inner {
            params,
            norm_equality,
            main,
            ..
        } = &*self.inner;
        length(norm_equality) * usize::from(params.num_proofs_norm_equality)
            + length(main) * usize::from(params.num_proofs)
    }

    /// Length of the leader's encoded share, in bytes; every helper's is four seeds.
    pub fn leader_share_len(&self) -> usize {
        (self.measurement_len() + self.proofs_len()) * F::Residue::BYTES + 2 * SEED
    }

    /// Length of all shares of a report, the public one among them, in bytes.
    pub fn report_len(&self) -> usize {
        let shares = self.inner.params.num_shares;
        self.leader_share_len() + 4 * SEED * (shares - 1) + 2 * SEED * shares
    }

    /// Random bytes that sharding takes.
    pub fn randomness_len(&self) -> usize {
        let shares = self.inner.params.num_shares;
        (1 + 2 * (shares - 1) + 2 * shares) * SEED
    }
}

impl<F: PineField, X: Xof<SEED>, const SEED: usize> Pine<F, X, SEED>
where
    Self: Instance,
{
    /// Parameters of this instance for two aggregators: its own number of proofs, and the chunk lengths
    /// with the shortest report. `l2_norm_bound` is in units of `2^-num_frac_bits`.
    pub fn default_parameters(l2_norm_bound: u64, num_frac_bits: u32, dimension: usize) -> Parameters {
        Parameters {
            num_proofs: Self::PROOFS,
            num_proofs_norm_equality: Self::PROOFS_NORM_EQUALITY,
            ..Parameters::new(l2_norm_bound, num_frac_bits, dimension)
        }
    }

    /// An instance.
    ///
    /// # Errors
    ///
    /// [`ParameterError`] if they are unsound for this field.
    pub fn new(params: Parameters) -> Result<Self, ParameterError> {
        let derived = params.derive::<F>()?;
        let norm_equality = Flp::new::<F>(
            Gadget::Squares,
            params.chunk_length_norm_equality,
            params.calls_norm_equality(),
        );
        let main = Flp::new::<F>(
            Gadget::Products,
            2 * params.chunk_length,
            params.calls(&derived),
        );
        // `derive` has seen that there are few enough calls.
        let (Some(norm_equality), Some(main)) = (norm_equality, main) else {
            return Err(ParameterError::Roots { field: F::NAME });
        };
        Ok(Self {
            inner: Arc::new(Inner {
                params,
                derived,
                norm_equality,
                main,
            }),
            xof: PhantomData,
        })
    }

    fn stream(&self, usage: Usage, seed: &[u8; SEED], binder: &[&[u8]]) -> X::SeedStream {
        xof::stream::<X, SEED>(Self::ALGORITHM_ID, usage, seed, binder)
    }

    fn expand(
        &self,
        usage: Usage,
        seed: &[u8; SEED],
        binder: &[u8],
        length: usize,
    ) -> Vec<F::Residue> {
        xof::expand(self.stream(usage, seed, &[binder]), length)
    }

    /// Proofs of both circuits, as binders name them.
    fn proofs(&self) -> [u8; 2] {
        let params = &self.inner.params;
        [params.num_proofs_norm_equality, params.num_proofs]
    }

    fn helper_measurement(&self, aggregator: u8, seed: &[u8; SEED]) -> Vec<F::Residue> {
        let length = self.measurement_len();
        self.expand(Usage::MeasurementShare, seed, &[aggregator], length)
    }

    fn helper_proofs(&self, aggregator: u8, seed: &[u8; SEED]) -> Vec<F::Residue> {
        let [equality, main] = self.proofs();
        let binder = [equality, main, aggregator];
        self.expand(Usage::ProofShare, seed, &binder, self.proofs_len())
    }

    fn joint_rand_seed(&self, usage: Usage, parts: &[[u8; SEED]]) -> [u8; SEED] {
        let parts: Vec<&[u8]> = parts.iter().map(<[u8; SEED]>::as_slice).collect();
        xof::derive::<X, SEED>(Self::ALGORITHM_ID, usage, &[0; SEED], &parts)
    }

    /// Joint randomness of each main proof.
    fn joint_rands(&self, seed: &[u8; SEED]) -> Vec<JointRand<F::Residue>> {
        let proofs = self.inner.params.num_proofs;
        let length = JOINT_RAND_LEN * usize::from(proofs);
        self.expand(Usage::JointRandomness, seed, &[proofs], length)
            .as_chunks()
            .0
            .iter()
            .map(|elements| JointRand::of(*elements))
            .collect()
    }

    fn wr_check_results(&self, limbs: &Limbs, seed: &[u8; SEED]) -> Vec<F::Residue> {
        let stream = self.stream(Usage::WrJointRandomness, seed, &[]);
        limbs.dot_products(stream, self.inner.params.num_wr_checks)
    }

    /// Shard with the randomness given, `[randomness_len]` uniform bytes that are used nowhere else: for
    /// test vectors, and for those who bring their own generator.
    ///
    /// # Errors
    ///
    /// [`PineError::Encode`] if the measurement is refused, or with [`EncodeError::Retry`] if the
    /// wraparound checks fail by chance; [`PineError::Randomness`].
    #[expect(clippy::type_complexity, reason = "prio's traits fix this shape")]
    pub fn shard_with_randomness(
        &self,
        measurement: &[f64],
        nonce: &[u8; NONCE_SIZE],
        randomness: &[u8],
    ) -> Result<(PublicShare<SEED>, Vec<InputShare<F, SEED>>), PineError> {
        let Inner {
            params, derived, ..
        } = &*self.inner;
        let unfit = || PineError::Randomness {
            expected: self.randomness_len(),
            found: randomness.len(),
        };
        let (seeds, []) = randomness.as_chunks::<SEED>() else {
            return Err(unfit());
        };
        let (helpers, own) = seeds
            .split_at_checked(4 * (params.num_shares - 1))
            .ok_or_else(unfit)?;
        let [wr_blind, vf_blind, prove_seed] = own else {
            return Err(unfit());
        };
        let helpers = helpers.as_chunks::<4>().0;

        let encoded = Encoded::new(params, derived, measurement)?;
        let mut measurement: Vec<F::Residue> = encoded.gradient_and_norm(derived);
        let prefix = measurement.len();

        // Helpers' shares do not depend on the measurement, so both their parts can be made at once.
        let mut leader = measurement.clone();
        leader.resize(derived.meas_len, F::Residue::default());
        let mut wr_parts = vec![[0; SEED]];
        let mut vf_parts = vec![[0; SEED]];
        for ([seed, _, wr_blind, vf_blind], aggregator) in helpers.iter().zip(1u8..) {
            let share = self.helper_measurement(aggregator, seed);
            let [wr, vf] = xof::parts::<_, X, SEED>(
                Self::ALGORITHM_ID,
                aggregator,
                nonce,
                [wr_blind, vf_blind],
                &share,
                prefix,
            );
            wr_parts.push(wr);
            vf_parts.push(vf);
            subtract(&mut leader, &share);
        }
        let begin = |usage, blind| {
            xof::part::<X, SEED>(Self::ALGORITHM_ID, usage, 0, nonce, blind)
        };
        let mut wr = begin(Usage::WrJointRandPart, wr_blind);
        let mut vf = begin(Usage::JointRandPart, vf_blind);
        let (first, rest) = leader.split_at_mut_checked(prefix).ok_or_else(unfit)?;
        xof::encoded_blocks(first, |bytes| {
            wr.update(bytes);
            vf.update(bytes);
        });
        set_first(&mut wr_parts, xof::finish(wr));

        let wr_seed = self.joint_rand_seed(Usage::WrJointRandSeed, &wr_parts);
        let limbs = Limbs::of_signed(&encoded.values, params.l2_norm_bound);
        let wr_check_results: Vec<F::Residue> = self.wr_check_results(&limbs, &wr_seed);
        drop(limbs);
        encode::push_wr_checks(params, derived, &wr_check_results, &mut measurement)?;

        // The leader's share of the bits that are known only now.
        for (share, bit) in rest.iter_mut().zip(measurement.iter().skip(prefix)) {
            *share += *bit;
        }
        xof::encoded_blocks(rest, |bytes| vf.update(bytes));
        set_first(&mut vf_parts, xof::finish(vf));

        let mut proofs = self.prove(&measurement, &wr_check_results, &vf_parts, prove_seed);
        for ([_, seed, ..], aggregator) in helpers.iter().zip(1u8..) {
            subtract(&mut proofs, &self.helper_proofs(aggregator, seed));
        }

        let mut shares = vec![InputShare {
            content: Content::Leader {
                measurement: leader,
                proofs,
            },
            wr_blind: *wr_blind,
            vf_blind: *vf_blind,
        }];
        shares.extend(
            helpers
                .iter()
                .map(|[measurement, proofs, wr_blind, vf_blind]| InputShare {
                    content: Content::Helper {
                        measurement: *measurement,
                        proofs: *proofs,
                    },
                    wr_blind: *wr_blind,
                    vf_blind: *vf_blind,
                }),
        );
        Ok((PublicShare { wr_parts, vf_parts }, shares))
    }

    /// All proofs, those of the norm equality first.
    fn prove(
        &self,
        measurement: &[F::Residue],
        wr_check_results: &[F::Residue],
        vf_parts: &[[u8; SEED]],
        prove_seed: &[u8; SEED],
    ) -> Vec<F::Residue> {
        let Inner {
            params,
            derived,
            norm_equality,
            main,
        } = &*self.inner;
        let vf_seed = self.joint_rand_seed(Usage::JointRandSeed, vf_parts);
        let prove_rands = self.expand(
            Usage::ProveRandomness,
            prove_seed,
            &self.proofs(),
            self.of_all_proofs(Flp::prove_rand_len),
        );
        let mut seeds = prove_rands.as_slice();
        let mut next = |flp: &Flp<F::Residue>| {
            let (own, rest) = seeds
                .split_at_checked(flp.prove_rand_len())
                .unwrap_or((seeds, &[]));
            seeds = rest;
            own
        };
        let parts = Parts::of(measurement, params.dimension);
        let mut proofs = Vec::with_capacity(self.proofs_len());
        for _ in 0..params.num_proofs_norm_equality {
            norm_equality.prove(parts.gradient, next(norm_equality), &mut proofs);
        }
        let circuit = Main {
            params,
            derived,
            parts,
            wr_check_results,
            // The whole measurement is one share.
            shares_inv: F::Residue::one(),
        };
        for joint in self.joint_rands(&vf_seed) {
            main.prove(&circuit.wires(joint), next(main), &mut proofs);
        }
        proofs
    }

    /// Query all proofs: this aggregator's share of the verifiers.
    fn query(
        &self,
        verify_key: &[u8; SEED],
        nonce: &[u8; NONCE_SIZE],
        measurement: &[F::Residue],
        wr_check_results: &[F::Residue],
        proofs: &[F::Residue],
        vf_seed: &[u8; SEED],
    ) -> Result<Vec<F::Residue>, PineError> {
        let Inner {
            params,
            derived,
            norm_equality,
            main,
        } = &*self.inner;
        let [equality, others] = self.proofs();
        let stream = self.stream(
            Usage::QueryRandomness,
            verify_key,
            &[&[equality, others], nonce],
        );
        // One point for each proof, as each circuit has one gadget.
        let points = xof::expand(stream, usize::from(equality) + usize::from(others));
        let mut points = points.into_iter();
        let mut proofs = proofs;
        let mut query = |flp: &Flp<F::Residue>, wires: &[F::Residue]| {
            let (own, rest) = proofs
                .split_at_checked(flp.proof_len())
                .unwrap_or((proofs, &[]));
            proofs = rest;
            let point = points.next().unwrap_or_default();
            flp.query(wires, own, point)
                .map_err(|_| PineError::QueryPoint)
        };
        let parts = Parts::of(measurement, params.dimension);
        let mut verifiers = Vec::with_capacity(self.verifiers_len());
        for _ in 0..equality {
            let queried = query(norm_equality, parts.gradient)?;
            verifiers.push(circuit::norm_equality(derived, parts, &queried.calls));
            verifiers.extend(queried.wires);
            verifiers.push(queried.gadget);
        }
        let circuit = Main {
            params,
            derived,
            parts,
            wr_check_results,
            shares_inv: F::Residue::from_integer(params.num_shares as u128).inverse(),
        };
        for joint in self.joint_rands(vf_seed) {
            let queried = query(main, &circuit.wires(joint))?;
            verifiers.push(circuit.output(joint, &queried.calls));
            verifiers.extend(queried.wires);
            verifiers.push(queried.gadget);
        }
        Ok(verifiers)
    }
}

impl<F: PineField, X, const SEED: usize> Pine<F, X, SEED> {
    fn empty_sum(&self) -> AggregateShare<F> {
        AggregateShare {
            values: vec![F::Residue::default(); self.inner.params.dimension],
        }
    }
}

fn subtract<R: Residue>(from: &mut [R], share: &[R]) {
    for (value, share) in from.iter_mut().zip(share) {
        *value = *value - *share;
    }
}

fn set_first<const SEED: usize>(parts: &mut [[u8; SEED]], part: [u8; SEED]) {
    if let Some(first) = parts.first_mut() {
        *first = part;
    }
}

impl<F: PineField, X: Xof<SEED>, const SEED: usize> Vdaf for Pine<F, X, SEED>
where
    Self: Instance,
{
    type Measurement = Vec<f64>;
    type AggregateResult = Vec<f64>;
    type AggregationParam = ();
    type PublicShare = PublicShare<SEED>;
    type InputShare = InputShare<F, SEED>;
    type OutputShare = OutputShare<F>;
    type AggregateShare = AggregateShare<F>;

    fn algorithm_id(&self) -> u32 {
        Self::ALGORITHM_ID
    }

    fn num_aggregators(&self) -> usize {
        self.inner.params.num_shares
    }
}

impl<F: PineField, X: Xof<SEED>, const SEED: usize> Client<NONCE_SIZE> for Pine<F, X, SEED>
where
    Self: Instance,
{
    fn shard(
        &self,
        measurement: &Vec<f64>,
        nonce: &[u8; NONCE_SIZE],
    ) -> Result<(PublicShare<SEED>, Vec<InputShare<F, SEED>>), VdafError> {
        let mut randomness = vec![0; self.randomness_len()];
        loop {
            getrandom02::getrandom(&mut randomness)?;
            match self.shard_with_randomness(measurement, nonce, &randomness) {
                // An honest vector comes here once in 2^46 times.
                Err(PineError::Encode(EncodeError::Retry)) => {}
                result => return Ok(result?),
            }
        }
    }
}

impl<F: PineField, X: Xof<SEED>, const SEED: usize> Aggregator<SEED, NONCE_SIZE>
    for Pine<F, X, SEED>
where
    Self: Instance,
{
    type PrepareState = PrepareState<F, SEED>;
    type PrepareShare = PrepareShare<F, SEED>;
    type PrepareMessage = PrepareMessage<SEED>;

    fn prepare_init(
        &self,
        verify_key: &[u8; SEED],
        agg_id: usize,
        (): &(),
        nonce: &[u8; NONCE_SIZE],
        public_share: &PublicShare<SEED>,
        input_share: &InputShare<F, SEED>,
    ) -> Result<(PrepareState<F, SEED>, PrepareShare<F, SEED>), VdafError> {
        let Inner {
            params, derived, ..
        } = &*self.inner;
        let unfit = PineError::Aggregator {
            aggregator: agg_id,
            shares: params.num_shares,
        };
        let aggregator = match u8::try_from(agg_id) {
            Ok(id) if agg_id < params.num_shares => id,
            _ => return Err(unfit.into()),
        };
        let expanded;
        let (measurement, proofs) = match (&input_share.content, aggregator) {
            (
                Content::Leader {
                    measurement,
                    proofs,
                },
                0,
            ) => (measurement, proofs),
            (
                Content::Helper {
                    measurement,
                    proofs,
                },
                1..,
            ) => {
                expanded = (
                    self.helper_measurement(aggregator, measurement),
                    self.helper_proofs(aggregator, proofs),
                );
                (&expanded.0, &expanded.1)
            }
            _ => return Err(unfit.into()),
        };
        for (what, expected, found) in [
            ("elements of the measurement", derived.meas_len, measurement.len()),
            ("elements of the proofs", self.proofs_len(), proofs.len()),
            ("public parts", params.num_shares, public_share.wr_parts.len()),
            ("public parts", params.num_shares, public_share.vf_parts.len()),
        ] {
            if expected != found {
                return Err(PineError::Count {
                    what,
                    expected,
                    found,
                }
                .into());
            }
        }
        let [wr_part, vf_part] = xof::parts::<_, X, SEED>(
            Self::ALGORITHM_ID,
            aggregator,
            nonce,
            [&input_share.wr_blind, &input_share.vf_blind],
            measurement,
            derived.encoded_gradient_and_norm_len,
        );
        // The client's word for the others' parts, this aggregator's own for its own.
        let corrected = |usage, parts: &[[u8; SEED]], own| {
            let mut parts = parts.to_vec();
            if let Some(part) = parts.get_mut(agg_id) {
                *part = own;
            }
            self.joint_rand_seed(usage, &parts)
        };
        let wr_seed = corrected(Usage::WrJointRandSeed, &public_share.wr_parts, wr_part);
        let vf_seed = corrected(Usage::JointRandSeed, &public_share.vf_parts, vf_part);

        let gradient = measurement.get(..params.dimension).unwrap_or(measurement);
        let limbs = Limbs::of_residues(gradient);
        let wr_check_results: Vec<F::Residue> = self.wr_check_results(&limbs, &wr_seed);
        drop(limbs);
        let verifiers = self.query(
            verify_key,
            nonce,
            measurement,
            &wr_check_results,
            proofs,
            &vf_seed,
        )?;
        Ok((
            PrepareState {
                output: gradient.to_vec(),
                wr_seed,
                vf_seed,
                verifiers_len: verifiers.len(),
            },
            PrepareShare {
                verifiers,
                wr_part,
                vf_part,
            },
        ))
    }

    fn prepare_shares_to_prepare_message<M: IntoIterator<Item = PrepareShare<F, SEED>>>(
        &self,
        (): &(),
        inputs: M,
    ) -> Result<PrepareMessage<SEED>, VdafError> {
        let Inner {
            params,
            norm_equality,
            main,
            ..
        } = &*self.inner;
        let expected = self.verifiers_len();
        let mut verifiers = vec![F::Residue::default(); expected];
        let (mut wr_parts, mut vf_parts) = (Vec::new(), Vec::new());
        for share in inputs {
            if share.verifiers.len() != expected {
                return Err(PineError::Count {
                    what: "elements of a verifier share",
                    expected,
                    found: share.verifiers.len(),
                }
                .into());
            }
            for (sum, element) in verifiers.iter_mut().zip(&share.verifiers) {
                *sum += *element;
            }
            wr_parts.push(share.wr_part);
            vf_parts.push(share.vf_part);
        }
        if wr_parts.len() != params.num_shares {
            return Err(PineError::Count {
                what: "prepare shares",
                expected: params.num_shares,
                found: wr_parts.len(),
            }
            .into());
        }
        let equality = usize::from(params.num_proofs_norm_equality) * norm_equality.verifier_len();
        let (of_norm, others) = verifiers
            .split_at_checked(equality)
            .unwrap_or((&verifiers, &[]));
        for (flp, verifiers, circuit) in [
            (norm_equality, of_norm, "norm equality"),
            (main, others, "range and wraparound"),
        ] {
            let mut each = verifiers.chunks(flp.verifier_len());
            if !each.all(|verifier| flp.decide(verifier)) {
                return Err(PineError::Proof { circuit }.into());
            }
        }
        Ok(PrepareMessage {
            wr_seed: self.joint_rand_seed(Usage::WrJointRandSeed, &wr_parts),
            vf_seed: self.joint_rand_seed(Usage::JointRandSeed, &vf_parts),
        })
    }

    fn prepare_next(
        &self,
        state: PrepareState<F, SEED>,
        input: PrepareMessage<SEED>,
    ) -> Result<PrepareTransition<Self, SEED, NONCE_SIZE>, VdafError> {
        use subtle::ConstantTimeEq as _;
        let same = state.wr_seed.ct_eq(&input.wr_seed) & state.vf_seed.ct_eq(&input.vf_seed);
        if !bool::from(same) {
            return Err(PineError::JointRandomness.into());
        }
        Ok(PrepareTransition::Finish(OutputShare {
            values: state.output,
        }))
    }

    fn aggregate<M: IntoIterator<Item = OutputShare<F>>>(
        &self,
        (): &(),
        output_shares: M,
    ) -> Result<AggregateShare<F>, VdafError> {
        let mut sum = self.empty_sum();
        for share in output_shares {
            sum.accumulate(&share)?;
        }
        Ok(sum)
    }
}

impl<F: PineField, X: Xof<SEED>, const SEED: usize> Collector for Pine<F, X, SEED>
where
    Self: Instance,
{
    fn unshard<M: IntoIterator<Item = AggregateShare<F>>>(
        &self,
        (): &(),
        agg_shares: M,
        _num_measurements: usize,
    ) -> Result<Vec<f64>, VdafError> {
        let mut sum = self.empty_sum();
        for share in agg_shares {
            sum.merge(&share)?;
        }
        Ok(encode::decode(&self.inner.params, &sum.values))
    }
}
