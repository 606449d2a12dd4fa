//! The same learning without cryptography, and without quantising: what to compare with.

use defim_learn::{MeanUpdate, Metrics, Model, OptimiserState, evaluate, ols_r2, train};
use rayon::prelude::*;

use crate::{
    Clock, RoundReport, Setup, SimError, Steps, Summary,
    steps::{ms, timed},
};

/// Run it: the same rows, seeds, clipping and server step; updates are added as floats in the clear.
///
/// # Errors
///
/// [`SimError`].
pub fn run_plain(
    setup: &Setup,
    clock: Clock<'_>,
    on_round: &mut dyn FnMut(&RoundReport),
) -> Result<Summary, SimError> {
    let learn = |e: &dyn std::fmt::Display| SimError::Learn(e.to_string());
    let started = clock();
    let dealt = setup.deal()?;
    let spec = &setup.spec;
    let mut model = Model::init(
        &spec.model,
        spec.schema.inputs(),
        spec.schema.outputs(),
        spec.init_seed,
    );
    let mut optimiser = OptimiserState::new();
    if setup.attack.is_some() {
        return Err(SimError::Setup(
            "a run without cryptography has no attackers: its updates are added as floats".into(),
        ));
    }
    let (mut total, mut metrics) = (Steps::default(), Metrics::unknown());
    for round in 1..=setup.rounds {
        let round_started = clock();
        let mut steps = Steps::default();
        let updates = dealt
            .parties
            .par_iter()
            .enumerate()
            .map(|(at, rows)| {
                let mut spent = 0.0;
                let clipped = timed(clock, &mut spent, || {
                    let seed = setup.training_seed(round, at);
                    let update = train(&model, rows, &spec.local, seed, &mut |_| {})
                        .map_err(|e| learn(&e))?;
                    update.clip(spec.clip_norm).map_err(|e| learn(&e))
                });
                clipped.map(|clipped| (clipped, spent))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut sum = vec![0.0; spec.dimension()];
        for (party, (update, spent)) in updates.iter().enumerate() {
            match party < setup.silos {
                true => steps.silo_train_ms += spent,
                false => steps.train_ms += spent,
            }
            timed(clock, &mut steps.add_ms, || {
                let bound = f64::from(spec.clip_norm.0);
                sum.iter_mut()
                    .zip(update.values())
                    .for_each(|(sum, value)| *sum += f64::from(*value) / bound);
            });
        }
        let mean = MeanUpdate::from_sum(&sum, spec.clip_norm, updates.len() as u64)
            .map_err(|e| learn(&e))?;
        model = spec
            .server
            .step(&mut optimiser, &model, &mean)
            .map_err(|e| learn(&e))?;
        metrics = evaluate(&model, &dealt.test);
        total.add(&steps);
        on_round(&RoundReport {
            round,
            votes: None,
            reports: updates.len() as u64,
            rejected: 0,
            metrics: metrics.clone(),
            steps,
            wall_ms: ms(clock().saturating_sub(round_started)),
        });
    }
    Ok(Summary {
        summary: true,
        light: setup.light,
        silos: setup.silos,
        rounds: setup.rounds,
        dimension: spec.dimension(),
        metrics,
        reports: setup.rounds * setup.reports() as u64,
        rejected: 0,
        upload_bytes_per_report: 0,
        epsilon: None,
        steps: total,
        wall_s: clock().saturating_sub(started).as_secs_f64(),
        least_squares_r2: ols_r2(&dealt.train, &dealt.test),
    })
}
