//! Certificates, good and forged, as JSON: the same verdicts natively and in WebAssembly, in every version.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod world;

use defim_ledger::light::{Certificate, LightChain, ValidatorSet};
use defim_ledger::{Canonical as _, Header, NodeId};
use serde::{Deserialize, Serialize};
#[cfg(not(target_arch = "wasm32"))]
use {
    defim_ledger::{Body, Digest, Params},
    world::{World, admin, certify},
};

/// From the beginning of a chain (or a hand-over), the verdict on one header and its certificate.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Case {
    name: String,
    /// The light chain before, as it is kept; hex.
    light_chain: String,
    header: String,
    certificate: String,
    /// The refusal's word; none: it is final.
    refused: Option<String>,
}

/// A finalization as commonware-consensus 2026.10.0 wrote it.
#[derive(Debug, Serialize, Deserialize)]
struct Engine {
    /// Keys, ascending; hex.
    validators: Vec<String>,
    namespace: String,
    finalization: String,
    signers: Vec<usize>,
}

const CASES: &str = include_str!("../vectors/certificates.json");
const ENGINE: &str = include_str!("../vectors/engine.json");

fn bytes(text: &str) -> Vec<u8> {
    hex::decode(text).unwrap()
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn every_vector_has_its_verdict() {
    let cases: Vec<Case> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() > 15);
    for case in &cases {
        let mut chain = LightChain::from_bytes(&bytes(&case.light_chain)).unwrap();
        let verdict = Header::from_bytes(&bytes(&case.header))
            .and_then(|header| Ok((header, Certificate::from_bytes(&bytes(&case.certificate))?)))
            .map_err(|_| "malformed")
            .and_then(|(header, certificate)| {
                let last = chain.advance(header, &certificate);
                last.map(drop).map_err(|error| error.slug())
            });
        let refused = verdict.err().map(str::to_owned);
        assert_eq!(refused, case.refused, "{}", case.name);
    }
}

#[cfg_attr(target_arch = "wasm32", wasm_bindgen_test::wasm_bindgen_test)]
#[cfg_attr(not(target_arch = "wasm32"), test)]
fn what_the_consensus_engine_writes_is_read_and_believed() {
    let engine: Vec<Engine> = serde_json::from_str(ENGINE).unwrap();
    assert_eq!(engine.len(), 3);
    for case in &engine {
        let keys: Vec<_> = case
            .validators
            .iter()
            .map(|key| NodeId(bytes(key).try_into().unwrap()))
            .collect();
        let set = ValidatorSet::new(keys).unwrap();
        let finalization = bytes(&case.finalization);
        let certificate = Certificate::from_bytes(&finalization).unwrap();
        assert_eq!(certificate.to_bytes(), finalization);
        let signers: Vec<_> = case
            .signers
            .iter()
            .map(|place| set.keys()[*place])
            .collect();
        let namespace = bytes(&case.namespace);
        assert_eq!(certificate.verify(&set, &namespace), Ok(signers));
        assert!(certificate.verify(&set, b"other").is_err());
        for place in 0..finalization.len() {
            let mut changed = finalization.clone();
            changed[place] ^= 1;
            if let Ok(certificate) = Certificate::from_bytes(&changed) {
                assert_eq!(certificate.to_bytes(), changed, "one encoding");
                assert!(
                    certificate.verify(&set, &namespace).is_err(),
                    "byte {place}"
                );
            }
            assert!(Certificate::from_bytes(&finalization[..place]).is_err());
        }
    }
}

/// The file is what this version makes; `DEFIM_WRITE_VECTORS=1` writes it.
#[cfg(not(target_arch = "wasm32"))]
#[test]
fn the_vectors_are_what_this_version_makes() {
    let cases = made();
    if std::env::var_os("DEFIM_WRITE_VECTORS").is_some() {
        let text = serde_json::to_string_pretty(&cases).unwrap() + "\n";
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/certificates.json");
        std::fs::write(path, text).unwrap();
        return;
    }
    let kept: Vec<Case> = serde_json::from_str(CASES).unwrap();
    assert_eq!(cases, kept);
}

