//! A full node's driver, asked by an aggregation node and by other full nodes that keep to no rule.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use defim_full::{
    Secrets,
    leader::{Counts, Input, Leader, Output},
};
use defim_learn::{Model, builtin, quantise_vector};
use defim_light::{JoinedTask, Training};
use defim_net::native::{Endpoint, EndpointConfig};
use defim_protocol::{
    CommitteeIndex, Digest, Manifest, Member, NodeId, NodeKey, Privacy, Reason, ReportId,
    RoundNumber, RoundOpened, Schedule, SignedText, VerifiedManifest, VerifiedRound,
    batch::BatchSummary,
    sum::Selection,
    vdaf::{Scheme, VdafSpec},
    wire::{
        self, PrepareAnswer, PrepareInit, PrepareRequest, Request, Response, SelectedBatches,
        Submission,
    },
};
use defim_store::ClosedBatch;
use serde_json::value::RawValue;

use super::{
    Link,
    full::{FullNode, key},
};
use crate::{
    clock,
    config::{Directory, Peer, Role},
};

const BASE: &str = "breast-cancer";

/// The first of three full nodes, with a task and its first round.
struct Scene {
    node: FullNode,
    folder: tempfile::TempDir,
    aggregation: NodeKey,
    task: VerifiedManifest,
    model: Vec<u8>,
    round: VerifiedRound,
}

fn secrets(node: u8) -> Secrets {
    Secrets::from_seed([node; 32])
}

async fn start(folder: &tempfile::TempDir) -> FullNode {
    let peer = |name: String, role, node| Peer {
        name,
        role,
        node,
        hpke: None,
        http: String::new(),
        addresses: Vec::new(),
    };
    let aggregation = NodeKey::from_seed([9; 32]).id();
    let mut peers = Directory::new();
    peers.insert(
        aggregation,
        peer("agg".into(), Role::Aggregation, aggregation),
    );
    for n in 2..=3 {
        let node = secrets(n).node.id();
        peers.insert(node, peer(format!("full-{n}"), Role::Full, node));
    }
    let endpoint = Endpoint::start(EndpointConfig {
        identity_seed: [1; 32],
        ..EndpointConfig::default()
    });
    let link = Link::new(endpoint.await.unwrap(), peers);
    FullNode::start("full-1".into(), folder.path(), secrets(1), link, None)
        .await
        .unwrap()
}

impl Scene {
    /// `rounds` are those of a task with noise; none: it adds none.
    async fn new(rounds: Option<u64>) -> Self {
        let aggregation = NodeKey::from_seed([9; 32]);
        let spec = builtin(BASE, None).unwrap().spec;
        let vdaf = VdafSpec {
            scheme: Scheme::Pine64,
            dimension: spec.dimension(),
            frac_bits: spec.frac_bits,
            shares: 2,
            votes: 0,
        };
        let members = (1..=3).map(|n| {
            let secrets = secrets(n);
            Member {
                node: secrets.node.id(),
                name: format!("full-{n}"),
                hpke: secrets.sealing.config(),
            }
        });
        let manifest = Manifest {
            name: BASE.into(),
            title: "A task".into(),
            summary: String::new(),
            aggregation: aggregation.id(),
            members: members.collect(),
            privacy: rounds.map(|rounds| Privacy::new(&vdaf, 1, 8.0, 1e-6, rounds).unwrap()),
            vdaf,
            schedule: Schedule {
                min_batch: 2,
                max_batch: 50,
                settle_ms: 60_000,
                round_ms: 600_000,
                rounds: rounds.unwrap_or(9),
            },
            max_weight: 1,
            admission: None,
            ledger: defim_protocol::LedgerTerms::default(),
            created_ms: 0,
            learning: RawValue::from_string(serde_json::to_string(&spec).unwrap()).unwrap(),
        };
        let task = VerifiedManifest::verify(manifest.sign(&aggregation).unwrap(), None).unwrap();
        let (inputs, outputs) = (spec.schema.inputs(), spec.schema.outputs());
        let model = Model::init(&spec.model, inputs, outputs, spec.init_seed).to_safetensors();
        let folder = tempfile::tempdir().unwrap();
        let node = start(&folder).await;
        let served = Request::ServeTask(task.signed().clone());
        assert_eq!(node.answer(aggregation.id(), served).await, Response::Done);
        let round = opening(&task, &aggregation, &model, 1);
        let this = Self {
            node,
            folder,
            aggregation,
            task,
            model,
            round,
        };
        assert_eq!(this.open(&this.round).await, Response::Done);
        this
    }

