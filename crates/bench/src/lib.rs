//! PINE beside what it replaces, timed in one run: natively for `defim bench`, and in a browser.
//!
//! Every scheme shards the same vector and both aggregators prepare the report; each step runs several
//! times and its median is given. Schemes take turns, so that a machine that slows down slows all of them.
//! The clock and the memory gauge are the caller's.
//!
//! ```
//! use defim_bench::{Gauge, Plan, run};
//! # struct None;
//! # impl Gauge for None {
//! #     fn now_ms(&self) -> f64 { 0.0 }
//! #     fn reset_peak(&self) {}
//! #     fn peak_bytes(&self) -> u64 { 0 }
//! # }
//! let mut rows = Vec::new();
//! run(&Plan { dim: 100, runs: 1, ..Plan::default() }, &None, &mut |row| rows.push(row))?;
//! assert!(rows.iter().any(|row| row.scheme == "pine64" && row.step == "split"));
//! # Ok::<(), defim_bench::BenchError>(())
//! ```

#[cfg(target_arch = "wasm32")]
mod browser;
mod scheme;

use serde::{Deserialize, Serialize};

pub use scheme::SCHEMES;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Coordinates of the vector.
    pub dim: usize,
    /// How often each step runs.
    pub runs: usize,
    /// Names out of [`SCHEMES`].
    pub schemes: Vec<String>,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            dim: 100_000,
            runs: 5,
            schemes: SCHEMES.iter().map(|name| (*name).to_owned()).collect(),
        }
    }
}

/// One step of one scheme.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The scheme.
    pub scheme: String,
    /// `split`, `prepare-leader` or `prepare-helper`.
    pub step: String,
    /// Coordinates.
    pub dim: usize,
    /// Median over all runs, in milliseconds.
    pub median_ms: f64,
    /// Of `split` all shares of the report, of `prepare-*` the message to the other aggregator; in bytes.
    pub bytes: u64,
    /// Memory that was taken at most beyond what was in use before the step, in bytes.
    pub peak_bytes: u64,
    /// Threads that the step may use.
    pub threads: usize,
}

/// What is measured with.
pub trait Gauge {
    /// A clock that does not jump, in milliseconds.
    fn now_ms(&self) -> f64;
    /// Forget the highest use of memory so far.
    fn reset_peak(&self);
    /// The highest use of memory since then, beyond what was in use then, in bytes.
    fn peak_bytes(&self) -> u64;
    /// Threads at work.
    fn threads(&self) -> usize {
        1
    }
}

/// A benchmark cannot run.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No such scheme.
    #[error("there is no scheme {0:?}; there are {all}", all = SCHEMES.join(", "))]
    UnknownScheme(String),
    /// Nothing to do.
    #[error("the dimension and the number of runs must be at least 1")]
    Nothing,
    /// A scheme refuses.
    #[error("{scheme} refuses {dim} coordinates: {error}")]
    Refused {
        /// The scheme.
        scheme: String,
        /// Coordinates.
        dim: usize,
        /// Why.
        error: String,
    },
}

/// Run the plan; `on_row` gets each row as its scheme is done.
///
/// # Errors
///
/// [`BenchError`].
pub fn run(plan: &Plan, gauge: &dyn Gauge, on_row: &mut dyn FnMut(Row)) -> Result<(), BenchError> {
    if plan.dim == 0 || plan.runs == 0 {
        return Err(BenchError::Nothing);
    }
    let mut schemes = Vec::new();
    for name in &plan.schemes {
        schemes.push((name, scheme::by_name(name, plan.dim)?, Vec::new()));
    }
    let vector = vector(plan.dim);
    for run in 0..plan.runs {
        for (name, scheme, runs) in &mut schemes {
            let measured =
                scheme
                    .measure(&vector, run, gauge)
                    .map_err(|error| BenchError::Refused {
                        scheme: name.clone(),
                        dim: plan.dim,
                        error,
                    })?;
            runs.push(measured);
        }
    }
    for (name, _, runs) in schemes {
        for (index, step) in ["split", "prepare-leader", "prepare-helper"]
            .iter()
            .enumerate()
        {
            let of_step = |run: &scheme::Run| run.get(index).copied();
            let mut times: Vec<f64> = runs.iter().filter_map(of_step).map(|m| m.ms).collect();
            times.sort_by(f64::total_cmp);
            on_row(Row {
                scheme: name.clone(),
                step: (*step).to_owned(),
                dim: plan.dim,
                median_ms: times.get(times.len() / 2).copied().unwrap_or_default(),
                bytes: runs
                    .iter()
                    .filter_map(of_step)
                    .map(|m| m.bytes)
                    .max()
                    .unwrap_or_default(),
                peak_bytes: runs
                    .iter()
                    .filter_map(of_step)
                    .map(|m| m.peak)
                    .max()
                    .unwrap_or_default(),
                threads: gauge.threads(),
            });
        }
    }
    Ok(())
}

/// A vector of norm 0.9 or so, with both signs and no pattern.
fn vector(dim: usize) -> Vec<f64> {
    let scale = 0.9 / (dim as f64 / 3.0).sqrt().max(2.0);
    (0..dim as u64)
        .map(|i| (i * 7919 % 2001) as f64 / 1000.0 - 1.0)
        .map(|x| x * scale)
        .collect()
}
