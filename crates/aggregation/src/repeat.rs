//! Repeating a finished round from what is public: the sum, its opening and the model step, bit for bit.
//!
//! Validators repeat all of it; whoever finds a [`Fault`] has a signed record that contradicts itself or the bytes that
//! it names, which anybody can check again.

use std::collections::BTreeSet;

use defim_he::{
    Ciphertext, NodeId as HeNodeId, Opening, Root, Round, Sum, SumKey, audit::Evidence,
    params::Dimension,
};
use defim_learn::{LearningSpec, MeanUpdate, Model, OptimiserState, UpdateError, model_digest};
use defim_protocol::{
    Committee, CommitteeIndex, Digest, NodeId, ReportId, VerifiedManifest, VerifiedRound,
    batch::{BatchSummary, merkle_root},
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
    /// The members of a committee signed a batch that no batch of the round can be.
    #[error("the batch of committee {committee} is signed, but {why}")]
    Batch {
        /// The committee.
        committee: CommitteeIndex,
        /// Who signed: all members of the committee.
        signers: Vec<NodeId>,
        /// What is wrong with it.
        why: BatchFault,
    },
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

/// What is wrong with a batch whose members have signed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchFault {
    /// Another number of reports.
    #[error("it says that it has {said} reports, and has {have}")]
    Count {
        /// As signed.
        said: u64,
        /// Under the signed root.
        have: u64,
    },
    /// Reports that count another number of times.
    #[error(
        "it says that its reports count {said} times more than once, and they count {have} times more"
    )]
    Weight {
        /// As signed.
        said: u64,
        /// By the round's opening.
        have: u64,
    },
    /// A report that counts twice, or whose place cannot be found.
    #[error("report {0} comes twice, or not in the order of the ids")]
    Order(ReportId),
    /// A report that another committee checks.
    #[error("report {report} belongs to committee {committee}")]
    Committee {
        /// The report.
        report: ReportId,
        /// Its committee.
        committee: CommitteeIndex,
    },
    /// A report that nobody who is enrolled can have.
    #[error(
        "report {0} is that of no full node's silo and of no light node that was ever enrolled"
    )]
    Stranger(ReportId),
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
            Dimension::new(task.vdaf.coordinates()).map_err(|e| Unusable::Task(e.to_string()))?;
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

/// Check the accepted reports of a batch that its committee's members have signed (the caller has checked the signatures):
/// every id once, each of this committee, as many and of as much weight as signed.
///
/// # Errors
///
/// [`RepeatError::Unusable`] if the ids are not those of the signed root, which says nothing of who signed;
/// [`RepeatError::Fault`], naming who signed, if they are and the batch is none.
pub fn check_ids(
    task: &VerifiedManifest,
    round: &VerifiedRound,
    summary: &BatchSummary,
    ids: &[ReportId],
) -> Result<(), RepeatError> {
    let signed = SignedBatch::new(task, round, summary, ids)?;
    let mut pairs = ids.windows(2);
    let next = pairs.find_map(|pair| match pair {
        [before, next] if before >= next => Some(*next),
        _ => None,
    });
    if let Some(report) = next {
        return Err(signed.fault(BatchFault::Order(report)));
    }
    let (said, have) = (summary.accepted, ids.len() as u64);
    if said != have {
        return Err(signed.fault(BatchFault::Count { said, have }));
    }
    for report in ids {
        let committee = task.committee_of(round, report).index();
        if committee != summary.committee {
            let report = *report;
            return Err(signed.fault(BatchFault::Committee { report, committee }));
        }
    }
    let (said, have) = (summary.extra_weight, round.extra_weight(ids));
    match said == have {
        true => Ok(()),
        false => Err(signed.fault(BatchFault::Weight { said, have })),
    }
}

/// As [`check_ids`], in a task with enrolment: each report is that of a full node's silo or of one of these keys, which are all
/// that were ever enrolled, whether or not they still are. What it does not show is that those light nodes have really made
/// reports: members that collude can sign for others.
///
/// # Errors
///
/// As [`check_ids`].
pub fn check_enrolled<'a>(
    task: &VerifiedManifest,
    round: &VerifiedRound,
    summary: &BatchSummary,
    ids: &[ReportId],
    keys: impl IntoIterator<Item = &'a NodeId>,
) -> Result<(), RepeatError> {
    let signed = SignedBatch::new(task, round, summary, ids)?;
    let silos = task
        .members
        .iter()
        .filter_map(|m| round.silo_report(&m.node));
    let lights = keys
        .into_iter()
        .filter_map(|key| round.enrolled_report(key));
    let possible: BTreeSet<_> = silos.chain(lights).collect();
    let stranger = ids.iter().find(|id| !possible.contains(id));
    match stranger.filter(|_| task.admission.is_some()) {
        Some(report) => Err(signed.fault(BatchFault::Stranger(*report))),
        None => Ok(()),
    }
}

/// The batch of a committee, and its accepted reports as its signed root has them.
struct SignedBatch {
    committee: Committee,
}

impl SignedBatch {
    fn new(
        task: &VerifiedManifest,
        round: &VerifiedRound,
        summary: &BatchSummary,
        ids: &[ReportId],
    ) -> Result<Self, Unusable> {
        let batch = Unusable::Other("batch's list of reports");
        let ours = summary.task == task.task()
            && summary.round == round.round
            && summary.opening == round.randomness();
        let committee = task.committee(summary.committee).filter(|_| ours);
        match merkle_root(ids) == summary.root {
            true => Ok(Self {
                committee: committee.ok_or(batch)?,
            }),
            false => Err(batch),
        }
    }

    fn fault(&self, why: BatchFault) -> RepeatError {
        let members = self.committee.members();
        RepeatError::Fault(Fault::Batch {
            committee: self.committee.index(),
            signers: members.iter().map(|member| member.node).collect(),
            why,
        })
    }
}

/// The set that was opened, which must be that of the full nodes' statements.
fn opened_set(record: &VerifiedRecord) -> Result<Opening, Fault> {
    let set = record.opened_set().ok_or(Fault::Set)?;
    let opening = Opening::from_bytes(&set).map_err(|_| Fault::Set)?;
    let round = Round {
        task: record.task.0,
        number: record.round,
    };
    let named = record.ciphertexts().iter();
    match opening.is_of(
        round,
        named.map(|(node, root)| (HeNodeId(node.0), Root(root.0))),
    ) {
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
