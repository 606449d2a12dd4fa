//! Reading rows: every cell is checked, every error names its row and column, nothing is dropped.

use serde::{Deserialize, Serialize};

use crate::{Label, LabelKind, Samples, Schema};

/// Fewest rows of a contribution. The change of the model that one row makes is that row, scaled: whoever
/// learns such an update reads the row off it. Many rows blur into each other; see `docs/security.md`.
pub const MIN_CONTRIBUTION_ROWS: u64 = 10;

/// How much may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataLimits {
    /// Most bytes.
    pub max_bytes: u64,
    /// Fewest rows.
    pub min_rows: u64,
    /// Most rows.
    pub max_rows: u64,
}

impl DataLimits {
    /// For the rows of one contribution.
    pub fn contribution() -> Self {
        Self {
            min_rows: MIN_CONTRIBUTION_ROWS,
            ..Self::default()
        }
    }
}

impl Default for DataLimits {
    fn default() -> Self {
        Self {
            max_bytes: 64 * 1024 * 1024,
            min_rows: 1,
            max_rows: 1_000_000,
        }
    }
}

/// One thing wrong with the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataError {
    /// Row of data, counted from 1 below the header; empty lines are no rows.
    pub row: Option<u64>,
    /// Line of the file where that row begins, counted from 1, as an editor shows it.
    pub line: Option<u64>,
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
        let place: Vec<_> = [
            self.row.map(|row| format!("row {row}")),
            self.column
                .as_ref()
                .map(|name| format!("column \"{name}\"")),
            self.line.map(|line| format!("line {line} of the file")),
        ]
        .into_iter()
        .flatten()
        .collect();
        if !place.is_empty() {
            write!(f, "{}: ", place.join(", "))?;
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
                line: None,
                column: None,
                message,
            }],
            total: 1,
        }
    }

    fn push(&mut self, (row, line): (u64, u64), column: &str, message: String) {
        self.total += 1;
        if self.errors.len() < SHOWN {
            self.errors.push(DataError {
                row: Some(row),
                line: Some(line),
                column: Some(column.to_owned()).filter(|name| !name.is_empty()),
                message,
            });
        }
    }
}

/// Which line of the file a byte is on. The reader's own count stops at the end of the row before, so that
/// empty lines in between would give a line too early.
struct Lines<'a> {
    text: &'a [u8],
    at: usize,
    line: u64,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Self {
        Self {
            text: text.as_bytes(),
            at: 0,
            line: 1,
        }
    }

    /// The line of the first row that begins at `byte` or after it. Bytes are asked for in order.
    fn of_row(&mut self, byte: u64) -> u64 {
        let byte = usize::try_from(byte).unwrap_or(usize::MAX);
        while let Some(letter) = self.text.get(self.at) {
            let ends = match letter {
                b'\n' => true,
                // Alone it ends a line too, as old files have it.
                b'\r' => self.text.get(self.at + 1) != Some(&b'\n'),
                _ if self.at >= byte => break,
                _ => false,
            };
            self.line += u64::from(ends);
            self.at += 1;
        }
        self.line
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
        let (rows, labels) = self.read(bytes, limits, Some(&self.label))?;
        Ok(Samples::new(self.inputs(), rows, labels))
    }

    /// Read rows to ask a model about, preprocessed as it sees them: `[n][inputs]`. As [`Schema::read_csv`], but a label
    /// column need not be there, and is not looked at.
    ///
    /// # Errors
    ///
    /// As [`Schema::read_csv`].
    pub fn read_inputs(&self, bytes: &[u8], limits: &DataLimits) -> Result<Vec<f32>, DataErrors> {
        let (rows, _) = self.read(bytes, limits, None)?;
        Ok(self.preprocess(&rows))
    }

    /// The rows `[n][inputs]`, and the labels where they are wanted.
    fn read(
        &self,
        bytes: &[u8],
        limits: &DataLimits,
        label: Option<&Label>,
    ) -> Result<(Vec<f64>, Vec<f64>), DataErrors> {
        let names: Vec<_> = self
            .columns
            .iter()
            .map(|c| c.name.as_str())
            .chain(label.map(|label| label.name.as_str()))
            .collect();
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
        let missing: Vec<_> = names.iter().filter(|name| find(name).is_none()).collect();
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
        check_distinct(&names, &header)?;
        let inputs: Vec<usize> = self.columns.iter().filter_map(|c| find(&c.name)).collect();
        let label = label.map(|label| (label, find(&label.name).unwrap_or(0)));
        let mut errors = DataErrors {
            errors: Vec::new(),
            total: 0,
        };
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        let mut lines = Lines::new(text);
        let mut row = 0;
        for record in reader.records() {
            row += 1;
            let start = match &record {
                Ok(record) => record.position(),
                Err(error) => error.position(),
            };
            let place = (row, lines.of_row(start.map_or(0, csv::Position::byte)));
            if row > limits.max_rows {
                return Err(DataErrors::one(format!(
                    "the file has more than {} rows; leave some out",
                    limits.max_rows
                )));
            }
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    errors.push(place, "", format!("the row cannot be read: {error}"));
                    continue;
                }
            };
            if record.len() != header.len() {
                errors.push(
                    place,
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
                    Err(message) => errors.push(place, &column.name, message),
                }
            }
            let Some((label, at)) = label else {
                continue;
            };
            let cell = record.get(at).unwrap_or("");
            let value = match &label.kind {
                LabelKind::Class { classes } => parse_class(cell, classes),
                LabelKind::Number { min, max, .. } => parse_number(cell, *min, *max),
            };
            match value {
                Ok(value) => labels.push(value),
                Err(message) => errors.push(place, &label.name, message),
            }
        }
        if errors.total > 0 {
            return Err(errors);
        }
        if row == 0 {
            return Err(DataErrors::one("the file has a header but no rows".into()));
        }
        if row < limits.min_rows {
            return Err(DataErrors::one(format!(
                "there {} only {row} row{}; a contribution needs at least {}, because what a model learns from fewer can \
                 show them nearly as they are. Add rows",
                if row == 1 { "is" } else { "are" },
                if row == 1 { "" } else { "s" },
                limits.min_rows
            )));
        }
        Ok((rows, labels))
    }
}

