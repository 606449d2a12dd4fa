//! Everybody but the validators' engine: the clerk of the aggregation node, the validators' votes, the light nodes' claims.
//!
//! As on servers, nobody remembers more than what they have sent: what is missing is seen in the newest final state.

use std::{collections::BTreeMap, sync::Arc};

use defim_ledger::{
    AccountSlot, Admission, Body, Claim, Digest, Genesis, LightSlot, NodeId, NodeKey, NodeSlot,
    NodeStatus, Reject, Round, RoundNumber, RoundSlot, Stage, State, TaskId, Tx, Verdict, Vote,
    check, report_path,
};
use defim_validation::{
    Ledger, Running,
    evidence::Evidence,
    judge::{Known, judge},
};
use rand::RngCore as _;
use rand_chacha::ChaCha20Rng;

use super::{
    Lie, Post, Sent,
    pay::Pay,
    round::{Played, Proposed},
    setup,
};
use crate::Mesh;

/// The round that is lied about.
const LIE_AT: RoundNumber = 2;
/// How many complaints slash: a quorum of four.
const QUORUM: usize = 3;
/// How long validators may take to complain about a round that is void already, in milliseconds.
const LATE_MS: u64 = 8_000;

/// All of them.
pub struct Clerk {
    lie: Lie,
    random: ChaCha20Rng,
    genesis: Genesis,
    mesh: Mesh,
    /// What the admin sends at first.
    first: Vec<Body>,
    task: TaskId,
    lights: Vec<Arc<NodeKey>>,
    /// By number, as the engine has them.
    validators: Vec<NodeKey>,
    sent: Sent,
    pay: Pay,
    rounds: Vec<Played>,
    /// What each validator has found of a round.
    found: BTreeMap<(usize, RoundNumber), Verdict>,
    /// Since when the round with the lie is void.
    void_since: Option<u64>,
    over: bool,
    waits: &'static str,
}

impl Clerk {
    pub fn new(lie: Lie, mut random: ChaCha20Rng) -> Result<Self, String> {
        let mut mesh = setup::mesh(&setup::spec()?)?;
        mesh.seed(random.next_u64());
        let lights = setup::lights();
        let mut pay = Pay::default();
        for key in &lights {
            mesh.enrol(key.id());
            pay.grant(key.id(), 0);
        }
        let manifest = mesh.manifest();
        let members = manifest.members.iter().map(|member| member.node);
        for node in members.chain([manifest.aggregation]) {
            pay.grant(node, setup::GRANT);
        }
        let keys = setup::validator_seeds().into_iter();
        Ok(Self {
            lie,
            random,
            genesis: setup::genesis(),
            task: mesh.manifest().task(),
            first: setup::first(&mesh),
            mesh,
            lights,
            validators: keys.map(NodeKey::from_seed).collect(),
            sent: Sent::default(),
            pay,
            rounds: Vec::new(),
            found: BTreeMap::new(),
            void_since: None,
            over: false,
            waits: "the task",
        })
    }

    pub fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    pub fn is_done(&self) -> bool {
        self.over
    }

    pub fn waits(&self) -> String {
        let round = self.rounds.last().map_or(0, |played| played.number);
        format!("round {round}, for {}", self.waits)
    }

    /// Compare the mesh with the ledger, and send what is missing.
    pub fn look(&mut self, post: &mut Post<'_>) -> Result<(), String> {
        let late = post.now_ms.saturating_sub(self.mesh.now());
        self.mesh.wait(late);
        self.vote(post)?;
        if self.over {
            return Ok(());
        }
        // The admin's number says how many of the first transactions are in blocks.
        let admin = setup::admin();
        let done = usize::try_from(post.state.account(&admin.id()).nonce).unwrap_or(usize::MAX);
        let missing: Vec<_> = self.first.iter().skip(done).cloned().collect();
        if !missing.is_empty() {
            self.send(post, &admin, missing);
            return Ok(());
        }
        let task = post.state.task(&self.task).ok_or("there is no task")?;
        if !self.enrolled(post) {
            self.waits = "the light nodes";
            return Ok(());
        }
        let unsettled = self.rounds.last().is_some_and(|played| !played.settled);
        if unsettled {
            return self.carry_on(post, task.round);
        }
        if !self.claimed(post)? {
            self.waits = "the claims";
            return Ok(());
        }
        match self.rounds.len() as u64 {
            all if all >= setup::ROUNDS || self.void_since.is_some() => self.end(post),
            _ => {
                let played = Played::open(&mut self.mesh)?;
                self.rounds.push(played);
                Ok(())
            }
        }
    }

