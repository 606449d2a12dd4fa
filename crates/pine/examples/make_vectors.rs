//! Writes this crate's own test vectors to a folder: `cargo run --example make_vectors --features vectors -- vectors`.
//!
//! The draft's vectors hold only 0 and 1 and, in all but one file, two shares. These have negative
//! coordinates, halves that are rounded, vectors at the bound, three and five shares; and, for each thing
//! that can be corrupted, a file in which it is.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::path::{Path, PathBuf};

use defim_pine::vectors::{Hex, Report, Step, VectorFile};
use defim_pine::{
    Instance, Parameters, Pine, Pine32Hmac, Pine40Hmac, Pine64, Pine64Hmac, Pine128, PineField,
};
use prio::codec::Encode;
use prio::vdaf::xof::Xof;
use prio::vdaf::{Aggregator as _, Collector as _, PrepareTransition};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn main() -> Outcome<()> {
    let folder = PathBuf::from(std::env::args().nth(1).ok_or("which folder?")?);
    instance::<_, _, 16>(&folder, Pine64::new)?;
    instance::<_, _, 16>(&folder, Pine128::new)?;
    instance::<_, _, 32>(&folder, Pine64Hmac::new)?;
    instance::<_, _, 32>(&folder, Pine32Hmac::new)?;
    instance::<_, _, 32>(&folder, Pine40Hmac::new)?;
    Ok(())
}

/// Wraparound checks of the files.
const CHECKS: usize = 10;

/// All files of one instance.
fn instance<F: PineField, X: Xof<SEED>, const SEED: usize>(
    folder: &Path,
    new: fn(Parameters) -> Result<Pine<F, X, SEED>, defim_pine::ParameterError>,
) -> Outcome<()>
where
    Pine<F, X, SEED>: Instance,
{
    let name = Pine::<F, X, SEED>::NAME;
    let unit = 1.0 / 256.0;
    let at_bound = [0.6, -0.8, 0.0, 0.0, 0.0].map(|x: f64| (x * 255.0).trunc() * unit);
    // Few wraparound checks keep the files short.
    let mut parameters = Pine::<F, X, SEED>::default_parameters(1 << 8, 8, 5);
    parameters.num_wr_checks = CHECKS;
    parameters.num_wr_successes = CHECKS;
    parameters.choose_chunks();
    let good: [(&str, usize, Vec<Vec<f64>>); 5] = [
        (
            "rounding",
            2,
            // Halves go to the even neighbour, whatever the sign.
            vec![
                [0.5, 1.5, 2.5, -0.5, -1.5].map(|x| x * unit).to_vec(),
                vec![-2.5 * unit; 5],
            ],
        ),
        (
            "negatives",
            2,
            vec![vec![-0.25; 5], vec![-0.125, 0.25, -0.5, 0.0, -unit]],
        ),
        (
            "at_the_bound",
            2,
            vec![
                vec![1.0, 0.0, 0.0, 0.0, 0.0],
                vec![0.0, 0.0, 0.0, 0.0, -1.0],
                at_bound.to_vec(),
            ],
        ),
        (
            "three_shares",
            3,
            vec![vec![0.5, -0.25, 0.125, 0.0, 0.0], vec![0.0; 5]],
        ),
        ("five_shares", 5, vec![vec![-0.5, 0.25, -0.125, unit, 0.0]]),
    ];
    for (what, num_shares, vectors) in good {
        let pine = new(Parameters {
            num_shares,
            ..parameters
        })?;
        write(
            &folder.join("good").join(format!("{name}_{what}.json")),
            &file(&pine, &vectors)?,
        )?;
    }

    let pine = new(parameters)?;
    let honest = file(&pine, &[vec![0.5, -0.25, 0.125, 0.0, unit]])?;
    let (_, leader, _) = pine.share_lengths();
    let element = F::ENCODED_SIZE;
    let flip = |bytes: &mut Hex, at: usize| {
        if let Some(byte) = bytes.0.get_mut(at) {
            *byte ^= 1;
        }
    };
    type Corruption<'a> = (&'a str, &'a str, Step, Box<dyn Fn(&mut Report) + 'a>);
    let corrupted: Vec<Corruption<'_>> = vec![
        (
            "proof",
            "the last coefficient of the last proof in the leader's share",
            Step::Prepare,
            Box::new(|r| flip(&mut r.input_shares[0], leader - 2 * SEED - element)),
        ),
        (
            "measurement",
            "the first coordinate in the leader's share",
            Step::Prepare,
            Box::new(|r| flip(&mut r.input_shares[0], 0)),
        ),
        (
            "helper_measurement_seed",
            "the seed of the helper's share of the measurement",
            Step::Prepare,
            Box::new(|r| flip(&mut r.input_shares[1], 0)),
        ),
        (
            "helper_proofs_seed",
            "the seed of the helper's share of the proofs",
            Step::Prepare,
            Box::new(|r| flip(&mut r.input_shares[1], SEED)),
        ),
        (
            "wr_blind",
            "the helper's blind of the wraparound joint randomness",
            Step::Prepare,
            Box::new(|r| flip(&mut r.input_shares[1], 2 * SEED)),
        ),
        (
            "vf_blind",
            "the helper's blind of the verification joint randomness",
            Step::Prepare,
            Box::new(|r| flip(&mut r.input_shares[1], 3 * SEED)),
        ),
        (
            "wr_joint_rand_part",
            "the leader's wraparound part in the public share",
            Step::Prepare,
            Box::new(|r| flip(&mut r.public_share, 0)),
        ),
        (
            "vf_joint_rand_part",
            "the leader's verification part in the public share",
            Step::Prepare,
            Box::new(|r| flip(&mut r.public_share, 2 * SEED)),
        ),
        (
            "wraparound_bit",
            "the last wraparound check's success bit in the leader's share",
            Step::Prepare,
            Box::new(|r| {
                let bits = 2 * 17 + CHECKS * 14;
                flip(&mut r.input_shares[0], (5 + bits - 1) * element);
            }),
        ),
        (
            "nonce",
            "the nonce of another report",
            Step::Prepare,
            Box::new(|r| flip(&mut r.nonce, 15)),
        ),
        (
            "norm",
            "the vector's norm is over the bound",
            Step::Shard,
            Box::new(|r| r.measurement[0] = 1.5),
        ),
        (
            "not_canonical",
            "an element of the leader's share is no least residue",
            Step::Decode,
            Box::new(|r| r.input_shares[0].0[..element].fill(0xff)),
        ),
        (
            "truncated",
            "the leader's share has lost its last byte",
            Step::Decode,
            Box::new(|r| {
                r.input_shares[0].0.pop();
            }),
        ),
    ];
    for (what, words, step, corrupt) in corrupted {
        let mut file = honest.clone();
        file.prep.iter_mut().for_each(&corrupt);
        file.corrupted = Some(words.to_owned());
        file.fails = Some(step);
        write(
            &folder.join("bad").join(format!("{name}_{what}.json")),
            &file,
        )?;
    }
    Ok(())
}

