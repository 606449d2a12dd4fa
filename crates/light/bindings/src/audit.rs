//! The audit of a finished round.

use defim_light::{Audit as LightAudit, Verdict};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::error::{Thrown, to_js};

/// An audit of one finished round: some random blocks of its encrypted sum.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Audit(LightAudit);

#[derive(Serialize)]
struct Judged {
    verdict: &'static str,
    /// What is wrong, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    fraud: Option<String>,
}

impl From<LightAudit> for Audit {
    fn from(audit: LightAudit) -> Self {
        Self(audit)
    }
}

#[wasm_bindgen]
impl Audit {
    /// The blocks to fetch.
    #[wasm_bindgen(getter)]
    pub fn blocks(&self) -> Vec<u32> {
        self.0.blocks().to_vec()
    }

    /// Blocks that a ciphertext of the task has.
    #[wasm_bindgen(getter, js_name = ofBlocks)]
    pub fn of_blocks(&self) -> u32 {
        self.0.of_blocks()
    }

    /// Full nodes whose ciphertexts were added.
    #[wasm_bindgen(getter)]
    pub fn parties(&self) -> u32 {
        self.0.parties() as u32
    }

    /// Digest of the round's signed record.
    #[wasm_bindgen(getter)]
    pub fn record(&self) -> String {
        self.0.record().to_string()
    }

    /// Judge one block as it was served: `{ verdict: "right" | "wrong", fraud }`. With "wrong", what was served is the
    /// proof.
    ///
    /// # Errors
    ///
    /// `bad-evidence` if it is not that block of the round, which proves nothing.
    pub fn judge(&self, block: u32, served: &[u8]) -> Result<JsValue, JsValue> {
        let judged = match self.0.judge(block, served).map_err(Thrown::from)? {
            Verdict::Right => Judged {
                verdict: "right",
                fraud: None,
            },
            Verdict::Wrong { fraud, .. } => Judged {
                verdict: "wrong",
                fraud: Some(format!("{fraud:?}")),
            },
        };
        to_js(&judged)
    }
}
