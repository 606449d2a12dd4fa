//! An aggregator: checking its share of a report with the others, and adding up.

use prio::vdaf::xof::Xof;
use prio::vdaf::{Aggregatable as _, Aggregator, PrepareTransition, VdafError};
use subtle::ConstantTimeEq as _;

use crate::circuit::{self, Main, Parts};
use crate::field::PineField;
use crate::flp::Flp;
use crate::residue::Residue;
use crate::share::{
    AggregateShare, Content, InputShare, OutputShare, PrepareMessage, PrepareShare, PrepareState,
    PublicShare,
};
use crate::vdaf::{Inner, Instance, NONCE_SIZE, Pine, PineError};
use crate::wraparound::Limbs;
use crate::xof::{self, Usage};

impl<F: PineField, X: Xof<SEED>, const SEED: usize> Pine<F, X, SEED>
where
    Self: Instance,
{
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
            (
                "elements of the measurement",
                derived.meas_len,
                measurement.len(),
            ),
            ("elements of the proofs", self.proofs_len(), proofs.len()),
            (
                "public parts",
                params.num_shares,
                public_share.wr_parts.len(),
            ),
            (
                "public parts",
                params.num_shares,
                public_share.vf_parts.len(),
            ),
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
