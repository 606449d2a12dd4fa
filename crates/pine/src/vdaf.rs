//! The VDAF itself: [`Pine`] and its five instances, by the methods of [`prio::vdaf`].

use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::sync::Arc;

use prio::field::{Field64, Field128, FieldPrio2};
use prio::vdaf::xof::{Xof, XofHmacSha256Aes128, XofTurboShake128};
use prio::vdaf::{Aggregatable as _, Collector, Vdaf, VdafError};

use crate::circuit::{JOINT_RAND_LEN, JointRand};
use crate::encode::{self, EncodeError};
use crate::field::{Field40, PineField};
use crate::flp::{Flp, Gadget};
use crate::params::{Derived, ParameterError, Parameters};
use crate::residue::Residue;
use crate::share::{AggregateShare, InputShare, OutputShare, PublicShare};
use crate::wraparound::Limbs;
use crate::xof::{self, Usage};

/// Length of a nonce, in bytes.
pub const NONCE_SIZE: usize = 16;

/// The PINE VDAF over a field and an XOF with seeds of `SEED` bytes.
///
/// Cloning is cheap: all tables are shared.
pub struct Pine<F: PineField, X, const SEED: usize> {
    pub(crate) inner: Arc<Inner<F>>,
    xof: PhantomData<fn() -> X>,
}

pub(crate) struct Inner<F: PineField> {
    pub params: Parameters,
    pub derived: Derived,
    pub norm_equality: Flp<F::Residue>,
    pub main: Flp<F::Residue>,
}

/// Over the field of `2^64 - 2^32 + 1`, with TurboSHAKE128: the one for most uses.
pub type Pine64 = Pine<Field64, XofTurboShake128, 16>;
/// Over prio's 128-bit field, with TurboSHAKE128: for long or precise vectors.
pub type Pine128 = Pine<Field128, XofTurboShake128, 16>;
/// As [`Pine64`], with HMAC-SHA256 and AES-128.
pub type Pine64Hmac = Pine<Field64, XofHmacSha256Aes128, 32>;
/// Over a 32-bit field, with HMAC-SHA256 and AES-128: half the bytes. The draft's one proof of the norm
/// equality can be forged with probability 2^-23 at 100,000 coordinates; use two, or [`crate::choose()`].
pub type Pine32Hmac = Pine<FieldPrio2, XofHmacSha256Aes128, 32>;
/// Over a 40-bit field, with HMAC-SHA256 and AES-128.
pub type Pine40Hmac = Pine<Field40, XofHmacSha256Aes128, 32>;

/// What tells the instances apart, beside their types.
pub trait Instance {
    /// The algorithm's id, in the domain separation of every hash.
    const ALGORITHM_ID: u32;
    /// The name that test vectors use.
    const NAME: &'static str;
    /// Proofs for the main circuit, as the draft has it.
    const PROOFS: u8;
    /// Proofs for the norm equality circuit, as the draft has it.
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
    Pine32Hmac: 0xFFFF_1005, "Pine32HmacSha256Aes128", 5 + 1;
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
    #[error(
        "the {circuit} proof does not hold: the vector's norm is over the bound or a share is damaged"
    )]
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

    pub(crate) fn of_all_proofs(&self, length: impl Fn(&Flp<F::Residue>) -> usize) -> usize {
        let Inner {
            params,
            norm_equality,
            main,
            ..
        } = &*self.inner;
        length(norm_equality) * usize::from(params.num_proofs_norm_equality)
            + length(main) * usize::from(params.num_proofs)
    }

    /// Lengths of the public share, the leader's share and each helper's share, in bytes.
    pub fn share_lengths(&self) -> (usize, usize, usize) {
        let leader = (self.measurement_len() + self.proofs_len()) * F::Residue::BYTES + 2 * SEED;
        (2 * SEED * self.inner.params.num_shares, leader, 4 * SEED)
    }

    /// Length of all shares of a report together, in bytes.
    pub fn report_len(&self) -> usize {
        let (public, leader, helper) = self.share_lengths();
        public + leader + helper * (self.inner.params.num_shares - 1)
    }

    /// Check that the sum of the vectors of so many clients cannot wrap.
    ///
    /// # Errors
    ///
    /// [`ParameterError::SumWraps`] with how many fit.
    pub fn check_clients(&self, clients: u64) -> Result<(), ParameterError> {
        self.inner.params.check_clients::<F>(clients)
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
    pub fn default_parameters(
        l2_norm_bound: u64,
        num_frac_bits: u32,
        dimension: usize,
    ) -> Parameters {
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

    pub(crate) fn stream(
        &self,
        usage: Usage,
        seed: &[u8; SEED],
        binder: &[&[u8]],
    ) -> X::SeedStream {
        xof::stream::<X, SEED>(Self::ALGORITHM_ID, usage, seed, binder)
    }

    pub(crate) fn expand(
        &self,
        usage: Usage,
        seed: &[u8; SEED],
        binder: &[u8],
        length: usize,
    ) -> Vec<F::Residue> {
        xof::expand(self.stream(usage, seed, &[binder]), length)
    }

    /// Proofs of both circuits, as binders name them.
    pub(crate) fn proofs(&self) -> [u8; 2] {
        let params = &self.inner.params;
        [params.num_proofs_norm_equality, params.num_proofs]
    }

    pub(crate) fn helper_measurement(&self, aggregator: u8, seed: &[u8; SEED]) -> Vec<F::Residue> {
        let length = self.measurement_len();
        self.expand(Usage::MeasurementShare, seed, &[aggregator], length)
    }

    pub(crate) fn helper_proofs(&self, aggregator: u8, seed: &[u8; SEED]) -> Vec<F::Residue> {
        let [equality, main] = self.proofs();
        let binder = [equality, main, aggregator];
        self.expand(Usage::ProofShare, seed, &binder, self.proofs_len())
    }

    pub(crate) fn joint_rand_seed(&self, usage: Usage, parts: &[[u8; SEED]]) -> [u8; SEED] {
        let parts: Vec<&[u8]> = parts.iter().map(<[u8; SEED]>::as_slice).collect();
        xof::derive::<X, SEED>(Self::ALGORITHM_ID, usage, &[0; SEED], &parts)
    }

    /// Joint randomness of each main proof.
    pub(crate) fn joint_rands(&self, seed: &[u8; SEED]) -> Vec<JointRand<F::Residue>> {
        let proofs = self.inner.params.num_proofs;
        let length = JOINT_RAND_LEN * usize::from(proofs);
        self.expand(Usage::JointRandomness, seed, &[proofs], length)
            .as_chunks()
            .0
            .iter()
            .map(|elements| JointRand::of(*elements))
            .collect()
    }

    pub(crate) fn wr_check_results(&self, limbs: &Limbs, seed: &[u8; SEED]) -> Vec<F::Residue> {
        let stream = self.stream(Usage::WrJointRandomness, seed, &[]);
        limbs.dot_products(stream, self.inner.params.num_wr_checks)
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

impl<F: PineField, X, const SEED: usize> Pine<F, X, SEED> {
    pub(crate) fn empty_sum(&self) -> AggregateShare<F> {
        AggregateShare {
            values: vec![F::Residue::default(); self.inner.params.dimension],
        }
    }
}
