//! Each stage of a report of 100,000 coordinates, beside what PINE replaces.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_pine::{InputShare, Instance, Pine, Pine32Hmac, Pine64, PineField};
use divan::{Bencher, counter::BytesCount};
use fixed::{FixedI16, types::extra::U15};
use prio::codec::{Encode as _, ParameterizedDecode as _};
use prio::vdaf::prio3::Prio3FixedPointBoundedL2VecSum;
use prio::vdaf::xof::Xof;
use prio::vdaf::{Aggregator as _, Client as _};

const DIMENSION: usize = 100_000;
const NONCE: [u8; 16] = [7; 16];

fn main() {
    divan::main();
}

fn vector() -> Vec<f64> {
    // Of norm 0.9 or so, both signs.
    let scale = 0.9 / (DIMENSION as f64 / 3.0).sqrt();
    (0..DIMENSION)
        .map(|i| ((i * 7919) % 2001) as f64 / 1000.0 - 1.0)
        .map(|x| x * scale)
        .collect()
}

fn pine<F: PineField, X: Xof<SEED>, const SEED: usize>() -> Pine<F, X, SEED>
where
    Pine<F, X, SEED>: Instance,
{
    Pine::new(Pine::<F, X, SEED>::default_parameters(
        1 << 15,
        15,
        DIMENSION,
    ))
    .unwrap()
}

macro_rules! stages {
    ($module:ident, $pine:ty) => {
        mod $module {
            use super::*;

            #[divan::bench]
            fn split(bencher: Bencher) {
                let pine: $pine = pine();
                let vector = vector();
                bencher.bench_local(|| pine.shard(&vector, &NONCE).unwrap());
            }

            fn prepare(bencher: Bencher, aggregator: usize) {
                let pine: $pine = pine();
                let (public, shares) = pine.shard(&vector(), &NONCE).unwrap();
                let share = &shares[aggregator];
                let key = [0; _];
                bencher.bench_local(|| {
                    pine.prepare_init(&key, aggregator, &(), &NONCE, &public, share)
                        .unwrap()
                });
            }

            #[divan::bench]
            fn prepare_leader(bencher: Bencher) {
                prepare(bencher, 0);
            }

            #[divan::bench]
            fn prepare_helper(bencher: Bencher) {
                prepare(bencher, 1);
            }

            #[divan::bench]
            fn decode_leader(bencher: Bencher) {
                let pine: $pine = pine();
                let (_, shares) = pine.shard(&vector(), &NONCE).unwrap();
                let bytes = shares[0].get_encoded().unwrap();
                bencher
                    .counter(BytesCount::new(bytes.len()))
                    .bench_local(|| {
                        InputShare::get_decoded_with_param(&(&pine, 0), &bytes).unwrap()
                    });
            }
        }
    };
}

stages!(pine64, Pine64);
stages!(pine32, Pine32Hmac);

mod baseline {
    use super::*;

    type Baseline = Prio3FixedPointBoundedL2VecSum<FixedI16<U15>>;

    #[divan::bench(sample_count = 3, sample_size = 1)]
    fn split(bencher: Bencher) {
        let vdaf = Baseline::new_fixedpoint_boundedl2_vec_sum(2, DIMENSION).unwrap();
        let vector: Vec<FixedI16<U15>> = vector().into_iter().map(FixedI16::from_num).collect();
        bencher.bench_local(|| vdaf.shard(&vector, &NONCE).unwrap());
    }
}
