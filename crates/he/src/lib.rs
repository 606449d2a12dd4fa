//! One-time additive RLWE: vectors of field elements are encrypted, added by anybody, and opened only as a total.
//!
//! # Where in the flow
//!
//! | who | does | with |
//! |---|---|---|
//! | each full node | draws a key for the round, shares it among the holders, encrypts its weighted aggregate share | [`SecretKey`] |
//! | aggregation node | adds the ciphertexts, signs which ones | [`Opening`], [`Adding`] |
//! | each holder (the full nodes again) | checks the set, adds up its key shares of it, deletes them | [`holder`] |
//! | anybody | puts the sum of the keys together, opens the sum, repeats the addition | [`SumKey`], [`open()`] |
//! | light node | checks a few blocks, proves a fraud | [`audit`] |
//!
//! Nothing here does I/O, reads a clock or draws randomness by itself.
//!
//! # Invariants
//!
//! - A key encrypts once: [`SecretKey::encrypt`] takes it. Keys and key shares print as "redacted" and are
//!   overwritten when they are dropped.
//! - The total of up to [`params::MAX_PARTIES`] vectors is exact, for all values: nothing wraps before the
//!   field does.
//! - A holder answers one set a round, and only a signed one ([`VerifiedOpening`]) that keeps the task's rules.
//! - Every form that comes from elsewhere is the only form of its value: what is decoded and encoded again is
//!   the same bytes.
//! - No branch and no memory access depends on a key, an error or a value, other than refusing a value that
//!   is no field element and leaving out random bytes that are no residue.
//!
//! [`security`] says what is hidden from whom, and why.
//!
//! # Deviations from its source
//!
//! The scheme is that of the repository's design (key-homomorphic masking with ring-LWE, uniform keys, Shamir's
//! sharing of the keys); ring arithmetic is [`fhe_math`]'s.
//!
//! - `DELTA` is 2047 and not 2^11: `q` is a little less than 2^80, and 32 of the largest elements times 2^11 are
//!   over it.
//! - Masks and keys are given by coefficients, not by the values of a transform, whose order and root of unity
//!   are the library's own.
//! - An opening names committees whole. With a committee in part, one of its members can take its own share off the
//!   total, and the set would cover one committee less than it says.
//! - The last block is filled with zeros rather than cut, so that a wrong key is found for the shortest vector too.
//!
//! # Example
//!
//! ```
//! use std::collections::{BTreeMap, BTreeSet};
//! use defim_he::holder::{Holder, Rules};
//! use defim_he::{Member, NodeId, Opening, Round, SecretKey, SumKey, Threshold, VerifiedOpening, open};
//! use ed25519_dalek::{Signer as _, SigningKey};
//!
//! let mut rng = rand::rng();
//! let round = Round { task: [7; 32], number: 1 };
//! let nodes = [NodeId([1; 32]), NodeId([2; 32]), NodeId([3; 32]), NodeId([4; 32])];
//! let committees: BTreeMap<_, _> = [
//!     (0, BTreeSet::from([nodes[0], nodes[1]])),
//!     (1, BTreeSet::from([nodes[2], nodes[3]])),
//! ].into();
//! let threshold = Threshold::two_thirds(4)?;
//! let rules = |holder| Rules {
//!     holder,
//!     committees: committees.clone(),
//!     min_committees: 2,
//!     min_reports: 10,
//! };
//! let mut holders = [(); 4].map(|()| Holder::new());
//!
//! // Each full node encrypts three coordinates and hands out shares of its key.
//! let mut members = Vec::new();
//! let mut ciphertexts = Vec::new();
//! for (k, node) in (0..).zip(nodes) {
//!     let key = SecretKey::random(&mut rng);
//!     for (holder, share) in holders.iter_mut().zip(key.share(threshold, &mut rng)) {
//!         let step = holder.keep(&rules(share.holder()), round, node, share)?;
//!         // Here `step.record()` goes to disk, into `step.slot()`.
//!         step.written();
//!     }
//!     let ciphertext = key.encrypt(round, &[10 + k, 20 + k, 30 + k], &mut rng)?;
//!     let committee = k as u32 / 2;
//!     members.push(Member { node, ciphertext: ciphertext.root(), committee, reports: 5 });
//!     ciphertexts.push(ciphertext);
//! }
//!
//! // The aggregation node adds, and signs what it added.
//! let aggregation = SigningKey::from_bytes(&[9; 32]);
//! let opening = Opening::new(round, members)?;
//! let sum = opening.sum(ciphertexts[0].dimension(), &ciphertexts)?;
//! let signature = aggregation.sign(&opening.to_bytes());
//! let signed = |bytes: &[u8]| aggregation.verify(bytes, &signature).is_ok();
//! let verified = VerifiedOpening::new(opening, signed)?;
//!
//! // Three of the four holders answer; the fourth is gone.
//! let mut answers = Vec::new();
//! for (place, holder) in (1..).zip(&mut holders).take(3) {
//!     let step = holder.answer(&rules(defim_he::HolderIndex::new(place)?), &verified)?;
//!     // To disk again: the answer, and then the round's shares are deleted.
//!     answers.push(step.written());
//! }
//!
//! // Anybody opens the total, and nothing but the total.
//! let key = SumKey::from_answers(threshold, &answers)?;
//! assert_eq!(open(round, &sum, &key)?, [46, 86, 126]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

pub mod audit;
mod ciphertext;
mod codec;
pub mod holder;
mod key;
mod mask;
mod merkle;
mod open;
mod opening;
pub mod params;
mod ring;
pub mod security;
mod sharing;
mod sum;

pub use ciphertext::{Ciphertext, EncryptError, ProvenBlock, Root};
pub use codec::CodecError;
pub use key::{SecretKey, SumKey};
pub use mask::Round;
pub use open::{OpenError, open, open_below};
pub use opening::{Member, NodeId, Opening, OpeningDigest, OpeningError, VerifiedOpening};
pub use sharing::{HolderIndex, KeyShare, SharingError, SumShare, Threshold};
pub use sum::{Adding, Sum, SumError};
