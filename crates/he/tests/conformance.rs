//! Every form that leaves a node, byte for byte: the same natively and in WebAssembly, in every version. A change
//! here is a change of the protocol.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_he::audit::{Claim, Evidence, draw};
use defim_he::holder::{Holder, Rules};
use defim_he::params::FIELD;
use defim_he::{
    Ciphertext, HolderIndex, Member, NodeId, Opening, Round, SecretKey, Sum, SumKey, Threshold,
    VerifiedOpening, open,
};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};
use sha2::{Digest as _, Sha256};

const ROUND: Round = Round {
    task: [0x5A; 32],
    number: 3,
};

/// One block and a little of the next.
const COORDINATES: u64 = 4100;

fn vector(node: u64) -> Vec<u64> {
    (0..COORDINATES)
        .map(|i| (i + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ node) % FIELD)
        .collect()
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn every_form_is_the_same_in_every_version_and_on_every_target() {
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let threshold = Threshold::two_thirds(3).unwrap();
    let nodes: Vec<NodeId> = (1..=3).map(|k| NodeId([k; 32])).collect();
    let rules = |holder| Rules {
        holder,
        committees: [(7, nodes.iter().copied().collect())].into(),
        min_committees: 1,
        min_reports: 1,
    };
    let mut forms: Vec<(&str, Vec<u8>)> = Vec::new();
    let mut holders = [(); 3].map(|()| Holder::new());
    let (mut members, mut ciphertexts) = (Vec::new(), Vec::new());
    for (k, node) in (0..).zip(&nodes) {
        let key = SecretKey::random(&mut rng);
        for (holder, share) in holders.iter_mut().zip(key.share(threshold, &mut rng)) {
            let form = share.to_bytes().to_vec();
            let rules = rules(share.holder());
            let step = holder.keep(&rules, ROUND, *node, share).unwrap();
            if k == 0 && rules.holder.get() == 2 {
                forms.push(("key share", form));
                forms.push(("record, collecting", step.record().to_vec()));
            }
            step.written();
        }
        let ciphertext: Ciphertext = key.encrypt(ROUND, &vector(k), &mut rng).unwrap();
        members.push(Member {
            node: *node,
            ciphertext: ciphertext.root(),
            committee: 7,
            reports: 40,
        });
        ciphertexts.push(ciphertext);
    }
    forms.push(("ciphertext", ciphertexts[0].to_bytes()));
    forms.push(("root", ciphertexts[0].root().0.to_vec()));
    let opening = Opening::new(ROUND, members).unwrap();
    forms.push(("opening", opening.to_bytes()));
    let dimension = ciphertexts[0].dimension();
    let sum = opening.sum(dimension, &ciphertexts).unwrap();
    forms.push(("sum", sum.to_bytes()));
    let verified = VerifiedOpening::new(opening.clone(), |_| true).unwrap();
    let mut answers = Vec::new();
    for (place, holder) in (1..).zip(&mut holders) {
        let rules = rules(HolderIndex::new(place).unwrap());
        let step = holder.answer(&rules, &verified).unwrap();
        if place == 1 {
            forms.push(("record, answered", step.record().to_vec()));
        }
        answers.push(step.written());
    }
    forms.push(("sum share", answers[0].to_bytes()));
    let closed = holders[0].close(ROUND);
    forms.push(("record, closed", closed.record().to_vec()));
    let key = SumKey::from_answers(threshold, &answers).unwrap();
    forms.push(("sum key", key.to_bytes()));
    let total = open(ROUND, &sum, &key).unwrap();
    for (i, opened) in total.iter().enumerate() {
        let expected: u128 = (0..3).map(|k| u128::from(vector(k)[i])).sum();
        assert_eq!(u128::from(*opened), expected % u128::from(FIELD));
    }
    let mut forged = sum.to_bytes();
    forged[0] ^= 1;
    let forged = Sum::from_bytes(dimension, 3, &forged).unwrap();
    let evidence = Evidence {
        parts: ciphertexts
            .iter()
            .map(|c| c.prove(&[0]).unwrap().remove(0))
            .collect(),
        sum: forged.prove(&[0]).unwrap().remove(0),
    };
    let claim = Claim {
        opening: &opening,
        dimension,
        sum: forged.root(),
    };
    let proof = evidence.judge(&claim).unwrap().unwrap();
    forms.push(("fraud proof", proof.to_bytes()));
    let long = defim_he::params::Dimension::new(100_000).unwrap();
    let drawn = draw(&[1; 32], long, 5);
    forms.push(("draw", drawn.iter().flat_map(|b| b.to_be_bytes()).collect()));
    let digests: Vec<_> = forms
        .iter()
        .map(|(name, bytes)| {
            format!(
                "{name} {} {}",
                bytes.len(),
                hex::encode(&Sha256::digest(bytes)[..8])
            )
        })
        .collect();
    assert_eq!(digests, EXPECTED);
}

/// Name, bytes, and the first eight bytes of the SHA-256.
const EXPECTED: [&str; 12] = [
    "key share 40983 ff19f92933d635b1",
    "record, collecting 41075 0cd4f3db34e83b14",
    "ciphertext 122880 7e54619b9a43ac68",
    "root 32 100b3676cd14a50f",
    "opening 289 4e41ace9e91ab282",
    "sum 122880 4d27d29701f8bc4d",
    "record, answered 41075 550b2203c64afbc6",
    "sum share 41015 85e545c713835645",
    "record, closed 60 14785db0c17fffaf",
    "sum key 40960 bc405708008fe634",
    "fraud proof 164151 572e8dea145d454b",
    "draw 20 af69b8eb17d6df33",
];
