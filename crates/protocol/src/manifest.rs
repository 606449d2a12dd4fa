//! The task manifest: what is learnt, by whom it is verified, and under which limits.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    AdmissionRule, Context, NodeId, Privacy, SignatureError, SignedText, TaskId, limits,
    report::HpkeConfig,
    vdaf::{VdafError, VdafSpec},
};

/// A full node of a task, and the key to which shares for it are sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// The full node.
    pub node: NodeId,
    /// Its name for people.
    pub name: String,
    /// The sealing key.
    pub hpke: HpkeConfig,
}

/// When a round closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Fewest verified reports that a total may be opened of, over all committees.
    pub min_batch: u32,
    /// Most reports of a committee's batch; with this many verified in all, the round closes at once.
    pub max_batch: u32,
    /// How long a round waits for more once it has `min_batch`, in milliseconds.
    pub settle_ms: u64,
    /// How long a round is open at most, in milliseconds. One that is short by then is voided.
    pub round_ms: u64,
    /// How many rounds the task runs; the last model is the result.
    pub rounds: u64,
}

/// What the ledger pays for a task's rounds and bears of them. What is none is the mesh's usual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LedgerTerms {
    /// Points that a finished round pays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget_per_round: Option<u64>,
    /// By how much a round may raise the model's loss on validators' rows, in parts per million of the loss before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerance_ppm: Option<u32>,
    /// How far, in accuracy, the quarter of the votes that the model serves worst may lie behind all, in parts per million.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fairness_gap_ppm: Option<u32>,
}

impl LedgerTerms {
    /// Whether nothing is said.
    pub fn are_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// A task, as its aggregation node signed it. The digest of the exact text is the task id.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Short name, unique on its mesh: `digits`.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// What the task is for and what it does with contributions, in plain words.
    pub summary: String,
    /// The node that adds the aggregate shares and signs this manifest.
    pub aggregation: NodeId,
    /// The full nodes, which make up the committees ([`crate::Committee`]); all of them hold shares of the keys
    /// that sums are encrypted with.
    pub members: Vec<Member>,
    /// How updates are shared and proven.
    pub vdaf: VdafSpec,
    /// When rounds close.
    pub schedule: Schedule,
    /// The promise of differential privacy; none: no noise is added.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub privacy: Option<Privacy>,
    /// How often the report of a full node's silo may count, from 1 to 255: as often as it has rows, up to this.
    #[serde(default = "once", skip_serializing_if = "is_once")]
    pub max_weight: u8,
    /// How a light node comes to be enrolled, without which it cannot contribute; none: anybody contributes, under any
    /// id, any number of times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admission: Option<AdmissionRule>,
    /// What the ledger pays for its rounds and bears of them, where that is not the usual.
    #[serde(default, skip_serializing_if = "LedgerTerms::are_usual")]
    pub ledger: LedgerTerms,
    /// When the task was made, milliseconds since 1970.
    pub created_ms: u64,
    /// The learning specification (schema, model, local training, server step), read by the
    /// roles that train or update; opaque to those that only see shares.
    pub learning: Box<RawValue>,
}

