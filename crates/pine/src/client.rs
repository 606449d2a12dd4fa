//! The client: encoding, sharding, proving.

use prio::vdaf::xof::Xof;
use prio::vdaf::{Client, VdafError};

use crate::circuit::{Main, Parts};
use crate::encode::{self, EncodeError, Encoded};
use crate::field::PineField;
use crate::flp::Flp;
use crate::residue::Residue;
use crate::share::{Content, InputShare, PublicShare};
use crate::vdaf::{Inner, Instance, NONCE_SIZE, Pine, PineError};
use crate::wraparound::Limbs;
use crate::xof::{self, Usage};

impl<F: PineField, X: Xof<SEED>, const SEED: usize> Pine<F, X, SEED>
where
    Self: Instance,
{
    /// Shard with the randomness given, `[randomness_len]` uniform bytes that are used nowhere else: for
    /// test vectors, and for those who bring their own generator.
    ///
    /// # Errors
    ///
    /// [`PineError::Encode`] if the measurement is refused, or with [`EncodeError::Retry`] if the
    /// wraparound checks fail by chance; [`PineError::Randomness`].
    pub fn shard_with_randomness(
        &self,
        measurement: &[f64],
        nonce: &[u8; NONCE_SIZE],
        randomness: &[u8],
    ) -> Result<(PublicShare<SEED>, Vec<InputShare<F, SEED>>), PineError> {
        let Inner {
            params, derived, ..
        } = &*self.inner;
        let encoded = Encoded::new(params, derived, measurement)?;
        let limbs = Limbs::of_signed(&encoded.values, params.l2_norm_bound);
        self.shard_elements(
            encoded.gradient_and_norm(derived),
            limbs,
            |results, measurement| {
                encode::push_wr_checks(params, derived, results, measurement)?;
                Ok(())
            },
            nonce,
            randomness,
        )
    }

    /// Shard whatever the caller claims: what a cheating client can do, for tests of aggregators.
    ///
    /// `gradient_and_norm` are the field elements of the gradient, the bits of its squared norm and of
    /// what is missing to the bound; `wr_checks` gives, from the dot products, each wraparound check's
    /// bits and success bit. Nothing is checked, and the proofs are made as an honest client's are.
    ///
    /// # Errors
    ///
    /// [`PineError::Count`] if there are too few elements, [`PineError::Randomness`].
    pub fn shard_dishonestly(
        &self,
        gradient_and_norm: &[F],
        wr_checks: impl FnOnce(&[F]) -> Vec<F>,
        nonce: &[u8; NONCE_SIZE],
        randomness: &[u8],
    ) -> Result<(PublicShare<SEED>, Vec<InputShare<F, SEED>>), PineError> {
        let derived = &self.inner.derived;
        let count = |expected, found| match expected == found {
            true => Ok(()),
            false => Err(PineError::Count {
                what: "claimed elements",
                expected,
                found,
            }),
        };
        let expected = derived.encoded_gradient_and_norm_len;
        count(expected, gradient_and_norm.len())?;
        let elements: Vec<F::Residue> = gradient_and_norm.iter().map(|e| e.to_residue()).collect();
        let limbs = Limbs::of_residues(Parts::of(&elements, self.inner.params.dimension).gradient);
        self.shard_elements(
            elements,
            limbs,
            |results, measurement| {
                let results: Vec<F> = results.iter().map(|r| F::from_residue(*r)).collect();
                let bits = wr_checks(&results);
                count(derived.meas_len - expected, bits.len())?;
                measurement.extend(bits.into_iter().map(F::to_residue));
                Ok(())
            },
            nonce,
            randomness,
        )
    }

    /// Shard the gradient and its norm's bits; `wr_checks` appends the wraparound checks' bits.
    fn shard_elements(
        &self,
        mut measurement: Vec<F::Residue>,
        limbs: Limbs,
        wr_checks: impl FnOnce(&[F::Residue], &mut Vec<F::Residue>) -> Result<(), PineError>,
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
        let begin = |usage, blind| xof::part::<X, SEED>(Self::ALGORITHM_ID, usage, 0, nonce, blind);
        let mut wr = begin(Usage::WrJointRandPart, wr_blind);
        let mut vf = begin(Usage::JointRandPart, vf_blind);
        let (first, rest) = leader.split_at_mut_checked(prefix).ok_or_else(unfit)?;
        xof::encoded_blocks(first, |bytes| {
            wr.update(bytes);
            vf.update(bytes);
        });
        set_first(&mut wr_parts, xof::finish(wr));

        let wr_seed = self.joint_rand_seed(Usage::WrJointRandSeed, &wr_parts);
        let wr_check_results: Vec<F::Residue> = self.wr_check_results(&limbs, &wr_seed);
        drop(limbs);
        wr_checks(&wr_check_results, &mut measurement)?;

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
