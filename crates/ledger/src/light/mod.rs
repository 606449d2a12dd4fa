//! What a light node checks: finality certificates, the chain of validator sets, proofs under final headers.
//!
//! It begins with a pinned genesis and needs of each epoch only the last header and its certificate. It does not
//! carry out transactions, so it believes what more than two thirds of the validators have signed.

mod certificate;
mod chain;
mod receipt;
mod set;
pub(crate) mod zip215;

pub use certificate::{Certificate, CertificateError};
pub(crate) use certificate::{proposal, signed, view_of_epoch};
pub use chain::{FinalHeader, LightChain, LightError};
pub use receipt::{Counted, Receipt, ReceiptError};
pub use set::{SetError, ValidatorSet};
