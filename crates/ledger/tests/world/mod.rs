//! A small chain with everybody's keys.
#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::{BTreeMap, BTreeSet};

use defim_ledger::light::Certificate;
use defim_ledger::{
    Admission, AdmissionRule, BatchSummary, Block, Body, Choice, Claim, CommitteeIndex,
    ConsensusVote, CreateTask, Digest, FirstValidator, Genesis, Header, ModelUpdated, NodeId,
    NodeKey, Opened, Params, Reject, ReportId, Role, RoundNumber, RoundOpened, RoundSlot,
    Signature, SignedText, SignedTx, Split, State, TaskId, TaskTerms, Tx, Verdict, Vote, check,
    committee_count, committee_of_report, committee_seats, consensus_namespace, light_report_id,
    propose, report_path, round_randomness, verify,
};
use ed25519_dalek::{Signer as _, SigningKey};

pub const TASK: TaskId = TaskId([0x7A; 32]);
pub const START: u64 = 1_700_000_000_000;
pub const SPLIT: Split = Split {
    light: 5000,
    committee: 3000,
    aggregation: 1000,
    validators: 1000,
};

pub fn key(kind: u8, number: u8) -> NodeKey {
    NodeKey::from_seed(seed(kind, number))
}

fn seed(kind: u8, number: u8) -> [u8; 32] {
    let mut seed = [kind; 32];
    seed[31] = number;
    seed
}

pub fn admin() -> NodeKey {
    key(1, 0)
}

pub fn aggregation() -> NodeKey {
    key(2, 0)
}

pub fn member(number: usize) -> NodeKey {
    key(3, number as u8)
}

pub fn light(number: u8) -> NodeKey {
    key(5, number)
}

pub struct World {
    pub genesis: Genesis,
    pub state: State,
    pub head: Header,
    pub blocks: Vec<Block>,
    /// In the order of their keys, as the ledger has them.
    pub validators: Vec<[u8; 32]>,
    pub members: usize,
    pub now_ms: u64,
}

pub fn terms(members: usize) -> TaskTerms {
    TaskTerms {
        aggregation: aggregation().id(),
        members: (0..members).map(|number| member(number).id()).collect(),
        shares: 2,
        min_batch: 3,
        rounds: 1_000_000,
        max_weight: 20,
        admission: AdmissionRule::Open,
        budget_per_round: 1000,
        split: SPLIT,
        tolerance_ppm: 50_000,
        fairness_gap_ppm: 100_000,
    }
}

impl World {
    /// A chain with a task of three full nodes and four validators, funded.
    pub fn new() -> Self {
        Self::with(4, 3, Params::default())
    }

    pub fn with(validators: u8, members: usize, params: Params) -> Self {
        let mut world = Self::empty(validators, members, params);
        world.enrol_all();
        world.put_task(TASK, terms(members), 500_000);
        world
    }

    pub fn empty(validators: u8, members: usize, params: Params) -> Self {
        let mut seeds: Vec<_> = (0..validators).map(|number| seed(4, number)).collect();
        seeds.sort_by_key(|seed| NodeKey::from_seed(*seed).id());
        let genesis = Genesis {
            name: "test".into(),
            timestamp_ms: START,
            validators: seeds
                .iter()
                .map(|seed| FirstValidator {
                    node: NodeKey::from_seed(*seed).id(),
                    name: "validator".into(),
                    address: "127.0.0.1:1".into(),
                })
                .collect(),
            admins: vec![admin().id()],
            treasury: admin().id(),
            supply: 1_000_000_000,
            params,
        };
        let block = Block::genesis(&genesis).unwrap();
        Self {
            state: State::genesis(&genesis).unwrap(),
            head: block.header().clone(),
            blocks: vec![block],
            genesis,
            validators: seeds,
            members,
            now_ms: START,
        }
    }

    pub fn enrol_all(&mut self) {
        let mut nodes = vec![(aggregation().id(), Role::Aggregation)];
        nodes.extend((0..self.members).map(|number| (member(number).id(), Role::Full)));
        let admin = admin();
        let bodies = nodes.into_iter().map(|(node, role)| Body::EnrolNode {
            node,
            role,
            name: "node".into(),
            address: "127.0.0.1:2".into(),
        });
        self.run(bodies.map(|body| (&admin, body)).collect());
    }

    pub fn put_task(&mut self, task: TaskId, terms: TaskTerms, amount: u64) {
        let admin = admin();
        let create = Body::CreateTask(CreateTask {
            task,
            manifest: Digest([1; 32]),
            model: Digest([2; 32]),
            terms,
        });
        self.run(vec![
            (&admin, create),
            (&admin, Body::FundTask { task, amount }),
        ]);
    }

    pub fn validator(&self, number: usize) -> NodeKey {
        NodeKey::from_seed(self.validators[number])
    }

    /// A transaction with the sender's next number.
    pub fn tx(&self, key: &NodeKey, body: Body) -> SignedTx {
        self.tx_after(key, body, 0)
    }

