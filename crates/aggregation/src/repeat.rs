//! Repeating a finished round from what is public: the sum, its opening and the model step, bit for bit.
//!
//! Validators repeat all of it; whoever finds a [`Fault`] has a signed record that contradicts itself or the bytes that
//! it names, which anybody can check again.

use defim_he::{Ciphertext, Opening, Root, Sum, SumKey, audit::Evidence, params::Dimension};
use defim_learn::{LearningSpec, MeanUpdate, Model, OptimiserState, UpdateError, model_digest};
use defim_protocol::{
    Digest, NodeId, VerifiedManifest,
    record::{ModelState, VerifiedRecord},
};

use crate::{OpenError, OpenedTotal};

/// The bytes that a record names by their digests.
#[derive(Debug, Clone, Copy)]
pub struct Artefacts<'a> {
    /// The ciphertexts, in the order of [`VerifiedRecord::ciphertexts`].
    pub ciphertexts: &'a [Vec<u8>],
    /// The opened sum of keys.
    pub key: &'a [u8],
    /// The model before the round, safetensors.
    pub model: &'a [u8],
    /// The optimiser's state before the round.
    pub optimiser: &'a [u8],
}

/// The artefacts are not those of the record, or none that can be read. That says nothing of who made the record: they are
/// to be fetched again, from somebody else.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Other bytes than the record names.
    #[error("the {0} is not the one that the round's record names; fetch it again")]
    Other(&'static str),
    /// Other bytes than the record names, or none.
    #[error(
        "the ciphertext of node {0} is not the one that the round's record names; fetch it again"
    )]
    Ciphertext(NodeId),
    /// The task is not one that this build can run.
    #[error("the task's learning specification is unusable: {0}")]
    Task(String),
}

/// What is wrong with a record: its aggregation node signed what is not so.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Fault {
    /// The opened set is not that of the full nodes' statements: one was dropped, or another put in.
    #[error("other ciphertexts were opened than those of the round's full nodes")]
    Set,
    /// The sum is not that of the ciphertexts.
    #[error("the published sum is not the sum of the ciphertexts")]
    Sum,
    /// The key does not open the sum, or opens what is no total of the round.
    #[error("the sum does not open: {0}")]
    Opening(String),
    /// No model follows from the total.
    #[error("no model follows from the total: {0}")]
    Step(String),
    /// Another model than the one that follows.
    #[error("the published model is {published}, but {repeated} follows from the total")]
    Model {
        /// What the record names.
        published: Digest,
        /// What follows.
        repeated: Digest,
    },
    /// Another optimiser's state than the one that follows.
    #[error("the published optimiser's state is not the one that follows from the total")]
    Optimiser,
}

/// A round that was repeated.
#[derive(Debug, Clone)]
pub struct Repeated {
    /// The new model.
    pub model: Model,
    /// The new optimiser's state.
    pub optimiser: OptimiserState,
    /// The opened total.
    pub total: OpenedTotal,
}

/// Why a round could not be repeated, or what is wrong with it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RepeatError {
    /// Nothing can be said.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// The record is wrong.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Repeat a round's public steps.
///
/// # Errors
///
/// [`RepeatError::Fault`] with the first step that is not as the record says.
pub fn repeat(
    task: &VerifiedManifest,
    record: &VerifiedRecord,
    artefacts: Artefacts<'_>,
) -> Result<Repeated, RepeatError> {
    let Added { opening, sum, .. } = Added::new(task, record, artefacts.ciphertexts)?;
    if sum.root() != Root(record.sum.0) {
        return Err(Fault::Sum.into());
    }
    let unusable = |e: String| Unusable::Task(e);
    if Digest::of(artefacts.key) != record.key {
        return Err(Unusable::Other("opened key").into());
    }
    let wrong_key = |e: String| Fault::Opening(e);
    let key = SumKey::from_bytes(artefacts.key).map_err(|e| wrong_key(e.to_string()))?;
    let total = OpenedTotal::with_key(task, record.selection(), opening.round(), &sum, &key)
        .map_err(|e: OpenError| wrong_key(e.to_string()))?;

    let ModelState { model, optimiser } = record.before;
    if Digest::of(artefacts.model) != model {
        return Err(Unusable::Other("model before the round").into());
    }
    if Digest::of(artefacts.optimiser) != optimiser {
        return Err(Unusable::Other("optimiser's state before the round").into());
    }
    let spec: LearningSpec =
        serde_json::from_str(task.learning.get()).map_err(|e| unusable(e.to_string()))?;
    let before =
        Model::from_safetensors(artefacts.model, &spec).map_err(|e| Fault::Step(e.to_string()))?;
    let state =
        OptimiserState::from_bytes(artefacts.optimiser).map_err(|e| Fault::Step(e.to_string()))?;
    let (model, optimiser) =
        step(&spec, &before, &state, &total).map_err(|e| Fault::Step(e.to_string()))?;
    let repeated = Digest(model_digest(&model.to_safetensors()));
    let published = record.after.model;
    if repeated != published {
        return Err(Fault::Model {
            published,
            repeated,
        }
        .into());
    }
    if Digest::of(&optimiser.to_bytes()) != record.after.optimiser {
        return Err(Fault::Optimiser.into());
    }
    Ok(Repeated {
        model,
        optimiser,
        total,
    })
}

