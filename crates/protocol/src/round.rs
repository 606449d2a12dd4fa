//! Rounds: their signed opening and the one list of states that pages, logs and metrics show.

use serde::{Deserialize, Serialize};

use crate::{Context, Digest, SignatureError, SignedText, TaskId, VerifiedManifest};

/// Milliseconds since 1970, or a length of time in milliseconds.
pub type Millis = u64;
/// A task's rounds are numbered from 1.
pub type RoundNumber = u64;

/// The statement that opens a round, signed by the task's aggregation node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundOpened {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// Digest of the model that contributions start from.
    pub base_model: Digest,
    /// When the round opened.
    pub opened_ms: Millis,
    /// Reports that arrive after this are too late.
    pub deadline_ms: Millis,
}

/// Why a round's opening is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoundError {
    /// Not readable.
    #[error("the round's opening cannot be read: {0}")]
    Malformed(String),
    /// Not signed by the task's aggregation node.
    #[error("the round's opening is not to be trusted: {0}")]
    Signature(#[from] SignatureError),
    /// Another task's round.
    #[error("the round belongs to task {found}, not to task {expected}")]
    WrongTask {
        /// The task in question.
        expected: TaskId,
        /// The task of the text.
        found: TaskId,
    },
    /// Rounds start at 1 and end after they begin.
    #[error(
        "the round's opening is unusable: round {round}, open from {opened_ms} to {deadline_ms}"
    )]
    Unusable {
        /// Its number.
        round: RoundNumber,
        /// Its opening.
        opened_ms: Millis,
        /// Its deadline.
        deadline_ms: Millis,
    },
}

impl RoundOpened {
    /// Sign the opening.
    ///
    /// # Errors
    ///
    /// [`RoundError::Malformed`] if it cannot be written as JSON.
    pub fn sign(&self, key: &crate::NodeKey) -> Result<SignedText, RoundError> {
        let text = serde_json::to_string(self).map_err(|e| RoundError::Malformed(e.to_string()))?;
        Ok(SignedText::sign(Context::Round, text, key))
    }
}

/// A round's opening that the task's aggregation node really signed.
#[derive(Debug, Clone)]
pub struct VerifiedRound {
    signed: SignedText,
    opened: RoundOpened,
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
        Ok(Self { signed, opened })
    }

    /// The text and signature that were verified.
    pub fn signed(&self) -> &SignedText {
        &self.signed
    }

    /// What decides which committee checks which report: a digest of the signed opening. Nobody knows it
    /// before the aggregation node has signed; that node could sign another one.
    pub fn randomness(&self) -> Digest {
        let signature = self.signed.signature.as_slice();
        Digest::of(&[self.signed.payload.as_bytes(), signature].concat())
    }
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
        };
        assert!(VerifiedRound::verify(opened.sign(&key).unwrap(), &task).is_ok());
        let stranger = NodeKey::from_seed([8; 32]);
        assert!(VerifiedRound::verify(opened.sign(&stranger).unwrap(), &task).is_err());
        let elsewhere = RoundOpened {
            task: TaskId([1; 32]),
            ..opened
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
    fn waiting_is_said_only_while_something_is_missing() {
        let text = RoundPhase::WaitingForReports { have: 2, need: 3 }.text();
        assert_eq!(text, "Waiting for 1 more contribution");
        assert!(RoundPhase::Settling { have: 3 }.accepts_reports());
        assert!(!RoundPhase::Closing.accepts_reports());
        assert!(!RoundPhase::Opening.accepts_reports());
    }
}
