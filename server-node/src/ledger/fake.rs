//! Validators made by hand, for tests: they serve a chain that nobody had to agree on, honestly or not.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    body::Bytes,
    extract::{Path, State as Shared},
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use defim_ledger::{
    Admission, AdmissionRule, Block, Body, Canonical as _, CreateTask, Digest, FirstValidator,
    Genesis, NodeId, NodeKey, Params, Role, SignedTx, State, TaskId, TaskTerms, Tx,
    consensus_namespace, light::Certificate, propose,
};
use ed25519_dalek::{Signer as _, SigningKey};

use super::{
    client::LedgerClient,
    codec::{Place, Sealed, b64},
    setup,
};
use crate::http;

pub const TASK: TaskId = TaskId([0x7A; 32]);
const START: u64 = 1_700_000_000_000;

pub fn key(number: u8) -> NodeKey {
    NodeKey::from_seed([number; 32])
}

pub fn admin() -> NodeKey {
    key(100)
}

/// A chain with all its states and everybody's keys.
pub struct World {
    pub genesis: Genesis,
    seeds: Vec<[u8; 32]>,
    blocks: Vec<Block>,
    pub states: Vec<State>,
}

impl World {
    /// Four validators, and one block with nothing in it.
    pub fn new() -> Self {
        let mut seeds: Vec<_> = (1..=4).map(|number| [number; 32]).collect();
        seeds.sort_by_key(|seed| NodeKey::from_seed(*seed).id());
        let validators = seeds.iter().map(|seed| FirstValidator {
            node: NodeKey::from_seed(*seed).id(),
            name: "validator".into(),
            address: "127.0.0.1:1".into(),
        });
        let genesis = Genesis {
            name: "test".into(),
            timestamp_ms: START,
            validators: validators.collect(),
            admins: vec![admin().id()],
            treasury: admin().id(),
            supply: setup::SUPPLY,
            params: Params::default(),
        };
        let mut world = Self {
            blocks: vec![Block::genesis(&genesis).unwrap()],
            states: vec![State::genesis(&genesis).unwrap()],
            genesis,
            seeds,
        };
        world.run(&[]);
        world
    }

    /// The same, with a task of two full nodes.
    pub fn with_task() -> Self {
        let mut world = Self::new();
        let nodes = [(10, Role::Full), (11, Role::Full), (12, Role::Aggregation)];
        let mut bodies: Vec<_> = nodes
            .iter()
            .map(|(number, role)| Body::EnrolNode {
                node: key(*number).id(),
                role: *role,
                name: format!("node {number}"),
                address: String::new(),
            })
            .collect();
        let mut members = vec![key(10).id(), key(11).id()];
        members.sort_unstable();
        bodies.push(Body::CreateTask(CreateTask {
            task: TASK,
            manifest: Digest([1; 32]),
            model: Digest([2; 32]),
            terms: TaskTerms {
                aggregation: key(12).id(),
                members,
                shares: 2,
                min_batch: 2,
                rounds: 10,
                max_weight: 1,
                admission: AdmissionRule::Open,
                budget_per_round: 100,
                split: setup::SPLIT,
                tolerance_ppm: 0,
                fairness_gap_ppm: 0,
            },
        }));
        world.sent(&admin(), bodies);
        world
    }

    pub fn state(&self) -> &State {
        self.states.last().unwrap()
    }

    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter()
    }

    pub fn height(&self) -> u64 {
        self.blocks.len() as u64 - 1
    }

    pub fn txs(&self, from: &NodeKey, bodies: Vec<Body>) -> Vec<SignedTx> {
        let first = self.state().account(&from.id()).nonce;
        let txs = (first..).zip(bodies).map(|(nonce, body)| {
            let tx = Tx {
                from: from.id(),
                nonce,
                chain: self.genesis.chain(),
                body,
            };
            tx.sign(from)
        });
        txs.collect()
    }

    /// One block with these.
    pub fn sent(&mut self, from: &NodeKey, bodies: Vec<Body>) {
        let txs = self.txs(from, bodies);
        self.run(&txs);
    }

    pub fn run(&mut self, txs: &[SignedTx]) {
        let parent = self.blocks.last().unwrap().header();
        let now = parent.timestamp_ms + 1000;
        let next = propose(self.state(), parent, txs, now, usize::MAX).unwrap();
        assert_eq!(next.refused, Vec::new());
        self.blocks.push(next.block);
        self.states.push(next.state);
    }

    /// A light node enrols itself.
    pub fn enrol(&mut self, light: u8) {
        let light = key(light);
        let body = Body::EnrolLight {
            task: TASK,
            key: light.id(),
            by: Admission::Open,
        };
        self.sent(&light, vec![body]);
    }

    /// The header at a height with a certificate of its own.
    pub fn sealed(&self, height: u64) -> Sealed {
        let header = self.blocks[height as usize].header();
        let mut certificate = Certificate {
            epoch: header.epoch,
            view: height,
            parent: height - 1,
            payload: header.digest(),
            signers: vec![true, true, true, false],
            signatures: Vec::new(),
        };
        let message = certificate.signed_bytes(&consensus_namespace(&self.genesis.chain()));
        let signers = self.seeds[..3].iter().map(SigningKey::from_bytes);
        certificate.signatures = signers.map(|key| key.sign(&message).to_bytes()).collect();
        Sealed {
            height,
            header: b64(&header.to_bytes()),
            certificate: b64(&certificate.to_bytes()),
            below: Vec::new(),
        }
    }
}

