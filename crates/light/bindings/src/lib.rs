//! The light node for JavaScript: the wasm-bindgen edge that is built into the npm package.
//!
//! # Where in the flow
//!
//! One module, instantiated twice. In a worker [`Contribution`] reads, trains, splits and seals. On
//! the page's thread, where WebRTC lives, `Transport` uploads and [`DeliveryMachine`] decides which
//! way a report goes. `pkg/` holds the TypeScript that joins them.
//!
//! # Invariants
//!
//! - Rows and updates never leave the worker; only a sealed report does.
//! - Every error is an object `{code, message, problems?}`; nothing here panics on input.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

mod contribution;
mod delivery;
mod failure;
#[cfg(target_arch = "wasm32")]
mod transport;

pub use contribution::{Contribution, check_rows};
pub use delivery::DeliveryMachine;
#[cfg(target_arch = "wasm32")]
pub use transport::Transport;

/// Called once by the module's loader: a fault of this crate is written to the console with its place.
#[cfg(target_arch = "wasm32")]
#[wasm_bindgen::prelude::wasm_bindgen(start)]
pub fn start() {
    console_error_panic_hook::set_once();
}
