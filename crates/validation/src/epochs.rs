//! One consensus instance an epoch, with the epoch's validators.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use commonware_codec::Encode as _;
use commonware_consensus::simplex::config::{ForwardPolicy, SkipBudget, SkipPolicy};
use commonware_consensus::simplex::elector::RoundRobin;
use commonware_consensus::simplex::scheme::ed25519::Scheme;
use commonware_consensus::simplex::types::{Activity, Context, Nullify, Vote};
use commonware_consensus::simplex::{self, Floor, Plan};
use commonware_consensus::types::{Epoch, Epocher as _, FixedEpocher, Round, View, ViewDelta};
use commonware_consensus::{CertifiableAutomaton, Relay, Reporter};
use commonware_cryptography::certificate::{Provider, Scoped};
use commonware_cryptography::{ed25519, sha256};
use commonware_p2p::utils::mux::{Builder as _, MuxHandle, Muxer};
use commonware_p2p::{Blocker, Receiver, Recipients, Sender};
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_runtime::{Clock, Error as RuntimeError, Handle, Metrics, Spawner, Storage};
use commonware_utils::ordered::Set;
use commonware_utils::sync::Mutex;
use commonware_utils::vec::NonEmptyVec;
use commonware_utils::{NZUsize, NonZeroDuration};
use rand_core::CryptoRng;
use tokio::sync::mpsc;
use tracing::{debug, info, warn};

use crate::config::Timing;
use crate::double::{DoubleVotes, Watched};
use crate::engine::{Fatal, Marshal, UNDER_WAY};
use crate::machine::{Digest, Key, Machine};

/// Views of an epoch whose votes are kept.
const KEPT_VIEWS: ViewDelta = ViewDelta::new(32);

/// When a validator tells the others that it is in an epoch, after it has come to it: whoever comes a little later has lost
/// the first word.
const GREETINGS: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_millis(10),
    Duration::from_millis(40),
    Duration::from_millis(150),
    Duration::from_millis(800),
];

/// Buffers of a journal.
const JOURNAL_BUFFER: std::num::NonZeroUsize = NZUsize!(64 << 10);

/// An epoch to start.
pub(crate) struct Enter {
    pub(crate) epoch: Epoch,
    /// The last block of the epoch before.
    pub(crate) floor: Digest,
    pub(crate) validators: Vec<Key>,
}

/// The keys that sign in each epoch.
#[derive(Clone)]
pub(crate) struct Schemes {
    namespace: Arc<[u8]>,
    key: ed25519::PrivateKey,
    epochs: Arc<Mutex<BTreeMap<Epoch, Scoped<Scheme>>>>,
}

impl Schemes {
    pub(crate) fn new(namespace: &[u8], key: ed25519::PrivateKey) -> Self {
        Self {
            namespace: Arc::from(namespace),
            key,
            epochs: Arc::default(),
        }
    }

    /// Sets an epoch's validators. Votes are signed only if this node is one of them.
    fn set(
        &self,
        epoch: Epoch,
        validators: &[Key],
    ) -> Result<(Scheme, Set<ed25519::PublicKey>), Fatal> {
        let keys = validators
            .iter()
            .map(public_key)
            .collect::<Option<Vec<_>>>()
            .filter(|keys| !keys.is_empty())
            .ok_or(Fatal::Validators(epoch.get()))?;
        let set = Set::from_iter_dedup(keys);
        let (scheme, scoped) = match Scheme::signer(&self.namespace, set.clone(), self.key.clone())
        {
            Some(scheme) => (scheme.clone(), Scoped::scheme(Arc::new(scheme))),
            None => {
                let scheme = Scheme::verifier(&self.namespace, set.clone());
                (scheme.clone(), Scoped::verifier(Arc::new(scheme)))
            }
        };
        self.epochs.lock().insert(epoch, scoped);
        Ok((scheme, set))
    }
}

impl Provider for Schemes {
    type Scope = Epoch;
    type Scheme = Scheme;

    fn scoped(&self, epoch: Epoch) -> Option<Scoped<Scheme>> {
        self.epochs.lock().get(&epoch).cloned()
    }
}

