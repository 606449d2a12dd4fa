//! The servers of a mesh: coordinator and full nodes, joined by function calls.

use std::sync::Arc;

use defim_aggregation::coordinator::{self, Completed, Coordinator, Restored};
use defim_full::{Secrets, leader};
use defim_learn::{Features, LearningSpec};
use defim_protocol::{
    AdmissionRule, Committee, Manifest, Member, Millis, NodeId, NodeKey, Privacy, Reason, ReportId,
    RoundPhase, Schedule, SignedText, VerifiedManifest, VerifiedRound,
    report::Metadata,
    vdaf::{Scheme, VdafSpec},
    wire::{Request, Response},
};
use prio::codec::Decode as _;
use rand::SeedableRng as _;
use rand_chacha::ChaCha20Rng;
use serde_json::value::RawValue;

use crate::{
    Clock, SimError, Steps,
    member::{Errand, Node},
    steps::timed,
};

/// A day of virtual time: no round takes longer.
const LONGEST_MS: Millis = 24 * 60 * 60 * 1000;

/// A byte of an answer for the keys that is part of a number.
const SHARE_BYTE: usize = 100;

/// How a round ended.
#[derive(Debug, Clone)]
pub enum RoundResult {
    /// With a model.
    Completed(Box<Completed>),
    /// Without.
    Voided(String),
}

/// Full nodes and an aggregation node.
pub struct Mesh {
    manifest: VerifiedManifest,
    key: Arc<NodeKey>,
    coordinator: Coordinator,
    nodes: Vec<Node>,
    vanishing: usize,
    now: Millis,
    result: Option<RoundResult>,
    heard: Option<Vec<Heard>>,
    lying: Option<usize>,
    losing: Option<Lost>,
}

/// A full node that goes away in the middle of its leader's work.
struct Lost {
    place: usize,
    question: fn(&Request) -> bool,
    answered: bool,
}

/// What the aggregation node asked of a full node, and what it was answered.
#[derive(Debug, Clone)]
pub struct Heard {
    /// The full node.
    pub node: NodeId,
    /// The question.
    pub question: Request,
    /// The answer.
    pub answer: Response,
}

/// What a mesh is set up for.
pub struct MeshSetup<'a> {
    /// What is learnt.
    pub spec: &'a LearningSpec,
    /// Rows to evaluate on.
    pub holdout: Option<Features>,
    /// When rounds close.
    pub schedule: Schedule,
    /// What updates are shared and proven with.
    pub scheme: Scheme,
    /// Full nodes, from 2 to 32.
    pub full: u8,
    /// Shares of a report: 2, or 3.
    pub shares: u8,
    /// Bins of the contributors' private votes; 0: there are none.
    pub votes: u8,
    /// Epsilon and delta that are promised over all rounds; none: no noise.
    pub privacy: Option<(f64, f64)>,
    /// How often a silo's report may count.
    pub max_weight: u8,
    /// How light nodes are enrolled; none: anybody contributes.
    pub admission: Option<AdmissionRule>,
}

