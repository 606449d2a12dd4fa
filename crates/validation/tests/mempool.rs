//! What waits for a block: in order, bounded, and forgotten when it is in one.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use defim_validation::sim::{Counter, CounterState, CounterTx};
use defim_validation::{Digest, Machine as _, Mempool, PoolLimits, Refused};

fn tx(account: u8, nonce: u64) -> CounterTx {
    CounterTx {
        account: [account; 32],
        nonce,
        validators: None,
    }
}

fn counter() -> Counter {
    Counter {
        validators: vec![[100; 32]],
        epoch_length: 10,
        started_ms: 0,
    }
}

fn state(counts: &[(u8, u64)]) -> CounterState {
    CounterState {
        accounts: counts
            .iter()
            .map(|(account, next)| ([*account; 32], *next))
            .collect::<BTreeMap<_, _>>(),
        ..counter().initial()
    }
}

fn pool(limits: PoolLimits) -> Mempool<Counter> {
    Mempool::new(limits)
}

fn insert(
    pool: &mut Mempool<Counter>,
    state: &CounterState,
    tx: CounterTx,
) -> Result<Digest, Refused<String>> {
    pool.insert(&counter(), state, tx, 0)
}

#[test]
fn an_accounts_transactions_come_in_order_and_accounts_in_turn() {
    let (mut pool, state) = (pool(PoolLimits::default()), state(&[(1, 3)]));
    for tx in [tx(1, 3), tx(1, 4), tx(1, 5), tx(2, 0)] {
        insert(&mut pool, &state, tx).unwrap();
    }
    let picked = pool.pick(&counter(), &state, 10);
    assert_eq!(picked, [tx(1, 3), tx(2, 0), tx(1, 4), tx(1, 5)]);
    assert_eq!(pool.pick(&counter(), &state, 2), [tx(1, 3), tx(2, 0)]);
}

#[test]
fn strangers_cannot_keep_the_chains_own_nodes_out() {
    // The counter's chain stands still without its validator, account 100.
    let limits = PoolLimits {
        transactions: 8,
        reserved: 4,
        ..PoolLimits::default()
    };
    let (mut pool, state) = (pool(limits), state(&[]));
    for stranger in 2..8 {
        insert(&mut pool, &state, tx(stranger, 0)).unwrap();
    }
    let refused = insert(&mut pool, &state, tx(8, 0)).unwrap_err();
    assert!(matches!(refused, Refused::Full(6)), "{refused}");
    insert(&mut pool, &state, tx(100, 0)).unwrap();
    insert(&mut pool, &state, tx(100, 1)).unwrap();
    let refused = insert(&mut pool, &state, tx(100, 2)).unwrap_err();
    assert!(matches!(refused, Refused::Full(8)), "{refused}");
    // It came last and goes first, into blocks and to those who were away.
    assert_eq!(
        pool.pick(&counter(), &state, 3),
        [tx(100, 0), tx(100, 1), tx(2, 0)]
    );
    let sent: Vec<_> = [tx(100, 0), tx(100, 1)]
        .map(|tx| counter().encode_tx(&tx))
        .into();
    assert_eq!(pool.sample(&counter(), &state, 2), sent);
}

#[test]
fn what_does_not_fit_is_refused_with_its_reason() {
    let limits = PoolLimits {
        transactions: 3,
        per_account: 2,
        transaction_bytes: 60,
        ..PoolLimits::default()
    };
    let (mut pool, state) = (pool(limits), state(&[(1, 3)]));
    let refused = insert(&mut pool, &state, tx(1, 2)).unwrap_err();
    assert!(
        matches!(refused, Refused::Ledger(_)),
        "a used number: {refused}"
    );
    let refused = insert(&mut pool, &state, tx(1, 4)).unwrap_err();
    assert!(matches!(
        refused,
        Refused::Gap {
            expected: 3,
            found: 4
        }
    ));
    insert(&mut pool, &state, tx(1, 3)).unwrap();
    assert!(matches!(
        insert(&mut pool, &state, tx(1, 3)),
        Err(Refused::Known)
    ));
    let other = CounterTx {
        validators: Some(Vec::new()),
        ..tx(1, 3)
    };
    assert!(matches!(
        insert(&mut pool, &state, other),
        Err(Refused::Taken(3))
    ));
    insert(&mut pool, &state, tx(1, 4)).unwrap();
    assert!(matches!(
        insert(&mut pool, &state, tx(1, 5)),
        Err(Refused::AccountFull(2))
    ));
    insert(&mut pool, &state, tx(2, 0)).unwrap();
    assert!(matches!(
        insert(&mut pool, &state, tx(3, 0)),
        Err(Refused::Full(3))
    ));
    let long = CounterTx {
        validators: Some(vec![[0; 32]; 4]),
        ..tx(4, 0)
    };
    assert!(matches!(
        insert(&mut pool, &state, long),
        Err(Refused::TooLong { .. })
    ));
    assert_eq!(pool.waiting(), 3);
}

#[test]
fn what_a_block_has_or_overtook_waits_no_longer() {
    let (mut pool, before) = (pool(PoolLimits::default()), state(&[]));
    for tx in [tx(1, 0), tx(1, 1), tx(2, 0), tx(3, 0)] {
        insert(&mut pool, &before, tx).unwrap();
    }
    let turns: Vec<_> = [tx(1, 0)]
        .iter()
        .map(|tx| (counter().id(tx), counter().turn(tx)))
        .collect();
    // Account 2 had its number used elsewhere.
    let after = state(&[(1, 1), (2, 1)]);
    pool.settle(&counter(), &after, &turns, 0);
    assert_eq!(pool.pick(&counter(), &after, 10), [tx(3, 0), tx(1, 1)]);
    assert_eq!(pool.waiting(), 2);
    pool.evict(counter().turn(&tx(3, 0)));
    assert_eq!(pool.pick(&counter(), &after, 10), [tx(1, 1)]);
    assert!(pool.ready(&counter(), &after, 0));
    pool.evict(counter().turn(&tx(1, 0)));
    assert!(!pool.ready(&counter(), &after, 0));
    assert_eq!(pool.waiting(), 0);
}
