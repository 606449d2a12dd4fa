//! Light nodes of bad will, whose reports break no rule: what they do to the model is bounded, not forbidden.

use std::str::FromStr;

use defim_learn::{Features, FixedUpdate, LearningSpec, quantise_vector};

use crate::SimError;

/// What an attacker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttackKind {
    /// Trains on rows whose labels are turned around: class `c` of `k` becomes `k - 1 - c`, a number its negative.
    LabelFlip,
    /// Trains honestly and sends the opposite, as long as the norm bound allows.
    ScaledUpdate,
}

/// An attack by a share of the light nodes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attack {
    /// What they do.
    pub kind: AttackKind,
    /// Their share of the light nodes, from 0 to 1.
    pub share: f64,
}

impl FromStr for AttackKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "label-flip" => Ok(Self::LabelFlip),
            "scaled-update" => Ok(Self::ScaledUpdate),
            other => Err(format!(
                "there is no attack \"{other}\"; there are label-flip and scaled-update"
            )),
        }
    }
}

impl Attack {
    /// How many of so many light nodes attack.
    ///
    /// # Errors
    ///
    /// [`SimError::Setup`] if the share is no share.
    pub fn attackers(&self, light: usize) -> Result<usize, SimError> {
        match (0.0..=1.0).contains(&self.share) {
            true => Ok((self.share * light as f64).round() as usize),
            false => Err(SimError::Setup(format!(
                "{} of the light nodes cannot attack: a share is from 0 to 1",
                self.share
            ))),
        }
    }

    /// The rows an attacker trains on.
    pub fn rows(&self, rows: &Features, spec: &LearningSpec) -> Features {
        match self.kind {
            AttackKind::LabelFlip => rows.turned_around(spec.schema.outputs()),
            AttackKind::ScaledUpdate => rows.clone(),
        }
    }

    /// What an attacker sends in place of its honest update.
    ///
    /// # Errors
    ///
    /// [`SimError::Learn`] if it cannot be encoded.
    pub fn update(
        &self,
        honest: FixedUpdate,
        spec: &LearningSpec,
    ) -> Result<FixedUpdate, SimError> {
        if self.kind != AttackKind::ScaledUpdate {
            return Ok(honest);
        }
        let values = honest.values().iter().map(|v| f64::from(*v));
        let norm = values.clone().map(|v| v * v).sum::<f64>().sqrt();
        if norm == 0.0 {
            return Ok(honest);
        }
        // A little below the bound, which rounding must not pass.
        let scale = -0.999 * f64::from(spec.clip_norm.0) / norm;
        let opposite: Vec<f32> = values.map(|v| (v * scale) as f32).collect();
        quantise_vector(&opposite, spec.clip_norm, spec.frac_bits)
            .map_err(|e| SimError::Learn(e.to_string()))
    }
}
