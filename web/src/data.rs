//! The rows a person has picked, before anything is done with them.

use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;

use crate::drawing::Labelled;
use crate::format::{count, grouped};
use crate::light::{Checked, Failure};
use crate::rows::{LEAST_ROWS, PREVIEW_BYTES, Preview};

/// Where the rows are.
#[derive(Debug, Clone)]
pub enum Rows {
    Text(String),
    /// Read by the worker, not by the page.
    File(web_sys::File),
}

impl Rows {
    /// As the light node takes them.
    pub fn to_js(&self) -> JsValue {
        match self {
            Self::Text(text) => text.into(),
            Self::File(file) => file.into(),
        }
    }
}

/// Where they came from.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Sample { of: usize },
    File { name: String },
    Drawn(Vec<Labelled>),
}

/// What the light node said of them.
#[derive(Debug, Clone, PartialEq)]
pub enum Check {
    Running,
    Done(Checked),
    Failed(Failure),
}

/// Picked rows.
#[derive(Debug, Clone)]
pub struct Chosen {
    pub source: Source,
    pub rows: Rows,
    pub preview: Preview,
    /// Rows, where the page knows without reading them all.
    pub known: Option<u64>,
    pub check: Check,
}

impl Chosen {
    /// How many rows there are, in words.
    pub fn told(&self) -> String {
        let rows = match (&self.check, self.known) {
            (Check::Done(checked), _) if checked.errors.is_empty() => Some(checked.rows),
            (_, known) => known,
        };
        match (&self.source, rows) {
            (Source::Sample { of }, Some(rows)) => {
                format!(
                    "{}, a random slice of {} samples",
                    count(rows, "row"),
                    grouped(*of as u64)
                )
            }
            (Source::File { name }, Some(rows)) => format!("{} from {name}", count(rows, "row")),
            (Source::File { name }, None) => name.clone(),
            (Source::Drawn(_), Some(rows)) => format!("{} drawn here", count(rows, "row")),
            (_, None) => String::new(),
        }
    }

    /// How many drawings are missing until they can be contributed.
    pub fn to_draw(&self) -> Option<u64> {
        let Source::Drawn(drawn) = &self.source else {
            return None;
        };
        LEAST_ROWS
            .checked_sub(drawn.len() as u64)
            .filter(|missing| *missing > 0)
    }

    /// Why these rows cannot be contributed as they are.
    pub fn blocked(&self) -> Option<String> {
        match self.to_draw() {
            Some(missing) => Some(format!("Draw {missing} more first.")),
            None => self.unreadable(),
        }
    }

    /// Why these rows cannot be read as they are. Too few drawings can.
    pub fn unreadable(&self) -> Option<String> {
        if self.to_draw().is_some() {
            return None;
        }
        match &self.check {
            Check::Running => Some("The rows are being checked on this device.".into()),
            Check::Failed(failure) => Some(failure.message.clone()),
            Check::Done(checked) if checked.errors.is_empty() => None,
            Check::Done(_) => Some(
                "The rows do not fit this task yet: mend what is listed, or pick other rows."
                    .into(),
            ),
        }
    }
}

/// The start of a file, and whether nothing follows.
pub async fn start_of(file: &web_sys::File) -> (String, bool) {
    let whole = file.size() <= PREVIEW_BYTES;
    let start = match file.slice_with_f64_and_f64(0.0, PREVIEW_BYTES) {
        Ok(start) => JsFuture::from(start.text())
            .await
            .ok()
            .and_then(|text| text.as_string()),
        Err(_) => None,
    };
    (start.unwrap_or_default(), whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::light::Problem;

    #[test]
    fn a_few_drawings_are_not_enough() {
        let drawn = |drawings: usize| Chosen {
            source: Source::Drawn(
                (0..drawings)
                    .map(|_| Labelled {
                        pixels: [0; 64],
                        class: "1".into(),
                    })
                    .collect(),
            ),
            rows: Rows::Text(String::new()),
            preview: Preview::default(),
            known: Some(drawings as u64),
            check: Check::Done(Checked {
                rows: drawings as u64,
                errors: vec![],
            }),
        };
        assert_eq!(drawn(1).blocked().as_deref(), Some("Draw 9 more first."));
        assert_eq!(drawn(10).blocked(), None);
    }

    #[test]
    fn rows_with_problems_cannot_be_contributed_and_stay_chosen() {
        let mut chosen = Chosen {
            source: Source::File {
                name: "rows.csv".into(),
            },
            rows: Rows::Text(String::new()),
            preview: Preview::default(),
            known: None,
            check: Check::Running,
        };
        assert!(chosen.blocked().is_some());
        assert_eq!(chosen.told(), "rows.csv");
        let problem = Problem {
            row: Some(1),
            line: None,
            column: None,
            message: "is empty".into(),
        };
        chosen.check = Check::Done(Checked {
            rows: 0,
            errors: vec![problem],
        });
        assert!(chosen.blocked().unwrap().starts_with("The rows do not fit"));
        assert_eq!(chosen.told(), "rows.csv");
        chosen.check = Check::Done(Checked {
            rows: 1204,
            errors: vec![],
        });
        assert_eq!(chosen.blocked(), None);
        assert_eq!(chosen.told(), "1,204 rows from rows.csv");
    }
}
