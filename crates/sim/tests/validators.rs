//! A whole round on the ledger: validators repeat it from public bytes, an honest one is finished and paid, and every lie of
//! the aggregation node is seen by each of them, voids the round, and costs the liar.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{World, still};
use defim_aggregation::{
    coordinator::Completed,
    repeat::{Artefacts, repeat},
};
use defim_learn::Features;
use defim_ledger::{
    AdmissionRule, Block, Body, CreateTask, Digest, Fault, FirstValidator, Genesis, NodeId,
    NodeKey, NodeSlot, NodeStatus, Opened, Params, Role, RoundSlot, SignedTx, Split, Stage, State,
    Task, TaskId, TaskTerms, Tx, Verdict, Void, Vote, propose, signed_digest, verify,
};
use defim_protocol::{
    SignedText,
    record::{RoundRecord, VerifiedRecord},
    vdaf::Scheme,
};
use defim_sim::{Attack, AttackKind, Party, RoundResult, contribute};
use defim_validation::judge::{Fetched, Judged, judge};

const BUDGET: u64 = 10_000;

/// A ledger whose blocks are made and checked by hand.
struct Chain {
    validators: Vec<NodeKey>,
    genesis: Genesis,
    state: State,
    last: Block,
}

impl Chain {
    fn new() -> Self {
        let admin = NodeKey::from_seed([90; 32]);
        let mut validators: Vec<_> = (91..95).map(|n| NodeKey::from_seed([n; 32])).collect();
        validators.sort_by_key(NodeKey::id);
        let genesis = Genesis {
            name: "a test".into(),
            timestamp_ms: 1,
            validators: validators
                .iter()
                .map(|key| FirstValidator {
                    node: key.id(),
                    name: "validator".into(),
                    address: String::new(),
                })
                .collect(),
            admins: vec![admin.id()],
            treasury: admin.id(),
            supply: 1_000_000,
            params: Params::default(),
        };
        Self {
            state: State::genesis(&genesis).unwrap(),
            last: Block::genesis(&genesis).unwrap(),
            validators,
            genesis,
        }
    }

    /// One block with these transactions, which must all be taken.
    fn put(&mut self, key: &NodeKey, bodies: Vec<Body>) {
        let first = self.state.account(&key.id()).nonce;
        let txs: Vec<_> = (first..)
            .zip(bodies)
            .map(|(nonce, body)| self.tx(key, nonce, body))
            .collect();
        self.put_all(&txs);
    }

    fn tx(&self, key: &NodeKey, nonce: u64, body: Body) -> SignedTx {
        let chain = self.genesis.chain();
        Tx {
            from: key.id(),
            nonce,
            chain,
            body,
        }
        .sign(key)
    }

    fn put_all(&mut self, txs: &[SignedTx]) {
        let now = self.last.header().timestamp_ms + 2_000_000;
        let proposal = propose(&self.state, self.last.header(), txs, now, 1 << 20).unwrap();
        assert_eq!(proposal.refused, [], "taken");
        self.state = verify(&self.state, self.last.header(), &proposal.block).unwrap();
        self.last = proposal.block;
        assert_eq!(self.state.supply().total(), 1_000_000);
    }

    fn balance(&self, node: &NodeId) -> u64 {
        self.state.account(node).balance
    }
}

struct Played {
    world: World,
    chain: Chain,
    done: Box<Completed>,
    model_before: Vec<u8>,
    holdout: Features,
}

fn terms(world: &World) -> TaskTerms {
    let manifest = world.mesh.manifest();
    TaskTerms {
        aggregation: manifest.aggregation,
        members: manifest.members.iter().map(|m| m.node).collect(),
        shares: manifest.vdaf.shares,
        min_batch: manifest.schedule.min_batch,
        rounds: manifest.schedule.rounds,
        max_weight: 1,
        admission: AdmissionRule::Open,
        budget_per_round: BUDGET,
        split: Split {
            light: 5_000,
            committee: 2_500,
            aggregation: 1_000,
            validators: 1_500,
        },
        tolerance_ppm: 250_000,
        fairness_gap_ppm: 1_000_000,
    }
}

