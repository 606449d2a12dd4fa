//! The scenarios, each named for its fault.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use commonware_runtime::{Runner as _, deterministic};

use crate::config::Timing;
use crate::machine::{Checker, Deep, Machine};
use crate::sim::counter::{Counter, CounterBlock, CounterState};
use crate::sim::liar::To;
use crate::sim::plan::{GOOD, Plan, Quality};
use crate::sim::work::Compared;
use crate::sim::world::World;

/// How long blocks may take where nothing is wrong any more, in virtual time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Blocks in an epoch: few, so that every scenario crosses epochs.
const EPOCH: u64 = 7;

/// A fault to go through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scenario {
    /// Nothing is wrong.
    Steady,
    /// Nothing happens for a minute, with the times of real nodes; then there is one transaction.
    Idle,
    /// The deep check refuses one account's transactions, and waits for something with another's.
    Check,
    /// One of four crashes and stays away.
    Crash,
    /// Two of four crash: nothing may go on. One comes back: it must.
    Halt,
    /// The four are cut into two halves, or one is cut off; then all are linked again.
    Partition,
    /// Messages are lost and late.
    Loss,
    /// One of four signs two votes wherever it may sign one.
    Liar,
    /// One of four signs two votes wherever it may sign one, and sends them to different others.
    Apart,
    /// One of four signs another block too, after the one that has its certificate.
    Afterwards,
    /// One of four runs twice with one key, each half seen by others at other times.
    Twins,
    /// Validators are killed at random moments and start again from their files.
    Restart,
    /// All lose power at once, with what was not yet safe on disk.
    PowerCut,
    /// A validator joins and another leaves, at ends of epochs.
    Change,
    /// A validator starts when the others are epochs ahead.
    Late,
    /// Two of four lie, more than any agreement bears: it shows that a split is found. Not one of [`Self::ALL`].
    TooMany,
}

impl Scenario {
    /// All of them in which nothing may go wrong.
    pub const ALL: [Self; 15] = [
        Self::Steady,
        Self::Idle,
        Self::Check,
        Self::Crash,
        Self::Halt,
        Self::Partition,
        Self::Loss,
        Self::Liar,
        Self::Apart,
        Self::Afterwards,
        Self::Twins,
        Self::Restart,
        Self::PowerCut,
        Self::Change,
        Self::Late,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Idle => "idle",
            Self::Check => "check",
            Self::Crash => "crash",
            Self::Halt => "halt",
            Self::Partition => "partition",
            Self::Loss => "loss",
            Self::Liar => "liar",
            Self::Apart => "apart",
            Self::Afterwards => "afterwards",
            Self::Twins => "twins",
            Self::Restart => "restart",
            Self::PowerCut => "power-cut",
            Self::Change => "change",
            Self::Late => "late",
            Self::TooMany => "too-many",
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Scenario {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .chain([Self::TooMany])
            .find(|scenario| scenario.name() == name)
            .ok_or_else(|| {
                let names: Vec<_> = Self::ALL.iter().map(|scenario| scenario.name()).collect();
                format!("\"{name}\" is no scenario; there are: {}", names.join(", "))
            })
    }
}

/// What came of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What must never be and was. Empty if all is well.
    pub violations: Vec<String>,
    /// The highest final block of each node, 0 for one that lies or never ran.
    pub heights: Vec<u64>,
    /// A hash over everything that happened: the same for the same seed and scenario.
    pub trace: [u8; 32],
}

impl Outcome {
    /// Nothing ran, for this reason.
    pub fn not_begun(why: String) -> Self {
        Self {
            violations: vec![why],
            heights: Vec::new(),
            trace: [0; 32],
        }
    }
}

