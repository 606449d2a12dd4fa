//! Upper bounds on everything that comes from outside, checked before memory is taken for it.

use std::ops::RangeInclusive;

/// Longest encoded transaction, in bytes.
pub const TX_BYTES: usize = 128 * 1024;
/// Longest encoded block, in bytes.
pub const BLOCK_BYTES: usize = 4 * 1024 * 1024;
/// Most transactions of a block.
pub const BLOCK_TXS: usize = 16_384;
/// Longest encoded genesis, in bytes.
pub const GENESIS_BYTES: usize = 256 * 1024;
/// Longest snapshot of a state, in bytes.
pub const SNAPSHOT_BYTES: usize = 1024 * 1024 * 1024;
/// Longest proof about a state or a block, in bytes.
pub const PROOF_BYTES: usize = 256 * 1024;
/// Longest finality certificate, in bytes: every validator signs, and then some.
pub const CERTIFICATE_BYTES: usize = 16 * 1024;
/// Longest light chain as it is kept, in bytes.
pub const LIGHT_CHAIN_BYTES: usize = 64 * 1024;
/// Most validators.
pub const VALIDATORS: usize = 128;
/// Most admins.
pub const ADMINS: usize = 32;
/// Most full nodes of a task: so many ciphertexts can be added.
pub const MEMBERS: usize = 32;
/// How many shares a report can have: one for each member of its committee.
pub const SHARES: RangeInclusive<u8> = 2..=3;
/// Longest signed statement, in bytes.
pub const STATEMENT_BYTES: usize = 32 * 1024;
/// Longest name of a node or a chain, in bytes.
pub const NAME_BYTES: usize = 320;
/// Longest address of a node, in bytes.
pub const ADDRESS_BYTES: usize = 1024;
/// Longest reason of a voided round, in bytes.
pub const REASON_BYTES: usize = 1024;
/// Most reports in one batch.
pub const BATCH_REPORTS: u64 = 1_000_000;
/// Most light nodes of a task: whoever may enrol by itself must not fill the state.
pub const LIGHTS: u64 = 1_000_000;
/// Most rounds for which rewards can be claimed.
pub const CLAIM_ROUNDS: u64 = 1024;
/// Most blocks of an epoch.
pub const EPOCH_BLOCKS: u64 = 1_000_000;
/// How far the time of a statement or a block may lie ahead, in milliseconds.
pub const CLOCK_SKEW_MS: u64 = 5 * 60 * 1000;