/// Up to the end of round 1, of which the ledger knows nothing but its opening.
fn played(attack: Option<Attack>) -> Played {
    let mut world = World::of(3, Scheme::Pine64, 2);
    let mut chain = Chain::new();
    let manifest = world.mesh.manifest().clone();
    let (model, bytes) = world.mesh.coordinator().model();
    let model_before = bytes.to_vec();
    let (admin, aggregation) = (
        NodeKey::from_seed([90; 32]),
        world.mesh.aggregation_key().id(),
    );
    let enrol = |node, role, name: &str| Body::EnrolNode {
        node,
        role,
        name: name.into(),
        address: String::new(),
    };
    let mut bodies = vec![enrol(aggregation, Role::Aggregation, "aggregation")];
    bodies.extend(
        manifest
            .members
            .iter()
            .map(|m| enrol(m.node, Role::Full, &m.name)),
    );
    bodies.push(Body::CreateTask(CreateTask {
        task: manifest.task(),
        manifest: signed_digest(manifest.signed()),
        model,
        terms: terms(&world),
    }));
    bodies.push(Body::FundTask {
        task: manifest.task(),
        amount: 5 * BUDGET,
    });
    // Something to lose.
    bodies.push(Body::Transfer {
        to: aggregation,
        amount: 1_000,
    });
    chain.put(&admin, bodies);
    let statement = world.round.signed().clone();
    chain.put(
        world.mesh.aggregation_key(),
        vec![Body::RoundOpened { statement }],
    );

    for party in 0..6 {
        let now = world.mesh.now();
        let open = world
            .task
            .open_round(world.round.signed().clone(), now)
            .unwrap()
            .without_ledger();
        let party = Party {
            rows: &world.rows[party],
            seed: 7,
            silo: None,
            key: None,
            attack,
        };
        let (_, model) = world.mesh.coordinator().model();
        let report = contribute(&world.task, &open, model, party, now, &still)
            .unwrap()
            .0;
        world.mesh.upload(report.bytes).unwrap();
    }
    let holdout = world.rows[11].clone();
    let RoundResult::Completed(done) = world.finish() else {
        panic!("the round is finished");
    };
    Played {
        world,
        chain,
        done,
        model_before,
        holdout,
    }
}

impl Played {
    fn task(&self) -> Task {
        self.chain.state.task(&self.id()).unwrap()
    }

    fn id(&self) -> TaskId {
        self.world.mesh.manifest().task()
    }

    fn record(&self) -> RoundRecord {
        serde_json::from_str(&self.done.record.payload).unwrap()
    }

    fn stage(&self) -> Stage {
        self.chain
            .state
            .get(&RoundSlot(self.id(), 1))
            .unwrap()
            .stage
    }

    /// Put the round on the ledger as an aggregation node does that signs this record and says this of the total.
    fn proposed(&mut self, signed: &SignedText, say: impl FnOnce(&mut Opened)) {
        let honest =
            VerifiedRecord::verify(self.done.record.clone(), self.world.mesh.manifest(), 1)
                .unwrap();
        let lie: RoundRecord = serde_json::from_str(&signed.payload).unwrap();
        let fetched = self.fetched(self.done.record.clone());
        let repeated = repeat(
            self.world.mesh.manifest(),
            &honest,
            Artefacts {
                ciphertexts: &fetched.ciphertexts,
                key: &fetched.key,
                model: &fetched.model,
                optimiser: &fetched.optimiser,
            },
        )
        .unwrap();
        let mut opened = Opened {
            task: self.id(),
            round: 1,
            selection: honest.selection().digest(),
            batches: honest.selection().batches().keys().copied().collect(),
            ciphertexts: honest.ciphertexts().to_vec(),
            sum: lie.sum,
            key: lie.key,
            total: repeated.total.digest(),
        };
        say(&mut opened);
        let mut bodies: Vec<_> = honest
            .selection()
            .signatures()
            .into_iter()
            .map(|statements| Body::BatchClosed { statements })
            .collect();
        bodies.push(Body::Opened(opened));
        bodies.push(Body::ModelUpdated(defim_ledger::ModelUpdated {
            task: self.id(),
            round: 1,
            model: lie.after.model,
            optimiser: lie.after.optimiser,
            record: Digest::of(signed.payload.as_bytes()),
        }));
        self.chain.put(self.world.mesh.aggregation_key(), bodies);
    }