/// Goes through a scenario with a seed.
pub fn run(seed: u64, scenario: Scenario) -> Outcome {
    let others = usize::from(scenario == Scenario::Change);
    let plan = match Plan::new(4, others, EPOCH) {
        Ok(plan) if scenario == Scenario::Idle => Plan {
            timing: Timing::default(),
            busy: false,
            ..plan
        },
        Ok(plan) if scenario == Scenario::Check => Plan {
            checker: Deep::new(Picky(plan.arrived.clone())),
            ..plan
        },
        Ok(plan) => plan,
        Err(error) => {
            return Outcome::not_begun(error.to_string());
        }
    };
    watched(&plan, || go(seed, scenario, &plan))
}

/// Go through it, and say what came of it.
pub(super) fn watched<M: Machine>(
    plan: &Plan<M>,
    through: impl FnOnce() -> Result<(), String>,
) -> Outcome {
    match catch_unwind(AssertUnwindSafe(through)) {
        Ok(Ok(())) => {}
        Ok(Err(failure)) => plan.record.violation(failure),
        Err(_) => plan
            .record
            .violation("it panicked; its message is above".to_owned()),
    }
    let (violations, trace) = plan.record.end();
    Outcome {
        violations,
        heights: (0..plan.seeds.len())
            .map(|node| plan.record.highest(node))
            .collect(),
        trace,
    }
}

fn go(seed: u64, scenario: Scenario, plan: &Plan) -> Result<(), String> {
    // Scenarios with one seed go apart from the start.
    let seed = seed.wrapping_mul(31).wrapping_add(scenario as u64);
    let runner = deterministic::Runner::new(deterministic::Config::new().with_seed(seed));
    if scenario != Scenario::PowerCut {
        let plan = plan.clone();
        return runner.start(|context| async move {
            let mut world = World::counting(context, plan.clone()).await?;
            let honest = play(&mut world, scenario, &plan).await?;
            world.audit(&honest).await;
            Ok(())
        });
    }
    let (first, after) = {
        let plan = plan.clone();
        runner.start_and_recover(|context| async move {
            let mut world = World::counting(context, plan).await?;
            all(&mut world).await?;
            let time = 500 + world.draw(8_000);
            world.pass(Duration::from_millis(time)).await?;
            Ok::<u64, String>(world.highest(&[0, 1, 2, 3]))
        })
    };
    let before = first?;
    let plan = plan.clone();
    deterministic::Runner::from(after).start(|context| async move {
        let mut world = World::counting(context, plan).await?;
        all(&mut world).await?;
        world
            .reach(&[0, 1, 2, 3], before.saturating_add(4), PATIENCE)
            .await?;
        world.audit(&[0, 1, 2, 3]).await;
        Ok(())
    })
}

/// Starts four validators on a good network.
pub(super) async fn all<M: Compared>(world: &mut World<M>) -> Result<(), String> {
    world.link(GOOD).await;
    for node in 0..4 {
        world.start(node).await?;
    }
    Ok(())
}

