//! Four real validators with DeFim's ledger over loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use defim_ledger::light::{Certificate, CertificateError, ValidatorSet};
use defim_ledger::{
    Block, Body, FirstValidator, Genesis, NodeId, NodeKey, Params, SignedTx, Tx,
    consensus_namespace,
};
use defim_validation::{Config, Deep, Ledger, Node, NodeHandle};

const SUPPLY: u64 = 1_000_000;

struct Mesh {
    folder: tempfile::TempDir,
    keys: Vec<[u8; 32]>,
    at: Vec<SocketAddr>,
    ledger: Ledger,
}

fn seed(index: usize) -> [u8; 32] {
    [index as u8 + 1; 32]
}

fn id(index: usize) -> NodeId {
    NodeKey::from_seed(seed(index)).id()
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Files that every test waits for are in memory where there is such a place.
fn folder() -> tempfile::TempDir {
    match Path::new("/dev/shm").is_dir() {
        true => tempfile::tempdir_in("/dev/shm").unwrap(),
        false => tempfile::tempdir().unwrap(),
    }
}

/// A validator in a process of its own, which is killed.
const CHILD: &str = "DEFIM_TEST_VALIDATOR";

impl Mesh {
    /// What another process needs to be node 3 of this mesh.
    fn told(&self) -> String {
        let ports: Vec<String> = self.at.iter().map(|at| at.port().to_string()).collect();
        format!("{} {}", self.folder.path().display(), ports.join(" "))
    }

    /// `nodes` nodes, of which the first `validators` agree on the first epoch.
    fn new(validators: usize, nodes: usize, epoch_blocks: u64) -> Self {
        let mut first: Vec<FirstValidator> = (0..validators)
            .map(|index| FirstValidator {
                node: id(index),
                name: format!("validator {index}"),
                address: String::new(),
            })
            .collect();
        first.sort_by_key(|validator| validator.node);
        let genesis = Genesis {
            name: "test".to_owned(),
            timestamp_ms: 1_700_000_000_000,
            validators: first,
            admins: vec![id(0)],
            treasury: id(0),
            supply: SUPPLY,
            params: Params {
                epoch_blocks,
                ..Params::default()
            },
        };
        Self {
            folder: folder(),
            keys: (0..nodes).map(|index| id(index).0).collect(),
            at: (0..nodes).map(|_| free_address()).collect(),
            ledger: Ledger::new(genesis).unwrap(),
        }
    }

    fn path(&self, index: usize) -> std::path::PathBuf {
        self.folder.path().join(index.to_string())
    }

    async fn start(&self, index: usize) -> NodeHandle {
        self.start_in(index, self.path(index)).await
    }

    async fn start_in(&self, index: usize, path: std::path::PathBuf) -> NodeHandle {
        let peers = self
            .keys
            .iter()
            .copied()
            .zip(self.at.iter().copied())
            .collect();
        let mut config = Config::new(
            self.ledger.clone(),
            Deep::rules_only(),
            seed(index),
            self.at[index],
            peers,
            path,
        );
        config.timing.linger = Duration::from_millis(100);
        config.timing.leader = Duration::from_millis(1_000);
        config.timing.idle = Duration::from_millis(400);
        config.limits.snapshot_every = 4;
        Node::start(config).await.unwrap()
    }

    async fn start_all(&self, count: usize) -> Vec<NodeHandle> {
        futures::future::join_all((0..count).map(|index| self.start(index))).await
    }

    fn sign(&self, from: usize, nonce: u64, body: Body) -> SignedTx {
        Tx {
            from: id(from),
            nonce,
            chain: self.ledger.genesis().chain(),
            body,
        }
        .sign(&NodeKey::from_seed(seed(from)))
    }

    fn transfer(&self, from: usize, nonce: u64, to: usize, amount: u64) -> SignedTx {
        let to = id(to);
        self.sign(from, nonce, Body::Transfer { to, amount })
    }
}

fn balance(node: &NodeHandle, of: usize) -> u64 {
    node.state().account(&id(of)).balance
}

async fn until(node: &NodeHandle, what: &str, done: impl Fn(&NodeHandle) -> bool) {
    tokio::time::timeout(Duration::from_secs(90), async {
        while !done(node) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("{what} should have happened"));
}

/// Gives a transaction to a node as soon as that node knows the one before it.
async fn give(node: &NodeHandle, tx: SignedTx) {
    let (from, nonce) = (tx.tx.from, tx.tx.nonce);
    until(node, "the account's transaction before", |node| {
        node.state().account(&from).nonce == nonce
    })
    .await;
    node.submit(tx).await.unwrap();
}

/// Folders of the node's files whose name has this in it.
fn folders(path: &Path, part: &str) -> usize {
    let entries = std::fs::read_dir(path).unwrap();
    let below = entries.flatten().map(|entry| entry.path());
    below
        .filter(|path| path.is_dir())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            usize::from(name.contains(part)) + folders(&path, part)
        })
        .sum()
}

