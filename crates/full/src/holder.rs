//! Answering an opening as a holder of key shares: one set a round, and only one that keeps the rules.
//!
//! The rules are [`defim_he::holder`]'s. What this adds is where the shares come from: they travel with the
//! question, sealed for this node and signed for by who dealt them, so that a holder that was away loses nothing.

use std::collections::{BTreeMap, BTreeSet};

use defim_he::{
    HolderIndex, KeyShare, Opening, Root, SharingError, VerifiedOpening,
    holder::{Holder, Refusal, Rules},
};
use defim_protocol::{
    Digest, NodeId, Reason, RoundNumber, VerifiedManifest,
    report::Ciphertext,
    sum::{EncryptedSum, SumError, SumOpening, VerifiedSelection},
    wire::OpenSum,
};
use prio::codec::Decode as _;

use crate::{
    LastEncrypted, OnceError, Secrets,
    sum::{Before, about, round_of},
};

/// Why a holder does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HolderError {
    /// A statement breaks a rule.
    #[error(transparent)]
    Statement(#[from] SumError),
    /// The opening's set is none.
    #[error("the opening's set cannot be read: {0}")]
    Set(String),
    /// The set is not that of the nodes that encrypted the selection.
    #[error("the set is not that of all nodes that encrypted the selection")]
    OtherNodes,
    /// A node's statement is missing, or is about another ciphertext.
    #[error("node {0} has not signed for the ciphertext that the set names")]
    OtherCiphertext(NodeId),
    /// A node's key share is not the one it signed for.
    #[error("the key share of node {0} is not the one it signed for")]
    OtherShare(NodeId),
    /// A node's key share does not open.
    #[error("the key share of node {node} does not open: {why}")]
    Sealed {
        /// Whose key it is.
        node: NodeId,
        /// Why.
        why: Reason,
    },
    /// This node is no holder.
    #[error("this node is not one of the task's full nodes")]
    NotAHolder,
    /// There are more full nodes than can hold.
    #[error(transparent)]
    Sharing(#[from] SharingError),
    /// This node stands for another selection of the round.
    #[error(transparent)]
    Once(#[from] OnceError),
    /// The promise is for so many sums.
    #[error("the task's privacy budget is spent: nothing more of it is opened")]
    Spent,
    /// The rules of opening forbid it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// What the store holds of an earlier answer is damaged.
    #[error(
        "what this node answered before cannot be read ({0}); it answers nothing of this round: restore its store"
    )]
    Damaged(String),
}

/// An answer. Its record must be on disk before it leaves the node.
#[derive(Debug)]
pub struct Answer {
    /// What this node decided, for its store; kept for as long as the task is.
    pub record: Vec<u8>,
    /// The encoded share of the sum of the keys.
    pub share: Vec<u8>,
}

/// Answer an opening. `before` is what the store holds of this round.
///
/// # Errors
///
/// [`HolderError`] with the first rule that is broken.
pub fn answer(
    task: &VerifiedManifest,
    round: RoundNumber,
    secrets: &Secrets,
    before: Before<'_>,
    question: &OpenSum,
) -> Result<Answer, HolderError> {
    let OpenSum {
        selected,
        opening: signed,
        statements,
        key_shares,
    } = question;
    let (selection, signatures) = (selected.selection.clone(), selected.signatures.clone());
    let selection = VerifiedSelection::verify(task, round, selection, signatures)?;
    let statement = SumOpening::verify(signed, task, &selection)?;
    let set = hex::decode(&statement.set).map_err(|e| HolderError::Set(e.to_string()))?;
    let opening = Opening::from_bytes(&set).map_err(|e| HolderError::Set(e.to_string()))?;
    // The signature over the statement, which holds the set's one encoding, was checked above.
    let opening = VerifiedOpening::new(opening, |bytes| bytes == set)
        .map_err(|e| HolderError::Set(e.to_string()))?;
    let named: BTreeSet<_> = opening.members().iter().map(|m| NodeId(m.node.0)).collect();
    let reports = selection.accepted();
    if named != *selection.nodes()
        || opening.round() != round_of(&selection)
        || opening
            .members()
            .iter()
            .any(|m| m.committee != 0 || m.reports != reports)
        || opening.members().len() != statements.len()
        || statements.len() != key_shares.len()
    {
        return Err(HolderError::OtherNodes);
    }
    let own = secrets.node.id();
    let encrypts = selection.nodes().contains(&own);
    LastEncrypted::opening(&selection, before.encrypted, encrypts)?;
    // What this node has encrypted in the round, or opened, is paid for.
    if before.opened.is_none() && before.encrypted.is_none() && before.is_spent(task) {
        return Err(HolderError::Spent);
    }
    let before = before.opened;
    let place = task.place(&own).ok_or(HolderError::NotAHolder)?;
    let index = HolderIndex::new(u8::try_from(place + 1).unwrap_or(u8::MAX))?;
    let rules = Rules {
        holder: index,
        // All that encrypted the selection belong together: no part of them is ever opened.
        committees: BTreeMap::from([(0, opening.members().iter().map(|m| m.node).collect())]),
        min_committees: 1,
        min_reports: u64::from(task.schedule.min_batch),
    };
    let mut holder = Holder::restore(before).map_err(|e| HolderError::Damaged(e.to_string()))?;
    if before.is_none() {
        for ((member, statement), sealed) in
            opening.members().iter().zip(statements).zip(key_shares)
        {
            let node = NodeId(member.node.0);
            let statement = EncryptedSum::verify(statement, &node, &selection)?;
            if Root(statement.ciphertext.0) != member.ciphertext {
                return Err(HolderError::OtherCiphertext(node));
            }
            if statement.key_shares.get(place) != Some(&Digest::of(&sealed.0)) {
                return Err(HolderError::OtherShare(node));
            }
            let broken = |why| HolderError::Sealed { node, why };
            let sealed =
                Ciphertext::get_decoded(&sealed.0).map_err(|_| broken(Reason::Malformed))?;
            let about = about(&selection, statement.ciphertext, node, own);
            let share = secrets
                .sealing
                .open_key_share(&about, &sealed)
                .map_err(broken)?;
            let share = KeyShare::from_bytes(&share).map_err(|_| broken(Reason::InvalidShare))?;
            // Its record is not kept: shares come again with every question.
            holder
                .keep(&rules, opening.round(), member.node, share)?
                .written();
        }
    }
    let step = holder.answer(&rules, &opening)?;
    let record = step.record().to_vec();
    Ok(Answer {
        record,
        share: step.written().to_bytes(),
    })
}
