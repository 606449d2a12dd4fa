//! One contribution, step by step, in the worker.

use defim_learn::{
    ClipNorm, Features, FixedUpdate, MeanUpdate, Model, OptimiserState, ServerOptimiser, evaluate,
};
use defim_light::{Content, LightError, Split, Training};
use defim_protocol::{ReportId, report::media_type};
use js_sys::{Function, Uint8Array};
use serde::Serialize;
use wasm_bindgen::prelude::*;

use crate::{
    error::{Thrown, to_js},
    task::{fresh, malformed, millis},
};

/// A contribution: `read`, `train`, `split`, `seal`, each once and in this order.
#[derive(Debug)]
#[wasm_bindgen]
pub struct Contribution {
    training: Training,
    model: Model,
    deadline_ms: u64,
    step: Step,
}

#[derive(Debug)]
enum Step {
    Started,
    Read(Features),
    Trained(FixedUpdate, Option<usize>),
    Split(Box<Split>),
    Over,
}

#[derive(Serialize)]
struct Read {
    rows: usize,
    bytes: usize,
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
#[serde(rename_all = "camelCase")]
struct SplitUp {
    bytes: usize,
    report: String,
    leader: String,
    leader_name: String,
    helper_names: Vec<String>,
    media_type: &'static str,
}

impl Contribution {
    pub(crate) fn new(training: Training, model: Model, deadline_ms: u64) -> Self {
        Self {
            training,
            model,
            deadline_ms,
            step: Step::Started,
        }
    }

    /// The model with this one update added to it, as it will be sent.
    fn with_update(&self, update: &FixedUpdate, clip: ClipNorm) -> Result<Model, LightError> {
        let scale = f64::from(update.frac_bits()).exp2();
        let sum: Vec<f64> = update
            .values()
            .iter()
            .map(|v| f64::from(*v) / scale)
            .collect();
        let mean = MeanUpdate::from_sum(&sum, clip, 1)?;
        Ok(ServerOptimiser::FedAvg { learning_rate: 1.0 }.step(
            &mut OptimiserState::new(),
            &self.model,
            &mean,
        )?)
    }

    fn trained(
        &self,
        features: &Features,
        seed: u64,
        progress: &Function,
    ) -> Result<(FixedUpdate, Trained), LightError> {
        let update = self.training.train(features, seed, &mut |done| {
            // A listener that throws is no reason to stop training.
            let _ = progress.call3(
                &JsValue::NULL,
                &done.epoch.into(),
                &done.epochs.into(),
                &done.loss.into(),
            );
        })?;
        let quantised = self.training.clip_and_quantise(update)?;
        let after = self.with_update(&quantised.fixed, self.training.task().spec().clip_norm)?;
        let result = Trained {
            bytes: size_of_val(quantised.fixed.values()),
            loss_before: self.training.evaluate(features).loss,
            loss_after: evaluate(&after, features).loss,
            norm: quantised.norm,
            clipped: quantised.clipped,
        };
        Ok((quantised.fixed, result))
    }
}

#[wasm_bindgen]
impl Contribution {
    /// The round.
    #[wasm_bindgen(getter)]
    pub fn round(&self) -> f64 {
        self.training.round() as f64
    }

    /// When the round closes at the latest, in milliseconds since 1970.
    #[wasm_bindgen(getter, js_name = deadlineMs)]
    pub fn deadline_ms(&self) -> f64 {
        self.deadline_ms as f64
    }

    /// Read and preprocess rows: `{ rows, bytes }`.
    ///
    /// # Errors
    ///
    /// `bad-data`, with every bad cell in `problems`.
    pub fn read(&mut self, csv: &[u8]) -> Result<JsValue, JsValue> {
        if !matches!(self.step, Step::Started) {
            return Err(Thrown::out_of_order("read").into());
        }
        let samples = self.training.read_csv(csv).map_err(Thrown::from)?;
        self.step = Step::Read(self.training.features(&samples));
        to_js(&Read {
            rows: samples.len(),
            bytes: csv.len(),
        })
    }

    /// Train, clip and encode: `{ bytes, lossBefore, lossAfter, norm, clipped }`. `progress` is called
    /// with `(epoch, epochs, loss)`.
    ///
    /// # Errors
    ///
    /// `training-failed`, `bad-update`.
    pub fn train(&mut self, seed: u64, progress: &Function) -> Result<JsValue, JsValue> {
        let Step::Read(features) = std::mem::replace(&mut self.step, Step::Over) else {
            return Err(Thrown::out_of_order("train").into());
        };
        let (update, result) = self
            .trained(&features, seed, progress)
            .map_err(Thrown::from)?;
        let vote = self.training.vote(&features);
        self.step = Step::Trained(update, vote);
        to_js(&result)
    }

    /// Split into shares with a proof, under the id that was drawn (`Task.draw`), a fresh one if there is none, or, where the task
    /// requires enrolment, the one that follows from the light node's key: `{ bytes, report, leader, leaderName, helperNames, mediaType }`;
    /// the last is that of the sealed report. The id decides which committee checks the report.
    ///
    /// # Errors
    ///
    /// `malformed`, `split-failed`, `no-key`.
    pub fn split(&mut self, now_ms: f64, drawn: Option<String>) -> Result<JsValue, JsValue> {
        let Step::Trained(update, vote) = std::mem::replace(&mut self.step, Step::Over) else {
            return Err(Thrown::out_of_order("split").into());
        };
        let drawn = match drawn {
            None => fresh(),
            Some(id) => id.parse::<ReportId>().map_err(malformed)?.0,
        };
        let id = self.training.report_id(|| drawn).map_err(Thrown::from)?;
        let content = Content {
            update: &update,
            vote,
        };
        let split = self
            .training
            .split(content, id, millis(now_ms) / 1000)
            .map_err(Thrown::from)?;
        let result = SplitUp {
            bytes: split.bytes(),
            report: id.to_string(),
            leader: split.committee().leader().node.to_string(),
            leader_name: split.committee().leader().name.clone(),
            helper_names: split
                .committee()
                .helpers()
                .iter()
                .map(|helper| helper.name.clone())
                .collect(),
            media_type: media_type(split.committee().vdaf.shares),
        };
        self.step = Step::Split(Box::new(split));
        to_js(&result)
    }

    /// Seal each share for its member: the report's bytes.
    ///
    /// # Errors
    ///
    /// `seal-failed`.
    pub fn seal(&mut self) -> Result<Uint8Array, JsValue> {
        let Step::Split(split) = std::mem::replace(&mut self.step, Step::Over) else {
            return Err(Thrown::out_of_order("seal").into());
        };
        let report = split.seal(&mut rand::rng()).map_err(Thrown::from)?;
        Ok(Uint8Array::from(report.bytes.as_slice()))
    }
}
