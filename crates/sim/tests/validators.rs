//! A whole round on the ledger: validators repeat it from public bytes, an honest one is finished and paid, and every lie of
//! the aggregation node is seen by each of them, voids the round, and costs the liar.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{World, still};
use defim_aggregation::{
    coordinator::Completed,
    repeat::{Artefacts, repeat},
};
use defim_learn::{Features, quantise_vector};
use defim_ledger::{
    AdmissionRule, BatchSummary, Block, Body, CommitteeIndex, CreateTask, Digest, Fault,
    FirstValidator, Genesis, NodeId, NodeKey, NodeSlot, NodeStatus, Opened, Params, ReportId, Role,
    Round, RoundOpened, RoundSlot, SignedTx, Split, Stage, State, Task, TaskId, TaskTerms, Tx,
    Verdict, Void, Vote, propose, signed_digest, verify,
};
use defim_light::{Content, Training};
use defim_protocol::{
    SignedText,
    record::{RoundRecord, VerifiedRecord},
    sum::{EncryptedSum, Selection, SumOpening},
    vdaf::Scheme,
};
use defim_sim::{Attack, AttackKind, Party, RoundResult, contribute};
use defim_validation::{
    evidence::Evidence,
    judge::{Judged, Known, Unusable, judge},
};

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
    /// Rounds that the validators take to have been finished before this one.
    finished: u64,
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
        fairness_gap_ppm: 300_000,
    }
}

/// Up to the end of round 1, of which the ledger knows nothing but its opening.
fn played(attack: Option<Attack>) -> Played {
    played_in(World::of(3, Scheme::Pine64, 2), attack)
}

fn played_in(world: World, attack: Option<Attack>) -> Played {
    played_with(world, |world| {
        for party in 0..6_u8 {
            let key = world.mesh.manifest().admission;
            let key = key.map(|_| World::light_key(party));
            let now = world.mesh.now();
            let open = world
                .task
                .open_round(world.round.signed().clone(), now)
                .unwrap()
                .without_ledger();
            let party = Party {
                rows: &world.rows[usize::from(party)],
                seed: 7,
                silo: None,
                key: key.as_ref(),
                attack,
            };
            let (_, model) = world.mesh.coordinator().model();
            let report = contribute(&world.task, &open, model, party, now, &still)
                .unwrap()
                .0;
            world.mesh.upload(report.bytes).unwrap();
        }
    })
}

/// The same with reports that vote for these bins.
/// Votes of so many, of whom the first are served badly.
fn left_behind(badly: usize, all: usize) -> Vec<usize> {
    (0..all).map(|n| if n < badly { 0 } else { 9 }).collect()
}

fn played_votes(votes: &[usize]) -> Played {
    played_with(World::voting(3, 2), |world| {
        let (spec, now) = (world.task.spec().clone(), world.mesh.now());
        let open = world
            .task
            .open_round(world.round.signed().clone(), now)
            .unwrap()
            .without_ledger();
        let (_, model) = world.mesh.coordinator().model();
        let training = Training::start(&world.task, &open, model).unwrap();
        let values = vec![0.001; spec.dimension()];
        let update = quantise_vector(&values, spec.clip_norm, spec.frac_bits).unwrap();
        for (place, vote) in (1..).zip(votes) {
            let content = Content {
                update: &update,
                vote: Some(*vote),
            };
            let split = training
                .split(content, ReportId([place; 16]), now / 1000)
                .unwrap();
            let report = split.seal(&mut rand::rng()).unwrap();
            world.mesh.upload(report.bytes).unwrap();
        }
    })
}

