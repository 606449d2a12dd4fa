//! The parts of one validator, put together over any runtime and any network.

use std::collections::BTreeMap;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use commonware_broadcast::buffered;
use commonware_codec::{DecodeExt as _, Encode as _};
use commonware_consensus::marshal::core::{Actor, Mailbox, Processed};
use commonware_consensus::marshal::resolver::p2p as backfill;
use commonware_consensus::marshal::standard::{Inline, Standard};
use commonware_consensus::marshal::{self, Start};
use commonware_consensus::simplex;
use commonware_consensus::simplex::scheme::ed25519::Scheme;
use commonware_consensus::types::{FixedEpocher, Height, ViewDelta};
use commonware_cryptography::{Digestible as _, Signer as _, ed25519, sha256};
use commonware_p2p::utils::mux;
use commonware_p2p::{Blocker, Provider, Receiver, Recipients, Sender, max_message_size};
use commonware_parallel::Sequential;
use commonware_runtime::buffer::paged::CacheRef;
use commonware_runtime::{Clock, Handle, Metrics, Quota, Spawner, Storage};
use commonware_utils::{NZUsize, NonZeroDuration};
use defim_ledger::{ConsensusVote, NodeId};
use rand_core::CryptoRng;
use tokio::sync::{broadcast, mpsc, watch};

use crate::app::{App, millis};
use crate::archives::{self, BUFFER, PAGE, PER_SECTION};
use crate::block::Wire;
use crate::config::{Limits, Timing};
use crate::epochs::{ConsensusChannels, Epochs, Schemes};
use crate::finaliser::{Finaliser, delivery};
use crate::machine::{Chained as _, Checker, Digest, Machine};
use crate::mempool::Refused;
use crate::shared::{Final, Head, Settled, Shared};

/// Marshal's mailbox.
pub(crate) type Marshal<M> = Mailbox<Scheme, Standard<Wire<<M as Machine>::Block>>>;

const MAILBOX: NonZeroUsize = NZUsize!(1024);
/// Final blocks under way to the ledger, and gaps that are filled at a time.
pub(crate) const UNDER_WAY: NonZeroUsize = NZUsize!(16);
/// Views below the final one whose blocks peers may still ask for.
const KEPT_VIEWS: ViewDelta = ViewDelta::new(32);
/// Blocks of each peer that are held before they are asked for.
const BLOCKS_HELD: usize = 16;
/// Waiting transactions that are sent again at a time.
const SENT_AGAIN: usize = 64;
/// How often.
const SENDING_AGAIN: Duration = Duration::from_secs(5);

/// Channels of the validators' network: votes, certificates, asking for certificates, for blocks, new blocks, and
/// transactions. Numbers and quotas are part of the protocol. The network takes memory for a whole burst of every
/// peer at once, so bursts are what a few views need and no more.
pub(crate) const CHANNELS: [(u64, Quota); 6] = [
    (0, quota(512, 128)),
    (1, quota(512, 128)),
    (2, quota(256, 64)),
    (3, quota(256, 64)),
    (4, quota(128, 32)),
    (5, quota(1024, 256)),
];

const fn quota(per_second: u32, burst: u32) -> Quota {
    const fn at_least_one(number: u32) -> NonZeroU32 {
        match NonZeroU32::new(number) {
            Some(number) => number,
            None => NonZeroU32::MIN,
        }
    }
    Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst))
}

/// What stops a validator for good: its own files or its own rules, never what others send.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Fatal {
    /// The times do not fit together.
    #[error(
        "the configured times do not fit together: every one must be above 0, and `leader` above three times `linger`"
    )]
    Timing,
    /// The key seed is none.
    #[error("the node's key is not a valid ed25519 seed; make a new one")]
    Key,
    /// The validators of an epoch are none, or are no keys.
    #[error(
        "the validators of epoch {0} are none, or some are not keys; the ledger must refuse such a set"
    )]
    Validators(u64),
    /// An epoch must have at least two blocks.
    #[error("an epoch of {0} blocks is too short; the genesis must say at least 2")]
    EpochLength(u64),
    /// A block that was final is not in the files.
    #[error(
        "block {0} was final and is not in the node's files: they are damaged; start with an empty folder and a new key"
    )]
    Missing(u64),
    /// A final block does not hold by this node's rules.
    #[error(
        "final block {height} does not hold by this node's rules ({reason}): this version and the other validators' differ, or the files are damaged"
    )]
    Broken {
        /// Its height.
        height: u64,
        /// What is wrong.
        reason: String,
    },
    /// The files.
    #[error("the node's files cannot be read or written: {0}")]
    Storage(String),
    /// The network ended.
    #[error("the validators' network ended; restart the node")]
    Network,
    /// A part of the node ended.
    #[error("a part of the validation node ended: {0}; restart the node")]
    Part(String),
}

