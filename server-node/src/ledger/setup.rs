//! A new ledger: its genesis and its first admin.

use std::path::Path;

use defim_ledger::{FirstValidator, Genesis, NodeId, NodeKey, Params, Split};

use crate::{
    clock,
    config::write_secret,
    failure::{Failure, Outcome},
};

/// Everything that a new mesh ever issues.
pub const SUPPLY: u64 = 1_000_000_000_000;
/// What a finished round of a task pays, unless its terms say otherwise.
pub const BUDGET_PER_ROUND: u64 = 10_000;
/// How a round's budget is shared out, unless the task's terms say otherwise.
pub const SPLIT: Split = Split {
    light: 5_000,
    committee: 2_500,
    aggregation: 1_000,
    validators: 1_500,
};
/// By how much a model's loss may rise in a round before validators complain, in parts per million of the loss before.
pub const TOLERANCE_PPM: u32 = 250_000;
/// The same for tasks with noise, whose models wander.
pub const NOISY_TOLERANCE_PPM: u32 = 1_000_000;
/// How far a group's accuracy may lie behind the whole, in parts per million.
pub const FAIRNESS_GAP_PPM: u32 = 300_000;

/// The genesis of a new ledger.
///
/// # Errors
///
/// [`Failure::Input`] if these validators are none.
pub fn genesis(name: &str, mut validators: Vec<FirstValidator>, admin: NodeId) -> Outcome<Genesis> {
    validators.sort_by_key(|first| first.node);
    let genesis = Genesis {
        name: name.to_owned(),
        timestamp_ms: clock::now(),
        validators,
        admins: vec![admin],
        treasury: admin,
        supply: SUPPLY,
        params: Params::default(),
    };
    genesis
        .check()
        .map_err(|e| Failure::Input(format!("no ledger can begin so: {e}")))?;
    Ok(genesis)
}

/// Read a genesis.
///
/// # Errors
///
/// [`Failure::Input`] naming the file.
pub fn read_genesis(path: &Path) -> Outcome<Genesis> {
    let damaged = |e: &dyn std::fmt::Display| {
        Failure::Input(format!(
            "the genesis {} cannot be used: {e}; restore it, a new one is a new ledger",
            path.display()
        ))
    };
    let text = std::fs::read_to_string(path).map_err(|e| damaged(&e))?;
    let genesis: Genesis = serde_json::from_str(&text).map_err(|e| damaged(&e))?;
    genesis.check().map_err(|e| damaged(&e))?;
    Ok(genesis)
}

/// Write a genesis.
///
/// # Errors
///
/// [`Failure`] naming the file.
pub fn write_genesis(path: &Path, genesis: &Genesis) -> Outcome {
    let text = serde_json::to_string_pretty(genesis).map_err(|e| Failure::Other(e.to_string()))?;
    write_secret(path, &text)
}

/// A key out of a file with its seed as 64 hex digits.
///
/// # Errors
///
/// [`Failure::Input`] naming the file.
pub fn read_key(path: &Path) -> Outcome<NodeKey> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Failure::Input(format!("the key {} cannot be read: {e}", path.display())))?;
    let seed = hex::decode(text.trim())
        .ok()
        .and_then(|seed| seed.try_into().ok());
    seed.map(NodeKey::from_seed).ok_or_else(|| {
        Failure::Input(format!(
            "{} is no key: it has to hold 64 hex digits",
            path.display()
        ))
    })
}

/// The admin's key of a mesh, made if it is not there; with its seed if it was made now, to be shown once.
///
/// # Errors
///
/// [`Failure`] naming the file.
pub fn load_or_make_admin(path: &Path) -> Outcome<(NodeKey, Option<String>)> {
    if path.exists() {
        return Ok((read_key(path)?, None));
    }
    let mut seed = [0; 32];
    rand::RngCore::fill_bytes(&mut rand::rng(), &mut seed);
    let text = hex::encode(seed);
    write_secret(path, &text)?;
    Ok((NodeKey::from_seed(seed), Some(text)))
}
