//! What a transaction asks for.

use serde::{Deserialize, Serialize};

use crate::{
    BatchSummary, CommitteeIndex, Context, Digest, Evidence, Millis, NodeId, NodeKey, ReportId,
    RoundNumber, Signature, SignatureError, SignedText, TaskId, TaskTerms, merkle,
};

/// What a server node does in the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Checks reports in committees, encrypts and opens sums.
    Full,
    /// Adds encrypted sums, opens rounds, publishes models.
    Aggregation,
    /// Repeats every public step and agrees on blocks.
    Validation,
}

/// What a transaction asks for. The order is that of the encoding: new kinds go to the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Body {
    /// Give part of the sender's balance to another account.
    Transfer {
        /// Who gets it.
        to: NodeId,
        /// How much.
        amount: u64,
    },
    /// An admin lets a server node take part, or changes its name or address.
    EnrolNode {
        /// The node.
        node: NodeId,
        /// What it does.
        role: Role,
        /// Its name for people.
        name: String,
        /// Where it listens.
        address: String,
    },
    /// An admin lets a server node take part no longer.
    RemoveNode {
        /// The node.
        node: NodeId,
    },
    /// An admin says who the admins are, in ascending order.
    SetAdmins {
        /// The admins.
        admins: Vec<NodeId>,
    },
    /// An admin says who the validators are from an epoch on, in ascending order.
    SetValidators {
        /// The validators; each is enrolled.
        set: Vec<NodeId>,
        /// The first epoch that they agree on.
        from_epoch: u64,
    },
    /// An admin puts a task on the ledger.
    CreateTask(CreateTask),
    /// Give part of the sender's balance to a task. Only admins can take it out again ([`Body::CloseTask`]).
    FundTask {
        /// The task.
        task: TaskId,
        /// How much.
        amount: u64,
    },
    /// An admin stops a task from opening rounds, or lets it go on.
    PauseTask {
        /// The task.
        task: TaskId,
        /// Whether it is paused from now on.
        paused: bool,
    },
    /// An admin ends a task. Its open round is voided; its budget goes to the sender. Claims go on.
    CloseTask {
        /// The task.
        task: TaskId,
    },
    /// An admin makes an invite.
    CreateInvite {
        /// The task.
        task: TaskId,
        /// The invite's public key.
        invite: NodeId,
        /// How many light nodes it admits.
        uses: u32,
        /// It admits nobody after this.
        until_ms: Millis,
    },
    /// Let a light node take part in a task.
    EnrolLight {
        /// The task.
        task: TaskId,
        /// The light node's key for this task. It is the sender, unless an admin approves it.
        key: NodeId,
        /// By what right.
        by: Admission,
    },
    /// An admin lets a light node take part no longer.
    RemoveLight {
        /// The task.
        task: TaskId,
        /// The light node's key.
        key: NodeId,
    },
    /// The aggregation node opens a round.
    RoundOpened {
        /// The signed [`crate::RoundOpened`].
        statement: SignedText,
    },
    /// A committee has agreed on its batch; one of its members or the aggregation node says so.
    BatchClosed {
        /// All members' signatures over one [`BatchSummary`], leader first.
        statements: Vec<SignedText>,
    },
    /// The aggregation node has opened a total.
    Opened(Opened),
    /// The aggregation node proposes a model.
    ModelUpdated(ModelUpdated),
    /// A validator's verdict on a proposed model.
    Vote(Vote),
    /// The aggregation node gives a round up. Nobody is paid.
    RoundVoided {
        /// The task.
        task: TaskId,
        /// The round.
        round: RoundNumber,
        /// Why, in plain words.
        reason: String,
        /// Digest of bytes that show it.
        evidence: Option<Digest>,
    },
    /// A light node takes its reward for a finished round.
    Claim(Claim),
    /// Anybody shows that a node has signed what an honest one never does.
    Slash {
        /// The node.
        node: NodeId,
        /// What it signed.
        evidence: Evidence,
    },
}

/// A new task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTask {
    /// Digest of the manifest's text.
    pub task: TaskId,
    /// Digest of the signed manifest ([`crate::signed_digest`]).
    pub manifest: Digest,
    /// The model that round 1 starts from.
    pub model: Digest,
    /// The terms.
    pub terms: TaskTerms,
}

/// By what right a light node takes part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// The task is open to anybody.
    Open,
    /// Its person knows an invite's code.
    Invite {
        /// The invite's public key.
        invite: NodeId,
        /// The invite's signature over the task and the light node's key ([`Admission::invited`]).
        signature: Signature,
    },
    /// The sender is an admin.
    Approved,
}

