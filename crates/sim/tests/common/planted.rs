//! Contributions whose updates are known, and the model that their plain sum gives.

use defim_learn::{FixedUpdate, MeanUpdate, Model, OptimiserState, quantise_vector};
use defim_light::{ReadyRound, SealedReport, Split, Training};
use defim_protocol::ReportId;
use rand::Rng as _;

use super::World;

/// A planted update, as large as the task allows.
pub fn update(world: &World, full: bool) -> FixedUpdate {
    let spec = world.task.spec();
    let mut rng = rand::rng();
    let side = spec.clip_norm.0 / (spec.dimension() as f32).sqrt() * 0.999;
    let values: Vec<f32> = (0..spec.dimension())
        .map(|_| match full {
            true => side,
            false => rng.random_range(-side..side),
        })
        .collect();
    quantise_vector(&values, spec.clip_norm, spec.frac_bits).unwrap()
}

pub fn open(world: &World) -> (ReadyRound, Training) {
    let signed = world.round.signed().clone();
    let open = world.task.open_round(signed, world.mesh.now());
    let open = open.unwrap().without_ledger();
    let (_, model) = world.mesh.coordinator().model();
    let training = Training::start(&world.task, &open, model).unwrap();
    (open, training)
}

pub fn split(world: &World, update: &FixedUpdate, id: ReportId) -> Split {
    let time = world.mesh.now() / 1000;
    open(world).1.split(update, id, time).unwrap()
}

pub fn silo(world: &World, update: &FixedUpdate, place: usize) -> SealedReport {
    let key = world.mesh.node_key(place).unwrap();
    let (open, _) = open(world);
    let id = open
        .silo_report(&key.id())
        .expect("the round gives it a weight");
    let split = split(world, update, id);
    split.seal_as_silo(&open, key, &mut rand::rng()).unwrap()
}

pub fn person(world: &World, update: &FixedUpdate) -> SealedReport {
    let id = ReportId(rand::rng().random());
    split(world, update, id).seal(&mut rand::rng()).unwrap()
}

/// The model that the weighted mean of these updates makes of `before`: integers, added in the clear.
pub fn expected(world: &World, before: &[u8], each: &[(&FixedUpdate, i64)]) -> Vec<u8> {
    let spec = world.task.spec();
    let before = Model::from_safetensors(before, spec).unwrap();
    let one = world.mesh.manifest().vdaf.norm_bound() as f64;
    let sum: Vec<f64> = (0..spec.dimension())
        .map(|at| {
            let sum: i64 = each
                .iter()
                .map(|(u, n)| n * i64::from(u.values()[at]))
                .sum();
            sum as f64 / one
        })
        .collect();
    let count: i64 = each.iter().map(|(_, n)| n).sum();
    let mean = MeanUpdate::from_sum(&sum, spec.clip_norm, count as u64).unwrap();
    let mut optimiser = OptimiserState::new();
    let after = spec.server.step(&mut optimiser, &before, &mean).unwrap();
    after.to_safetensors()
}
