//! Models: flat parameters, and safetensors bytes that are the same wherever they are made.

use std::collections::HashMap;

use rand::Rng as _;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng as _};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::LearningSpec;

/// A kind of model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ModelSpec {
    /// Softmax regression.
    Softmax,
    /// One hidden layer with ReLU.
    Mlp {
        /// Its width.
        hidden: usize,
    },
    /// Linear regression.
    Linear,
}

/// A model's bytes are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the model cannot be used: {0}; download it again")]
pub struct ModelError(pub(crate) String);

/// A layer's inputs and outputs.
pub(crate) type Shape = (usize, usize);

pub(crate) fn layers(spec: &ModelSpec, inputs: usize, outputs: usize) -> Vec<Shape> {
    match spec {
        ModelSpec::Softmax | ModelSpec::Linear => vec![(inputs, outputs)],
        ModelSpec::Mlp { hidden } => vec![(inputs, *hidden), (*hidden, outputs)],
    }
}

/// Number of parameters.
pub fn dimension(spec: &ModelSpec, inputs: usize, outputs: usize) -> usize {
    layers(spec, inputs, outputs)
        .iter()
        .map(|(i, o)| i * o + o)
        .sum()
}

/// SHA-256 of a model's bytes.
pub fn model_digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// A model. Parameters `[d]`: for each layer its weights `[inputs][outputs]`, then its biases.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    layers: Vec<Shape>,
    params: Vec<f32>,
}

impl Model {
    /// The first model of a task: zeros, or for hidden layers uniform by seed (Glorot and Bengio, 2010).
    pub fn init(spec: &ModelSpec, inputs: usize, outputs: usize, seed: u64) -> Self {
        let layers = layers(spec, inputs, outputs);
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let random = layers.len() > 1;
        let mut params = Vec::with_capacity(dimension(spec, inputs, outputs));
        for (i, o) in &layers {
            let limit = (6.0 / (i + o) as f32).sqrt();
            params.extend((0..i * o).map(|_| {
                if random {
                    rng.random_range(-limit..limit)
                } else {
                    0.0
                }
            }));
            params.extend(std::iter::repeat_n(0.0, *o));
        }
        Self { layers, params }
    }

    pub(crate) fn with_params(&self, params: Vec<f32>) -> Self {
        Self {
            layers: self.layers.clone(),
            params,
        }
    }

    pub(crate) fn layers(&self) -> &[Shape] {
        &self.layers
    }

    /// Parameters, `[d]`.
    pub fn params(&self) -> &[f32] {
        &self.params
    }

    /// Each layer's weights and biases.
    pub(crate) fn split(&self) -> Vec<(Shape, &[f32], &[f32])> {
        let mut rest = self.params.as_slice();
        self.layers
            .iter()
            .map(|&(i, o)| {
                let (weights, tail) = rest.split_at(i * o);
                let (biases, tail) = tail.split_at(o);
                rest = tail;
                ((i, o), weights, biases)
            })
            .collect()
    }

    /// A model without a hidden layer: weights `[outputs][inputs]` and biases `[outputs]`.
    pub fn linear(&self) -> Option<(Vec<f32>, Vec<f32>)> {
        match self.split().as_slice() {
            [((_, outputs), weights, biases)] => {
                let rows = (0..*outputs).flat_map(|at| weights.iter().skip(at).step_by(*outputs));
                Some((rows.copied().collect(), biases.to_vec()))
            }
            _ => None,
        }
    }

    /// Outputs `[n][outputs]` for inputs `x: [n][inputs]`, before any softmax.
    pub fn predict(&self, x: &[f32]) -> Vec<f32> {
        let split = self.split();
        let last = split.len();
        let mut current = x.to_vec();
        for (at, ((inputs, outputs), weights, biases)) in split.into_iter().enumerate() {
            let mut next = Vec::with_capacity(current.len() / inputs.max(1) * outputs);
            for row in current.chunks_exact(inputs) {
                let start = next.len();
                next.extend_from_slice(biases);
                for (value, weights) in row.iter().zip(weights.chunks_exact(outputs)) {
                    for (out, weight) in next.iter_mut().skip(start).zip(weights) {
                        *out += value * weight;
                    }
                }
                if at + 1 < last {
                    next.iter_mut()
                        .skip(start)
                        .for_each(|value| *value = value.max(0.0));
                }
            }
            current = next;
        }
        current
    }

