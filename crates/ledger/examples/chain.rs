//! Prints a small chain as validation nodes would serve it, and what no light node may believe of it.
//!
//! ```sh
//! cargo run --release -p defim-ledger --example chain > crates/ledger/vectors/chain.json
//! ```
//!
//! All seeds are fixed: the same code gives the same bytes. Its task is that of `pkg/test/fixture.json`. An epoch has four
//! blocks; the validators change after the first one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "it runs by hand, and stops at anything unexpected"
)]

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use defim_ledger::{
    AccountSlot, AdmissionRule, BatchSummary, Block, Body, Canonical, CreateTask, Digest,
    FirstValidator, Genesis, Header, ModelUpdated, NodeId, NodeKey, NodeSlot, Opened, Params,
    ReportId, Role, RoundOpened, RoundSlot, SignedText, SignedTx, Slot, Split, State, TaskId,
    TaskTerms, Tx, Verdict, Vote, committee_seats, consensus_namespace,
    light::{Certificate, Receipt},
    propose, report_path, signed_digest,
};
use ed25519_dalek::{Signer as _, SigningKey};
use serde_json::{Value, json};

const START_MS: u64 = 1_700_000_100_000;
const EPOCH_BLOCKS: u64 = 4;
const REPORTS: [ReportId; 5] = [
    ReportId([0x11; 16]),
    ReportId([0x22; 16]),
    ReportId([0x33; 16]),
    ReportId([0x44; 16]),
    ReportId([0x55; 16]),
];

fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

fn b64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Validators by seed, in the order of their keys.
fn set(seeds: [u8; 4]) -> Vec<u8> {
    let mut seeds = seeds.to_vec();
    seeds.sort_by_key(|seed| key(*seed).id());
    seeds
}

/// What validators sign; `by` are places in the set.
fn certify(chain: &Digest, set: &[u8], header: &Header, by: &[usize]) -> Certificate {
    let view = header.height % EPOCH_BLOCKS + 1;
    let certificate = Certificate {
        epoch: header.epoch,
        view,
        parent: view - 1,
        payload: header.digest(),
        signers: (0..set.len()).map(|place| by.contains(&place)).collect(),
        signatures: Vec::new(),
    };
    sign(chain, set, by, certificate)
}

fn sign(chain: &Digest, set: &[u8], by: &[usize], mut certificate: Certificate) -> Certificate {
    let message = certificate.signed_bytes(&consensus_namespace(chain));
    let signature = |place: &usize| SigningKey::from_bytes(&[set[*place]; 32]).sign(&message);
    certificate.signatures = by.iter().map(|place| signature(place).to_bytes()).collect();
    certificate
}

/// A block with the state after it.
struct Done {
    block: Block,
    state: State,
    certificate: Certificate,
}

struct World {
    genesis: Genesis,
    /// By height; the genesis block has no certificate and is left out.
    done: Vec<Done>,
    head: Header,
    state: State,
}

impl World {
    fn chain(&self) -> Digest {
        self.genesis.chain()
    }

    fn set_of(epoch: u64) -> Vec<u8> {
        match epoch {
            0 => set([51, 52, 53, 54]),
            // The first one was replaced by another.
            _ => set([55, 52, 53, 54]),
        }
    }

    fn run(&mut self, bodies: Vec<(&NodeKey, Body)>) {
        let mut sent: BTreeMap<NodeId, u64> = BTreeMap::new();
        let txs: Vec<SignedTx> = bodies
            .into_iter()
            .map(|(key, body)| {
                let more = sent.entry(key.id()).or_default();
                let nonce = self.state.account(&key.id()).nonce + *more;
                *more += 1;
                let (from, chain) = (key.id(), self.chain());
                Tx {
                    from,
                    nonce,
                    chain,
                    body,
                }
                .sign(key)
            })
            .collect();
        let now = self.head.timestamp_ms + 2_000;
        let proposal = propose(&self.state, &self.head, &txs, now, usize::MAX).unwrap();
        assert_eq!(proposal.refused, Vec::new());
        let header = proposal.block.header().clone();
        let set = Self::set_of(header.epoch);
        self.done.push(Done {
            certificate: certify(&self.chain(), &set, &header, &[0, 1, 3]),
            block: proposal.block,
            state: proposal.state.clone(),
        });
        (self.head, self.state) = (header, proposal.state);
    }

