//! Messages between servers. Each travels as one frame: its kind, then `postcard` bytes, which are
//! the same for equal values.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    CommitteeIndex, Millis, Reason, ReportId, RoundNumber, RoundPhase, SignedText, TaskId, limits,
};

/// A stream protocol, named as libp2p names them.
pub mod protocol {
    /// Light node to leader: one resumable upload.
    pub const UPLOAD: &str = "/defim/upload/1";
    /// Anybody to full node: encrypted features, encrypted scores.
    pub const SCORE: &str = "/defim/score/1";
    /// Server to server: one request, one answer.
    pub const SERVER: &str = "/defim/server/1";
}

/// A message does not decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Not the bytes of this message.
    #[error("the message is not a {0}")]
    Malformed(&'static str),
    /// Longer than allowed.
    #[error("the message has {0} bytes, more than the {max} allowed", max = limits::SERVER_MESSAGE_BYTES)]
    TooLong(usize),
}

/// What one server asks another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Aggregation node to member: serve this task.
    ServeTask(SignedText),
    /// Aggregation node to member: this round is open (any earlier one is over).
    OpenRound {
        /// The task.
        task: TaskId,
        /// The signed [`crate::RoundOpened`].
        round: SignedText,
    },
    /// Aggregation node to member: the task takes no reports for now, or takes them again.
    Pause {
        /// The task.
        task: TaskId,
        /// Whether it is paused.
        paused: bool,
    },
    /// Leader to helper: prepare these reports.
    Prepare(PrepareRequest),
    /// Leader to helper: agree on this batch.
    Close {
        /// The leader's signed [`crate::batch::BatchSummary`].
        summary: SignedText,
        /// The accepted ids, ascending.
        ids: Vec<ReportId>,
        /// Ids that the helper verified and the leader refused, ascending; counted as refused.
        refused: Vec<ReportId>,
    },
    /// Aggregation node to full node: the round takes no more reports; close the batches of the committees
    /// that you lead. Asked again until all of them are closed.
    CloseRound {
        /// The task.
        task: TaskId,
        /// The round.
        round: RoundNumber,
    },
    /// Aggregation node to full node: encrypt your sum over these batches.
    Encrypt(SelectedBatches),
    /// Aggregation node to full node: answer with your share of the sum of these keys.
    OpenSum(OpenSum),
    /// Leader to aggregation node: where the round stands.
    Progress(Progress),
    /// Aggregation node to member: are you there, and where are you reached?
    Hello,
    /// Leader to each helper of three shares: begin to prepare these reports. There is no message of the leader's in it.
    Collect(PrepareRequest),
    /// Leader to each helper of three shares: finish what was begun.
    Finish(FinishRequest),
    /// Leader to each helper of three shares: would you sign this batch? It signs nothing yet: of two helpers, neither
    /// is to stand for a batch that the other one does not agree to. As [`Request::Close`].
    Check {
        /// The leader's signed [`crate::batch::BatchSummary`].
        summary: SignedText,
        /// The accepted ids, ascending.
        ids: Vec<ReportId>,
        /// Ids that this helper verified and the leader refused, ascending; counted as refused.
        refused: Vec<ReportId>,
    },
}

/// What the other server answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Response {
    /// Done, or already done before.
    Done,
    /// To [`Request::Prepare`] and [`Request::Finish`]: one answer a report, in the order of the request.
    Prepared(Vec<PrepareAnswer>),
    /// To [`Request::Close`]: the helper agrees; its signature over the same text.
    Agreed(SignedText),
    /// Refused for good.
    Refused(String),
    /// Not now; ask again.
    Later(String),
    /// To [`Request::Hello`].
    Here(Here),
    /// To [`Request::CloseRound`]: the committees that this node leads and has closed so far.
    Closed(Vec<ClosedBatch>),
    /// To [`Request::Encrypt`].
    Encrypted(Box<Submission>),
    /// To [`Request::OpenSum`]: the encoded share of the sum of the keys.
    SumShare(#[serde(with = "serde_bytes")] Vec<u8>),
    /// To [`Request::Check`] and [`Request::Close`]: the batch is not that of all reports verified here. Nothing was signed.
    Differs {
        /// Verified here, and neither accepted nor refused in the question.
        missing: Vec<ReportId>,
        /// In the question, and not verified here.
        unknown: Vec<ReportId>,
    },
    /// To [`Request::Collect`]: one answer a report, in the order of the request.
    Collected(Vec<CollectAnswer>),
    /// To [`Request::Check`]: the helper would sign it.
    WouldAgree,
}