    /// The model as safetensors: `layer1.weight`, `layer1.bias`, and so on. Equal models give equal bytes.
    pub fn to_safetensors(&self) -> Vec<u8> {
        let mut tensors = Vec::new();
        for (at, ((i, o), weights, biases)) in self.split().into_iter().enumerate() {
            let bytes = |values: &[f32]| {
                values
                    .iter()
                    .flat_map(|v| v.to_le_bytes())
                    .collect::<Vec<u8>>()
            };
            tensors.push((format!("layer{}.bias", at + 1), vec![o], bytes(biases)));
            tensors.push((
                format!("layer{}.weight", at + 1),
                vec![i, o],
                bytes(weights),
            ));
        }
        let views = tensors.iter().filter_map(|(name, shape, bytes)| {
            TensorView::new(Dtype::F32, shape.clone(), bytes)
                .ok()
                .map(|view| (name.as_str(), view))
        });
        // Shapes and lengths agree by construction, which is all that can fail here.
        safetensors::serialize(views, None::<HashMap<String, String>>).unwrap_or_default()
    }

    /// Read a model of this task.
    ///
    /// # Errors
    ///
    /// [`ModelError`] for other tensors, shapes or types than the task's, and for values that are
    /// not finite.
    pub fn from_safetensors(bytes: &[u8], spec: &LearningSpec) -> Result<Self, ModelError> {
        let tensors = SafeTensors::deserialize(bytes)
            .map_err(|e| ModelError(format!("it is not safetensors ({e})")))?;
        let layers = layers(&spec.model, spec.schema.inputs(), spec.schema.outputs());
        if tensors.len() != 2 * layers.len() {
            return Err(ModelError(format!(
                "it has {} tensors, the task's has {}",
                tensors.len(),
                2 * layers.len()
            )));
        }
        let mut params = Vec::with_capacity(spec.dimension());
        for (at, &(i, o)) in layers.iter().enumerate() {
            for (part, shape) in [("weight", vec![i, o]), ("bias", vec![o])] {
                let name = format!("layer{}.{part}", at + 1);
                let tensor = tensors
                    .tensor(&name)
                    .map_err(|_| ModelError(format!("tensor {name} is missing")))?;
                if tensor.dtype() != Dtype::F32 || tensor.shape() != shape {
                    return Err(ModelError(format!(
                        "tensor {name} is not float32 of shape {shape:?}"
                    )));
                }
                let values = tensor
                    .data()
                    .as_chunks::<4>()
                    .0
                    .iter()
                    .map(|bytes| f32::from_le_bytes(*bytes));
                params.extend(values);
            }
        }
        if params.iter().any(|value| !value.is_finite()) {
            return Err(ModelError("a parameter is not finite".into()));
        }
        Ok(Self { layers, params })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    #[test]
    fn only_a_model_without_a_hidden_layer_is_linear() {
        let zero = Model::init(&ModelSpec::Softmax, 3, 2, 0);
        let model = zero.with_params(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let (weights, biases) = model.linear().unwrap();
        assert_eq!(weights, [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
        assert_eq!(biases, [7.0, 8.0]);
        let x = [0.5, -1.0, 2.0];
        let by_hand: Vec<f32> = weights
            .chunks_exact(3)
            .zip(&biases)
            .map(|(row, bias)| row.iter().zip(x).fold(*bias, |sum, (w, x)| sum + w * x))
            .collect();
        assert_eq!(model.predict(&x), by_hand);
        assert!(
            Model::init(&ModelSpec::Mlp { hidden: 4 }, 3, 2, 0)
                .linear()
                .is_none()
        );
    }

    #[test]
    fn bytes_round_trip_and_other_models_are_refused() {
        let mlp = builtin("digits", Some("mlp")).unwrap().spec;
        let softmax = builtin("digits", None).unwrap().spec;
        let model = Model::init(&mlp.model, 64, 10, 7);
        let bytes = model.to_safetensors();
        assert_eq!(bytes, model.clone().to_safetensors());
        assert_eq!(Model::from_safetensors(&bytes, &mlp).unwrap(), model);
        assert!(
            Model::from_safetensors(&bytes, &softmax)
                .unwrap_err()
                .to_string()
                .contains("4 tensors")
        );
        assert!(Model::from_safetensors(&bytes[..bytes.len() - 1], &mlp).is_err());
        let mut broken = model.params().to_vec();
        broken[3] = f32::NAN;
        let bytes = model.with_params(broken).to_safetensors();
        assert!(
            Model::from_safetensors(&bytes, &mlp)
                .unwrap_err()
                .to_string()
                .contains("not finite")
        );
    }

    #[test]
    fn predictions_are_the_layers_applied() {
        let model = Model {
            layers: vec![(2, 1), (1, 2)],
            params: vec![1.0, -1.0, 0.5, 2.0, 3.0, 0.0, 1.0],
        };
        // hidden = relu(x0 - x1 + 0.5), outputs = (2h, 3h + 1)
        assert_eq!(model.predict(&[1.0, 0.5, 0.0, 9.0]), [2.0, 4.0, 0.0, 1.0]);
    }
}