fn played_with(mut world: World, contribute_all: impl FnOnce(&mut World)) -> Played {
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

    contribute_all(&mut world);
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
        finished: 0,
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

    fn round(&self) -> Round {
        self.chain.state.get(&RoundSlot(self.id(), 1)).unwrap()
    }

    fn stage(&self) -> Stage {
        self.round().stage
    }

    /// Put the round on the ledger as an aggregation node does that signs this record and says this of the total.
    fn proposed(&mut self, signed: &SignedText, say: impl FnOnce(&mut Opened)) {
        let honest =
            VerifiedRecord::verify(self.done.record.clone(), self.world.mesh.manifest(), 1)
                .unwrap();
        let lie: RoundRecord = serde_json::from_str(&signed.payload).unwrap();
        let ciphertexts: Vec<_> = self
            .done
            .ciphertexts
            .iter()
            .map(|(_, c)| c.clone())
            .collect();
        let repeated = repeat(
            self.world.mesh.manifest(),
            &honest,
            Artefacts {
                ciphertexts: &ciphertexts,
                key: &self.done.key,
                model: &self.model_before,
                optimiser: &self.done.optimiser_before,
            },
        )
        .unwrap();
        // Lies that no light node would believe stand beside honest batches.
        let signed_by_all = VerifiedRecord::verify(signed.clone(), self.world.mesh.manifest(), 1);
        let honest = signed_by_all.unwrap_or(honest);
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
        // But for what somebody was quicker with.
        let there = self.round().batches;
        let batches = honest.selection().batches().iter();
        let missing = batches.filter(|(committee, _)| !there.contains_key(committee));
        let mut bodies: Vec<_> = missing
            .map(|(_, batch)| Body::BatchClosed {
                statements: batch.signatures().to_vec(),
            })
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

    fn fetched(&self, record: SignedText) -> Evidence {
        let (ids, ciphertexts) = (self.done.ids.iter(), self.done.ciphertexts.iter());
        let listed = |ids: &[ReportId]| ids.iter().flat_map(|id| id.0).collect::<Vec<u8>>();
        Evidence {
            manifest: self.world.mesh.signed().clone(),
            record,
            ids: ids.map(|(_, ids)| listed(ids).into()).collect(),
            ciphertexts: ciphertexts.map(|(_, c)| c.clone().into()).collect(),
            key: self.done.key.clone().into(),
            model: self.model_before.clone().into(),
            optimiser: self.done.optimiser_before.clone().into(),
        }
    }

    fn key(&self, node: NodeId) -> &NodeKey {
        let mut keys = (0..3).map(|place| self.world.mesh.node_key(place).unwrap());
        keys.find(|key| key.id() == node).unwrap()
    }

    /// These reports as the batch of a committee, signed by all its members.
    fn batch(&self, committee: CommitteeIndex, ids: &[ReportId]) -> Vec<SignedText> {
        let opening = self.world.round.randomness();
        let batch = BatchSummary::new(self.id(), 1, opening, committee, ids, BTreeMap::new());
        let members = self.world.mesh.manifest().committee(committee).unwrap();
        let members = members.members().into_iter();
        let batch = batch.unwrap();
        members
            .map(|m| batch.sign(self.key(m.node)).unwrap())
            .collect()
    }

    /// The same round, but the members of one committee have signed these reports as their batch.
    fn with_batch(&self, committee: CommitteeIndex, ids: &[ReportId]) -> SignedText {
        let mut record = self.record();
        let mut selection: Selection = serde_json::from_str(&record.selection.payload).unwrap();
        let place = selection
            .batches
            .keys()
            .position(|index| *index == committee)
            .unwrap();
        record.batches[place] = self.batch(committee, ids);
        let text = record.batches[place][0].payload.as_bytes();
        selection.batches.insert(committee, Digest::of(text));
        record.selection = selection.sign(self.world.mesh.aggregation_key()).unwrap();
        let selection = Digest::of(record.selection.payload.as_bytes());
        for signed in &mut record.sums {
            let mut sum: EncryptedSum = serde_json::from_str(&signed.payload).unwrap();
            sum.selection = selection;
            *signed = sum.sign(self.key(signed.signer)).unwrap();
        }
        let mut opening: SumOpening = serde_json::from_str(&record.opening.payload).unwrap();
        opening.selection = selection;
        record.opening = opening.sign(self.world.mesh.aggregation_key()).unwrap();
        record.sign(self.world.mesh.aggregation_key()).unwrap()
    }

    fn judge(&self, fetched: &Evidence) -> Judged {
        self.try_judge(fetched).unwrap()
    }

    fn try_judge(&self, fetched: &Evidence) -> Result<Judged, Unusable> {
        let enrolled = (0..6).map(|n| World::light_key(n).id()).collect();
        self.judge_knowing(&enrolled, fetched)
    }

    fn judge_knowing(
        &self,
        enrolled: &BTreeSet<NodeId>,
        fetched: &Evidence,
    ) -> Result<Judged, Unusable> {
        let mut task = self.task();
        task.finished += self.finished;
        let known = Known {
            task: &task,
            round: &self.round(),
            enrolled,
            holdout: Some(&self.holdout),
        };
        judge(known, fetched)
    }

    /// All four validators judge and vote.
    fn vote(&mut self, fetched: &Evidence) -> Verdict {
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
fn a_round_whose_votes_show_a_group_left_behind_is_void_and_nobody_is_to_blame() {
    let mut played = played_votes(&left_behind(9, 36));
    let record = played.done.record.clone();
    assert_eq!(played.record().votes, [9, 0, 0, 0, 0, 0, 0, 0, 0, 27]);
    played.proposed(&record, |_| {});
    let fetched = played.fetched(record);
    // The model that a task begins with is nobody's fault.
    assert!(matches!(
        played.judge(&fetched).verdict,
        Verdict::Accept { .. }
    ));
    played.finished = 1;
    let found = played.judge(&fetched);
    let why = found.why.unwrap();
    assert!(why.contains("on 5 % for the quarter"), "{why}");
    let aggregation = played.world.mesh.aggregation_key().id();
    let before = played.chain.balance(&aggregation);
    let model = played.task().model;
    let verdict = played.vote(&fetched);
    assert!(
        matches!(
            verdict,
            Verdict::Complain {
                fault: Fault::Fairness,
                accused: None,
                ..
            }
        ),
        "{verdict:?}"
    );
    let stage = played.stage();
    assert!(
        matches!(
            stage,
            Stage::Voided {
                why: Void::Complaints,
                ..
            }
        ),
        "{stage:?}"
    );
    assert_eq!(played.task().model, model, "the model is not trained on");
    assert_eq!(
        played.chain.balance(&aggregation),
        before,
        "neither paid nor slashed"
    );
    let entry = played.chain.state.get(&NodeSlot(aggregation)).unwrap();
    assert_eq!(entry.status, NodeStatus::Active);
}

#[test]
fn votes_that_lie_close_together_or_are_few_finish_a_round() {
    for votes in [
        [6, 7, 7, 8, 8, 8, 8, 9, 9, 9, 9, 9].repeat(3),
        // Of so few, a handful is no group.
        left_behind(8, 31),
    ] {
        let mut played = played_votes(&votes);
        played.finished = 1;
        let record = played.done.record.clone();
        played.proposed(&record, |_| {});
        let fetched = played.fetched(record);
        let verdict = played.vote(&fetched);
        assert!(matches!(verdict, Verdict::Accept { .. }), "{verdict:?}");
        assert!(matches!(played.stage(), Stage::Finished { .. }));
    }
}

#[test]
fn an_aggregation_node_that_publishes_other_votes_pays_for_it() {
    let mut played = played_votes(&[0, 0, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9]);
    let lie = played.signed(|record| record.votes = vec![0, 0, 0, 0, 0, 0, 0, 0, 0, 12]);
    played.proposed(&lie, |_| {});
    let fetched = played.fetched(lie);
    let verdict = played.vote(&fetched);
    assert!(
        matches!(
            verdict,
            Verdict::Complain {
                fault: Fault::ChangedTotal,
                ..
            }
        ),
        "{verdict:?}"
    );
    let aggregation = played.world.mesh.aggregation_key().id();
    let entry = played.chain.state.get(&NodeSlot(aggregation)).unwrap();
    assert_eq!(entry.status, NodeStatus::Slashed);
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
        // Whoever chooses what the optimiser remembers chooses the model.
        (
            Fault::ChangedTotal,
            Box::new(move |record| record.before.optimiser = wrong),
        ),
        // In this opening the honest batches are of other committees, whose leaders are not to blame.
        (
            Fault::ChangedTotal,
            Box::new(|record| {
                let mut other = RoundOpened::read(&record.opened.payload).unwrap();
                other.deadline_ms += 1;
                record.opened = other.sign(&NodeKey::from_seed([1; 32])).unwrap();
            }),
        ),
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
        let read = Evidence::from_bytes(&bytes).unwrap();
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
    let evidence = played.fetched(played.done.record.clone());
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
fn members_who_sign_a_batch_that_is_none_are_named_and_the_leader_pays() {
    let mut played = played(None);
    let (committee, honest) = played.done.ids[0].clone();
    let manifest = played.world.mesh.manifest().clone();
    let round = &played.world.round;
    // A report of another committee in place of one of theirs: neither member can have checked it.
    let other = (0..=255_u8)
        .map(|n| ReportId([n; 16]))
        .find(|id| manifest.committee_of(round, id).index() != committee)
        .unwrap();
    let mut ids = honest;
    ids[0] = other;
    ids.sort_unstable();
    let signed = played.with_batch(committee, &ids);
    let leader = manifest.committee(committee).unwrap().leader().node;
    let before = played.chain.balance(&leader);
    assert_eq!(before, 0);
    played.proposed(&signed, |_| {});
    let mut fetched = played.fetched(signed);
    // What the aggregation node serves must be what they signed: another list accuses nobody.
    assert!(played.try_judge(&fetched).is_err());
    fetched.ids[0] = ids.iter().flat_map(|id| id.0).collect::<Vec<u8>>().into();
    let found = played.judge(&fetched);
    let shown = found.evidence.unwrap().check().unwrap().unwrap();
    assert!(shown.to_string().contains("is signed, but"), "{shown}");
    let verdict = played.vote(&fetched);
    assert!(
        matches!(
            verdict,
            Verdict::Complain {
                fault: Fault::Batch,
                accused: Some(node),
                ..
            } if node == leader
        ),
        "{verdict:?}"
    );
    assert!(matches!(played.stage(), Stage::Voided { .. }));
    let entry = played.chain.state.get(&NodeSlot(leader)).unwrap();
    assert_eq!(entry.status, NodeStatus::Slashed);
}

/// By the batch on the ledger everybody is paid: two members who sign one for the aggregation node and another one for the
/// ledger would pay themselves.
#[test]
fn a_batch_that_is_another_on_the_ledger_voids_the_round_and_its_helper_pays() {
    let mut played = played(None);
    let (committee, honest) = played.done.ids[0].clone();
    let manifest = played.world.mesh.manifest().clone();
    let round = &played.world.round;
    let made_up = (0..=255_u8)
        .map(|n| ReportId([n; 16]))
        .filter(|id| manifest.committee_of(round, id).index() == committee);
    let ids: Vec<_> = honest.into_iter().chain(made_up).collect();
    let statements = played.batch(committee, &ids);
    let [leader, helper] = [0, 1].map(|at: usize| statements[at].signer);
    let body = Body::BatchClosed { statements };
    let tx = played.chain.tx(played.key(leader), 0, body);
    played.chain.put_all(&[tx]);
    let record = played.done.record.clone();
    played.proposed(&record, |_| {});
    let fetched = played.fetched(record);
    let verdict = played.vote(&fetched);
    assert!(
        matches!(
            verdict,
            Verdict::Complain { fault: Fault::Batch, accused: Some(node), .. } if node == helper
        ),
        "{verdict:?}"
    );
    assert!(matches!(played.stage(), Stage::Voided { .. }));
    let status = |node| played.chain.state.get(&NodeSlot(node)).unwrap().status;
    assert_eq!(status(helper), NodeStatus::Slashed);
    assert_eq!(status(leader), NodeStatus::Active);
    assert_eq!(status(manifest.aggregation), NodeStatus::Active);
}

#[test]
fn reports_of_keys_that_were_never_enrolled_void_the_round() {
    let mut played = played_in(World::enrolled(3, 2, 6), None);
    let record = played.done.record.clone();
    played.proposed(&record, |_| {});
    let fetched = played.fetched(record);
    let verdict = played.judge(&fetched).verdict;
    assert!(matches!(verdict, Verdict::Accept { .. }), "{verdict:?}");
    let all_but_one = (1..6).map(|n| World::light_key(n).id()).collect();
    let verdict = played.judge_knowing(&all_but_one, &fetched).unwrap();
    assert!(
        matches!(
            verdict.verdict,
            Verdict::Complain {
                fault: Fault::Batch,
                accused: Some(_),
                ..
            }
        ),
        "{verdict:?}"
    );
}

#[test]
fn bytes_that_are_not_the_rounds_make_no_vote() {
    let mut played = played(None);
    let record = played.done.record.clone();
    played.proposed(&record, |_| {});
    let mut fetched = played.fetched(record);
    // Changed on the way: nothing that the aggregation node has to answer for.
    let mut unsigned = fetched.clone();
    unsigned.record.signature[5] ^= 1;
    assert!(played.try_judge(&unsigned).is_err());
    fetched.ciphertexts[0][3] ^= 1;
    assert!(played.try_judge(&fetched).is_err());
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
