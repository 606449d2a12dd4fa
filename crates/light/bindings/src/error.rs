//! Errors as JavaScript gets them.

use defim_learn::DataError;
use defim_light::LightError;
use serde::Serialize;
use wasm_bindgen::JsValue;

/// What is thrown: a stable word, a sentence, and for data every bad cell.
#[derive(Debug, Serialize)]
pub struct Thrown {
    code: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    problems: Option<Vec<DataError>>,
}

impl Thrown {
    pub fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            problems: None,
        }
    }

    /// A step that was run twice or too early: the caller's mistake, not the person's.
    pub fn out_of_order(step: &str) -> Self {
        Self::new(
            "out-of-order",
            format!("the step \"{step}\" was called out of order; each step runs once"),
        )
    }
}

impl From<LightError> for Thrown {
    fn from(error: LightError) -> Self {
        let code = error.code();
        let message = error.to_string();
        let problems = match error {
            LightError::Data(errors) => Some(errors.errors),
            _ => None,
        };
        Self {
            code,
            message,
            problems,
        }
    }
}

impl From<Thrown> for JsValue {
    fn from(thrown: Thrown) -> Self {
        to_js(&thrown).unwrap_or_else(|_| Self::from_str(&thrown.message))
    }
}

/// Absent values become `null`, as in JSON.
pub fn to_js<T: Serialize>(value: &T) -> Result<JsValue, JsValue> {
    value
        .serialize(&serde_wasm_bindgen::Serializer::json_compatible())
        .map_err(JsValue::from)
}
