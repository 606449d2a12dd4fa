//! The light node for JavaScript: the wasm-bindgen edge that is built into the npm package.
//!
//! # Where in the flow
//!
//! Steps 2 to 5 of a round in a browser, in Node.js and in edge workers. [`Task`] and [`Contribution`] run in a
//! worker and do the computing; [`Chain`] follows the ledger in both; [`Delivery`] and, in browsers only, `Endpoint` run on the page's
//! thread, where WebRTC is. One module, instantiated twice.
//!
//! # Invariants
//!
//! - Thin: it converts, it decides nothing. What is checked is checked in `defim-light`.
//! - Whatever is thrown has the shape `{ code, message, problems? }`.
//! - The steps of a [`Contribution`] run once each and in order.
//!
//! # Example
//!
//! ```
//! use defim_light_bindings::Delivery;
//!
//! let mut delivery = Delivery::new("full-1", true);
//! assert!(delivery.handle(0.0, r#"{"kind":"tick"}"#).is_ok());
//! assert_eq!(delivery.poll().as_deref(), Some(r#"{"kind":"try","path":"webrtc","because":null}"#));
//! ```

mod audit;
mod chain;
mod contribution;
mod delivery;
#[cfg(target_arch = "wasm32")]
mod endpoint;
mod enrolment;
mod error;
mod task;

pub use audit::Audit;
pub use chain::Chain;
pub use contribution::Contribution;
pub use delivery::{Delivery, reason_code};
#[cfg(target_arch = "wasm32")]
pub use endpoint::Endpoint;
pub use enrolment::{claim_reward, new_seed, public_key};
pub use task::{Task, max_data_bytes};
