//! Rounds: their signed opening and the one list of states that pages, logs and metrics show.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use defim_ledger::light_report_id;
pub use defim_ledger::{Millis, RoundError, RoundNumber, RoundOpened};

use crate::{
    Context, Credential, Digest, NodeId, Reason, ReportId, Signature, SignedText, TaskId,
    VerifiedManifest, credential,
};

/// A round's opening that the task's aggregation node really signed.
#[derive(Debug, Clone)]
pub struct VerifiedRound {
    signed: SignedText,
    opened: RoundOpened,
    /// The one report of each silo that counts more than once or, in a task with enrolment, at all.
    silos: BTreeMap<ReportId, NodeId>,
    /// Whether only enrolled light nodes and the full nodes' silos contribute.
    enrolment: bool,
}

impl VerifiedRound {
    /// Check a signed opening against its task.
    ///
    /// # Errors
    ///
    /// [`RoundError`] with the first thing that is wrong.
    pub fn verify(signed: SignedText, manifest: &VerifiedManifest) -> Result<Self, RoundError> {
        signed.verify(Context::Round, &manifest.aggregation)?;
        let opened: RoundOpened = serde_json::from_str(&signed.payload)
            .map_err(|e| RoundError::Malformed(e.to_string()))?;
        if opened.task != manifest.task() {
            return Err(RoundError::WrongTask {
                expected: manifest.task(),
                found: opened.task,
            });
        }
        if opened.round == 0 || opened.deadline_ms <= opened.opened_ms {
            let RoundOpened {
                round,
                opened_ms,
                deadline_ms,
                ..
            } = opened;
            return Err(RoundError::Unusable {
                round,
                opened_ms,
                deadline_ms,
            });
        }
        for (node, weight) in &opened.weights {
            let known = manifest.members.iter().any(|member| member.node == *node);
            if !known || !(2..=manifest.max_weight).contains(weight) {
                return Err(RoundError::Weight {
                    node: *node,
                    weight: *weight,
                });
            }
        }
        let mut this = Self {
            signed,
            opened,
            silos: BTreeMap::new(),
            enrolment: manifest.admission.is_some(),
        };
        let randomness = this.randomness();
        let members = manifest.members.iter().map(|member| member.node);
        // A full node's key is its silo's credential: it needs no other.
        let named = members.filter(|node| this.enrolment || this.opened.weights.contains_key(node));
        let silos = named.map(|node| (silo_report(&this.opened.task, &randomness, &node), node));
        this.silos = silos.collect();
        Ok(this)
    }

    /// The id of the report of a full node's silo, if the round gives it a weight or the task requires enrolment: neither can
    /// it choose its committee, nor count twice.
    pub fn silo_report(&self, node: &NodeId) -> Option<ReportId> {
        let mut silos = self.silos.iter();
        silos.find(|(_, of)| *of == node).map(|(id, _)| *id)
    }

    /// How often a report counts.
    pub fn weight_of(&self, report: &ReportId) -> u8 {
        let node = self.silos.get(report);
        let weight = node.and_then(|node| self.opened.weights.get(node));
        weight.copied().unwrap_or(1)
    }