/// How a validator lies.
#[derive(Debug, Clone, Default)]
pub enum Lie {
    /// Not at all.
    #[default]
    None,
    /// It answers with what no quorum has signed.
    Forged,
    /// It shows a genuine block of some time ago, as if it were the newest.
    Frozen(u64),
    /// It takes transactions and does nothing with them.
    Drops,
    /// It refuses all transactions.
    Refuses,
    /// It answers with these light nodes.
    Lights(Vec<NodeId>),
    /// It never answers.
    Silent,
}

/// A validator that serves a world.
#[derive(Clone)]
pub struct Fake {
    world: Arc<Mutex<World>>,
    pub lie: Arc<Mutex<Lie>>,
    /// The transactions that it has taken.
    pub taken: Arc<Mutex<Vec<Vec<u8>>>>,
    /// What it was asked.
    pub asked: Arc<Mutex<Vec<String>>>,
}

impl Fake {
    fn lies(&self) -> Lie {
        self.lie.lock().unwrap().clone()
    }
}

/// Four validators of one world, the first of which lies; and a client of theirs.
pub async fn four(world: World, lie: Lie) -> (Arc<Mutex<World>>, Vec<Fake>, LedgerClient) {
    let genesis = world.genesis.clone();
    let world = Arc::new(Mutex::new(world));
    let (mut fakes, mut bases) = (Vec::new(), Vec::new());
    for at in 0..4 {
        let fake = Fake {
            world: world.clone(),
            lie: Arc::new(Mutex::new(if at == 0 { lie.clone() } else { Lie::None })),
            taken: Arc::default(),
            asked: Arc::default(),
        };
        bases.push(serve(fake.clone()).await);
        fakes.push(fake);
    }
    let client = LedgerClient::new(genesis, bases).unwrap();
    (world, fakes, client)
}

async fn serve(fake: Fake) -> String {
    let router = Router::new()
        .route("/ledger/state/{place}", get(state))
        .route("/ledger/lights/{task}", get(lights))
        .route("/ledger/head", get(head))
        .route("/ledger/chain", get(endless))
        .route("/secret", get(async || "beside the ledger"))
        .route("/ledger/txs", post(submit))
        .with_state(fake);
    let (listener, bound) = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    tokio::spawn(http::serve(listener, router, std::future::pending()));
    format!("http://{bound}")
}

async fn sealed(fake: &Fake, path: String) -> Sealed {
    fake.asked.lock().unwrap().push(path);
    let lie = fake.lies();
    if matches!(lie, Lie::Silent) {
        std::future::pending::<()>().await;
    }
    let world = fake.world.lock().unwrap();
    let newest = world.height();
    let mut sealed = match lie {
        Lie::Frozen(height) => world.sealed(height),
        _ => world.sealed(newest),
    };
    if matches!(lie, Lie::Forged) {
        sealed.header = world.sealed(newest - 1).header;
    }
    sealed
}

async fn state(Shared(fake): Shared<Fake>, Path(place): Path<String>) -> Response {
    let sealed = sealed(&fake, place.clone()).await;
    let world = fake.world.lock().unwrap();
    let place: Place = place.parse().unwrap();
    let (value, proof) = place.look(&world.states[sealed.height as usize]);
    let mut answer = serde_json::to_value(&sealed).unwrap();
    answer["proof"] = b64(&proof.to_bytes()).into();
    answer["value"] = value;
    Json(answer).into_response()
}

async fn head(Shared(fake): Shared<Fake>) -> Json<Sealed> {
    Json(sealed(&fake, "head".into()).await)
}

async fn lights(Shared(fake): Shared<Fake>) -> Json<Vec<NodeId>> {
    match fake.lies() {
        Lie::Lights(keys) => Json(keys),
        Lie::Silent => std::future::pending().await,
        _ => {
            let world = fake.world.lock().unwrap();
            let lights = world.state().lights(&TASK).into_iter();
            let active = lights.filter(|(_, light)| light.active);
            Json(active.map(|(key, _)| key).collect())
        }
    }
}

/// Zeros without an end from a liar; from others nothing.
async fn endless(Shared(fake): Shared<Fake>) -> Response {
    let zeros = || futures::stream::repeat_with(|| Ok::<_, std::io::Error>(vec![0_u8; 1 << 20]));
    match fake.lies() {
        Lie::Forged => axum::body::Body::from_stream(zeros()).into_response(),
        _ => Vec::<u8>::new().into_response(),
    }
}

async fn submit(Shared(fake): Shared<Fake>, body: Bytes) -> Response {
    let id = SignedTx::from_bytes(&body).unwrap().id();
    let answer = Json(serde_json::json!({ "id": id.to_string() }));
    match fake.lies() {
        Lie::Silent => std::future::pending().await,
        Lie::Refuses => {
            let why = serde_json::json!({ "code": "not-admin", "message": "not from you" });
            (StatusCode::BAD_REQUEST, Json(why)).into_response()
        }
        Lie::Drops => (StatusCode::ACCEPTED, answer).into_response(),
        _ => {
            fake.taken.lock().unwrap().push(body.to_vec());
            (StatusCode::ACCEPTED, answer).into_response()
        }
    }
}
