//! Who takes part in a whole mesh, and the first transactions.

use std::sync::Arc;

use defim_learn::{LearningSpec, builtin};
use defim_ledger::{
    AdmissionRule, Body, CreateTask, FirstValidator, Genesis, NodeId, NodeKey, Params, Role, Split,
    TaskTerms, signed_digest,
};
use defim_protocol::{Schedule, vdaf::Scheme};

use crate::{Mesh, MeshSetup};

/// When the mesh's clock begins.
pub const START_MS: u64 = 1_000_000;
/// Everything that is issued.
pub const SUPPLY: u64 = 1_000_000;
/// What a round pays.
pub const BUDGET: u64 = 10_000;
/// What each server has at first, to lose.
pub const GRANT: u64 = 1_000;
/// Rounds that are played.
pub const ROUNDS: u64 = 3;
/// Light nodes; each moves a coordinate of its own.
pub const LIGHTS: u8 = 6;
pub const SPLIT: Split = Split {
    light: 5_000,
    committee: 2_500,
    aggregation: 1_000,
    validators: 1_500,
};
/// Few, so that rounds cross epochs.
const EPOCH: u64 = 16;

/// The seeds of the validators' keys, by number.
pub fn validator_seeds() -> Vec<[u8; 32]> {
    (91..95).map(|n| [n; 32]).collect()
}

pub fn admin() -> NodeKey {
    NodeKey::from_seed([90; 32])
}

pub fn lights() -> Vec<Arc<NodeKey>> {
    let key = |n| Arc::new(NodeKey::from_seed([0x80 | n; 32]));
    (0..LIGHTS).map(key).collect()
}

/// The smallest task there is: a line through ten columns.
pub fn spec() -> Result<LearningSpec, String> {
    let task = builtin("diabetes", None).ok_or("there is no such task")?;
    let mut spec = task.spec;
    spec.frac_bits = spec.frac_bits.min(Scheme::Pine64.most_frac_bits());
    Ok(spec)
}

pub fn mesh(spec: &LearningSpec) -> Result<Mesh, String> {
    let schedule = Schedule {
        min_batch: 3,
        max_batch: 100,
        settle_ms: 300,
        round_ms: 60_000,
        rounds: 100,
    };
    let setup = MeshSetup {
        spec,
        holdout: None,
        schedule,
        scheme: Scheme::Pine64,
        full: 3,
        shares: 2,
        votes: 0,
        privacy: None,
        max_weight: 1,
        admission: Some(AdmissionRule::Open),
    };
    Mesh::new(setup).map_err(|e| e.to_string())
}

pub fn genesis() -> Genesis {
    let keys = validator_seeds().into_iter().map(NodeKey::from_seed);
    let mut nodes: Vec<_> = keys.map(|key| key.id()).collect();
    nodes.sort_unstable();
    let validators = nodes.into_iter().map(|node| FirstValidator {
        node,
        name: "validator".into(),
        address: String::new(),
    });
    Genesis {
        name: "a simulated mesh".into(),
        timestamp_ms: START_MS,
        validators: validators.collect(),
        admins: vec![admin().id()],
        treasury: admin().id(),
        supply: SUPPLY,
        params: Params {
            epoch_blocks: EPOCH,
            ..Params::default()
        },
    }
}

/// Nodes are enrolled, the task is created and funded, and every server has something to lose.
pub fn first(mesh: &Mesh) -> Vec<Body> {
    let manifest = mesh.manifest();
    let members = manifest.members.iter().map(|member| member.node);
    let servers: Vec<NodeId> = members.chain([manifest.aggregation]).collect();
    let mut bodies: Vec<_> = servers
        .iter()
        .map(|node| Body::EnrolNode {
            node: *node,
            role: match *node == manifest.aggregation {
                true => Role::Aggregation,
                false => Role::Full,
            },
            name: "server".into(),
            address: String::new(),
        })
        .collect();
    let terms = TaskTerms {
        aggregation: manifest.aggregation,
        members: manifest.members.iter().map(|m| m.node).collect(),
        shares: manifest.vdaf.shares,
        min_batch: manifest.schedule.min_batch,
        rounds: manifest.schedule.rounds,
        max_weight: 1,
        admission: AdmissionRule::Open,
        budget_per_round: BUDGET,
        split: SPLIT,
        tolerance_ppm: 250_000,
        fairness_gap_ppm: 1_000_000,
    };
    let task = manifest.task();
    bodies.push(Body::CreateTask(CreateTask {
        task,
        manifest: signed_digest(manifest.signed()),
        model: mesh.coordinator().model().0,
        terms,
    }));
    bodies.push(Body::FundTask {
        task,
        amount: BUDGET * (ROUNDS + 1),
    });
    bodies.extend(
        servers
            .into_iter()
            .map(|to| Body::Transfer { to, amount: GRANT }),
    );
    bodies
}