    fn at(&self, height: usize) -> &Done {
        &self.done[height - 1]
    }
}

impl Done {
    fn header(&self) -> &Header {
        self.block.header()
    }

    fn served(&self) -> Value {
        served(self.header(), &self.certificate)
    }

    fn state<S: Slot>(&self, name: String, slot: &S) -> Value {
        let mut view = self.served();
        view["slot"] = json!(name);
        view["height"] = json!(self.header().height);
        view["proof"] = json!(b64(&self.state.prove(slot).to_bytes()));
        view
    }

    /// The transaction at a place, as a round's opening is served.
    fn opening(&self, index: usize) -> Value {
        let mut view = self.served();
        view["height"] = json!(self.header().height);
        view["tx"] = json!(b64(&self.block.txs()[index].to_bytes()));
        view["proof"] = json!(b64(&self.block.prove(index).unwrap().to_bytes()));
        view
    }

    fn receipt(&self, receipt: &Receipt) -> Value {
        let mut view = self.served();
        view["receipt"] = json!(b64(&receipt.to_bytes()));
        view
    }
}

fn served(header: &Header, certificate: &Certificate) -> Value {
    json!({ "header": b64(&header.to_bytes()), "certificate": b64(&certificate.to_bytes()) })
}

fn with(mut base: Value, changes: Value) -> Value {
    for (key, value) in changes.as_object().unwrap() {
        base[key] = value.clone();
    }
    base
}

fn genesis(name: &str) -> Genesis {
    let named = |seed: &u8| FirstValidator {
        node: key(*seed).id(),
        name: format!("validation-{}", seed - 50),
        address: "127.0.0.1:1".into(),
    };
    Genesis {
        name: name.into(),
        timestamp_ms: START_MS,
        validators: set([51, 52, 53, 54]).iter().map(named).collect(),
        admins: vec![key(40).id()],
        treasury: key(40).id(),
        supply: 1_000_000,
        params: Params {
            epoch_blocks: EPOCH_BLOCKS,
            ..Params::default()
        },
    }
}