/// What a full node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Here {
    /// Its multiaddresses.
    pub addresses: Vec<String>,
    /// How many rows its silo has for a task, where it has contributed them.
    pub silo_rows: Vec<(TaskId, u64)>,
}

/// Reports that a leader asks its helper to prepare.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareRequest {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// The committee.
    pub committee: CommitteeIndex,
    /// The committee's key for the proofs' challenges; secret from clients. The helper takes the
    /// first one it is told for a task and refuses any other.
    pub verify_key: [u8; crate::vdaf::VERIFY_KEY_BYTES],
    /// The reports.
    pub reports: Vec<PrepareInit>,
}

/// One report for the helper.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrepareInit {
    /// Its id.
    pub id: ReportId,
    /// When it was made, seconds since 1970.
    pub time_s: u64,
    /// The public share.
    #[serde(with = "serde_bytes")]
    pub public_share: Vec<u8>,
    /// The helper's sealed share, encoded.
    #[serde(with = "serde_bytes")]
    pub sealed: Vec<u8>,
    /// The leader's first preparation message, encoded; empty with three shares.
    #[serde(with = "serde_bytes")]
    pub message: Vec<u8>,
}

impl std::fmt::Debug for PrepareRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "PrepareRequest({}, round {}, {} reports)",
            self.task,
            self.round,
            self.reports.len()
        )
    }
}

impl std::fmt::Debug for PrepareInit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PrepareInit({})", self.id)
    }
}

/// The helper's answer for one report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PrepareAnswer {
    /// Verified: the preparation message with which the leader finishes; empty with three shares.
    Verified(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Refused.
    Rejected(Reason),
}

/// A helper's answer for one report of three shares that it begins to prepare.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum CollectAnswer {
    /// Its prepare share, encoded.
    Share(#[serde(with = "serde_bytes")] Vec<u8>),
    /// Refused.
    Rejected(Reason),
}

impl std::fmt::Debug for CollectAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Share(share) => write!(f, "Share({} bytes)", share.len()),
            Self::Rejected(reason) => write!(f, "Rejected({reason:?})"),
        }
    }
}

/// Reports of three shares that a leader asks its helpers to finish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishRequest {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// The committee.
    pub committee: CommitteeIndex,
    /// The reports.
    pub reports: Vec<(ReportId, FinishWith)>,
}

/// How a report of three shares is finished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FinishWith {
    /// With the prepare message that came of all prepare shares, encoded.
    Message(#[serde(with = "serde_bytes")] Vec<u8>),
    /// It is refused: by another member, or because all prepare shares together show that its proof does not hold.
    Refusal(Reason),
}

/// How a committee's round ended at its leader.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedBatch {
    /// The committee.
    pub committee: CommitteeIndex,
    /// All members' signatures over one [`crate::batch::BatchSummary`], leader first; none if the committee
    /// has no batch in this round.
    pub signatures: Vec<SignedText>,
    /// Reports that were refused, by [`Reason::code`]; with a batch, its summary counts.
    pub rejected: Vec<(u16, u64)>,
    /// The accepted reports, ascending: those under the summary's root. They are public: receipts are made of them.
    pub ids: Vec<ReportId>,
}

/// The batches that are added, with the proof that their committees agreed on them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectedBatches {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// The signed [`crate::sum::Selection`].
    pub selection: SignedText,
    /// The signatures of each of its batches, in the order of the committees.
    pub signatures: Vec<Vec<SignedText>>,
}

/// A full node's encrypted sum over the selected batches.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submission {
    /// The signed [`crate::sum::EncryptedSum`].
    pub statement: SignedText,
    /// The encoded ciphertext.
    #[serde(with = "serde_bytes")]
    pub ciphertext: Vec<u8>,
    /// The sealed share of the key for each full node of the task, encoded, in the manifest's order.
    pub key_shares: Vec<SealedBytes>,
}

/// Something sealed for one node, encoded.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedBytes(#[serde(with = "serde_bytes")] pub Vec<u8>);

/// What a holder of key shares needs to see before it answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenSum {
    /// The batches.
    pub selected: SelectedBatches,
    /// The signed [`crate::sum::SumOpening`].
    pub opening: SignedText,
    /// The signed [`crate::sum::EncryptedSum`] of each node of the set, by ascending node id.
    pub statements: Vec<SignedText>,
    /// The share of each node's key that is sealed for this holder, in the same order.
    pub key_shares: Vec<SealedBytes>,
}