    /// By how much these reports count more than once each.
    pub fn extra_weight<'a>(&self, reports: impl IntoIterator<Item = &'a ReportId>) -> u64 {
        let extra = |report| u64::from(self.weight_of(report).saturating_sub(1));
        reports.into_iter().map(extra).sum()
    }

    /// The id of the one report of an enrolled light node: neither can it choose its committee, nor count twice. Nothing if
    /// the task takes reports of anybody.
    pub fn enrolled_report(&self, key: &NodeId) -> Option<ReportId> {
        self.enrolment
            .then(|| light_report_id(&self.opened.task, &self.randomness(), key))
    }

    /// Check that a report has the id of whose it is and is signed by them: the report of a silo, and, in a task with
    /// enrolment, that of a light node. Whether the light node's key is enrolled is another question ([`crate::Enrolled`]).
    ///
    /// # Errors
    ///
    /// [`Reason::NotTheSilos`], [`Reason::NotItsReport`] or, in a task of anybody, [`Reason::UnknownExtension`].
    pub fn authenticate(
        &self,
        report: &ReportId,
        public_share: &[u8],
        credential: Option<&Credential>,
    ) -> Result<(), Reason> {
        let signed = |context, signer: &NodeId, signature: &Signature| {
            credential::verify(context, signer, signature, self, report, public_share)
        };
        match (self.silos.get(report), credential) {
            (Some(node), Some(Credential::Silo(signature))) => {
                signed(Context::Silo, node, signature).map_err(|_| Reason::NotTheSilos)
            }
            (Some(_), _) | (None, Some(Credential::Silo(_))) => Err(Reason::NotTheSilos),
            (None, None) if !self.enrolment => Ok(()),
            (None, None) => Err(Reason::NotItsReport),
            (None, Some(Credential::Enrolled { key, signature })) => {
                let id = self.enrolled_report(key);
                // A full node has its silo's report; another one under the same key would be its second.
                let second = self.silos.values().any(|node| node == key);
                match id.ok_or(Reason::UnknownExtension)? == *report && !second {
                    true => signed(Context::LightReport, key, signature)
                        .map_err(|_| Reason::NotItsReport),
                    false => Err(Reason::NotItsReport),
                }
            }
        }
    }

    /// The text and signature that were verified.
    pub fn signed(&self) -> &SignedText {
        &self.signed
    }

    /// What decides which committee checks which report: a digest of the signed opening. Nobody knows it
    /// before the aggregation node has signed; that node could sign another one.
    pub fn randomness(&self) -> Digest {
        defim_ledger::round_randomness(&self.signed)
    }
}

/// `SHA-256(label, task, randomness, node)`, its first half.
fn silo_report(task: &TaskId, randomness: &Digest, node: &NodeId) -> ReportId {
    let mut hash = Sha256::new_with_prefix(b"defim v1 silo report\0");
    hash.update(task.0);
    hash.update(randomness.0);
    hash.update(node.0);
    let digest: [u8; 32] = hash.finalize().into();
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    ReportId(id)
}

impl std::ops::Deref for VerifiedRound {
    type Target = RoundOpened;

    fn deref(&self) -> &RoundOpened {
        &self.opened
    }
}

/// Where a round stands. One list for every role, one text each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "kebab-case")]
pub enum RoundPhase {
    /// Signed, but not all members have taken it up yet.
    Opening,
    /// Open, with fewer verified reports than a batch needs.
    WaitingForReports {
        /// Verified so far.
        have: u64,
        /// Needed to release the batch.
        need: u64,
    },
    /// Enough reports; open a little longer for more.
    Settling {
        /// Verified so far.
        have: u64,
    },
    /// A committee member does not answer; reports are kept until it does.
    WaitingForMember {
        /// The member's name.
        member: String,
    },
    /// A committee member answers, and refuses; reports are kept while its operator looks at it.
    MemberRefuses {
        /// The member's name.
        member: String,
        /// What it says.
        reason: String,
    },
    /// Closed; the members agree on the batch.
    Closing,
    /// The full nodes encrypt their sums, and the aggregation node adds them.
    Encrypting {
        /// Ciphertexts that have arrived.
        have: u64,
        /// Ciphertexts needed.
        need: u64,
        /// Names of the full nodes whose ciphertext is missing.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        missing: Vec<String>,
    },
    /// The full nodes open the total together.
    Decrypting {
        /// Key shares that have arrived.
        have: u64,
        /// Key shares needed; any of the full nodes will do.
        need: u64,
    },
    /// The new model is published.
    Finished,
    /// Ended without a result; nobody's contribution was used.
    Voided {
        /// Why.
        reason: String,
    },
    /// All rounds of the task are done.
    Complete,
    /// An admin has paused the task.
    Paused,
}