fn main() {
    let fixture: Value =
        serde_json::from_str(include_str!("../../../pkg/test/fixture.json")).unwrap();
    let task: TaskId = serde_json::from_value(fixture["task"].clone()).unwrap();
    let manifest: SignedText = serde_json::from_value(fixture["manifest"].clone()).unwrap();
    let statement: SignedText = serde_json::from_value(fixture["round"].clone()).unwrap();
    let base_model: Digest = serde_json::from_value(fixture["baseModel"].clone()).unwrap();
    let (admin, aggregation) = (key(40), key(41));
    let members = [key(42), key(43), key(44)];

    let genesis = genesis("canned");
    let first = Block::genesis(&genesis).unwrap();
    let mut world = World {
        head: first.header().clone(),
        state: State::genesis(&genesis).unwrap(),
        done: Vec::new(),
        genesis,
    };
    let enrol = |seed: u8, role, name: &str| Body::EnrolNode {
        node: key(seed).id(),
        role,
        name: name.into(),
        address: "127.0.0.1:2".into(),
    };
    // 1: who takes part.
    let mut bodies = vec![
        (&admin, enrol(41, Role::Aggregation, "aggregation")),
        (&admin, enrol(55, Role::Validation, "validation-5")),
    ];
    for seed in 42..45 {
        bodies.push((
            &admin,
            enrol(seed, Role::Full, &format!("full-{}", seed - 41)),
        ));
    }
    world.run(bodies);
    // 2: the task, and the validators from epoch 1 on.
    let terms = TaskTerms {
        aggregation: aggregation.id(),
        members: members.iter().map(NodeKey::id).collect(),
        shares: 2,
        min_batch: 3,
        rounds: 10,
        max_weight: 1,
        admission: AdmissionRule::Open,
        budget_per_round: 1000,
        split: Split {
            light: 5000,
            committee: 3000,
            aggregation: 1000,
            validators: 1000,
        },
        tolerance_ppm: 50_000,
        fairness_gap_ppm: 100_000,
    };
    let create = CreateTask {
        task,
        manifest: signed_digest(&manifest),
        model: base_model,
        terms,
    };
    let next = World::set_of(1)
        .iter()
        .map(|seed| key(*seed).id())
        .collect();
    world.run(vec![
        (&admin, Body::CreateTask(create)),
        (
            &admin,
            Body::FundTask {
                task,
                amount: 10_000,
            },
        ),
        (
            &admin,
            Body::SetValidators {
                set: next,
                from_epoch: 1,
            },
        ),
    ]);
    // 3: the last one of epoch 0.
    let pay = Body::Transfer {
        to: key(60).id(),
        amount: 250,
    };
    world.run(vec![(&admin, pay.clone())]);
    // 4 and 5: a transfer, and the round's opening.
    world.run(vec![(&admin, pay.clone())]);
    world.run(vec![
        (&admin, pay.clone()),
        (
            &aggregation,
            Body::RoundOpened {
                statement: statement.clone(),
            },
        ),
    ]);
    // 6: the round's batch, total and model.
    let summary = BatchSummary::new(
        task,
        1,
        defim_ledger::round_randomness(&statement),
        0,
        &REPORTS,
        BTreeMap::new(),
    )
    .unwrap();
    let seats = committee_seats(members.len(), 2, 0).unwrap();
    let statements = seats
        .iter()
        .map(|seat| summary.sign(&members[*seat]).unwrap());
    let mut ciphertexts: Vec<_> = seats
        .iter()
        .map(|seat| (members[*seat].id(), Digest([4; 32])))
        .collect();
    ciphertexts.sort_unstable();
    let opened = Opened {
        task,
        round: 1,
        selection: Digest([3; 32]),
        batches: vec![0],
        ciphertexts,
        sum: Digest([5; 32]),
        key: Digest([6; 32]),
        total: Digest([7; 32]),
    };
    let model = Digest::of(b"the model after round 1");
    let updated = ModelUpdated {
        task,
        round: 1,
        model,
        optimiser: Digest([8; 32]),
        record: Digest([9; 32]),
    };
    world.run(vec![
        (
            &aggregation,
            Body::BatchClosed {
                statements: statements.collect(),
            },
        ),
        (&aggregation, Body::Opened(opened)),
        (&aggregation, Body::ModelUpdated(updated)),
    ]);
    // 7: the votes, in the last block of epoch 1.
    let voters: Vec<_> = World::set_of(1).iter().map(|seed| key(*seed)).collect();
    let verdict = Verdict::Accept {
        loss_micro: 400_000,
        accuracy_ppm: 905_000,
    };
    let vote = Vote {
        task,
        round: 1,
        model,
        verdict,
    };
    world.run(
        voters
            .iter()
            .map(|key| (key, Body::Vote(vote.clone())))
            .collect(),
    );
    // 8: the next round. 9: a transfer.
    let second = RoundOpened {
        task,
        round: 2,
        base_model: model,
        opened_ms: START_MS,
        deadline_ms: 4_102_444_800_000,
        weights: BTreeMap::new(),
    };
    let second = second.sign(&aggregation).unwrap();
    world.run(vec![(
        &aggregation,
        Body::RoundOpened {
            statement: second.clone(),
        },
    )]);
    world.run(vec![(&admin, pay)]);

    println!(
        "{}",
        serde_json::to_string_pretty(&printed(&world, task, [statement, second])).unwrap()
    );
}