    /// Send transactions of one sender, if the same ones are not under way.
    fn send(&mut self, post: &mut Post<'_>, key: &NodeKey, bodies: Vec<Body>) {
        let first = post.state.account(&key.id()).nonce;
        let txs: Vec<_> = (first..)
            .zip(bodies)
            .map(|(nonce, body)| self.tx(key, nonce, body))
            .collect();
        let ids: Vec<u8> = txs.iter().flat_map(|tx| tx.id().0).collect();
        let due = self.sent.is_due(key.id(), Digest::of(&ids), post.now_ms);
        let now_ms = post.now_ms;
        if let Some(validator) = post.any().filter(|_| due) {
            for tx in txs {
                // One that is refused is missing in the state, and sent again.
                let _ = validator.submit(tx, now_ms);
            }
        }
    }

    fn tx(&self, key: &NodeKey, nonce: u64, body: Body) -> defim_ledger::SignedTx {
        let tx = Tx {
            from: key.id(),
            nonce,
            chain: self.genesis.chain(),
            body,
        };
        tx.sign(key)
    }

    /// Every light node enrols.
    fn enrolled(&mut self, post: &mut Post<'_>) -> bool {
        let slot = |key: &NodeKey| LightSlot(self.task, key.id());
        let missing: Vec<_> = self
            .lights
            .iter()
            .filter(|key| post.state.get(&slot(key)).is_none())
            .cloned()
            .collect();
        for key in &missing {
            let enrol = Body::EnrolLight {
                task: self.task,
                key: key.id(),
                by: Admission::Open,
            };
            self.send(post, key, vec![enrol]);
        }
        missing.is_empty()
    }

    /// The newest round, from its opening to the ledger's word on it. `on_ledger` is the ledger's newest.
    fn carry_on(&mut self, post: &mut Post<'_>, on_ledger: RoundNumber) -> Result<(), String> {
        let Some(mut played) = self.rounds.pop() else {
            return Ok(());
        };
        let outcome = self.carry_on_with(post, on_ledger, &mut played);
        self.rounds.push(played);
        outcome
    }

    fn carry_on_with(
        &mut self,
        post: &mut Post<'_>,
        on_ledger: RoundNumber,
        played: &mut Played,
    ) -> Result<(), String> {
        let lie = match played.number == LIE_AT {
            true => self.lie,
            false => Lie::Nobody,
        };
        let round = post.state.get(&RoundSlot(self.task, played.number));
        let Some(round) = round.filter(|_| on_ledger >= played.number) else {
            self.waits = "its opening";
            let statement = played.opening.signed().clone();
            self.as_aggregation(post, vec![Body::RoundOpened { statement }]);
            return Ok(());
        };
        // Light nodes train on what is final.
        if played.reports.is_empty() {
            played.contribute(&mut self.mesh, &self.lights, &mut self.random)?;
            if lie == Lie::Replay {
                let before = self.rounds.last().map(|last| last.sent.clone());
                let before = before.unwrap_or_default();
                played.replay(&mut self.mesh, &before, &self.lights, &mut self.random)?;
            }
        }
        let Some(end) = &played.end else {
            self.waits = "the mesh";
            return played.go_on(&mut self.mesh, lie, self.rounds.last());
        };
        match &round.stage {
            Stage::Open => {
                self.waits = "its batches";
                let missing = end.batches.iter();
                let missing = missing.filter(|(index, _)| !round.batches.contains_key(index));
                let bodies: Vec<_> = missing.map(|(_, body)| body.clone()).collect();
                let bodies = match bodies.is_empty() {
                    true => vec![
                        Body::Opened(end.opened.clone()),
                        Body::ModelUpdated(end.updated.clone()),
                    ],
                    false => bodies,
                };
                self.as_aggregation(post, bodies);
                Ok(())
            }
            Stage::Opened(_) => {
                self.waits = "its model";
                let body = Body::ModelUpdated(end.updated.clone());
                self.as_aggregation(post, vec![body]);
                Ok(())
            }
            Stage::Proposed(..) => {
                self.waits = "votes";
                Ok(())
            }
            Stage::Finished { .. } => {
                if end.fault.is_some() {
                    return Err(format!("a lie about round {} was accepted", played.number));
                }
                let counted: Vec<_> = self.lights.iter().map(|key| key.id()).collect();
                self.pay
                    .finished(self.mesh.manifest(), &round, counted.iter())?;
                played.settled = true;
                Ok(())
            }
            Stage::Voided { why, .. } => {
                if end.fault.is_none() {
                    return Err(format!("honest round {} is void: {why:?}", played.number));
                }
                self.voided(post, &round, end)?;
                let since = self.void_since.get_or_insert(post.now_ms);
                let enough = round.votes.len() >= QUORUM;
                self.waits = "complaints";
                if enough || post.now_ms > *since + LATE_MS {
                    let opening = played.opening.signed().clone();
                    let model = played.model.clone();
                    let revoked = self.mesh.revoke(&end.done, opening, model);
                    revoked.map_err(|e| e.to_string())?;
                    played.settled = true;
                }
                Ok(())
            }
        }
    }