/// Settings of one validator.
pub(crate) struct Settings<M, C> {
    pub(crate) machine: M,
    pub(crate) checker: C,
    pub(crate) key: ed25519::PrivateKey,
    pub(crate) timing: Timing,
    pub(crate) limits: Limits,
    /// Starts the names of its files.
    pub(crate) prefix: String,
}

/// Its network.
pub(crate) struct Net<S, R, P, B> {
    pub(crate) votes: (S, R),
    pub(crate) certificates: (S, R),
    pub(crate) resolver: (S, R),
    pub(crate) backfill: (S, R),
    pub(crate) blocks: (S, R),
    pub(crate) transactions: (S, R),
    pub(crate) peers: P,
    pub(crate) blocker: B,
}

/// The most bytes of a message, for all validators alike.
pub(crate) fn message_bytes<M: Machine>(limits: &Limits) -> u32 {
    max_message_size(&[
        mux::prefixed(simplex::max_payload_size::<Scheme, sha256::Digest>(
            limits.validators,
        )),
        marshal::max_payload_size::<Standard<Wire<M::Block>>, Scheme>(
            limits.validators,
            &limits.block_bytes,
        ),
        limits.pool.transaction_bytes,
    ])
}

/// A running validator, to ask and to give transactions. It is the same on every runtime.
pub struct Running<M: Machine> {
    shared: Arc<Shared<M>>,
    marshal: Marshal<M>,
    gossip: mpsc::UnboundedSender<Bytes>,
}

impl<M: Machine> Clone for Running<M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            marshal: self.marshal.clone(),
            gossip: self.gossip.clone(),
        }
    }
}

/// A final block as it is kept.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The ledger's canonical bytes.
    pub block: Bytes,
    /// The certificate's bytes. A block that became final only through one above it has none.
    pub certificate: Option<Bytes>,
}

impl<M: Machine> Running<M> {
    /// Takes a transaction and sends it to the other validators.
    ///
    /// # Errors
    ///
    /// Why it is not taken.
    pub fn submit(&self, tx: M::Tx, now_ms: u64) -> Result<Digest, Refused<M::Reject>> {
        let bytes = self.shared.machine.encode_tx(&tx);
        let id = self.shared.submit(tx, now_ms)?;
        self.gossip
            .send(Bytes::from(bytes))
            .map_err(|_| Refused::Stopped)?;
        Ok(id)
    }

    /// The newest final block that has a certificate.
    pub fn head(&self) -> watch::Receiver<Head> {
        self.shared.head.subscribe()
    }

    /// Final blocks from now on.
    pub fn events(&self) -> broadcast::Receiver<Arc<Final<M::Block>>> {
        self.shared.events.subscribe()
    }

    /// The newest final block and the state after it.
    pub fn settled(&self) -> Settled<M> {
        self.shared.settled()
    }

    /// Validators that this one has seen vote twice in one view since it started, with the votes that show it.
    pub fn double_votes(&self) -> BTreeMap<NodeId, [ConsensusVote; 2]> {
        self.shared.double_votes.all()
    }

    /// Transactions that wait.
    pub fn waiting(&self) -> usize {
        self.shared.pool.lock().waiting()
    }

    /// A final block by its height. `None` if it is not final here yet.
    pub async fn block(&self, height: u64) -> Option<Stored> {
        if height > self.shared.settled().block.height() {
            return None;
        }
        let block = self.marshal.get_block(Height::new(height)).await?;
        let certificate = self
            .marshal
            .get_finalization(Height::new(height))
            .await
            .map(|finalization| finalization.encode());
        Some(Stored {
            block: block.inner().bytes(),
            certificate,
        })
    }
}

