//! A linear model in integers, and how its inputs and scores become integers and back.
//!
//! The only floats of the crate are here: divisions, products, square roots and roundings in a fixed order, which
//! IEEE 754 defines to the last bit, so that a model is quantised the same way everywhere.

use std::fmt;

use crate::ScoreError;
use crate::params::{MAX_SCORE, MAX_WEIGHT_NORM, Shape};

/// Steps of the feature range on either side of zero.
const FEATURE_STEPS: f64 = 127.0;

/// Steps of the weights on either side of zero.
const WEIGHT_STEPS: f64 = 127.0;

/// The largest absolute value of a quantised feature, whoever made it.
const MAX_FEATURE: i64 = 128;

/// What is public of a quantised model besides its shape, in the units of the model before quantising.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scale {
    /// One step of a feature.
    pub feature: f32,
    /// One step of a score. It is the weights' largest absolute value or more, divided by 127, times
    /// [`Scale::feature`], and so says something of that one value.
    pub score: f32,
}

impl Scale {
    /// Features as they are encrypted, `[d]`: divided by the step, rounded half to even, and limited to -127 to 127.
    ///
    /// # Errors
    ///
    /// [`ScoreError::NotFinite`].
    pub fn quantise(&self, features: &[f32]) -> Result<Vec<i8>, ScoreError> {
        let step = f64::from(self.feature);
        let one = |feature: &f32| match feature.is_finite() && step > 0.0 {
            true => Ok(steps(f64::from(*feature) / step, FEATURE_STEPS) as i8),
            false => Err(ScoreError::NotFinite("a feature")),
        };
        features.iter().map(one).collect()
    }

    /// A score in the model's units: a logit, or for regression the prediction.
    pub fn value(&self, score: i64) -> f32 {
        (score as f64 * f64::from(self.score)) as f32
    }
}

/// A number of steps, rounded half to even and limited.
fn steps(value: f64, most: f64) -> f64 {
    value.round_ties_even().clamp(-most, most)
}

/// A linear model in integers: `score_c = bias_c + sum_i weight_c,i * feature_i`. The server's secret; prints as
/// "redacted".
#[derive(Clone, PartialEq)]
pub struct QuantisedModel {
    shape: Shape,
    /// `[classes][features]`.
    weights: Vec<i8>,
    /// `[classes]`, in steps of a score.
    biases: Vec<i64>,
    scale: Scale,
}

impl QuantisedModel {
    /// Quantises a linear model.
    ///
    /// - `weights: [classes][features]`, row by row; `biases: [classes]`. A binary model with one output has one class,
    ///   and its sigmoid is over one half when the score is over zero.
    /// - `range`: the largest absolute value of a feature, in the units the weights were trained in. Larger ones are
    ///   limited to it.
    ///
    /// The step of a feature is `range / 127`. The step of a weight is the least at which no weight is over 127, no score
    /// over [`MAX_SCORE`] and no polynomial over [`MAX_WEIGHT_NORM`]. For up to 64 features by 10 classes the first decides,
    /// unless a bias is many times what the features can do.
    ///
    /// # Errors
    ///
    /// [`ScoreError::Length`] for other lengths than the shape's, [`ScoreError::NotFinite`] for numbers that are not
    /// finite and a range that is not positive or too small for a `f32`'s precision.
    pub fn from_linear(
        shape: Shape,
        weights: &[f32],
        biases: &[f32],
        range: f32,
    ) -> Result<Self, ScoreError> {
        let features = shape.features();
        length("weights", shape.classes() * features, weights.len())?;
        length("biases", shape.classes(), biases.len())?;
        let feature_step = (f64::from(range) / FEATURE_STEPS) as f32;
        if !feature_step.is_normal() || feature_step < 0.0 {
            return Err(ScoreError::NotFinite("the feature range"));
        }
        if !weights.iter().chain(biases).all(|value| value.is_finite()) {
            return Err(ScoreError::NotFinite("a weight or a bias"));
        }
        let wide = |values: &[f32]| {
            values
                .iter()
                .map(|v| f64::from(v.abs()))
                .collect::<Vec<_>>()
        };
        let (sizes, bias_sizes) = (wide(weights), wide(biases));
        let largest = sizes.iter().copied().fold(0.0, f64::max);
        // Rounding adds at most half a step for each weight, and for the bias.
        let score_room = (MAX_SCORE - 1) as f64 - MAX_FEATURE as f64 * features as f64 / 2.0;
        let reach = sizes.chunks_exact(features).zip(&bias_sizes);
        let reach = reach
            .map(|(row, bias)| {
                row.iter().sum::<f64>() * MAX_FEATURE as f64 + bias / f64::from(feature_step)
            })
            .fold(0.0, f64::max);
        let polynomial = features * shape.rows();
        let norm_room = MAX_WEIGHT_NORM as f64 - (polynomial as f64).sqrt() / 2.0;
        let norm = sizes
            .chunks(polynomial)
            .map(|weights| weights.iter().map(|w| w * w).sum::<f64>().sqrt())
            .fold(0.0, f64::max);
        let step = (largest / WEIGHT_STEPS)
            .max(reach / score_room)
            // A little over, for what the sums above lost.
            .max(norm / norm_room * (1.0 + 1e-9));
        let step = if step > 0.0 { step } else { 1.0 };
        let score_step = step * f64::from(feature_step);
        let scale = Scale {
            feature: feature_step,
            score: score_step as f32,
        };
        if !scale.score.is_normal() {
            return Err(ScoreError::NotFinite("the step of a score"));
        }
        let weights = weights
            .iter()
            .map(|w| steps(f64::from(*w) / step, WEIGHT_STEPS) as i8)
            .collect();
        let biases = biases
            .iter()
            .map(|b| steps(f64::from(*b) / score_step, MAX_SCORE as f64) as i64)
            .collect();
        Self::new(shape, weights, biases, scale)
    }