impl Mesh {
    /// Set up a mesh for one task.
    ///
    /// # Errors
    ///
    /// [`SimError::Setup`] if the task is refused.
    pub fn new(setup: MeshSetup<'_>) -> Result<Self, SimError> {
        let failed = |e: &dyn std::fmt::Display| SimError::Setup(e.to_string());
        let MeshSetup {
            spec,
            holdout,
            schedule,
            scheme,
            full,
            shares,
            votes,
            privacy,
            max_weight,
            admission,
        } = setup;
        let vdaf = VdafSpec {
            scheme,
            dimension: spec.dimension(),
            frac_bits: spec.frac_bits,
            shares,
            votes,
        };
        let privacy = privacy
            .map(|(epsilon, delta)| {
                Privacy::new(&vdaf, max_weight, epsilon, delta, schedule.rounds)
            })
            .transpose()
            .map_err(|e| failed(&e))?;
        let key = Arc::new(NodeKey::from_seed([1; 32]));
        let secrets: Vec<_> = (0..full)
            .map(|n| Arc::new(Secrets::from_seed([n.wrapping_add(2); 32])))
            .collect();
        let learning = serde_json::to_string(spec)
            .and_then(RawValue::from_string)
            .map_err(|e| failed(&e))?;
        let manifest = Manifest {
            name: "simulated".into(),
            title: "A simulated task".into(),
            summary: String::new(),
            aggregation: key.id(),
            members: (1..)
                .zip(&secrets)
                .map(|(n, secrets)| Member {
                    node: secrets.node.id(),
                    name: format!("full-{n}"),
                    hpke: secrets.sealing.config(),
                })
                .collect(),
            vdaf,
            schedule,
            privacy,
            max_weight,
            admission,
            ledger: defim_protocol::LedgerTerms::default(),
            created_ms: 0,
            learning,
        };
        let signed = manifest.sign(&key).map_err(|e| failed(&e))?;
        let manifest = VerifiedManifest::verify(signed, None).map_err(|e| failed(&e))?;
        let coordinator =
            Coordinator::new(manifest.clone(), key.clone(), holdout, Restored::default())
                .map_err(|e| failed(&e))?;
        let nodes = secrets.into_iter();
        Ok(Self {
            nodes: nodes.map(|own| Node::new(manifest.clone(), own)).collect(),
            manifest,
            key,
            coordinator,
            vanishing: 0,
            now: 1_000_000,
            result: None,
            heard: None,
            lying: None,
            losing: None,
        })
    }

    /// The task.
    pub fn manifest(&self) -> &VerifiedManifest {
        &self.manifest
    }

    /// Epsilon that was spent so far; only of a task with noise.
    pub fn spent_epsilon(&self) -> Option<f64> {
        let spent = self.coordinator.spent();
        let privacy = self.manifest.privacy.as_ref()?;
        privacy
            .spent(&self.manifest.vdaf, self.manifest.max_weight, spent)
            .ok()
    }

    /// The coordinator.
    pub fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    /// The committee that checks a report in the open round.
    pub fn committee_of(&self, report: &ReportId) -> Option<Committee> {
        let round = self.coordinator.open_round()?;
        Some(self.manifest.committee_of(round, report))
    }

    /// From now on, all that full nodes draw follows from a seed: for runs that are to be the same again.
    pub fn seed(&mut self, seed: u64) {
        for (place, node) in (0..).zip(&mut self.nodes) {
            node.random = ChaCha20Rng::seed_from_u64(seed);
            node.random.set_stream(place);
        }
    }

    /// The ledger has voided a round that was finished here: the model is what it was before it. `model` is that one's bytes.
    ///
    /// # Errors
    ///
    /// [`SimError::Setup`] if that is no model of the task.
    pub fn revoke(
        &mut self,
        done: &Completed,
        opening: SignedText,
        model: Vec<u8>,
    ) -> Result<(), SimError> {
        let before = Restored {
            round: Some((opening, true)),
            rounds_done: self.coordinator.rounds_done().saturating_sub(1),
            spent: self.coordinator.spent(),
            model: Some((model, done.optimiser_before.clone())),
            ..Restored::default()
        };
        self.coordinator = Coordinator::new(self.manifest.clone(), self.key.clone(), None, before)
            .map_err(|e| SimError::Setup(e.to_string()))?;
        Ok(())
    }

    /// Virtual time.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// Let time pass.
    pub fn wait(&mut self, ms: Millis) {
        self.now = self.now.saturating_add(ms);
    }

    /// Cut a full node off, or bring it back; by its place in the manifest.
    pub fn set_up(&mut self, place: usize, up: bool) {
        if let Some(node) = self.nodes.get_mut(place) {
            node.up = up;
        }
    }

    /// From now on, the last so many full nodes go away in each round once all sums are encrypted, and come
    /// back for the next round.
    pub fn vanish_after_encrypting(&mut self, nodes: usize) {
        self.vanishing = nodes;
    }

    /// From now on, this full node answers for the keys with something else, for tests; by its place in the manifest.
    pub fn lie_about_keys(&mut self, place: usize) {
        self.lying = Some(place);
    }

