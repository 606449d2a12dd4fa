//! What an aggregation relies on: honest vectors add up exactly, everything else is refused.
#![cfg(not(target_arch = "wasm32"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_pine::{
    EncodeError, InputShare, Instance, Parameters, Pine, Pine32Hmac, Pine40Hmac, Pine64,
    Pine64Hmac, Pine128, PineError, PineField, PublicShare,
};
use prio::codec::{Encode as _, ParameterizedDecode as _};
use prio::vdaf::xof::Xof;
use prio::vdaf::{Aggregator as _, Client as _, Collector as _, PrepareTransition, Vdaf};
use proptest::prelude::*;

/// A report as it travels.
#[derive(Clone)]
struct Report {
    nonce: [u8; 16],
    public: Vec<u8>,
    shares: Vec<Vec<u8>>,
}

fn shard<F: PineField, X: Xof<SEED>, const SEED: usize>(
    pine: &Pine<F, X, SEED>,
    vector: &[f64],
    nonce: [u8; 16],
) -> Report
where
    Pine<F, X, SEED>: Instance,
{
    let (public, shares) = pine.shard(&vector.to_vec(), &nonce).unwrap();
    Report {
        nonce,
        public: public.get_encoded().unwrap(),
        shares: shares.iter().map(|s| s.get_encoded().unwrap()).collect(),
    }
}

type Outputs<F, X, const SEED: usize> = Vec<<Pine<F, X, SEED> as Vdaf>::OutputShare>;