fn write(path: &Path, file: &VectorFile) -> Outcome<()> {
    let json = serde_json::to_vec(file)?;
    defim_pine::vectors::check(&json).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut text = serde_json::to_string_pretty(file)?;
    text.push('\n');
    std::fs::write(path, text)?;
    Ok(())
}

fn hex(value: &impl Encode) -> Outcome<Hex> {
    Ok(Hex(value.get_encoded()?))
}

/// What this crate makes of these vectors, with randomness that counts up.
fn file<F: PineField, X: Xof<SEED>, const SEED: usize>(
    pine: &Pine<F, X, SEED>,
    vectors: &[Vec<f64>],
) -> Outcome<VectorFile>
where
    Pine<F, X, SEED>: Instance,
{
    let parameters = pine.parameters();
    let counting = |length: usize, first: usize| -> Vec<u8> {
        (first..first + length).map(|byte| byte as u8).collect()
    };
    let verify_key = counting(SEED, 0);
    let key: &[u8; SEED] = verify_key.as_slice().try_into()?;
    let mut by_aggregator = vec![Vec::new(); parameters.num_shares];
    let mut prep = Vec::new();
    for (index, measurement) in vectors.iter().enumerate() {
        let nonce = counting(16, index);
        let rand = counting(pine.randomness_len(), 100 * index);
        let nonce_array = nonce.as_slice().try_into()?;
        let (public, shares) = pine.shard_with_randomness(measurement, nonce_array, &rand)?;
        let mut prepared = Vec::new();
        let mut states = Vec::new();
        for (id, share) in shares.iter().enumerate() {
            let (state, share) = pine.prepare_init(key, id, &(), nonce_array, &public, share)?;
            states.push(state);
            prepared.push(share);
        }
        let prep_shares = vec![prepared.iter().map(hex).collect::<Outcome<_>>()?];
        let message = pine.prepare_shares_to_prepare_message(&(), prepared)?;
        let mut out_shares = Vec::new();
        for (state, list) in states.into_iter().zip(&mut by_aggregator) {
            let PrepareTransition::Finish(output) = pine.prepare_next(state, message.clone())?
            else {
                return Err("PINE has one round".into());
            };
            let elements = output.elements().map(|e| hex(&e));
            out_shares.push(elements.collect::<Outcome<_>>()?);
            list.push(output);
        }
        prep.push(Report {
            measurement: measurement.clone(),
            nonce: Hex(nonce),
            rand: Hex(rand),
            public_share: hex(&public)?,
            input_shares: shares.iter().map(hex).collect::<Outcome<_>>()?,
            prep_shares,
            prep_messages: vec![hex(&message)?],
            out_shares,
        });
    }
    let shares: Vec<_> = by_aggregator
        .into_iter()
        .map(|outputs| pine.aggregate(&(), outputs))
        .collect::<Result<_, _>>()?;
    Ok(VectorFile {
        shares: parameters.num_shares,
        field: F::NAME.to_owned(),
        l2_norm_bound: parameters.l2_norm_bound,
        num_frac_bits: parameters.num_frac_bits,
        dimension: parameters.dimension,
        chunk_length: parameters.chunk_length,
        chunk_length_norm_equality: parameters.chunk_length_norm_equality,
        proofs: parameters.num_proofs,
        proofs_norm_equality: parameters.num_proofs_norm_equality,
        alpha: parameters.alpha,
        num_wr_checks: parameters.num_wr_checks,
        num_wr_successes: parameters.num_wr_successes,
        verify_key: Hex(verify_key),
        prep,
        agg_shares: shares.iter().map(hex).collect::<Outcome<_>>()?,
        agg_result: pine.unshard(&(), shares, vectors.len())?,
        corrupted: None,
        fails: None,
    })
}