impl Admission {
    /// Admit a light node with an invite's key, which is made from its code
    /// ([`crate::InviteCode`]). Whoever sees the admission learns nothing
    /// that admits another key.
    pub fn invited(invite: &NodeKey, task: &TaskId, light: &NodeId) -> Self {
        Self::Invite {
            invite: invite.id(),
            signature: invite.sign(Context::Invite, &invitation(task, light)),
        }
    }
}

/// Check an invite's signature.
pub(crate) fn verify_invitation(
    invite: &NodeId,
    signature: &Signature,
    task: &TaskId,
    light: &NodeId,
) -> Result<(), SignatureError> {
    signature.verify(Context::Invite, &invitation(task, light), invite)
}

fn invitation(task: &TaskId, light: &NodeId) -> Vec<u8> {
    [task.0, light.0].concat()
}

/// What the aggregation node opened, as digests; the bytes are fetched from it and checked by validators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// Digest of the selection's text.
    pub selection: Digest,
    /// The selected committees, ascending.
    pub batches: Vec<CommitteeIndex>,
    /// Every node of these committees, ascending, with the root of its ciphertext.
    pub ciphertexts: Vec<(NodeId, Digest)>,
    /// Root of the ciphertexts' sum.
    pub sum: Digest,
    /// Digest of the opened sum of keys.
    pub key: Digest,
    /// Digest of the opened total.
    pub total: Digest,
}

/// The model of a round, as digests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelUpdated {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// The new model.
    pub model: Digest,
    /// The server optimiser's state after it.
    pub optimiser: Digest,
    /// The round's public record.
    pub record: Digest,
}

/// A validator's vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// The model that is voted on.
    pub model: Digest,
    /// What the validator found.
    pub verdict: Verdict,
}

/// What a validator found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every step came out the same, and the model is good enough.
    Accept {
        /// Loss on the validator's hold-out rows, in millionths.
        loss_micro: u64,
        /// Accuracy (or R²) on them, in millionths; negative values of R² count as 0.
        accuracy_ppm: u32,
    },
    /// Something is wrong.
    Complain {
        /// What.
        fault: Fault,
        /// Who has done it, where that can be said.
        accused: Option<NodeId>,
        /// Digest of the bytes that show it.
        evidence: Digest,
    },
}

/// What a validator complains about. The numbers are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// The public bytes of the round could not be had.
    Unavailable,
    /// A member signed a batch that is not what its reports are.
    Batch,
    /// The sum is not that of the ciphertexts: one is left out or changed.
    DroppedCiphertext,
    /// The opened total is not that of the sum and the key.
    ChangedTotal,
    /// The model is not what the server step makes of the total.
    OtherModel,
    /// The loss on hold-out rows has risen by more than the task allows.
    Quality,
    /// A group has fallen behind by more than the task allows.
    Fairness,
}

impl Fault {
    /// Every fault, in the order of the codes.
    pub const ALL: [Self; 7] = [
        Self::Unavailable,
        Self::Batch,
        Self::DroppedCiphertext,
        Self::ChangedTotal,
        Self::OtherModel,
        Self::Quality,
        Self::Fairness,
    ];

    /// The stable word, as in metrics and JSON.
    pub const fn slug(self) -> &'static str {
        match self {
            Self::Unavailable => "unavailable",
            Self::Batch => "batch",
            Self::DroppedCiphertext => "dropped-ciphertext",
            Self::ChangedTotal => "changed-total",
            Self::OtherModel => "other-model",
            Self::Quality => "quality",
            Self::Fairness => "fairness",
        }
    }

    /// Whether only the aggregation node can have done it.
    pub const fn is_aggregations(self) -> bool {
        matches!(
            self,
            Self::DroppedCiphertext | Self::ChangedTotal | Self::OtherModel
        )
    }
}

/// A light node's claim: its report stands in a batch of a finished round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The task.
    pub task: TaskId,
    /// The round.
    pub round: RoundNumber,
    /// The report, which has the one id that the round gives the sender ([`crate::light_report_id`]).
    pub report: ReportId,
    /// The committee that checked it.
    pub committee: CommitteeIndex,
    /// Its place under the batch's root.
    pub path: merkle::Path,
}

impl BatchSummary {
    /// Whether a report is in the batch, at the place that the path says.
    pub fn has(&self, report: &ReportId, path: &merkle::Path) -> bool {
        path.holds(merkle::leaf_hash(&report.0), self.accepted, &self.root)
    }
}
