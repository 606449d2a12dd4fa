//! Validators on a simulated network in virtual time: started, killed, linked and cut off at will.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use commonware_cryptography::{Signer as _, ed25519};
use commonware_p2p::simulated::{self, Link, Oracle, SplitForwarder, SplitSender, SplitTarget};
use commonware_runtime::{Clock as _, Handle, IoBuf, Spawner as _, Supervisor as _, deterministic};
use commonware_utils::NZUsize;
use defim_ledger::NodeId;
use rand_core::Rng as _;
use tokio::sync::oneshot;

use crate::app::millis;
use crate::engine::{self, CHANNELS, Fatal, Net, Running, Settings};
use crate::machine::{Chained as _, Deep, Key, Machine};
use crate::node::bytes_of;
use crate::shared::Head;
use crate::sim::counter::Counter;
use crate::sim::liar::{self, To};
use crate::sim::plan::{Plan, Quality, limits, probability};
use crate::sim::record::{Record, Taken};
use crate::sim::twins::{Masks, forward};
use crate::sim::work::{Busy, Compared, Work, count};

/// How often the world looks.
const LOOK: Duration = Duration::from_millis(20);

type PublicKey = ed25519::PublicKey;
type Context = deterministic::Context;

/// A running validator.
struct Live<M: Machine> {
    running: Running<M>,
    task: Handle<Fatal>,
}

/// The world of one run.
pub(super) struct World<M: Machine = Counter> {
    context: Context,
    oracle: Oracle<PublicKey, Context>,
    keys: Arc<Vec<PublicKey>>,
    plan: Plan<M>,
    live: BTreeMap<usize, Live<M>>,
    /// Of validators that run twice: they go on until the world ends.
    second_halves: Vec<Live<M>>,
    lives: u64,
    work: Option<Box<dyn Work<M>>>,
}

type Failure = String;

impl World {
    /// A network without links, on which all count if the plan says so.
    pub(super) async fn counting(context: Context, plan: Plan) -> Result<Self, Failure> {
        let busy = plan
            .busy
            .then(|| Box::<Busy>::default() as Box<dyn Work<Counter>>);
        Self::new(context, plan, busy).await
    }

    /// The transactions that a running validator has applied.
    pub(super) fn transactions(&self, node: usize) -> u64 {
        self.live.get(&node).map_or(0, |live| {
            live.running.settled().state.accounts.values().sum()
        })
    }

    /// What an account of a running validator has counted to.
    pub(super) fn count(&self, node: usize, account: u8) -> u64 {
        self.live
            .get(&node)
            .and_then(|live| {
                let settled = live.running.settled();
                settled.state.accounts.get(&[account; 32]).copied()
            })
            .unwrap_or(0)
    }

    /// The validators of the next epoch, as a running validator's state has it.
    pub(super) fn validators(&self, node: usize) -> Vec<Key> {
        self.live
            .get(&node)
            .map(|live| live.running.settled().state.validators.clone())
            .unwrap_or_default()
    }

    /// Gives a transaction to a validator; refused ones are lost.
    pub(super) fn submit(&mut self, node: usize, validators: Option<Vec<Key>>) {
        if let Some(live) = self.live.get(&node) {
            count(
                node,
                &live.running,
                validators,
                millis(self.context.current()),
            );
        }
    }
}

