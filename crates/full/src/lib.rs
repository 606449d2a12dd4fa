//! The full node: opens, verifies and adds its share of each contribution together with its committee.
//!
//! # Where in the flow
//!
//! Steps 5 to 10 of a round. A committee is a leader, which takes uploads and drives, and a helper, or two of
//! them, which answer; a node sits on many. Each opens only the share that is sealed for it
//! ([`OpenedShare`]); together they check the proof, exchanging one message each way, and with two helpers another one
//! ([`LeaderPending`], [`BegunShare`], [`VerifiedShare`]); they agree on the batch and sign it; each then adds its
//! own verified shares into a [`ReleasableAggregate`]. [`leader::Leader`] is the machine that
//! decides what to do next; [`helper`] answers. When the aggregation node has said which batches are added, a node
//! encrypts its sum over them ([`sum::encrypt`]) and answers for the keys ([`holder::answer`]).
//!
//! # Invariants
//!
//! - No member ever holds two shares of a report: the others' are sealed to other keys.
//! - A [`ReleasableAggregate`] can only be made from a [`SignedBatch`], which its leader and this node have signed, and from
//!   exactly the reports it lists. It stays in the node; only a
//!   [`VerifiedSelection`](defim_protocol::sum::VerifiedSelection) of [`AgreedBatch`]es, which all of their members have
//!   signed, with at least `min_batch` reports in all, is encrypted and opened.
//! - A helper answers for a report of three shares only what is in its store: the same share again, the same end again.
//! - A node opens one set of ciphertexts a round, and of the selections that it has encrypted only the last: the records of
//!   both are on disk before anything leaves ([`LastEncrypted`]). Of a selection it makes one ciphertext, and each is spent of
//!   the task's privacy budget, opened or not.
//! - A report counts once: ids are sorted and distinct under the batch's root, and the store's
//!   replay cache refuses an id for ever.
//! - Where light nodes are enrolled, a report has the one id of its key, and each member sees the signature in its own seal
//!   before it prepares it: neither can make a report up, nor let one in twice.
//!
//! # Deviations
//!
//! Preparation follows the ping-pong topology of the VDAF draft, section 5.8; with three shares, the star topology of the
//! same section, over our own messages: see `docs/decisions/0014-three-shares.md`. Unlike in DAP-09, aggregate shares are not
//! handed to a collector: each leaves its node encrypted, see `docs/decisions/0009-one-ciphertext-a-node.md`.
//!
//! [`AgreedBatch`]: defim_protocol::batch::AgreedBatch
//! [`SignedBatch`]: defim_protocol::batch::SignedBatch
//!
//! # Example
//!
//! ```
//! use defim_full::leader::{Input, Leader, Output};
//! # use defim_protocol::{LedgerTerms, Manifest, Member, NodeKey, RoundOpened, Schedule, VerifiedManifest, VerifiedRound, Digest, seal::SealingKey, vdaf::{Scheme, VdafSpec}};
//! # let key = NodeKey::from_seed([9; 32]);
//! # let member = |n: u8| Member { node: NodeKey::from_seed([n; 32]).id(), name: format!("full-{n}"), hpke: SealingKey::from_seed(n, [n; 32]).config() };
//! # let manifest = Manifest { name: "digits".into(), title: String::new(), summary: String::new(), aggregation: key.id(), members: vec![member(1), member(2)],
//! #   vdaf: VdafSpec { scheme: Scheme::Pine64, dimension: 4, frac_bits: 15, shares: 2, votes: 0 }, schedule: Schedule { min_batch: 2, max_batch: 9, settle_ms: 0, round_ms: 1000, rounds: 1 }, privacy: None, max_weight: 1, admission: None, ledger: LedgerTerms::default(), created_ms: 0,
//! #   learning: serde_json::value::RawValue::from_string("{}".into()).unwrap() };
//! # let task = VerifiedManifest::verify(manifest.sign(&key).unwrap(), None).unwrap();
//! # let opened = RoundOpened { task: task.task(), round: 1, base_model: Digest([0; 32]), opened_ms: 0, deadline_ms: 1000, weights: Default::default() };
//! # let round = VerifiedRound::verify(opened.sign(&key).unwrap(), &task).unwrap();
//! let secrets = defim_full::Secrets::from_seed([1; 32]).into();
//! let mut leader = Leader::new(task.committee(0).unwrap(), round, secrets).unwrap();
//! leader.handle(0, Input::Tick);
//! assert!(matches!(leader.poll(), Some(Output::LoadState)));
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

pub mod helper;
pub mod holder;
pub mod leader;
mod once;
mod prepare;
mod release;
mod secrets;
pub mod sum;
mod upload;

pub use once::{LastEncrypted, OnceError};
pub use prepare::{BegunShare, LeaderPending, OpenedShare, VerifiedShare};
pub use release::{AggregateBuilder, ReleasableAggregate, ReleaseError};
pub use secrets::Secrets;
pub use upload::{AcceptedReport, accept_upload, claimed_id};