    pub fn tx_after(&self, key: &NodeKey, body: Body, more: u64) -> SignedTx {
        Tx {
            from: key.id(),
            nonce: self.state.account(&key.id()).nonce + more,
            chain: self.genesis.chain(),
            body,
        }
        .sign(key)
    }

    /// What the ledger says to this now.
    pub fn ask(&self, key: &NodeKey, body: Body) -> Result<(), Reject> {
        check(&self.state, &self.tx(key, body), self.now_ms)
    }

    pub fn txs(&self, bodies: Vec<(&NodeKey, Body)>) -> Vec<SignedTx> {
        let mut sent: BTreeMap<NodeId, u64> = BTreeMap::new();
        bodies
            .into_iter()
            .map(|(key, body)| {
                let more = sent.entry(key.id()).or_default();
                let tx = self.tx_after(key, body, *more);
                *more += 1;
                tx
            })
            .collect()
    }

    /// One block with these, all of which are good.
    pub fn run(&mut self, bodies: Vec<(&NodeKey, Body)>) {
        let txs = self.txs(bodies);
        let refused = self.block(&txs);
        assert_eq!(refused, Vec::new());
    }

    /// One block with those of these that are good. It is proposed, sent, and checked by somebody else.
    pub fn block(&mut self, txs: &[SignedTx]) -> Vec<(Digest, Reject)> {
        self.now_ms += 1000;
        let proposal = propose(&self.state, &self.head, txs, self.now_ms, usize::MAX).unwrap();
        let block = Block::from_bytes(&proposal.block.to_bytes()).unwrap();
        let state = verify(&self.state, &self.head, &block).unwrap();
        assert_eq!(state.root(), proposal.state.root());
        self.head = block.header().clone();
        self.state = state;
        self.blocks.push(block);
        proposal.refused
    }

    pub fn opening(&self, task: TaskId) -> RoundOpened {
        let entry = self.state.task(&task).unwrap();
        RoundOpened {
            task,
            round: entry.round + 1,
            base_model: entry.model,
            opened_ms: self.now_ms,
            deadline_ms: self.now_ms + 60_000,
            weights: BTreeMap::new(),
        }
    }

    pub fn open(&mut self, task: TaskId) -> SignedText {
        let statement = self.opening(task).sign(&aggregation()).unwrap();
        self.run(vec![(
            &aggregation(),
            Body::RoundOpened {
                statement: statement.clone(),
            },
        )]);
        statement
    }

    /// Where the reports of these light nodes go in a round.
    pub fn reports(
        &self,
        task: TaskId,
        opening: &SignedText,
        lights: impl IntoIterator<Item = u8>,
    ) -> BTreeMap<CommitteeIndex, Vec<ReportId>> {
        let randomness = round_randomness(opening);
        let mut batches: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for number in lights {
            let report = light_report_id(&task, &randomness, &light(number).id());
            let terms = &self.state.task(&task).unwrap().terms;
            let count = committee_count(terms.members.len(), terms.shares);
            let committee = committee_of_report(&task, &randomness, &report, count);
            batches.entry(committee).or_default().push(report);
        }
        for ids in batches.values_mut() {
            ids.sort_unstable();
        }
        batches
    }

    pub fn batch(
        &self,
        task: TaskId,
        round: RoundNumber,
        committee: CommitteeIndex,
        ids: &[ReportId],
    ) -> Body {
        let opened = self.state.get(&RoundSlot(task, round));
        let opening = opened.map_or(Digest([0; 32]), |round| round.randomness);
        let summary =
            BatchSummary::new(task, round, opening, committee, ids, BTreeMap::new()).unwrap();
        let seats = self.seats(task, committee).into_iter();
        Body::BatchClosed {
            statements: seats
                .map(|seat| summary.sign(&member(seat)).unwrap())
                .collect(),
        }
    }

    /// The places of a committee's members, leader first.
    pub fn seats(&self, task: TaskId, committee: CommitteeIndex) -> Vec<usize> {
        let terms = self.state.task(&task).unwrap().terms;
        committee_seats(terms.members.len(), terms.shares, committee).unwrap()
    }

    pub fn total(&self, task: TaskId, round: RoundNumber, batches: &[CommitteeIndex]) -> Opened {
        let nodes: BTreeSet<_> = batches
            .iter()
            .flat_map(|committee| self.seats(task, *committee))
            .map(|seat| member(seat).id())
            .collect();
        Opened {
            task,
            round,
            selection: Digest([3; 32]),
            batches: batches.to_vec(),
            ciphertexts: nodes
                .into_iter()
                .map(|node| (node, Digest([4; 32])))
                .collect(),
            sum: Digest([5; 32]),
            key: Digest([6; 32]),
            total: Digest([7; 32]),
        }
    }

