//! Everything about a learning task that is fixed before anybody contributes.

use serde::{Deserialize, Serialize};

use crate::{ClipNorm, LabelKind, LocalTraining, ModelSpec, Schema, ServerOptimiser, dimension};

/// A specification is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SpecError(pub(crate) String);

/// A learning task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearningSpec {
    /// Rows.
    pub schema: Schema,
    /// Model.
    pub model: ModelSpec,
    /// Training on a device.
    pub local: LocalTraining,
    /// L2 bound of an update.
    pub clip_norm: ClipNorm,
    /// Fractional bits of an encoded coordinate, in units of the bound.
    pub frac_bits: u32,
    /// The server's step.
    pub server: ServerOptimiser,
    /// Decides the first model.
    pub init_seed: u64,
}

impl LearningSpec {
    /// Check every value.
    ///
    /// # Errors
    ///
    /// [`SpecError`] saying which.
    pub fn validate(&self) -> Result<(), SpecError> {
        self.schema.validate()?;
        let classes = matches!(self.schema.label.kind, LabelKind::Class { .. });
        let fits = match self.model {
            ModelSpec::Softmax => classes,
            ModelSpec::Linear => !classes,
            ModelSpec::Mlp { hidden } => hidden > 0 && hidden <= 65_536,
        };
        if !fits {
            return Err(SpecError(
                "the model does not fit the label: softmax needs classes, linear a number".into(),
            ));
        }
        let LocalTraining {
            epochs,
            batch_size,
            learning_rate,
        } = self.local;
        if epochs == 0
            || epochs > 1000
            || batch_size == 0
            || !learning_rate.is_finite()
            || learning_rate <= 0.0
        {
            return Err(SpecError(
                "local training needs 1 to 1000 epochs, a batch and a positive learning rate"
                    .into(),
            ));
        }
        if !self.clip_norm.0.is_finite() || self.clip_norm.0 <= 0.0 {
            return Err(SpecError("the norm bound must be positive".into()));
        }
        if !(4..=30).contains(&self.frac_bits) {
            return Err(SpecError("a coordinate has 4 to 30 fractional bits".into()));
        }
        self.server.validate()
    }

    /// Parameters of the model.
    pub fn dimension(&self) -> usize {
        dimension(&self.model, self.schema.inputs(), self.schema.outputs())
    }
}
