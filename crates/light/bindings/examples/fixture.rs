//! Prints the signed task, round and model that the package's tests join.
//!
//! ```sh
//! cargo run --release -p defim-light-bindings --example fixture > pkg/test/fixture.json
//! ```
//!
//! All seeds are fixed: the same code gives the same bytes.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use defim_learn::{Model, builtin};
use defim_protocol::{
    AdmissionRule, Digest, Manifest, Member, NodeKey, RoundOpened, Schedule, VerifiedManifest,
    seal::SealingKey,
    vdaf::{Scheme, VdafSpec},
};
use serde_json::{json, value::RawValue};

/// 14 November 2023 and 1 January 2100.
const OPENED_MS: u64 = 1_700_000_000_000;
const DEADLINE_MS: u64 = 4_102_444_800_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let digits = builtin("digits", None).ok_or("no task \"digits\"")?;
    let spec = digits.spec;
    let key = NodeKey::from_seed([41; 32]);
    let member = |seed: u8, name: &str| Member {
        node: NodeKey::from_seed([seed; 32]).id(),
        name: name.to_owned(),
        hpke: SealingKey::from_seed(seed, [seed; 32]).config(),
    };
    let manifest = Manifest {
        name: digits.name.to_owned(),
        title: digits.title.to_owned(),
        summary: digits.summary.to_owned(),
        aggregation: key.id(),
        members: vec![
            member(42, "full-1"),
            member(43, "full-2"),
            member(44, "full-3"),
        ],
        vdaf: VdafSpec {
            scheme: Scheme::Pine64,
            dimension: spec.dimension(),
            frac_bits: spec.frac_bits,
            shares: 2,
            votes: 0,
        },
        schedule: Schedule {
            min_batch: 3,
            max_batch: 50,
            settle_ms: 1_000,
            round_ms: 600_000,
            rounds: 10,
        },
        privacy: None,
        max_weight: 1,
        admission: None,
        ledger: defim_protocol::LedgerTerms::default(),
        created_ms: OPENED_MS,
        learning: RawValue::from_string(serde_json::to_string(&spec)?)?,
    };
    let signed = manifest.sign(&key)?;
    let mut three = manifest.clone();
    three.name = "digits-three".to_owned();
    three.vdaf.shares = 3;
    let three = three.sign(&key)?;
    let three_task = VerifiedManifest::verify(three.clone(), None)?.task();
    let task = VerifiedManifest::verify(signed.clone(), None)?.task();
    let model = Model::init(
        &spec.model,
        spec.schema.inputs(),
        spec.schema.outputs(),
        spec.init_seed,
    )
    .to_safetensors();
    let base_model = Digest::of(&model);
    let round = RoundOpened {
        task,
        round: 1,
        base_model,
        opened_ms: OPENED_MS,
        deadline_ms: DEADLINE_MS,
        weights: std::collections::BTreeMap::new(),
    };
    // The same task for enrolled light nodes.
    let admitting = Manifest {
        name: "digits-enrolled".to_owned(),
        admission: Some(AdmissionRule::Invite),
        ledger: defim_protocol::LedgerTerms::default(),
        ..manifest.clone()
    }
    .sign(&key)?;
    let admitting_round = RoundOpened {
        task: VerifiedManifest::verify(admitting.clone(), None)?.task(),
        ..round.clone()
    };
    let three_round = RoundOpened {
        task: three_task,
        ..round.clone()
    };
    let fixture = json!({
        "about": "made by: cargo run --release -p defim-light-bindings --example fixture > pkg/test/fixture.json",
        "task": task,
        "aggregation": key.id(),
        "members": manifest.members.iter().map(|member| member.node).collect::<Vec<_>>(),
        "baseModel": base_model,
        "openedMs": OPENED_MS,
        "deadlineMs": DEADLINE_MS,
        "dimension": spec.dimension(),
        "manifest": signed,
        "round": round.sign(&key)?,
        "enrolled": {
            "task": admitting_round.task,
            "manifest": admitting,
            "round": admitting_round.sign(&key)?,
        },
        "three": {
            "task": three_task,
            "manifest": three,
            "round": three_round.sign(&key)?,
        },
        "model": STANDARD.encode(&model),
    });
    println!("{}", serde_json::to_string_pretty(&fixture)?);
    Ok(())
}
