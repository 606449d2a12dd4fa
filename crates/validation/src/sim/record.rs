//! What the honest validators took for final, over all their lives, and what must never be in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use commonware_utils::sync::Mutex;
use sha2::{Digest as _, Sha256};

use crate::machine::Digest;

/// How many findings are kept in words; more say nothing new.
const WORDS: usize = 16;

/// A block as one validator took it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) digest: Digest,
    /// The state's root after it.
    pub(super) root: Digest,
}

#[derive(Default)]
struct Inner {
    by_height: BTreeMap<u64, (usize, Taken)>,
    highest: BTreeMap<usize, u64>,
    trace: Sha256,
    violations: Vec<String>,
}

/// The record of one run. It outlives the runtime, which a power cut ends.
#[derive(Clone, Default)]
pub(super) struct Record(Arc<Mutex<Inner>>);

impl Record {
    /// A validator took a block for final.
    pub(super) fn taken(&self, now_ms: u64, node: usize, height: u64, taken: Taken) {
        let mut inner = self.0.lock();
        inner.trace.update(now_ms.to_be_bytes());
        inner.trace.update((node as u64).to_be_bytes());
        inner.trace.update(height.to_be_bytes());
        inner.trace.update(taken.digest);
        drop(inner);
        self.compare(node, height, taken);
    }

    /// Compares what a validator has at a height with what any honest one ever had there.
    pub(super) fn compare(&self, node: usize, height: u64, taken: Taken) {
        let mut inner = self.0.lock();
        let highest = inner.highest.entry(node).or_insert(0);
        *highest = (*highest).max(height);
        let (first, before) = *inner.by_height.entry(height).or_insert((node, taken));
        if before != taken {
            drop(inner);
            self.violation(format!(
                "validators {first} and {node} have different final blocks at height {height}"
            ));
        }
    }

    /// Something that must not be.
    pub(super) fn violation(&self, what: String) {
        let mut inner = self.0.lock();
        if inner.violations.len() < WORDS {
            inner.violations.push(what);
        }
    }

    /// The highest final block of each validator, ever.
    pub(super) fn highest(&self, node: usize) -> u64 {
        self.0.lock().highest.get(&node).copied().unwrap_or(0)
    }

    /// Adds to the trace what happened below.
    pub(super) fn trace(&self, bytes: &[u8]) {
        self.0.lock().trace.update(bytes);
    }

    /// What was found, and the hash over everything that happened.
    pub(super) fn end(&self) -> (Vec<String>, Digest) {
        let inner = self.0.lock();
        (
            inner.violations.clone(),
            inner.trace.clone().finalize().into(),
        )
    }
}
