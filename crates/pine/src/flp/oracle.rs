//! The same circuits in [`prio::flp`], to compare with: prio multiplies every wire polynomial out.

use prio::field::FftFriendlyFieldElement;
use prio::flp::gadgets::{Mul, ParallelSum, ParallelSumGadget as _, PolyEval};
use prio::flp::{FlpError, Gadget as PrioGadget, Type};
use proptest::prelude::*;

use super::{Flp, Gadget};
use crate::field::{Field40, PineField};
use crate::residue::Residue;
use prio::field::{Field64, Field128, FieldPrio2};

/// A circuit that adds its gadget's outputs up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sum<F> {
    gadget: Gadget,
    arity: usize,
    calls: usize,
    field: std::marker::PhantomData<F>,
}

impl<F: FftFriendlyFieldElement> Sum<F> {
    fn m(&self) -> usize {
        (self.calls + 1).next_power_of_two()
    }
}

impl<F: FftFriendlyFieldElement> Type for Sum<F> {
    type Measurement = ();
    type AggregateResult = ();
    type Field = F;

    fn encode_measurement(&self, (): &()) -> Result<Vec<F>, FlpError> {
        unreachable!()
    }
    fn decode_result(&self, _: &[F], _: usize) -> Result<(), FlpError> {
        unreachable!()
    }
    fn gadget(&self) -> Vec<Box<dyn PrioGadget<F>>> {
        vec![match self.gadget {
            Gadget::Squares => {
                let square = vec![F::zero(), F::zero(), F::one()];
                Box::new(ParallelSum::new(
                    PolyEval::new(square, self.calls),
                    self.arity,
                ))
            }
            Gadget::Products => Box::new(ParallelSum::new(Mul::new(self.calls), self.arity / 2)),
        }]
    }
    fn valid(
        &self,
        gadgets: &mut Vec<Box<dyn PrioGadget<F>>>,
        input: &[F],
        _: &[F],
        _: usize,
    ) -> Result<F, FlpError> {
        let mut sum = F::zero();
        for call in input.chunks(self.arity) {
            sum += gadgets[0].call(call)?;
        }
        Ok(sum)
    }
    fn truncate(&self, _: Vec<F>) -> Result<Vec<F>, FlpError> {
        unreachable!()
    }
    fn input_len(&self) -> usize {
        self.arity * self.calls
    }
    fn proof_len(&self) -> usize {
        self.arity + 2 * self.m() - 1
    }
    fn verifier_len(&self) -> usize {
        self.arity + 2
    }
    fn output_len(&self) -> usize {
        0
    }
    fn joint_rand_len(&self) -> usize {
        0
    }
    fn prove_rand_len(&self) -> usize {
        self.arity
    }
    fn query_rand_len(&self) -> usize {
        1
    }
}

fn agrees<F: PineField>(gadget: Gadget, chunk: usize, calls: usize, numbers: &[u64]) {
    let arity = match gadget {
        Gadget::Squares => chunk,
        Gadget::Products => 2 * chunk,
    };
    let circuit = Sum::<F> {
        gadget,
        arity,
        calls,
        field: std::marker::PhantomData,
    };
    let mut residues = numbers
        .iter()
        .cycle()
        .enumerate()
        .map(|(i, n)| F::Residue::from_integer(u128::from(*n) * (i as u128 + 1)));
    let mut take = |count: usize| -> Vec<F::Residue> { residues.by_ref().take(count).collect() };
    let field =
        |values: &[F::Residue]| -> Vec<F> { values.iter().map(|v| F::from_residue(*v)).collect() };
    let (input, seeds) = (take(arity * calls), take(arity));
    let at = take(1)[0];
    let flp = Flp::new::<F>(gadget, arity, calls).unwrap();
    let mut proof = Vec::new();
    flp.prove(&input, &seeds, &mut proof);
    assert_eq!(proof.len(), flp.proof_len());
    let expected = circuit.prove(&field(&input), &field(&seeds), &[]).unwrap();
    assert_eq!(field(&proof), expected);

    let queried = match flp.query(&input, &proof, at) {
        Ok(queried) => queried,
        Err(super::QueryAtRoot) => {
            let point = field(&[at]);
            assert!(
                circuit
                    .query(&field(&input), &expected, &point, &[], 1)
                    .is_err()
            );
            return;
        }
    };
    let mut verifier = vec![
        queried
            .calls
            .iter()
            .fold(F::Residue::default(), |s, c| s + *c),
    ];
    verifier.extend(queried.wires);
    verifier.push(queried.gadget);
    let by_prio = circuit
        .query(&field(&input), &expected, &field(&[at]), &[], 1)
        .unwrap();
    assert_eq!(field(&verifier), by_prio);
    assert_eq!(flp.decide(&verifier), circuit.decide(&by_prio).unwrap());
    verifier[0] = F::Residue::default();
    assert!(
        flp.decide(&verifier),
        "the proof is right, whatever the circuit's output"
    );
    verifier[arity] += F::Residue::one();
    assert!(!flp.decide(&verifier));
    assert!(!flp.decide(&verifier[1..]));
}

proptest! {
    #[test]
    fn proofs_and_verifiers_are_those_of_prio(
        chunk in 1usize..40,
        calls in 1usize..20,
        numbers in proptest::collection::vec(any::<u64>(), 1..50),
    ) {
        for gadget in [Gadget::Squares, Gadget::Products] {
            agrees::<Field64>(gadget, chunk, calls, &numbers);
            agrees::<FieldPrio2>(gadget, chunk, calls, &numbers);
            agrees::<Field40>(gadget, chunk, calls, &numbers);
            agrees::<Field128>(gadget, chunk, calls, &numbers);
        }
    }
}
