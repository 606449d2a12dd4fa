//! What this browser remembers of each task's contribution when a page is loaded again, and what its tabs
//! know of each other. The report itself is with the light node.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wasm_bindgen::JsValue;

use crate::light::Delivered;

const PREFIX: &str = "defim.task.";
const ENROLS: &str = "defim.enrols.";

/// What is left of a contribution that is not over. Without a delivery, the light node may hold its report.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// The report that waits for its round.
    pub delivered: Option<Delivered>,
    /// A person has stopped it; it is sent only when they say so.
    pub stopped: bool,
}

/// The name of a task's entry, and of its lock.
pub fn key(task: &str) -> String {
    format!("{PREFIX}{task}")
}

// A browser may refuse storage; then a refresh forgets, and everything else works.
fn storage() -> Option<web_sys::Storage> {
    leptos::prelude::window().local_storage().ok().flatten()
}

/// Remembers what is left of a task's contribution, or that it is over.
pub fn leave(task: &str, left: Option<&Left>) {
    let Some(storage) = storage() else { return };
    let text = left
        .and_then(|left| serde_wasm_bindgen::to_value(left).ok())
        .and_then(|value| js_sys::JSON::stringify(&value).ok())
        .map(String::from);
    let _ = match text {
        Some(text) => storage.set_item(&key(task), &text),
        None => storage.remove_item(&key(task)),
    };
}

/// Remembers that a person has asked to be enrolled for a task: the light node then has a key for it.
pub fn enrols(task: &str) {
    if let Some(storage) = storage() {
        let _ = storage.set_item(&format!("{ENROLS}{task}"), "1");
    }
}

/// Whether a person has asked for it in this browser.
pub fn has_enrolled(task: &str) -> bool {
    let entry = storage().and_then(|storage| storage.get_item(&format!("{ENROLS}{task}")).ok());
    entry.flatten().is_some()
}

fn read(storage: &web_sys::Storage, key: &str) -> Option<Left> {
    let value: JsValue = js_sys::JSON::parse(&storage.get_item(key).ok()??).ok()?;
    serde_wasm_bindgen::from_value(value).ok()
}

/// All that is left, by task; `None` where the browser remembers nothing.
pub fn left() -> Option<BTreeMap<String, Left>> {
    let storage = storage()?;
    let keys = (0..storage.length().unwrap_or(0)).filter_map(|at| storage.key(at).ok().flatten());
    let left = keys.filter_map(|key| {
        let task = key.strip_prefix(PREFIX)?;
        Some((task.to_owned(), read(&storage, &key)?))
    });
    Some(left.collect())
}
