//! Upper bounds on everything that comes from outside, checked before memory is taken for it.

/// Longest task manifest, in bytes.
pub const MANIFEST_BYTES: usize = 256 * 1024;
/// Longest encoded report, in bytes: a 16-bit update of 100,000 coordinates takes 25.7 MB.
pub const REPORT_BYTES: usize = 64 * 1024 * 1024;
/// Longest message between servers, in bytes.
pub const SERVER_MESSAGE_BYTES: usize = 256 * 1024 * 1024;
/// Longest model artefact, in bytes.
pub const MODEL_BYTES: usize = 256 * 1024 * 1024;
/// Most reports in one round of one task.
pub const BATCH_REPORTS: usize = 1_000_000;
/// Most coordinates of an update.
pub const DIMENSION: usize = 1_000_000;
/// How far a report's time may lie ahead of the receiver's clock, in milliseconds.
pub const CLOCK_SKEW_MS: u64 = 5 * 60 * 1000;
/// How long a name may be, in characters.
pub const NAME_CHARS: usize = 80;
