//! What stands in the state: a slot names a place, an entry is what is there.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    CommitteeIndex, Digest, Invite, Millis, ModelUpdated, NodeId, Opened, Params, Role,
    RoundNumber, TaskId, TaskTerms, Verdict, light::ValidatorSet,
};

/// The name of a place in the state.
pub trait Slot {
    /// What stands there.
    type Entry: Serialize + DeserializeOwned;

    /// The place's key.
    fn key(&self) -> Vec<u8>;
}

macro_rules! slots {
    ($($(#[$doc:meta])* $tag:literal $name:ident($($part:ident: $type:ty),*) -> $entry:ty;)*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub struct $name($(
                #[doc = stringify!($part)]
                pub $type
            ),*);

            impl Slot for $name {
                type Entry = $entry;

                fn key(&self) -> Vec<u8> {
                    let Self($($part),*) = self;
                    #[allow(unused_mut)]
                    let mut key = vec![$tag];
                    $(key.extend_from_slice(&Part::bytes($part));)*
                    key
                }
            }
        )*

        /// Whether an entry with this key can be read.
        pub(super) fn is_readable(key: &[u8], value: &[u8]) -> bool {
            match key.first() {
                $(Some(&$tag) => {
                    key.len() == 1 $(+ <$type as Part>::BYTES)* && crate::codec::decode::<$entry>(value).is_ok()
                })*
                _ => false,
            }
        }
    };
}

slots! {
    /// What never changes.
    0 ChainSlot() -> Chain;
    /// The newest block.
    1 HeadSlot() -> Head;
    /// The admins, ascending.
    2 AdminsSlot() -> Vec<NodeId>;
    /// The validators of this epoch, and who follows them.
    3 ValidatorsSlot() -> Validators;
    /// An account.
    4 AccountSlot(owner: NodeId) -> Account;
    /// A server node.
    5 NodeSlot(node: NodeId) -> NodeEntry;
    /// A task.
    6 TaskSlot(task: TaskId) -> Task;
    /// One of a task's newest rounds.
    7 RoundSlot(task: TaskId, round: RoundNumber) -> Round;
    /// A light node of a task.
    8 LightSlot(task: TaskId, key: NodeId) -> Light;
    /// An invite to a task.
    9 InviteSlot(task: TaskId, invite: NodeId) -> Invite;
    /// Rounds that were voted on in this block; empty between blocks.
    10 VotedSlot() -> BTreeSet<(TaskId, RoundNumber)>;
}

trait Part {
    const BYTES: usize;
    fn bytes(&self) -> Vec<u8>;
}

impl Part for NodeId {
    const BYTES: usize = 32;
    fn bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl Part for TaskId {
    const BYTES: usize = 32;
    fn bytes(&self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl Part for RoundNumber {
    const BYTES: usize = 8;
    fn bytes(&self) -> Vec<u8> {
        self.to_be_bytes().to_vec()
    }
}

/// What never changes on a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    /// Digest of the genesis.
    pub id: Digest,
    /// Everything that was ever issued.
    pub supply: u64,
    /// The genesis' numbers.
    pub params: Params,
}

/// The newest block that is part of the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its height.
    pub height: u64,
    /// Its time.
    pub timestamp_ms: Millis,
}

/// The validators.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validators {
    /// Those of the epoch of the next block.
    pub current: ValidatorSet,
    /// Who follows, and from which epoch on.
    pub next: Option<(u64, ValidatorSet)>,
}

/// An account.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// What it has.
    pub balance: u64,
    /// How many of its transactions were carried out.
    pub nonce: u64,
}

/// Whether a server node takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NodeStatus {
    /// It does.
    Active,
    /// An admin has removed it, and may enrol it again.
    Removed,
    /// It was slashed, and never takes part again.
    Slashed,
}

/// A server node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeEntry {
    /// What it does.
    pub role: Role,
    /// Its name for people.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// Whether it takes part.
    pub status: NodeStatus,
}

/// Whether a task goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskStatus {
    /// Rounds may open.
    Active,
    /// No round may open for now.
    Paused,
    /// No round opens any more.
    Closed,
}

/// A task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Digest of the signed manifest.
    pub manifest: Digest,
    /// The terms.
    pub terms: TaskTerms,
    /// The newest model that validators accepted.
    pub model: Digest,
    /// The server optimiser's state after it; before the first round the digest of no bytes.
    pub optimiser: Digest,
    /// What future rounds can pay.
    pub budget: u64,
    /// The round that opened last; 0 before the first.
    pub round: RoundNumber,
    /// Whether that round is neither finished nor voided.
    pub unsettled: bool,
    /// How many rounds are finished.
    pub finished: u64,
    /// How many light nodes were ever enrolled.
    pub lights: u64,
    /// Whether it goes on.
    pub status: TaskStatus,
}

/// A round, from its opening until its rewards can no longer be claimed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// What decides committees and report ids: the digest of the signed opening.
    pub randomness: Digest,
    /// The model that contributions start from.
    pub base_model: Digest,
    /// Reports that arrive after this are too late.
    pub deadline_ms: Millis,
    /// By how much its reports may count more than once each, all together.
    pub most_extra_weight: u64,
    /// The batches: all that are closed, and once a total is opened, those that are in it.
    pub batches: BTreeMap<CommitteeIndex, Batch>,
    /// Where it stands.
    pub stage: Stage,
    /// The validators' votes.
    pub votes: BTreeMap<NodeId, Verdict>,
    /// What is set aside for its rewards, until it is settled.
    pub reserved: u64,
}

impl Round {
    /// How many reports its batches have.
    pub fn accepted(&self) -> u64 {
        // At most 992 batches of at most a million reports.
        self.batches.values().map(|batch| batch.accepted).sum()
    }
}

/// A committee's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Merkle root over the accepted report ids.
    pub root: Digest,
    /// How many were accepted.
    pub accepted: u64,
    /// By how much they count more than once each.
    pub extra_weight: u64,
    /// Digest of the signed summary's text.
    pub summary: Digest,
}

/// Where a round stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stage {
    /// Reports come in, batches close.
    Open,
    /// The total is opened.
    Opened(Opened),
    /// A model is proposed; validators vote.
    Proposed(Opened, ModelUpdated),
    /// A quorum of validators accepted the model.
    Finished {
        /// The model.
        model: Digest,
        /// The round's public record.
        record: Digest,
        /// What a light node's report earns.
        per_report: u64,
        /// What is left for light nodes that have not claimed.
        unclaimed: u64,
    },
    /// It has no result, and paid nobody.
    Voided {
        /// Why.
        why: Void,
        /// What had been proposed; validators may still complain about it.
        proposed: Option<Box<(Opened, ModelUpdated)>>,
    },
}

impl Stage {
    /// Whether nothing will be counted any more: it is finished, or void.
    pub const fn is_over(&self) -> bool {
        matches!(self, Self::Finished { .. } | Self::Voided { .. })
    }
}

/// Why a round is void.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Void {
    /// The aggregation node gave it up.
    Aggregation {
        /// Why.
        reason: String,
        /// Digest of bytes that show it.
        evidence: Option<Digest>,
    },
    /// More validators complained than may be wrong.
    Complaints,
    /// The aggregation node was slashed.
    Slashed,
    /// An admin closed the task.
    Closed,
}

/// A light node of a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Light {
    /// Whether it takes part. A key that was removed stays on record, so that it cannot enrol itself again.
    pub active: bool,
    /// Rounds whose reward it has taken, as long as they could be claimed again.
    pub claimed: Vec<RoundNumber>,
}
