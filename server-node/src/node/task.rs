//! What a task is made from.

use defim_full::Secrets;
use defim_learn::LearningSpec;
use defim_light::JoinedTask;
use defim_protocol::{
    AdmissionRule, LedgerTerms, Manifest, Member, NodeKey, Privacy, Schedule, VerifiedManifest,
    limits,
    vdaf::{Scheme, VdafSpec},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::aggregation::NewTask;
use crate::{
    clock,
    failure::{Failure, Outcome},
};

/// The promise that a task is to make for all of its rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PrivacyRequest {
    /// Epsilon, up to 100.
    pub epsilon: f64,
    /// Delta, below 0.5.
    pub delta: f64,
}

/// A task to create: a built-in one, or a learning specification of one's own.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskRequest {
    /// A built-in task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub builtin: Option<String>,
    /// Which model of the built-in task; by default its usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// A learning specification, in place of a built-in task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub learning: Option<LearningSpec>,
    /// Its name on the mesh; by default the built-in task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// One line for people; by default the built-in task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What it is for, in plain words; by default the built-in task's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<String>,
    /// When rounds close.
    #[schema(value_type = Object)]
    pub schedule: Schedule,
    /// What updates are shared and proven with: `pine64` unless told otherwise, or `pine32-hmac`.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    pub scheme: Scheme,
    /// Differential privacy; without it no noise is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<PrivacyRequest>,
    /// How often the report of a full node's silo may count, from 1 to 255: as often as it has rows, up to this.
    #[serde(default = "once")]
    pub max_weight: u8,
    /// How a light node comes to be enrolled, without which it cannot contribute: `open`, `invite` or `approved`; none: anybody
    /// contributes, any number of times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub admission: Option<AdmissionRule>,
    /// Shares of a report: 2, or 3. One full node checks each; all but one of them together learn nothing.
    #[serde(default = "two")]
    pub shares: u8,
    /// Bins of the private votes with which each report says how good the model is on its contributor's rows; 0: there are none.
    #[serde(default, skip_serializing_if = "none")]
    pub votes: u8,
    /// What the ledger pays for its rounds and bears of them: `budget_per_round` in points, `tolerance_ppm` and
    /// `fairness_gap_ppm` in parts per million; what is not there is the usual.
    #[serde(default, skip_serializing_if = "LedgerTerms::are_usual")]
    #[schema(value_type = Object)]
    pub ledger: LedgerTerms,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn none(votes: &u8) -> bool {
    *votes == 0
}

const fn once() -> u8 {
    1
}

const fn two() -> u8 {
    2
}

impl TryFrom<TaskRequest> for NewTask {
    type Error = Failure;

    fn try_from(request: TaskRequest) -> Result<Self, Failure> {
        let TaskRequest {
            builtin,
            model,
            learning,
            name,
            title,
            summary,
            schedule,
            scheme,
            privacy,
            max_weight,
            admission,
            shares,
            votes,
            ledger,
        } = request;
        match (builtin, learning) {
            (Some(builtin), None) => {
                let mut known = builtin_task(&builtin, model.as_deref())?;
                known.spec.frac_bits = known.spec.frac_bits.min(scheme.most_frac_bits());
                Ok(Self {
                    name: name.unwrap_or_else(|| known.name.to_owned()),
                    title: title.unwrap_or_else(|| known.title.to_owned()),
                    summary: summary.unwrap_or_else(|| known.summary.to_owned()),
                    spec: known.spec,
                    schedule,
                    scheme,
                    privacy,
                    max_weight,
                    admission,
                    shares,
                    votes,
                    ledger,
                })
            }
            (None, Some(spec)) => {
                let name = name
                    .ok_or_else(|| Failure::Input("a task of one's own needs a \"name\"".into()))?;
                Ok(Self {
                    title: title.unwrap_or_else(|| name.clone()),
                    summary: summary.unwrap_or_default(),
                    name,
                    spec,
                    schedule,
                    scheme,
                    privacy,
                    max_weight,
                    admission,
                    shares,
                    votes,
                    ledger,
                })
            }
            _ => Err(Failure::Input(
                "a task needs either \"builtin\" or \"learning\"".into(),
            )),
        }
    }
}