impl<M: Compared> World<M> {
    /// A network without links, and nobody on it.
    pub(super) async fn new(
        context: Context,
        plan: Plan<M>,
        work: Option<Box<dyn Work<M>>>,
    ) -> Result<Self, Failure> {
        let keys = plan
            .seeds
            .iter()
            .map(|seed| engine::private_key(seed).map(|key| key.public_key()))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| error.to_string())?;
        let (network, oracle) = simulated::Network::new_with_peers(
            context.child("network"),
            simulated::Config {
                max_size: engine::message_bytes::<M>(&limits()),
                max_peers_per_set: NonZeroUsize::new(keys.len().max(1))
                    .unwrap_or(NonZeroUsize::MIN),
                // A liar goes on lying: the validators may not count on getting rid of it.
                disconnect_on_block: false,
                tracked_peer_sets: NZUsize!(1),
            },
            keys.clone(),
        )
        .await;
        network.start();
        Ok(Self {
            context,
            oracle,
            keys: Arc::new(keys),
            plan,
            live: BTreeMap::new(),
            second_halves: Vec::new(),
            lives: 0,
            work,
        })
    }

    /// A number below `below`, of the seed's.
    pub(super) fn draw(&mut self, below: u64) -> u64 {
        self.context.next_u64() % below.max(1)
    }

    /// Links every two nodes of a group; cuts every link between groups.
    pub(super) async fn groups(&mut self, groups: &[&[usize]], quality: Quality) {
        let together = |a: usize, b: usize| {
            groups
                .iter()
                .any(|group| group.contains(&a) && group.contains(&b))
        };
        for (a, from) in self.keys.iter().enumerate() {
            for (b, to) in self.keys.iter().enumerate() {
                if a == b {
                    continue;
                }
                // What was there before goes first; that there was nothing is fine.
                let _ = self.oracle.remove_link(from.clone(), to.clone()).await;
                if together(a, b) {
                    let link = Link {
                        latency: Duration::from_millis(quality.latency_ms),
                        jitter: Duration::from_millis(quality.jitter_ms),
                        success_rate: probability(quality),
                    };
                    let _ = self.oracle.add_link(from.clone(), to.clone(), link).await;
                }
            }
        }
    }

    /// Links everybody.
    pub(super) async fn link(&mut self, quality: Quality) {
        let all: Vec<usize> = (0..self.keys.len()).collect();
        self.groups(&[&all], quality).await;
    }

    /// Starts an honest validator from its files.
    pub(super) async fn start(&mut self, node: usize) -> Result<(), Failure> {
        self.begin(node, "v", Masks::honest(), true).await
    }

    /// Starts a validator twice, with one key: each half remembers only its own votes.
    pub(super) async fn start_twins(
        &mut self,
        node: usize,
        (primary, secondary): (u64, u64),
    ) -> Result<Masks, Failure> {
        let masks = Masks::twins(primary, secondary);
        self.begin(node, "twin", masks.clone(), false).await?;
        Ok(masks)
    }

    async fn begin(
        &mut self,
        node: usize,
        prefix: &'static str,
        masks: Masks,
        honest: bool,
    ) -> Result<(), Failure> {
        self.lives += 1;
        let me = self.keys.get(node).cloned().ok_or("no such node")?;
        let key = self
            .plan
            .seeds
            .get(node)
            .ok_or("no such node")
            .map(engine::private_key)?
            .map_err(|error| error.to_string())?;
        let context = self
            .context
            .child("node")
            .with_attribute("index", node)
            .with_attribute("life", self.lives);
        let control = self.oracle.control(me);
        let (mut channels, mut twin_channels) = (Vec::new(), Vec::new());
        for (channel, quota) in CHANNELS {
            let (sender, receiver) = control
                .register(channel, quota)
                .await
                .map_err(|error| error.to_string())?;
            let (first, second) = sender.split_with(forward(masks.clone(), self.keys.clone()));
            if honest {
                channels.push((first, receiver));
            } else {
                let (masks, keys) = (masks.clone(), self.keys.clone());
                let (heard, heard_too) = receiver.split_with(
                    context.child("split").with_attribute("channel", channel),
                    move |(from, _): &(PublicKey, IoBuf)| {
                        let node = keys.iter().position(|key| key == from).unwrap_or(0);
                        match (masks.sees(false, node), masks.sees(true, node)) {
                            (true, true) => SplitTarget::Both,
                            (true, false) => SplitTarget::Primary,
                            (false, true) => SplitTarget::Secondary,
                            (false, false) => SplitTarget::None,
                        }
                    },
                );
                channels.push((first, heard));
                twin_channels.push((second, heard_too));
            }
        }
        for (half, channels) in [channels, twin_channels].into_iter().enumerate() {
            if channels.is_empty() {
                continue;
            }
            let mut channels = channels.into_iter();
            let mut next = || channels.next().ok_or("too few channels");
            let net = Net {
                votes: next()?,
                certificates: next()?,
                resolver: next()?,
                backfill: next()?,
                blocks: next()?,
                transactions: next()?,
                peers: self.oracle.manager(),
                blocker: control.clone(),
            };
            let settings = Settings {
                machine: self.plan.machine.clone(),
                checker: self.plan.checker.clone(),
                key: key.clone(),
                timing: self.plan.timing,
                limits: limits(),
                prefix: format!("{prefix}{node}-{half}"),
            };
            let (tell, told) = oneshot::channel();
            let record = self.plan.record.clone();
            let task = context
                .child("validator")
                .with_attribute("half", half)
                .spawn(move |context| {
                    live(
                        context,
                        settings,
                        net,
                        tell,
                        honest.then_some((node, record)),
                    )
                });
            let running = told
                .await
                .map_err(|_| format!("validator {node} did not start"))?;
            let live = Live { running, task };
            if half == 0 {
                self.live.insert(node, live);
            } else {
                self.second_halves.push(live);
            }
        }
        Ok(())
    }

    /// Starts a validator that votes for everything and for something else too.
    pub(super) async fn start_liar(&mut self, node: usize, to: To) -> Result<(), Failure> {
        let me = self.keys.get(node).cloned().ok_or("no such node")?;
        let seed = self.plan.seeds.get(node).ok_or("no such node")?;
        let key = engine::private_key(seed).map_err(|error| error.to_string())?;
        let control = self.oracle.control(me);
        let mut channels = Vec::new();
        for (channel, quota) in CHANNELS.into_iter().take(2) {
            channels.push(
                control
                    .register(channel, quota)
                    .await
                    .map_err(|error| error.to_string())?,
            );
        }
        let mut channels = channels.into_iter();
        let votes = channels.next().ok_or("too few channels")?;
        let keys = self.keys.clone();
        let machine = self.plan.machine.clone();
        self.context
            .child("liar")
            .spawn(move |context| liar::run(context, machine, (key, to), keys, votes));
        Ok(())
    }

    /// Kills a validator where it stands.
    pub(super) async fn kill(&mut self, node: usize) {
        if let Some(live) = self.live.remove(&node) {
            live.task.abort();
            // That it was aborted is what was asked for.
            let _ = live.task.await;
        }
    }

    /// Ends if a validator ended by itself.
    fn look(&mut self) -> Result<(), Failure> {
        let second = self.second_halves.iter_mut();
        for live in self.live.values_mut().chain(second) {
            if let Some(end) = futures::FutureExt::now_or_never(&mut live.task) {
                let why = end.map_or_else(|error| error.to_string(), |fatal| fatal.to_string());
                return Err(format!("a validator ended: {why}"));
            }
        }
        Ok(())
    }

    /// The height of a running validator.
    pub(super) fn height(&self, node: usize) -> u64 {
        self.live
            .get(&node)
            .map_or(0, |live| live.running.settled().block.height())
    }

    /// The head of a running validator.
    pub(super) fn head(&self, node: usize) -> Option<Head> {
        self.live
            .get(&node)
            .map(|live| live.running.head().borrow().clone())
    }

    /// Lets time pass, with transactions, until `done` or until `most` has passed. False if it has.
    pub(super) async fn until(
        &mut self,
        most: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, Failure> {
        let end = millis(self.context.current())
            .saturating_add(u64::try_from(most.as_millis()).unwrap_or(u64::MAX));
        loop {
            self.look()?;
            if done(self) {
                return Ok(true);
            }
            let now = millis(self.context.current());
            if now >= end {
                return Ok(false);
            }
            if let Some(mut work) = self.work.take() {
                let live = self.live.iter();
                let running = live
                    .map(|(node, live)| (*node, live.running.clone()))
                    .collect();
                let looked = work.look(now, &running, &mut |below| self.draw(below));
                self.work = Some(work);
                looked?;
            }
            self.context.sleep(LOOK).await;
        }
    }

    /// What happens beside the validators.
    pub(super) fn work(&self) -> Option<&dyn Work<M>> {
        self.work.as_deref()
    }

    /// Waits until all has happened that is to happen beside the validators, or says that it has not.
    pub(super) async fn finish(&mut self, most: Duration) -> Result<(), Failure> {
        let done = |world: &Self| world.work().is_none_or(Work::is_done);
        if !self.until(most, done).await? {
            let waits = self.work().map_or_else(String::new, Work::waits);
            self.plan.record.violation(format!(
                "after {} s without a fault it still waits: {waits}",
                most.as_secs()
            ));
        }
        Ok(())
    }

    /// Lets time pass.
    pub(super) async fn pass(&mut self, time: Duration) -> Result<(), Failure> {
        self.until(time, |_| false).await.map(drop)
    }

    /// Waits until all of `nodes` are at `height`, or says that they are not.
    pub(super) async fn reach(
        &mut self,
        nodes: &[usize],
        height: u64,
        most: Duration,
    ) -> Result<(), Failure> {
        let reached = self
            .until(most, |world| {
                nodes.iter().all(|node| world.height(*node) >= height)
            })
            .await?;
        if !reached {
            let heights: Vec<u64> = nodes.iter().map(|node| self.height(*node)).collect();
            self.plan.record.violation(format!(
                "validators {nodes:?} are at {heights:?} and not at {height} after {} s",
                most.as_secs()
            ));
        }
        Ok(())
    }

    /// The highest block of these.
    pub(super) fn highest(&self, nodes: &[usize]) -> u64 {
        nodes
            .iter()
            .map(|node| self.height(*node))
            .max()
            .unwrap_or(0)
    }

    /// Which nodes a validator has seen vote twice in one view.
    pub(super) fn seen_twice(&self, node: usize) -> Vec<usize> {
        let live = self.live.get(&node);
        let votes = live.map(|live| live.running.double_votes());
        let seen = votes.unwrap_or_default();
        let place = |id: &NodeId| self.keys.iter().position(|key| bytes_of(key) == id.0);
        seen.keys().filter_map(place).collect()
    }

    /// Compares all that the honest validators have on disk, block by block. None of them may have been seen to vote twice.
    pub(super) async fn audit(&mut self, honest: &[usize]) {
        for node in honest {
            if let Some(framed) = self
                .seen_twice(*node)
                .into_iter()
                .find(|seen| honest.contains(seen))
            {
                self.plan.record.violation(format!(
                    "validator {node} says that {framed}, which is honest, has voted twice"
                ));
            }
            let Some(live) = self.live.get(node) else {
                continue;
            };
            let running = live.running.clone();
            let top = running.settled();
            let mut parent = self.plan.machine_genesis();
            for height in 1..=top.block.height() {
                let stored = running.block(height).await;
                let block = stored.and_then(|stored| M::Block::decode(&stored.block));
                let Some(block) = block else {
                    self.plan
                        .record
                        .violation(format!("validator {node} lost its final block {height}"));
                    break;
                };
                if block.parent() != parent {
                    self.plan.record.violation(format!(
                        "block {height} of validator {node} does not follow the one below"
                    ));
                }
                parent = block.digest();
                self.plan.record.compare(
                    *node,
                    height,
                    Taken {
                        digest: parent,
                        root: M::root(&block),
                    },
                );
            }
        }
        let state = self.context.auditor().state();
        self.plan.record.trace(state.as_bytes());
    }
}

