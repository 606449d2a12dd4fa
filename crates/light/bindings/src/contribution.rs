//! One contribution, step by step, in a worker.

use defim_learn::{DataLimits, Features};
use defim_light::{JoinedTask, Quantised, Split, Training};
use defim_protocol::{ReportId, SignedText, TaskId};
use js_sys::Function;
use rand::RngCore as _;
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::failure::{Failure, Problem, problems, to_js};

type Step<T> = Result<T, Failure>;

fn joined(manifest: &str, task: &str) -> Step<JoinedTask> {
    let bad = |what: &str| Failure::new("bad-manifest", format!("the mesh sent no {what}; load the page again"));
    let signed: SignedText = serde_json::from_str(manifest).map_err(|_| bad("signed manifest"))?;
    let task: TaskId = task.parse().map_err(|_| bad("task id"))?;
    Ok(JoinedTask::join(signed, Some(task))?)
}

/// Milliseconds as JavaScript counts them.
fn milliseconds(now: f64) -> u64 {
    // A clock before 1970 or after the year 200,000 counts as 1970; the deadline is then far ahead.
    if now.is_finite() && (0.0..1e16).contains(&now) { now as u64 } else { 0 }
}

#[derive(Serialize)]
struct Checked {
    rows: usize,
    errors: Vec<Problem>,
    total: u64,
}

/// Read rows by a task's schema and say what is wrong with them: `{rows, errors: [{row, column, message}], total}`.
///
/// # Errors
///
/// `{code, message}` if the task itself is refused.
#[wasm_bindgen(js_name = checkRows)]
pub fn check_rows(manifest: &str, task: &str, csv: &[u8]) -> Result<JsValue, JsValue> {
    let joined = joined(manifest, task)?;
    let checked = match joined.spec().schema.read_csv(csv, &DataLimits::default()) {
        Ok(samples) => Checked { rows: samples.len(), errors: Vec::new(), total: 0 },
        Err(errors) => Checked { rows: 0, errors: problems(&errors), total: errors.total },
    };
    Ok(to_js(&checked))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Trained {
    bytes: usize,
    loss_before: f64,
    loss_after: f64,
    norm: f32,
    clipped: bool,
}

#[derive(Serialize)]
struct Epoch {
    epoch: u32,
    epochs: u32,
    loss: f32,
}

/// One contribution to one round.
#[wasm_bindgen]
pub struct Contribution {
    training: Training,
    features: Option<Features>,
    quantised: Option<Quantised>,
    split: Option<Split>,
    id: ReportId,
}

#[wasm_bindgen]
impl Contribution {
    /// Verify task, round and model.
    ///
    /// `manifest` and `round` are signed texts as JSON, `task` the id that is expected, `now` is in
    /// milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// `{code, message}`: `wrong-task`, `bad-manifest`, `bad-round`, `too-late`, `wrong-model`.
    #[wasm_bindgen(constructor)]
    pub fn new(manifest: &str, task: &str, round: &str, model: &[u8], now: f64) -> Result<Contribution, JsValue> {
        let start = || -> Step<Training> {
            let joined = joined(manifest, task)?;
            let signed: SignedText = serde_json::from_str(round)
                .map_err(|_| Failure::new("bad-round", "the mesh sent no signed round; load the page again"))?;
            let open = joined.open_round(signed, milliseconds(now))?;
            Ok(Training::start(&joined, &open, model)?)
        };
        let mut id = [0; 16];
        rand::rng().fill_bytes(&mut id);
        Ok(Self { training: start()?, features: None, quantised: None, split: None, id: ReportId(id) })
    }

    /// Read rows; gives their number.
    ///
    /// # Errors
    ///
    /// `{code: "bad-data", message, problems}` naming rows and columns.
    pub fn read(&mut self, csv: &[u8]) -> Result<usize, JsValue> {
        let samples = self.training.read_csv(csv).map_err(Failure::from)?;
        self.features = Some(self.training.features(&samples));
        Ok(samples.len())
    }

    /// Train, clip and quantise; `progress` is called with `{epoch, epochs, loss}` after each epoch.
    /// Gives `{bytes, lossBefore, lossAfter, norm, clipped}`.
    ///
    /// # Errors
    ///
    /// `{code, message}`.
    pub fn train(&mut self, seed: u32, progress: &Function) -> Result<JsValue, JsValue> {
        let features = self.features.as_ref().ok_or_else(|| Failure::out_of_order("rows"))?;
        let before = self.training.evaluate(features).loss;
        let mut after = before;
        let update = self
            .training
            .train(features, u64::from(seed), &mut |step| {
                after = f64::from(step.loss);
                let epoch = Epoch { epoch: step.epoch, epochs: step.epochs, loss: step.loss };
                // A page that is gone does not stop the training.
                let _ = progress.call1(&JsValue::NULL, &to_js(&epoch));
            })
            .map_err(Failure::from)?;
        let quantised = self.training.clip_and_quantise(update).map_err(Failure::from)?;
        let trained = Trained {
            bytes: std::mem::size_of_val(quantised.fixed.values()),
            loss_before: before,
            loss_after: after,
            norm: quantised.norm,
            clipped: quantised.clipped,
        };
        self.quantised = Some(quantised);
        Ok(to_js(&trained))
    }

    /// Split into shares with a proof of the norm; gives their length in bytes.
    ///
    /// # Errors
    ///
    /// `{code, message}`.
    pub fn split(&mut self, now: f64) -> Result<usize, JsValue> {
        let quantised = self.quantised.take().ok_or_else(|| Failure::out_of_order("a trained update"))?;
        let split =
            self.training.split(&quantised.fixed, self.id, milliseconds(now) / 1000).map_err(Failure::from)?;
        let bytes = split.bytes();
        self.split = Some(split);
        Ok(bytes)
    }

    /// Seal each share for its member; gives the encoded report.
    ///
    /// # Errors
    ///
    /// `{code, message}`.
    pub fn seal(&mut self) -> Result<Vec<u8>, JsValue> {
        let split = self.split.take().ok_or_else(|| Failure::out_of_order("shares"))?;
        Ok(split.seal(&mut rand::rng()).map_err(Failure::from)?.bytes)
    }

    /// The report's id.
    #[wasm_bindgen(getter)]
    pub fn report(&self) -> String {
        self.id.to_string()
    }

    /// The round.
    #[wasm_bindgen(getter)]
    pub fn round(&self) -> f64 {
        self.training.round() as f64
    }
}
