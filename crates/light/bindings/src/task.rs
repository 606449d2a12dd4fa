//! A task that was joined, in the worker.

use defim_learn::DataLimits;
use defim_light::{Audit as LightAudit, JoinedTask, LightError, ReadyRound, Training};
use defim_protocol::{SignedText, TaskId};
use rand::RngCore as _;
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::{
    Audit, Chain, Contribution,
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

    /// Begin a contribution to the open round of a mesh that keeps no ledger, with the very model that was signed for it.
    ///
    /// # Errors
    ///
    /// `malformed`, `bad-round`, `too-late`, `wrong-model`, `bad-model`.
    pub fn contribute(
        &self,
        round: &str,
        model: &[u8],
        now_ms: f64,
    ) -> Result<Contribution, JsValue> {
        let opened = signed(round, "round's opening")?;
        let start = || -> Result<Contribution, LightError> {
            let round = self.0.open_round(opened, millis(now_ms))?;
            self.begin(&round.without_ledger(), model)
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
    ) -> Result<Contribution, JsValue> {
        let statement = signed(round, "round's opening")?;
        let mut start = || -> Result<Contribution, Thrown> {
            let round = self.0.open_round(statement.clone(), millis(now_ms))?;
            let task = self.0.task();
            let opening =
                crate::chain::opening(chain.follower(), &task, round.round, &statement, opening)?;
            Ok(self.begin(&round.finalised(opening)?, model)?)
        };
        Ok(start()?)
    }
}

impl Task {
    fn begin(&self, round: &ReadyRound, model: &[u8]) -> Result<Contribution, LightError> {
        let training = Training::start(&self.0, round, model)?;
        let model = defim_learn::Model::from_safetensors(model, self.0.spec())?;
        Ok(Contribution::new(training, model, round.deadline_ms))
    }
}