    fn as_aggregation(&mut self, post: &mut Post<'_>, bodies: Vec<Body>) {
        let key = self.mesh.aggregation_key_shared();
        self.send(post, &key, bodies);
    }

    /// Who lied is named by all, and slashed by a quorum; the model is not taken.
    fn voided(&self, post: &Post<'_>, round: &Round, end: &Proposed) -> Result<(), String> {
        let Some((_, liar)) = end.fault else {
            return Ok(());
        };
        let names = |verdict: &Verdict| matches!(verdict, Verdict::Complain { accused: Some(node), .. } if *node == liar);
        if !round.votes.values().all(names) {
            return Err(format!("not everybody names {liar}: {:?}", round.votes));
        }
        let status = post.state.get(&NodeSlot(liar)).map(|entry| entry.status);
        let slashed = status == Some(NodeStatus::Slashed);
        if slashed != (round.votes.len() >= QUORUM) {
            let votes = round.votes.len();
            return Err(format!("with {votes} complaints {liar} is {status:?}"));
        }
        let model = post.state.task(&self.task).map(|task| task.model);
        if model != Some(round.base_model) {
            return Err("the model of a void round is the task's".into());
        }
        Ok(())
    }

    /// Every validator repeats what is proposed by its own state, and votes.
    fn vote(&mut self, post: &mut Post<'_>) -> Result<(), String> {
        for (number, running) in post.validators {
            let state = running.settled().state;
            let Some(task) = state.task(&self.task) else {
                continue;
            };
            let (me, round) = (self.validator(*number)?, task.round);
            let Some(entry) = state.get(&RoundSlot(self.task, round)) else {
                continue;
            };
            if entry.votes.contains_key(&me) {
                continue;
            }
            if let Stage::Proposed(..) = entry.stage
                && !self.found.contains_key(&(*number, round))
            {
                let verdict = self.judged(&state, round, &entry)?;
                self.found.insert((*number, round), verdict);
            }
            let model = match &entry.stage {
                Stage::Proposed(_, updated) => Some(updated.model),
                // A complaint decides who pays, also when others have made the round void already.
                Stage::Voided { proposed, .. } => proposed.as_ref().map(|it| it.1.model),
                _ => None,
            };
            if let (Some(model), Some(verdict)) = (model, self.found.get(&(*number, round))) {
                let vote = Vote {
                    task: self.task,
                    round,
                    model,
                    verdict: *verdict,
                };
                self.cast(post.now_ms, *number, running, &state, vote)?;
            }
        }
        Ok(())
    }

    fn validator(&self, number: usize) -> Result<NodeId, String> {
        let key = self.validators.get(number).ok_or("no such validator")?;
        Ok(key.id())
    }

    fn cast(
        &mut self,
        now_ms: u64,
        number: usize,
        running: &Running<Ledger>,
        state: &State,
        vote: Vote,
    ) -> Result<(), String> {
        let key = self.validators.get(number).ok_or("no such validator")?;
        let nonce = state.account(&key.id()).nonce;
        let tx = self.tx(key, nonce, Body::Vote(vote));
        let from = key.id();
        if self.sent.is_due(from, tx.id(), now_ms) {
            // As above.
            let _ = running.submit(tx, now_ms);
        }
        Ok(())
    }

