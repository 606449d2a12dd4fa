//! What the page remembers when it is loaded again: whether the light node may hold an unfinished
//! report, and which delivered report still waits for its round. The report itself is with the light node.

use wasm_bindgen::JsValue;

use crate::light::Delivered;

const UNFINISHED: &str = "defim.unfinished";
const DELIVERED: &str = "defim.delivered";

// A browser may refuse storage; then a refresh forgets, and everything else works.
fn storage() -> Option<web_sys::Storage> {
    leptos::prelude::window().local_storage().ok().flatten()
}

fn write(key: &str, value: Option<&str>) {
    if let Some(storage) = storage() {
        let _ = match value {
            Some(value) => storage.set_item(key, value),
            None => storage.remove_item(key),
        };
    }
}

fn read(key: &str) -> Option<String> {
    storage()?.get_item(key).ok().flatten()
}

/// The light node starts to work, or is done and holds nothing.
pub fn set_unfinished(unfinished: bool) {
    write(UNFINISHED, unfinished.then_some("1"));
}

/// Whether it may hold a report.
pub fn unfinished() -> bool {
    read(UNFINISHED).is_some()
}

/// The report that waits for its round.
pub fn set_delivered(delivered: Option<&Delivered>) {
    let text = delivered
        .and_then(|delivered| serde_wasm_bindgen::to_value(delivered).ok())
        .and_then(|value| js_sys::JSON::stringify(&value).ok())
        .map(String::from);
    write(DELIVERED, text.as_deref());
}

/// The report that waited when the page was left.
pub fn delivered() -> Option<Delivered> {
    let value: JsValue = js_sys::JSON::parse(&read(DELIVERED)?).ok()?;
    serde_wasm_bindgen::from_value(value).ok()
}
