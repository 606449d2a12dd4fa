//! Validators of DeFim's own ledger, with a mesh beside them that plays its rounds.

use std::fmt;
use std::time::Duration;

use commonware_runtime::{Clock as _, Runner as _, deterministic};
use defim_ledger::Genesis;

use crate::ledger::Ledger;
use crate::sim::liar::To;
use crate::sim::plan::{GOOD, Plan, Quality};
use crate::sim::scenario::{Outcome, all, partitions, restarts, twins, watched};
use crate::sim::work::Work;
use crate::sim::world::World;

/// How long the mesh may take to its end once nothing is wrong among the validators any more, in virtual time.
const PATIENCE: Duration = Duration::from_secs(120);

/// What goes wrong among the four validators while the mesh plays its rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Nothing.
    Calm,
    /// Messages are lost and late.
    Loss,
    /// They are cut into two halves, or one is cut off, time and again.
    Partition,
    /// They are killed at random moments and start again from their files.
    Restart,
    /// One is away for a while.
    Crash,
    /// One signs two votes wherever it may sign one, to the end.
    Liar,
    /// One runs twice with one key, each half seen by others at other times, to the end.
    Twins,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Calm,
        Self::Loss,
        Self::Partition,
        Self::Restart,
        Self::Crash,
        Self::Liar,
        Self::Twins,
    ];
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calm => "calm",
            Self::Loss => "loss",
            Self::Partition => "partition",
            Self::Restart => "restart",
            Self::Crash => "crash",
            Self::Liar => "liar",
            Self::Twins => "twins",
        })
    }
}

/// Goes through a trouble with a seed. `seeds` are those of the four validators' keys, which the genesis names; the
/// first block may be no later than `work` begins, which is at the genesis' time.
pub fn run_whole(
    seed: u64,
    trouble: Trouble,
    genesis: Genesis,
    seeds: Vec<[u8; 32]>,
    work: Box<dyn Work<Ledger>>,
) -> Outcome {
    let start = Duration::from_millis(genesis.timestamp_ms);
    let plan = match Ledger::new(genesis) {
        Ok(ledger) => Plan::of(ledger, seeds),
        Err(error) => {
            return Outcome::not_begun(error.to_string());
        }
    };
    watched(&plan, || {
        let plan = plan.clone();
        let seed = seed.wrapping_mul(31).wrapping_add(trouble as u64);
        let runner = deterministic::Runner::new(deterministic::Config::new().with_seed(seed));
        runner.start(|context| async move {
            context.sleep(start).await;
            let mut world = World::new(context, plan, Some(work)).await?;
            let honest = play(&mut world, trouble).await?;
            world.finish(PATIENCE).await?;
            world.audit(honest).await;
            Ok(())
        })
    })
}

/// Until nothing is wrong any more; returns who is honest.
async fn play(world: &mut World<Ledger>, trouble: Trouble) -> Result<&'static [usize], String> {
    const ALL: &[usize] = &[0, 1, 2, 3];
    const HONEST: &[usize] = &[0, 1, 2];
    match trouble {
        Trouble::Calm => all(world).await?,
        Trouble::Loss => {
            let quality = Quality {
                latency_ms: 5 + world.draw(60),
                jitter_ms: world.draw(40),
                arrive: 75 + world.draw(25),
            };
            world.link(quality).await;
            for node in 0..4 {
                world.start(node).await?;
            }
            world.pass(Duration::from_secs(15)).await?;
            world.link(GOOD).await;
        }
        Trouble::Partition => {
            all(world).await?;
            partitions(world, 3).await?;
        }
        Trouble::Restart => {
            all(world).await?;
            restarts(world, 6).await?;
        }
        Trouble::Crash => {
            all(world).await?;
            let time = world.draw(4_000);
            world.pass(Duration::from_millis(time)).await?;
            let away = world.draw(4) as usize;
            world.kill(away).await;
            world.pass(Duration::from_secs(6)).await?;
            world.start(away).await?;
        }
        Trouble::Liar | Trouble::Twins => {
            world.link(GOOD).await;
            for node in HONEST {
                world.start(*node).await?;
            }
            match trouble {
                Trouble::Liar => world.start_liar(3, To::Some).await?,
                _ => twins(world, 8).await?,
            }
            return Ok(HONEST);
        }
    }
    Ok(ALL)
}