#[cfg(not(target_arch = "wasm32"))]
fn made() -> Vec<Case> {
    let params = Params {
        epoch_blocks: 4,
        ..Params::default()
    };
    let mut world = World::empty(5, 2, params);
    let all = world.validators.clone();
    let chain_id = world.genesis.chain();
    world.enrol_all();
    world.block(&[]);
    let set = (0..4).map(|n| world.validator(n).id()).collect();
    world.run(vec![(&admin(), Body::SetValidators { set, from_epoch: 1 })]);
    for _ in 0..3 {
        world.block(&[]);
    }
    let header = |height: usize| world.blocks[height].header().clone();
    let begun = LightChain::begin(&world.genesis, &chain_id).unwrap();
    let first = |header: &Header, view, by: &[usize]| certify(&chain_id, &all, header, view, by);
    let then =
        |header: &Header, view, by: &[usize]| certify(&chain_id, &all[..4], header, view, by);
    let mut seen = begun.clone();
    seen.advance(header(1), &first(&header(1), 5, &[0, 1, 2, 3]))
        .unwrap();
    let mut handed = begun.clone();
    handed
        .advance(header(3), &first(&header(3), 9, &[0, 1, 2, 3]))
        .unwrap();

    let mut cases = Vec::new();
    let mut case = |name: &str,
                    chain: &LightChain,
                    header: &Header,
                    certificate: &[u8],
                    refused: Option<&str>| {
        cases.push(Case {
            name: name.to_owned(),
            light_chain: hex::encode(chain.to_bytes()),
            header: hex::encode(header.to_bytes()),
            certificate: hex::encode(certificate),
            refused: refused.map(str::to_owned),
        });
    };
    let (two, three, four) = (header(2), header(3), header(4));
    let good = first(&two, 7, &[0, 1, 2, 4]);
    let changed = |change: &dyn Fn(&mut Certificate)| {
        let mut certificate = good.clone();
        change(&mut certificate);
        certificate.to_bytes()
    };
    case(
        "a quorum of four of five",
        &begun,
        &two,
        &good.to_bytes(),
        None,
    );
    case(
        "all five",
        &seen,
        &two,
        &first(&two, 7, &[0, 1, 2, 3, 4]).to_bytes(),
        None,
    );
    case(
        "a hand-over",
        &seen,
        &three,
        &first(&three, 8, &[1, 2, 3, 4]).to_bytes(),
        None,
    );
    case(
        "three of the next four",
        &handed,
        &four,
        &then(&four, 1, &[0, 1, 3]).to_bytes(),
        None,
    );

    let missing = first(&two, 7, &[0, 1, 4]);
    case(
        "a signer is missing",
        &begun,
        &two,
        &missing.to_bytes(),
        Some("missing-signer"),
    );
    case(
        "nobody has signed",
        &begun,
        &two,
        &first(&two, 7, &[]).to_bytes(),
        Some("missing-signer"),
    );
    let strangers: Vec<_> = (60..65).map(|n| [n; 32]).collect();
    let others = certify(&chain_id, &strangers, &two, 7, &[0, 1, 2, 4]);
    case(
        "five others have signed",
        &begun,
        &two,
        &others.to_bytes(),
        Some("broken-signature"),
    );
    let six: Vec<_> = (60..66).map(|n| [n; 32]).collect();
    let others = certify(&chain_id, &six, &two, 7, &[0, 1, 2, 3, 4]);
    case(
        "six others have signed",
        &begun,
        &two,
        &others.to_bytes(),
        Some("wrong-set"),
    );
    let elsewhere = certify(&Digest([1; 32]), &all, &two, 7, &[0, 1, 2, 4]);
    case(
        "signed on another chain",
        &begun,
        &two,
        &elsewhere.to_bytes(),
        Some("broken-signature"),
    );

    case(
        "the view was changed",
        &begun,
        &two,
        &changed(&|c| c.view = 8),
        Some("broken-signature"),
    );
    case(
        "the parent's view was changed",
        &begun,
        &two,
        &changed(&|c| c.parent = 5),
        Some("broken-signature"),
    );
    case(
        "the view is its parent's",
        &begun,
        &two,
        &changed(&|c| c.parent = 7),
        Some("wrong-round"),
    );
    let late = first(&two, 5, &[0, 1, 2, 4]);
    case(
        "a round that is over",
        &seen,
        &two,
        &late.to_bytes(),
        Some("round-out-of-order"),
    );

    case(
        "the payload was changed",
        &begun,
        &two,
        &changed(&|c| c.payload.0[0] ^= 1),
        Some("wrong-payload"),
    );
    let mut altered = two.clone();
    altered.state_root.0[0] ^= 1;
    case(
        "the header was changed",
        &begun,
        &altered,
        &good.to_bytes(),
        Some("wrong-payload"),
    );
    let digest = altered.digest();
    case(
        "header and payload were changed",
        &begun,
        &altered,
        &changed(&|c| c.payload = digest),
        Some("broken-signature"),
    );
    case(
        "another block's certificate",
        &begun,
        &two,
        &first(&three, 8, &[0, 1, 2, 3]).to_bytes(),
        Some("wrong-payload"),
    );

    case(
        "one signature for two",
        &begun,
        &two,
        &changed(&|c| c.signatures[1] = c.signatures[0]),
        Some("duplicate-signature"),
    );
    case(
        "two signatures changed places",
        &begun,
        &two,
        &changed(&|c| c.signatures.swap(0, 1)),
        Some("broken-signature"),
    );
    case(
        "a signature too few",
        &begun,
        &two,
        &changed(&|c| c.signatures.truncate(3)),
        Some("signature-count"),
    );
    case(
        "another has signed than is named",
        &begun,
        &two,
        &changed(&|c| c.signers.swap(2, 3)),
        Some("broken-signature"),
    );

    case(
        "signed by the last epoch's five",
        &handed,
        &four,
        &first(&four, 1, &[0, 1, 2, 3]).to_bytes(),
        Some("wrong-set"),
    );
    let mut of_old = first(&four, 9, &[0, 1, 2, 3]);
    of_old.epoch = 0;
    case(
        "a certificate of the last epoch",
        &handed,
        &four,
        &of_old.to_bytes(),
        Some("old-set"),
    );
    case(
        "the last epoch's header",
        &handed,
        &three,
        &first(&three, 9, &[0, 1, 2, 3]).to_bytes(),
        Some("other-epoch"),
    );
    case(
        "a coming epoch's header",
        &begun,
        &four,
        &then(&four, 1, &[0, 1, 3]).to_bytes(),
        Some("other-epoch"),
    );
    let mut early = two.clone();
    early.next_validators = three.next_validators.clone();
    case(
        "a hand-over within an epoch",
        &begun,
        &early,
        &first(&early, 7, &[0, 1, 2, 3]).to_bytes(),
        Some("bad-header"),
    );
    let mut none = three.clone();
    none.next_validators = None;
    case(
        "an epoch ends without a hand-over",
        &begun,
        &none,
        &first(&none, 8, &[0, 1, 2, 3]).to_bytes(),
        Some("bad-header"),
    );
    let mut forked = header(1);
    forked.timestamp_ms += 1;
    case(
        "two blocks at one height",
        &seen,
        &forked,
        &first(&forked, 6, &[0, 1, 2, 3]).to_bytes(),
        Some("fork"),
    );
    case(
        "a block that was seen before",
        &seen,
        &header(1),
        &first(&header(1), 6, &[0, 1, 2, 3]).to_bytes(),
        Some("stale"),
    );

    let bytes = good.to_bytes();
    let mut longer = bytes.clone();
    longer.push(0);
    case(
        "something follows",
        &begun,
        &two,
        &longer,
        Some("malformed"),
    );
    case(
        "the end is missing",
        &begun,
        &two,
        &bytes[..bytes.len() - 1],
        Some("malformed"),
    );
    // The epoch, 0, in two bytes.
    let padded = [&[0x80, 0], &bytes[1..]].concat();
    case(
        "a number with a byte too many",
        &begun,
        &two,
        &padded,
        Some("malformed"),
    );
    let mut stray = bytes.clone();
    // Three varints, the payload, and eight bytes of count stand before the bits.
    stray[3 + 32 + 8] |= 0x20;
    case(
        "a sixth of five signers",
        &begun,
        &two,
        &stray,
        Some("malformed"),
    );
    cases
}