/// Goes through the scenario; returns who is honest.
async fn play(world: &mut World, scenario: Scenario, plan: &Plan) -> Result<Vec<usize>, String> {
    let four = vec![0, 1, 2, 3];
    match scenario {
        Scenario::Steady | Scenario::PowerCut => {
            all(world).await?;
            world.reach(&four, 16, PATIENCE).await?;
        }
        Scenario::Crash => {
            all(world).await?;
            let time = world.draw(3_000);
            world.pass(Duration::from_millis(time)).await?;
            let away = world.draw(4) as usize;
            world.kill(away).await;
            let rest: Vec<usize> = four.iter().copied().filter(|node| *node != away).collect();
            let goal = world.highest(&rest).saturating_add(10);
            world.reach(&rest, goal, PATIENCE).await?;
        }
        Scenario::Idle => idle(world, plan).await?,
        Scenario::Check => check(world, plan).await?,
        Scenario::Halt => halt(world, plan).await?,
        Scenario::Partition => partition(world).await?,
        Scenario::Loss => {
            let quality = Quality {
                latency_ms: 5 + world.draw(60),
                jitter_ms: world.draw(40),
                arrive: 75 + world.draw(25),
            };
            world.link(quality).await;
            for node in 0..4 {
                world.start(node).await?;
            }
            // While a quarter is lost, agreement is all that is asked; afterwards blocks must go on.
            world
                .until(Duration::from_secs(20), |world| {
                    world.highest(&[0, 1, 2, 3]) >= 10
                })
                .await?;
            world.link(GOOD).await;
            let goal = world.highest(&four).saturating_add(4);
            world.reach(&four, goal, PATIENCE).await?;
        }
        Scenario::Liar => {
            world.link(GOOD).await;
            for node in 0..3 {
                world.start(node).await?;
            }
            world.start_liar(3, To::Some).await?;
            world.reach(&[0, 1, 2], 10, PATIENCE).await?;
            for node in 0..3 {
                if world.seen_twice(node) != [3] {
                    plan.record.violation(format!(
                        "validator {node} has not noticed that 3 votes twice"
                    ));
                }
            }
            return Ok(vec![0, 1, 2]);
        }
        Scenario::Apart | Scenario::Afterwards => {
            world.link(GOOD).await;
            for node in 0..3 {
                world.start(node).await?;
            }
            let to = match scenario {
                Scenario::Apart => To::Apart,
                _ => To::Afterwards,
            };
            world.start_liar(3, to).await?;
            // It is found out by a certificate in which its other vote comes around; not every one has it.
            world
                .until(PATIENCE, |world| !world.seen_twice(2).is_empty())
                .await?;
            let goal = world.highest(&[0, 1, 2]).saturating_add(6);
            world.reach(&[0, 1, 2], goal, PATIENCE).await?;
            return Ok(vec![0, 1, 2]);
        }
        Scenario::Twins => {
            world.link(GOOD).await;
            for node in 0..3 {
                world.start(node).await?;
            }
            twins(world, 8).await?;
            let goal = world.highest(&[0, 1, 2]).saturating_add(6);
            world.reach(&[0, 1, 2], goal, PATIENCE).await?;
            return Ok(vec![0, 1, 2]);
        }
        Scenario::Restart => {
            all(world).await?;
            restarts(world, 6).await?;
            let goal = world.highest(&four).saturating_add(5);
            world.reach(&four, goal, PATIENCE).await?;
        }
        Scenario::Change => change(world, plan).await?,
        Scenario::TooMany => {
            world.groups(&[&[0, 2, 3], &[1, 2, 3]], GOOD).await;
            world.start(0).await?;
            world.start(1).await?;
            for liar in [2, 3] {
                world.start_twins(liar, (0b0001, 0b0010)).await?;
            }
            world.reach(&[0, 1], 2, PATIENCE).await?;
            return Ok(vec![0, 1]);
        }
        Scenario::Late => {
            world.link(GOOD).await;
            for node in 0..3 {
                world.start(node).await?;
            }
            world.reach(&[0, 1, 2], 2 * EPOCH + 2, PATIENCE).await?;
            world.start(3).await?;
            let goal = world.highest(&[0, 1, 2]).saturating_add(3);
            world.reach(&four, goal, PATIENCE).await?;
        }
    }
    Ok(four)
}

/// The account whose transactions are wrong, and the one whose wait for something.
const WRONG: u8 = 1;
const WAITING: u8 = 2;

/// A deep check that knows of them.
#[derive(Clone)]
struct Picky(Arc<AtomicBool>);

impl Checker<Counter> for Picky {
    async fn check(&self, _: &CounterState, block: &CounterBlock) -> bool {
        let of = |account| block.txs().iter().any(|tx| tx.account == [account; 32]);
        if of(WRONG) {
            return false;
        }
        if of(WAITING) && !self.0.load(Ordering::Relaxed) {
            futures::future::pending::<()>().await;
        }
        true
    }
}

