//! A native light node's work on a round: the same for a person's contribution and for a company's silo.

use defim_light::{SealedReport, Training};
use defim_protocol::NodeId;
use rand::RngCore as _;

use crate::{clock, failure::Outcome};

/// A sealed report, and what making it took.
pub struct Prepared {
    /// The report.
    pub report: SealedReport,
    /// Rows it was learnt from.
    pub rows: usize,
    /// Milliseconds of training and clipping.
    pub train_ms: u64,
    /// Milliseconds of splitting, proving and sealing.
    pub split_ms: u64,
    /// Whether the update was over the norm bound.
    pub clipped: bool,
}

/// Milliseconds since then.
pub fn ms(from: std::time::Instant) -> u64 {
    u64::try_from(from.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// Read rows, train on them, split the update and seal it for a committee whose members are `reachable`.
///
/// # Errors
///
/// [`crate::failure::Failure`] for rows that do not fit the task, and what the steps say.
pub fn prepare(
    training: &Training,
    csv: &[u8],
    reachable: impl Fn(&NodeId) -> bool,
) -> Outcome<Prepared> {
    let samples = training.read_csv(csv)?;
    let features = training.features(&samples);
    let mut random = rand::rng();
    let started = clock::start();
    let update = training.train(&features, random.next_u64(), &mut |_| {})?;
    let quantised = training.clip_and_quantise(update)?;
    let train_ms = ms(started);
    let started = clock::start();
    let id = training.draw_report_id(reachable, || {
        let mut id = [0; 16];
        rand::rng().fill_bytes(&mut id);
        id
    });
    let report = training
        .split(&quantised.fixed, id, clock::now_s())?
        .seal(&mut random)?;
    Ok(Prepared {
        report,
        rows: samples.len(),
        train_ms,
        split_ms: ms(started),
        clipped: quantised.clipped,
    })
}
