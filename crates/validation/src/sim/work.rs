//! What happens beside the validators.

use std::collections::BTreeMap;

use crate::engine::Running;
use crate::ledger::Ledger;
use crate::machine::{Digest, Key, Machine};
use crate::sim::counter::{Counter, CounterBlock, CounterTx};

/// A machine whose blocks can be compared.
pub(super) trait Compared: Machine {
    /// The state's root after a block.
    fn root(block: &Self::Block) -> Digest;
}

impl Compared for Counter {
    fn root(block: &CounterBlock) -> Digest {
        block.root()
    }
}

impl Compared for Ledger {
    fn root(block: &defim_ledger::Block) -> Digest {
        block.header().state_root.0
    }
}

/// What happens beside the validators: it looks at what they have, and gives them transactions.
pub trait Work<M: Machine> {
    /// Looks at the validators that run, by number, every 20 ms. `draw` gives a number below another, of the
    /// seed's.
    ///
    /// # Errors
    ///
    /// What must never be and is. The run ends with it.
    fn look(
        &mut self,
        now_ms: u64,
        validators: &BTreeMap<usize, Running<M>>,
        draw: &mut dyn FnMut(u64) -> u64,
    ) -> Result<(), String>;

    /// Whether all has happened that is to.
    fn is_done(&self) -> bool {
        false
    }

    /// What it waits for, in words.
    fn waits(&self) -> String {
        String::new()
    }
}

/// Transactions of every account all the time.
#[derive(Default)]
pub(super) struct Busy {
    /// When the next one of each is due.
    due: BTreeMap<usize, u64>,
}

impl Work<Counter> for Busy {
    fn look(
        &mut self,
        now_ms: u64,
        validators: &BTreeMap<usize, Running<Counter>>,
        draw: &mut dyn FnMut(u64) -> u64,
    ) -> Result<(), String> {
        for (node, running) in validators {
            let due = self.due.entry(*node).or_default();
            if now_ms >= *due {
                *due = now_ms.saturating_add(150 + draw(700));
                count(*node, running, None, now_ms);
            }
        }
        Ok(())
    }
}

/// Gives a transaction of its own to a validator; refused ones are lost.
pub(super) fn count(
    node: usize,
    running: &Running<Counter>,
    validators: Option<Vec<Key>>,
    now_ms: u64,
) {
    let account = [u8::try_from(node).unwrap_or(u8::MAX); 32];
    let accounts = &running.settled().state.accounts;
    let nonce = accounts.get(&account).copied().unwrap_or(0);
    let tx = CounterTx {
        account,
        nonce,
        validators,
    };
    let _ = running.submit(tx, now_ms);
}