    /// A model that is in integers already: `weights: [classes][features]`, `biases: [classes]` in steps of a score.
    ///
    /// # Errors
    ///
    /// [`ScoreError::Length`] for other lengths than the shape's, [`ScoreError::ScoreRange`] and
    /// [`ScoreError::WeightNorm`] for weights with which a score could be inexact.
    pub fn new(
        shape: Shape,
        weights: Vec<i8>,
        biases: Vec<i64>,
        scale: Scale,
    ) -> Result<Self, ScoreError> {
        let features = shape.features();
        length("weights", shape.classes() * features, weights.len())?;
        length("biases", shape.classes(), biases.len())?;
        for (class, (row, bias)) in weights.chunks_exact(features).zip(&biases).enumerate() {
            let sum: i64 = row.iter().map(|w| i64::from(*w).abs()).sum();
            let largest = bias.saturating_abs().saturating_add(MAX_FEATURE * sum);
            if largest > MAX_SCORE {
                return Err(ScoreError::ScoreRange { class, largest });
            }
        }
        for polynomial in weights.chunks(features * shape.rows()) {
            let squares: u64 = polynomial
                .iter()
                .map(|w| i64::from(*w).unsigned_abs().pow(2))
                .sum();
            if squares > MAX_WEIGHT_NORM.pow(2) {
                return Err(ScoreError::WeightNorm);
            }
        }
        Ok(Self {
            shape,
            weights,
            biases,
            scale,
        })
    }

    /// Features and classes.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// What clients need besides the shape.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// The scores `[classes]` of `features: [d]`, without encryption: what an encrypted answer opens to.
    ///
    /// # Errors
    ///
    /// [`ScoreError::Length`].
    pub fn plain_scores(&self, features: &[i8]) -> Result<Vec<i64>, ScoreError> {
        length("features", self.shape.features(), features.len())?;
        let rows = self.weights.chunks_exact(self.shape.features());
        let score = |(row, bias): (&[i8], &i64)| {
            let products = row.iter().zip(features);
            let sum: i64 = products.map(|(w, x)| i64::from(*w) * i64::from(*x)).sum();
            bias + sum
        };
        Ok(rows.zip(&self.biases).map(score).collect())
    }

    /// The weights of each polynomial as factors: class after class, each row reversed, so that the product with
    /// the features has each class's score at [`Shape::place`].
    pub(crate) fn polynomials(&self) -> impl Iterator<Item = (Vec<u64>, &[i64])> {
        let features = self.shape.features();
        let rows = self.shape.rows();
        let factors = move |weights: &[i8]| {
            let rows = weights.chunks_exact(features);
            rows.flat_map(|row| row.iter().rev().map(|w| i64::from(*w).cast_unsigned()))
                .collect()
        };
        self.weights
            .chunks(features * rows)
            .map(factors)
            .zip(self.biases.chunks(rows))
    }
}

