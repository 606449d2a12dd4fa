//! A validator on a real network: its own thread with its own runtime, and a handle for the rest of the
//! program.

#![allow(clippy::disallowed_methods)] // The driver: here time comes from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use commonware_cryptography::{ChaCha20Poly1305, Signer as _, ed25519};
use commonware_p2p::authenticated::lookup;
use commonware_p2p::{Address, AddressableManager as _};
use commonware_runtime::{Runner as _, Spawner as _, Supervisor as _};
use commonware_stream::cups::{self, Cups};
use commonware_stream::sake::{self, Sake};
use commonware_utils::NZUsize;
use commonware_utils::ordered::Map;
use defim_ledger::{ConsensusVote, NodeId};
use tokio::sync::{broadcast, oneshot, watch};
use tracing::{error, warn};

use crate::app::millis;
use crate::archives;
use crate::config::{Limits, Timing};
use crate::engine::{self, CHANNELS, Fatal, Net, Running, Settings, Stored};
use crate::epochs::public_key;
use crate::ledger::Ledger;
use crate::machine::{Chained as _, Checker, Deep, Digest, Key, Machine};
use crate::mempool::Refused;
use crate::shared::{Final, Head, Settled};

/// Separates these connections from those of other programs with the same keys.
const NETWORK: &[u8] = b"defim v1 validators";

/// Nodes that may come to those a validator is started with. The network takes memory for every one, there or not.
const SPARE_PEERS: usize = 16;

/// Sets of peers of which connections are kept: the one before stays while a new one is taken up.
const PEER_SETS: NonZeroUsize = NZUsize!(2);

/// How long a node may take to end its tasks.
const STOPPING: Duration = Duration::from_secs(5);

/// What a validator is started with.
#[derive(Clone)]
pub struct Config<M = Ledger, C = Deep<M>> {
    /// The ledger's rules, with the genesis in them.
    pub machine: M,
    /// What is checked beyond the rules.
    pub checker: C,
    /// The seed of the node's ed25519 key, the same key that names it in the mesh.
    pub seed: [u8; 32],
    /// Where it listens.
    pub listen: SocketAddr,
    /// The other validators, and those who follow or will be validators, with their addresses.
    pub peers: Vec<(Key, SocketAddr)>,
    /// Its folder on a local disk. It must never be copied, restored from a copy, or shared: a validator
    /// that forgets what it signed signs a second time.
    pub data: PathBuf,
    /// How long it waits for what.
    pub timing: Timing,
    /// Sizes; alike on all validators.
    pub limits: Limits,
}

impl<M, C> Config<M, C> {
    /// A configuration with the usual times and sizes.
    pub fn new(
        machine: M,
        checker: C,
        seed: [u8; 32],
        listen: SocketAddr,
        peers: Vec<(Key, SocketAddr)>,
        data: PathBuf,
    ) -> Self {
        Self {
            machine,
            checker,
            seed,
            listen,
            peers,
            data,
            timing: Timing::default(),
            limits: Limits::default(),
        }
    }
}

/// Starts validators.
#[derive(Clone, Copy, Debug)]
pub struct Node;

impl Node {
    /// Starts a validator on its own thread. It runs until [`NodeHandle::stop`], or until the last handle
    /// is dropped.
    ///
    /// # Errors
    ///
    /// If the configuration or the node's files do not allow it.
    pub async fn start(config: Config<Ledger, Deep<Ledger>>) -> Result<NodeHandle<Ledger>, Fatal> {
        launch_ledger(config)?.started().await
    }

    /// Puts final blocks that were made elsewhere, from height 1 on without a gap, into the files of a node that has
    /// none yet; for measurements of long histories. The node carries them out when it starts, and believes
    /// their certificates, as it believes all its files. It returns when all is written.
    ///
    /// # Errors
    ///
    /// If the files cannot be written, or these are no blocks.
    pub fn fill(
        config: &Config,
        blocks: Box<dyn Iterator<Item = Stored> + Send>,
    ) -> Result<(), Fatal> {
        let id = engine::key_of(&config.seed)?;
        let prefix = prefix(&id, &Machine::genesis(&config.machine).digest().0);
        let runner = commonware_runtime::tokio::Runner::new(
            commonware_runtime::tokio::Config::new()
                .with_worker_threads(1)
                .with_storage_directory(config.data.clone()),
        );
        let limits = config.limits;
        // The runner starts a runtime of its own, which no thread of another one may.
        let filled = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    runner.start(|context| async move {
                        archives::fill::<_, <Ledger as Machine>::Block>(
                            context, &prefix, &limits, blocks,
                        )
                        .await
                    })
                })
                .join()
        });
        filled.map_err(|_| Fatal::Part("it panicked; its message is above".to_owned()))?
    }
}

/// The one instance of the engine for real nodes: compiled here, once, and not in every program.
#[inline(never)]
fn launch_ledger(config: Config<Ledger, Deep<Ledger>>) -> Result<Launched<Ledger>, Fatal> {
    launch(config)
}