/// Starts a validator below `context`. The handle ends with the first part that ends, which is never in
/// the ordinary course of things; whoever drops the tasks of `context` stops them all.
pub(crate) async fn start<E, M, C, S, R, P, B>(
    context: E,
    settings: Settings<M, C>,
    net: Net<S, R, P, B>,
) -> Result<(Running<M>, Handle<Fatal>), Fatal>
where
    E: Clock + CryptoRng + Spawner + Storage + Metrics,
    M: Machine,
    C: Checker<M>,
    S: Sender<PublicKey = ed25519::PublicKey>,
    R: Receiver<PublicKey = ed25519::PublicKey>,
    P: Provider<PublicKey = ed25519::PublicKey> + Sync,
    B: Blocker<PublicKey = ed25519::PublicKey> + Sync,
{
    let Settings {
        machine,
        checker,
        key,
        timing,
        limits,
        prefix,
    } = settings;
    if !timing.consistent() {
        return Err(Fatal::Timing);
    }
    let length = machine.epoch_length();
    let epocher = NonZeroU64::new(length)
        .filter(|length| length.get() > 1)
        .map(FixedEpocher::new)
        .ok_or(Fatal::EpochLength(length))?;
    let me = key.public_key();
    let cache = CacheRef::new(PAGE, limits.cache_pages);
    let schemes = Schemes::new(&machine.namespace(), key);
    let shared = Shared::new(machine, limits.pool);
    let fetch = NonZeroDuration::new(timing.fetch).ok_or(Fatal::Timing)?;

    let resolver = backfill::init(
        context.child("backfill"),
        backfill::Config {
            public_key: me.clone(),
            peer_provider: net.peers.clone(),
            blocker: net.blocker.clone(),
            mailbox_size: MAILBOX,
            fetch_timeout: fetch,
            fetch_retry_delay: timing.fetch / 10,
            priority_requests: false,
            priority_responses: false,
        },
        net.backfill,
    );
    let (buffer_engine, buffer) = buffered::Engine::new(
        context.child("blocks"),
        buffered::Config {
            public_key: me,
            mailbox_size: MAILBOX,
            deque_size: BLOCKS_HELD,
            priority: false,
            codec_config: limits.block_bytes,
            peer_provider: net.peers,
            strategy: Sequential,
        },
    );
    buffer_engine.start(net.blocks);

    let (finalizations, blocks) = archives::open(&context, &prefix, &cache, &limits).await?;
    let genesis = Wire::new(shared.machine.genesis());
    let genesis_digest = genesis.digest();
    let (actor, marshal, floor) = Actor::init(
        context.child("marshal"),
        finalizations,
        blocks,
        marshal::Config {
            provider: schemes.clone(),
            epocher: epocher.clone(),
            start: Start::Genesis(commonware_cryptography::Digested::precomputed(
                genesis,
                genesis_digest,
            )),
            partition_prefix: format!("{prefix}-marshal"),
            mailbox_size: MAILBOX,
            view_retention: KEPT_VIEWS,
            prunable_items_per_section: PER_SECTION,
            page_cache: cache.clone(),
            replay_buffer: BUFFER,
            key_write_buffer: BUFFER,
            value_write_buffer: BUFFER,
            block_codec_config: limits.block_bytes,
            max_repair: UNDER_WAY,
            max_pending_acks: UNDER_WAY,
            strategy: Sequential,
        },
    )
    .await;
    let processed = floor.processed().map(Processed::height).map(Height::get);
    let (deliver, delivered) = delivery();
    let marshal_task = actor.start(deliver, buffer, resolver);

    let automaton = Inline::new(
        context.child("automaton"),
        App::new(
            shared.clone(),
            checker,
            timing,
            limits.block_transactions,
            limits.block_bytes,
        ),
        marshal.clone(),
        epocher.clone(),
    );
    let (enter, entered) = mpsc::unbounded_channel();
    let finaliser = Finaliser::open(
        context.child("finaliser"),
        shared.clone(),
        marshal.clone(),
        epocher.clone(),
        delivered,
        enter,
        (&prefix, limits.snapshot_every, limits.snapshot_bytes),
    )
    .await?;
    let finaliser_task = context
        .child("finaliser")
        .spawn(move |_| finaliser.run(processed));
    let epochs: Epochs<_, M, _, _> = Epochs {
        context: context.child("epochs"),
        automaton,
        blocker: net.blocker,
        schemes,
        marshal: marshal.clone(),
        epocher,
        timing,
        prefix,
        page_cache: cache,
        double_votes: shared.double_votes.clone(),
    };
    let channels = ConsensusChannels {
        votes: net.votes,
        certificates: net.certificates,
        resolver: net.resolver,
    };
    let epochs_task = context
        .child("epochs")
        .spawn(move |_| epochs.run(channels, entered));
    let (gossip, outgoing) = mpsc::unbounded_channel();
    let gossip_task = context.child("transactions").spawn({
        let shared = shared.clone();
        let most = limits.pool.transaction_bytes;
        move |context| transactions(context, shared, net.transactions, outgoing, most)
    });

    let watch = context.child("watch").spawn(move |_| async move {
        let ended = |name: &str| Fatal::Part(name.to_owned());
        tokio::select! { biased;
            end = finaliser_task => end.ok().and_then(Result::err).unwrap_or_else(|| ended("finaliser")),
            end = epochs_task => end.ok().and_then(Result::err).unwrap_or_else(|| ended("epochs")),
            _ = marshal_task => ended("marshal"),
            _ = gossip_task => ended("transactions"),
        }
    });
    Ok((
        Running {
            shared,
            marshal,
            gossip,
        },
        watch,
    ))
}