/// What a validator has of the simulated network.
type SimulatedNet<F> = Net<
    SplitSender<PublicKey, Context, F>,
    simulated::Receiver<PublicKey>,
    simulated::Manager<PublicKey, Context>,
    simulated::Control<PublicKey, Context>,
>;

/// One life of a validator.
async fn live<M: Compared, F: SplitForwarder<PublicKey>>(
    context: Context,
    settings: Settings<M, Deep<M>>,
    net: SimulatedNet<F>,
    tell: oneshot::Sender<Running<M>>,
    record: Option<(usize, Record)>,
) -> Fatal {
    let clock = context.child("clock");
    let (running, mut end) = match engine::start(context.child("engine"), settings, net).await {
        Ok(started) => started,
        Err(fatal) => return fatal,
    };
    let mut events = running.events();
    // The world may have ended.
    let _ = tell.send(running);
    loop {
        tokio::select! { biased;
            event = events.recv() => {
                if let (Ok(block), Some((node, record))) = (event, &record) {
                    record.taken(
                        millis(clock.current()),
                        *node,
                        block.block.height(),
                        Taken { digest: block.digest, root: M::root(&block.block) },
                    );
                }
            }
            fatal = &mut end => {
                return fatal.unwrap_or_else(|error| Fatal::Part(error.to_string()));
            }
        }
    }
}