/// A node on its way.
struct Launched<M: Machine> {
    id: Key,
    started: oneshot::Receiver<Running<M>>,
    stop: oneshot::Sender<()>,
    peers: watch::Sender<Vec<(Key, SocketAddr)>>,
    end: watch::Receiver<Option<Result<(), Fatal>>>,
}

fn launch<M: Machine, C: Checker<M>>(config: Config<M, C>) -> Result<Launched<M>, Fatal> {
    let key = engine::private_key(&config.seed)?;
    let id = bytes_of(&key.public_key());
    let (peers, peers_watched) = watch::channel(config.peers.clone());
    let (stop, stopped) = oneshot::channel();
    let (ready, started) = oneshot::channel();
    let (ended, end) = watch::channel(None);
    std::thread::Builder::new()
        .name("defim-validator".to_owned())
        .spawn(move || {
            let runner = commonware_runtime::tokio::Runner::new(
                commonware_runtime::tokio::Config::new()
                    .with_worker_threads(2)
                    .with_storage_directory(config.data.clone()),
            );
            // A panic in a dependency ends this node, not the program it is part of.
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                runner.start(|context| run(context, config, key, peers_watched, ready, stopped))
            }));
            let outcome = outcome.unwrap_or_else(|_| {
                Err(Fatal::Part("it panicked; its message is above".to_owned()))
            });
            if let Err(reason) = &outcome {
                error!(%reason, "the validation node ended");
            }
            // Nobody asking is fine.
            let _ = ended.send(Some(outcome));
        })
        .map_err(|error| Fatal::Part(error.to_string()))?;
    Ok(Launched {
        id,
        started,
        stop,
        peers,
        end,
    })
}

impl<M: Machine> Launched<M> {
    async fn started(mut self) -> Result<NodeHandle<M>, Fatal> {
        match self.started.await {
            Ok(running) => Ok(NodeHandle {
                id: self.id,
                running,
                inner: Arc::new(Inner {
                    stop: std::sync::Mutex::new(Some(self.stop)),
                    peers: self.peers,
                    end: self.end,
                }),
            }),
            // It ended before it ran: why is in its last word.
            Err(_) => {
                let outcome = self
                    .end
                    .wait_for(Option::is_some)
                    .await
                    .ok()
                    .and_then(|outcome| outcome.clone());
                Err(match outcome {
                    Some(Err(reason)) => reason,
                    _ => Fatal::Part("it did not start".to_owned()),
                })
            }
        }
    }
}

/// A running validator. Clones are handles to the same one.
pub struct NodeHandle<M: Machine = Ledger> {
    id: Key,
    running: Running<M>,
    inner: Arc<Inner>,
}

impl<M: Machine> Clone for NodeHandle<M> {
    fn clone(&self) -> Self {
        Self {
            id: self.id,
            running: self.running.clone(),
            inner: self.inner.clone(),
        }
    }
}

struct Inner {
    stop: std::sync::Mutex<Option<oneshot::Sender<()>>>,
    peers: watch::Sender<Vec<(Key, SocketAddr)>>,
    end: watch::Receiver<Option<Result<(), Fatal>>>,
}

impl<M: Machine> NodeHandle<M> {
    /// The node's public key.
    pub const fn id(&self) -> Key {
        self.id
    }

    /// Takes a transaction and sends it to the other validators. It waits there for a block; listen to
    /// [`NodeHandle::events`] to know when it is in one.
    ///
    /// # Errors
    ///
    /// Why it is not taken: the ledger's reason, or that there is no room.
    pub async fn submit(&self, tx: M::Tx) -> Result<Digest, Refused<M::Reject>> {
        if self.inner.end.borrow().is_some() {
            return Err(Refused::Stopped);
        }
        self.running.submit(tx, millis(SystemTime::now()))
    }

    /// The newest final block with its certificate, and every later one.
    pub fn head(&self) -> watch::Receiver<Head> {
        self.running.head()
    }

    /// A final block by its height.
    pub async fn block(&self, height: u64) -> Option<Stored> {
        self.running.block(height).await
    }

    /// The state after the newest final block.
    pub fn state(&self) -> Arc<M::State> {
        self.running.settled().state
    }

    /// The newest final block with the state after it, from the same moment.
    pub fn settled(&self) -> Settled<M> {
        self.running.settled()
    }

    /// Final blocks from now on. A listener that is more than a thousand behind loses the oldest.
    pub fn events(&self) -> broadcast::Receiver<Arc<Final<M::Block>>> {
        self.running.events()
    }

    /// Transactions that wait for a block.
    pub fn waiting(&self) -> usize {
        self.running.waiting()
    }

    /// Validators that this node has seen vote twice in one view since it started, with the votes that show it.
    pub fn double_votes(&self) -> BTreeMap<NodeId, [ConsensusVote; 2]> {
        self.running.double_votes()
    }

    /// Changes whom the node connects to: validators to come must be known before their first epoch. At most
    /// sixteen more than it was started with; the rest are left out.
    pub fn set_peers(&self, peers: Vec<(Key, SocketAddr)>) {
        self.inner.peers.send_replace(peers);
    }