/// The ciphertexts of a round and their sum.
#[derive(Debug)]
pub struct Added {
    opening: Opening,
    ciphertexts: Vec<Ciphertext>,
    sum: Sum,
}

impl Added {
    /// Add the ciphertexts, which are in the order of [`VerifiedRecord::ciphertexts`].
    ///
    /// # Errors
    ///
    /// [`RepeatError`] if they are not those of the record, or the record's set is not theirs.
    pub fn new(
        task: &VerifiedManifest,
        record: &VerifiedRecord,
        ciphertexts: &[Vec<u8>],
    ) -> Result<Self, RepeatError> {
        let opening = opened_set(record)?;
        let dimension =
            Dimension::new(task.vdaf.dimension).map_err(|e| Unusable::Task(e.to_string()))?;
        let mut read = Vec::with_capacity(record.ciphertexts().len());
        for (at, (node, root)) in record.ciphertexts().iter().enumerate() {
            let bytes = ciphertexts.get(at);
            let one = bytes.and_then(|bytes| Ciphertext::from_bytes(dimension, bytes).ok());
            let one = one.filter(|c| c.root() == Root(root.0));
            read.push(one.ok_or(Unusable::Ciphertext(*node))?);
        }
        let sum = opening.sum(dimension, &read).map_err(|_| Fault::Sum)?;
        Ok(Self {
            opening,
            ciphertexts: read,
            sum,
        })
    }

    /// One block of everything, proven: what a light node audits. Nothing if there is no such block.
    pub fn prove(&self, block: u32) -> Option<Evidence> {
        let parts = self.ciphertexts.iter();
        Some(Evidence {
            parts: parts
                .map(|c| c.prove(&[block])?.pop())
                .collect::<Option<_>>()?,
            sum: self.sum.prove(&[block])?.pop()?,
        })
    }
}

/// The set that was opened, which must be that of the full nodes' statements.
fn opened_set(record: &VerifiedRecord) -> Result<Opening, Fault> {
    let set = record.opened_set().ok_or(Fault::Set)?;
    let opening = Opening::from_bytes(&set).map_err(|_| Fault::Set)?;
    let named = record
        .ciphertexts()
        .iter()
        .map(|(node, root)| (node.0, root.0));
    let opened = opening.members().iter();
    let same = named.eq(opened.map(|member| (member.node.0, member.ciphertext.0)))
        && opening.round().task == record.task.0
        && opening.round().number == record.round;
    match same {
        true => Ok(opening),
        false => Err(Fault::Set),
    }
}

/// The server's step: the mean of the total, applied by the task's optimiser. In a fixed order of single operations, so that
/// the same total gives the same bytes anywhere.
pub(crate) fn step(
    spec: &LearningSpec,
    model: &Model,
    optimiser: &OptimiserState,
    total: &OpenedTotal,
) -> Result<(Model, OptimiserState), UpdateError> {
    let mut optimiser = optimiser.clone();
    let mean = MeanUpdate::from_sum(total.sum(), spec.clip_norm, total.weight())?;
    let model = spec.server.step(&mut optimiser, model, &mean)?;
    Ok((model, optimiser))
}