/// Sends own transactions to the others and takes theirs. All are connected to all: nobody passes on.
async fn transactions<E, M, S, R>(
    clock: E,
    shared: Arc<Shared<M>>,
    (mut sender, mut receiver): (S, R),
    mut outgoing: mpsc::UnboundedReceiver<Bytes>,
    most: usize,
) where
    E: Clock,
    M: Machine,
    S: Sender<PublicKey = ed25519::PublicKey>,
    R: Receiver<PublicKey = ed25519::PublicKey>,
{
    let mut again = Box::pin(clock.sleep(SENDING_AGAIN));
    let mut asked = true;
    loop {
        tokio::select! { biased;
            ours = outgoing.recv(), if asked => {
                let Some(bytes) = ours else {
                    // Nobody holds a handle any more; the others' transactions still matter.
                    asked = false;
                    continue;
                };
                // Sending more than the network was promised ends the process.
                if bytes.len() <= most {
                    sender.send(Recipients::All, bytes, false);
                }
            }
            theirs = receiver.recv() => {
                let Ok((_, bytes)) = theirs else { return };
                if bytes.len() > most {
                    continue;
                }
                if let Some(tx) = shared.machine.decode_tx(bytes.as_ref()) {
                    // A peer's transaction is judged as anybody's; why it is refused is its sender's to know.
                    let _ = shared.submit(tx, millis(clock.current()));
                }
            }
            () = &mut again => {
                // Whoever was away when a transaction was sent, or restarted since, has it now.
                let settled = shared.settled();
                let pool = shared.pool.lock();
                let waiting = pool.sample(&shared.machine, &settled.state, SENT_AGAIN);
                drop(pool);
                for bytes in waiting {
                    if bytes.len() <= most {
                        sender.send(Recipients::All, Bytes::from(bytes), false);
                    }
                }
                again = Box::pin(clock.sleep(SENDING_AGAIN));
            }
        }
    }
}

/// The key that a 32-byte seed gives.
pub(crate) fn private_key(seed: &[u8; 32]) -> Result<ed25519::PrivateKey, Fatal> {
    ed25519::PrivateKey::decode(Bytes::copy_from_slice(seed)).map_err(|_| Fatal::Key)
}

/// The public key that a seed gives: what names the node.
///
/// # Errors
///
/// If the seed is none.
pub fn key_of(seed: &[u8; 32]) -> Result<crate::machine::Key, Fatal> {
    Ok(crate::node::bytes_of(&private_key(seed)?.public_key()))
}