impl std::fmt::Debug for Submission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Submission({}, {} bytes)",
            self.statement.payload,
            self.ciphertext.len()
        )
    }
}

impl std::fmt::Debug for SealedBytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SealedBytes({} bytes)", self.0.len())
    }
}

/// Where a round stands at the leader of one of its committees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// The committee.
    pub committee: CommitteeIndex,
    /// The phase, as JSON (its form is tagged, which `postcard` cannot carry).
    #[serde(with = "as_json")]
    pub phase: RoundPhase,
    /// Reports stored and not yet prepared.
    pub pending: u64,
    /// Reports verified by all members.
    pub verified: u64,
    /// Reports refused, by [`Reason::code`].
    pub rejected: Vec<(u16, u64)>,
    /// When this was so.
    pub at_ms: Millis,
}

/// Encode a message.
///
/// # Errors
///
/// [`WireError::TooLong`] over [`limits::SERVER_MESSAGE_BYTES`].
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, WireError> {
    let bytes = postcard::to_allocvec(message)
        .map_err(|_| WireError::Malformed(std::any::type_name::<T>()))?;
    if bytes.len() > limits::SERVER_MESSAGE_BYTES {
        return Err(WireError::TooLong(bytes.len()));
    }
    Ok(bytes)
}

/// Decode a message; bytes left over are an error.
///
/// # Errors
///
/// [`WireError::Malformed`].
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, WireError> {
    let malformed = || WireError::Malformed(std::any::type_name::<T>());
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(|_| malformed())?;
    if rest.is_empty() {
        Ok(message)
    } else {
        Err(malformed())
    }
}

mod as_json {
    use serde::{Deserialize as _, Deserializer, Serialize, Serializer, de::DeserializeOwned};

    pub fn serialize<T: Serialize, S: Serializer>(value: &T, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&serde_json::to_string(value).map_err(serde::ser::Error::custom)?)
    }

    pub fn deserialize<'de, T: DeserializeOwned, D: Deserializer<'de>>(
        d: D,
    ) -> Result<T, D::Error> {
        serde_json::from_str(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_round_trip_and_refuse_what_is_cut_or_longer() {
        let message = Request::Progress(Progress {
            task: TaskId([3; 32]),
            round: 7,
            committee: 2,
            phase: RoundPhase::WaitingForReports { have: 1, need: 2 },
            pending: 4,
            verified: 1,
            rejected: vec![(6, 2)],
            at_ms: 99,
        });
        let bytes = encode(&message).unwrap();
        assert_eq!(decode::<Request>(&bytes).unwrap(), message);
        for cut in 0..bytes.len() {
            assert!(decode::<Request>(&bytes[..cut]).is_err());
        }
        assert!(decode::<Request>(&[bytes.as_slice(), &[0]].concat()).is_err());
    }

    /// What a node says that knows of two shares only must stay what it is.
    #[test]
    fn what_was_said_before_there_were_three_shares_has_the_same_bytes() {
        let first = |request: &Request| encode(request).unwrap()[0];
        let prepare = PrepareRequest {
            task: TaskId([3; 32]),
            round: 7,
            committee: 2,
            verify_key: [4; crate::vdaf::VERIFY_KEY_BYTES],
            reports: vec![PrepareInit {
                id: ReportId([5; 16]),
                time_s: 6,
                public_share: vec![7],
                sealed: vec![8, 9],
                message: vec![10],
            }],
        };
        let bytes = encode(&Request::Prepare(prepare.clone())).unwrap();
        let expected = [
            &[3][..],
            &[3; 32],
            &[7, 2],
            &[4; 32],
            &[1],
            &[5; 16],
            &[6, 1, 7, 2, 8, 9, 1, 10],
        ];
        assert_eq!(bytes, expected.concat());
        assert_eq!(first(&Request::Hello), 9);
        assert_eq!(first(&Request::Collect(prepare)), 10);
        let answers = Response::Prepared(vec![
            PrepareAnswer::Verified(vec![1, 2]),
            PrepareAnswer::Rejected(Reason::TooLate),
        ]);
        assert_eq!(encode(&answers).unwrap(), [1, 2, 0, 2, 1, 2, 1, 3]);
        let differs = Response::Differs {
            missing: Vec::new(),
            unknown: Vec::new(),
        };
        assert_eq!(encode(&differs).unwrap(), [9, 0, 0]);
        assert_eq!(encode(&Response::Collected(Vec::new())).unwrap(), [10, 0]);
        assert_eq!(encode(&Response::WouldAgree).unwrap(), [11]);
    }
}