    async fn ask(&self, request: Request) -> Response {
        self.node.answer(self.aggregation.id(), request).await
    }

    async fn open_round(&self, number: RoundNumber) -> Response {
        self.open(&opening(&self.task, &self.aggregation, &self.model, number))
            .await
    }

    /// This very opening: another one of the round has other times, and so other committees.
    async fn open(&self, round: &VerifiedRound) -> Response {
        self.ask(Request::OpenRound {
            task: self.task.task(),
            round: round.signed().clone(),
        })
        .await
    }

    /// The process ends and another one takes the node up.
    async fn restart(&mut self) {
        self.node = start(&self.folder).await;
    }

    /// Batches of these committees, agreed by their members and stored with this node's shares, and a selection of them.
    async fn selected(
        &self,
        round: RoundNumber,
        attempt: u32,
        committees: &[CommitteeIndex],
    ) -> SelectedBatches {
        let task = self.task.task();
        let (mut batches, mut all) = (BTreeMap::new(), Vec::new());
        for index in committees {
            let ids: Vec<_> = (0..2)
                .map(|n| ReportId([16 * *index as u8 + n; 16]))
                .collect();
            let summary = BatchSummary::new(
                task,
                round,
                Digest::of(b"opening"),
                *index,
                &ids,
                BTreeMap::new(),
            )
            .unwrap();
            let committee = self.task.committee(*index).unwrap();
            let sign = |member: &&Member| summary.sign(&key_of(&member.node)).unwrap();
            let signatures: Vec<_> = committee.members().iter().map(sign).collect();
            let text = signatures[0].payload.clone().into_bytes();
            batches.insert(*index, Digest::of(&text));
            let (store, key) = (self.node.store(), key(task, round, *index));
            let ours = committee.seat_of(&secrets(1).node.id()).is_some();
            if ours && store.batch(key).await.unwrap().is_none() {
                let batch = ClosedBatch {
                    summary: text,
                    signatures: wire::encode(&signatures).unwrap(),
                    aggregate_share: vec![0; 8 * self.task.vdaf.dimension],
                    report_ids: Vec::new(),
                };
                store.close_batch(key, batch).await.unwrap();
            }
            all.push(signatures);
        }
        let selection = Selection {
            task,
            round,
            attempt,
            batches,
        };
        SelectedBatches {
            task,
            round,
            selection: selection.sign(&self.aggregation).unwrap(),
            signatures: all,
        }
    }

    async fn encrypt(&self, selected: &SelectedBatches) -> Result<Submission, String> {
        match self.ask(Request::Encrypt(selected.clone())).await {
            Response::Encrypted(submission) => Ok(*submission),
            Response::Refused(why) => Err(why),
            other => panic!("{other:?}"),
        }
    }

    /// The committees of this node.
    fn own(&self) -> Vec<CommitteeIndex> {
        let own = secrets(1).node.id();
        let all = self.task.committees();
        all.filter(|c| c.seat_of(&own).is_some())
            .map(|c| c.index())
            .collect()
    }

    /// The committee that this full node leads with the node under test as its helper.
    fn led_by(&self, leader: u8) -> CommitteeIndex {
        let (leader, own) = (secrets(leader).node.id(), secrets(1).node.id());
        let mut all = self.task.committees();
        let led = all.find(|c| c.leader().node == leader && c.seat_of(&own).is_some());
        led.unwrap().index()
    }

