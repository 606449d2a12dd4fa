//! What a model's outputs say, in the label's own terms.

use serde::{Deserialize, Serialize};

use crate::{LabelKind, Schema, schema::unit};

/// A model's answer about one row.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Prediction {
    /// One of the label's classes.
    Class {
        /// The most probable one; of equal ones the first.
        class: String,
        /// Softmax of the outputs, in the order of the label's classes.
        probabilities: Vec<f32>,
    },
    /// A number, in the label's unit.
    Number {
        /// It; limited to no range.
        value: f64,
    },
}

impl std::fmt::Debug for Prediction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Prediction(redacted)")
    }
}

impl Prediction {
    /// How probable the model takes its class to be, from 0 to 1; of a number it does not say.
    pub fn probability(&self) -> Option<f32> {
        match self {
            Self::Class { probabilities, .. } => probabilities.iter().copied().reduce(f32::max),
            Self::Number { .. } => None,
        }
    }
}

impl std::fmt::Display for Prediction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Class { class, .. } => f.write_str(class),
            // Four digits that count, as people write them.
            Self::Number { value } => {
                let before = value.abs().max(1.0).log10() as usize;
                write!(
                    f,
                    "{value:.digits$}",
                    digits = 3usize.saturating_sub(before)
                )
            }
        }
    }
}

impl Schema {
    /// What a model's outputs for one row, `[outputs]`, say; none for another number of outputs or if one is not finite.
    pub fn prediction(&self, outputs: &[f32]) -> Option<Prediction> {
        if outputs.len() != self.outputs() || !outputs.iter().all(|value| value.is_finite()) {
            return None;
        }
        match &self.label.kind {
            LabelKind::Class { classes } => {
                let top = outputs.iter().copied().reduce(f32::max)?;
                let at = outputs.iter().position(|value| *value == top)?;
                let powers: Vec<f64> = outputs.iter().map(|v| f64::from(v - top).exp()).collect();
                let sum: f64 = powers.iter().sum();
                Some(Prediction::Class {
                    class: classes.get(at)?.clone(),
                    probabilities: powers.iter().map(|power| (power / sum) as f32).collect(),
                })
            }
            LabelKind::Number {
                min,
                max,
                center,
                scale,
            } => {
                let (center, scale) = unit(*min, *max, *center, *scale);
                let output = outputs.first().copied().map(f64::from)?;
                Some(Prediction::Number {
                    value: output * scale + center,
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::builtin;

    #[test]
    fn outputs_become_a_class_and_its_probability() {
        let schema = builtin("breast-cancer", None).unwrap().spec.schema;
        let LabelKind::Class { classes } = &schema.label.kind else {
            panic!("classes");
        };
        let prediction = schema.prediction(&[1.0, 1.0 + 3f32.ln()]).unwrap();
        assert_eq!(prediction.to_string(), classes[1]);
        assert!((prediction.probability().unwrap() - 0.75).abs() < 1e-6);
        // Of equal ones the first; large outputs do not overflow.
        let equal = schema.prediction(&[3e38, 3e38]).unwrap();
        assert_eq!(equal.to_string(), classes[0]);
        assert_eq!(equal.probability(), Some(0.5));
        assert!(schema.prediction(&[1.0]).is_none());
        assert!(schema.prediction(&[1.0, f32::NAN]).is_none());
        assert!(!format!("{prediction:?}").contains(&classes[1]));
    }

    #[test]
    fn an_output_becomes_a_number_of_the_labels_unit() {
        let schema = builtin("diabetes", None).unwrap().spec.schema;
        let LabelKind::Number {
            min,
            max,
            center,
            scale,
            ..
        } = schema.label.kind
        else {
            panic!("a number");
        };
        let (center, scale) = unit(min, max, center, scale);
        let Some(Prediction::Number { value }) = schema.prediction(&[0.5]) else {
            panic!("a number");
        };
        assert!((value - (center + scale / 2.0)).abs() < 1e-9);
        let shown = |value: f64| Prediction::Number { value }.to_string();
        assert_eq!(shown(152.1234), "152.1");
        assert_eq!(shown(0.12345), "0.123");
        assert_eq!(shown(-123_456.7), "-123457");
    }
}