/// A key as the engine has it; `None` for bytes that are no point of the curve.
pub(crate) fn public_key(key: &Key) -> Option<ed25519::PublicKey> {
    use commonware_codec::DecodeExt as _;
    ed25519::PublicKey::decode(bytes::Bytes::copy_from_slice(key)).ok()
}

/// The channels of consensus.
pub(crate) struct ConsensusChannels<S, R> {
    pub(crate) votes: (S, R),
    pub(crate) certificates: (S, R),
    pub(crate) resolver: (S, R),
}

/// What an epoch's instance is made of.
pub(crate) struct Epochs<E, M: Machine, A, B> {
    pub(crate) context: E,
    pub(crate) automaton: A,
    pub(crate) blocker: B,
    pub(crate) schemes: Schemes,
    pub(crate) marshal: Marshal<M>,
    pub(crate) epocher: FixedEpocher,
    pub(crate) timing: Timing,
    pub(crate) prefix: String,
    pub(crate) page_cache: CacheRef,
    pub(crate) double_votes: DoubleVotes,
}

impl<E, M, A, B> Epochs<E, M, A, B>
where
    E: Clock + CryptoRng + Spawner + Storage + Metrics,
    M: Machine,
    A: CertifiableAutomaton<
            Context = Context<sha256::Digest, ed25519::PublicKey>,
            Digest = sha256::Digest,
        > + Relay<
            Digest = sha256::Digest,
            PublicKey = ed25519::PublicKey,
            Plan = Plan<ed25519::PublicKey>,
        > + Reporter<Activity = Activity<Scheme, sha256::Digest>>,
    B: Blocker<PublicKey = ed25519::PublicKey>,
{
    /// Runs one epoch's instance after the other.
    pub(crate) async fn run<S, R>(
        self,
        channels: ConsensusChannels<S, R>,
        mut enter: mpsc::UnboundedReceiver<Enter>,
    ) -> Result<(), Fatal>
    where
        S: Sender<PublicKey = ed25519::PublicKey>,
        R: Receiver<PublicKey = ed25519::PublicKey>,
    {
        let (votes, mut vote_mux, mut early_votes) = Muxer::builder(
            self.context.child("votes"),
            channels.votes.0,
            channels.votes.1,
        )
        .with_backup()
        .build();
        votes.start();
        let (certificates, mut certificate_mux, mut early_certificates) = Muxer::builder(
            self.context.child("certificates"),
            channels.certificates.0,
            channels.certificates.1,
        )
        .with_backup()
        .build();
        certificates.start();
        let (resolver, mut resolver_mux) = Muxer::new(
            self.context.child("resolver"),
            channels.resolver.0,
            channels.resolver.1,
        );
        resolver.start();

        let mut active: Option<(Epoch, Handle<()>)> = None;
        let mut kept_from = 0;
        loop {
            let early = tokio::select! { biased;
                next = enter.recv() => {
                    let Some(next) = next else { break };
                    if let Some((epoch, handle)) = active.take() {
                        debug!(epoch = epoch.get(), "the epoch ends");
                        handle.abort();
                        // Its channels are free when it is gone.
                        let _ = handle.await;
                    }
                    let epoch = next.epoch;
                    let handle = self
                        .start(next, &mut vote_mux, &mut certificate_mux, &mut resolver_mux)
                        .await?;
                    active = Some((epoch, handle));
                    self.forget(epoch, &mut kept_from).await;
                    continue;
                }
                early = early_votes.recv() => early,
                early = early_certificates.recv() => early,
            };
            let Some((their_epoch, (from, _))) = early else {
                break;
            };
            // Somebody is in a later epoch: the last block of this one is final there.
            if let Some((epoch, _)) = &active
                && their_epoch > epoch.get()
                && let Some(last) = self.epocher.last(*epoch)
            {
                self.marshal.hint_finalized(last, NonEmptyVec::new(from));
            }
        }
        if let Some((_, handle)) = active {
            handle.abort();
        }
        Ok(())
    }

    /// Deletes journals of epochs that are long over: what keeps a validator that starts again from voting twice is needed only
    /// where it may vote again. Some stay, for a crash that takes along what was applied last. Those before `from` are gone; it goes up.
    async fn forget(&self, epoch: Epoch, from: &mut u64) {
        let length = self
            .epocher
            .last(Epoch::zero())
            .map_or(1, |last| last.get().saturating_add(1));
        let kept = (UNDER_WAY.get() as u64).div_ceil(length).saturating_add(2);
        let end = epoch.get().saturating_sub(kept);
        for old in *from..end {
            match self.context.remove(&self.journal(old), None).await {
                // An epoch in which this node had no part.
                Ok(()) | Err(RuntimeError::PartitionMissing(_)) => {}
                Err(error) => {
                    warn!(epoch = old, %error, "an old epoch's journal cannot be deleted");
                }
            }
        }
        *from = end;
    }

    fn journal(&self, epoch: u64) -> String {
        format!("{}-epoch-{epoch}", self.prefix)
    }

    async fn start<S>(
        &self,
        next: Enter,
        votes: &mut MuxHandle<S>,
        certificates: &mut MuxHandle<S>,
        resolver: &mut MuxHandle<S>,
    ) -> Result<Handle<()>, Fatal>
    where
        S: Sender<PublicKey = ed25519::PublicKey>,
    {
        let Enter {
            epoch,
            floor,
            validators,
        } = next;
        let (scheme, set) = self.schemes.set(epoch, &validators)?;
        info!(
            epoch = epoch.get(),
            validators = validators.len(),
            "an epoch begins"
        );
        let closed = |_| Fatal::Network;
        let channels = (
            votes.register(epoch.get()).await.map_err(closed)?,
            certificates.register(epoch.get()).await.map_err(closed)?,
            resolver.register(epoch.get()).await.map_err(closed)?,
        );
        if let Some(greeting) = greeting(&scheme, epoch) {
            let sender = channels.0.0.clone();
            let context = self.context.child("greeting");
            context.spawn(move |context| greet(context, sender, greeting));
        }
        let engine = simplex::Engine::new(
            self.context
                .child("consensus")
                .with_attribute("epoch", epoch),
            simplex::Config {
                scheme,
                elector: RoundRobin::<sha256::Sha256>::default(),
                blocker: self.blocker.clone(),
                automaton: self.automaton.clone(),
                relay: self.automaton.clone(),
                reporter: Watched::new(self.automaton.clone(), set, self.double_votes.clone()),
                // Two votes that exclude each other are told also if the second comes after the certificate.
                track_historical_votes: true,
                strategy: Sequential,
                partition: self.journal(epoch.get()),
                mailbox_size: NZUsize!(1024),
                epoch,
                floor: Floor::Genesis(sha256::Digest(floor)),
                replay_buffer: JOURNAL_BUFFER,
                write_buffer: JOURNAL_BUFFER,
                page_cache: self.page_cache.clone(),
                leader_timeout: self.timing.leader,
                certification_timeout: self.timing.view(),
                timeout_retry: self.timing.retry,
                view_retention: KEPT_VIEWS,
                skip: SkipPolicy::Enabled {
                    timeout: self.timing.silence(),
                    budget: SkipBudget::Participants,
                },
                fetch_timeout: NonZeroDuration::new(self.timing.fetch).ok_or(Fatal::Timing)?,
                fetch_retry_delay: self.timing.fetch / 10,
                forward: ForwardPolicy::SilentVoters,
            },
        );
        Ok(engine.start(channels.0, channels.1, channels.2))
    }
}

/// A vote against the view before the first: it decides nothing, but whoever has it knows that its signer is there. `None` of a
/// node that has no vote.
///
/// An instance passes over a leader from which it has heard nothing yet, once it has heard of enough others. Without a
/// greeting those whose first votes come last would be passed over by some and waited for by others, and the view would
/// take its whole time.
fn greeting(scheme: &Scheme, epoch: Epoch) -> Option<bytes::Bytes> {
    let round = Round::new(epoch, View::zero());
    let nullify = Nullify::sign::<sha256::Digest>(scheme, round)?;
    Some(Vote::<Scheme, sha256::Digest>::Nullify(nullify).encode())
}

/// Send it a few times.
async fn greet<E: Clock, S: Sender>(context: E, mut sender: S, greeting: bytes::Bytes) {
    for after in GREETINGS {
        context.sleep(after).await;
        sender.send(Recipients::All, greeting.clone(), false);
    }
}
