//! How good a model is on some rows.

use serde::{Deserialize, Serialize};

use crate::{Features, Model, Targets};

/// A model's quality.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    /// Mean cross-entropy, or mean squared error of the preprocessed label.
    pub loss: f64,
    /// Share of rows whose class is right.
    pub accuracy: Option<f64>,
    /// Coefficient of determination.
    pub r2: Option<f64>,
    /// Rows it was measured on.
    pub rows: u64,
}

impl Metrics {
    /// No rows to measure on.
    pub const fn unknown() -> Self {
        Self {
            loss: 0.0,
            accuracy: None,
            r2: None,
            rows: 0,
        }
    }
}

/// Measure a model.
pub fn evaluate(model: &Model, rows: &Features) -> Metrics {
    if rows.is_empty() {
        return Metrics::unknown();
    }
    let outputs = model.predict(rows.x());
    let n = rows.len();
    let width = (outputs.len() / n).max(1);
    match rows.targets() {
        Targets::Class(classes) => {
            let (mut loss, mut right) = (0.0, 0u64);
            for (logits, &class) in outputs.chunks_exact(width).zip(classes) {
                let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                let sum: f64 = logits.iter().map(|v| f64::from(v - top).exp()).sum();
                let own = logits
                    .get(class as usize)
                    .copied()
                    .unwrap_or(f32::NEG_INFINITY);
                loss += sum.ln() - f64::from(own - top);
                let best = logits.iter().position(|v| *v == top);
                right += u64::from(best == Some(class as usize));
            }
            Metrics {
                loss: loss / n as f64,
                accuracy: Some(right as f64 / n as f64),
                r2: None,
                rows: n as u64,
            }
        }
        Targets::Number(wanted) => {
            let mean = wanted.iter().map(|v| f64::from(*v)).sum::<f64>() / n as f64;
            let (mut residual, mut total) = (0.0, 0.0);
            for (out, wanted) in outputs.iter().zip(wanted) {
                residual += (f64::from(*out) - f64::from(*wanted)).powi(2);
                total += (f64::from(*wanted) - mean).powi(2);
            }
            let r2 = (total > 0.0).then(|| 1.0 - residual / total);
            Metrics {
                loss: residual / n as f64,
                accuracy: None,
                r2,
                rows: n as u64,
            }
        }
    }
}