    /// What a validator finds of a round that is proposed.
    fn judged(&self, state: &State, number: RoundNumber, entry: &Round) -> Result<Verdict, String> {
        let played = self.rounds.iter().find(|played| played.number == number);
        let end = played.and_then(|played| played.end.as_ref());
        let (Some(end), Some(task)) = (end, state.task(&self.task)) else {
            return Err(format!("round {number} is proposed, but not played"));
        };
        if self.lie == Lie::Unseen {
            return Ok(Verdict::Accept {
                loss_micro: 0,
                accuracy_ppm: 0,
            });
        }
        let enrolled = state.lights(&self.task).into_keys().collect();
        let known = Known {
            task: &task,
            round: entry,
            enrolled: &enrolled,
            holdout: None,
        };
        let found = judge(known, &end.served);
        let found = found.map_err(|e| format!("round {number} cannot be judged: {e}"))?;
        match (&found.verdict, end.fault) {
            (Verdict::Accept { .. }, None) => {}
            (Verdict::Complain { fault, accused, .. }, Some((expected, liar)))
                if (*fault, *accused) == (expected, Some(liar)) => {}
            (verdict, expected) => {
                return Err(format!(
                    "round {number} is judged {verdict:?}, with {expected:?} to be found"
                ));
            }
        }
        if let Some(evidence) = found.evidence {
            shows(&evidence)?;
        }
        Ok(found.verdict)
    }

    /// Light nodes take their rewards, each once; true when they have.
    fn claimed(&mut self, post: &mut Post<'_>) -> Result<bool, String> {
        let mut all = true;
        for (place, key) in self.lights.clone().iter().enumerate() {
            let entry = post.state.get(&LightSlot(self.task, key.id()));
            let claimed = entry.map_or_else(Vec::new, |light| light.claimed);
            for at in 0..self.rounds.len() {
                let Some((number, body)) = self.claim(post.state, at, place) else {
                    continue;
                };
                if !claimed.contains(&number) {
                    all = false;
                    self.send(post, key, vec![body]);
                    break;
                }
                if self.lie == Lie::Replay && place == 0 {
                    let nonce = post.state.account(&key.id()).nonce;
                    let again = self.tx(key, nonce, body);
                    let answer = check(post.state, &again, post.now_ms);
                    if answer != Err(Reject::AlreadyClaimed) {
                        return Err(format!("a second claim is answered {answer:?}"));
                    }
                }
            }
        }
        if all {
            // Everything is paid out that was to be.
            let slashed = self.void_since.is_some();
            if !slashed {
                self.pay.check(post.state)?;
            }
        }
        Ok(all)
    }

    /// A light node's claim on a finished round.
    fn claim(&self, state: &State, at: usize, place: usize) -> Option<(RoundNumber, Body)> {
        let played = self.rounds.get(at)?;
        let round = state.get(&RoundSlot(self.task, played.number))?;
        matches!(round.stage, Stage::Finished { .. }).then_some(())?;
        let report = played.reports.get(place)?;
        let batches = &played.end.as_ref()?.done.ids;
        let (committee, ids) = batches.iter().find(|(_, ids)| ids.contains(report))?;
        let claim = Claim {
            task: self.task,
            round: played.number,
            report: *report,
            committee: *committee,
            path: report_path(ids, report)?,
        };
        Some((played.number, Body::Claim(claim)))
    }

    /// After the last round other transactions go on.
    fn end(&mut self, post: &mut Post<'_>) -> Result<(), String> {
        self.waits = "a transfer";
        let to = NodeId([0xAA; 32]);
        if post.state.get(&AccountSlot(to)).is_some() {
            if self.lie.is_harmless() && self.void_since.is_some() {
                return Err("a round is void in which nobody lied".into());
            }
            self.over = true;
            return Ok(());
        }
        let transfer = Body::Transfer { to, amount: 1 };
        self.send(post, &setup::admin(), vec![transfer]);
        Ok(())
    }
}

/// Whoever has the evidence checks it alone.
fn shows(evidence: &Evidence) -> Result<(), String> {
    let read = Evidence::from_bytes(&evidence.to_bytes()).map_err(|e| e.to_string())?;
    match read.check() {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("the evidence shows nothing: {other:?}")),
    }
}
