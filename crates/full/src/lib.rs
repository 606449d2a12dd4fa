//! The full node: opens, verifies and adds its share of each contribution together with its committee.
