//! A round of 100,000 coordinates on one thread: what a full node, the aggregation node and an auditor do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_he::params::{Dimension, FIELD};
use defim_he::{
    Adding, Ciphertext, HolderIndex, Member, NodeId, Opening, Round, SecretKey, SumKey, SumShare,
    Threshold, VerifiedOpening, holder::Holder, holder::Rules, open,
};
use divan::{Bencher, black_box, counter::BytesCount};
use rand::SeedableRng as _;
use rand::rngs::StdRng;

const COORDINATES: usize = 100_000;
const ROUND: Round = Round {
    task: [3; 32],
    number: 5,
};

fn main() {
    divan::main();
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(1)
}

fn values() -> Vec<u64> {
    (0..COORDINATES as u64)
        .map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15) % FIELD)
        .collect()
}

fn ciphertext(seed: u64) -> Ciphertext {
    let mut rng = StdRng::seed_from_u64(seed);
    SecretKey::random(&mut rng)
        .encrypt(ROUND, &values(), &mut rng)
        .unwrap()
}

/// A set of four nodes, with its answers and its ciphertexts.
fn round() -> (Opening, Vec<Ciphertext>, Vec<SumShare>) {
    let mut rng = rng();
    let threshold = Threshold::two_thirds(4).unwrap();
    let nodes: Vec<NodeId> = (1..=4).map(|i| NodeId([i; 32])).collect();
    let rules = |holder| Rules {
        holder,
        committees: [(0, nodes.iter().copied().collect())].into(),
        min_committees: 1,
        min_reports: 1,
    };
    let mut holders = [(); 4].map(|()| Holder::new());
    let (mut members, mut ciphertexts) = (Vec::new(), Vec::new());
    for node in &nodes {
        let key = SecretKey::random(&mut rng);
        for (holder, share) in holders.iter_mut().zip(key.share(threshold, &mut rng)) {
            let rules = rules(share.holder());
            holder.keep(&rules, ROUND, *node, share).unwrap().written();
        }
        let ciphertext = key.encrypt(ROUND, &values(), &mut rng).unwrap();
        members.push(Member {
            node: *node,
            ciphertext: ciphertext.root(),
            committee: 0,
            reports: 9,
        });
        ciphertexts.push(ciphertext);
    }
    let opening = Opening::new(ROUND, members).unwrap();
    let verified = VerifiedOpening::new(opening.clone(), |_| true).unwrap();
    let answers = (1..)
        .zip(&mut holders)
        .map(|(i, holder)| {
            let rules = rules(HolderIndex::new(i).unwrap());
            holder.answer(&rules, &verified).unwrap().written()
        })
        .collect();
    (opening, ciphertexts, answers)
}

#[divan::bench]
fn encrypt(bencher: Bencher) {
    let (values, mut rng) = (values(), rng());
    bencher
        .with_inputs(|| SecretKey::random(&mut StdRng::seed_from_u64(2)))
        .bench_local_values(|key| key.encrypt(ROUND, &values, &mut rng).unwrap());
}

#[divan::bench]
fn share_key_among_32(bencher: Bencher) {
    let mut rng = rng();
    let key = SecretKey::random(&mut rng);
    let threshold = Threshold::two_thirds(32).unwrap();
    bencher.bench_local(|| key.share(threshold, &mut rng));
}

#[divan::bench]
fn pack(bencher: Bencher) {
    let ciphertext = ciphertext(1);
    bencher
        .counter(BytesCount::new(ciphertext.to_bytes().len()))
        .bench_local(|| ciphertext.to_bytes());
}

#[divan::bench]
fn unpack(bencher: Bencher) {
    let bytes = ciphertext(1).to_bytes();
    let dimension = Dimension::new(COORDINATES).unwrap();
    bencher
        .counter(BytesCount::new(bytes.len()))
        .bench_local(|| Ciphertext::from_bytes(dimension, &bytes).unwrap());
}

#[divan::bench]
fn root(bencher: Bencher) {
    let ciphertext = ciphertext(1);
    bencher.bench_local(|| ciphertext.root());
}

