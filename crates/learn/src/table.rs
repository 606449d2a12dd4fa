//! Reading rows: every cell is checked, every error names its row and column, nothing is dropped.

use serde::{Deserialize, Serialize};

use crate::{LabelKind, Samples, Schema};

/// How much may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataLimits {
    /// Most bytes.
    pub max_bytes: u64,
    /// Most rows.
    pub max_rows: u64,
}

impl Default for DataLimits {
    fn default() -> Self {
        Self {
            max_bytes: 64 * 1024 * 1024,
            max_rows: 1_000_000,
        }
    }
}

/// One thing wrong with the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataError {
    /// Row of data, counted from 1 below the header.
    pub row: Option<u64>,
    /// Column.
    pub column: Option<String>,
    /// What is wrong and what is expected.
    pub message: String,
}

/// Everything wrong with the data; nothing of it was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataErrors {
    /// The first ones.
    pub errors: Vec<DataError>,
    /// How many there are.
    pub total: u64,
}

const SHOWN: usize = 20;

impl std::fmt::Display for DataError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(row) = self.row {
            write!(f, "row {row}, ")?;
        }
        if let Some(column) = &self.column {
            write!(f, "column \"{column}\": ")?;
        }
        f.write_str(&self.message)
    }
}

impl std::fmt::Display for DataErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines: Vec<_> = self.errors.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))?;
        let more = self.total.saturating_sub(self.errors.len() as u64);
        if more > 0 {
            write!(f, "\nand {more} more")?;
        }
        Ok(())
    }
}

impl std::error::Error for DataErrors {}

impl DataErrors {
    fn one(message: String) -> Self {
        Self {
            errors: vec![DataError {
                row: None,
                column: None,
                message,
            }],
            total: 1,
        }
    }

    fn push(&mut self, row: u64, column: &str, message: String) {
        self.total += 1;
        if self.errors.len() < SHOWN {
            self.errors.push(DataError {
                row: Some(row),
                column: Some(column.to_owned()),
                message,
            });
        }
    }
}

fn shown(text: &str) -> String {
    if text.chars().count() > 40 {
        format!("{}...", text.chars().take(40).collect::<String>())
    } else {
        text.to_owned()
    }
}

fn parse_number(text: &str, min: f64, max: f64) -> Result<f64, String> {
    if text.is_empty() {
        return Err(format!("is empty; a number from {min} to {max} is needed"));
    }
    let value: f64 = text.parse().map_err(|_| {
        format!(
            "\"{}\" is not a number; a number from {min} to {max} is needed",
            shown(text)
        )
    })?;
    if !value.is_finite() {
        return Err(format!(
            "\"{}\" is not a finite number; a number from {min} to {max} is needed",
            shown(text)
        ));
    }
    if value < min || value > max {
        return Err(format!(
            "{value} is out of range; a number from {min} to {max} is needed"
        ));
    }
    Ok(value)
}

fn parse_class(text: &str, classes: &[String]) -> Result<f64, String> {
    let same = |class: &String| {
        class == text
            || matches!((class.parse::<f64>(), text.parse::<f64>()), (Ok(a), Ok(b)) if a == b)
    };
    match classes.iter().position(same) {
        Some(index) => Ok(index as f64),
        None => Err(format!(
            "\"{}\" is not one of the classes {}",
            shown(text),
            classes.join(", ")
        )),
    }
}

