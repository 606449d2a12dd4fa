//! What a row looks like: names, ranges, and the constants that preprocessing uses.

use serde::{Deserialize, Serialize};

use crate::SpecError;

/// One input column of numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Its name in the header.
    pub name: String,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// What is subtracted; by default the middle of the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub center: Option<f64>,
    /// What is divided by; by default half the range.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<f64>,
}

/// What a label is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case", deny_unknown_fields)]
pub enum LabelKind {
    /// One of these.
    Class {
        /// Their texts.
        classes: Vec<String>,
    },
    /// A number.
    Number {
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
        /// What is subtracted; by default the middle of the range.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        center: Option<f64>,
        /// What is divided by; by default half the range.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scale: Option<f64>,
    },
}

/// The label column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// Its name in the header.
    pub name: String,
    /// What it is.
    pub kind: LabelKind,
}

/// The columns of a task.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Inputs, in the model's order.
    pub columns: Vec<Column>,
    /// What is learnt.
    pub label: Label,
}

fn check_range(
    name: &str,
    min: f64,
    max: f64,
    center: Option<f64>,
    scale: Option<f64>,
) -> Result<(), SpecError> {
    let finite = [Some(min), Some(max), center, scale]
        .iter()
        .flatten()
        .all(|v| v.is_finite());
    if !finite || min >= max || scale.is_some_and(|s| s <= 0.0) {
        return Err(SpecError(format!(
            "column \"{name}\" needs finite numbers with min below max and a positive scale"
        )));
    }
    // A range like -1.7e308 to 1.7e308 is itself infinite: divided by it, every value would become 0.
    let (middle, half) = unit(min, max, center, scale);
    let seen = [min, max].map(|end| ((end - middle) / half) as f32);
    let usable = middle.is_finite() && half.is_finite() && half > 0.0;
    if !usable || !seen.iter().all(|value| value.is_finite()) {
        return Err(SpecError(format!(
            "column \"{name}\" goes from {min} to {max}, which is no range that can be computed with; \
             choose limits nearer to the values, or another centre and scale"
        )));
    }
    Ok(())
}

impl Schema {
    /// Number of inputs of the model.
    pub fn inputs(&self) -> usize {
        self.columns.len()
    }

    /// Number of outputs of the model: classes, or 1.
    pub fn outputs(&self) -> usize {
        match &self.label.kind {
            LabelKind::Class { classes } => classes.len(),
            LabelKind::Number { .. } => 1,
        }
    }

    fn units(&self) -> Vec<(f64, f64)> {
        let unit = |c: &Column| unit(c.min, c.max, c.center, c.scale);
        self.columns.iter().map(unit).collect()
    }

    /// What a model sees of rows `[n][inputs]`: `(x - centre) / scale`.
    pub(crate) fn preprocess(&self, rows: &[f64]) -> Vec<f32> {
        let units = self.units();
        rows.iter()
            .zip(units.iter().cycle())
            .map(|(value, (center, scale))| ((value - center) / scale) as f32)
            .collect()
    }

    /// The largest absolute value that a model sees of a row in range.
    pub fn input_range(&self) -> f32 {
        let units = self.units();
        let ends = self.columns.iter().zip(&units);
        ends.flat_map(|(c, (center, scale))| [c.min, c.max].map(|end| (end - center) / scale))
            .fold(0.0, |most, value| most.max(value.abs() as f32))
    }

    /// Check names and ranges.
    ///
    /// # Errors
    ///
    /// [`SpecError`] naming the column.
    pub fn validate(&self) -> Result<(), SpecError> {
        if self.columns.is_empty() {
            return Err(SpecError("the schema has no input column".into()));
        }
        let mut names: Vec<_> = self.columns.iter().map(|c| c.name.as_str()).collect();
        names.push(&self.label.name);
        names.sort_unstable();
        if names.windows(2).any(|pair| pair.first() == pair.last())
            || names.iter().any(|n| n.is_empty())
        {
            return Err(SpecError("every column needs a name of its own".into()));
        }
        for Column {
            name,
            min,
            max,
            center,
            scale,
        } in &self.columns
        {
            check_range(name, *min, *max, *center, *scale)?;
        }
        match &self.label.kind {
            LabelKind::Class { classes } => {
                let mut distinct = classes.clone();
                distinct.sort_unstable();
                distinct.dedup();
                if classes.len() < 2 || distinct.len() != classes.len() {
                    return Err(SpecError(
                        "the label needs at least two different classes".into(),
                    ));
                }
                Ok(())
            }
            LabelKind::Number {
                min,
                max,
                center,
                scale,
            } => check_range(&self.label.name, *min, *max, *center, *scale),
        }
    }
}

/// Centre and scale of a range.
pub(crate) fn unit(min: f64, max: f64, center: Option<f64>, scale: Option<f64>) -> (f64, f64) {
    (
        center.unwrap_or((min + max) / 2.0),
        scale.unwrap_or((max - min) / 2.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validate(
        min: f64,
        max: f64,
        center: Option<f64>,
        scale: Option<f64>,
    ) -> Result<(), SpecError> {
        let column = |name: &str, range: (f64, f64)| Column {
            name: name.into(),
            min: range.0,
            max: range.1,
            center,
            scale,
        };
        let number = |min, max| LabelKind::Number {
            min,
            max,
            center,
            scale,
        };
        let schema = |range: (f64, f64), label: (f64, f64)| Schema {
            columns: vec![column("a", range)],
            label: Label {
                name: "y".into(),
                kind: number(label.0, label.1),
            },
        };
        let plain = (0.0, 1.0);
        let in_column = schema((min, max), plain).validate();
        let in_label = schema(plain, (min, max)).validate();
        assert_eq!(in_column.is_ok(), in_label.is_ok());
        in_column
    }

    #[test]
    fn the_input_range_is_the_furthest_end_of_any_column() {
        let column = |name: &str, center: Option<f64>| Column {
            name: name.into(),
            min: 0.0,
            max: 16.0,
            center,
            scale: None,
        };
        let mut schema = crate::builtin("digits", None).unwrap().spec.schema;
        assert_eq!(schema.input_range(), 1.0);
        schema.columns = vec![column("a", None), column("b", Some(4.0))];
        assert_eq!(schema.input_range(), 1.5);
        assert_eq!(
            schema.preprocess(&[16.0, 16.0, 0.0, 0.0]),
            [1.0, 1.5, -1.0, -0.5]
        );
    }

    #[test]
    fn a_range_that_cannot_be_computed_with_is_refused() {
        assert!(validate(0.0, 16.0, None, None).is_ok());
        assert!(validate(-1e30, 1e30, None, None).is_ok());
        let wide = validate(-1.7e308, 1.7e308, None, None).unwrap_err();
        assert!(wide.to_string().contains("\"a\""), "{wide}");
        assert!(validate(1e308, 1.7e308, None, None).is_err(), "its middle");
        assert!(
            validate(0.0, 5e-324, None, None).is_err(),
            "half of it is 0"
        );
        assert!(
            validate(0.0, 1e300, Some(0.0), Some(1.0)).is_err(),
            "as float32"
        );
    }
}
