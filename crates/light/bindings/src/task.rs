//! A task that was joined, in the worker.

use std::sync::Arc;

use defim_learn::DataLimits;
use defim_light::{Audit as LightAudit, JoinedTask, LightError, ReadyRound, Training};
use defim_protocol::{AdmissionRule, NodeId, NodeKey, SignedText, TaskId};
use js_sys::Uint8Array;
use rand::RngCore as _;
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::{
    Audit, Chain, Contribution,
    enrolment::{key, sender},
    error::{Thrown, to_js},
};

/// Most bytes of CSV that are read; what is longer need not be loaded.
#[wasm_bindgen(js_name = maxDataBytes)]
pub fn max_data_bytes() -> f64 {
    DataLimits::default().max_bytes as f64
}

/// A task whose manifest was verified.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Task(JoinedTask);

#[derive(Serialize)]
struct Checked {
    rows: usize,
    errors: Vec<defim_learn::DataError>,
}

pub(crate) fn signed(json: &str, what: &str) -> Result<SignedText, Thrown> {
    serde_json::from_str(json).map_err(|e| {
        Thrown::new(
            "malformed",
            format!("the {what} is not a signed text ({e}); load the task again"),
        )
    })
}

/// Verify a manifest, and that it is the expected task's.
pub(crate) fn joined(manifest: &str, expected: Option<String>) -> Result<JoinedTask, Thrown> {
    let expected = expected
        .map(|text| {
            text.parse::<TaskId>()
                .map_err(|e| Thrown::new("wrong-task", e.to_string()))
        })
        .transpose()?;
    Ok(JoinedTask::join(signed(manifest, "manifest")?, expected)?)
}

/// Milliseconds as JavaScript counts them.
pub(crate) fn millis(now: f64) -> u64 {
    // Safe: a cast from f64 saturates, and NaN gives 0.
    now as u64
}

#[wasm_bindgen]
impl Task {
    /// Verify a manifest, given as the JSON of a signed text, and that it is the expected task's.
    ///
    /// # Errors
    ///
    /// `malformed`, `wrong-task`, `bad-manifest`, `bad-specification`.
    #[wasm_bindgen(constructor)]
    pub fn join(manifest: &str, expected: Option<String>) -> Result<Task, JsValue> {
        Ok(Self(joined(manifest, expected)?))
    }

    /// The task's id.
    #[wasm_bindgen(getter)]
    pub fn id(&self) -> String {
        self.0.task().to_string()
    }

    /// Epsilon that contributing to so many rounds spends, at the task's delta; nothing if the task has no noise.
    pub fn spent(&self, rounds: u32) -> Option<f64> {
        self.0.spent_epsilon(rounds.into())
    }

    /// Only read rows: `{ rows, errors: [{ row, line, column, message }] }`.
    ///
    /// # Errors
    ///
    /// None in practice: what is wrong with the rows is the answer.
    pub fn check(&self, csv: &[u8]) -> Result<JsValue, JsValue> {
        let checked = match self
            .0
            .spec()
            .schema
            .read_csv(csv, &DataLimits::contribution())
        {
            Ok(samples) => Checked {
                rows: samples.len(),
                errors: Vec::new(),
            },
            Err(errors) => Checked {
                rows: 0,
                errors: errors.errors,
            },
        };
        to_js(&checked)
    }

    /// Begin an audit of a finished round, given the JSON of its signed record. Blocks are drawn at random.
    ///
    /// # Errors
    ///
    /// `malformed`, `bad-record`, `false-record`.
    pub fn audit(&self, round: f64, record: &str, blocks: usize) -> Result<Audit, JsValue> {
        let record = signed(record, "round's record")?;
        let mut seed = [0; 32];
        rand::rng().fill_bytes(&mut seed);
        let audit = LightAudit::begin(&self.0, millis(round), record, &seed, blocks);
        Ok(audit.map_err(Thrown::from)?.into())
    }

    /// How a light node comes to be enrolled, without which it cannot contribute: `open`, `invite` or `approved`; nothing if
    /// anybody contributes.
    #[wasm_bindgen(getter)]
    pub fn admission(&self) -> Option<String> {
        let rule = self.0.admission()?;
        let rule = match rule {
            AdmissionRule::Open => "open",
            AdmissionRule::Invite => "invite",
            AdmissionRule::Approved => "approved",
        };
        Some(rule.to_owned())
    }