/// All have the same block with the same state at the lowest height that all have.
async fn same(nodes: &[&NodeHandle]) {
    let height = nodes
        .iter()
        .map(|node| node.settled().block.header().height)
        .min()
        .unwrap();
    let mut roots = Vec::new();
    for node in nodes {
        let stored = node.block(height).await.unwrap();
        roots.push(
            Block::from_bytes(&stored.block)
                .unwrap()
                .header()
                .state_root,
        );
    }
    assert!(roots.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_agree_and_one_that_was_away_comes_back_from_its_folder() {
    let mesh = Mesh::new(4, 4, 5);
    let mut nodes = mesh.start_all(4).await;
    for nonce in 0..3 {
        give(
            &nodes[nonce],
            mesh.transfer(0, nonce as u64, nonce + 1, 100),
        )
        .await;
        until(&nodes[3], "the transfer", |node| {
            balance(node, nonce + 1) == 100
        })
        .await;
    }
    // One stops; the three go on without it.
    let away = nodes.pop().unwrap();
    away.stop().await.unwrap();
    drop(away);
    for nonce in 3..6 {
        give(&nodes[1], mesh.transfer(0, nonce, 3, 10)).await;
    }
    for node in &nodes {
        until(node, "transfers without the fourth", |node| {
            balance(node, 3) == 130
        })
        .await;
    }
    // It comes back with what it had, and gets what it missed.
    nodes.push(mesh.start(3).await);
    until(&nodes[3], "catching up", |node| balance(node, 3) == 130).await;
    give(&nodes[3], mesh.transfer(3, 0, 1, 30)).await;
    for node in &nodes {
        until(node, "a transfer through the one that came back", |node| {
            balance(node, 3) == 100
        })
        .await;
        assert_eq!(balance(node, 0), SUPPLY - 330);
    }
    same(&nodes.iter().collect::<Vec<_>>()).await;
    // Five blocks are an epoch. Of those that are over, few journals are kept.
    for nonce in 6..60 {
        give(&nodes[1], mesh.transfer(0, nonce, 1, 1)).await;
    }
    until(&nodes[0], "eleven epochs", |node| {
        node.settled().block.header().height >= 56
    })
    .await;
    for node in &nodes {
        node.stop().await.unwrap();
    }
    assert!((2..=7).contains(&folders(&mesh.path(0), "-epoch-")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_as_it_is_kept_convinces_the_light_verifier_and_no_changed_one_does() {
    let mesh = Mesh::new(4, 4, 1000);
    let nodes = mesh.start_all(4).await;
    give(&nodes[2], mesh.transfer(0, 0, 1, 5)).await;
    until(&nodes[1], "the transfer", |node| balance(node, 1) == 5).await;
    let mut head = nodes[1].head();
    let head = head.wait_for(|head| head.height > 0).await.unwrap().clone();
    let stored = nodes[1].block(head.height).await.unwrap();
    let bytes = stored.certificate.unwrap();
    assert_eq!(bytes, head.certificate);
    let block = Block::from_bytes(&stored.block).unwrap();

    let set = mesh.ledger.genesis().validator_set().unwrap();
    let namespace = consensus_namespace(&mesh.ledger.genesis().chain());
    let certificate = Certificate::from_bytes(&bytes).unwrap();
    assert_eq!(certificate.to_bytes(), bytes);
    assert_eq!(certificate.epoch, 0);
    assert_eq!(certificate.payload, block.digest());
    let signers = certificate.verify(&set, &namespace).unwrap();
    assert!(signers.len() >= 3);

    // Every byte of it matters: with any bit changed it is not read, or not believed.
    for at in 0..bytes.len() {
        for bit in 0..8 {
            let mut changed = bytes.to_vec();
            changed[at] ^= 1 << bit;
            let believed = Certificate::from_bytes(&changed)
                .is_ok_and(|certificate| certificate.verify(&set, &namespace).is_ok());
            assert!(!believed, "byte {at} bit {bit}");
        }
        assert!(Certificate::from_bytes(&bytes[..at]).is_err());
    }
    let mut missing = certificate.clone();
    let last = missing.signers.iter().rposition(|signed| *signed).unwrap();
    missing.signers[last] = false;
    missing.signatures.pop();
    while missing.signatures.len() > 2 {
        let last = missing.signers.iter().rposition(|signed| *signed).unwrap();
        missing.signers[last] = false;
        missing.signatures.pop();
    }
    assert_eq!(
        missing.verify(&set, &namespace),
        Err(CertificateError::MissingSigner { have: 2, need: 3 })
    );
    let mut twice = certificate.clone();
    twice.signatures[1] = twice.signatures[0];
    assert_eq!(
        twice.verify(&set, &namespace),
        Err(CertificateError::DuplicateSignature)
    );
    let mut strangers: Vec<NodeId> = (10..14).map(id).collect();
    strangers.sort();
    let strangers = ValidatorSet::new(strangers).unwrap();
    assert!(certificate.verify(&strangers, &namespace).is_err());
    let elsewhere = consensus_namespace(&defim_ledger::Digest([1; 32]));
    assert!(certificate.verify(&set, &elsewhere).is_err());
    for node in &nodes {
        node.stop().await.unwrap();
    }
}

/// The process that the next test starts and kills: without its word there is nothing to run.
#[test]
fn node_in_a_process_of_its_own() {
    let Ok(told) = std::env::var(CHILD) else {
        return;
    };
    let mut told = told.split(' ');
    let path = std::path::PathBuf::from(told.next().unwrap());
    let ports = told.map(|port| SocketAddr::from(([127, 0, 0, 1], port.parse().unwrap())));
    let mut mesh = Mesh::new(4, 4, 5);
    mesh.at = ports.collect();
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        let node = mesh.start_in(3, path.join("3")).await;
        node.ended().await.unwrap();
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_loses_no_final_block_and_applies_none_twice() {
    let mesh = Mesh::new(4, 4, 5);
    let nodes = mesh.start_all(3).await;
    let child = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "node_in_a_process_of_its_own"])
            .env(CHILD, mesh.told())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    let mut sent = 0;
    for kill in 0..6 {
        let mut process = child();
        let end = 2 * (kill + 1);
        while sent < end {
            give(&nodes[kill % 3], mesh.transfer(0, sent as u64, 3, 7)).await;
            sent += 1;
            until(
                &nodes[0],
                "a transfer while one is killed again and again",
                |node| balance(node, 3) == 7 * sent as u64,
            )
            .await;
        }
        // Somewhere in a block's life: each time elsewhere.
        tokio::time::sleep(Duration::from_millis(300 + 67 * kill as u64)).await;
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let back = mesh.start(3).await;
    until(&back, "the killed one's return", |node| {
        balance(node, 3) == 7 * sent as u64
    })
    .await;
    assert_eq!(balance(&back, 0), SUPPLY - 7 * sent as u64);
    same(&[&nodes[0], &nodes[1], &nodes[2], &back]).await;
    for height in 1..=back.settled().block.header().height {
        assert!(back.block(height).await.is_some(), "block {height} is kept");
    }
    back.stop().await.unwrap();
    for node in &nodes {
        node.stop().await.unwrap();
    }
}
