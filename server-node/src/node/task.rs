//! What a task is made from.

use defim_learn::LearningSpec;
use defim_protocol::{AdmissionRule, Schedule, vdaf::Scheme};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::aggregation::NewTask;
use crate::failure::Failure;

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
                })
            }
            _ => Err(Failure::Input(
                "a task needs either \"builtin\" or \"learning\"".into(),
            )),
        }
    }
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