    /// Waits until the node has ended.
    ///
    /// # Errors
    ///
    /// Why it ended, if nobody stopped it.
    pub async fn ended(&self) -> Result<(), Fatal> {
        let mut end = self.inner.end.clone();
        let outcome = end
            .wait_for(Option::is_some)
            .await
            .map_err(|_| Fatal::Part("its thread is gone".to_owned()))?
            .clone();
        outcome.unwrap_or(Ok(()))
    }

    /// Stops the node and waits until its thread has let go of its folder and its port.
    ///
    /// # Errors
    ///
    /// Why it had ended before, if it had.
    pub async fn stop(&self) -> Result<(), Fatal> {
        let stop = self
            .inner
            .stop
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        if let Some(stop) = stop {
            // It may have ended by itself.
            let _ = stop.send(());
        }
        self.ended().await
    }
}

pub(crate) fn bytes_of(key: &ed25519::PublicKey) -> Key {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(key.as_ref());
    bytes
}

/// Names the files by key and genesis: with another key or another ledger the node starts anew instead
/// of signing with another's memory.
pub(crate) fn prefix(key: &Key, genesis: &Digest) -> String {
    let short = |bytes: &[u8]| {
        bytes
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    format!("v1-{}-{}", short(key), short(genesis))
}

async fn run<M: Machine, C: Checker<M>>(
    context: commonware_runtime::tokio::Context,
    config: Config<M, C>,
    key: ed25519::PrivateKey,
    mut peers: watch::Receiver<Vec<(Key, SocketAddr)>>,
    ready: oneshot::Sender<Running<M>>,
    stop: oneshot::Receiver<()>,
) -> Result<(), Fatal> {
    let me = key.public_key();
    let most_peers = NonZeroUsize::MIN.saturating_add(config.peers.len() + SPARE_PEERS);
    let mut network = lookup::Config::local(
        Cups::<_, ChaCha20Poly1305>::new(
            Sake {
                signer: key.clone(),
                synchrony_bound: Duration::from_secs(5),
                max_handshake_age: Duration::from_secs(10),
                version: sake::Version::V1,
            },
            cups::Version::V1,
        ),
        &[NETWORK, &config.machine.namespace()].concat(),
        config.listen,
        most_peers,
        engine::message_bytes::<M>(&config.limits),
        NZUsize!(1024),
    );
    // Keys say who somebody is; where they call from may change behind a company's router.
    network.bypass_ip_check = true;
    network.tracked_peer_sets = PEER_SETS;
    // A peer that sent something wrong may have been repaired since.
    network.block_duration = Duration::from_secs(60);
    let (mut network, mut oracle) = lookup::Network::new(context.child("network"), network);
    let [
        votes,
        certificates,
        resolver,
        backfill,
        blocks,
        transactions,
    ] = CHANNELS.map(|(number, quota)| network.register(number, quota));
    let net = Net {
        votes,
        certificates,
        resolver,
        backfill,
        blocks,
        transactions,
        peers: oracle.clone(),
        blocker: oracle.clone(),
    };
    let track = move |oracle: &mut lookup::Oracle<_>, index: u64, peers: &[(Key, SocketAddr)]| {
        let own = [(me.clone(), Address::from(config.listen))];
        let others = peers
            .iter()
            .filter_map(|(key, at)| Some((public_key(key)?, Address::from(*at))))
            .filter(|(key, _)| *key != me)
            .take(most_peers.get() - 1);
        if peers.len() >= most_peers.get() {
            warn!(
                peers = peers.len(),
                "more peers than a node connects to; the last ones are left out"
            );
        }
        let set = Map::from_iter_dedup(own.into_iter().chain(others));
        oracle.track(index, set);
    };
    let first = peers.borrow_and_update().clone();
    track(&mut oracle, 0, &first);
    let network_task = network.start();

    let genesis = config.machine.genesis().digest();
    let id = bytes_of(&key.public_key());
    let (running, end) = engine::start(
        context.child("validator"),
        Settings {
            machine: config.machine,
            checker: config.checker,
            key,
            timing: config.timing,
            limits: config.limits,
            prefix: prefix(&id, &genesis),
        },
        net,
    )
    .await?;
    let watching = async move {
        let mut index = 0u64;
        while peers.changed().await.is_ok() {
            index += 1;
            let now = peers.borrow_and_update().clone();
            track(&mut oracle, index, &now);
        }
        std::future::pending::<()>().await;
    };
    // Nobody to hand the node to means that nobody wants it.
    let _ = ready.send(running);
    let outcome = tokio::select! { biased;
        _ = stop => Ok(()),
        reason = end => Err(reason.unwrap_or(Fatal::Part("the watch".to_owned()))),
        _ = network_task => Err(Fatal::Network),
        () = watching => Ok(()),
    };
    // Parts that take longer are dropped with the runtime; their files bear that.
    let _ = context.stop(0, Some(STOPPING)).await;
    outcome
}