/// Adding one ciphertext to a sum, beside copying as many bytes of memory.
#[divan::bench]
fn add(bencher: Bencher) {
    let ciphertext = ciphertext(1);
    let mut adding = Adding::new(ciphertext.dimension());
    let mut added = 0;
    bencher
        .counter(BytesCount::new(COORDINATES.next_multiple_of(4096) * 16))
        .bench_local(|| {
            if added == 32 {
                adding = Adding::new(ciphertext.dimension());
                added = 0;
            }
            added += 1;
            adding.add(black_box(&ciphertext)).unwrap();
        });
}

#[divan::bench]
fn copy(bencher: Bencher) {
    let from = vec![1u64; COORDINATES.next_multiple_of(4096) * 2];
    let mut to = from.clone();
    bencher
        .counter(BytesCount::of_slice(&from))
        .bench_local(|| black_box(&mut to).copy_from_slice(black_box(&from)));
}

/// Copying a ciphertext in its packed form.
#[divan::bench]
fn copy_packed(bencher: Bencher) {
    let from = ciphertext(1).to_bytes();
    let mut to = from.clone();
    bencher
        .counter(BytesCount::of_slice(&from))
        .bench_local(|| black_box(&mut to).copy_from_slice(black_box(&from)));
}

/// Bringing a sum into its one form, once a round.
#[divan::bench]
fn finish(bencher: Bencher) {
    let ciphertext = ciphertext(1);
    bencher
        .with_inputs(|| {
            let mut adding = Adding::new(ciphertext.dimension());
            adding.add(&ciphertext).unwrap();
            adding
        })
        .bench_local_values(Adding::finish);
}

/// Four ciphertexts from their packed form to the packed sum.
#[divan::bench]
fn sum_of_four_from_bytes(bencher: Bencher) {
    let dimension = Dimension::new(COORDINATES).unwrap();
    let packed: Vec<_> = (0..4).map(|i| ciphertext(i).to_bytes()).collect();
    bencher.bench_local(|| {
        let mut adding = Adding::new(dimension);
        for bytes in &packed {
            adding
                .add(&Ciphertext::from_bytes(dimension, bytes).unwrap())
                .unwrap();
        }
        adding.finish().to_bytes()
    });
}

#[divan::bench]
fn interpolate(bencher: Bencher) {
    let (_, _, answers) = round();
    let threshold = Threshold::two_thirds(4).unwrap();
    bencher.bench_local(|| SumKey::from_answers(threshold, &answers).unwrap());
}

#[divan::bench]
fn open_sum(bencher: Bencher) {
    let (opening, ciphertexts, answers) = round();
    let key = SumKey::from_answers(Threshold::two_thirds(4).unwrap(), &answers).unwrap();
    let dimension = ciphertexts[0].dimension();
    let sum = opening.sum(dimension, &ciphertexts).unwrap();
    bencher.bench_local(|| open(ROUND, &sum, &key).unwrap());
}

/// The same numbers in torus GLWE of 4096 coefficients, as `concrete-core` has it. 64 bits of torus hold 32 bits of
/// message beside noise and the carries of 32 sums, so a block takes two ciphertexts. It draws a mask for each
/// ciphertext and adds under one key only, so sums under sums of keys cannot be had from it: encryption alone is
/// compared.
mod concrete {
    use concrete_core::prelude::*;

    use super::*;

    #[divan::bench(sample_count = 5, sample_size = 1)]
    fn encrypt(bencher: Bencher) {
        // A fixed seed: nothing is hidden here.
        let mut engine = DefaultEngine::new(Box::new(UnixSeeder::new(0))).unwrap();
        let key: GlweSecretKey64 = engine
            .generate_new_glwe_secret_key(GlweDimension(1), PolynomialSize(4096))
            .unwrap();
        let noise = Variance(2f64.powi(-2 * 52));
        let values = values();
        bencher.bench_local(|| {
            let mut ciphertexts: Vec<GlweCiphertext64> = Vec::new();
            for block in values.chunks(4096) {
                for half in [0, 32] {
                    let mut message = [0u64; 4096];
                    for (place, value) in message.iter_mut().zip(block) {
                        *place = (value >> half & 0xFFFF_FFFF) << 27;
                    }
                    let plain = engine.create_plaintext_vector_from(&message).unwrap();
                    ciphertexts.push(engine.encrypt_glwe_ciphertext(&key, &plain, noise).unwrap());
                }
            }
            ciphertexts
        });
    }
}