    /// What an honest leader asks about an honest report of its committee.
    fn question(&self, leader: u8) -> PrepareRequest {
        let committee = self.task.committee(self.led_by(leader)).unwrap();
        let task = JoinedTask::join(self.task.signed().clone(), None).unwrap();
        let round = task.open_round(self.round.signed().clone(), clock::now());
        let round = round.unwrap().without_ledger();
        let training = Training::start(&task, &round, &self.model).unwrap();
        let spec = task.spec();
        let update = vec![0.0; spec.dimension()];
        let update = quantise_vector(&update, spec.clip_norm, spec.frac_bits).unwrap();
        let id = (0_u128..)
            .map(|n| ReportId(n.to_be_bytes()))
            .find(|id| task.committee_of(&round, id).index() == committee.index())
            .unwrap();
        let split = training.split(&update, id, clock::now_s()).unwrap();
        let report = split.seal(&mut rand::rng()).unwrap();
        let leader = Arc::new(secrets(leader));
        let mut machine = Leader::new(committee, self.round.clone(), leader).unwrap();
        let counts = Counts {
            pending: 1,
            ..Counts::default()
        };
        let mut inputs = vec![
            Input::Pending(vec![(id, report.bytes)]),
            Input::State {
                counts,
                proposal: None,
            },
            Input::Tick,
        ];
        while let Some(input) = inputs.pop() {
            machine.handle(clock::now(), input);
            while let Some(output) = machine.poll() {
                if let Output::Ask(mut questions) = output
                    && let Some(Request::Prepare(request)) = questions.pop()
                {
                    return request;
                }
            }
        }
        panic!("the leader asks nothing")
    }

    async fn prepare(&self, leader: u8, request: PrepareRequest) -> Response {
        let from = secrets(leader).node.id();
        self.node.answer(from, Request::Prepare(request)).await
    }
}

fn key_of(node: &NodeId) -> NodeKey {
    let mut keys = (1..=3).map(|n| secrets(n).node);
    keys.find(|key| key.id() == *node).unwrap()
}

fn opening(
    task: &VerifiedManifest,
    key: &NodeKey,
    model: &[u8],
    round: RoundNumber,
) -> VerifiedRound {
    let opened = RoundOpened {
        task: task.task(),
        round,
        base_model: Digest::of(model),
        opened_ms: clock::now(),
        deadline_ms: clock::now() + 600_000,
        weights: BTreeMap::new(),
    };
    let signed: SignedText = opened.sign(key).unwrap();
    VerifiedRound::verify(signed, task).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_waited_is_not_answered_for_a_round_that_has_ended_since() {
    let scene = Arc::new(Scene::new(None).await);
    let own = scene.own();
    let first = scene.selected(1, 1, &own).await;
    let second = scene.selected(1, 2, &own[1..]).await;
    scene.encrypt(&first).await.unwrap();
    scene.encrypt(&second).await.unwrap();
    // The node stands for the second one. The first is asked for again, and waits while the next round begins.
    let served = scene.node.served(&scene.task.task()).unwrap();
    let busy = served.opening.lock().await;
    let (asking, round) = (scene.clone(), scene.clone());
    let asked = tokio::spawn(async move { asking.encrypt(&first).await });
    tokio::time::sleep(Duration::from_millis(200)).await;
    let opened = tokio::spawn(async move { round.open_round(2).await });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!opened.is_finished(), "the round begins in between");
    drop(busy);
    let why = asked.await.unwrap().unwrap_err();
    assert!(why.contains("has encrypted attempt 2"), "{why}");
    assert_eq!(opened.await.unwrap(), Response::Done);
    // What it stood for is known as long as the node is.
    let kept = scene.node.store().encrypted(scene.task.task().0, 1).await;
    assert!(kept.unwrap().is_some());
    let why = scene.encrypt(&second).await.unwrap_err();
    assert!(why.contains("round 1 is over"), "{why}");
}