impl RoundPhase {
    /// What a person reads.
    pub fn text(&self) -> String {
        match self {
            Self::Opening => "Opening; the full nodes are taking up the round".into(),
            Self::WaitingForReports { have, need } => {
                let more = need.saturating_sub(*have);
                let noun = if more == 1 {
                    "contribution"
                } else {
                    "contributions"
                };
                format!("Waiting for {more} more {noun}")
            }
            Self::Settling { have } => {
                format!("{have} contributions verified; open a little longer for more")
            }
            Self::WaitingForMember { member } => {
                format!(
                    "Full node {member} does not answer; contributions are kept until it is back"
                )
            }
            Self::Closing => "The committees are agreeing on their batches".into(),
            Self::MemberRefuses { member, reason } => {
                format!("Full node {member} refuses to go on: {reason}")
            }
            Self::Encrypting {
                have,
                need,
                missing,
            } => {
                let waiting = match missing.is_empty() {
                    true => String::new(),
                    false => format!("; waiting for {}", missing.join(" and ")),
                };
                format!("Adding the encrypted sums ({have} of {need} are here{waiting})")
            }
            Self::Decrypting { have, need } => {
                format!(
                    "Opening the total, and nothing but the total ({have} of {need} full nodes have answered)"
                )
            }
            Self::Finished => "Finished; the new model is published".into(),
            Self::Voided { reason } => format!("Ended without a result: {reason}"),
            Self::Complete => "All rounds are done".into(),
            Self::Paused => "Paused by an administrator".into(),
        }
    }

    /// Whether a report sent now can still be counted.
    pub fn accepts_reports(&self) -> bool {
        matches!(
            self,
            Self::WaitingForReports { .. }
                | Self::Settling { .. }
                | Self::WaitingForMember { .. }
                | Self::MemberRefuses { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NodeKey, manifest::tests::manifest};

    #[test]
    fn a_round_of_another_task_or_signer_is_refused() {
        let key = NodeKey::from_seed([9; 32]);
        let task = VerifiedManifest::verify(manifest(&key).sign(&key).unwrap(), None).unwrap();
        let opened = RoundOpened {
            task: task.task(),
            round: 1,
            base_model: Digest([0; 32]),
            opened_ms: 10,
            deadline_ms: 20,
            weights: BTreeMap::new(),
        };
        assert!(VerifiedRound::verify(opened.sign(&key).unwrap(), &task).is_ok());
        let stranger = NodeKey::from_seed([8; 32]);
        assert!(VerifiedRound::verify(opened.sign(&stranger).unwrap(), &task).is_err());
        let elsewhere = RoundOpened {
            task: TaskId([1; 32]),
            ..opened.clone()
        };
        assert!(matches!(
            VerifiedRound::verify(elsewhere.sign(&key).unwrap(), &task),
            Err(RoundError::WrongTask { .. })
        ));
        let backwards = RoundOpened {
            deadline_ms: 5,
            ..opened
        };
        assert!(VerifiedRound::verify(backwards.sign(&key).unwrap(), &task).is_err());
    }

    #[test]
    fn weights_are_the_members_and_within_the_tasks_bound() {
        let key = NodeKey::from_seed([9; 32]);
        let mut manifest = manifest(&key);
        manifest.max_weight = 20;
        let task = VerifiedManifest::verify(manifest.sign(&key).unwrap(), None).unwrap();
        let member = task.members[0].node;
        let verify = |weights: BTreeMap<NodeId, u8>| {
            let opened = RoundOpened {
                task: task.task(),
                round: 1,
                base_model: Digest([0; 32]),
                opened_ms: 10,
                deadline_ms: 20,
                weights,
            };
            VerifiedRound::verify(opened.sign(&key).unwrap(), &task)
        };
        let round = verify(BTreeMap::from([(member, 20)])).unwrap();
        let id = round.silo_report(&member).unwrap();
        assert_eq!(round.weight_of(&id), 20);
        assert_eq!(round.weight_of(&ReportId([0; 16])), 1);
        assert_eq!(round.extra_weight(&[id, ReportId([0; 16])]), 19);
        assert!(
            verify(BTreeMap::new())
                .unwrap()
                .silo_report(&member)
                .is_none()
        );
        for (node, weight) in [(member, 21), (member, 1), (member, 0), (NodeId([5; 32]), 2)] {
            let refused = verify(BTreeMap::from([(node, weight)])).unwrap_err();
            assert_eq!(refused, RoundError::Weight { node, weight });
        }
    }

    #[test]
    fn waiting_is_said_only_while_something_is_missing() {
        let text = RoundPhase::WaitingForReports { have: 2, need: 3 }.text();
        assert_eq!(text, "Waiting for 1 more contribution");
        assert!(RoundPhase::Settling { have: 3 }.accepts_reports());
        assert!(!RoundPhase::Closing.accepts_reports());
        assert!(!RoundPhase::Opening.accepts_reports());
    }
}
