//! Keys of light nodes, and what they sign for the ledger.

use defim_light::enrolment::Sender;
use defim_protocol::{Digest, NodeKey, ReportId};
use js_sys::Uint8Array;
use rand::RngCore as _;
use wasm_bindgen::prelude::*;

use crate::{error::Thrown, task::millis};

/// The seed of a new key, from the browser's randomness. It is the secret: 32 bytes that stay on this device.
#[wasm_bindgen(js_name = newSeed)]
pub fn new_seed() -> Uint8Array {
    let mut seed = [0; 32];
    rand::rng().fill_bytes(&mut seed);
    Uint8Array::from(seed.as_slice())
}

/// The public key of a seed.
///
/// # Errors
///
/// `bad-key`.
#[wasm_bindgen(js_name = publicKey)]
pub fn public_key(seed: &[u8]) -> Result<String, JsValue> {
    Ok(key(seed)?.id().to_string())
}

/// The signed transaction that claims the reward of a counted report for the key of this seed, given the report's receipt.
///
/// # Errors
///
/// `bad-key`, `bad-enrolment`.
#[wasm_bindgen(js_name = claimReward)]
pub fn claim_reward(
    seed: &[u8],
    chain: &str,
    nonce: f64,
    receipt: &[u8],
    report: &str,
) -> Result<Uint8Array, JsValue> {
    let key = key(seed)?;
    let report: ReportId = report
        .parse()
        .map_err(|e: defim_protocol::ParseIdError| Thrown::new("bad-enrolment", e.to_string()))?;
    let signed = sender(&key, chain, nonce)?.claim(receipt, report);
    let signed = signed.map_err(Thrown::from)?;
    Ok(Uint8Array::from(signed.as_slice()))
}

pub(crate) fn key(seed: &[u8]) -> Result<NodeKey, Thrown> {
    let seed = seed.try_into();
    let none = |_| Thrown::new("bad-key", "a light node's key has a seed of 32 bytes");
    seed.map(NodeKey::from_seed).map_err(none)
}

pub(crate) fn sender<'a>(key: &'a NodeKey, chain: &str, nonce: f64) -> Result<Sender<'a>, Thrown> {
    let chain: Digest = chain
        .parse()
        .map_err(|e: defim_protocol::ParseIdError| Thrown::new("bad-enrolment", e.to_string()))?;
    let nonce = millis(nonce);
    Ok(Sender { key, chain, nonce })
}
