//! A validator that runs twice with one key: who talks to which half.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use commonware_cryptography::ed25519::PublicKey;
use commonware_p2p::Recipients;
use commonware_p2p::simulated::{SplitForwarder, SplitOrigin};
use commonware_runtime::IoBuf;

/// Who gets what a validator with a twin sends, and who is heard by whom: two masks over the nodes.
/// An honest validator has none.
#[derive(Clone)]
pub(super) struct Masks(Option<Arc<(AtomicU64, AtomicU64)>>);

impl Masks {
    pub(super) const fn honest() -> Self {
        Self(None)
    }

    pub(super) fn twins(primary: u64, secondary: u64) -> Self {
        Self(Some(Arc::new((
            AtomicU64::new(primary),
            AtomicU64::new(secondary),
        ))))
    }

    /// Each of the two talks to these nodes from now on.
    pub(super) fn set(&self, primary: u64, secondary: u64) {
        if let Some(masks) = &self.0 {
            masks.0.store(primary, Ordering::Relaxed);
            masks.1.store(secondary, Ordering::Relaxed);
        }
    }

    /// Whether one half talks to a node.
    pub(super) fn sees(&self, second: bool, node: usize) -> bool {
        self.0.as_ref().is_none_or(|masks| {
            let mask = if second { &masks.1 } else { &masks.0 };
            mask.load(Ordering::Relaxed) >> node & 1 == 1
        })
    }
}

/// Sends to those whom this half sees.
pub(super) fn forward(masks: Masks, keys: Arc<Vec<PublicKey>>) -> impl SplitForwarder<PublicKey> {
    move |origin: SplitOrigin, recipients: &Recipients<PublicKey>, _: &IoBuf| {
        if masks.0.is_none() {
            return Some(recipients.clone());
        }
        let second = origin == SplitOrigin::Secondary;
        let seen = |key: &PublicKey| {
            keys.iter()
                .position(|other| other == key)
                .is_some_and(|node| masks.sees(second, node))
        };
        let chosen: Vec<_> = match recipients {
            Recipients::All => keys.iter().filter(|key| seen(key)).cloned().collect(),
            Recipients::One(key) => seen(key).then(|| key.clone()).into_iter().collect(),
            Recipients::Some(some) => some.iter().filter(|key| seen(key)).cloned().collect(),
        };
        (!chosen.is_empty()).then_some(Recipients::Some(chosen))
    }
}