    /// This full node goes away when it is asked such a question as a helper: before it has heard of it, or, with
    /// `answered`, once it has done what it was asked, so that only its answer is lost. By its place in the manifest.
    pub fn lose_at(&mut self, place: usize, question: fn(&Request) -> bool, answered: bool) {
        self.losing = Some(Lost {
            place,
            question,
            answered,
        });
    }

    /// This full node's silo has so many rows, by its place in the manifest; it counts from the next round on.
    pub fn declare_silo(&mut self, place: usize, rows: u64) {
        if let Some(node) = self.nodes.get(place) {
            let id = node.secrets.node.id();
            self.coordinate(coordinator::Input::SiloRows(id, rows));
        }
    }

    /// All full nodes hear from the ledger that this light node is enrolled.
    pub fn enrol(&mut self, key: NodeId) {
        for place in 0..self.nodes.len() {
            self.enrol_at(place, key);
        }
    }

    /// One full node hears of it before the others; by its place in the manifest.
    pub fn enrol_at(&mut self, place: usize, key: NodeId) {
        if let Some(node) = self.nodes.get_mut(place) {
            node.enrolled.insert(key);
        }
    }

    /// Open the next round.
    ///
    /// # Errors
    ///
    /// [`SimError::Setup`] if none opens.
    pub fn open_round(&mut self) -> Result<VerifiedRound, SimError> {
        self.coordinate(coordinator::Input::Tick);
        let round = self.coordinator.open_round().cloned().ok_or_else(|| {
            SimError::Setup("no round opens: all rounds of the task are done".into())
        })?;
        self.result = None;
        for node in &mut self.nodes {
            if self.vanishing > 0 {
                node.up = true;
            }
            node.open(&round)?;
        }
        Ok(round)
    }

    /// Upload a report to the leader of its committee, as over any path.
    ///
    /// # Errors
    ///
    /// The public reason; nothing is stored then.
    pub fn upload(&mut self, bytes: Vec<u8>) -> Result<(), Reason> {
        let round = self.coordinator.open_round().ok_or(Reason::RoundClosed)?;
        // Every report begins with them.
        let metadata = Metadata::decode(&mut std::io::Cursor::new(&bytes));
        let id = metadata.map_or(ReportId([0; 16]), |metadata| metadata.id);
        let leader = self.manifest.committee_of(round, &id).leader().node;
        self.upload_to(&leader, bytes)
    }

    /// Upload a report to this node, whether it is the right one or not.
    ///
    /// # Errors
    ///
    /// The public reason; nothing is stored then.
    pub fn upload_to(&mut self, node: &NodeId, bytes: Vec<u8>) -> Result<(), Reason> {
        let round = self.coordinator.open_round().ok_or(Reason::RoundClosed)?;
        let nodes = self.nodes.iter_mut();
        let node = nodes
            .into_iter()
            .find(|n| n.secrets.node.id() == *node)
            .ok_or(Reason::UnknownTask)?;
        node.upload(round, self.now, bytes)
    }

    /// Run the round to its end; time passes as it must.
    ///
    /// # Errors
    ///
    /// [`SimError`] if it does not end.
    pub fn finish_round(
        &mut self,
        clock: Clock<'_>,
        steps: &mut Steps,
    ) -> Result<RoundResult, SimError> {
        let started = self.now;
        while self.now - started < LONGEST_MS {
            if let Some(result) = self.settle(clock, steps)? {
                return Ok(result);
            }
            let busy = self.nodes.iter().any(Node::busy);
            self.wait(if busy { 1 } else { 500 });
        }
        Err(SimError::Stuck(
            self.coordinator.open_round().map_or(0, |round| round.round),
        ))
    }

    /// Run everything that is due now.
    ///
    /// # Errors
    ///
    /// [`SimError`] if a node cannot add.
    pub fn settle(
        &mut self,
        clock: Clock<'_>,
        steps: &mut Steps,
    ) -> Result<Option<RoundResult>, SimError> {
        for place in 0..self.nodes.len() {
            self.lead(place, clock, steps)?;
        }
        self.coordinate(coordinator::Input::Tick);
        self.ask_all(clock, steps)?;
        Ok(self.result.take())
    }

