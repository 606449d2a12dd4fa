//! The delivery machine for JavaScript.

use defim_light::delivery::{Delivery, Input};
use wasm_bindgen::prelude::*;

use crate::failure::{Failure, to_js};

/// Decides how one report reaches its leader; see `defim_light::delivery`.
#[wasm_bindgen]
pub struct DeliveryMachine(Delivery);

#[wasm_bindgen]
impl DeliveryMachine {
    /// Deliver to the leader of this name; `webrtc` tells whether it has a WebRTC address.
    #[wasm_bindgen(constructor)]
    pub fn new(leader: &str, webrtc: bool) -> DeliveryMachine {
        Self(Delivery::new(leader, webrtc))
    }

    /// Take in one event, `{kind: "tick" | "connected" | "progress" | "failed" | "verdict" | "retry", ...}`.
    ///
    /// # Errors
    ///
    /// `{code, message}` if it is no such event.
    pub fn handle(&mut self, now: f64, input: JsValue) -> Result<(), JsValue> {
        let input: Input =
            serde_wasm_bindgen::from_value(input).map_err(|e| Failure::new("bad-event", e.to_string()))?;
        self.0.handle(now.max(0.0) as u64, input);
        Ok(())
    }

    /// The next thing to do, `{kind: "try" | "wait" | "delivered" | "refused", ...}`, or undefined.
    pub fn poll(&mut self) -> JsValue {
        self.0.poll().map_or(JsValue::UNDEFINED, |output| to_js(&output))
    }

    /// When a tick is due at the latest, in milliseconds since 1970.
    #[wasm_bindgen(js_name = nextTick)]
    pub fn next_tick(&self) -> Option<f64> {
        self.0.next_tick().map(|at| at as f64)
    }
}
