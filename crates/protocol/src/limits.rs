//! Upper bounds on everything that comes from outside, checked before memory is taken for it.

/// Longest task manifest, in bytes.
pub const MANIFEST_BYTES: usize = 256 * 1024;
/// Longest encoded report of any task, in bytes. A task takes no more than its own reports have:
/// [`crate::vdaf::VdafSpec::most_report_bytes`].
pub const REPORT_BYTES: usize = 64 * 1024 * 1024;
/// Longest message between servers, in bytes.
pub const SERVER_MESSAGE_BYTES: usize = 256 * 1024 * 1024;
/// Longest model artefact, in bytes.
pub const MODEL_BYTES: usize = 256 * 1024 * 1024;
/// Most reports in one round of one task.
pub const BATCH_REPORTS: usize = 1_000_000;
/// Most coordinates of an update.
pub const DIMENSION: usize = 1_000_000;
/// Bins of a histogram of private votes.
pub const VOTE_BINS: std::ops::RangeInclusive<u8> = 4..=64;
/// How far a report's time may lie ahead of the receiver's clock, in milliseconds.
pub const CLOCK_SKEW_MS: u64 = 5 * 60 * 1000;
/// Shortest time a round is open, in milliseconds: training and proving take seconds.
pub const ROUND_MS: u64 = 1000;
/// Longest body of a request to the API, in bytes: a task with its schema.
pub const API_BODY_BYTES: usize = MANIFEST_BYTES;
/// How long a name may be, in characters.
pub const NAME_CHARS: usize = 80;
/// Most shares of a report: so many full nodes are a committee.
pub const SHARES: u8 = *defim_ledger::limits::SHARES.end();
/// Most full nodes of a task: so many ciphertexts can be added.
pub const MEMBERS: usize = 32;