    fn coordinate(&mut self, input: coordinator::Input) {
        use coordinator::Output as O;
        self.coordinator.handle(self.now, input);
        while let Some(output) = self.coordinator.poll() {
            match output {
                O::Complete(done) => self.result = Some(RoundResult::Completed(done)),
                O::Void { reason, .. } => self.result = Some(RoundResult::Voided(reason)),
                O::Answer(_)
                | O::Open { .. }
                | O::StoreClosed(..)
                | O::StoreSelection(..)
                | O::StoreSum(..)
                | O::StoreOpening(..)
                | O::Changed => {}
            }
        }
    }

    /// Ask every full node what the coordinator wants of it.
    fn ask_all(&mut self, clock: Clock<'_>, steps: &mut Steps) -> Result<(), SimError> {
        for place in 0..self.nodes.len() {
            self.vanish();
            let Some(round) = self.coordinator.open_round().cloned() else {
                return Ok(());
            };
            let Some(node) = self.nodes.get_mut(place).filter(|node| node.up) else {
                continue;
            };
            let id = node.secrets.node.id();
            let Some(question) = self.coordinator.question(&id) else {
                continue;
            };
            let step = match &question {
                Request::Encrypt(_) => &mut steps.encrypt_ms,
                Request::OpenSum(_) => &mut steps.open_ms,
                _ => &mut steps.add_ms,
            };
            let heard = self.heard.is_some().then(|| question.clone());
            let mut answer = timed(clock, step, || node.answer(&round, question))?;
            if let (Response::SumShare(share), true) = (&mut answer, self.lying == Some(place))
                && let Some(last) = share.get_mut(SHARE_BYTE)
            {
                *last ^= 1;
            }
            if let (Some(all), Some(question)) = (&mut self.heard, heard) {
                let answer = answer.clone();
                all.push(Heard {
                    node: id,
                    question,
                    answer,
                });
            }
            let step = match &answer {
                Response::Encrypted(_) => &mut steps.add_ms,
                _ => &mut steps.open_ms,
            };
            timed(clock, step, || {
                self.coordinate(coordinator::Input::Answered(id, answer));
            });
        }
        Ok(())
    }

    fn vanish(&mut self) {
        let phase = self.coordinator.view().map(|view| view.phase);
        if matches!(phase, Some(RoundPhase::Decrypting { .. })) {
            for node in self.nodes.iter_mut().rev().take(self.vanishing) {
                node.up = false;
            }
        }
    }

    /// Run the machines of the committees that a node leads.
    fn lead(&mut self, place: usize, clock: Clock<'_>, steps: &mut Steps) -> Result<(), SimError> {
        let Some(round) = self.coordinator.open_round().cloned() else {
            return Ok(());
        };
        let Some(node) = self.nodes.get_mut(place).filter(|node| node.up) else {
            return Ok(());
        };
        for index in node.leading() {
            let Some(node) = self.nodes.get_mut(place) else {
                continue;
            };
            let mut inputs = node.begin(index);
            while let Some(input) = inputs.pop_front() {
                let Some(node) = self.nodes.get_mut(place) else {
                    continue;
                };
                timed(clock, &mut steps.verify_ms, || {
                    node.handle(index, self.now, input);
                });
                while let Some(output) = self.nodes.get_mut(place).and_then(|node| node.poll(index))
                {
                    if let Some(next) = self.perform(place, index, &round, output, clock, steps)?
                        && let Some(node) = self.nodes.get_mut(place)
                    {
                        timed(clock, &mut steps.verify_ms, || {
                            node.handle(index, self.now, next);
                        });
                    }
                }
            }
            if let Some(node) = self.nodes.get_mut(place) {
                node.end(index);
            }
        }
        Ok(())
    }

