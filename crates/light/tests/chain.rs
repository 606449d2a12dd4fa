//! What a light node believes of the canned chain in `crates/ledger/vectors/chain.json`, and what it refuses.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use defim_ledger::{AccountSlot, Digest, NodeId, ReportId, RoundOpened, SignedText, TaskId};
use defim_light::{
    JoinedTask, LightError,
    chain::{Follower, Served, ServedHeader},
};
use serde::de::DeserializeOwned;
use serde_json::Value;

fn canned() -> Value {
    let text = include_str!("../../ledger/vectors/chain.json");
    serde_json::from_str(text).unwrap()
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../pkg/test/fixture.json")).unwrap()
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

fn genesis(canned: &Value) -> Vec<u8> {
    let text = canned["genesis"].as_str().unwrap();
    Served::from_text("genesis", text).unwrap().0
}

fn begin(canned: &Value) -> Follower {
    let pinned: Digest = read(&canned["chain"]);
    Follower::begin(&genesis(canned), &pinned).unwrap()
}

/// A light node that has seen the block at this height, over the hand-overs before it.
fn at(canned: &Value, height: u64) -> Follower {
    let mut chain = begin(canned);
    let header = |height: u64| read::<ServedHeader>(&canned["headers"][height as usize - 1]);
    while chain.needs(&header(height)).unwrap().is_some() {
        chain.hand_over(&header(4 * chain.epoch() + 3)).unwrap();
    }
    chain.advance(&header(height)).unwrap();
    // Between two visits.
    Follower::restore(&chain.to_bytes()).unwrap()
}

fn statement(canned: &Value, round: u64) -> SignedText {
    read(&canned["statements"][round as usize - 1])
}

#[test]
fn a_pinned_chain_is_followed_over_the_change_of_validators() {
    let canned = canned();
    let chain = at(&canned, 9);
    assert_eq!((chain.height(), chain.epoch()), (9, 2));
    let validators: Vec<NodeId> = chain.validators().iter().map(|v| v.node).collect();
    assert_eq!(validators, read::<Vec<NodeId>>(&canned["validators"]));
    let other: Digest = read(&canned["other"]["chain"]);
    let refused = Follower::begin(&genesis(&canned), &other).unwrap_err();
    assert_eq!(refused.code(), "other-chain");
    let first = Follower::trust_on_first_use(&genesis(&canned)).unwrap();
    assert_eq!(*first.chain(), read::<Digest>(&canned["chain"]));
}

#[test]
fn every_bad_header_is_refused_for_its_own_reason_and_changes_nothing() {
    let canned = canned();
    for bad in canned["bad"]["headers"].as_array().unwrap() {
        let mut chain = at(&canned, bad["after"].as_u64().unwrap());
        let before = chain.clone();
        let error = chain.advance(&read(&bad["served"])).unwrap_err();
        assert_eq!(error.code(), bad["code"], "{}: {error}", bad["name"]);
        assert_eq!(chain, before, "{}", bad["name"]);
    }
}

#[test]
fn only_the_last_header_of_an_epoch_hands_it_over() {
    let canned = canned();
    let mut chain = at(&canned, 5);
    let error = chain.hand_over(&read(&canned["headers"][5])).unwrap_err();
    assert_eq!(error.code(), "no-hand-over");
    chain.hand_over(&read(&canned["headers"][6])).unwrap();
    assert_eq!(chain.epoch(), 2);
}

#[test]
fn a_newcomer_is_named_once_the_state_has_shown_its_name() {
    let canned = canned();
    let node: NodeId = read(&canned["newcomer"]["node"]);
    let mut chain = at(&canned, 9);
    let name = |chain: &Follower| {
        let found = chain.validators().into_iter().find(|v| v.node == node);
        found.unwrap().name
    };
    assert_eq!(name(&chain), None);
    chain
        .verify_name(node, &read(&canned["states"]["newcomer"]))
        .unwrap();
    let kept = Follower::restore(&chain.to_bytes()).unwrap();
    assert_eq!(name(&kept).as_deref(), canned["newcomer"]["name"].as_str());
}

#[test]
fn balances_are_proven_and_so_is_that_somebody_has_none() {
    let canned = canned();
    let mut chain = at(&canned, 9);
    let mut account = |name: &str| {
        let served = &canned["states"][name];
        let slot = served["slot"].as_str().unwrap();
        let owner = slot.strip_prefix("account.").unwrap().parse().unwrap();
        let proven = chain
            .verify_state(&AccountSlot(owner), &read(served))
            .unwrap();
        proven.value.map(|account| account.balance)
    };
    assert_eq!(
        account("account"),
        canned["states"]["account"]["balance"].as_u64()
    );
    assert_eq!(account("nobody"), None);
}

#[test]
fn a_final_opening_makes_a_round_ready_and_no_other_does() {
    let (canned, fixture) = (canned(), fixture());
    let task = JoinedTask::join(read(&fixture["manifest"]), None).unwrap();
    let id = task.task();
    let now = fixture["openedMs"].as_u64().unwrap();
    let given = statement(&canned, 1);
    let mut chain = at(&canned, 6);
    let opening = chain
        .verify_opening(&id, 1, &given, &read(&canned["openings"][0]))
        .unwrap();
    assert_eq!(opening.block().height, 5);
    let open = || task.open_round(given.clone(), now).unwrap();
    let ready = open().finalised(opening.clone()).unwrap();
    assert_eq!(ready.opening(), Some(&opening));

    // An opening for one person, whose signature is as good.
    let mut alone = RoundOpened::read(&given.payload).unwrap();
    alone.opened_ms += 1;
    let alone = alone
        .sign(&defim_ledger::NodeKey::from_seed([41; 32]))
        .unwrap();
    let open = task.open_round(alone.clone(), now).unwrap();
    let error = open.finalised(opening).unwrap_err();
    assert!(matches!(error, LightError::OtherOpening { round: 1 }));
    let error = chain.verify_opening(&id, 1, &alone, &read(&canned["openings"][0]));
    assert_eq!(error.unwrap_err().code(), "other-opening");
}

#[test]
fn a_round_from_an_epoch_that_is_over_is_found_in_the_newest_state() {
    let canned = canned();
    let task: TaskId = read(&canned["task"]);
    let mut chain = at(&canned, 9);
    let given = statement(&canned, 2);
    let served = read(&canned["states"]["round2"]);
    let opening = chain.verify_round(&task, 2, &given, &served).unwrap();
    assert_eq!(opening.block().height, 9);
    let other = statement(&canned, 1);
    let error = chain.verify_round(&task, 2, &other, &served).unwrap_err();
    assert_eq!(error.code(), "other-opening");
}

#[test]
fn bad_openings_and_rounds_are_refused_each_for_its_reason() {
    let canned = canned();
    let task: TaskId = read(&canned["task"]);
    for (kind, count) in [("openings", 5), ("rounds", 4)] {
        let all = canned["bad"][kind].as_array().unwrap();
        assert_eq!(all.len(), count);
        for bad in all {
            let round = bad["round"].as_u64().unwrap();
            let given = statement(&canned, round.min(2));
            let code = bad["code"].as_str().unwrap();
            // Block 5 is still of the light node's epoch, unless that is what is wrong.
            let early = kind == "openings" && bad["served"]["height"] == 5 && code != "past-epoch";
            let mut chain = at(&canned, if early { 6 } else { 9 });
            let served = &bad["served"];
            let result = match kind {
                "openings" => chain.verify_opening(&task, round, &given, &read(served)),
                _ => chain.verify_round(&task, round, &given, &read(served)),
            };
            let error = result.unwrap_err();
            assert_eq!(error.code(), code, "{}: {error}", bad["name"]);
        }
    }
}

#[test]
fn a_receipt_shows_that_one_report_of_one_round_is_counted() {
    let canned = canned();
    let task: TaskId = read(&canned["task"]);
    let served = &canned["receipt"];
    let report: ReportId = read(&served["report"]);
    let proven = at(&canned, 9)
        .verify_receipt(&task, 1, &report, &read(served))
        .unwrap();
    assert_eq!(proven.value.reward, served["reward"].as_u64().unwrap());
    assert_eq!(proven.value.model, read::<Digest>(&served["model"]));
    assert_eq!(proven.block.signers.len(), 3);
    for bad in canned["bad"]["receipts"].as_array().unwrap() {
        let (round, report) = (bad["round"].as_u64().unwrap(), read(&bad["report"]));
        let result = at(&canned, 9).verify_receipt(&task, round, &report, &read(&bad["served"]));
        let error = result.unwrap_err();
        assert_eq!(error.code(), bad["code"], "{}: {error}", bad["name"]);
    }
}