    fn fetched(&self, record: SignedText) -> Fetched {
        Fetched {
            manifest: self.world.mesh.signed().clone(),
            record,
            ciphertexts: self
                .done
                .ciphertexts
                .iter()
                .map(|(_, c)| c.clone())
                .collect(),
            key: self.done.key.clone(),
            model: self.model_before.clone(),
            optimiser: self.done.optimiser_before.clone(),
        }
    }

    fn judge(&self, fetched: &Fetched) -> Judged {
        let Stage::Proposed(opened, update) = self.stage() else {
            panic!("a model is proposed");
        };
        judge(&self.task(), &opened, &update, fetched, Some(&self.holdout)).unwrap()
    }

    /// All four validators judge and vote.
    fn vote(&mut self, fetched: &Fetched) -> Verdict {
        let Stage::Proposed(_, update) = self.stage() else {
            panic!("a model is proposed");
        };
        let found = self.judge(fetched);
        let vote = Vote {
            task: self.id(),
            round: 1,
            model: update.model,
            verdict: found.verdict,
        };
        let votes: Vec<_> = self
            .chain
            .validators
            .iter()
            .map(|key| self.chain.tx(key, 0, Body::Vote(vote.clone())))
            .collect();
        self.chain.put_all(&votes);
        found.verdict
    }

    fn signed(&self, change: impl FnOnce(&mut RoundRecord)) -> SignedText {
        let mut record = self.record();
        change(&mut record);
        record.sign(self.world.mesh.aggregation_key()).unwrap()
    }
}

#[test]
fn an_honest_round_is_finished_and_everybody_is_paid() {
    let mut played = played(None);
    let record = played.done.record.clone();
    played.proposed(&record, |_| {});
    let fetched = played.fetched(record);
    let verdict = played.vote(&fetched);
    assert!(matches!(verdict, Verdict::Accept { .. }), "{verdict:?}");
    let Stage::Finished {
        model,
        per_report,
        unclaimed,
        ..
    } = played.stage()
    else {
        panic!("finished: {:?}", played.stage());
    };
    assert_eq!(model, played.record().after.model);
    assert_eq!(played.task().model, model);
    assert_eq!((per_report, unclaimed), (833, 833 * 6));
    let members: u64 = played
        .world
        .mesh
        .manifest()
        .members
        .iter()
        .map(|m| played.chain.balance(&m.node))
        .sum();
    let validators: u64 = played
        .chain
        .validators
        .iter()
        .map(|v| played.chain.balance(&v.id()))
        .sum();
    assert!(
        members > 2_400 && validators > 1_400,
        "{members} and {validators}"
    );
    let aggregation = played
        .chain
        .balance(&played.world.mesh.aggregation_key().id());
    assert_eq!(aggregation, 1_000 + 1_000);
}

#[test]
fn every_lie_is_seen_voids_the_round_and_costs_the_liar() {
    let wrong = Digest([7; 32]);
    type Change = Box<dyn Fn(&mut RoundRecord)>;
    let lies: Vec<(Fault, Change)> = vec![
        (
            Fault::OtherModel,
            Box::new(move |record| record.after.model = wrong),
        ),
        (
            Fault::DroppedCiphertext,
            Box::new(move |record| record.sum = wrong),
        ),
        // The record of a round that was before.
        (Fault::OtherModel, Box::new(|record| record.round = 2)),
    ];
    for (expected, lie) in lies {
        let mut played = played(None);
        let signed = played.signed(lie);
        played.proposed(&signed, |_| {});
        caught(&mut played, signed, expected);
    }
    // An honest record, and another total on the ledger.
    let mut played = played(None);
    let record = played.done.record.clone();
    played.proposed(&record, |opened| opened.total = Digest([7; 32]));
    caught(&mut played, record, Fault::ChangedTotal);
}

