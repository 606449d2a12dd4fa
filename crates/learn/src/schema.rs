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