impl Schema {
    /// Read CSV with a header line. Columns are found by name; others are ignored.
    ///
    /// # Errors
    ///
    /// [`DataErrors`] with the first twenty errors by row and column and how many there are.
    pub fn read_csv(&self, bytes: &[u8], limits: &DataLimits) -> Result<Samples, DataErrors> {
        if bytes.len() as u64 > limits.max_bytes {
            return Err(DataErrors::one(format!(
                "the file has {} bytes; at most {} are read. Split it or leave rows out",
                bytes.len(),
                limits.max_bytes
            )));
        }
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map_err(|e| {
            DataErrors::one(format!(
                "the file is not UTF-8 text (byte {}); save it as CSV in UTF-8",
                e.valid_up_to()
            ))
        })?;
        if text.trim().is_empty() {
            return Err(DataErrors::one(
                "the file is empty; a header line and at least one row are needed".into(),
            ));
        }
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .trim(csv::Trim::All)
            .from_reader(text.as_bytes());
        let header = reader
            .headers()
            .map_err(|e| DataErrors::one(format!("the header cannot be read: {e}")))?
            .clone();
        let find = |name: &str| header.iter().position(|h| h == name);
        let missing: Vec<_> = self
            .columns
            .iter()
            .map(|c| c.name.as_str())
            .chain([self.label.name.as_str()])
            .filter(|name| find(name).is_none())
            .collect();
        if !missing.is_empty() {
            let some: Vec<_> = missing
                .iter()
                .take(10)
                .map(|name| format!("\"{name}\""))
                .collect();
            let rest = missing.len().saturating_sub(10);
            let more = if rest > 0 {
                format!(" and {rest} more")
            } else {
                String::new()
            };
            return Err(DataErrors::one(format!(
                "the header is missing the columns {}{more}",
                some.join(", ")
            )));
        }
        let inputs: Vec<usize> = self.columns.iter().filter_map(|c| find(&c.name)).collect();
        let label_at = find(&self.label.name).unwrap_or(0);
        let mut errors = DataErrors {
            errors: Vec::new(),
            total: 0,
        };
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        let mut row = 0;
        for record in reader.records() {
            row += 1;
            if row > limits.max_rows {
                return Err(DataErrors::one(format!(
                    "the file has more than {} rows; leave some out",
                    limits.max_rows
                )));
            }
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    errors.push(row, "", format!("the row cannot be read: {error}"));
                    continue;
                }
            };
            if record.len() != header.len() {
                errors.push(
                    row,
                    &self.label.name,
                    format!(
                        "the row has {} fields, the header {}",
                        record.len(),
                        header.len()
                    ),
                );
                continue;
            }
            for (column, &at) in self.columns.iter().zip(&inputs) {
                match parse_number(record.get(at).unwrap_or(""), column.min, column.max) {
                    Ok(value) => rows.push(value),
                    Err(message) => errors.push(row, &column.name, message),
                }
            }
            let cell = record.get(label_at).unwrap_or("");
            let label = match &self.label.kind {
                LabelKind::Class { classes } => parse_class(cell, classes),
                LabelKind::Number { min, max, .. } => parse_number(cell, *min, *max),
            };
            match label {
                Ok(value) => labels.push(value),
                Err(message) => errors.push(row, &self.label.name, message),
            }
        }
        if errors.total > 0 {
            return Err(errors);
        }
        if labels.is_empty() {
            return Err(DataErrors::one("the file has a header but no rows".into()));
        }
        Ok(Samples::new(self.inputs(), rows, labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Column, Label};

    fn schema() -> Schema {
        let column = |name: &str| Column {
            name: name.into(),
            min: 0.0,
            max: 16.0,
            center: None,
            scale: None,
        };
        Schema {
            columns: vec![column("a"), column("b")],
            label: Label {
                name: "y".into(),
                kind: LabelKind::Class {
                    classes: vec!["0".into(), "1".into()],
                },
            },
        }
    }

    fn error(csv: &str) -> String {
        schema()
            .read_csv(csv.as_bytes(), &DataLimits::default())
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn good_rows_are_read_whatever_the_column_order_and_line_ends() {
        let samples = schema()
            .read_csv(
                "\u{feff}extra,y,b,a\r\nx,1.0,3,4\r\n,0,0,16\r\n".as_bytes(),
                &DataLimits::default(),
            )
            .unwrap();
        assert_eq!(samples.len(), 2);
        let features = samples.features(&schema());
        assert_eq!(features.x(), [-0.5, -0.625, 1.0, -1.0]);
        assert_eq!(features.targets(), &crate::Targets::Class(vec![1, 0]));
    }

    #[test]
    fn every_error_says_where_and_what() {
        assert!(error("").contains("empty"));
        assert!(error(" \n").contains("empty"));
        assert!(error("a,b,y\n").contains("no rows"));
        assert!(error("a,y\n1,0\n").contains("missing the columns \"b\""));
        assert_eq!(
            error("a,b,y\n1,2,0\n1,cat,0\n"),
            "row 2, column \"b\": \"cat\" is not a number; a number from 0 to 16 is needed"
        );
        assert!(
            error("a,b,y\nNaN,2,0\n")
                .contains("row 1, column \"a\": \"NaN\" is not a finite number")
        );
        assert!(error("a,b,y\ninf,2,0\n").contains("not a finite"));
        assert!(error("a,b,y\n1,17,0\n").contains("17 is out of range; a number from 0 to 16"));
        assert!(error("a,b,y\n1,,0\n").contains("is empty"));
        assert!(error("a,b,y\n1,2,7\n").contains("\"7\" is not one of the classes 0, 1"));
        assert!(error("a,b,y\n1,2\n").contains("has 2 fields, the header 3"));
        let latin1 = schema()
            .read_csv(b"a,b,y\n1,\xE9,0\n", &DataLimits::default())
            .unwrap_err();
        assert!(latin1.to_string().contains("UTF-8"));
        let small = DataLimits {
            max_bytes: 3,
            max_rows: 9,
        };
        assert!(
            schema()
                .read_csv(b"a,b,y\n", &small)
                .unwrap_err()
                .to_string()
                .contains("at most 3")
        );
        let few = DataLimits {
            max_rows: 1,
            ..DataLimits::default()
        };
        assert!(
            schema()
                .read_csv(b"a,b,y\n1,2,0\n1,2,0\n", &few)
                .unwrap_err()
                .to_string()
                .contains("more than 1 rows")
        );
    }

    #[test]
    fn many_errors_are_counted_and_the_first_shown() {
        let rows = "x,2,0\n".repeat(100);
        let errors = schema()
            .read_csv(format!("a,b,y\n{rows}").as_bytes(), &DataLimits::default())
            .unwrap_err();
        assert_eq!((errors.errors.len(), errors.total), (20, 100));
        assert!(errors.to_string().ends_with("and 80 more"));
    }
}
