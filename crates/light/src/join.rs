//! Believing a task and a round: only what the task's own aggregation node signed.

use defim_learn::{LabelKind, LearningSpec};
use defim_protocol::{
    AdmissionRule, Committee, Millis, NodeId, ReportId, RoundOpened, SignedText, TaskId,
    VerifiedManifest, VerifiedRound,
};

use crate::{LightError, chain::VerifiedOpening};

/// A task whose manifest was verified and whose learning specification fits its VDAF.
#[derive(Debug, Clone)]
pub struct JoinedTask {
    manifest: VerifiedManifest,
    spec: LearningSpec,
}

impl JoinedTask {
    /// Verify a task.
    ///
    /// # Errors
    ///
    /// [`LightError::Manifest`] if digest, signature or values are wrong, [`LightError::Spec`] if
    /// the model does not fit what is shared.
    pub fn join(signed: SignedText, expected: Option<TaskId>) -> Result<Self, LightError> {
        let manifest = VerifiedManifest::verify(signed, expected)?;
        let spec: LearningSpec = serde_json::from_str(manifest.learning.get())
            .map_err(|e| LightError::Spec(e.to_string()))?;
        spec.validate()?;
        let (model, shared) = (spec.dimension(), manifest.vdaf.dimension);
        if model != shared {
            return Err(LightError::Spec(format!(
                "the model has {model} parameters, but updates of {shared} are shared"
            )));
        }
        if spec.frac_bits != manifest.vdaf.frac_bits {
            return Err(LightError::Spec(format!(
                "updates have {} fractional bits, but {} are shared",
                spec.frac_bits, manifest.vdaf.frac_bits
            )));
        }
        if manifest.vdaf.votes > 0 && !matches!(spec.schema.label.kind, LabelKind::Class { .. }) {
            return Err(LightError::Spec(
                "private votes are on how often a class is right, and this task learns a number"
                    .into(),
            ));
        }
        Ok(Self { manifest, spec })
    }

    /// The task id.
    pub fn task(&self) -> TaskId {
        self.manifest.task()
    }

    /// The manifest.
    pub fn manifest(&self) -> &VerifiedManifest {
        &self.manifest
    }

    /// The learning specification.
    pub fn spec(&self) -> &LearningSpec {
        &self.spec
    }

    /// How a light node comes to be enrolled for the task; none if anybody contributes.
    pub fn admission(&self) -> Option<AdmissionRule> {
        self.manifest.admission
    }

    /// Epsilon that one contribution to each of so many rounds spends, at the task's delta; nothing if no noise is added.
    pub fn spent_epsilon(&self, rounds: u64) -> Option<f64> {
        let manifest = &self.manifest;
        let privacy = manifest.privacy.as_ref()?;
        privacy
            .spent(&manifest.vdaf, manifest.max_weight, rounds)
            .ok()
    }

    /// The committee that checks the report with this id in this round.
    pub fn committee_of(&self, round: &OpenRound, report: &ReportId) -> Committee {
        self.manifest.committee_of(round.verified(), report)
    }

    /// A report id, drawn by `draw`, whose leader is none of those that `failed` names: leaders that this device has itself
    /// tried to reach in vain. If that is all of them, it is any.
    ///
    /// Nobody else's word on who is there may go in here: who says that all leaders but its friends are away would have every
    /// report go to them.
    pub fn draw_report_id(
        &self,
        round: &OpenRound,
        failed: impl Fn(&NodeId) -> bool,
        mut draw: impl FnMut() -> [u8; 16],
    ) -> ReportId {
        let mut id = ReportId(draw());
        // Each full node leads as many committees as any other one, and there are 32 at most.
        for _ in 0..1_000 {
            if !failed(&self.committee_of(round, &id).leader().node) {
                break;
            }
            id = ReportId(draw());
        }
        id
    }

    /// Verify that a round of this task is open.
    ///
    /// # Errors
    ///
    /// [`LightError::Round`] if it is not this task's, [`LightError::TooLate`] after its deadline.
    pub fn open_round(&self, signed: SignedText, now: Millis) -> Result<OpenRound, LightError> {
        let round = VerifiedRound::verify(signed, &self.manifest)?;
        if now > round.deadline_ms {
            return Err(LightError::TooLate {
                round: round.round,
                late_ms: now.saturating_sub(round.deadline_ms),
            });
        }
        Ok(OpenRound(round))
    }
}

/// A round that the task's aggregation node opened and whose deadline has not passed.
///
/// Its signature alone is not enough to train on: the node could sign an opening for one person only, whose update it
/// would then see alone. [`OpenRound::finalised`] takes the ledger's word for it.
#[derive(Debug, Clone)]
pub struct OpenRound(VerifiedRound);

impl OpenRound {
    /// The id of the report of this full node's silo, if it counts more than once or the task requires enrolment.
    pub fn silo_report(&self, node: &NodeId) -> Option<ReportId> {
        self.0.silo_report(node)
    }

    pub(crate) fn verified(&self) -> &VerifiedRound {
        &self.0
    }

    /// The round may be trained on: this very opening is final on the mesh's ledger.
    ///
    /// # Errors
    ///
    /// [`LightError::OtherOpening`] if another one was verified.
    pub fn finalised(self, opening: VerifiedOpening) -> Result<ReadyRound, LightError> {
        if *opening.statement() != self.0.randomness() {
            return Err(LightError::OtherOpening { round: self.round });
        }
        Ok(ReadyRound {
            round: self,
            opening: Some(opening),
        })
    }

    /// The round may be trained on because its mesh keeps no ledger: the aggregation node alone is trusted to open the
    /// same round for everybody.
    pub fn without_ledger(self) -> ReadyRound {
        ReadyRound {
            round: self,
            opening: None,
        }
    }
}

impl std::ops::Deref for OpenRound {
    type Target = RoundOpened;

    fn deref(&self) -> &RoundOpened {
        &self.0
    }
}

/// A round that may be trained on: the only thing that [`crate::Training::start`] takes.
///
/// ```compile_fail
/// fn train(task: &defim_light::JoinedTask, round: &defim_light::OpenRound, model: &[u8]) {
///     // Signed, but not known to be final.
///     let _ = defim_light::Training::start(task, round, model);
/// }
/// ```
#[derive(Debug, Clone)]
pub struct ReadyRound {
    round: OpenRound,
    opening: Option<VerifiedOpening>,
}

impl ReadyRound {
    /// What was verified of its opening; nothing on a mesh without a ledger.
    pub fn opening(&self) -> Option<&VerifiedOpening> {
        self.opening.as_ref()
    }
}

impl std::ops::Deref for ReadyRound {
    type Target = OpenRound;

    fn deref(&self) -> &OpenRound {
        &self.round
    }
}
