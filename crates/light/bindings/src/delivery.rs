//! The delivery's decisions, for the page.

use defim_light::delivery::{self, Input};
use defim_protocol::Reason;
use wasm_bindgen::prelude::*;

use crate::{error::Thrown, task::millis};

/// The number of a reason, from the word that HTTPS answers carry.
#[wasm_bindgen(js_name = reasonCode)]
pub fn reason_code(slug: &str) -> Option<u16> {
    Reason::from_slug(slug).map(Reason::code)
}

/// How one report reaches its leader: it says what to try, and is told what came of it.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Delivery(delivery::Delivery);

#[wasm_bindgen]
impl Delivery {
    /// To the leader of this name; `webrtc` tells whether it has a WebRTC address.
    #[wasm_bindgen(constructor)]
    pub fn new(leader: &str, webrtc: bool) -> Delivery {
        Self(delivery::Delivery::new(leader, webrtc))
    }

    /// Take in one event, as JSON, at time `now_ms`.
    ///
    /// # Errors
    ///
    /// `malformed` if it is no event.
    pub fn handle(&mut self, now_ms: f64, input: &str) -> Result<(), JsValue> {
        let input: Input = serde_json::from_str(input)
            .map_err(|e| Thrown::new("malformed", format!("not a delivery event: {e}")))?;
        self.0.handle(millis(now_ms), input);
        Ok(())
    }

    /// The next thing to do, as JSON.
    pub fn poll(&mut self) -> Option<String> {
        self.0
            .poll()
            .and_then(|output| serde_json::to_string(&output).ok())
    }

    /// When `{"kind":"tick"}` is due at the latest, in milliseconds since 1970.
    #[wasm_bindgen(js_name = nextTick)]
    pub fn next_tick(&self) -> Option<f64> {
        self.0.next_tick().map(|at| at as f64)
    }
}