/// What is wrong never gets in, what waits gets in when it has what it waits for, and all else goes on.
async fn check(world: &mut World, plan: &Plan) -> Result<(), String> {
    all(world).await?;
    world.pass(Duration::from_secs(8)).await?;
    let counts = |world: &World| [0, WRONG, WAITING, 3].map(|account| world.count(0, account));
    let [fine, wrong, waiting, also_fine] = counts(world);
    if wrong > 0 || waiting > 0 || fine < 2 || also_fine < 2 {
        plan.record.violation(format!(
            "with account {WRONG} wrong and {WAITING} waiting, accounts counted to {:?}",
            counts(world)
        ));
    }
    plan.arrived.store(true, Ordering::Relaxed);
    let arrived = |world: &World| (0..4).all(|node| world.count(node, WAITING) >= 2);
    if !world.until(Duration::from_secs(20), arrived).await? {
        plan.record
            .violation("a transaction still waits that has what it waited for".to_owned());
    }
    if world.count(0, WRONG) > 0 {
        plan.record
            .violation("a transaction got in that the deep check refuses".to_owned());
    }
    Ok(())
}

/// An idle chain makes one block an idle time, leaves no view without one, and wakes up at once.
async fn idle(world: &mut World, plan: &Plan) -> Result<(), String> {
    /// Views that the end of an epoch takes beyond its blocks, and the start of the network.
    const SPARE: u64 = 4;
    all(world).await?;
    world.pass(Duration::from_secs(65)).await?;
    let height = world.height(0);
    if !(5..=9).contains(&height) {
        plan.record.violation(format!(
            "an idle chain made {height} blocks in 65 s, with one every 10 s"
        ));
    }
    let views = world.head(0).map_or(0, |head| head.view);
    if views > height.min(EPOCH) + SPARE {
        plan.record.violation(format!(
            "an idle chain left views without a block: it is at view {views} with {height} blocks"
        ));
    }
    let node = world.draw(4) as usize;
    let time = world.draw(9_000);
    world.pass(Duration::from_millis(time)).await?;
    world.submit(node, None);
    let taken = |world: &World| (0..4).all(|node| world.transactions(node) == 1);
    // At the end of an epoch a view's votes can come before others are in the next one: a leader's time passes then, not more.
    if !world.until(Duration::from_secs(5), taken).await? {
        plan.record
            .violation("a transaction waited for an idle chain for 5 s".to_owned());
    }
    Ok(())
}

async fn halt(world: &mut World, plan: &Plan) -> Result<(), String> {
    all(world).await?;
    let time = 300 + world.draw(3_000);
    world.pass(Duration::from_millis(time)).await?;
    let first = world.draw(4) as usize;
    let second = (first + 1 + world.draw(3) as usize) % 4;
    world.kill(first).await;
    world.kill(second).await;
    let rest: Vec<usize> = (0..4)
        .filter(|node| *node != first && *node != second)
        .collect();
    // What was under way may still become final; then nothing may.
    world.pass(Duration::from_secs(2)).await?;
    let stopped = world.highest(&rest);
    world.pass(Duration::from_secs(6)).await?;
    if world.highest(&rest) > stopped {
        plan.record
            .violation("two of four validators made a block final".to_owned());
    }
    world.start(first).await?;
    let back: Vec<usize> = (0..4).filter(|node| *node != second).collect();
    world
        .reach(&back, stopped.saturating_add(5), PATIENCE)
        .await
}

async fn partition(world: &mut World) -> Result<(), String> {
    all(world).await?;
    partitions(world, 2).await?;
    let goal = world.highest(&[0, 1, 2, 3]).saturating_add(5);
    world.reach(&[0, 1, 2, 3], goal, PATIENCE).await
}