/// All aggregators check the report together; an error if any of them refuses.
fn prepare<F: PineField, X: Xof<SEED>, const SEED: usize>(
    pine: &Pine<F, X, SEED>,
    report: &Report,
) -> Result<Outputs<F, X, SEED>, String>
where
    Pine<F, X, SEED>: Instance,
{
    let key = [3; SEED];
    let refused = |e: &dyn std::fmt::Display| e.to_string();
    let (mut states, mut shares) = (Vec::new(), Vec::new());
    let public =
        PublicShare::get_decoded_with_param(pine, &report.public).map_err(|e| refused(&e))?;
    for (id, bytes) in report.shares.iter().enumerate() {
        let share =
            InputShare::get_decoded_with_param(&(pine, id), bytes).map_err(|e| refused(&e))?;
        let (state, share) = pine
            .prepare_init(&key, id, &(), &report.nonce, &public, &share)
            .map_err(|e| refused(&e))?;
        states.push(state);
        shares.push(share);
    }
    let message = pine
        .prepare_shares_to_prepare_message(&(), shares)
        .map_err(|e| refused(&e))?;
    let mut outputs = Vec::new();
    for state in states {
        match pine.prepare_next(state, message.clone()) {
            Ok(PrepareTransition::Finish(output)) => outputs.push(output),
            Ok(PrepareTransition::Continue(..)) => panic!("PINE has one round"),
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(outputs)
}

fn sum<F: PineField, X: Xof<SEED>, const SEED: usize>(
    pine: &Pine<F, X, SEED>,
    vectors: &[Vec<f64>],
) -> Vec<f64>
where
    Pine<F, X, SEED>: Instance,
{
    let mut by_aggregator = vec![Vec::new(); pine.parameters().num_shares];
    for (index, vector) in vectors.iter().enumerate() {
        let report = shard(pine, vector, [index as u8; 16]);
        for (list, output) in by_aggregator
            .iter_mut()
            .zip(prepare(pine, &report).unwrap())
        {
            list.push(output);
        }
    }
    let shares: Vec<_> = by_aggregator
        .into_iter()
        .map(|outputs| pine.aggregate(&(), outputs).unwrap())
        .collect();
    pine.unshard(&(), shares, vectors.len()).unwrap()
}

fn pine<F: PineField, X: Xof<SEED>, const SEED: usize>(
    dimension: usize,
    num_shares: usize,
) -> Pine<F, X, SEED>
where
    Pine<F, X, SEED>: Instance,
{
    Pine::new(Parameters {
        num_shares,
        ..Pine::<F, X, SEED>::default_parameters(1 << 8, 8, dimension)
    })
    .unwrap()
}

/// Integers in units of 2^-8 within the norm bound of 1, and their vector.
fn within_bound(integers: &[i32]) -> Vec<f64> {
    let mut integers = integers.to_vec();
    while integers.iter().map(|v| i64::from(*v).pow(2)).sum::<i64>() > 1 << 16 {
        integers.iter_mut().for_each(|v| *v /= 2);
    }
    integers.iter().map(|v| f64::from(*v) / 256.0).collect()
}

fn adds_up<F: PineField, X: Xof<SEED>, const SEED: usize>(
    vectors: &[Vec<f64>],
    pine: &Pine<F, X, SEED>,
) where
    Pine<F, X, SEED>: Instance,
{
    let expected: Vec<f64> = (0..vectors[0].len())
        .map(|i| vectors.iter().map(|v| v[i]).sum())
        .collect();
    assert_eq!(sum(pine, vectors), expected);
}

/// Every instance: `each_instance!(name, arguments)` calls `name(&instance, arguments)`.
macro_rules! each_instance {
    ($dimension:expr, $shares:expr, $pine:ident => $body:expr) => {{
        each_instance!(@ Pine64, $dimension, $shares, $pine => $body);
        each_instance!(@ Pine128, $dimension, $shares, $pine => $body);
        each_instance!(@ Pine64Hmac, $dimension, $shares, $pine => $body);
        each_instance!(@ Pine32Hmac, $dimension, $shares, $pine => $body);
        each_instance!(@ Pine40Hmac, $dimension, $shares, $pine => $body);
    }};
    (@ $instance:ty, $dimension:expr, $shares:expr, $pine:ident => $body:expr) => {{
        let $pine: $instance = pine($dimension, $shares);
        $body;
    }};
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn vectors_within_the_bound_add_up_exactly(
        dimension in 1usize..90,
        integers in proptest::collection::vec(proptest::collection::vec(-256i32..=256, 90), 1..4),
        num_shares in 2usize..6,
    ) {
        let vectors: Vec<Vec<f64>> =
            integers.iter().map(|v| within_bound(&v[..dimension])).collect();
        each_instance!(dimension, num_shares, pine => adds_up(&vectors, &pine));
    }

    #[test]
    fn any_flipped_bit_is_refused(
        values in proptest::collection::vec(-30i32..=30, 1..40),
        part in 0usize..4,
        place: u64,
        bit in 0u8..8,
    ) {
        let vector = within_bound(&values);
        each_instance!(vector.len(), 2, pine => {
            let mut report = shard(&pine, &vector, [9; 16]);
            prop_assert!(prepare(&pine, &report).is_ok());
            let bytes: &mut [u8] = match part {
                0 => &mut report.nonce,
                1 => &mut report.public,
                2 => &mut report.shares[0],
                _ => &mut report.shares[1],
            };
            let place = place as usize % bytes.len();
            bytes[place] ^= 1 << bit;
            prop_assert!(prepare(&pine, &report).is_err());
        });
    }

    #[test]
    fn a_client_refuses_every_vector_over_the_bound(
        values in proptest::collection::vec(-1000i32..=1000, 1..40),
        over in 1i32..1000,
    ) {
        let mut values = values;
        values[0] = 256 + over;
        let vector: Vec<f64> = values.iter().map(|v| f64::from(*v) / 256.0).collect();
        each_instance!(vector.len(), 2, pine => {
            let randomness = vec![0; pine.randomness_len()];
            let refused = pine.shard_with_randomness(&vector, &[0; 16], &randomness);
            let over = matches!(refused, Err(PineError::Encode(EncodeError::OverNorm { .. })));
            prop_assert!(over, "{:?}", refused.err());
        });
    }
}

#[test]
fn as_many_as_254_aggregators_share_a_vector() {
    let vectors = [vec![0.5, -0.25, 0.0], vec![-1.0, 0.0, 0.0]];
    for shares in [2, 3, 17, 254] {
        each_instance!(3, shares, pine => adds_up(&vectors, &pine));
    }
    let parameters = Parameters {
        num_shares: 255,
        ..Pine64::default_parameters(1 << 8, 8, 3)
    };
    assert!(Pine64::new(parameters).is_err());
}

#[test]
fn what_has_no_encoding_is_refused_and_says_why() {
    let pine: Pine64 = pine(2, 2);
    let randomness = vec![0; pine.randomness_len()];
    let shard = |vector: &[f64]| pine.shard_with_randomness(vector, &[0; 16], &randomness);
    for (value, index) in [
        (f64::NAN, 0),
        (f64::INFINITY, 1),
        (f64::MIN_POSITIVE / 2.0, 1),
    ] {
        let mut vector = [0.5, 0.5];
        vector[index] = value;
        let error = shard(&vector).unwrap_err();
        assert_eq!(error, PineError::Encode(EncodeError::NotNormal { index }));
    }
    let error = shard(&[0.0]).unwrap_err().to_string();
    assert!(
        error.contains("1 coordinates, this instance takes 2"),
        "{error}"
    );
    let error = shard(&[1e300, 0.0]).unwrap_err().to_string();
    assert!(error.contains("over the bound of 1"), "{error}");
    let error = pine
        .shard_with_randomness(&[0.0, 0.0], &[0; 16], &randomness[1..])
        .unwrap_err();
    assert!(matches!(error, PineError::Randomness { .. }));
    // The bound itself is in.
    assert!(shard(&[-1.0, 0.0]).is_ok());
    assert!(shard(&[1.0, 1.0 / 256.0]).is_err());
    // Half of the last place goes to the even neighbour: 0.5 to 0, 1.5 to 2.
    let half = 0.5 / 256.0;
    assert_eq!(sum(&pine, &[vec![half, 3.0 * half]]), [0.0, 2.0 / 256.0]);
}

#[test]
fn shares_say_nothing_when_printed() {
    let pine: Pine64 = pine(2, 2);
    let (_, shares) = pine.shard(&vec![0.5, 0.5], &[0; 16]).unwrap();
    assert_eq!(format!("{:?}", shares[0]), "InputShare(redacted)");
}

/// 100,000 honest runs, none refused: a completeness error would lose people's contributions.
#[test]
fn a_hundred_thousand_honest_reports_are_all_accepted() {
    const RUNS: u64 = 100_000;
    let pine: Pine64 = Pine64::new(Pine64::default_parameters(1 << 15, 15, 3)).unwrap();
    let refused = std::thread::scope(|scope| {
        let half = |start: u64| {
            let pine = &pine;
            scope.spawn(move || {
                (start..start + RUNS / 2)
                    .filter(|run| {
                        // At the bound in some direction, where wraparound checks are the tightest.
                        let turn = *run as f64;
                        let vector = [0.9999 * turn.sin(), 0.9999 * turn.cos(), 0.0];
                        let mut nonce = [0; 16];
                        nonce[..8].copy_from_slice(&run.to_le_bytes());
                        prepare(pine, &shard(pine, &vector, nonce)).is_err()
                    })
                    .count()
            })
        };
        let halves = [half(0), half(RUNS / 2)];
        halves
            .map(|half| half.join().unwrap())
            .iter()
            .sum::<usize>()
    });
    assert_eq!(refused, 0);
}