const fn once() -> u8 {
    1
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_once(weight: &u8) -> bool {
    *weight == 1
}

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum ManifestError {
    /// Longer than [`limits::MANIFEST_BYTES`].
    #[error("the task manifest has {0} bytes, more than the {max} allowed", max = limits::MANIFEST_BYTES)]
    TooLong(usize),
    /// The text is another task's.
    #[error(
        "the manifest belongs to task {found}, not to task {expected}; load the task list again"
    )]
    WrongTask {
        /// The task that was asked for.
        expected: TaskId,
        /// The task the text describes.
        found: TaskId,
    },
    /// Not a manifest.
    #[error("the task manifest cannot be read: {0}")]
    Malformed(String),
    /// Not signed by its aggregation node.
    #[error("the task manifest is not to be trusted: {0}")]
    Signature(#[from] SignatureError),
    /// A value is out of its range.
    #[error("the task manifest is unusable: {0}")]
    Unusable(String),
    /// The VDAF's parameters are refused.
    #[error("the task manifest is unusable: {0}")]
    Vdaf(#[from] VdafError),
}

impl Manifest {
    /// Check every value against its range.
    ///
    /// # Errors
    ///
    /// [`ManifestError::Unusable`] or [`ManifestError::Vdaf`] with what is wrong.
    pub fn validate(&self) -> Result<(), ManifestError> {
        let unusable = |what: String| Err(ManifestError::Unusable(what));
        let name_ok = !self.name.is_empty()
            && self.name.len() <= limits::NAME_CHARS
            && self
                .name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !name_ok {
            return unusable(format!(
                "the name \"{}\" must be 1 to {} characters out of a-z, 0-9 and '-'",
                self.name,
                limits::NAME_CHARS
            ));
        }
        if !(2..=limits::MEMBERS).contains(&self.members.len()) {
            return unusable(format!(
                "a task has from 2 to {} full nodes; this one has {}",
                limits::MEMBERS,
                self.members.len()
            ));
        }
        if self.members.len() < usize::from(self.vdaf.shares) {
            return unusable(format!(
                "reports have {} shares for only {} full nodes; each share is another one's",
                self.vdaf.shares,
                self.members.len()
            ));
        }
        for (index, member) in self.members.iter().enumerate() {
            // One company in two seats of a committee would hold two shares of a contribution.
            if self
                .members
                .iter()
                .skip(index + 1)
                .any(|other| other.node == member.node)
            {
                return unusable(format!("full node {} is named twice", member.node));
            }
        }
        let Schedule {
            min_batch,
            max_batch,
            round_ms,
            rounds,
            ..
        } = self.schedule;
        // A batch of one is that one person's update.
        if min_batch < 2 {
            return unusable(format!(
                "min_batch is {min_batch}; below 2 a total would show a single contribution"
            ));
        }
        if max_batch < min_batch || max_batch as usize > limits::BATCH_REPORTS {
            return unusable(format!(
                "max_batch is {max_batch}; it must be from min_batch ({min_batch}) to {}",
                limits::BATCH_REPORTS
            ));
        }
        if round_ms == 0 || rounds == 0 {
            return unusable("round_ms and rounds must be at least 1".into());
        }
        if self.max_weight == 0 {
            return unusable("max_weight is 0; it must be from 1 to 255".into());
        }
        let budget = self.ledger.budget_per_round;
        if budget.is_some_and(|points| points == 0 || points.checked_mul(rounds).is_none()) {
            return unusable(format!(
                "a round pays {} points; it must be at least one, and {rounds} rounds no more than 2^64",
                budget.unwrap_or_default()
            ));
        }
        if self.ledger.fairness_gap_ppm.is_some() && self.vdaf.votes == 0 {
            return unusable(
                "a fairness gap is for tasks with quality votes; this one has none".into(),
            );
        }
        // One report more and a sum could wrap, and be read as another. A committee does not know how many
        // reports the others have.
        let committees = self.members.len() * (self.members.len() - 1);
        let mut most = u64::from(max_batch).saturating_mul(committees as u64);
        most = most.saturating_add(self.most_extra_weight());
        if let Some(privacy) = &self.privacy {
            privacy
                .check(&self.vdaf, self.max_weight, rounds)
                .map_err(|e| {
                    ManifestError::Unusable(format!(
                        "epsilon {} and delta {} are not kept for {rounds} rounds: {e}",
                        privacy.epsilon, privacy.delta
                    ))
                })?;
            // More than 30 standard deviations of noise never come up.
            let deviation = privacy
                .deviation(&self.vdaf, self.members.len())
                .map_err(|e| ManifestError::Unusable(e.to_string()))?;
            most = most.saturating_add((30.0 * deviation).ceil() as u64);
        }
        self.vdaf.check_batch(most)?;
        Ok(())
    }

    /// How many full nodes it takes to open a sum: two thirds, rounded up, and never fewer than it takes to open a
    /// report.
    pub fn opening_nodes(&self) -> usize {
        let two_thirds = (self.members.len() * 2).div_ceil(3);
        two_thirds.max(usize::from(self.vdaf.shares))
    }

    /// By how much the silos' reports of a round can count more than once each.
    pub fn most_extra_weight(&self) -> u64 {
        self.members.len() as u64 * u64::from(self.max_weight.saturating_sub(1))
    }

    /// Sign this manifest. The result's text decides the task id.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] if a value is out of its range.
    pub fn sign(&self, key: &crate::NodeKey) -> Result<SignedText, ManifestError> {
        self.validate()?;
        let text =
            serde_json::to_string(self).map_err(|e| ManifestError::Malformed(e.to_string()))?;
        Ok(SignedText::sign(Context::Manifest, text, key))
    }
}

/// A manifest whose text has the expected digest, whose signature holds and whose values are in range.
#[derive(Debug, Clone)]
pub struct VerifiedManifest(Arc<Verified>);

#[derive(Debug)]
struct Verified {
    task: TaskId,
    signed: SignedText,
    manifest: Manifest,
}

impl VerifiedManifest {
    /// Check a signed manifest.
    ///
    /// # Errors
    ///
    /// [`ManifestError`] with the first thing that is wrong: length, digest, form, signature, values.
    pub fn verify(signed: SignedText, expected: Option<TaskId>) -> Result<Self, ManifestError> {
        if signed.payload.len() > limits::MANIFEST_BYTES {
            return Err(ManifestError::TooLong(signed.payload.len()));
        }
        let task = TaskId::of_manifest(&signed.payload);
        if let Some(expected) = expected.filter(|expected| *expected != task) {
            return Err(ManifestError::WrongTask {
                expected,
                found: task,
            });
        }
        let manifest: Manifest = serde_json::from_str(&signed.payload)
            .map_err(|e| ManifestError::Malformed(e.to_string()))?;
        signed.verify(Context::Manifest, &manifest.aggregation)?;
        manifest.validate()?;
        Ok(Self(Arc::new(Verified {
            task,
            signed,
            manifest,
        })))
    }

    /// The task id.
    pub fn task(&self) -> TaskId {
        self.0.task
    }

    /// The text and signature that were verified.
    pub fn signed(&self) -> &SignedText {
        &self.0.signed
    }

    /// A full node's place among the members, from 0; also that of its key shares.
    pub fn place(&self, node: &NodeId) -> Option<usize> {
        self.members.iter().position(|member| member.node == *node)
    }

    /// A full node of the task.
    pub fn member(&self, node: &NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == *node)
    }
}

