//! Schema, preprocessing, models, local training, clipping, quantising, server optimisers and metrics: the only crate with floats.
//!
//! # Where in the flow
//!
//! At both ends of a round. On a person's device: rows are checked against the task's [`Schema`]
//! ([`Samples`]), preprocessed ([`Features`]), trained on ([`LocalUpdate`]), clipped to the norm
//! bound ([`ClippedUpdate`]) and put into fixed point ([`FixedUpdate`]). At the aggregation node: the
//! opened sum becomes a [`MeanUpdate`], on which the server's optimiser steps.
//!
//! # Invariants
//!
//! - Preprocessing depends on the schema alone, never on anybody's rows.
//! - A [`FixedUpdate`] has an integer norm strictly below its bound; nothing wraps, nothing that is
//!   not finite passes.
//! - [`train`] and [`ServerOptimiser::step`] give the same bits for the same inputs; the server's
//!   step uses only `+ - * /` and square roots in a fixed order.
//! - Types that hold a person's rows or update print nothing of them in `Debug`.
//!
//! # Example
//!
//! ```
//! use defim_learn::{DataLimits, builtin};
//!
//! let digits = builtin("digits", None).ok_or("no such task")?;
//! let error = digits.spec.schema.read_csv(b"p0,p1\n1,2\n", &DataLimits::default()).unwrap_err();
//! assert!(error.to_string().contains("missing"));
//! # Ok::<(), &str>(())
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

mod builtin;
mod features;
mod least_squares;
mod metrics;
mod model;
mod prediction;
mod schema;
mod server;
mod spec;
mod table;
mod train;
mod update;

#[cfg(feature = "builtin-data")]
pub use builtin::builtin_csv;
pub use builtin::{BUILTIN_NAMES, Builtin, builtin};
pub use features::{Features, Samples, Targets};
pub use least_squares::ols_r2;
pub use metrics::{Metrics, evaluate};
pub use model::{Model, ModelError, ModelSpec, dimension, model_digest};
pub use prediction::Prediction;
pub use schema::{Column, Label, LabelKind, Schema};
pub use server::{OptimiserState, ServerOptimiser};
pub use spec::{LearningSpec, SpecError};
pub use table::{DataError, DataErrors, DataLimits, MIN_CONTRIBUTION_ROWS};
pub use train::{LocalTraining, Progress, TrainError, train};
pub use update::{
    ClipNorm, ClippedUpdate, FixedUpdate, LocalUpdate, MeanUpdate, UpdateError, quantise_vector,
};
