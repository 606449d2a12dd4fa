//! Asking a full node's model about a row that only this device can read.

use defim_learn::{DataLimits, Prediction};
use defim_score::{Response, Scale, ScoreError, ScoringKey, Shape};
use rand::CryptoRng;

use crate::{JoinedTask, LightError};

/// A task's model as a full node offers to be asked.
#[derive(Debug, Clone)]
pub struct Scoring {
    task: JoinedTask,
    shape: Shape,
    scale: Scale,
}

/// The key to one answer. [`Scoring::open`] takes it.
#[derive(Debug)]
pub struct Question(ScoringKey);

impl Scoring {
    /// Take up an offer with these steps of a feature and of a score.
    ///
    /// # Errors
    ///
    /// [`LightError::Score`] for steps that are none, and for a task with more features or classes than can be asked.
    pub fn begin(
        task: &JoinedTask,
        feature_step: f32,
        score_step: f32,
    ) -> Result<Self, LightError> {
        let step = |what, value: f32| match value.is_normal() && value > 0.0 {
            true => Ok(value),
            false => Err(ScoreError::NotFinite(what)),
        };
        let schema = &task.spec().schema;
        Ok(Self {
            task: task.clone(),
            shape: Shape::new(schema.inputs(), schema.outputs())?,
            scale: Scale {
                feature: step("the step of a feature", feature_step)?,
                score: step("the step of a score", score_step)?,
            },
        })
    }

    /// Read rows to ask about, each as the model sees it; a label column need not be there.
    ///
    /// # Errors
    ///
    /// [`LightError::Data`] naming every bad row and column.
    pub fn read_csv(&self, csv: &[u8]) -> Result<Vec<Vec<f32>>, LightError> {
        let inputs = self
            .task
            .spec()
            .schema
            .read_inputs(csv, &DataLimits::default())?;
        let rows = inputs.chunks_exact(self.shape.features());
        Ok(rows.map(<[f32]>::to_vec).collect())
    }

    /// Encrypt a row under a fresh key: the key, and the bytes for the full node.
    ///
    /// # Errors
    ///
    /// [`LightError::Score`] for a row of another length or with a number that is not finite.
    pub fn ask(
        &self,
        row: &[f32],
        random: &mut impl CryptoRng,
    ) -> Result<(Question, Vec<u8>), LightError> {
        let features = self.scale.quantise(row)?;
        let (key, request) = ScoringKey::request(self.shape, &features, random)?;
        Ok((Question(key), request.to_bytes()))
    }

    /// Open an answer. Nothing shows one that was made up: the full node could lie.
    ///
    /// # Errors
    ///
    /// [`LightError::Score`] for bytes that are no answer to this question.
    pub fn open(&self, question: Question, answer: &[u8]) -> Result<Prediction, LightError> {
        let scores = question.0.open(&Response::from_bytes(answer)?)?;
        let outputs: Vec<f32> = scores.iter().map(|s| self.scale.value(*s)).collect();
        let prediction = self.task.spec().schema.prediction(&outputs);
        prediction.ok_or_else(|| ScoreError::NotFinite("a score").into())
    }
}