impl std::ops::Deref for VerifiedManifest {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.0.manifest
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{NodeKey, seal::SealingKey};

    pub(crate) fn manifest(key: &NodeKey) -> Manifest {
        manifest_of(key, 2)
    }

    pub(crate) fn manifest_of(key: &NodeKey, members: u8) -> Manifest {
        let member = |n: u8| Member {
            node: NodeKey::from_seed([n; 32]).id(),
            name: format!("full-{n}"),
            hpke: SealingKey::from_seed(n, [n; 32]).config(),
        };
        Manifest {
            name: "digits".into(),
            title: "Read digits".into(),
            summary: "A test.".into(),
            aggregation: key.id(),
            members: (1..=members).map(member).collect(),
            vdaf: VdafSpec {
                scheme: crate::vdaf::Scheme::Pine64,
                dimension: 4,
                frac_bits: 15,
                shares: 2,
                votes: 0,
            },
            schedule: Schedule {
                min_batch: 2,
                max_batch: 10,
                settle_ms: 0,
                round_ms: 1000,
                rounds: 3,
            },
            privacy: None,
            max_weight: 1,
            admission: None,
            ledger: LedgerTerms::default(),
            created_ms: 0,
            learning: RawValue::from_string("{}".into()).unwrap(),
        }
    }