    fn perform(
        &mut self,
        place: usize,
        index: defim_protocol::CommitteeIndex,
        round: &VerifiedRound,
        output: leader::Output,
        clock: Clock<'_>,
        steps: &mut Steps,
    ) -> Result<Option<leader::Input>, SimError> {
        let Some(node) = self.nodes.get_mut(place) else {
            return Ok(None);
        };
        let from = node.secrets.node.id();
        let step = match &output {
            leader::Output::Release { .. } => &mut steps.add_ms,
            _ => &mut steps.verify_ms,
        };
        let performed = timed(clock, step, || node.perform(index, round, self.now, output))?;
        match performed {
            (_, Some(Errand::Ask(committee, questions))) => {
                let helpers = committee.helpers().into_iter().zip(questions);
                let answers = helpers
                    .map(|(helper, question)| {
                        self.ask_helper(&helper.node, question, round, clock, steps)
                    })
                    .collect::<Result<_, _>>()?;
                Ok(Some(leader::Input::Answers(answers)))
            }
            (_, Some(Errand::Tell(progress))) => {
                self.coordinate(coordinator::Input::Progress(from, progress));
                Ok(None)
            }
            (next, None) => Ok(next),
        }
    }

    /// The aggregation node's key, for tests in which it lies.
    pub fn aggregation_key(&self) -> &NodeKey {
        &self.key
    }

    /// The same key, to keep.
    pub(crate) fn aggregation_key_shared(&self) -> Arc<NodeKey> {
        self.key.clone()
    }

    /// A helper's answer to its leader, if it is there.
    fn ask_helper(
        &mut self,
        helper: &NodeId,
        question: Request,
        round: &VerifiedRound,
        clock: Clock<'_>,
        steps: &mut Steps,
    ) -> Result<Option<Response>, SimError> {
        let place = self.manifest.place(helper);
        let Some(node) = place.and_then(|place| self.nodes.get_mut(place)) else {
            return Ok(None);
        };
        let lost = self
            .losing
            .take_if(|lost| node.up && Some(lost.place) == place && (lost.question)(&question));
        node.up &= lost.as_ref().is_none_or(|lost| lost.answered);
        if !node.up {
            return Ok(None);
        }
        let step = match &question {
            Request::Prepare(_) | Request::Collect(_) | Request::Finish(_) => &mut steps.verify_ms,
            _ => &mut steps.add_ms,
        };
        let answer = timed(clock, step, || node.answer(round, question))?;
        if lost.is_some() {
            node.up = false;
            return Ok(None);
        }
        Ok(Some(answer))
    }

    /// A full node's signing key, by its place in the manifest.
    pub fn node_key(&self, place: usize) -> Option<&NodeKey> {
        self.nodes.get(place).map(|node| &node.secrets.node)
    }

    /// The signed task.
    pub fn signed(&self) -> &SignedText {
        self.manifest.signed()
    }

    /// From now on, keep all that full nodes answer the aggregation node, for tests that play a cheat.
    pub fn listen(&mut self) {
        self.heard.get_or_insert_default();
    }

    /// What was kept since [`Mesh::listen`], in order.
    pub fn heard(&self) -> &[Heard] {
        self.heard.as_deref().unwrap_or_default()
    }

    /// Ask a full node something as the aggregation node, outside of its turn, for tests that play a cheat.
    ///
    /// # Errors
    ///
    /// [`SimError::Setup`] if there is no such node or no open round.
    pub fn ask(&mut self, node: &NodeId, question: Request) -> Result<Response, SimError> {
        let round = self.coordinator.open_round().cloned();
        let nodes = self.nodes.iter_mut();
        let node = nodes.into_iter().find(|n| n.secrets.node.id() == *node);
        match (node, round) {
            (Some(node), Some(round)) => node.answer(&round, question),
            _ => Err(SimError::Setup("no such node, or no open round".into())),
        }
    }

    /// A full node's keys, for tests that play a cheat.
    pub fn secrets(&self, node: &NodeId) -> Option<&Secrets> {
        let nodes = self.nodes.iter();
        let found = nodes.map(|n| &n.secrets).find(|s| s.node.id() == *node);
        found.map(|secrets| &**secrets)
    }
}