impl NewTask {
    /// The task, signed by its aggregation node, for these full nodes.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] if a value is out of range, or nobody could join such a task.
    pub fn sign(self, key: &NodeKey, mut members: Vec<Member>) -> Outcome<VerifiedManifest> {
        let input = |e: &dyn std::fmt::Display| Failure::Input(e.to_string());
        self.spec.validate().map_err(|e| input(&e))?;
        // By name: directories have the order of the keys.
        members.sort_by(|a, b| a.name.cmp(&b.name));
        let learning = serde_json::to_string(&self.spec)
            .and_then(RawValue::from_string)
            .map_err(|e| Failure::Other(e.to_string()))?;
        let vdaf = VdafSpec {
            scheme: self.scheme,
            dimension: self.spec.dimension(),
            frac_bits: self.spec.frac_bits,
            shares: self.shares,
            votes: self.votes,
        };
        let privacy = self
            .privacy
            .map(|PrivacyRequest { epsilon, delta }| {
                Privacy::new(&vdaf, self.max_weight, epsilon, delta, self.schedule.rounds)
            })
            .transpose()
            .map_err(|e| input(&e))?;
        let manifest = Manifest {
            name: self.name,
            title: self.title,
            summary: self.summary,
            aggregation: key.id(),
            members,
            vdaf,
            schedule: self.schedule,
            privacy,
            max_weight: self.max_weight,
            admission: self.admission,
            ledger: self.ledger,
            created_ms: clock::now(),
            learning,
        };
        let signed = manifest.sign(key).map_err(|e| input(&e))?;
        // What a light node checks before it takes part: a task that none can join is refused here.
        let joined = JoinedTask::join(signed, None).map_err(|e| input(&e))?;
        let manifest = joined.manifest().clone();
        let bytes = manifest.vdaf.report_bytes().map_err(|e| input(&e))?;
        if bytes > limits::REPORT_BYTES {
            return Err(Failure::Input(format!(
                "a contribution would have {bytes} bytes, more than the {} allowed; choose a smaller model",
                limits::REPORT_BYTES
            )));
        }
        if manifest.schedule.round_ms < limits::ROUND_MS {
            return Err(Failure::Input(format!(
                "a round of {} ms ends before anybody has trained; the deadline is at least {} s",
                manifest.schedule.round_ms,
                limits::ROUND_MS / 1000
            )));
        }
        Ok(manifest)
    }
}

/// Refuse tasks that a mesh of so many full nodes could not run, before anything of the mesh is written.
///
/// # Errors
///
/// [`Failure::Input`] with the first value that is out of range, [`Failure::Usage`] for a name that comes twice.
pub fn try_out(tasks: &[TaskRequest], full_nodes: u8) -> Outcome {
    let mut names = std::collections::BTreeSet::new();
    // Nobody's keys: only what does not depend on keys is tried.
    let member = |number: u8| {
        let secrets = Secrets::from_seed([number; 32]);
        Member {
            node: secrets.node.id(),
            name: format!("full-{number}"),
            hpke: secrets.sealing.config(),
        }
    };
    let members: Vec<_> = (1..=full_nodes).map(member).collect();
    for request in tasks {
        let new = NewTask::try_from(request.clone())?;
        let name = new.name.clone();
        new.sign(&NodeKey::from_seed([0; 32]), members.clone())
            .map_err(|failure| match failure {
                Failure::Input(why) => Failure::Input(format!("task {name} cannot be made: {why}")),
                other => other,
            })?;
        if !names.insert(name.clone()) {
            return Err(Failure::Usage(format!(
                "--tasks names \"{name}\" twice; `defim task create --name` makes a second one of its kind"
            )));
        }
    }
    Ok(())
}

/// A built-in task.
///
/// # Errors
///
/// [`Failure::Input`] naming what there is.
pub fn builtin_task(name: &str, model: Option<&str>) -> Result<defim_learn::Builtin, Failure> {
    if defim_learn::builtin(name, None).is_none() {
        let all = defim_learn::BUILTIN_NAMES.join(", ");
        return Err(Failure::Input(format!(
            "there is no built-in task \"{name}\"; there are {all}"
        )));
    }
    defim_learn::builtin(name, model).ok_or_else(|| {
        Failure::Input(format!(
            "the task \"{name}\" has no model \"{}\"",
            model.unwrap_or_default()
        ))
    })
}