    /// The signed transaction that asks the ledger to enrol the key of this seed for the task; `chain` is the mesh's, `nonce` how
    /// many transactions of the key were carried out before.
    ///
    /// # Errors
    ///
    /// `bad-enrolment`: without the right code, or where only an admin enrols keys.
    pub fn enrol(
        &self,
        seed: &[u8],
        chain: &str,
        nonce: f64,
        code: Option<String>,
    ) -> Result<Uint8Array, JsValue> {
        let rule = self.0.admission().unwrap_or(AdmissionRule::Open);
        let key = key(seed)?;
        let sender = sender(&key, chain, nonce)?;
        let signed = sender.enrol(&self.0.task(), rule, code.as_deref());
        let signed = signed.map_err(Thrown::from)?;
        Ok(Uint8Array::from(signed.as_slice()))
    }

    /// Draw a report's id for an open round: `[report, leader]`, the second being the node that takes it. Not one of those that
    /// `failed` has, which this device has tried in vain.
    ///
    /// # Errors
    ///
    /// `malformed`, `bad-round`, `too-late`.
    pub fn draw(
        &self,
        round: &str,
        now_ms: f64,
        failed: Vec<String>,
    ) -> Result<Vec<String>, JsValue> {
        let round = signed(round, "round's opening")?;
        let round = self.0.open_round(round, millis(now_ms));
        let round = round.map_err(Thrown::from)?;
        let failed = |node: &NodeId| failed.contains(&node.to_string());
        let id = self.0.draw_report_id(&round, failed, fresh);
        let leader = self.0.committee_of(&round, &id).leader().node;
        Ok(vec![id.to_string(), leader.to_string()])
    }

    /// Begin a contribution to the open round of a mesh that keeps no ledger, with the very model that was signed for it, and with the seed of this light node's
    /// key where the task requires enrolment.
    ///
    /// # Errors
    ///
    /// `malformed`, `bad-round`, `too-late`, `wrong-model`, `bad-model`, `bad-key`.
    pub fn contribute(
        &self,
        round: &str,
        model: &[u8],
        now_ms: f64,
        seed: Option<Vec<u8>>,
    ) -> Result<Contribution, JsValue> {
        let opened = signed(round, "round's opening")?;
        let key = seed.as_deref().map(key).transpose()?;
        let start = || -> Result<Contribution, LightError> {
            let round = self.0.open_round(opened, millis(now_ms))?;
            self.begin(&round.without_ledger(), model, key)
        };
        Ok(start().map_err(Thrown::from)?)
    }

    /// Begin a contribution to an open round whose opening is final on the ledger: what was served of it is checked
    /// here, before anything is trained.
    ///
    /// # Errors
    ///
    /// As `contribute`, and as `Chain.checkOpening`.
    #[wasm_bindgen(js_name = contributeFinal)]
    pub fn contribute_final(
        &self,
        chain: &mut Chain,
        opening: &str,
        round: &str,
        model: &[u8],
        now_ms: f64,
        seed: Option<Vec<u8>>,
    ) -> Result<Contribution, JsValue> {
        let statement = signed(round, "round's opening")?;
        let key = seed.as_deref().map(key).transpose()?;
        let start = || -> Result<Contribution, Thrown> {
            let round = self.0.open_round(statement.clone(), millis(now_ms))?;
            let task = self.0.task();
            let opening =
                crate::chain::opening(chain.follower(), &task, round.round, &statement, opening)?;
            Ok(self.begin(&round.finalised(opening)?, model, key)?)
        };
        Ok(start()?)
    }
}

/// Sixteen random bytes.
pub(crate) fn fresh() -> [u8; 16] {
    let mut id = [0; 16];
    rand::rng().fill_bytes(&mut id);
    id
}

/// An id that is none.
pub(crate) fn malformed(error: defim_protocol::ParseIdError) -> Thrown {
    Thrown::new("malformed", error.to_string())
}

impl Task {
    fn begin(
        &self,
        round: &ReadyRound,
        model: &[u8],
        key: Option<NodeKey>,
    ) -> Result<Contribution, LightError> {
        let mut training = Training::start(&self.0, round, model)?;
        if let Some(key) = key {
            training = training.with_key(Arc::new(key));
        }
        let model = defim_learn::Model::from_safetensors(model, self.0.spec())?;
        Ok(Contribution::new(training, model, round.deadline_ms))
    }
}