    pub fn model(&self, task: TaskId, round: RoundNumber) -> ModelUpdated {
        ModelUpdated {
            task,
            round,
            model: Digest::of(&round.to_be_bytes()),
            optimiser: Digest([8; 32]),
            record: Digest([9; 32]),
        }
    }

    pub fn accept(&self, task: TaskId, round: RoundNumber) -> Body {
        self.verdict(
            task,
            round,
            Verdict::Accept {
                loss_micro: 300_000,
                accuracy_ppm: 900_000,
            },
        )
    }

    pub fn verdict(&self, task: TaskId, round: RoundNumber, verdict: Verdict) -> Body {
        Body::Vote(Vote {
            task,
            round,
            model: self.model(task, round).model,
            verdict,
        })
    }

    /// A round up to a proposed model, with the reports of these light nodes.
    pub fn proposed(
        &mut self,
        task: TaskId,
        lights: impl IntoIterator<Item = u8>,
    ) -> (
        RoundNumber,
        BTreeMap<CommitteeIndex, Vec<ReportId>>,
        SignedText,
    ) {
        let opening = self.open(task);
        let round = self.state.task(&task).unwrap().round;
        let batches = self.reports(task, &opening, lights);
        let aggregation = aggregation();
        let mut bodies: Vec<_> = batches
            .iter()
            .map(|(committee, ids)| self.batch(task, round, *committee, ids))
            .collect();
        let indices: Vec<_> = batches.keys().copied().collect();
        bodies.push(Body::Opened(self.total(task, round, &indices)));
        bodies.push(Body::ModelUpdated(self.model(task, round)));
        self.run(
            bodies
                .into_iter()
                .map(|body| (&aggregation, body))
                .collect(),
        );
        (round, batches, opening)
    }

    /// A round that all validators accept.
    pub fn finished(
        &mut self,
        task: TaskId,
        lights: impl IntoIterator<Item = u8>,
    ) -> (
        RoundNumber,
        BTreeMap<CommitteeIndex, Vec<ReportId>>,
        SignedText,
    ) {
        let done = self.proposed(task, lights);
        let keys: Vec<_> = (0..self.validators.len())
            .map(|number| self.validator(number))
            .collect();
        let votes = keys.iter().map(|key| (key, self.accept(task, done.0)));
        let votes = votes.collect();
        self.run(votes);
        done
    }

    pub fn enrol_lights(&mut self, task: TaskId, lights: impl IntoIterator<Item = u8>) {
        let keys: Vec<_> = lights.into_iter().map(light).collect();
        let bodies = keys.iter().map(|key| {
            let body = Body::EnrolLight {
                task,
                key: key.id(),
                by: Admission::Open,
            };
            (key, body)
        });
        self.run(bodies.collect());
    }

    pub fn claim(
        &self,
        task: TaskId,
        round: RoundNumber,
        opening: &SignedText,
        batches: &BTreeMap<CommitteeIndex, Vec<ReportId>>,
        number: u8,
    ) -> Claim {
        let report = light_report_id(&task, &round_randomness(opening), &light(number).id());
        let (committee, ids) = batches
            .iter()
            .find(|(_, ids)| ids.contains(&report))
            .unwrap();
        Claim {
            task,
            round,
            report,
            committee: *committee,
            path: report_path(ids, &report).unwrap(),
        }
    }

    /// The certificate of a header by these validators (their places), in a view.
    pub fn certify(&self, header: &Header, view: u64, by: &[usize]) -> Certificate {
        certify(&self.genesis.chain(), &self.validators, header, view, by)
    }

    pub fn balance(&self, key: &NodeKey) -> u64 {
        self.state.account(&key.id()).balance
    }

    pub fn assert_conserved(&self) {
        let supply = self.state.supply();
        assert_eq!(
            supply.total(),
            u128::from(self.genesis.supply),
            "{supply:?}"
        );
    }
}

pub fn certify(
    chain: &Digest,
    seeds: &[[u8; 32]],
    header: &Header,
    view: u64,
    by: &[usize],
) -> Certificate {
    let mut certificate = Certificate {
        epoch: header.epoch,
        view,
        parent: view - 1,
        payload: header.digest(),
        signers: (0..seeds.len()).map(|place| by.contains(&place)).collect(),
        signatures: Vec::new(),
    };
    let message = certificate.signed_bytes(&consensus_namespace(chain));
    certificate.signatures = by
        .iter()
        .map(|place| {
            SigningKey::from_bytes(&seeds[*place])
                .sign(&message)
                .to_bytes()
        })
        .collect();
    certificate
}

/// A validator's vote in consensus.
pub fn voted(
    chain: &Digest,
    seed: &[u8; 32],
    (epoch, view): (u64, u64),
    choice: Choice,
) -> ConsensusVote {
    let mut vote = ConsensusVote {
        epoch,
        view,
        choice,
        signature: Signature([0; 64]),
    };
    let message = vote.signed_bytes(&consensus_namespace(chain));
    vote.signature = Signature(SigningKey::from_bytes(seed).sign(&message).to_bytes());
    vote
}
