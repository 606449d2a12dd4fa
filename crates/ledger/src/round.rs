//! Rounds: the signed statement that opens one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{Context, Digest, NodeId, NodeKey, ReportId, SignatureError, SignedText, TaskId};

/// Milliseconds since 1970, or a length of time in milliseconds.
pub type Millis = u64;
/// A task's rounds are numbered from 1.
pub type RoundNumber = u64;

/// The statement that opens a round, signed by the task's aggregation node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
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
    /// Full nodes whose silo's report counts more than once: how many times. All other reports count once.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub weights: BTreeMap<NodeId, u8>,
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
    /// A weight that the task does not allow, or a stranger's.
    #[error(
        "the round's opening gives node {node} the weight {weight}, which the task does not allow"
    )]
    Weight {
        /// The node.
        node: NodeId,
        /// Its weight.
        weight: u8,
    },
}

impl RoundOpened {
    /// Sign the opening.
    ///
    /// # Errors
    ///
    /// [`RoundError::Malformed`] if it cannot be written as JSON.
    pub fn sign(&self, key: &NodeKey) -> Result<SignedText, RoundError> {
        let text = serde_json::to_string(self).map_err(|e| RoundError::Malformed(e.to_string()))?;
        Ok(SignedText::sign(Context::Round, text, key))
    }

    /// Read an opening's text.
    ///
    /// # Errors
    ///
    /// [`RoundError::Malformed`].
    pub fn read(text: &str) -> Result<Self, RoundError> {
        serde_json::from_str(text).map_err(|e| RoundError::Malformed(e.to_string()))
    }
}

/// What decides which committee checks which report: a digest of the signed opening. Nobody knows it
/// before the aggregation node has signed; that node could sign another one.
pub fn round_randomness(opening: &SignedText) -> Digest {
    signed_digest(opening)
}

/// Digest of a signed text with its signature.
pub fn signed_digest(signed: &SignedText) -> Digest {
    Digest::of(&[signed.payload.as_bytes(), signed.signature.as_slice()].concat())
}

/// The one id that a light node's report of a round can have: the first 16 bytes of
/// `SHA-256("defim v1 light report\0", task, randomness, key)`. So it neither chooses its committee nor
/// counts twice, and its receipt is bound to the key that is paid.
pub fn light_report_id(task: &TaskId, randomness: &Digest, key: &NodeId) -> ReportId {
    let mut hash = Sha256::new_with_prefix(b"defim v1 light report\0");
    hash.update(task.0);
    hash.update(randomness.0);
    hash.update(key.0);
    let digest: [u8; 32] = hash.finalize().into();
    ReportId(*digest.first_chunk().unwrap_or(&[0; 16]))
}