fn printed(world: &World, task: TaskId, [statement, second]: [SignedText; 2]) -> Value {
    let account = AccountSlot(key(60).id());
    let slot = format!("account.{}", key(60).id());
    let path = report_path(&REPORTS, &REPORTS[2]).unwrap();
    let receipt = |height: usize| Receipt::new(&world.at(height).state, task, 1, 0, path.clone());
    let round_slot = |round: u64| format!("round.{task}.{round}");
    json!({
        "about": "made by: cargo run --release -p defim-ledger --example chain > crates/ledger/vectors/chain.json",
        "chain": world.chain(),
        "genesis": b64(&world.genesis.to_bytes()),
        "other": {
            "chain": genesis("another").chain(),
            "genesis": b64(&genesis("another").to_bytes()),
        },
        "epochBlocks": EPOCH_BLOCKS,
        "validators": World::set_of(1).iter().map(|seed| key(*seed).id()).collect::<Vec<_>>(),
        "newcomer": { "node": key(55).id(), "name": "validation-5" },
        "task": task,
        "statements": [statement, second],
        // By height, from 1 on.
        "headers": world.done.iter().map(|done| with(done.served(), json!({
            "height": done.header().height,
            "epoch": done.header().epoch,
            "digest": done.header().digest(),
            "timestampMs": done.header().timestamp_ms,
        }))).collect::<Vec<_>>(),
        "openings": [world.at(5).opening(1), world.at(8).opening(0)],
        "states": {
            "account": with(world.at(9).state(slot.clone(), &account), json!({ "balance": 1000, "nonce": 0 })),
            "nobody": world.at(9).state(format!("account.{}", key(61).id()), &AccountSlot(key(61).id())),
            // The same one block earlier, for who follows block by block.
            "account8": world.at(8).state(slot.clone(), &account),
            "newcomer8": world.at(8).state(
                format!("node.{}", key(55).id()),
                &NodeSlot(key(55).id())
            ),
            "round1At8": world.at(8).state(round_slot(1), &RoundSlot(task, 1)),
            "round2At8": world.at(8).state(round_slot(2), &RoundSlot(task, 2)),
            "newcomerEarly": world.at(5).state(
                format!("node.{}", key(55).id()),
                &NodeSlot(key(55).id())
            ),
            "newcomer": world.at(9).state(format!("node.{}", key(55).id()), &NodeSlot(key(55).id())),
            // Still open; finished; the second one, open.
            "round1Open": world.at(5).state(round_slot(1), &RoundSlot(task, 1)),
            "round1Finished": world.at(9).state(round_slot(1), &RoundSlot(task, 1)),
            "round2": world.at(9).state(round_slot(2), &RoundSlot(task, 2)),
            "round3": world.at(9).state(round_slot(3), &RoundSlot(task, 3)),
        },
        "receipt": with(world.at(9).receipt(&receipt(9)), json!({
            "round": 1,
            "report": REPORTS[2],
            "height": 9,
            "accepted": REPORTS.len(),
            "reward": 100,
            "model": Digest::of(b"the model after round 1"),
        })),
        "bad": {
            "headers": bad_headers(world),
            "openings": [
                { "name": "another transaction of the same block", "code": "no-opening", "round": 1, "served": world.at(5).opening(0) },
                { "name": "the opening of the next round", "code": "other-opening", "round": 1, "served": world.at(8).opening(0) },
                { "name": "a transaction that is not in the block", "code": "bad-proof", "round": 1,
                  "served": with(world.at(8).opening(0), json!({ "tx": world.at(5).opening(1)["tx"] })) },
                { "name": "a block of an epoch that is over", "code": "past-epoch", "round": 1, "served": world.at(5).opening(1) },
                { "name": "a proof that is none", "code": "malformed", "round": 2,
                  "served": with(world.at(8).opening(0), json!({ "proof": "AA" })) },
            ],
            "rounds": [
                { "name": "a round that is finished", "code": "round-closed", "round": 1, "served": world.at(9).state(round_slot(1), &RoundSlot(task, 1)) },
                { "name": "a round that never opened", "code": "no-such-round", "round": 3, "served": world.at(9).state(round_slot(3), &RoundSlot(task, 3)) },
                { "name": "the state of another block", "code": "bad-proof", "round": 2,
                  "served": with(world.at(9).state(round_slot(2), &RoundSlot(task, 2)), world.at(8).served()) },
                { "name": "the state of another round", "code": "bad-proof", "round": 1, "served": world.at(9).state(round_slot(2), &RoundSlot(task, 2)) },
            ],
            "receipts": [
                { "name": "somebody else's report", "code": "not-in-batch", "round": 1, "report": REPORTS[1], "served": world.at(9).receipt(&receipt(9)) },
                { "name": "a receipt of another round", "code": "other-receipt", "round": 2, "report": REPORTS[2], "served": world.at(9).receipt(&receipt(9)) },
                { "name": "a round that is not finished", "code": "not-finished", "round": 2, "report": REPORTS[2],
                  "served": world.at(9).receipt(&Receipt { round: 2, record: world.at(9).state.prove(&RoundSlot(task, 2)), ..receipt(9) }) },
                { "name": "a record of another state", "code": "bad-proof", "round": 1, "report": REPORTS[2], "served": world.at(9).receipt(&receipt(6)) },
            ],
        },
    })
}

