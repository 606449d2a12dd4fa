//! Errors as JavaScript sees them.

use defim_light::LightError;
use serde::Serialize;
use wasm_bindgen::JsValue;

/// An error: what kind, and what happened.
#[derive(Debug, Serialize)]
pub struct Failure {
    code: String,
    message: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    problems: Vec<Problem>,
}

/// What is wrong with a row.
#[derive(Debug, Serialize)]
pub struct Problem {
    row: Option<u64>,
    column: Option<String>,
    message: String,
}

impl Failure {
    /// An error of this kind.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), problems: Vec::new() }
    }

    /// A step was called before the one it builds on.
    pub fn out_of_order(needs: &str) -> Self {
        Self::new("out-of-order", format!("this step needs {needs} first"))
    }
}

/// What is wrong with rows, one by one.
pub fn problems(errors: &defim_learn::DataErrors) -> Vec<Problem> {
    errors
        .errors
        .iter()
        .map(|error| Problem { row: error.row, column: error.column.clone(), message: error.message.clone() })
        .collect()
}

impl From<LightError> for Failure {
    fn from(error: LightError) -> Self {
        let problems = match &error {
            LightError::Data(errors) => problems(errors),
            _ => Vec::new(),
        };
        Self { code: error.code().to_owned(), message: error.to_string(), problems }
    }
}

impl From<Failure> for JsValue {
    fn from(failure: Failure) -> Self {
        to_js(&failure)
    }
}

/// Plain objects, as `JSON.parse` would make them.
pub fn to_js<T: Serialize>(value: &T) -> JsValue {
    value.serialize(&serde_wasm_bindgen::Serializer::json_compatible()).unwrap_or(JsValue::NULL)
}
