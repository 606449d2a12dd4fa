//! Encrypting a node's sum over all selected batches, with shares of the key for every full node of the task.

use std::collections::BTreeMap;

use defim_he::{EncryptError, Round, SecretKey, SharingError, Threshold};
use defim_privacy::{DiscreteGaussian, PrivacyError};
use defim_protocol::{
    CommitteeIndex, Digest, NodeId, VerifiedManifest,
    seal::{KeyShareData, SealError, seal_key_share},
    sum::{EncryptedSum, SumError, VerifiedSelection},
    vdaf::VdafError,
    wire::{SealedBytes, Submission},
};
use prio::codec::Encode as _;
use rand::CryptoRng;

use crate::{LastEncrypted, OnceError, Secrets};

/// Why nothing is encrypted.
#[derive(Debug, thiserror::Error)]
pub enum EncryptSumError {
    /// The batch of a selected committee is not the one that this node signed.
    #[error("this node has signed another batch of committee {0}, or none")]
    OtherBatch(CommitteeIndex),
    /// No selected committee has this node.
    #[error("this node sits on none of the selected committees")]
    NotSelected,
    /// A stored sum does not decode.
    #[error("the stored sum cannot be used: {0}")]
    Damaged(#[from] VdafError),
    /// The task's noise is out of range.
    #[error("the noise cannot be drawn: {0}")]
    Noise(#[from] PrivacyError),
    /// The vector cannot be encrypted.
    #[error("the sum cannot be encrypted: {0}")]
    Encrypt(#[from] EncryptError),
    /// There are too few or too many full nodes.
    #[error("the key cannot be shared: {0}")]
    Sharing(#[from] SharingError),
    /// A full node's sealing key cannot be used.
    #[error("a share of the key cannot be sealed: {0}")]
    Seal(#[from] SealError),
    /// The statement cannot be written.
    #[error(transparent)]
    Statement(#[from] SumError),
    /// This node stands for another selection of the round.
    #[error(transparent)]
    Once(#[from] OnceError),
    /// The promise is for so many sums.
    #[error("the task's privacy budget is spent: nothing more of it is encrypted")]
    Spent,
}

/// An encrypted sum. Both must be on disk before it leaves the node.
#[derive(Debug)]
pub struct EncryptedOnce {
    /// What this node encrypted last, for its store; kept for as long as the round is open.
    pub record: Vec<u8>,
    /// What leaves the node, now and when it is asked again; kept while the round is open.
    pub submission: Submission,
}

/// What this node has done in a round and a task before, as its store holds it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Before<'a> {
    /// The record of what it encrypted last.
    pub encrypted: Option<&'a [u8]>,
    /// The record of what it has opened.
    pub opened: Option<&'a [u8]>,
    /// How many selections of the task it has encrypted, in all rounds, with the rounds in which it has only opened something.
    pub spent: u64,
}

impl Before<'_> {
    /// Whether the task's privacy budget, which is for so many sums with noise, has nothing left for another one.
    ///
    /// What was encrypted is spent, whether this node helps to open it or not: others can open it without this node.
    pub(crate) fn is_spent(&self, task: &VerifiedManifest) -> bool {
        task.privacy.is_some() && self.spent >= task.schedule.rounds
    }
}

/// This node's share of the sum of one committee's batch, as its store holds it.
#[derive(Clone)]
pub struct StoredSum {
    /// Digest of the summary that this node signed.
    pub batch: Digest,
    /// The encoded aggregate share.
    pub share: Vec<u8>,
}

impl std::fmt::Debug for StoredSum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StoredSum({}, redacted)", self.batch)
    }
}

/// The threshold with which keys of this task are shared: two thirds of its full nodes, and no fewer than a report has
/// shares ([`defim_protocol::Manifest::opening_nodes`]).
///
/// # Errors
///
/// [`SharingError`] for a number of full nodes that no manifest has.
pub fn threshold(task: &VerifiedManifest) -> Result<Threshold, SharingError> {
    // More than 32 are never in a manifest.
    let small = |count| u8::try_from(count).unwrap_or(u8::MAX);
    Threshold::new(small(task.opening_nodes()), small(task.members.len()))
}

/// The round as the encryption names it.
pub fn round_of(selection: &VerifiedSelection) -> Round {
    Round {
        task: selection.task.0,
        number: selection.round,
    }
}

/// Encrypt this node's sum over the selected batches, with the task's noise added, under a fresh key, and seal a share of the key for each full
/// node. Another call would give another ciphertext with other noise, so that there is one of each selection: who is asked again
/// sends what left the node before ([`LastEncrypted::is_of`]).
///
/// `sums` are this node's shares by committee; those of committees that are not selected are left alone. `before` is what the
/// store holds of this round.
///
/// # Errors
///
/// [`EncryptSumError`]; nothing leaves the node then.
pub fn encrypt(
    task: &VerifiedManifest,
    selection: &VerifiedSelection,
    secrets: &Secrets,
    sums: &BTreeMap<CommitteeIndex, StoredSum>,
    before: Before<'_>,
    rng: &mut impl CryptoRng,
) -> Result<EncryptedOnce, EncryptSumError> {
    let record = LastEncrypted::encrypting(selection, before.encrypted, before.opened.is_some())?;
    if before.is_spent(task) {
        return Err(EncryptSumError::Spent);
    }
    let own = secrets.node.id();
    let modulus = u128::from(task.vdaf.scheme.modulus());
    let mut total = vec![0_u64; task.vdaf.coordinates()];
    let mut selected = 0;
    for (index, batch) in selection.batches() {
        let committee = task.committee(*index);
        if committee.is_none_or(|committee| committee.seat_of(&own).is_none()) {
            continue;
        }
        let sum = sums
            .get(index)
            .filter(|sum| sum.batch == batch.digest())
            .ok_or(EncryptSumError::OtherBatch(*index))?;
        for (total, value) in total.iter_mut().zip(task.vdaf.integers(&sum.share)?) {
            // Below the modulus, which is below 2^64.
            *total = ((u128::from(*total) + u128::from(value)) % modulus) as u64;
        }
        selected += 1;
    }
    if selected == 0 {
        return Err(EncryptSumError::NotSelected);
    }
    if let Some(privacy) = &task.privacy {
        let noise = DiscreteGaussian::new(privacy.noise()?);
        for total in &mut total {
            let moved = i128::from(*total) + i128::from(noise.sample(rng));
            // Below the modulus, and not negative.
            *total = moved.rem_euclid(modulus as i128) as u64;
        }
    }
    let key = SecretKey::random(rng);
    let shares = key.share(threshold(task)?, rng);
    let ciphertext = key.encrypt(round_of(selection), &total, rng)?;
    let root = Digest(ciphertext.root().0);
    let mut key_shares = Vec::with_capacity(shares.len());
    for (holder, share) in task.members.iter().zip(shares) {
        let about = about(selection, root, own, holder.node);
        let sealed = seal_key_share(&holder.hpke, &about, &share.to_bytes(), rng)?;
        let bytes = sealed.get_encoded();
        let bytes = bytes.map_err(|e| SealError::Encoding(e.to_string()))?;
        key_shares.push(SealedBytes(bytes));
    }
    let statement = EncryptedSum {
        task: selection.task,
        round: selection.round,
        selection: selection.digest(),
        ciphertext: root,
        key_shares: key_shares.iter().map(|s| Digest::of(&s.0)).collect(),
    };
    Ok(EncryptedOnce {
        record: record.to_bytes(),
        submission: Submission {
            statement: statement.sign(&secrets.node)?,
            ciphertext: ciphertext.to_bytes(),
            key_shares,
        },
    })
}

/// What a sealed key share is bound to.
pub(crate) fn about(
    selection: &VerifiedSelection,
    ciphertext: Digest,
    dealer: NodeId,
    holder: NodeId,
) -> KeyShareData {
    KeyShareData {
        task: selection.task,
        round: selection.round,
        selection: selection.digest(),
        ciphertext,
        dealer,
        holder,
    }
}
