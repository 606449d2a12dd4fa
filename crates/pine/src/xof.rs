//! Extendable output functions: seeds, field elements and joint randomness parts.

use prio::vdaf::xof::Xof;
use rand_core06::RngCore as _;

use crate::residue::Residue;

/// Draft version of the test vectors, and of the domain separation.
const VERSION: u8 = 1;

/// What an output is for. 1 to 7 are Prio3's.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Usage {
    MeasurementShare = 1,
    ProofShare = 2,
    JointRandomness = 3,
    ProveRandomness = 4,
    QueryRandomness = 5,
    JointRandSeed = 6,
    JointRandPart = 7,
    WrJointRandomness = 8,
    WrJointRandSeed = 9,
    WrJointRandPart = 10,
}

/// Version, algorithm and usage.
pub(crate) fn domain_separation(algorithm: u32, usage: Usage) -> [u8; 7] {
    let [a, b, c, d] = algorithm.to_be_bytes();
    let [high, low] = (usage as u16).to_be_bytes();
    [VERSION, a, b, c, d, high, low]
}

/// Bytes of a block that is hashed or read at once; every element's length divides it.
const BLOCK: usize = 4_080;

/// `length` uniform field elements: whatever is no least residue is left out.
pub(crate) fn expand<R: Residue>(mut stream: impl rand_core06::RngCore, length: usize) -> Vec<R> {
    let mut elements = Vec::with_capacity(length);
    let mut block = [0; BLOCK];
    while elements.len() < length {
        let missing = (length - elements.len()).saturating_mul(R::BYTES);
        let Some(bytes) = block.get_mut(..missing.min(BLOCK)) else {
            break;
        };
        stream.fill_bytes(bytes);
        elements.extend(bytes.chunks_exact(R::BYTES).filter_map(R::read));
    }
    elements
}

/// Encode elements block by block, and give each block to `take`.
pub(crate) fn encoded_blocks<R: Residue>(elements: &[R], mut take: impl FnMut(&[u8])) {
    let mut block = [0; BLOCK];
    for part in elements.chunks(BLOCK / R::BYTES) {
        for (place, element) in block.chunks_exact_mut(R::BYTES).zip(part) {
            element.write(place);
        }
        if let Some(bytes) = block.get(..part.len() * R::BYTES) {
            take(bytes);
        }
    }
}

/// A stream for a seed, a usage and a binder.
pub(crate) fn stream<X: Xof<SEED>, const SEED: usize>(
    algorithm: u32,
    usage: Usage,
    seed: &[u8; SEED],
    binder: &[&[u8]],
) -> X::SeedStream {
    let mut xof = X::init(seed, &domain_separation(algorithm, usage));
    for part in binder {
        xof.update(part);
    }
    xof.into_seed_stream()
}

/// A seed for a seed, a usage and a binder.
pub(crate) fn derive<X: Xof<SEED>, const SEED: usize>(
    algorithm: u32,
    usage: Usage,
    seed: &[u8; SEED],
    binder: &[&[u8]],
) -> [u8; SEED] {
    let mut derived = [0; SEED];
    stream::<X, SEED>(algorithm, usage, seed, binder).fill_bytes(&mut derived);
    derived
}

/// Both joint randomness parts of a share of a measurement: the wraparound check's over the first
/// `prefix` elements, the verification's over all.
pub(crate) fn parts<R: Residue, X: Xof<SEED>, const SEED: usize>(
    algorithm: u32,
    aggregator: u8,
    nonce: &[u8; 16],
    blinds: [&[u8; SEED]; 2],
    share: &[R],
    prefix: usize,
) -> [[u8; SEED]; 2] {
    let mut wr = part::<X, SEED>(
        algorithm,
        Usage::WrJointRandPart,
        aggregator,
        nonce,
        blinds[0],
    );
    let mut vf = part::<X, SEED>(
        algorithm,
        Usage::JointRandPart,
        aggregator,
        nonce,
        blinds[1],
    );
    let (first, rest) = share.split_at_checked(prefix).unwrap_or((share, &[]));
    encoded_blocks(first, |bytes| {
        wr.update(bytes);
        vf.update(bytes);
    });
    encoded_blocks(rest, |bytes| vf.update(bytes));
    [finish(wr), finish(vf)]
}

/// Begin a joint randomness part; the share's encoding follows.
pub(crate) fn part<X: Xof<SEED>, const SEED: usize>(
    algorithm: u32,
    usage: Usage,
    aggregator: u8,
    nonce: &[u8; 16],
    blind: &[u8; SEED],
) -> X {
    let mut xof = X::init(blind, &domain_separation(algorithm, usage));
    xof.update(&[aggregator]);
    xof.update(nonce);
    xof
}

/// End a joint randomness part.
pub(crate) fn finish<X: Xof<SEED>, const SEED: usize>(xof: X) -> [u8; SEED] {
    let mut seed = [0; SEED];
    xof.into_seed_stream().fill_bytes(&mut seed);
    seed
}