/// What is wrong with a header or its certificate. `after` is the height of the head that the light node has seen.
fn bad_headers(world: &World) -> Value {
    let (chain, epoch1) = (world.chain(), World::set_of(1));
    let (header, good) = (world.at(6).header(), &world.at(6).certificate);
    let bad = |name: &str, code: &str, after: u64, served: Value| json!({ "name": name, "code": code, "after": after, "served": served });
    let changed = |change: &dyn Fn(&mut Header)| {
        let mut header = header.clone();
        change(&mut header);
        header
    };
    let signed = |certificate: Certificate| {
        served(
            header,
            &sign(
                &chain,
                &epoch1,
                &[0, 1, 2],
                Certificate {
                    signers: vec![true, true, true, false],
                    ..certificate
                },
            ),
        )
    };
    let mut twice = good.clone();
    twice.signatures[1] = twice.signatures[0];
    let mut count = good.clone();
    count.signatures.pop();
    let mut more = good.clone();
    more.signers.push(false);
    let (forked, richer, ends) = (
        changed(&|header| header.timestamp_ms += 1),
        changed(&|header| header.state_root = Digest([0xEE; 32])),
        changed(&|header| header.next_validators = world.at(7).header().next_validators.clone()),
    );
    let mut cut = good.to_bytes();
    cut.pop();
    json!([
        bad(
            "two of four have signed",
            "missing-signer",
            5,
            served(header, &certify(&chain, &epoch1, header, &[0, 2]))
        ),
        bad(
            "a certificate of five validators",
            "wrong-set",
            5,
            served(header, &more)
        ),
        bad(
            "a signer without a signature",
            "signature-count",
            5,
            served(header, &count)
        ),
        bad(
            "one signature for two signers",
            "duplicate-signature",
            5,
            served(header, &twice)
        ),
        bad(
            "a certificate of another block",
            "altered-payload",
            5,
            served(header, &world.at(5).certificate)
        ),
        bad(
            "a header that was altered",
            "altered-payload",
            5,
            served(&richer, good)
        ),
        bad(
            "a view that does not follow its parent",
            "wrong-round",
            5,
            signed(Certificate {
                view: 3,
                parent: 3,
                ..good.clone()
            })
        ),
        bad(
            "a view before that of an earlier block",
            "wrong-round",
            5,
            signed(Certificate {
                view: 1,
                parent: 0,
                ..good.clone()
            })
        ),
        bad(
            "signed by the epoch before",
            "old-set",
            5,
            served(
                header,
                &sign(
                    &chain,
                    &World::set_of(0),
                    &[0, 1, 2],
                    Certificate {
                        epoch: 0,
                        signers: vec![true, true, true, false],
                        ..good.clone()
                    }
                )
            )
        ),
        bad(
            "signed by a validator that was replaced",
            "broken-signature",
            5,
            served(
                header,
                &certify(&chain, &World::set_of(0), header, &[0, 1, 2])
            )
        ),
        bad(
            "signed for another chain",
            "broken-signature",
            5,
            served(
                header,
                &certify(&genesis("another").chain(), &epoch1, header, &[0, 1, 2])
            )
        ),
        bad(
            "two different blocks at one height",
            "fork",
            6,
            served(&forked, &certify(&chain, &epoch1, &forked, &[0, 1, 2]))
        ),
        bad(
            "validators are handed over amid an epoch",
            "bad-header",
            5,
            served(&ends, &certify(&chain, &epoch1, &ends, &[0, 1, 2]))
        ),
        bad(
            "a header whose epoch is not handed over yet",
            "later-epoch",
            5,
            world.at(8).served()
        ),
        bad(
            "a header of an epoch that is over",
            "past-epoch",
            8,
            world.at(6).served()
        ),
        bad(
            "bytes that end too early",
            "malformed",
            5,
            json!({ "header": b64(&header.to_bytes()), "certificate": b64(&cut) })
        ),
    ])
}
