//! Federated averaging in the clear, with clipping and quantising, to tune a task's settings:
//! `federate TASK [MODEL] LIGHT ROUNDS SEED [EPOCHS BATCH RATE CLIP]`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::expect_used)]

use defim_learn::*;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize| args.get(at).and_then(|a| a.parse::<f64>().ok());
    let task = builtin(
        &args[0],
        Some(&args[1]).map(String::as_str).filter(|m| *m != "-"),
    )
    .expect("a built-in task");
    let (light, rounds, seed) = (
        number(2).unwrap() as usize,
        number(3).unwrap() as u64,
        number(4).unwrap() as u64,
    );
    let mut spec = task.spec;
    if let (Some(e), Some(b), Some(r), Some(c)) = (number(5), number(6), number(7), number(8)) {
        spec.local = LocalTraining {
            epochs: e as u32,
            batch_size: b as usize,
            learning_rate: r as f32,
        };
        spec.clip_norm = ClipNorm(c as f32);
    }
    let samples = spec
        .schema
        .read_csv(builtin_csv(task.name).unwrap(), &DataLimits::default())
        .unwrap();
    let (train_rows, test_rows) = samples.split_holdout(5, seed);
    let test = test_rows.features(&spec.schema);
    let parties: Vec<_> = train_rows
        .partition(light, seed)
        .iter()
        .map(|p| p.features(&spec.schema))
        .collect();
    for quantised in [true, false] {
        let mut model = Model::init(
            &spec.model,
            spec.schema.inputs(),
            spec.schema.outputs(),
            spec.init_seed,
        );
        let mut state = OptimiserState::new();
        for round in 1..=rounds {
            let (mut sum, mut clipped_count, mut norms) = (vec![0.0f64; spec.dimension()], 0, 0.0);
            for (at, party) in parties.iter().enumerate() {
                let update = train(
                    &model,
                    party,
                    &spec.local,
                    seed ^ round << 20 ^ at as u64,
                    &mut |_| {},
                )
                .unwrap();
                norms += update.norm();
                let clipped = update.clip(spec.clip_norm).unwrap();
                clipped_count += usize::from(clipped.was_clipped());
                if quantised {
                    let fixed = clipped.quantise(spec.frac_bits).unwrap();
                    sum.iter_mut()
                        .zip(fixed.values())
                        .for_each(|(s, v)| *s += f64::from(*v) / 32768.0);
                } else {
                    let bound = f64::from(spec.clip_norm.0);
                    sum.iter_mut()
                        .zip(clipped.values())
                        .for_each(|(s, v)| *s += f64::from(*v) / bound);
                }
            }
            let mean = MeanUpdate::from_sum(&sum, spec.clip_norm, light as u64).unwrap();
            model = spec.server.step(&mut state, &model, &mean).unwrap();
            if round == 1 || round == rounds {
                let metrics = evaluate(&model, &test);
                println!(
                    "quantised {quantised} round {round} {metrics:?} mean norm {} clipped {clipped_count}",
                    norms / light as f32
                );
            }
        }
    }
    if let Some(r2) = ols_r2(&train_rows.features(&spec.schema), &test) {
        println!("least squares R2 {r2}");
    }
}
