//! Adding the encrypted sums of a selection and opening their total: the one place where anything is opened.

use std::collections::BTreeMap;

use defim_he::{
    Ciphertext, CodecError, Member, OpenError as HeOpenError, Opening, OpeningError, Root, Round,
    SharingError, Sum, SumError as HeSumError, SumKey, SumShare, Threshold, open_below,
    params::{Dimension, DimensionError},
};
use defim_privacy::PrivacyError;
use defim_protocol::{
    Digest, NodeId, NodeKey, SignedText, VerifiedManifest,
    sum::{EncryptedSum, SumError, SumOpening, VerifiedSelection},
    vdaf::VdafError,
    vote::Tally,
    wire::{OpenSum, SealedBytes, SelectedBatches, Submission},
};

/// Why a total is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A statement breaks a rule.
    #[error(transparent)]
    Statement(#[from] SumError),
    /// A node that must encrypt has not.
    #[error("the encrypted sum of node {0} is missing")]
    Missing(NodeId),
    /// A node signed for another ciphertext than it sent.
    #[error("node {0} sent another ciphertext than it signed for")]
    OtherCiphertext(NodeId),
    /// A node signed for other key shares than it sent.
    #[error("node {0} sent other key shares than it signed for")]
    OtherShares(NodeId),
    /// A ciphertext does not decode.
    #[error("the ciphertext of node {node} cannot be read: {why}")]
    Ciphertext {
        /// The node.
        node: NodeId,
        /// Why.
        why: CodecError,
    },
    /// The vector is too long.
    #[error(transparent)]
    Dimension(#[from] DimensionError),
    /// The ciphertexts are not a set.
    #[error(transparent)]
    Set(#[from] OpeningError),
    /// They cannot be added.
    #[error(transparent)]
    Adding(#[from] HeSumError),
    /// The holders' answers do not fit together.
    #[error(transparent)]
    Sharing(#[from] SharingError),
    /// The opening fails its own check.
    #[error(transparent)]
    Opening(#[from] HeOpenError),
    /// The opened numbers are no sum of this task.
    #[error(transparent)]
    Total(#[from] VdafError),
    /// The task's noise is out of range.
    #[error(transparent)]
    Noise(#[from] PrivacyError),
    /// So many contributions cannot add up to this.
    #[error(
        "the total's norm is {norm:.1}, more than contributions that count {weight} times can have: a full node has lied about its sum"
    )]
    TooLong {
        /// L2 norm of the total, in units of the norm bound.
        norm: f64,
        /// How often the reports of the selection count together.
        weight: u64,
    },
    /// So many reports cannot have voted like this.
    #[error(
        "the votes of {reports} reports do not add up to as many: a full node has lied about its sum"
    )]
    Votes {
        /// Reports of the selection.
        reports: u64,
    },
}

impl OpenError {
    /// Whether other answers of holders could open what these do not.
    pub fn is_wrong_answer(&self) -> bool {
        matches!(
            self,
            Self::Opening(_) | Self::Sharing(SharingError::Inconsistent(_))
        )
    }
}

/// One node's encrypted sum, checked against what it signed.
#[derive(Debug, Clone)]
pub struct Encrypted {
    submission: Submission,
    ciphertext: Ciphertext,
}

impl Encrypted {
    /// Check a submission: signed by `node` for this selection, and just what it signed for.
    ///
    /// # Errors
    ///
    /// [`OpenError`] with the first thing that is wrong.
    pub fn verify(
        task: &VerifiedManifest,
        selection: &VerifiedSelection,
        node: NodeId,
        submission: Submission,
    ) -> Result<Self, OpenError> {
        let statement = EncryptedSum::verify(&submission.statement, &node, selection)?;
        let dimension = Dimension::new(task.vdaf.coordinates())?;
        let ciphertext = Ciphertext::from_bytes(dimension, &submission.ciphertext)
            .map_err(|why| OpenError::Ciphertext { node, why })?;
        if ciphertext.root() != Root(statement.ciphertext.0) {
            return Err(OpenError::OtherCiphertext(node));
        }
        let shares = submission.key_shares.iter();
        if !shares
            .map(|share| Digest::of(&share.0))
            .eq(statement.key_shares)
        {
            return Err(OpenError::OtherShares(node));
        }
        Ok(Self {
            submission,
            ciphertext,
        })
    }

    /// What the node sent.
    pub fn submission(&self) -> &Submission {
        &self.submission
    }
}

/// The encrypted sums of all nodes of a selection.
#[derive(Debug, Clone)]
pub struct EncryptedSums {
    opening: Opening,
    sums: BTreeMap<NodeId, Encrypted>,
}

impl EncryptedSums {
    /// Put them together.
    ///
    /// # Errors
    ///
    /// [`OpenError::Missing`] if one is not there.
    pub fn new(
        selection: &VerifiedSelection,
        sums: BTreeMap<NodeId, Encrypted>,
    ) -> Result<Self, OpenError> {
        let mut members = Vec::with_capacity(sums.len());
        let mut sums = sums;
        sums.retain(|node, _| selection.nodes().contains(node));
        for node in selection.nodes() {
            let sum = sums.get(node).ok_or(OpenError::Missing(*node))?;
            members.push(Member {
                node: defim_he::NodeId(node.0),
                ciphertext: sum.ciphertext.root(),
                // Everything that was encrypted for the selection belongs together.
                committee: 0,
                reports: selection.accepted(),
            });
        }
        let round = Round {
            task: selection.task.0,
            number: selection.round,
        };
        let opening = Opening::new(round, members)?;
        Ok(Self { opening, sums })
    }

    /// Sign which ciphertexts are opened.
    ///
    /// # Errors
    ///
    /// [`SumError`] if the statement cannot be written.
    pub fn sign(
        &self,
        selection: &VerifiedSelection,
        key: &NodeKey,
    ) -> Result<SignedText, SumError> {
        let statement = SumOpening {
            task: selection.task,
            round: selection.round,
            selection: selection.digest(),
            set: hex::encode(self.opening.to_bytes()),
        };
        statement.sign(key)
    }

    /// Whether this is the signed opening of just this set.
    pub fn is_opened_by(
        &self,
        task: &VerifiedManifest,
        selection: &VerifiedSelection,
        signed: &SignedText,
    ) -> bool {
        SumOpening::verify(signed, task, selection)
            .is_ok_and(|statement| statement.set == hex::encode(self.opening.to_bytes()))
    }

    /// The question for the holder at this place in the manifest.
    pub fn question(
        &self,
        selection: &VerifiedSelection,
        opening: &SignedText,
        place: usize,
    ) -> OpenSum {
        let sums = || self.sums.values().map(Encrypted::submission);
        OpenSum {
            selected: selected(selection),
            opening: opening.clone(),
            statements: sums().map(|sum| sum.statement.clone()).collect(),
            key_shares: sums()
                .map(|sum| {
                    let share = sum.key_shares.get(place).cloned();
                    share.unwrap_or(SealedBytes(Vec::new()))
                })
                .collect(),
        }
    }

    /// What each node signed, ascending by node.
    pub fn statements(&self) -> Vec<SignedText> {
        let sums = self.sums.values();
        sums.map(|sum| sum.submission.statement.clone()).collect()
    }

    /// Each node's ciphertext, ascending by node.
    pub fn ciphertexts(&self) -> impl Iterator<Item = (NodeId, &[u8])> {
        let sums = self.sums.iter();
        sums.map(|(node, sum)| (*node, sum.submission.ciphertext.as_slice()))
    }

    /// Read a holder's answer to the opening of this set.
    ///
    /// # Errors
    ///
    /// In words: it cannot be read, or answers something else.
    pub fn answer(&self, place: usize, bytes: &[u8]) -> Result<SumShare, String> {
        let share = SumShare::from_bytes(bytes).map_err(|e| e.to_string())?;
        if share.opening() != self.opening.digest() {
            return Err("it answers the opening of another set".into());
        }
        match usize::from(share.holder().get()) == place + 1 {
            true => Ok(share),
            false => Err("it answers in another holder's place".into()),
        }
    }
}

/// The selection as it travels.
pub fn selected(selection: &VerifiedSelection) -> SelectedBatches {
    SelectedBatches {
        task: selection.task,
        round: selection.round,
        selection: selection.signed().clone(),
        signatures: selection.signatures(),
    }
}

/// The sum over all reports of the selected batches.
#[derive(Debug, Clone)]
pub struct OpenedTotal {
    reports: u64,
    weight: u64,
    sum: Vec<f64>,
    votes: Vec<f64>,
    tally: Option<Tally>,
    root: Root,
    key: Vec<u8>,
}

impl OpenedTotal {
    /// Add the ciphertexts and open their sum with the holders' answers.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing is opened then.
    pub fn open(
        task: &VerifiedManifest,
        selection: &VerifiedSelection,
        encrypted: &EncryptedSums,
        threshold: Threshold,
        answers: &[SumShare],
    ) -> Result<Self, OpenError> {
        let EncryptedSums { opening, sums } = encrypted;
        let dimension = Dimension::new(task.vdaf.coordinates())?;
        // By node, as the opening's members are.
        let sum = opening.sum(dimension, sums.values().map(|sum| &sum.ciphertext))?;
        let key = SumKey::from_answers(threshold, answers)?;
        Self::with_key(task, selection, opening.round(), &sum, &key)
    }

    /// Open a sum with the sum of its keys, which anybody can repeat.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the key does not fit the sum, or what it opens is no total of this selection.
    pub fn with_key(
        task: &VerifiedManifest,
        selection: &VerifiedSelection,
        round: Round,
        added: &Sum,
        key: &SumKey,
    ) -> Result<Self, OpenError> {
        let modulus = task.vdaf.scheme.modulus();
        let integers = open_below(modulus, round, added, key)?;
        let mut sum = task.vdaf.total(&integers)?;
        let votes = sum.split_off(task.vdaf.dimension.min(sum.len()));
        let (reports, weight) = (selection.accepted(), selection.weight());
        let norm = sum.iter().map(|x| x * x).sum::<f64>().sqrt();
        // Each contribution was proven to have a norm of at most 1, up to rounding. The norm of the noise is its
        // deviation times the root of the dimension, and hardly ever six deviations more.
        let noise = match &task.privacy {
            None => 0.0,
            Some(privacy) => {
                let deviation = privacy.deviation(&task.vdaf, selection.nodes().len())?;
                deviation * ((task.vdaf.dimension as f64).sqrt() + 6.0)
            }
        };
        if norm > weight as f64 * (1.0 + 1e-6) + noise {
            return Err(OpenError::TooLong { norm, weight });
        }
        // Safe: far below 2^63, as the reports are.
        let bins: Vec<i64> = votes.iter().map(|count| count.round() as i64).collect();
        let tally = Tally::new(task, &bins, reports, selection.nodes().len());
        // Without noise, a part of a vote shows in no rounded count.
        let whole = task.privacy.is_some() || votes.iter().all(|count| count.fract() == 0.0);
        if !tally.as_ref().is_none_or(Tally::adds_up) || !whole {
            return Err(OpenError::Votes { reports });
        }
        Ok(Self {
            reports,
            weight,
            sum,
            votes,
            tally,
            root: added.root(),
            key: key.to_bytes(),
        })
    }

    /// Reports in it.
    pub fn reports(&self) -> u64 {
        self.reports
    }

    /// How often they count together.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// The sum of all updates, each as often as it counts, `[d]`, in units of the norm bound.
    pub fn sum(&self) -> &[f64] {
        &self.sum
    }

    /// The private votes in it, if the task has votes.
    pub fn tally(&self) -> Option<&Tally> {
        self.tally.as_ref()
    }

    /// Digest of the total: over its coordinates, and the votes of each bin after them, eight bytes each, as they are in memory,
    /// least significant first.
    pub fn digest(&self) -> Digest {
        let coordinates = self.sum.iter().chain(&self.votes);
        let bytes: Vec<u8> = coordinates.flat_map(|x| x.to_le_bytes()).collect();
        Digest::of(&bytes)
    }

    /// Merkle root over the blocks of the sum of the ciphertexts.
    pub fn root(&self) -> Digest {
        Digest(self.root.0)
    }

    /// The sum of the keys that opened it.
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}
