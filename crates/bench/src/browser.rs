//! For a page: `run(plan, on_row)` in a worker.

use peak_alloc::PeakAlloc;
use wasm_bindgen::{JsCast as _, JsValue, prelude::wasm_bindgen};

use crate::{Gauge, Plan};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The browser's clock, and this module's memory.
struct Browser {
    performance: js_sys::Object,
    now: js_sys::Function,
    base: std::cell::Cell<usize>,
}

impl Browser {
    fn new() -> Option<Self> {
        let property = |of: &JsValue, name| js_sys::Reflect::get(of, &JsValue::from_str(name)).ok();
        let performance = property(&js_sys::global(), "performance")?;
        let now = property(&performance, "now")?.dyn_into().ok()?;
        Some(Self {
            performance: performance.dyn_into().ok()?,
            now,
            base: std::cell::Cell::new(0),
        })
    }
}

impl Gauge for Browser {
    fn now_ms(&self) -> f64 {
        let now = self.now.call0(&self.performance);
        now.ok().and_then(|now| now.as_f64()).unwrap_or_default()
    }

    fn reset_peak(&self) {
        MEMORY.reset_peak_usage();
        self.base.set(MEMORY.current_usage());
    }

    fn peak_bytes(&self) -> u64 {
        MEMORY.peak_usage().saturating_sub(self.base.get()) as u64
    }
}

/// Run `{ dim, runs, schemes }`; `on_row` is called with each row.
///
/// # Errors
///
/// What is wrong with the plan, as a string.
#[wasm_bindgen]
pub fn run(plan: JsValue, on_row: &js_sys::Function) -> Result<(), JsValue> {
    console_error_panic_hook::set_once();
    let plan: Plan = serde_wasm_bindgen::from_value(plan)?;
    let gauge = Browser::new().ok_or("there is no clock")?;
    let mut give = |row| {
        if let Ok(row) = serde_wasm_bindgen::to_value(&row) {
            // A page that throws has its own console to say so in.
            let _ = on_row.call1(&JsValue::NULL, &row);
        }
    };
    crate::run(&plan, &gauge, &mut give).map_err(|e| JsValue::from_str(&e.to_string()))
}