fn verified(response: &Response) -> bool {
    matches!(response, Response::Prepared(answers) if matches!(answers[..], [PrepareAnswer::Verified(_)]))
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_uses_up_the_id_of_a_report_that_does_not_open() {
    let scene = Scene::new(None).await;
    let honest = scene.question(3);
    let id = honest.reports[0].id;
    let rejected = |reason| Response::Prepared(vec![PrepareAnswer::Rejected(reason)]);
    let garbage = |committee, verify_key| PrepareRequest {
        committee,
        verify_key,
        reports: vec![PrepareInit {
            id,
            time_s: 1,
            public_share: vec![1],
            sealed: vec![2],
            message: vec![3],
        }],
        ..honest.clone()
    };
    // The leader of another committee asks about it first.
    let stranger = garbage(scene.led_by(2), [7; 32]);
    let answer = scene.prepare(2, stranger).await;
    assert_eq!(answer, rejected(Reason::WrongCommittee));
    let broken = garbage(honest.committee, honest.verify_key);
    let answer = scene.prepare(3, broken).await;
    assert_eq!(answer, rejected(Reason::Malformed));
    let store = scene.node.store();
    let task = scene.task.task().0;
    assert_eq!(store.report_status(task, id.0).await.unwrap(), None);
    // The report itself is checked; then its id is used up.
    let answer = scene.prepare(3, honest.clone()).await;
    assert!(verified(&answer), "{answer:?}");
    assert_eq!(scene.prepare(3, honest.clone()).await, answer);
    let broken = garbage(honest.committee, honest.verify_key);
    assert_eq!(scene.prepare(3, broken).await, rejected(Reason::Replayed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_has_a_report_twice_is_refused() {
    let scene = Scene::new(None).await;
    let mut request = scene.question(2);
    request.reports.push(request.reports[0].clone());
    let answer = scene.prepare(2, request.clone()).await;
    assert!(
        matches!(&answer, Response::Refused(why) if why.contains("twice")),
        "{answer:?}"
    );
    request.reports.pop();
    assert!(verified(&scene.prepare(2, request).await));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_selection_is_the_same_ciphertext_whoever_asks_how_often() {
    let mut scene = Scene::new(Some(4)).await;
    let own = scene.own();
    let selected = scene.selected(1, 1, &own).await;
    let first = scene.encrypt(&selected).await.unwrap();
    // Noise that is drawn anew each time is gone in the mean of many.
    assert!(scene.encrypt(&selected).await.unwrap() == first);
    scene.restart().await;
    assert!(scene.encrypt(&selected).await.unwrap() == first);
    let other = scene.selected(1, 2, &own[1..]).await;
    assert!(scene.encrypt(&other).await.unwrap() != first);
    // The bytes go with the round.
    let task = scene.task.task().0;
    let last = async |scene: &Scene| scene.node.store().encrypted(task, 1).await.unwrap();
    assert!(last(&scene).await.unwrap().submission.is_some());
    assert_eq!(scene.open_round(2).await, Response::Done);
    assert_eq!(last(&scene).await.unwrap().submission, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_encrypted_is_spent_whether_this_node_helps_to_open_it_or_not() {
    let mut scene = Scene::new(Some(3)).await;
    let own = scene.own();
    // Two selections of the first round and one of the second; this node is asked to open none of them.
    let first = scene.selected(1, 1, &own).await;
    scene.encrypt(&first).await.unwrap();
    scene.encrypt(&first).await.unwrap();
    let second = scene.selected(1, 2, &own[1..]).await;
    scene.encrypt(&second).await.unwrap();
    assert_eq!(scene.open_round(2).await, Response::Done);
    let third = scene.selected(2, 1, &own).await;
    scene.encrypt(&third).await.unwrap();
    scene.restart().await;
    let fourth = scene.selected(2, 2, &own[1..]).await;
    let why = scene.encrypt(&fourth).await.unwrap_err();
    assert!(why.contains("privacy budget is spent"), "{why}");
    assert_eq!(scene.open_round(3).await, Response::Done);
    let fifth = scene.selected(3, 1, &own).await;
    let why = scene.encrypt(&fifth).await.unwrap_err();
    assert!(why.contains("privacy budget is spent"), "{why}");

    // A round that ends before that has cost nothing, and a task without noise promises nothing.
    let scene = Scene::new(Some(1)).await;
    scene.selected(1, 1, &own).await;
    assert_eq!(scene.open_round(2).await, Response::Done);
    let selected = scene.selected(2, 1, &own).await;
    scene.encrypt(&selected).await.unwrap();
    let scene = Scene::new(None).await;
    for attempt in 1..20 {
        let selected = scene.selected(1, attempt, &own).await;
        scene.encrypt(&selected).await.unwrap();
    }
}
