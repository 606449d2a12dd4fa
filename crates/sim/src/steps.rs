//! What a run reports.

use std::time::Duration;

use defim_learn::Metrics;
use defim_protocol::vote::Tally;
use serde::Serialize;

/// Time since any fixed moment. The caller's: this crate reads no clock.
pub type Clock<'a> = &'a (dyn Fn() -> Duration + Sync);

/// How long each step of a round took in all, in milliseconds of one core: light nodes run side by
/// side, so that these may exceed the round's wall time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Steps {
    /// Light nodes' training, clipping and quantising.
    pub train_ms: f64,
    /// The same of silos.
    pub silo_train_ms: f64,
    /// Splitting with proof.
    pub split_ms: f64,
    /// Sealing to the members.
    pub seal_ms: f64,
    /// Opening shares and checking proofs at all members.
    pub verify_ms: f64,
    /// Adding shares at each member, agreeing on batches, checking ciphertexts.
    pub add_ms: f64,
    /// Encrypting each full node's sum and sharing its key.
    pub encrypt_ms: f64,
    /// Answering for the keys, opening the total, the server's step and evaluation.
    pub open_ms: f64,
}

impl Steps {
    /// Step by step.
    pub fn add(&mut self, other: &Self) {
        self.train_ms += other.train_ms;
        self.silo_train_ms += other.silo_train_ms;
        self.split_ms += other.split_ms;
        self.seal_ms += other.seal_ms;
        self.verify_ms += other.verify_ms;
        self.add_ms += other.add_ms;
        self.encrypt_ms += other.encrypt_ms;
        self.open_ms += other.open_ms;
    }
}

pub(crate) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// Runs some work and adds its time.
pub(crate) fn timed<T>(clock: Clock<'_>, total: &mut f64, work: impl FnOnce() -> T) -> T {
    let start = clock();
    let done = work();
    *total += ms(clock().saturating_sub(start));
    done
}

/// A round's private votes.
#[derive(Debug, Clone, Serialize)]
pub struct Votes {
    /// How many in each bin of accuracy, from the lowest to the highest.
    pub bins: Vec<i64>,
    /// Their mean accuracy.
    pub mean: f64,
    /// That of the quarter of them with the lowest.
    pub worst_quarter: f64,
}

impl From<&Tally> for Votes {
    fn from(tally: &Tally) -> Self {
        Self {
            bins: tally.bins().to_vec(),
            mean: tally.mean(),
            worst_quarter: tally.worst_quarter(),
        }
    }
}

/// One round.
#[derive(Debug, Clone, Serialize)]
pub struct RoundReport {
    /// Its number.
    pub round: u64,
    /// How good the contributors found the model that the round started from, if the task has votes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub votes: Option<Votes>,
    /// Reports counted.
    pub reports: u64,
    /// Reports refused.
    pub rejected: u64,
    /// The new model on the held-out rows.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Time of each step.
    pub steps: Steps,
    /// Time of the round.
    pub wall_ms: f64,
}

/// A run.
#[derive(Debug, Clone, Serialize)]
pub struct Summary {
    /// Always true: tells this line from a round's.
    pub summary: bool,
    /// Light nodes.
    pub light: usize,
    /// Silos.
    pub silos: usize,
    /// Rounds that were run.
    pub rounds: u64,
    /// Parameters of the model.
    pub dimension: usize,
    /// The last model on the held-out rows.
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Reports counted in all rounds.
    pub reports: u64,
    /// Reports refused in all rounds.
    pub rejected: u64,
    /// Bytes of one report on the wire; 0 without cryptography.
    pub upload_bytes_per_report: u64,
    /// Epsilon that was spent; only of a task with noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epsilon: Option<f64>,
    /// Time of each step in all rounds.
    pub steps: Steps,
    /// Seconds of the whole run.
    pub wall_s: f64,
    /// R2 of ordinary least squares on the same rows; regression tasks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub least_squares_r2: Option<f64>,
}
