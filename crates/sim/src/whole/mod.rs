//! The whole mesh in virtual time, validators included.
//!
//! Four validators agree on DeFim's own ledger on a simulated network ([`defim_validation::sim`]). Beside them the machines of
//! the servers and the light nodes play rounds, by the same clock: a clerk puts on the ledger what the mesh has come to,
//! each validator repeats every proposed round from its public bytes and votes, light nodes take their rewards. In one round
//! somebody lies ([`Lie`]), while something goes wrong among the validators ([`Trouble`]).
//!
//! Contributions are one-hot: light node `i` moves coordinate `i` alone, so that an honest total holds 0 and 1; a report that
//! is counted twice would show as 2.
//!
//! # Invariants
//!
//! - No two honest validators have different final blocks, and none is lost.
//! - A lie voids its round; the one who lied is named by every validator and slashed, and evidence holds by itself.
//! - A round in which nobody lies is finished and pays its budget, to everybody once. Nothing is issued or lost.
//! - Once nothing is wrong any more, rounds go on, or, after whoever runs the task was slashed, other transactions.
//! - The same seed gives the same trace.

mod clerk;
mod pay;
mod round;
mod setup;

use std::{collections::BTreeMap, fmt, str::FromStr};

use defim_ledger::{Digest, NodeId, State};
use defim_validation::{
    Ledger, Running,
    sim::{Outcome, Trouble, Work, run_whole},
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;

use crate::whole::{clerk::Clerk, setup::START_MS};

/// How often the mesh is looked after, in milliseconds.
const LOOK_MS: u64 = 40;

/// Who lies about round 2, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lie {
    /// Nobody: three rounds are finished.
    Nobody,
    /// A light node sends its report again, another one under its id, that of the round before, and claims twice.
    Replay,
    /// The aggregation node publishes another model.
    Model,
    /// It tells the ledger another total.
    Total,
    /// It says that the ciphertexts add up to something else: as if it had left one out.
    Ciphertext,
    /// It serves the record of the round before.
    OldRecord,
    /// The full nodes of a committee sign a batch with a report that is another committee's.
    Batch,
    /// It publishes another model, and the validators vote without a look at it: it shows that this would be found. Not one of
    /// [`Lie::ALL`].
    Unseen,
}

impl Lie {
    /// All of them against which the mesh must hold.
    pub const ALL: [Self; 7] = [
        Self::Nobody,
        Self::Replay,
        Self::Model,
        Self::Total,
        Self::Ciphertext,
        Self::OldRecord,
        Self::Batch,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nobody => "mesh-honest",
            Self::Replay => "mesh-replay",
            Self::Model => "mesh-model",
            Self::Total => "mesh-total",
            Self::Ciphertext => "mesh-ciphertext",
            Self::OldRecord => "mesh-old-record",
            Self::Batch => "mesh-batch",
            Self::Unseen => "mesh-unseen",
        }
    }

    /// Whether rounds go on after it.
    const fn is_harmless(self) -> bool {
        matches!(self, Self::Nobody | Self::Replay)
    }
}

impl fmt::Display for Lie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Lie {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let mut all = Self::ALL.into_iter().chain([Self::Unseen]);
        all.find(|lie| lie.name() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|lie| lie.name()).collect();
            format!("\"{name}\" is no lie; there are: {}", names.join(", "))
        })
    }
}

/// What goes wrong among the validators in the run of a seed: all of it in turn.
pub fn trouble(seed: u64) -> Trouble {
    let all = Trouble::ALL;
    let at = usize::try_from(seed / 7 % 7).unwrap_or(0);
    all.get(at).copied().unwrap_or(Trouble::Calm)
}

/// Plays rounds with a lie in the second one, and with the trouble that the seed brings.
pub fn play(seed: u64, lie: Lie) -> Outcome {
    play_with(seed, lie, trouble(seed))
}

/// The same with this trouble.
pub fn play_with(seed: u64, lie: Lie, trouble: Trouble) -> Outcome {
    let random = ChaCha20Rng::seed_from_u64(seed);
    match Clerk::new(lie, random) {
        Ok(clerk) => {
            let (genesis, seeds) = (clerk.genesis().clone(), setup::validator_seeds());
            let whole = Whole {
                clerk,
                due: START_MS,
                seen: 0,
            };
            run_whole(seed, trouble, genesis, seeds, Box::new(whole))
        }
        Err(error) => Outcome::not_begun(error),
    }
}

/// The mesh beside the validators.
struct Whole {
    clerk: Clerk,
    /// When it is looked after next.
    due: u64,
    /// The highest final block so far.
    seen: u64,
}

impl Work<Ledger> for Whole {
    fn look(
        &mut self,
        now_ms: u64,
        validators: &BTreeMap<usize, Running<Ledger>>,
        draw: &mut dyn FnMut(u64) -> u64,
    ) -> Result<(), String> {
        if now_ms < self.due {
            return Ok(());
        }
        self.due = now_ms + LOOK_MS;
        let settled = validators.values().map(Running::settled);
        // Whoever asks the validators believes the newest certificate.
        let Some(newest) = settled.max_by_key(|settled| settled.block.header().height) else {
            return Ok(());
        };
        if newest.block.header().height > self.seen {
            self.seen = newest.block.header().height;
            conserved(&newest.state)?;
        }
        let mut post = Post {
            now_ms,
            validators,
            state: &newest.state,
            draw,
        };
        self.clerk.look(&mut post)
    }

    fn is_done(&self) -> bool {
        self.clerk.is_done()
    }

    fn waits(&self) -> String {
        self.clerk.waits()
    }
}

/// Nothing is issued or lost.
fn conserved(state: &State) -> Result<(), String> {
    match state.supply().total() {
        total if total == u128::from(setup::SUPPLY) => Ok(()),
        total => Err(format!(
            "{total} points are there, and {} were issued",
            setup::SUPPLY
        )),
    }
}

/// The validators as the mesh reaches them at one moment.
struct Post<'a> {
    now_ms: u64,
    validators: &'a BTreeMap<usize, Running<Ledger>>,
    /// The newest final state.
    state: &'a State,
    draw: &'a mut dyn FnMut(u64) -> u64,
}

impl Post<'_> {
    /// One of the validators that run.
    fn any(&mut self) -> Option<&Running<Ledger>> {
        let below = self.validators.len() as u64;
        let at = usize::try_from((self.draw)(below)).unwrap_or(0);
        self.validators.values().nth(at)
    }
}

/// What was sent last for an account, and when: it is sent again only after a while.
#[derive(Default)]
struct Sent(BTreeMap<NodeId, (Digest, u64)>);

impl Sent {
    /// How long what was sent may take to be in a block.
    const AGAIN_MS: u64 = 2_000;

    /// Whether this is to be sent now.
    fn is_due(&mut self, from: NodeId, what: Digest, now_ms: u64) -> bool {
        let last = self.0.get(&from);
        let due = last.is_none_or(|(before, at)| *before != what || now_ms >= at + Self::AGAIN_MS);
        if due {
            self.0.insert(from, (what, now_ms));
        }
        due
    }
}
