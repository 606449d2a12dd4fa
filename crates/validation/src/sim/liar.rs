//! A validator that signs two things wherever it may sign one.

use std::sync::Arc;

use commonware_codec::{DecodeExt as _, Encode as _};
use commonware_consensus::simplex::scheme::ed25519::Scheme;
use commonware_consensus::simplex::types::{Finalize, Notarize, Nullify, Proposal, Vote};
use commonware_cryptography::{ed25519, sha256};
use commonware_p2p::utils::mux::{self, GlobalSender};
use commonware_p2p::{Receiver, Recipients, Sender};
use commonware_utils::ordered::Set;
use rand_core::Rng;

use crate::machine::Machine;

type Signed = Vote<Scheme, sha256::Digest>;

/// Who gets which of its votes.
#[derive(Debug, Clone, Copy)]
pub(super) enum To {
    /// Each gets one of them, or all.
    Some,
    /// The first validators get what they want to hear, and the third the opposite: nobody gets two.
    Apart,
    /// All get what they want to hear, and the opposite once the view has its certificate.
    Afterwards,
}

/// For every vote that it hears it votes for the same and for another proposal, and to leave the view.
pub(super) async fn run<R: Rng, M: Machine>(
    mut random: R,
    machine: M,
    (key, to): (ed25519::PrivateKey, To),
    keys: Arc<Vec<ed25519::PublicKey>>,
    (sender, mut receiver): (
        impl Sender<PublicKey = ed25519::PublicKey>,
        impl Receiver<PublicKey = ed25519::PublicKey>,
    ),
) {
    let validators = keys.iter().take(machine.validators().len()).cloned();
    let set = Set::from_iter_dedup(validators);
    let Some(scheme) = Scheme::signer(&machine.namespace(), set, key) else {
        return;
    };
    let mut sender = GlobalSender::new(sender);
    let mut before = None;
    while let Ok((_, bytes)) = receiver.recv().await {
        let Ok((epoch, payload)) = mux::parse(bytes) else {
            continue;
        };
        let Ok(vote) = Signed::decode(payload) else {
            continue;
        };
        let (proposal, finalize) = match vote {
            Vote::Notarize(notarize) => (notarize.proposal, false),
            Vote::Finalize(finalize) => (finalize.proposal, true),
            Vote::Nullify(_) => continue,
        };
        let mut forged = [0; 32];
        random.fill_bytes(&mut forged);
        let other = Proposal::new(proposal.round, proposal.parent, sha256::Digest(forged));
        let vote = |proposal: Proposal<sha256::Digest>| -> Option<Signed> {
            if finalize {
                Finalize::sign(&scheme, proposal).map(Vote::Finalize)
            } else {
                Notarize::sign(&scheme, proposal).map(Vote::Notarize)
            }
        };
        let late = Notarize::sign(&scheme, other.clone()).map(Vote::Notarize);
        let leave = Nullify::sign::<sha256::Digest>(&scheme, proposal.round).map(Vote::Nullify);
        let votes: Vec<Signed> = [vote(proposal), vote(other), leave]
            .into_iter()
            .flatten()
            .collect();
        // The one before is final by now.
        let late = match (to, finalize) {
            (To::Afterwards, true) => late.and_then(|late| before.replace(late)),
            _ => None,
        };
        for (place, key) in keys.iter().enumerate() {
            let choice = match to {
                To::Some => (random.next_u64() % 4) as usize,
                To::Apart if place < 2 => 0,
                To::Apart => 1 + usize::from(finalize),
                To::Afterwards => 0,
            };
            let votes = votes.iter().enumerate();
            for (index, vote) in votes.chain(late.iter().map(|late| (choice, late))) {
                if choice == index || choice == 3 {
                    sender.send(epoch, Recipients::One(key.clone()), vote.encode(), true);
                }
            }
        }
    }
}
