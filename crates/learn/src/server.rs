//! The server's step on the mean update. Plain loops in a fixed order, `+ - * /` and square roots:
//! every machine that repeats it gets the same bits.

use serde::{Deserialize, Serialize};

use crate::{MeanUpdate, Model, ModelError, SpecError, UpdateError};

/// A server optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ServerOptimiser {
    /// `w + rate * mean` (McMahan et al., 2017; a rate of 1 is plain averaging).
    FedAvg {
        /// The rate.
        learning_rate: f32,
    },
    /// Adam on the mean update (Reddi et al., "Adaptive Federated Optimization", 2021, algorithm 2).
    FedAdam {
        /// The rate.
        learning_rate: f32,
        /// Decay of the first moment.
        beta1: f32,
        /// Decay of the second moment.
        beta2: f32,
        /// Adaptivity: added to the root of the second moment.
        tau: f32,
    },
}

/// What an optimiser remembers: moments `[d]`, empty until they are needed.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OptimiserState {
    first: Vec<f32>,
    second: Vec<f32>,
}

impl OptimiserState {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// For the store: both moments, little-endian.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.first
            .iter()
            .chain(&self.second)
            .flat_map(|v| v.to_le_bytes())
            .collect()
    }

    /// From the store.
    ///
    /// # Errors
    ///
    /// [`ModelError`] if the length is not that of two moments, or a number is not finite.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ModelError> {
        let (chunks, rest) = bytes.as_chunks::<4>();
        if !rest.is_empty() || chunks.len() % 2 != 0 {
            return Err(ModelError("the optimiser's state is damaged".into()));
        }
        let mut first: Vec<f32> = chunks.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if first.iter().any(|value| !value.is_finite()) {
            return Err(ModelError(
                "the optimiser's state has a number that is not finite".into(),
            ));
        }
        let second = first.split_off(first.len() / 2);
        Ok(Self { first, second })
    }
}

impl ServerOptimiser {
    pub(crate) fn validate(&self) -> Result<(), SpecError> {
        let good = match *self {
            Self::FedAvg { learning_rate } => learning_rate.is_finite() && learning_rate > 0.0,
            Self::FedAdam {
                learning_rate,
                beta1,
                beta2,
                tau,
            } => {
                learning_rate.is_finite()
                    && learning_rate > 0.0
                    && (0.0..1.0).contains(&beta1)
                    && (0.0..1.0).contains(&beta2)
                    && tau.is_finite()
                    && tau > 0.0
            }
        };
        good.then_some(()).ok_or_else(|| {
            SpecError(
                "the server's step needs a positive rate, betas from 0 up to 1 and a positive tau"
                    .into(),
            )
        })
    }

    /// The next model.
    ///
    /// # Errors
    ///
    /// [`UpdateError`] if the update or the state is another model's, or the result is not finite; the state
    /// is unchanged then.
    pub fn step(
        &self,
        state: &mut OptimiserState,
        model: &Model,
        mean: &MeanUpdate,
    ) -> Result<Model, UpdateError> {
        let old = model.params();
        if mean.values().len() != old.len() {
            return Err(UpdateError::OtherDimension {
                expected: old.len(),
                found: mean.values().len(),
            });
        }
        // Filled up or cut off, it would go on as the memory of another model.
        let found = state.first.len() + state.second.len();
        if found != 0 && (state.first.len(), state.second.len()) != (old.len(), old.len()) {
            return Err(UpdateError::DamagedState {
                expected: 2 * old.len(),
                found,
            });
        }
        let mut next = state.clone();
        let params: Vec<f32> = match *self {
            Self::FedAvg { learning_rate } => old
                .iter()
                .zip(mean.values())
                .map(|(w, u)| w + learning_rate * u)
                .collect(),
            Self::FedAdam {
                learning_rate,
                beta1,
                beta2,
                tau,
            } => {
                next.first.resize(old.len(), 0.0);
                next.second.resize(old.len(), 0.0);
                let moments = next.first.iter_mut().zip(&mut next.second);
                old.iter()
                    .zip(mean.values())
                    .zip(moments)
                    .map(|((w, u), (m, v))| {
                        *m = beta1 * *m + (1.0 - beta1) * u;
                        *v = beta2 * *v + (1.0 - beta2) * (u * u);
                        w + learning_rate * *m / (v.sqrt() + tau)
                    })
                    .collect()
            }
        };
        let moments = next.first.iter().chain(&next.second);
        match params
            .iter()
            .chain(moments)
            .position(|value| !value.is_finite())
        {
            Some(index) => Err(UpdateError::NotFinite {
                index: index % old.len().max(1),
            }),
            None => {
                *state = next;
                Ok(model.with_params(params))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClipNorm, ModelSpec};

    fn mean(values: &[f64]) -> MeanUpdate {
        MeanUpdate::from_sum(values, ClipNorm(1.0), 1).unwrap()
    }

    #[test]
    fn averaging_adds_the_mean() {
        let model = Model::init(&ModelSpec::Linear, 1, 1, 0);
        let step = ServerOptimiser::FedAvg { learning_rate: 0.5 };
        let next = step
            .step(&mut OptimiserState::new(), &model, &mean(&[2.0, -4.0]))
            .unwrap();
        assert_eq!(next.params(), [1.0, -2.0]);
        let other = step.step(&mut OptimiserState::new(), &model, &mean(&[2.0]));
        assert!(matches!(
            other,
            Err(UpdateError::OtherDimension {
                expected: 2,
                found: 1
            })
        ));
    }

    #[test]
    fn adam_follows_its_formula_and_its_state_survives_the_store() {
        let model = Model::init(&ModelSpec::Linear, 1, 1, 0);
        let adam = ServerOptimiser::FedAdam {
            learning_rate: 1.0,
            beta1: 0.5,
            beta2: 0.75,
            tau: 0.5,
        };
        let mut state = OptimiserState::new();
        let next = adam.step(&mut state, &model, &mean(&[2.0, 0.0])).unwrap();
        // m = 1, v = 1: 1 / (1 + 0.5)
        assert_eq!(next.params(), [1.0 / 1.5, 0.0]);
        let mut restored = OptimiserState::from_bytes(&state.to_bytes()).unwrap();
        assert_eq!(restored, state);
        let a = adam.step(&mut state, &next, &mean(&[1.0, 3.0])).unwrap();
        let b = adam.step(&mut restored, &next, &mean(&[1.0, 3.0])).unwrap();
        assert_eq!(a.to_safetensors(), b.to_safetensors());
        assert!(OptimiserState::from_bytes(&[0; 6]).is_err());
        assert!(OptimiserState::from_bytes(&[255; 8]).is_err());
    }

    #[test]
    fn a_state_of_another_size_is_damaged_and_stays_as_it_is() {
        let model = Model::init(&ModelSpec::Linear, 1, 1, 0);
        let adam = ServerOptimiser::FedAdam {
            learning_rate: 1.0,
            beta1: 0.5,
            beta2: 0.75,
            tau: 0.5,
        };
        for numbers in [2_usize, 6] {
            let bytes = vec![0; 4 * numbers];
            let mut state = OptimiserState::from_bytes(&bytes).unwrap();
            let refused = adam.step(&mut state, &model, &mean(&[1.0, 1.0]));
            assert_eq!(
                refused,
                Err(UpdateError::DamagedState {
                    expected: 4,
                    found: numbers
                })
            );
            assert_eq!(state.to_bytes(), bytes);
        }
    }
}
