//! Four real validators over loopback.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use defim_validation::sim::{Counter, CounterTx};
use defim_validation::{Config, Key, Node, NodeHandle, RulesOnly, key_of};

struct Mesh {
    folder: tempfile::TempDir,
    seeds: Vec<[u8; 32]>,
    keys: Vec<Key>,
    at: Vec<SocketAddr>,
    machine: Counter,
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

impl Mesh {
    fn new(validators: usize, others: usize, epoch_length: u64) -> Self {
        let seeds: Vec<[u8; 32]> = (0..validators + others)
            .map(|index| [index as u8 + 1; 32])
            .collect();
        let keys: Vec<Key> = seeds.iter().map(|seed| key_of(seed).unwrap()).collect();
        Self {
            folder: tempfile::tempdir().unwrap(),
            machine: Counter {
                validators: keys[..validators].to_vec(),
                epoch_length,
                started_ms: 0,
            },
            at: seeds.iter().map(|_| free_address()).collect(),
            seeds,
            keys,
        }
    }

    async fn start(&self, index: usize) -> NodeHandle<Counter> {
        let peers = self.keys.iter().copied().zip(self.at.iter().copied()).collect();
        let mut config = Config::new(
            self.machine.clone(),
            RulesOnly,
            self.seeds[index],
            self.at[index],
            peers,
            self.folder.path().join(index.to_string()),
        );
        config.timing.linger = Duration::from_millis(100);
        config.timing.leader = Duration::from_millis(1000);
        config.timing.idle = Duration::from_millis(500);
        Node::start(config).await.unwrap()
    }
}

fn tx(account: u8, nonce: u64) -> CounterTx {
    CounterTx {
        account: [account; 32],
        nonce,
        validators: None,
    }
}

async fn until_counted(node: &NodeHandle<Counter>, account: u8, count: u64) {
    let mut events = node.events();
    tokio::time::timeout(Duration::from_secs(60), async {
        while node.state().accounts.get(&[account; 32]) != Some(&count) {
            events.recv().await.unwrap();
        }
    })
    .await
    .unwrap_or_else(|_| panic!("account {account} should have counted to {count}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_validators_agree_on_what_was_submitted_and_one_comes_back_from_its_folder() {
    let _ = tracing_subscriber::fmt().with_env_filter(tracing_subscriber::EnvFilter::from_default_env()).try_init();
    let mesh = Mesh::new(4, 0, 8);
    let mut nodes = Vec::new();
    for index in 0..4 {
        nodes.push(mesh.start(index).await);
    }
    for nonce in 0..5 {
        for (index, node) in nodes.iter().enumerate() {
            node.submit(tx(index as u8, nonce)).await.unwrap();
        }
    }
    for node in &nodes {
        for account in 0..4 {
            until_counted(node, account, 5).await;
        }
    }
    let height = nodes[0].head().borrow().height;
    assert!(height > 0);
    for node in &nodes {
        node.stop().await.unwrap();
    }
}
