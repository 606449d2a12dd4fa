//! Training on a model that was verified, and the update that comes of it.

use std::sync::Arc;

use defim_learn::{
    DataLimits, Features, FixedUpdate, LocalUpdate, Metrics, Model, Progress, Samples, evaluate,
    train,
};
use defim_protocol::{Digest, NodeKey, ReportId, RoundNumber, vdaf::UpdateVdaf, vote::bin_of};
use prio::vdaf::{Client as _, VdafError};
use rand::{CryptoRng, RngCore};

use crate::{Content, JoinedTask, LightError, ReadyRound, SealedReport, Split, split::Sharded};

/// A round joined with the very model that was signed for it.
#[derive(Debug)]
pub struct Training {
    task: JoinedTask,
    round: ReadyRound,
    model: Model,
    /// The light node's credential for this task.
    key: Option<Arc<NodeKey>>,
}

/// An update within the norm bound, in fixed point, and what clipping did to it.
#[derive(Debug)]
pub struct Quantised {
    /// The encoded update, `[d]`.
    pub fixed: FixedUpdate,
    /// The update's L2 norm before clipping.
    pub norm: f32,
    /// Whether it was over the bound.
    pub clipped: bool,
}

impl Training {
    /// Join a round with its model.
    ///
    /// # Errors
    ///
    /// [`LightError::WrongModel`] for bytes with another digest, [`LightError::Model`] for bytes
    /// that are no model of this task.
    pub fn start(task: &JoinedTask, round: &ReadyRound, model: &[u8]) -> Result<Self, LightError> {
        let found = Digest::of(model);
        // A model made for one person would come back carrying that person's data.
        if found != round.base_model {
            return Err(LightError::WrongModel {
                round: round.round,
                expected: round.base_model,
                found,
            });
        }
        let model = Model::from_safetensors(model, task.spec())?;
        Ok(Self {
            task: task.clone(),
            round: round.clone(),
            model,
            key: None,
        })
    }

    /// Contribute with this light node's key for the task, where the task requires enrolment; elsewhere it is not used, and
    /// nobody learns of it.
    #[must_use]
    pub fn with_key(self, key: Arc<NodeKey>) -> Self {
        Self {
            key: Some(key),
            ..self
        }
    }

    /// The id of this light node's report: the one that follows from its key, if the task requires enrolment, and elsewhere one
    /// that is drawn, of any committee.
    ///
    /// # Errors
    ///
    /// [`LightError::NoKey`] if the task requires enrolment and there is no key.
    pub fn report_id(&self, draw: impl FnOnce() -> [u8; 16]) -> Result<ReportId, LightError> {
        if self.task.admission().is_none() {
            return Ok(ReportId(draw()));
        }
        let key = self.key.as_ref().ok_or(LightError::NoKey)?;
        let id = self.round.verified().enrolled_report(&key.id());
        id.ok_or(LightError::NoKey)
    }

    /// The task.
    pub fn task(&self) -> &JoinedTask {
        &self.task
    }

    /// The round.
    pub fn round(&self) -> RoundNumber {
        self.round.round
    }

    /// Read a person's rows, at least [`defim_learn::MIN_CONTRIBUTION_ROWS`].
    ///
    /// # Errors
    ///
    /// [`LightError::Data`] naming every bad row and column.
    pub fn read_csv(&self, csv: &[u8]) -> Result<Samples, LightError> {
        Ok(self
            .task
            .spec()
            .schema
            .read_csv(csv, &DataLimits::contribution())?)
    }

    /// Preprocess rows by the task's schema.
    pub fn features(&self, samples: &Samples) -> Features {
        samples.features(&self.task.spec().schema)
    }

    /// Train on this device; the update is new model minus old, `[d]`.
    ///
    /// # Errors
    ///
    /// [`LightError::Train`] if training gives numbers that are not finite.
    pub fn train(
        &self,
        features: &Features,
        seed: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<LocalUpdate, LightError> {
        Ok(train(
            &self.model,
            features,
            &self.task.spec().local,
            seed,
            progress,
        )?)
    }

    /// Clip to the task's norm bound and encode in fixed point.
    ///
    /// # Errors
    ///
    /// [`LightError::Update`] if a coordinate is not finite.
    pub fn clip_and_quantise(&self, update: LocalUpdate) -> Result<Quantised, LightError> {
        let spec = self.task.spec();
        let clipped = update.clip(spec.clip_norm)?;
        let (norm, was_clipped) = (clipped.original_norm(), clipped.was_clipped());
        let fixed = clipped.quantise(spec.frac_bits)?;
        Ok(Quantised {
            fixed,
            norm,
            clipped: was_clipped,
        })
    }

    /// Split the update of a full node's silo and seal it: under the id that the round gives it, if it does.
    /// `draw` gives the id otherwise.
    ///
    /// # Errors
    ///
    /// As [`Training::split`] and [`Split::seal`].
    pub fn seal_silo<'a, R: RngCore + CryptoRng>(
        &self,
        content: impl Into<Content<'a>>,
        key: &NodeKey,
        time_s: u64,
        draw: impl FnOnce() -> [u8; 16],
        rng: &mut R,
    ) -> Result<SealedReport, LightError> {
        match self.round.verified().silo_report(&key.id()) {
            Some(id) => self
                .split(content, id, time_s)?
                .seal_as_silo(&self.round, key, rng),
            None => {
                let id = ReportId(draw());
                self.split(content, id, time_s)?.seal(rng)
            }
        }
    }

    /// Split an encoded update, and a vote if the task has votes, into one share for each member, with a proof of its norm.
    ///
    /// # Errors
    ///
    /// [`LightError::Vdaf`] or [`LightError::Split`] if it does not fit the task.
    pub fn split<'a>(
        &self,
        content: impl Into<Content<'a>>,
        id: ReportId,
        time_s: u64,
    ) -> Result<Split, LightError> {
        self.split_by(content.into(), id, time_s, |v, m, n| v.shard(m, n))
    }

    /// As [`Training::split`], with randomness of the caller's: for runs that are to be the same again.
    ///
    /// # Errors
    ///
    /// As [`Training::split`].
    pub fn split_with<'a, R: RngCore + CryptoRng>(
        &self,
        content: impl Into<Content<'a>>,
        id: ReportId,
        time_s: u64,
        rng: &mut R,
    ) -> Result<Split, LightError> {
        let content = content.into();
        self.split_by(content, id, time_s, |v, m, n| v.shard_with(m, n, rng))
    }

    fn split_by(
        &self,
        content: Content<'_>,
        id: ReportId,
        time_s: u64,
        shard: impl FnOnce(&UpdateVdaf, &Vec<f64>, &[u8; 16]) -> Result<Sharded, VdafError>,
    ) -> Result<Split, LightError> {
        let key = self.key.as_deref();
        Split::new(&self.task, &self.round, content, id, key, time_s, shard)
    }

    /// How good the round's model is on these rows.
    pub fn evaluate(&self, features: &Features) -> Metrics {
        evaluate(&self.model, features)
    }

    /// The bin that a report on these rows votes for: how often the round's model is right on them. None if the task has no votes.
    pub fn vote(&self, features: &Features) -> Option<usize> {
        let bins = self.task.manifest().vdaf.votes;
        if bins == 0 {
            return None;
        }
        Some(bin_of(self.evaluate(features).accuracy?, bins))
    }
}
