//! The PINE VDAF: sums of vectors whose L2 norm is proven bounded in zero knowledge, without showing any of them.
#![doc = ""]

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