impl fmt::Debug for QuantisedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (features, classes) = (self.shape.features(), self.shape.classes());
        write!(
            f,
            "QuantisedModel({features} features, {classes} classes, redacted)"
        )
    }
}

/// Refuses another length.
pub(crate) fn length(what: &'static str, expected: usize, found: usize) -> Result<(), ScoreError> {
    match expected == found {
        true => Ok(()),
        false => Err(ScoreError::Length {
            what,
            expected,
            found,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(features: usize, classes: usize) -> Shape {
        Shape::new(features, classes).unwrap()
    }

    #[test]
    fn a_model_is_quantised_by_its_largest_weight() {
        let model = QuantisedModel::from_linear(
            shape(2, 2),
            &[1.27, -0.5, 0.004, 0.006],
            &[0.1, -2.0],
            2.54,
        )
        .unwrap();
        assert_eq!(model.weights, [127, -50, 0, 1]);
        assert!((model.scale.feature - 0.02).abs() < 1e-8);
        assert!((model.scale.score - 0.0002).abs() < 1e-9);
        assert_eq!(model.biases, [500, -10_000]);
        let features = model.scale.quantise(&[0.045, -9.0]).unwrap();
        assert_eq!(features, [2, -127]);
        let scores = model.plain_scores(&features).unwrap();
        assert_eq!(scores, [254 + 50 * 127 + 500, -127 - 10_000]);
        assert!((model.scale.value(scores[1]) - -2.0254).abs() < 1e-4);
        assert!(!format!("{model:?}").contains("127"));
    }

    #[test]
    fn large_models_and_large_biases_get_a_larger_step() {
        for (features, classes, bias) in [
            (64, 10, 0.0),
            (64, 10, 1e9),
            (2048, 3, 1.0),
            (128, 16, 1.0),
            (1, 1, 1e30),
            (700, 256, -5.0),
        ] {
            let shape = shape(features, classes);
            let weights = vec![-0.3; features * classes];
            let biases = vec![bias; classes];
            let model = QuantisedModel::from_linear(shape, &weights, &biases, 1.0).unwrap();
            let extreme = model.plain_scores(&vec![-128; features]).unwrap();
            assert!(extreme.iter().all(|score| score.abs() <= MAX_SCORE));
        }
        let zero = QuantisedModel::from_linear(shape(3, 1), &[0.0; 3], &[0.0], 1.0).unwrap();
        assert_eq!(zero.plain_scores(&[1, 2, 3]).unwrap(), [0]);
    }

    #[test]
    fn what_cannot_be_quantised_is_refused() {
        let shape = shape(2, 1);
        let linear = |w: &[f32], b: &[f32], range| QuantisedModel::from_linear(shape, w, b, range);
        assert!(matches!(
            linear(&[1.0], &[0.0], 1.0),
            Err(ScoreError::Length { .. })
        ));
        assert!(matches!(
            linear(&[1.0; 2], &[], 1.0),
            Err(ScoreError::Length { .. })
        ));
        for (weight, bias, range) in [
            (f32::NAN, 0.0, 1.0),
            (1.0, f32::INFINITY, 1.0),
            (1.0, 0.0, 0.0),
            (1.0, 0.0, -1.0),
            (1.0, 0.0, f32::NAN),
            (1e38, 0.0, 1e38),
        ] {
            let refused = linear(&[weight; 2], &[bias], range);
            assert!(
                matches!(refused, Err(ScoreError::NotFinite(_))),
                "{refused:?}"
            );
        }
        let scale = Scale {
            feature: 1.0,
            score: 1.0,
        };
        assert!(scale.quantise(&[f32::NAN]).is_err());
        let refused = QuantisedModel::new(shape, vec![0; 2], vec![MAX_SCORE + 1], scale);
        assert!(matches!(
            refused,
            Err(ScoreError::ScoreRange { class: 0, .. })
        ));
        let large = Shape::new(128, 16).unwrap();
        let refused = QuantisedModel::new(large, vec![-127; 2048], vec![0; 16], scale);
        assert_eq!(
            refused.unwrap_err(),
            ScoreError::ScoreRange {
                class: 0,
                largest: 128 * 127 * 128
            }
        );
        let refused = QuantisedModel::new(
            Shape::new(64, 16).unwrap(),
            vec![127; 1024],
            vec![0; 16],
            scale,
        );
        assert_eq!(refused.unwrap_err(), ScoreError::WeightNorm);
    }
}