    #[test]
    fn the_task_id_is_bound_to_the_exact_text() {
        let key = NodeKey::from_seed([9; 32]);
        let signed = manifest(&key).sign(&key).unwrap();
        let verified = VerifiedManifest::verify(signed.clone(), None).unwrap();
        assert_eq!(verified.task(), TaskId::of_manifest(&signed.payload));
        let error = VerifiedManifest::verify(signed.clone(), Some(TaskId([0; 32]))).unwrap_err();
        assert!(matches!(error, ManifestError::WrongTask { .. }));
        let mut changed = signed;
        changed.payload = changed
            .payload
            .replace("\"min_batch\":2", "\"min_batch\":3");
        assert!(matches!(
            VerifiedManifest::verify(changed, None).unwrap_err(),
            ManifestError::Signature(_)
        ));
    }

    #[test]
    fn unsafe_values_are_refused() {
        let key = NodeKey::from_seed([9; 32]);
        let refused = |change: &dyn Fn(&mut Manifest)| {
            let mut m = manifest(&key);
            change(&mut m);
            m.sign(&key).unwrap_err().to_string()
        };
        assert!(refused(&|m| m.schedule.min_batch = 1).contains("single contribution"));
        assert!(refused(&|m| m.members[1] = m.members[0].clone()).contains("twice"));
        assert!(refused(&|m| m.name = "No Spaces".into()).contains("a-z"));
        assert!(refused(&|m| m.members.truncate(1)).contains("from 2 to 32"));
        assert!(refused(&|m| m.vdaf.dimension = 0).contains("dimension"));
        assert!(refused(&|m| m.max_weight = 0).contains("max_weight"));
        // Without weights the text, and so the task, is what it always was.
        let text = |m: &Manifest| m.sign(&key).unwrap().payload;
        let mut weighed = manifest(&key);
        assert!(!text(&weighed).contains("max_weight"));
        weighed.max_weight = 3;
        assert!(text(&weighed).contains("\"max_weight\":3"));
        // Nor does it change where nobody has to enrol.
        let mut enrolled = manifest(&key);
        assert!(!text(&enrolled).contains("admission"));
        enrolled.admission = Some(AdmissionRule::Invite);
        assert!(text(&enrolled).contains("\"admission\":\"invite\""));
        // The same of two shares.
        let mut three = manifest_of(&key, 3);
        assert!(!text(&three).contains("shares"));
        assert_eq!(three.opening_nodes(), 2);
        three.vdaf.shares = 3;
        assert!(text(&three).contains("\"frac_bits\":15,\"shares\":3}"));
        assert_eq!(three.opening_nodes(), 3, "two of three open nothing");
        assert!(refused(&|m| m.vdaf.shares = 3).contains("3 shares for only 2 full nodes"));
        assert!(refused(&|m| m.vdaf.shares = 1).contains("from 2 to 3"));
        three.vdaf.shares = 4;
        three.members = manifest_of(&key, 5).members;
        assert!(three.sign(&key).is_err());
        // Noise that is too little for what is promised.
        let vdaf = manifest(&key).vdaf;
        let kept = Privacy::new(&vdaf, 1, 1.0, 1e-5, 3).unwrap();
        let mut private = manifest(&key);
        private.privacy = Some(kept);
        assert!(private.sign(&key).is_ok());
        assert!(
            refused(&|m| {
                m.privacy = Some(kept);
                m.max_weight = 2;
            })
            .contains("not kept for 3 rounds")
        );
        let less = Privacy {
            variance: kept.variance - kept.variance / 1000,
            ..kept
        };
        assert!(refused(&|m| m.privacy = Some(less)).contains("not kept for 3 rounds"));
        let longer = |m: &mut Manifest| {
            m.privacy = Some(kept);
            m.schedule.rounds = 4;
        };
        assert!(refused(&longer).contains("not kept for 4 rounds"));
        let none = Privacy {
            epsilon: f64::NAN,
            ..kept
        };
        assert!(refused(&|m| m.privacy = Some(none)).contains("epsilon"));
    }
}
