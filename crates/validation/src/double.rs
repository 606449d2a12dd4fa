//! Validators that vote twice in one view, as consensus notices them.

use std::collections::BTreeMap;
use std::sync::Arc;

use commonware_actor::Feedback;
use commonware_codec::{Encode as _, ReadExt as _};
use commonware_consensus::Reporter;
use commonware_consensus::simplex::scheme::ed25519::Scheme;
use commonware_consensus::simplex::types::{Activity, Finalize, Notarize, Nullify, Proposal};
use commonware_consensus::types::Round;
use commonware_cryptography::certificate::Attestation;
use commonware_cryptography::ed25519::certificate::Certificate;
use commonware_cryptography::{ed25519, sha256};
use commonware_utils::Participant;
use commonware_utils::ordered::Set;
use commonware_utils::sync::Mutex;
use defim_ledger::{Choice, ConsensusVote, Digest, NodeId, Proposed, Signature};
use tracing::warn;

use crate::node::bytes_of;

type Votes = [ConsensusVote; 2];

/// Who has been seen to vote twice on a chain, with the first two votes that show it.
#[derive(Clone)]
pub(crate) struct DoubleVotes {
    namespace: Arc<[u8]>,
    seen: Arc<Mutex<BTreeMap<NodeId, Votes>>>,
}

impl DoubleVotes {
    pub(crate) fn new(namespace: &[u8]) -> Self {
        Self {
            namespace: Arc::from(namespace),
            seen: Arc::default(),
        }
    }

    /// What is known.
    pub(crate) fn all(&self) -> BTreeMap<NodeId, Votes> {
        self.seen.lock().clone()
    }

    fn is_of(&self, vote: &ConsensusVote, node: &NodeId) -> bool {
        vote.is_of(node, &self.namespace)
    }

    /// Keeps two votes if they show something. The engine has not checked all signatures yet: false if the first one's is bad.
    fn note(&self, node: NodeId, [first, second]: Votes) -> bool {
        let signed = |vote: &ConsensusVote| self.is_of(vote, &node);
        if self.seen.lock().contains_key(&node) || !first.excludes(&second) {
            return true;
        }
        if !signed(&first) {
            return false;
        }
        if signed(&second) {
            warn!(
                %node,
                epoch = first.epoch,
                view = first.view,
                "a validator has voted twice in one view"
            );
            self.seen.lock().insert(node, [first, second]);
        }
        true
    }
}

/// Votes that are kept to compare others with, for each validator: some minutes of them.
const KEPT: usize = 1024;

/// The first votes of each kind, by view and the signer's place among the validators.
type Heard = BTreeMap<(u64, usize), Vec<ConsensusVote>>;

/// What consensus reports of an epoch, looked through on its way.
///
/// The engine itself notices two votes that came to this node. Here those are noticed too of which one went to another
/// validator, and came here in the certificate that it made with it.
#[derive(Clone)]
pub(crate) struct Watched<A> {
    inner: A,
    validators: Set<ed25519::PublicKey>,
    double_votes: DoubleVotes,
    heard: Arc<Mutex<Heard>>,
}

impl<A> Watched<A> {
    pub(crate) fn new(
        inner: A,
        validators: Set<ed25519::PublicKey>,
        double_votes: DoubleVotes,
    ) -> Self {
        Self {
            inner,
            validators,
            double_votes,
            heard: Arc::default(),
        }
    }

    fn hear(&self, (signer, vote): Vote) {
        let Some(key) = self.validators.get(signer) else {
            return;
        };
        let node = NodeId(bytes_of(key));
        let mut heard = self.heard.lock();
        let votes = heard.entry((vote.view, signer)).or_default();
        let mut known = false;
        votes.retain(|other| {
            if other.choice != vote.choice {
                return self.double_votes.note(node, [*other, vote]);
            }
            // Two signatures under one vote: one of them is none, and hides nothing.
            let kept = other.signature == vote.signature || self.double_votes.is_of(other, &node);
            known |= kept;
            kept
        });
        // One of each kind: more of a kind show no more than two.
        if !known && votes.len() < 3 {
            votes.push(vote);
        }
        while heard.len() > KEPT.saturating_mul(self.validators.len()) {
            heard.pop_first();
        }
    }
}

