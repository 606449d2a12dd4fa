//! A native light node's work on a round: the same for a person's contribution and for a company's silo.

use defim_light::{Content, SealedReport, Training};
use defim_protocol::{NodeKey, ReportId};
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

/// Whose rows they are.
pub enum Who<'a> {
    /// A person's, under this id.
    Person(ReportId),
    /// The silo's of the full node with this key.
    Silo(&'a NodeKey),
}

/// Milliseconds since then.
pub fn ms(from: std::time::Instant) -> u64 {
    u64::try_from(from.elapsed().as_millis()).unwrap_or(u64::MAX)
}

/// A report's id, drawn at random.
pub fn fresh_id() -> [u8; 16] {
    let mut id = [0; 16];
    rand::rng().fill_bytes(&mut id);
    id
}

/// Read rows, train on them, split the update and seal it for a committee.
///
/// # Errors
///
/// [`crate::failure::Failure`] for rows that do not fit the task, and what the steps say.
pub fn prepare(training: &Training, csv: &[u8], who: Who<'_>) -> Outcome<Prepared> {
    let samples = training.read_csv(csv)?;
    let features = training.features(&samples);
    let mut random = rand::rng();
    let started = clock::start();
    let update = training.train(&features, random.next_u64(), &mut |_| {})?;
    let quantised = training.clip_and_quantise(update)?;
    let train_ms = ms(started);
    let started = clock::start();
    let content = Content {
        update: &quantised.fixed,
        vote: training.vote(&features),
    };
    let now = clock::now_s();
    let report = match who {
        Who::Person(id) => training.split(content, id, now)?.seal(&mut random)?,
        Who::Silo(key) => training.seal_silo(content, key, now, fresh_id, &mut random)?,
    };
    Ok(Prepared {
        report,
        rows: samples.len(),
        train_ms,
        split_ms: ms(started),
        clipped: quantised.clipped,
    })
}
