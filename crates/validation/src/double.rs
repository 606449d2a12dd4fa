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
use commonware_cryptography::{ed25519, sha256};
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

    /// Keeps two votes if they show something. The engine has not checked all signatures yet.
    fn note(&self, node: NodeId, votes: Votes) {
        let [first, second] = &votes;
        let signed = |vote: &ConsensusVote| vote.is_of(&node, &self.namespace);
        if self.seen.lock().contains_key(&node)
            || !first.excludes(second)
            || !signed(first)
            || !signed(second)
        {
            return;
        }
        warn!(
            %node,
            epoch = first.epoch,
            view = first.view,
            "a validator has voted twice in one view"
        );
        self.seen.lock().insert(node, votes);
    }
}

/// What consensus reports of an epoch, looked through on its way.
#[derive(Clone)]
pub(crate) struct Watched<A> {
    pub(crate) inner: A,
    pub(crate) validators: Set<ed25519::PublicKey>,
    pub(crate) double_votes: DoubleVotes,
}

impl<A: Reporter<Activity = Activity<Scheme, sha256::Digest>>> Reporter for Watched<A> {
    type Activity = A::Activity;

    fn report(&mut self, activity: Self::Activity) -> Feedback {
        if let Some((signer, votes)) = twice(&activity)
            && let Some(key) = self.validators.get(signer)
        {
            self.double_votes.note(NodeId(bytes_of(key)), votes);
        }
        self.inner.report(activity)
    }
}

/// The two votes in a report that somebody voted twice, and the signer's place among the validators.
fn twice(activity: &Activity<Scheme, sha256::Digest>) -> Option<(usize, Votes)> {
    // The two are private in their types, but not in their encodings.
    match activity {
        Activity::ConflictingNotarize(both) => {
            let mut bytes = both.encode();
            let (one, two) = (notarize(&mut bytes)?, notarize(&mut bytes)?);
            Some((one.0, [one.1, two.1]))
        }
        Activity::ConflictingFinalize(both) => {
            let mut bytes = both.encode();
            let (one, two) = (finalize(&mut bytes)?, finalize(&mut bytes)?);
            Some((one.0, [one.1, two.1]))
        }
        Activity::NullifyFinalize(both) => {
            let mut bytes = both.encode();
            let (one, two) = (nullify(&mut bytes)?, finalize(&mut bytes)?);
            Some((one.0, [one.1, two.1]))
        }
        _ => None,
    }
}

type Vote = (usize, ConsensusVote);

fn notarize(bytes: &mut bytes::Bytes) -> Option<Vote> {
    let vote = Notarize::<Scheme, sha256::Digest>::read(bytes).ok()?;
    let choice = Choice::Notarize(proposed(&vote.proposal));
    signed(vote.proposal.round, choice, &vote.attestation)
}

fn finalize(bytes: &mut bytes::Bytes) -> Option<Vote> {
    let vote = Finalize::<Scheme, sha256::Digest>::read(bytes).ok()?;
    let choice = Choice::Finalize(proposed(&vote.proposal));
    signed(vote.proposal.round, choice, &vote.attestation)
}

fn nullify(bytes: &mut bytes::Bytes) -> Option<Vote> {
    let vote = Nullify::<Scheme>::read(bytes).ok()?;
    signed(vote.round, Choice::Nullify, &vote.attestation)
}

fn proposed(proposal: &Proposal<sha256::Digest>) -> Proposed {
    Proposed {
        parent: proposal.parent.get(),
        payload: Digest(proposal.payload.0),
    }
}

fn signed(round: Round, choice: Choice, attestation: &Attestation<Scheme>) -> Option<Vote> {
    let signature = attestation.signature.get()?.encode();
    let vote = ConsensusVote {
        epoch: round.epoch().get(),
        view: round.view().get(),
        choice,
        signature: Signature(signature.as_ref().try_into().ok()?),
    };
    Some((usize::from(attestation.signer), vote))
}
