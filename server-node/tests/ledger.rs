//! The ledger over real processes: rounds are on it, anybody verifies it, and no crash loses a block or pays twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::collections::BTreeMap;

use common::{Mesh, NODES, text};
use defim_ledger::{Body, Canonical as _, NodeKey, Tx};
use serde_json::Value;

impl Mesh {
    fn verified(&self) -> Value {
        let done = self.call(&["ledger", "verify"]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    }

    /// The newest blocks, by height.
    fn blocks(&self) -> BTreeMap<u64, String> {
        let done = self.call(&["ledger", "show", "--limit", "100"]);
        let lines = text(&done.stdout);
        lines
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter_map(|block| {
                let digest = block["digest"].as_str()?.to_owned();
                Some((block["height"].as_u64()?, digest))
            })
            .collect()
    }

    /// The mesh's admin has this carried out.
    fn as_admin(&self, body: Body) {
        let seed = std::fs::read_to_string(self.folder().join("admin.key")).unwrap();
        let key = NodeKey::from_seed(hex::decode(seed.trim()).unwrap().try_into().unwrap());
        let owner = key.id().to_string();
        let nonce = |mesh: &Self| {
            let account = mesh.json(&["account", "show", &owner]).unwrap();
            account["nonce"].as_u64().unwrap()
        };
        let tx = Tx {
            from: key.id(),
            nonce: nonce(self),
            chain: self.verified()["chain"].as_str().unwrap().parse().unwrap(),
            body,
        };
        let before = tx.nonce;
        let bytes = tx.sign(&key).to_bytes();
        let url = format!("{}/api/v1/ledger/txs", self.url());
        let sent = reqwest::Client::new().post(url).body(bytes).send();
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let answer = runtime.block_on(sent).unwrap();
        assert!(answer.status().is_success(), "{answer:?}");
        self.wait("it is carried out", |mesh| nonce(mesh) > before);
    }

    fn with_silos(init: &[&str]) -> Self {
        Self::start_changed(init, |mesh| {
            for node in ["full-1", "full-2", "full-3"] {
                let path = mesh.folder().join(format!("{node}.toml"));
                let config = std::fs::read_to_string(&path).unwrap();
                let silo = format!("silo = {:?}\n", mesh.sample());
                std::fs::write(&path, silo + &config).unwrap();
            }
        })
    }
}

#[test]
fn rounds_are_on_the_ledger_and_anybody_verifies_it() {
    let mesh = Mesh::start(&["--min-batch", "2"]);
    for _ in 0..2 {
        assert!(mesh.contribute(&[]).status.success());
    }
    mesh.wait("the validators finish the round", |mesh| {
        mesh.call(&["ledger", "verify"]).status.success() && mesh.verified()["rounds"] == 1
    });
    let verified = mesh.verified();
    assert_eq!(verified["supply"], 1_000_000_000_000_u64);
    let chain = verified["chain"].as_str().unwrap().to_owned();
    let pinned = mesh.call(&["ledger", "verify", "--chain", &chain]);
    assert!(pinned.status.success());
    let other = "A".repeat(43);
    let other = mesh.call(&["ledger", "verify", "--chain", &other]);
    assert_eq!(other.status.code(), Some(5), "{}", text(&other.stderr));
    // What happened is told in words, and the round was paid.
    let shown = text(&mesh.call(&["ledger", "show", "--limit", "100"]).stdout);
    for word in [
        "opens round 1",
        "opens the total",
        "proposes the model of round 1",
        "accepts the model",
    ] {
        assert!(shown.contains(word), "{word}: {shown}");
    }
    let nodes = mesh.json(&["node", "list"]).unwrap();
    let aggregation = nodes["aggregation"]["id"].as_str().unwrap().to_owned();
    let account = mesh.json(&["account", "show", &aggregation]).unwrap();
    assert_eq!(account["balance"], 1_000);
    // The next round opens once this one is settled, and its opening is on the ledger too.
    mesh.wait("round 2 is open on the ledger", |mesh| {
        let task = mesh.task();
        task["round"]["round"] == 2 && task["round"]["ledger"]["height"].as_u64().is_some()
    });
    // An admin gives points away; a stranger's key has none to give.
    let key = mesh.folder().join("admin.key");
    let key = key.to_str().unwrap();
    let given = mesh.json(&[
        "account",
        "transfer",
        "--key",
        key,
        "--to",
        &aggregation,
        "--amount",
        "5",
    ]);
    assert_eq!(given.unwrap()["amount"], 5);
    let account = mesh.json(&["account", "show", &aggregation]).unwrap();
    assert_eq!(account["balance"], 1_005);
    let stranger = mesh.folder().join("full-1/node.key");
    let stranger = stranger.to_str().unwrap();
    let refused = mesh.call(&[
        "account",
        "transfer",
        "--key",
        stranger,
        "--to",
        &aggregation,
        "--amount",
        "5000",
    ]);
    assert_eq!(refused.status.code(), Some(3));
    assert!(
        text(&refused.stderr).contains("less than that"),
        "{}",
        text(&refused.stderr)
    );
}

#[test]
fn one_of_four_validators_may_go_and_two_stop_the_chain_until_one_is_back() {
    let mut mesh = Mesh::with_silos(&["--min-batch", "2", "--max-batch", "3"]);
    let height = |mesh: &Mesh| mesh.verified()["height"].as_u64().unwrap();
    let rounds = |mesh: &Mesh| mesh.task()["roundsDone"].as_u64().unwrap();
    mesh.kill("validator-2");
    let before = rounds(&mesh);
    mesh.wait("rounds go on with three", |mesh| rounds(mesh) > before + 1);
    mesh.kill("validator-3");
    // What was under way comes to its end; then nothing is final any more.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let stopped = height(&mesh);
    std::thread::sleep(std::time::Duration::from_secs(12));
    assert_eq!(height(&mesh), stopped);
    mesh.run("validator-3");
    mesh.wait("blocks go on", |mesh| height(mesh) > stopped + 2);
    mesh.run("validator-2");
    let before = rounds(&mesh);
    mesh.wait("rounds go on with all", |mesh| rounds(mesh) > before + 1);
}

#[test]
fn twenty_kills_lose_no_block_and_pay_no_round_twice() {
    let mut mesh = Mesh::with_silos(&["--min-batch", "2", "--max-batch", "3", "--rounds", "1000"]);
    mesh.wait("a round is finished", |mesh| {
        mesh.verified()["rounds"].as_u64() >= Some(1)
    });
    let mut seen = mesh.blocks();
    let order = NODES.iter().cycle().take(20);
    for node in order.copied() {
        mesh.kill(node);
        // The aggregation node passes the ledger on: it is asked when it is back.
        std::thread::sleep(std::time::Duration::from_millis(300));
        mesh.run(node);
        let newest = *seen.keys().last().unwrap();
        mesh.wait("blocks go on", |mesh| {
            mesh.blocks()
                .keys()
                .last()
                .is_some_and(|last| *last > newest)
        });
        for (height, digest) in mesh.blocks() {
            if let Some(before) = seen.insert(height, digest.clone()) {
                assert_eq!(
                    before, digest,
                    "block {height} is another one after {node} was killed"
                );
            }
        }
    }
    let before = mesh.verified()["rounds"].as_u64().unwrap();
    mesh.wait("rounds go on", |mesh| {
        mesh.verified()["rounds"].as_u64() > Some(before)
    });
    // Every transaction was carried out again, and all points are accounted for: nothing was paid twice.
    let verified = mesh.verified();
    let nodes = mesh.json(&["node", "list"]).unwrap();
    let aggregation = nodes["aggregation"]["id"].as_str().unwrap();
    let account = mesh.json(&["account", "show", aggregation]).unwrap();
    let rounds = account["balance"].as_u64().unwrap() / 1_000;
    assert!(rounds >= verified["rounds"].as_u64().unwrap());
    assert!(rounds <= mesh.verified()["rounds"].as_u64().unwrap());
}

#[test]
fn a_task_goes_on_without_a_full_node_that_an_admin_has_removed() {
    let mesh = Mesh::start(&["--min-batch", "2"]);
    // Reports are there before, for all committees.
    for _ in 0..2 {
        assert!(mesh.contribute(&[]).status.success());
    }
    let nodes = mesh.json(&["node", "list"]).unwrap();
    let all = nodes["nodes"].as_array().unwrap();
    let gone = all.iter().find(|node| node["name"] == "full-3").unwrap();
    let node = gone["id"].as_str().unwrap().parse().unwrap();
    mesh.as_admin(Body::RemoveNode { node });
    // A report in three is for the two that are left; a round that counted others is given up.
    let finished = |mesh: &Mesh| mesh.verified()["rounds"].as_u64().unwrap();
    let wanted = finished(&mesh) + 2;
    let mut sent = 0;
    while finished(&mesh) < wanted {
        assert!(sent < 90, "{}", mesh.task());
        // Between two rounds nobody is waited for, and one that has enough stays open a little longer.
        mesh.contribute(&[]);
        sent += 1;
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    let audit = mesh.json(&["audit", "--task", "digits"]).unwrap();
    assert_eq!(audit["verdict"], "right");
    assert_eq!(audit["chain"], mesh.verified()["chain"]);
    assert_eq!(audit["parties"], 2);
}