fn caught(played: &mut Played, signed: SignedText, expected: Fault) {
    let liar = played.world.mesh.aggregation_key().id();
    let before = played.task().model;
    let fetched = played.fetched(signed);
    let found = played.judge(&fetched);
    if let Some(evidence) = &found.evidence {
        // Whoever has the evidence checks it alone.
        let bytes = evidence.to_bytes();
        let read = defim_validation::evidence::Evidence::from_bytes(&bytes).unwrap();
        assert!(read.check().unwrap().is_some());
    }
    let verdict = played.vote(&fetched);
    let Verdict::Complain { fault, accused, .. } = verdict else {
        panic!("{verdict:?}");
    };
    assert_eq!((fault, accused), (expected, Some(liar)));
    assert!(
        matches!(
            played.stage(),
            Stage::Voided {
                why: Void::Complaints | Void::Slashed,
                ..
            }
        ),
        "{:?}",
        played.stage()
    );
    assert_eq!(played.task().model, before, "the model is not taken");
    let entry = played.chain.state.get(&NodeSlot(liar)).unwrap();
    assert_eq!(entry.status, NodeStatus::Slashed);
    assert!(played.chain.balance(&liar) < 1_000);
}

#[test]
fn evidence_of_an_honest_round_shows_nothing() {
    let played = played(None);
    let fetched = played.fetched(played.done.record.clone());
    let evidence = defim_validation::evidence::Evidence {
        manifest: fetched.manifest,
        record: fetched.record,
        ciphertexts: fetched.ciphertexts.into_iter().map(Into::into).collect(),
        key: fetched.key.into(),
        model: fetched.model.into(),
        optimiser: fetched.optimiser.into(),
    };
    assert_eq!(evidence.check(), Ok(None));
    let mut other = evidence;
    other.key[5] ^= 1;
    assert!(
        other
            .check()
            .unwrap_err()
            .to_string()
            .contains("fetch it again")
    );
}

#[test]
fn bytes_that_are_not_the_rounds_make_no_vote() {
    let mut played = played(None);
    let record = played.done.record.clone();
    played.proposed(&record, |_| {});
    let mut fetched = played.fetched(record);
    fetched.ciphertexts[0][3] ^= 1;
    let Stage::Proposed(opened, update) = played.stage() else {
        panic!("a model is proposed");
    };
    assert!(judge(&played.task(), &opened, &update, &fetched, None).is_err());
}

#[test]
fn a_poisoned_round_fails_the_quality_gate_and_nobody_is_slashed_for_it() {
    // A committee whose members work together can make its sum up, as long as the total's norm allows: here all of it.
    let attack = Attack {
        kind: AttackKind::ScaledUpdate,
        share: 1.0,
    };
    let mut played = played(Some(attack));
    let record = played.done.record.clone();
    played.proposed(&record, |_| {});
    let before = played.task().model;
    let fetched = played.fetched(record);
    let verdict = played.vote(&fetched);
    assert!(
        matches!(
            verdict,
            Verdict::Complain {
                fault: Fault::Quality,
                accused: None,
                ..
            }
        ),
        "{verdict:?}"
    );
    assert!(matches!(
        played.stage(),
        Stage::Voided {
            why: Void::Complaints,
            ..
        }
    ));
    assert_eq!(played.task().model, before);
    assert_eq!(played.task().budget, 5 * BUDGET, "nobody was paid");
    let liar = played.world.mesh.aggregation_key().id();
    let entry = played.chain.state.get(&NodeSlot(liar)).unwrap();
    assert_eq!(entry.status, NodeStatus::Active);
}
