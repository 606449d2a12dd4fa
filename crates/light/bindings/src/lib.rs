//! The light node for JavaScript: the wasm-bindgen edge that is built into the npm package.
