//! The PINE VDAF: sums of vectors whose L2 norm is proven bounded in zero knowledge, without showing any of them.
//!
//! Each client holds a vector `x` of `d` coordinates. It sends every aggregator one message. The aggregators
//! learn, together, that the L2 norm of each `x` is at most a bound, and then the sum of all `x`; one that
//! keeps to itself learns nothing about any `x`, and a client that is over the bound is found out. This is
//! what federated learning needs: a client may have any gradient, but not one that drowns all others.
//!
//! The scheme is PINE (Rothblum, Omri, Chen, Talwar: [arXiv 2311.10237]) as the [draft] puts it, version
//! 01, on the fields, XOFs and traits of [`prio`]. Anything that is written for [`prio::vdaf`] takes it.
//!
//! # Where things are
//!
//! | step | method | what happens |
//! |---|---|---|
//! | client | [`shard`](prio::vdaf::Client::shard) | coordinates become integers; bits of the squared norm are appended; random ternary rows show that nothing wraps around the modulus; two proofs are made; all of it is shared |
//! | aggregator | [`prepare_init`](prio::vdaf::Aggregator::prepare_init) | the share is checked against both proofs, as far as one share goes |
//! | all aggregators | [`prepare_shares_to_prepare_message`](prio::vdaf::Aggregator::prepare_shares_to_prepare_message) | what each found is added up and decides |
//! | aggregator | [`prepare_next`](prio::vdaf::Aggregator::prepare_next), [`aggregate`](prio::vdaf::Aggregator::aggregate) | the share of the vector counts |
//! | collector | [`unshard`](prio::vdaf::Collector::unshard) | shares of the sum become the sum |
//!
//! There are five instances: [`Pine64`] for most uses, [`Pine32Hmac`] for half the bytes, [`Pine40Hmac`] and
//! [`Pine64Hmac`] between them, [`Pine128`] for many fractional bits. [`choose()`] picks the one with the
//! shortest reports and says why a combination would be unsound.
//!
//! # Invariants
//!
//! - A [`Pine`] cannot be made of parameters that break a condition of the draft or of the paper's lemma 3.3.
//! - What comes from a client is decoded by [`prio::codec`] into field elements in canonical form, of exactly
//!   the length that the parameters give, before anything is computed.
//! - Everything secret prints as "redacted". No branch and no memory access depends on a share or on a
//!   coordinate's value, other than leaving out XOF output that is no field element, and refusing.
//! - Sums are only right while they do not wrap: [`Pine::check_clients`] says for how many clients that is.
//! - A report may be prepared once; the caller keeps nonces apart and refuses replays.
//!
//! # Deviations from its source
//!
//! - A wraparound check that fails, where fewer than all have to succeed, has zeros as its result's bits; the
//!   draft's code refuses to go on there. The aggregators do not look at them.
//! - `alpha`, the number of checks and of proofs are parameters of every instance.
//! - The bound may be at most `2^62`.
//!
//! The proofs are computed in another way than [`prio::flp`] does it, and are the same to the byte; the
//! repository's `docs/decisions` has the reasons.
//!
//! # Example
//!
//! ```
//! use defim_pine::Pine64;
//! use prio::vdaf::{Aggregator, Client, Collector, PrepareTransition};
//!
//! // Vectors of 4 coordinates with a norm of at most 1, in steps of 2^-15.
//! let pine = Pine64::new(Pine64::default_parameters(1 << 15, 15, 4))?;
//! let (verify_key, nonce) = ([42; 16], [1; 16]);
//!
//! // The client.
//! let (public, shares) = pine.shard(&vec![0.5, -0.25, 0.0, 0.125], &nonce)?;
//!
//! // Two aggregators; each sends the other its `prepared`.
//! let mut states = Vec::new();
//! let mut prepared = Vec::new();
//! for (id, share) in shares.iter().enumerate() {
//!     let (state, message) = pine.prepare_init(&verify_key, id, &(), &nonce, &public, share)?;
//!     states.push(state);
//!     prepared.push(message);
//! }
//! let message = pine.prepare_shares_to_prepare_message(&(), prepared)?;
//! let mut sums = Vec::new();
//! for state in states {
//!     let PrepareTransition::Finish(output) = pine.prepare_next(state, message.clone())? else {
//!         unreachable!("PINE has one round");
//!     };
//!     sums.push(pine.aggregate(&(), [output])?);
//! }
//!
//! // The collector.
//! assert_eq!(pine.unshard(&(), sums, 1)?, [0.5, -0.25, 0.0, 0.125]);
//!
//! // Over the bound, the client is told; a client that lies is found out by the aggregators.
//! assert!(pine.shard(&vec![1.0, 1.0, 0.0, 0.0], &nonce).is_err());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [arXiv 2311.10237]: https://arxiv.org/abs/2311.10237
//! [draft]: https://datatracker.ietf.org/doc/draft-chen-cfrg-vdaf-pine/

mod aggregator;
mod choose;
mod circuit;
mod client;
mod encode;
mod field;
mod field40;
mod flp;
mod ntt;
mod params;
mod residue;
mod share;
mod vdaf;
#[cfg(feature = "vectors")]
pub mod vectors;
mod wraparound;
mod xof;

pub use choose::{Choice, Requirements, Variant, choose};
pub use encode::EncodeError;
pub use field::{Field40, PineField};
pub use params::{
    ALPHA, MAX_DIMENSION, MAX_SHARES, NUM_WR_CHECKS, NUM_WR_SUCCESSES, ParameterError, Parameters,
};
pub use share::{
    AggregateShare, InputShare, OutputShare, PrepareMessage, PrepareShare, PrepareState,
    PublicShare,
};
pub use vdaf::{
    Instance, NONCE_SIZE, Pine, Pine32Hmac, Pine40Hmac, Pine64, Pine64Hmac, Pine128, PineError,
};
