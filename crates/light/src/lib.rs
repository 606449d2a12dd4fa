//! The light node: trains locally, splits its update into sealed shares, uploads them once.
