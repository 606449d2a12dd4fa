//! Training on a device: local stochastic gradient descent with automatic differentiation.

use burn::{
    backend::{Autodiff, NdArray, ndarray::NdArrayDevice},
    tensor::{Int, Tensor, TensorData, activation},
};
use rand::seq::SliceRandom as _;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng as _};
use serde::{Deserialize, Serialize};

use crate::{Features, LocalUpdate, Model, Targets};

type Diff = Autodiff<NdArray<f32>>;
type Matrix = Tensor<Diff, 2>;

/// How a device trains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalTraining {
    /// Passes over the rows.
    pub epochs: u32,
    /// Rows of a step.
    pub batch_size: usize,
    /// Step size.
    pub learning_rate: f32,
}

/// How far training is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Epochs done.
    pub epoch: u32,
    /// Epochs in all.
    pub epochs: u32,
    /// Mean loss of the last epoch.
    pub loss: f32,
}

/// Training failed; nothing left the device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrainError {
    /// No rows.
    #[error("there are no rows to train on; pick at least one")]
    NoRows,
    /// Rows of another task.
    #[error("the rows have {found} inputs, the model takes {expected}; load the task again")]
    OtherShape {
        /// The model's.
        expected: usize,
        /// The rows'.
        found: usize,
    },
    /// A number is not finite any more.
    #[error(
        "training gave numbers that are not finite; nothing was sent. Check the rows for extreme values"
    )]
    NotFinite,
}

fn forward(layers: &[(Matrix, Matrix)], x: Matrix) -> Matrix {
    let last = layers.len();
    layers
        .iter()
        .enumerate()
        .fold(x, |x, (at, (weights, biases))| {
            let out = x.matmul(weights.clone()) + biases.clone();
            if at + 1 < last {
                activation::relu(out)
            } else {
                out
            }
        })
}

/// Train a copy of the model on these rows; gives new parameters minus old, `[d]`.
///
/// The same model, rows, settings and seed give the same update on one kind of machine.
///
/// # Errors
///
/// [`TrainError`] for no rows, rows of another shape, or numbers that are not finite.
pub fn train(
    model: &Model,
    rows: &Features,
    local: &LocalTraining,
    seed: u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<LocalUpdate, TrainError> {
    let n = rows.len();
    if n == 0 {
        return Err(TrainError::NoRows);
    }
    let expected = model.layers().first().map_or(0, |(inputs, _)| *inputs);
    if rows.inputs() != expected {
        return Err(TrainError::OtherShape {
            expected,
            found: rows.inputs(),
        });
    }
    let device = NdArrayDevice::default();
    let matrix = |values: &[f32], shape: [usize; 2]| {
        Matrix::from_data(TensorData::new(values.to_vec(), shape), &device)
    };
    let mut layers: Vec<(Matrix, Matrix)> = model
        .split()
        .into_iter()
        .map(|((i, o), weights, biases)| {
            (
                matrix(weights, [i, o]).require_grad(),
                matrix(biases, [1, o]).require_grad(),
            )
        })
        .collect();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut order: Vec<usize> = (0..n).collect();
    for epoch in 1..=local.epochs {
        order.shuffle(&mut rng);
        let mut total = 0.0;
        for batch in order.chunks(local.batch_size.max(1)) {
            let inputs = rows.inputs();
            let x: Vec<f32> = batch
                .iter()
                .flat_map(|&at| rows.x().iter().skip(at * inputs).take(inputs))
                .copied()
                .collect();
            let out = forward(&layers, matrix(&x, [batch.len(), inputs]));
            let loss = match rows.targets() {
                Targets::Class(classes) => {
                    let picked: Vec<i64> = batch
                        .iter()
                        .filter_map(|&at| classes.get(at))
                        .map(|&c| i64::from(c))
                        .collect();
                    let index = Tensor::<Diff, 2, Int>::from_data(
                        TensorData::new(picked, [batch.len(), 1]),
                        &device,
                    );
                    activation::log_softmax(out, 1)
                        .gather(1, index)
                        .mean()
                        .neg()
                }
                Targets::Number(numbers) => {
                    let wanted: Vec<f32> = batch
                        .iter()
                        .filter_map(|&at| numbers.get(at))
                        .copied()
                        .collect();
                    let error = out - matrix(&wanted, [batch.len(), 1]);
                    (error.clone() * error).mean()
                }
            };
            total += loss.clone().into_scalar() * batch.len() as f32;
            let gradients = loss.backward();
            let step = |parameter: Matrix| match parameter.grad(&gradients) {
                Some(gradient) => {
                    Matrix::from_inner(parameter.inner() - gradient.mul_scalar(local.learning_rate))
                        .require_grad()
                }
                None => parameter,
            };
            layers = layers
                .into_iter()
                .map(|(w, b)| (step(w), step(b)))
                .collect();
        }
        progress(Progress {
            epoch,
            epochs: local.epochs,
            loss: total / n as f32,
        });
    }
    let mut trained = Vec::with_capacity(model.params().len());
    for (weights, biases) in layers {
        for part in [weights, biases] {
            trained.extend(
                part.into_data()
                    .to_vec::<f32>()
                    .map_err(|_| TrainError::NotFinite)?,
            );
        }
    }
    let values: Vec<f32> = trained
        .iter()
        .zip(model.params())
        .map(|(new, old)| new - old)
        .collect();
    if values.iter().any(|value| !value.is_finite()) {
        return Err(TrainError::NotFinite);
    }
    Ok(LocalUpdate::new(values))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DataLimits, builtin, evaluate};

    fn rows() -> (crate::LearningSpec, Features) {
        let spec = builtin("diabetes", None).unwrap().spec;
        let header: Vec<_> = spec
            .schema
            .columns
            .iter()
            .map(|c| c.name.as_str())
            .chain([spec.schema.label.name.as_str()])
            .collect();
        let csv = format!(
            "{}\n59,2,32.1,101.0,157,93.2,38.0,4.0,4.8598,87,151.0\n48,1,21.6,87.0,183,103.2,70.0,3.0,3.8918,69,75.0\n",
            header.join(",")
        );
        let features = spec
            .schema
            .read_csv(csv.as_bytes(), &DataLimits::default())
            .unwrap()
            .features(&spec.schema);
        (spec, features)
    }

    #[test]
    fn training_lowers_the_loss_and_repeats_itself_for_a_seed() {
        let (spec, rows) = rows();
        let model = Model::init(&spec.model, 10, 1, 0);
        let local = LocalTraining {
            epochs: 5,
            batch_size: 1,
            learning_rate: 0.02,
        };
        let mut losses = Vec::new();
        let update = train(&model, &rows, &local, 3, &mut |p| losses.push(p.loss)).unwrap();
        assert_eq!(losses.len(), 5);
        let trained = model.with_params(
            model
                .params()
                .iter()
                .zip(update.values())
                .map(|(a, b)| a + b)
                .collect(),
        );
        assert!(evaluate(&trained, &rows).loss < evaluate(&model, &rows).loss);
        let again = train(&model, &rows, &local, 3, &mut |_| {}).unwrap();
        assert_eq!(update.values(), again.values());
    }

    #[test]
    fn a_step_that_explodes_is_an_error_not_an_update() {
        let (spec, rows) = rows();
        let model = Model::init(&spec.model, 10, 1, 0);
        let local = LocalTraining {
            epochs: 200,
            batch_size: 1,
            learning_rate: 1e30,
        };
        assert_eq!(
            train(&model, &rows, &local, 3, &mut |_| {}).unwrap_err(),
            TrainError::NotFinite
        );
    }
}