impl<A: Reporter<Activity = Activity<Scheme, sha256::Digest>>> Reporter for Watched<A> {
    type Activity = A::Activity;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        for vote in votes(&activity) {
            self.hear(vote);
        }
        self.inner.report(activity)
    }
}

/// The votes in what consensus reports.
fn votes(activity: &Activity<Scheme, sha256::Digest>) -> Vec<Vote> {
    // The two of a conflict are private in their types, but not in their encodings.
    match activity {
        Activity::Notarize(it) => notarize(it).into_iter().collect(),
        Activity::Nullify(it) => nullify(it).into_iter().collect(),
        Activity::Finalize(it) => finalize(it).into_iter().collect(),
        Activity::Notarization(it) => {
            let choice = Choice::Notarize(proposed(&it.proposal));
            certified(it.proposal.round, choice, &it.certificate)
        }
        Activity::Nullification(it) => certified(it.round, Choice::Nullify, &it.certificate),
        Activity::Finalization(it) => {
            let choice = Choice::Finalize(proposed(&it.proposal));
            certified(it.proposal.round, choice, &it.certificate)
        }
        // Reported before, as it was recovered.
        Activity::Certification(_) => Vec::new(),
        Activity::ConflictingNotarize(both) => {
            let mut bytes = both.encode();
            let (one, two) = (Notarize::read(&mut bytes), Notarize::read(&mut bytes));
            [one, two].iter().flatten().filter_map(notarize).collect()
        }
        Activity::ConflictingFinalize(both) => {
            let mut bytes = both.encode();
            let (one, two) = (Finalize::read(&mut bytes), Finalize::read(&mut bytes));
            [one, two].iter().flatten().filter_map(finalize).collect()
        }
        Activity::NullifyFinalize(both) => {
            let mut bytes = both.encode();
            let (one, two) = (Nullify::read(&mut bytes), Finalize::read(&mut bytes));
            let one = one.ok().as_ref().and_then(nullify);
            let two = two.ok().as_ref().and_then(finalize);
            [one, two].into_iter().flatten().collect()
        }
    }
}

/// A vote, and the signer's place among the validators.
type Vote = (usize, ConsensusVote);

fn notarize(vote: &Notarize<Scheme, sha256::Digest>) -> Option<Vote> {
    let choice = Choice::Notarize(proposed(&vote.proposal));
    attested(vote.proposal.round, choice, &vote.attestation)
}

fn finalize(vote: &Finalize<Scheme, sha256::Digest>) -> Option<Vote> {
    let choice = Choice::Finalize(proposed(&vote.proposal));
    attested(vote.proposal.round, choice, &vote.attestation)
}

fn nullify(vote: &Nullify<Scheme>) -> Option<Vote> {
    attested(vote.round, Choice::Nullify, &vote.attestation)
}

fn proposed(proposal: &Proposal<sha256::Digest>) -> Proposed {
    Proposed {
        parent: proposal.parent.get(),
        payload: Digest(proposal.payload.0),
    }
}

fn attested(round: Round, choice: Choice, attestation: &Attestation<Scheme>) -> Option<Vote> {
    let signature = attestation.signature.get()?;
    signed(round, choice, attestation.signer, signature)
}

/// The votes that a certificate is made of.
fn certified(round: Round, choice: Choice, certificate: &Certificate) -> Vec<Vote> {
    let signatures = certificate.signatures.iter();
    let all = certificate.signers.iter().zip(signatures);
    all.filter_map(|(signer, signature)| signed(round, choice, signer, signature.get()?))
        .collect()
}

fn signed(
    round: Round,
    choice: Choice,
    signer: Participant,
    signature: &ed25519::Signature,
) -> Option<Vote> {
    let vote = ConsensusVote {
        epoch: round.epoch().get(),
        view: round.view().get(),
        choice,
        signature: Signature(signature.encode().as_ref().try_into().ok()?),
    };
    Some((usize::from(signer), vote))
}