/// Cuts the four into parts so many times, and links them again.
pub(super) async fn partitions<M: Compared>(
    world: &mut World<M>,
    times: u64,
) -> Result<(), String> {
    for _ in 0..times {
        let time = 300 + world.draw(2_000);
        world.pass(Duration::from_millis(time)).await?;
        let first = world.draw(4) as usize;
        let second = (first + 1 + world.draw(3) as usize) % 4;
        let others: Vec<usize> = (0..4).filter(|node| *node != first).collect();
        let halves: Vec<usize> = others
            .iter()
            .copied()
            .filter(|node| *node != second)
            .collect();
        if world.draw(2) == 0 {
            world.groups(&[&[first], &others], GOOD).await;
        } else {
            world.groups(&[&[first, second], &halves], GOOD).await;
        }
        let time = 1_000 + world.draw(4_000);
        world.pass(Duration::from_millis(time)).await?;
        world.link(GOOD).await;
    }
    Ok(())
}

/// Kills one of the four so many times, and starts it again from its files.
pub(super) async fn restarts<M: Compared>(world: &mut World<M>, times: u64) -> Result<(), String> {
    for _ in 0..times {
        let time = world.draw(1_500);
        world.pass(Duration::from_millis(time)).await?;
        let node = world.draw(4) as usize;
        world.kill(node).await;
        let time = world.draw(800);
        world.pass(Duration::from_millis(time)).await?;
        world.start(node).await?;
    }
    Ok(())
}

/// Starts the fourth twice, each half seen by others at other times.
pub(super) async fn twins<M: Compared>(world: &mut World<M>, times: u64) -> Result<(), String> {
    let masks = world.start_twins(3, (0b0111, 0b0111)).await?;
    for _ in 0..times {
        let (primary, secondary) = (1 + world.draw(7), 1 + world.draw(7));
        masks.set(primary, secondary);
        let time = 200 + world.draw(1_200);
        world.pass(Duration::from_millis(time)).await?;
    }
    masks.set(0b0111, 0b0111);
    Ok(())
}

/// Submits a new set of validators until it is the ledger's: other transactions may be before it.
async fn hand_over(
    world: &mut World,
    plan: &Plan,
    through: usize,
    keys: &[crate::Key],
) -> Result<(), String> {
    for _ in 0..50 {
        if world.validators(through) == keys {
            return Ok(());
        }
        world.submit(through, Some(keys.to_vec()));
        world.pass(Duration::from_millis(200)).await?;
    }
    plan.record
        .violation("a new set of validators was never taken".to_owned());
    Ok(())
}

/// The fifth node comes in for one of the four.
async fn change(world: &mut World, plan: &Plan) -> Result<(), String> {
    all(world).await?;
    let say = |error: crate::Fatal| error.to_string();
    world.reach(&[0, 1, 2, 3], 2, PATIENCE).await?;
    let mut keys = (0..5)
        .map(|node| plan.key(node))
        .collect::<Result<Vec<_>, _>>()
        .map_err(say)?;
    world.start(4).await?;
    hand_over(world, plan, 1, &keys).await?;
    world.reach(&[0, 1, 2, 3, 4], EPOCH + 3, PATIENCE).await?;
    if world.validators(4).len() != 5 {
        plan.record
            .violation("the fifth validator is not in the set".to_owned());
    }
    let leaving = world.draw(4) as usize;
    keys.remove(leaving);
    hand_over(world, plan, 4, &keys).await?;
    let top = world.highest(&[4]);
    // Through the epoch in which it is submitted and the next.
    world
        .reach(&[0, 1, 2, 3, 4], top + 2 * EPOCH, PATIENCE)
        .await?;
    world.kill(leaving).await;
    let staying: Vec<usize> = (0..5).filter(|node| *node != leaving).collect();
    let also = staying.first().copied().unwrap_or(0);
    // Five with one gone bear no second; four, of which it was none, bear one.
    world.kill(also).await;
    let rest: Vec<usize> = staying.into_iter().filter(|node| *node != also).collect();
    let goal = world.highest(&rest).saturating_add(4);
    world.reach(&rest, goal, PATIENCE).await
}