/// Which of two columns of one name is meant, only the file's owner knows.
fn check_distinct(names: &[&str], header: &csv::StringRecord) -> Result<(), DataErrors> {
    for name in names {
        let times = header.iter().filter(|h| h == name).count();
        if times > 1 {
            let mut errors = DataErrors::one(format!(
                "the header has this column {times} times; leave the one that counts and rename or remove the rest"
            ));
            errors
                .errors
                .iter_mut()
                .for_each(|e| e.column = Some((*name).to_owned()));
            return Err(errors);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Column;

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
            "row 2, column \"b\", line 3 of the file: \"cat\" is not a number; a number from 0 to 16 is needed"
        );
        assert!(
            error("a,b,y\nNaN,2,0\n").contains(
                "row 1, column \"a\", line 2 of the file: \"NaN\" is not a finite number"
            )
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
            ..DataLimits::default()
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
    fn the_line_is_the_files_whatever_is_empty_before_it() {
        let line = |csv: &str| {
            let errors = schema().read_csv(csv.as_bytes(), &DataLimits::default());
            let first = errors.unwrap_err().errors.remove(0);
            (first.row.unwrap(), first.line.unwrap())
        };
        assert_eq!(line("a,b,y\n\n\nx,2,0\n"), (1, 4));
        assert_eq!(line("\n\na,b,y\n1,2,0\n\nx,2,0"), (2, 6));
        assert_eq!(line("a,b,y\r\n\r\n1,2,0\r\nx,2,0\r\n"), (2, 4));
        assert_eq!(line("a,b,y\r1,2,0\r\rx,2,0\r"), (2, 4));
        assert_eq!(line("a,b,y,n\n1,2,0,\"one\ntwo\"\nx,2,0,n\n"), (2, 4));
        assert_eq!(line("\u{feff}a,b,y\n\n1,2\n"), (1, 3));
    }

    #[test]
    fn a_column_that_is_there_twice_is_named() {
        let twice = error("a,b,y,b\n1,2,0,3\n");
        assert!(
            twice.starts_with("column \"b\": the header has this column 2 times"),
            "{twice}"
        );
        assert!(error("y,a,b,y\n0,1,2,0\n").starts_with("column \"y\": the header"));
        // What the task does not read may be there as often as it likes.
        let spare = b"note,a,b,y,note,,\n-,1,2,0,-,,\n";
        assert!(schema().read_csv(spare, &DataLimits::default()).is_ok());
    }

    #[test]
    fn rows_to_ask_about_need_no_label() {
        let inputs = |csv: &str| schema().read_inputs(csv.as_bytes(), &DataLimits::default());
        assert_eq!(
            inputs("b,extra,a\n3,x,4\n0,,16\n").unwrap(),
            [-0.5, -0.625, 1.0, -1.0]
        );
        assert_eq!(inputs("y,a,b,y\n?,4,3,\n").unwrap(), [-0.5, -0.625]);
        let errors = inputs("a,b\n1,2\n1,17\n").unwrap_err().to_string();
        assert!(
            errors.starts_with("row 2, column \"b\", line 3"),
            "{errors}"
        );
        assert!(
            inputs("a,y\n1,0\n")
                .unwrap_err()
                .to_string()
                .contains("\"b\"")
        );
        assert!(inputs("a,b\n").unwrap_err().to_string().contains("no rows"));
        assert!(inputs("a,b,a\n1,2,3\n").is_err());
    }

    #[test]
    fn a_contribution_needs_enough_rows() {
        let read = |rows: usize| {
            let csv = format!("a,b,y\n{}", "1,2,0\n".repeat(rows));
            schema().read_csv(csv.as_bytes(), &DataLimits::contribution())
        };
        let few = read(9).unwrap_err().to_string();
        assert!(
            few.starts_with("there are only 9 rows; a contribution needs at least 10"),
            "{few}"
        );
        assert!(
            read(1)
                .unwrap_err()
                .to_string()
                .starts_with("there is only 1 row;")
        );
        assert_eq!(read(10).unwrap().len(), 10);
        let bad = schema().read_csv(b"a,b,y\nx,2,0\n", &DataLimits::contribution());
        assert!(bad.unwrap_err().to_string().contains("not a number"));
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
