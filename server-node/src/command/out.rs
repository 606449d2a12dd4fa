//! Printing.

use serde::Serialize;

/// One JSON object on a line.
pub fn json<T: Serialize>(value: &T) {
    if let Ok(text) = serde_json::to_string(value) {
        println!("{text}");
    }
}

/// A number with three decimals, or a dash.
pub fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.3}"))
}

/// A model's quality in a few words.
pub fn quality(metrics: Option<&crate::http::MetricsView>) -> String {
    match metrics {
        None => "not measured".to_owned(),
        Some(m) => match (m.accuracy, m.r2) {
            (Some(accuracy), _) => format!("accuracy {accuracy:.3}"),
            (None, Some(r2)) => format!("R2 {r2:.3}"),
            (None, None) => format!("loss {:.4}", m.loss),
        },
    }
}
