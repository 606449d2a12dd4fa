//! Rows that passed the schema, and what the model sees of them.

use rand::seq::SliceRandom as _;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng as _};

use crate::{LabelKind, Schema, schema::unit};

/// Rows that passed the schema: `rows: [n][inputs]`, one label each. Only a schema makes them.
#[derive(Clone)]
pub struct Samples {
    inputs: usize,
    rows: Vec<f64>,
    labels: Vec<f64>,
}

impl std::fmt::Debug for Samples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Samples({} rows, redacted)", self.len())
    }
}

impl Samples {
    pub(crate) fn new(inputs: usize, rows: Vec<f64>, labels: Vec<f64>) -> Self {
        Self {
            inputs,
            rows,
            labels,
        }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    fn pick(&self, order: &[usize]) -> Self {
        let mut rows = Vec::with_capacity(order.len() * self.inputs);
        let mut labels = Vec::with_capacity(order.len());
        for &at in order {
            rows.extend(self.rows.iter().skip(at * self.inputs).take(self.inputs));
            labels.extend(self.labels.get(at));
        }
        Self {
            inputs: self.inputs,
            rows,
            labels,
        }
    }

    fn shuffled(&self, seed: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        order
    }

    /// Hold out one row in `one_in`, chosen by seed: `(rest, held out)`.
    pub fn split_holdout(&self, one_in: usize, seed: u64) -> (Self, Self) {
        let order = self.shuffled(seed);
        let (out, rest) = order.split_at(self.len() / one_in.max(1));
        (self.pick(rest), self.pick(out))
    }

    /// Deal the rows to `n` parties by seed, as evenly as possible.
    pub fn partition(&self, n: usize, seed: u64) -> Vec<Self> {
        self.deal(&vec![1; n], seed)
    }

    /// Deal the rows by seed to parties that get so many at a time, in turn.
    pub fn deal(&self, at_a_time: &[usize], seed: u64) -> Vec<Self> {
        let turn: usize = at_a_time.iter().sum();
        let order = self.shuffled(seed ^ 0x5EED);
        let mut dealt = vec![Vec::new(); at_a_time.len()];
        for rows in order.chunks(turn.max(1)) {
            let mut rows = rows.iter().copied();
            for (party, most) in dealt.iter_mut().zip(at_a_time) {
                party.extend(rows.by_ref().take(*most));
            }
        }
        dealt.iter().map(|rows| self.pick(rows)).collect()
    }

    /// Up to `n` rows chosen by seed.
    pub fn take_random(&self, n: usize, seed: u64) -> Self {
        self.pick(&self.shuffled(seed).into_iter().take(n).collect::<Vec<_>>())
    }

    /// The rows as CSV, with a header; reading it back by the same schema gives the same rows.
    pub fn to_csv(&self, schema: &Schema) -> String {
        let names: Vec<_> = schema
            .columns
            .iter()
            .map(|c| c.name.as_str())
            .chain([schema.label.name.as_str()])
            .collect();
        let mut text = names.join(",") + "\n";
        for (row, label) in self.rows.chunks_exact(self.inputs.max(1)).zip(&self.labels) {
            for value in row {
                text += &format!("{value},");
            }
            let class = match &schema.label.kind {
                LabelKind::Class { classes } => classes.get(*label as usize).cloned(),
                LabelKind::Number { .. } => None,
            };
            text += &class.unwrap_or_else(|| label.to_string());
            text.push('\n');
        }
        text
    }

    /// What the model sees: `(x - centre) / scale` with the schema's constants.
    pub fn features(&self, schema: &Schema) -> Features {
        let x = schema.preprocess(&self.rows);
        let targets = match &schema.label.kind {
            LabelKind::Class { .. } => {
                Targets::Class(self.labels.iter().map(|label| *label as u32).collect())
            }
            LabelKind::Number {
                min,
                max,
                center,
                scale,
            } => {
                let (center, scale) = unit(*min, *max, *center, *scale);
                Targets::Number(
                    self.labels
                        .iter()
                        .map(|label| ((label - center) / scale) as f32)
                        .collect(),
                )
            }
        };
        Features {
            inputs: self.inputs,
            x,
            targets,
        }
    }
}

/// What is to be predicted.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Class indices.
    Class(Vec<u32>),
    /// Numbers, preprocessed.
    Number(Vec<f32>),
}

/// Preprocessed rows: `x: [n][inputs]`.
#[derive(Clone)]
pub struct Features {
    inputs: usize,
    x: Vec<f32>,
    targets: Targets,
}

impl std::fmt::Debug for Features {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Features({} rows, redacted)", self.len())
    }
}

impl Features {
    /// Inputs of a row.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// All inputs, row by row.
    pub fn x(&self) -> &[f32] {
        &self.x
    }

    /// All targets.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        match &self.targets {
            Targets::Class(targets) => targets.len(),
            Targets::Number(targets) => targets.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same rows with labels turned around, of `classes` classes or numbers: what somebody of bad will trains on.
    #[must_use]
    pub fn turned_around(&self, classes: usize) -> Self {
        let last = u32::try_from(classes.saturating_sub(1)).unwrap_or(u32::MAX);
        let targets = match &self.targets {
            Targets::Class(all) => {
                Targets::Class(all.iter().map(|c| last.saturating_sub(*c)).collect())
            }
            Targets::Number(all) => Targets::Number(all.iter().map(|y| -y).collect()),
        };
        Self {
            targets,
            ..self.clone()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_dealt_whole_and_by_share() {
        let rows: Vec<f64> = (0..103).map(f64::from).collect();
        let samples = Samples::new(1, rows.clone(), rows.clone());
        let dealt = samples.deal(&[5, 5, 1, 1], 3);
        let sizes: Vec<_> = dealt.iter().map(Samples::len).collect();
        // Eight turns of twelve, and seven rows more.
        assert_eq!(sizes, [45, 42, 8, 8]);
        let mut all: Vec<_> = dealt.iter().flat_map(|party| party.rows.clone()).collect();
        all.sort_unstable_by(f64::total_cmp);
        assert_eq!(all, rows);
        let sizes: Vec<_> = samples.partition(4, 3).iter().map(Samples::len).collect();
        assert_eq!(sizes, [26, 26, 26, 25]);
        assert!(samples.deal(&[], 3).is_empty());
    }
}
